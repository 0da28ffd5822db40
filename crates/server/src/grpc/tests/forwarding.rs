//! Where a request is carried out while roles change, and what its caller is told.

use duet_protocol::Lsn;

use super::*;
use crate::grpc::forward::APPLIED_HERE_LIMIT;

#[tokio::test]
async fn a_secondary_forwards_to_the_primary() {
    let primary = Machine::primary().await;
    let secondary = Machine::start(ApplianceId::B, ClientPortOptions::default()).await;
    secondary.follow(Some(&primary));
    let mut kv = secondary.kv().await;
    assert_eq!(put(&mut kv, "k", "v").await, 2);
    let range = pb::RangeRequest { key: bytes("k"), ..Default::default() };
    let answer = kv.range(range.clone()).await.unwrap().into_inner();
    assert_eq!((answer.count, answer.header.unwrap().member_id), (1, 11));
    let local = kv.range(pb::RangeRequest { serializable: true, ..range }).await.unwrap().into_inner();
    assert_eq!((local.count, local.header.unwrap().member_id), (0, 22));
    let status = kv.put(pb::PutRequest { lease: 5, ..put_request("k", "v") }).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "etcdserver: requested lease not found"));
    let mut leases = LeaseClient::new(secondary.channel().await);
    leases.lease_grant(pb::LeaseGrantRequest { ttl: 60, id: 9 }).await.unwrap();
    let requests = tokio_stream::iter([pb::LeaseKeepAliveRequest { id: 9 }]);
    let mut renewals = leases.lease_keep_alive(requests).await.unwrap().into_inner();
    assert_eq!(renewals.message().await.unwrap().map(|answer| answer.ttl), Some(60));
    // Its own store knows nothing.
    let listed = leases.lease_leases(pb::LeaseLeasesRequest {}).await.unwrap().into_inner();
    assert_eq!(listed.leases, [pb::LeaseStatus { id: 9 }]);
    let exists = pb::Compare {
        key: bytes("k"),
        target_union: Some(pb::compare::TargetUnion::Version(1)),
        ..Default::default()
    };
    let txn = pb::TxnRequest { compare: vec![exists], ..Default::default() };
    assert!(kv.txn(txn).await.unwrap().into_inner().succeeded);
}

#[tokio::test]
async fn requests_wait_for_a_primary_and_go_where_it_is() {
    let old = Machine::start(ApplianceId::A, ClientPortOptions::default()).await;
    let new = Machine::start(ApplianceId::B, ClientPortOptions::default()).await;
    old.follow(None);
    new.follow(Some(&old));
    // Through the one that believes the other to be primary, which is not: neither takes it yet.
    let mut kv = new.kv().await;
    let waiting = tokio::spawn(async move { put(&mut kv, "k", "v").await });
    let mut kv = old.kv().await;
    let reading = tokio::spawn(async move {
        let range = pb::RangeRequest { key: bytes("k"), ..Default::default() };
        kv.range(range).await.map(|answer| answer.into_inner().header.map(|header| header.member_id))
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished() && !reading.is_finished());
    new.promote(2);
    old.follow(Some(&new));
    assert_eq!(waiting.await.unwrap(), 2);
    assert_eq!(reading.await.unwrap().unwrap(), Some(22));
}

#[tokio::test]
async fn without_a_primary_a_request_ends_at_its_deadline_or_sooner_if_it_insists() {
    let machine = Machine::start(ApplianceId::A, ClientPortOptions::default()).await;
    let mut kv = machine.kv().await;
    let mut request = tonic::Request::new(put_request("k", "v"));
    request.metadata_mut().insert("hasleader", tonic::metadata::MetadataValue::from_static("true"));
    let status = kv.put(request).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "etcdserver: no leader"));
    let serializable = pb::RangeRequest { key: bytes("k"), serializable: true, ..Default::default() };
    assert!(kv.range(serializable).await.is_ok());
    let began = tokio::time::Instant::now();
    let status = kv.put(put_request("k", "v")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "etcdserver: no leader"));
    assert!(began.elapsed() >= crate::grpc::REQUEST_TIMEOUT);
}

#[tokio::test]
async fn a_forwarded_write_whose_connection_breaks_is_unknown_and_not_repeated() {
    let secondary = Machine::start(ApplianceId::B, ClientPortOptions::default()).await;
    // A primary that takes the request and dies.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let connections = tokio::spawn(async move {
        let mut connections = 0;
        while let Ok(Ok((mut socket, _))) =
            tokio::time::timeout(Duration::from_secs(1), listener.accept()).await
        {
            connections += 1;
            // HTTP/2's preface and the empty settings of a server, then silence, then the end.
            tokio::io::AsyncWriteExt::write_all(&mut socket, &[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        connections
    });
    secondary.handle.inner.view.send_modify(|view| {
        view.primary = Some(ApplianceId::A);
        view.primary_client_url = Some(url);
    });
    let status = secondary.kv().await.put(put_request("k", "v")).await.unwrap_err();
    let text = "etcdserver: request timed out, possibly due to previous leader failure";
    assert_eq!((status.code(), status.message()), (Code::Unavailable, text));
    assert_eq!(connections.await.unwrap(), 1);
}

#[tokio::test]
async fn a_stopping_appliance_ends_streams_and_answers_what_is_under_way() {
    let mut machine = Machine::primary().await;
    let mut watching = machine.watch().await;
    watching.create(watch_on("k", "")).await;
    let mut kv = machine.kv().await;
    put(&mut kv, "k", "v").await;
    watching.next().await;
    machine.stop.take().unwrap().send(()).unwrap();
    let status = watching.end().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "etcdserver: server stopped"));
    tokio::time::timeout(PATIENCE, &mut machine.port).await.unwrap().unwrap();
}

/// The machine rooms here have no log: the test says how far it is applied.
#[tokio::test]
async fn a_write_through_the_secondary_waits_until_it_is_applied_there_but_not_for_ever() {
    let primary = Machine::primary().await;
    let secondary = Machine::start(ApplianceId::B, ClientPortOptions::default()).await;
    secondary.follow(Some(&primary));
    let mut kv = secondary.kv().await;
    primary.handle.inner.progress.reached(Lsn(7));
    for applied in [0, 6] {
        secondary.handle.inner.progress.reached(Lsn(applied));
        let began = tokio::time::Instant::now();
        put(&mut kv, "k", "v").await;
        assert!(began.elapsed() >= APPLIED_HERE_LIMIT, "at {applied}");
    }
    let mut second = secondary.kv().await;
    let waiting = tokio::spawn(async move { put(&mut second, "k", "v").await });
    let progress = secondary.handle.inner.progress.clone();
    while progress.waiting() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    progress.reached(Lsn(7));
    waiting.await.unwrap();
    assert_eq!(progress.waiting(), 0);
}
