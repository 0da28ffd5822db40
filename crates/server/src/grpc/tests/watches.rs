//! The Watch service.

use super::*;

#[tokio::test]
async fn a_watch_is_created_told_and_cancelled_as_in_etcd() {
    let machine = Machine::primary().await;
    let mut kv = machine.kv().await;
    let mut watching = machine.watch().await;
    let created = watching.create(watch_on("w", "")).await;
    assert_eq!((created.watch_id, created.created, created.canceled), (0, true, false));
    assert_eq!(watching.create(watch_on("w", "")).await.watch_id, 1);
    let explicit = pb::WatchCreateRequest { watch_id: 119, ..watch_on("w", "x") };
    assert_eq!(watching.create(explicit.clone()).await.watch_id, 119);
    let refused = watching.create(explicit).await;
    assert_eq!((refused.watch_id, refused.created, refused.canceled), (-1, true, true));
    assert_eq!(refused.cancel_reason, "mvcc: duplicate watch ID provided on the WatchStream");
    let refused = watching.create(watch_on("w", "a")).await;
    assert_eq!(refused.cancel_reason, "mvcc: watcher range is empty");
    let refused = watching.create(pb::WatchCreateRequest { start_revision: -1, ..watch_on("w", "") }).await;
    assert_eq!(refused.cancel_reason, "etcdserver: mvcc: required revision has been compacted");
    put(&mut kv, "w", "1").await;
    for id in [0, 1, 119] {
        let response = watching.next().await;
        assert_eq!((response.watch_id, told(&response)), (id, vec![event("w", 2)]));
        assert_eq!(response.header.unwrap().revision, 2);
    }
    for id in [119, 119, 1] {
        watching.ask(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: id })).await;
    }
    for id in [119, 1] {
        let response = watching.next().await;
        assert_eq!((response.watch_id, response.canceled, response.created), (id, true, false));
    }
    put(&mut kv, "wx", "nobody").await;
    put(&mut kv, "w", "2").await;
    assert_eq!(told(&watching.next().await), [event("w", 4)]);
    assert_eq!(watching.soon().await, None);
}

#[tokio::test]
async fn history_comes_first_and_once() {
    let machine = Machine::primary().await;
    let mut kv = machine.kv().await;
    for value in ["1", "2", "3"] {
        put(&mut kv, "h", value).await;
    }
    let delete = pb::DeleteRangeRequest { key: bytes("h"), ..Default::default() };
    kv.delete_range(delete).await.unwrap();
    let mut watching = machine.watch().await;
    watching.create(pb::WatchCreateRequest { start_revision: 3, prev_kv: true, ..watch_on("", "\0") }).await;
    let history = watching.next().await;
    assert_eq!(told(&history), [event("h", 3), event("h", 4), event("h", 5)]);
    assert_eq!(history.header.as_ref().map(|header| header.revision), Some(5));
    let before: Vec<_> =
        history.events.iter().map(|event| event.prev_kv.as_ref().map(|kv| kv.value.clone())).collect();
    assert_eq!(before, [Some(bytes("1")), Some(bytes("2")), Some(bytes("3"))]);
    put(&mut kv, "h", "again").await;
    assert_eq!(told(&watching.next().await), [event("h", 6)]);
    kv.compact(pb::CompactionRequest { revision: 5, physical: false }).await.unwrap();
    let created = watching.create(pb::WatchCreateRequest { start_revision: 2, ..watch_on("h", "") }).await;
    assert!(created.created && !created.canceled);
    let cancelled = watching.next().await;
    assert_eq!((cancelled.canceled, cancelled.compact_revision, cancelled.watch_id), (true, 5, 1));
    assert_eq!((cancelled.cancel_reason.as_str(), cancelled.header.unwrap().revision), ("", 0));
}

