//! The KV and Lease services, each call once.

use super::*;

#[tokio::test]
async fn keys_are_put_read_changed_and_deleted() {
    let machine = Machine::primary().await;
    let mut kv = machine.kv().await;
    assert_eq!(put(&mut kv, "a", "1").await, 2);
    assert_eq!(put(&mut kv, "b", "2").await, 3);
    let all = pb::RangeRequest { key: bytes("a"), range_end: bytes("c"), limit: 1, ..Default::default() };
    let answer = kv.range(all).await.unwrap().into_inner();
    let header = answer.header.unwrap();
    assert_eq!((header.cluster_id, header.member_id, header.raft_term), (7, 11, 1));
    assert_eq!((answer.count, answer.more, answer.kvs.len()), (2, true, 1));
    let delete = pb::DeleteRangeRequest { key: bytes("a"), prev_kv: true, ..Default::default() };
    let answer = kv.delete_range(delete).await.unwrap().into_inner();
    assert_eq!((answer.deleted, answer.prev_kvs[0].value.clone()), (1, bytes("1")));
    let compact = pb::CompactionRequest { revision: 3, physical: true };
    assert_eq!(kv.compact(compact).await.unwrap().into_inner().header.unwrap().revision, 4);
    let old = pb::RangeRequest { key: bytes("a"), revision: 2, ..Default::default() };
    let status = kv.range(old).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    assert_eq!(status.message(), "etcdserver: mvcc: required revision has been compacted");
}

#[tokio::test]
async fn leases_are_granted_renewed_and_expire_with_their_keys() {
    let machine = Machine::primary().await;
    let mut leases = LeaseClient::new(machine.channel().await);
    let mut kv = machine.kv().await;
    let granted = leases.lease_grant(pb::LeaseGrantRequest { ttl: 1, id: 0 }).await.unwrap().into_inner();
    assert_eq!(granted.ttl, 2);
    let id = granted.id;
    kv.put(pb::PutRequest { lease: id, ..put_request("l", "v") }).await.unwrap();
    let requests = tokio_stream::iter([id, 999].map(|id| pb::LeaseKeepAliveRequest { id }));
    let mut renewals = leases.lease_keep_alive(requests).await.unwrap().into_inner();
    assert_eq!(renewals.message().await.unwrap().map(|answer| (answer.id, answer.ttl)), Some((id, 2)));
    assert_eq!(renewals.message().await.unwrap().map(|answer| (answer.id, answer.ttl)), Some((999, 0)));
    let asked = pb::LeaseTimeToLiveRequest { id, keys: true };
    let answer = leases.lease_time_to_live(asked).await.unwrap().into_inner();
    assert_eq!((answer.granted_ttl, answer.keys), (2, vec![bytes("l")]));
    assert!((0..=2).contains(&answer.ttl));
    let unknown = pb::LeaseTimeToLiveRequest { id: 31337, keys: false };
    assert_eq!(leases.lease_time_to_live(unknown).await.unwrap().into_inner().ttl, -1);
    let mut watching = machine.watch().await;
    watching.create(watch_on("l", "")).await;
    let expiry = watching.next().await;
    assert_eq!(expiry.events[0].r#type, 1);
    let status = leases.lease_revoke(pb::LeaseRevokeRequest { id }).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "etcdserver: requested lease not found"));
}

#[tokio::test]
async fn history_is_compacted_by_itself() {
    let rule = AutoCompaction::Period(Duration::from_secs(1));
    let limits = ClientLimits { auto_compaction: Some(rule), ..ClientLimits::default() };
    let options = ClientPortOptions { limits, ..ClientPortOptions::default() };
    let machine = Machine::start(ApplianceId::A, options).await;
    machine.promote(1);
    let mut kv = machine.kv().await;
    let put = pb::PutRequest { key: bytes("k"), ..Default::default() };
    let compacted = || machine.handle.store().read().compacted_revision();
    let start = std::time::Instant::now();
    while compacted() < 3 {
        kv.put(put.clone()).await.unwrap();
        assert!(start.elapsed() < PATIENCE, "compacted at {}", compacted());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let now = machine.handle.store().read().revision();
    assert!(compacted() < now, "what is younger than a second is kept");
}
