//! Requests above a limit, calls that nobody has, and the quota.

use super::*;

#[tokio::test]
async fn requests_above_the_limits_are_refused_in_etcds_words() {
    let machine = Machine::primary().await;
    let mut kv = machine.kv().await;
    let large = |size: usize| {
        let mut kv = kv.clone();
        async move {
            let value = Bytes::from(vec![0; size]);
            let request = pb::PutRequest { key: bytes("s"), value, ..Default::default() };
            kv.put(request).await.map_err(|status| (status.code(), status.message().to_owned()))
        }
    };
    let limit = 1_572_864;
    assert!(large(limit - 512).await.is_ok());
    let too_large = (Code::InvalidArgument, "etcdserver: request is too large".to_owned());
    assert_eq!(large(limit).await.unwrap_err(), too_large);
    assert_eq!(large(2_097_052).await.unwrap_err(), too_large);
    let text = "grpc: received message larger than max (2097262 vs. 2097152)".to_owned();
    assert_eq!(large(2_097_254).await.unwrap_err(), (Code::ResourceExhausted, text));
    assert!(put(&mut kv, "after", "that").await > 0);
}

#[tokio::test]
async fn limits_that_were_chosen_hold_on_both_ways_in() {
    let limits = ClientLimits { max_request_bytes: 4_096, max_txn_ops: 2, ..ClientLimits::default() };
    let options = ClientPortOptions { limits, ..ClientPortOptions::default() };
    let machine = Machine::start(ApplianceId::A, options).await;
    machine.promote(1);
    let mut kv = machine.kv().await;
    let put = |bytes: usize| pb::PutRequest {
        key: Bytes::from_static(b"k"),
        value: Bytes::from(vec![7; bytes]),
        ..Default::default()
    };
    kv.put(put(4_000)).await.unwrap();
    let told = kv.put(put(4_097)).await.unwrap_err();
    assert_eq!(told.message(), "etcdserver: request is too large");
    let told = kv.put(put(600_000)).await.unwrap_err();
    assert_eq!(told.code(), Code::ResourceExhausted);
    assert!(told.message().ends_with("(600007 vs. 528384)"), "{}", told.message());
    let operation = |key: &str| pb::RequestOp {
        request: Some(pb::request_op::Request::RequestPut(pb::PutRequest {
            key: bytes(key),
            ..Default::default()
        })),
    };
    let txn = |keys: &[&str]| pb::TxnRequest {
        success: keys.iter().copied().map(operation).collect(),
        ..Default::default()
    };
    kv.txn(txn(&["a", "b"])).await.unwrap();
    let told = kv.txn(txn(&["a", "b", "c"])).await.unwrap_err();
    assert_eq!(told.message(), "etcdserver: too many operations in txn request");
    // The long way.
    let mut leases = pb::lease_client::LeaseClient::new(machine.channel().await);
    leases.lease_grant(pb::LeaseGrantRequest { ttl: 60, id: 1 }).await.unwrap();
    let compare = pb::Compare { key: Bytes::from(vec![7; 600_000]), ..Default::default() };
    let told = kv.txn(pb::TxnRequest { compare: vec![compare], ..Default::default() }).await.unwrap_err();
    assert_eq!(told.code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn the_quota_raises_the_alarm_before_it_is_exceeded() {
    let machine = Machine::primary().await;
    let mut kv = machine.kv().await;
    let mut maintenance = MaintenanceClient::new(machine.channel().await);
    let large = |number: usize| pb::PutRequest {
        key: bytes(&format!("k{number}")),
        value: Bytes::from(vec![7; 1 << 20]),
        ..Default::default()
    };
    let mut taken = 0;
    let refused = loop {
        match kv.put(large(taken)).await {
            Ok(_) => taken += 1,
            Err(status) => break status,
        }
    };
    assert_eq!(taken, 63, "64 MiB with what belongs to each record");
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded")
    );
    let list = pb::AlarmRequest::default();
    let alarms = maintenance.alarm(list).await.unwrap().into_inner().alarms;
    assert_eq!(alarms, [pb::AlarmMember { member_id: IDS.a, alarm: pb::AlarmType::Nospace.into() }]);
    let small = pb::PutRequest { key: bytes("small"), ..Default::default() };
    kv.put(small.clone()).await.expect_err("the alarm holds for small ones too");
    let status = maintenance.status(pb::StatusRequest {}).await;
    status.expect_err("nobody reports here");

    let mut delete = pb::DeleteRangeRequest { key: bytes("k"), range_end: bytes("l"), ..Default::default() };
    kv.delete_range(delete.clone()).await.unwrap();
    let disarm =
        pb::AlarmRequest { action: AlarmAction::Deactivate.into(), member_id: IDS.a, alarm: alarms[0].alarm };
    assert_eq!(maintenance.alarm(disarm).await.unwrap().into_inner().alarms, alarms);
    assert!(maintenance.alarm(disarm).await.unwrap().into_inner().alarms.is_empty());
    kv.put(small).await.unwrap();
    kv.put(large(0)).await.expect_err("nothing was compacted: it is raised again");
    delete.key = bytes("small");
    kv.delete_range(delete).await.unwrap();
}

#[tokio::test]
async fn only_a_grpc_call_finds_a_grpc_service() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let machine = Machine::primary().await;
    let address = machine.url.strip_prefix("http://").unwrap();
    for (path, content) in [
        ("/etcdserverpb.KV/Range", "application/grpc"),
        ("/etcdserverpb.KV/Range", "application/json"),
        ("/etcdserverpb.Maintenance/Nope", "text/plain"),
        ("/nope.Svc/Nope", "application/grpc"),
    ] {
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {content}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 404 "), "{path} {content}: {answer}");
    }
}