#[tokio::test]
async fn filters_and_a_start_in_the_future_hold_events_back() {
    let machine = Machine::primary().await;
    let mut kv = machine.kv().await;
    let mut watching = machine.watch().await;
    watching.create(pb::WatchCreateRequest { filters: vec![0], ..watch_on("f", "") }).await;
    watching.create(pb::WatchCreateRequest { start_revision: 4, ..watch_on("f", "") }).await;
    put(&mut kv, "f", "1").await;
    put(&mut kv, "f", "2").await;
    put(&mut kv, "f", "3").await;
    let delete = pb::DeleteRangeRequest { key: bytes("f"), ..Default::default() };
    kv.delete_range(delete).await.unwrap();
    let response = watching.next().await;
    assert_eq!((response.watch_id, told(&response)), (1, vec![event("f", 4)]));
    let response = watching.next().await;
    assert_eq!((response.watch_id, told(&response)), (0, vec![event("f", 5)]));
    let response = watching.next().await;
    assert_eq!((response.watch_id, told(&response)), (1, vec![event("f", 5)]));
}

#[tokio::test]
async fn the_events_of_a_transaction_come_together_in_its_order() {
    let machine = Machine::primary().await;
    let mut kv = machine.kv().await;
    let mut watching = machine.watch().await;
    watching.create(watch_on("t", "u")).await;
    let operation = |key: &str| pb::RequestOp {
        request: Some(pb::request_op::Request::RequestPut(put_request(key, "v"))),
    };
    let txn = pb::TxnRequest { success: vec![operation("t2"), operation("t1")], ..Default::default() };
    kv.txn(txn).await.unwrap();
    assert_eq!(told(&watching.next().await), [event("t2", 2), event("t1", 2)]);
}

#[tokio::test]
async fn progress_is_told_on_demand_and_after_quiet_time() {
    let options =
        ClientPortOptions { watch_progress_interval: Duration::from_millis(300), ..Default::default() };
    let machine = Machine::start(ApplianceId::A, options).await;
    machine.promote(1);
    let mut kv = machine.kv().await;
    let mut watching = machine.watch().await;
    watching.create(watch_on("p", "")).await;
    put(&mut kv, "other", "1").await;
    watching.ask(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})).await;
    let progress = watching.next().await;
    assert_eq!((progress.watch_id, progress.events.len()), (-1, 0));
    assert_eq!(progress.header.unwrap().revision, 2);
    assert_eq!(watching.soon().await, None);
    watching.create(pb::WatchCreateRequest { progress_notify: true, ..watch_on("p", "") }).await;
    let progress = watching.next().await;
    assert_eq!((progress.watch_id, progress.events.len(), progress.created), (1, 0, false));
}

#[tokio::test]
async fn a_slow_watcher_gets_everything_in_order_and_stalls_nobody() {
    const WRITES: i64 = 20_000;
    /// Fewer than may wait at once.
    const BATCH: i64 = 2_000;
    let machine = Machine::primary().await;
    let mut watching = machine.watch().await;
    watching.create(watch_on("s", "")).await;
    // More than the ring holds, while the watcher does not read.
    let value = Bytes::from(vec![7; 512]);
    for _ in 0..WRITES / BATCH {
        let writes = (0..BATCH).map(|_| {
            let put = duet_mvcc::PutRequest { key: bytes("s"), value: value.clone(), ..Default::default() };
            machine.handle.write(Command::Put(put))
        });
        for write in futures_util::future::join_all(writes).await {
            write.unwrap();
        }
    }
    let mut expected = 2;
    while expected < WRITES + 2 {
        for (_, revision) in told(&watching.next().await) {
            assert_eq!(revision, expected);
            expected += 1;
        }
    }
    assert_eq!(watching.soon().await, None);
}

#[tokio::test]
async fn a_store_that_was_replaced_loses_no_events() {
    let machine = Machine::primary().await;
    let mut watching = machine.watch().await;
    watching.create(watch_on("g", "")).await;
    // Applied without a word to the hub.
    for _ in 0..3 {
        let put = duet_mvcc::PutRequest { key: bytes("g"), ..Default::default() };
        machine.handle.store().write().apply(&Command::Put(put));
    }
    assert_eq!(told(&watching.next().await), [event("g", 2), event("g", 3), event("g", 4)]);
    let mut kv = machine.kv().await;
    put(&mut kv, "g", "live").await;
    assert_eq!(told(&watching.next().await), [event("g", 5)]);
}
