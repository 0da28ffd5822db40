//! R1: every data write takes the next LSN on both appliances (1, 2, 3, ...), and nothing else takes one: no read, promotion,
//! handover, keepalive or restart.

use bytes::Bytes;
use duet_etcd_api::etcdserverpb as pb;
use duet_etcd_api::etcdserverpb::cluster_client::ClusterClient;
use duet_etcd_api::etcdserverpb::watch_client::WatchClient;

use crate::client::{Load, within};
use crate::harness::{A, B, Ledger, PATIENCE, Pair, Witness, with_both_witnesses};

with_both_witnesses!(
    each_write_takes_one_and_nothing_else_does,
    promotions_handovers_and_restarts_take_none,
    many_writers_leave_no_gap
);

/// The LSN of both, which have the same history.
async fn lsn_of_both(pair: &Pair) -> u64 {
    pair.until_in_sync().await.0.lsn
}

async fn each_write_takes_one_and_nothing_else_does(witness: Witness) {
    let pair = Pair::start(witness).await;
    assert_eq!(lsn_of_both(&pair).await, 0, "making a pair writes no data");
    let mut expected = 0;
    for (number, through) in [A, B, A, B].into_iter().enumerate() {
        pair.client(through).put("key", &number.to_string()).await.unwrap();
        expected += 1;
        assert_eq!(lsn_of_both(&pair).await, expected, "a put through {through}");
    }
    for through in [A, B] {
        let put = |key: &'static [u8]| pb::RequestOp {
            request: Some(pb::request_op::Request::RequestPut(pb::PutRequest {
                key: Bytes::from_static(key),
                ..Default::default()
            })),
        };
        let transaction =
            pb::TxnRequest { success: vec![put(b"one"), put(b"two"), put(b"three")], ..Default::default() };
        within(PATIENCE, pair.client(through).kv().txn(transaction)).await.unwrap();
        expected += 1;
        assert_eq!(lsn_of_both(&pair).await, expected, "a transaction of three puts through {through}");
        assert_eq!(pair.client(through).delete("two").await.unwrap(), 1);
        expected += 1;
        assert_eq!(lsn_of_both(&pair).await, expected, "a delete through {through}");
    }
    let grant = pb::LeaseGrantRequest { ttl: 600, id: 0 };
    let lease = within(PATIENCE, pair.client(A).lease().lease_grant(grant)).await.unwrap().id;
    expected += 1;
    assert_eq!(lsn_of_both(&pair).await, expected, "the grant of a lease");

    for through in [A, B] {
        reads(&pair, through, lease).await;
        assert_eq!(lsn_of_both(&pair).await, expected, "reads, watches and keepalives through {through}");
    }
}

/// Everything a client can ask for that changes no data.
async fn reads(pair: &Pair, through: duet_protocol::ApplianceId, lease: i64) {
    let client = pair.client(through);
    for _ in 0..5 {
        assert_eq!(client.get("key").await.unwrap().as_deref(), Some("3"));
        assert_eq!(client.get_here("key").await.unwrap().as_deref(), Some("3"));
    }
    let get = pb::RequestOp {
        request: Some(pb::request_op::Request::RequestRange(pb::RangeRequest {
            key: Bytes::from_static(b"key"),
            ..Default::default()
        })),
    };
    let transaction = pb::TxnRequest { success: vec![get], ..Default::default() };
    within(PATIENCE, client.kv().txn(transaction)).await.unwrap();
    let status = within(PATIENCE, client.maintenance().status(pb::StatusRequest::default())).await.unwrap();
    assert!(status.leader != 0);
    let mut cluster = ClusterClient::new(client.channel());
    let members =
        within(PATIENCE, cluster.member_list(pb::MemberListRequest { linearizable: true })).await.unwrap();
    assert_eq!(members.members.len(), 2);

    let create = pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(pb::WatchCreateRequest {
            key: Bytes::from_static(b"key"),
            start_revision: 1,
            ..Default::default()
        })),
    };
    let requests = tokio_stream::once(create);
    let mut watch = WatchClient::new(client.channel()).watch(requests).await.unwrap().into_inner();
    let first = tokio::time::timeout(PATIENCE, watch.message()).await.unwrap().unwrap().unwrap();
    assert!(first.created);

    let alive = tokio_stream::once(pb::LeaseKeepAliveRequest { id: lease });
    let mut answers = client.lease().lease_keep_alive(alive).await.unwrap().into_inner();
    let answer = tokio::time::timeout(PATIENCE, answers.message()).await.unwrap().unwrap().unwrap();
    assert_eq!((answer.id, answer.ttl), (lease, 600));
}

async fn promotions_handovers_and_restarts_take_none(witness: Witness) {
    let mut pair = Pair::start(witness).await;
    let mut ledger = Ledger::default();
    pair.write(A, &mut ledger, 7).await;
    let digest = pair.until_in_sync().await.0.digest;
    let same = async |pair: &Pair, what: &str| {
        let (primary, secondary) = pair.until_in_sync().await;
        assert_eq!((primary.lsn, secondary.lsn), (7, 7), "after {what}");
        assert_eq!((&primary.digest, &secondary.digest), (&digest, &digest), "after {what}");
    };

    let first = pair.record().await.conf.epoch();
    pair.order(A, "switchover").await.unwrap();
    pair.until_primary(B).await;
    same(&pair, "a switchover").await;

    pair.crash(B).await;
    pair.until_primary(A).await;
    assert_eq!(pair.status(A).await.lsn, 7, "a promotion");
    pair.start_appliance(B).await;
    same(&pair, "a crash, a promotion and a rejoin").await;

    pair.soft_stop(A).await;
    pair.until_primary(B).await;
    assert_eq!(pair.status(B).await.lsn, 7, "a handover");
    pair.soft_stop(B).await;
    pair.start_both().await;
    same(&pair, "both were stopped and started").await;

    let primary = pair.until_any_primary().await;
    pair.write(primary, &mut ledger, 1).await;
    let (primary, secondary) = pair.until_in_sync().await;
    assert_eq!((primary.lsn, secondary.lsn), (8, 8), "the next write takes the next LSN");
    assert!(primary.conf.unwrap().epoch > first.0, "there were promotions");
    pair.converges_with(&ledger).await;
}

async fn many_writers_leave_no_gap(witness: Witness) {
    let pair = Pair::start(witness).await;
    let load = Load::start(&pair, "dense", 64);
    load.goes_on(&pair, 2_000).await;
    let outcome = load.stop().await;
    let (primary, secondary) = pair.until_in_sync().await;
    assert_eq!(primary.lsn, outcome.acknowledged(), "one LSN for each write");
    assert_eq!((secondary.lsn, secondary.digest), (primary.lsn, primary.digest));
    // One put is one revision in etcd's sense; it begins at 1.
    assert_eq!(primary.revision, i64::try_from(primary.lsn).unwrap() + 1);
    outcome.is_in(&pair.client(A).everything().await.unwrap());
}
