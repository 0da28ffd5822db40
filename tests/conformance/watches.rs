//! Watches: what they answer, what they tell, and in which order.

use std::time::Duration;

use bytes::Bytes;
use duet_etcd_api::etcdserverpb as pb;
use pb::request_op::Request::{RequestDeleteRange, RequestPut};
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use tokio_stream::StreamExt as _;
use tonic::transport::Channel;

use crate::harness::run;
use crate::play::Play;
use crate::requests::{all, compact, delete, grant, put, range, watch};
use crate::servers::{CALL, Servers, TARGET};
use crate::step::Step;

#[test]
fn watches_are_created_refused_and_ended_alike() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        let mut play = Play::with_the_whole_store(&servers).await;
        for request in [
            watch("w", ""),
            watch("w", ""),
            pb::WatchCreateRequest { watch_id: 119, ..watch("w", "x") },
            pb::WatchCreateRequest { watch_id: 119, ..watch("w", "x") },
            pb::WatchCreateRequest { watch_id: 2, ..watch("w", "x") },
            watch("w", "x"),
            watch("w", "w"),
            watch("w", "a"),
            watch("", "\0"),
            watch("", ""),
            watch("\0", "\0"),
            watch("w", "\0"),
        ] {
            play.step(Step::Watch(request)).await;
        }
        play.step(Step::Put(put("w", "1"))).await;
        play.step(Step::CancelWatch(119)).await;
        play.step(Step::CancelWatch(119)).await;
        play.step(Step::CancelWatch(-1)).await;
        play.step(Step::Put(put("x", "1"))).await;
        play.step(Step::Watch(pb::WatchCreateRequest { watch_id: 119, ..watch("x", "") })).await;
        play.step(Step::Put(put("x", "2"))).await;
        play.end().await;
    });
}

#[test]
fn every_change_is_told_in_its_order() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        let mut play = Play::begin(&servers).await;
        for (filters, prev_kv) in
            [(vec![], false), (vec![], true), (vec![0], true), (vec![1], false), (vec![0, 1], false)]
        {
            play.step(Step::Watch(pb::WatchCreateRequest { filters, prev_kv, ..watch("a", "z") })).await;
        }
        play.step(grant(1, 100)).await;
        play.step(Step::Put(pb::PutRequest { lease: 1, ..put("k2", "v") })).await;
        play.step(Step::Put(pb::PutRequest { lease: 1, ..put("k1", "v") })).await;
        // Not in order of keys.
        play.step(Step::Txn(all([RequestPut(put("t2", "1")), RequestPut(put("t1", "1"))]))).await;
        play.step(Step::Txn(all([RequestPut(put("t3", "1")), RequestDeleteRange(delete("t1", "t3"))]))).await;
        play.step(Step::Delete(delete("none", ""))).await;
        play.step(Step::Delete(delete("t", "u"))).await;
        play.step(Step::Revoke(1)).await;
        play.step(Step::Put(put("k1", "again"))).await;
        play.step(Step::Range(range("a", "z"))).await;
        // The same from the history.
        for start_revision in [1, 3, 5, 8] {
            for prev_kv in [false, true] {
                let request = pb::WatchCreateRequest { start_revision, prev_kv, ..watch("a", "z") };
                play.step(Step::Watch(request)).await;
            }
        }
        play.end().await;
    });
}

#[test]
fn a_watch_from_the_future_tells_nothing_before() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        let mut play = Play::begin(&servers).await;
        for start_revision in [1, 2, 4] {
            play.step(Step::Watch(pb::WatchCreateRequest { start_revision, ..watch("f", "") })).await;
        }
        for value in ["1", "2", "3", "4", "5"] {
            play.step(Step::Put(put("f", value))).await;
        }
        let told = play.settle().await;
        assert_eq!(told[&2].len(), 3, "created, and from the fourth on: {told:#?}");
        play.end().await;
    });
}

#[test]
fn watches_around_a_compaction() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        let mut play = Play::begin(&servers).await;
        play.step(Step::Watch(watch("c", ""))).await;
        for value in ["1", "2", "3"] {
            play.step(Step::Put(put("c", value))).await;
        }
        play.step(Step::Delete(delete("c", ""))).await;
        play.step(Step::Put(put("d", "1"))).await;
        play.step(compact(3)).await;
        for start_revision in [1, 2, 3, 4, 5, 6] {
            let request = pb::WatchCreateRequest { start_revision, prev_kv: true, ..watch("c", "") };
            play.step(Step::Watch(request)).await;
        }
        let told = play.settle().await;
        let ended = |id: i64| told[&id].last().is_some_and(|line| line.starts_with("ended, compacted 3"));
        assert!(ended(1) && ended(2) && !ended(3), "{told:#?}");
        if servers.version >= TARGET && !servers.is_early() {
            // From the very revision of a deletion that was compacted at.
            play.step(compact(4)).await;
            play.step(Step::Watch(pb::WatchCreateRequest { start_revision: 4, ..watch("c", "") })).await;
            let told = play.settle().await;
            assert!(told[&7].last().is_some_and(|line| line.contains("Delete")), "{told:#?}");
        }
        play.end().await;
    });
}

/// How many events are in each response to a watch of the one revision with 40 large ones, and whether it goes on.
async fn responses(channel: &Channel, start_revision: i64, fragment: bool) -> Vec<(usize, bool)> {
    let request =
        pb::WatchCreateRequest { start_revision, fragment, prev_kv: true, ..watch("large/", "large0") };
    let request = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(request)) };
    // The stream stays open on our side.
    let requests = tokio_stream::once(request).chain(tokio_stream::pending());
    let mut client = WatchClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
    let mut answers = client.watch(requests).await.unwrap().into_inner();
    let mut sizes = Vec::new();
    while sizes.iter().map(|(events, _)| events).sum::<usize>() < 40 {
        let answer =
            tokio::time::timeout(CALL, answers.message()).await.expect("all events").unwrap().unwrap();
        if !answer.created {
            sizes.push((answer.events.len(), answer.fragment));
        }
    }
    let more = tokio::time::timeout(Duration::from_millis(100), answers.message()).await;
    assert!(more.is_err(), "something comes after all events: {more:?}");
    sizes
}

#[test]
fn the_events_of_one_revision_are_torn_into_fragments_only_on_demand() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        let mut play = Play::with_the_whole_store(&servers).await;
        for number in 0..40 {
            let value = Bytes::from(vec![b'a' + number; 100_000]);
            play.step(Step::Put(pb::PutRequest { value, ..put(&format!("large/{number:02}"), "") })).await;
        }
        let delete = pb::DeleteRangeRequest { prev_kv: false, ..delete("large/", "large0") };
        play.step(Step::Delete(delete)).await;
        // The store was empty at revision 1.
        let deleted_at = 42;
        for fragment in [true, false] {
            let etcd = responses(&servers.etcd[0], deleted_at, fragment).await;
            assert_eq!(etcd.len() > 1, fragment);
            for appliance in &servers.duet {
                assert_eq!(responses(appliance, deleted_at, fragment).await, etcd);
            }
        }
        play.end().await;
    });
}
