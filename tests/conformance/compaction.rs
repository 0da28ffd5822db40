//! Compaction: what it refuses, and what can be read after it.

use duet_etcd_api::etcdserverpb as pb;
use pb::request_op::Request::{RequestPut, RequestRange};

use crate::harness::run;
use crate::play::Play;
use crate::requests::{all, compact, delete, get, put};
use crate::servers::Servers;
use crate::step::Step;

#[test]
fn a_store_that_was_never_compacted() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        let mut play = Play::with_the_whole_store(&servers).await;
        play.step(Step::Put(put("c", "1"))).await;
        play.step(compact(3)).await;
        play.step(compact(-1)).await;
        play.step(compact(0)).await;
        play.step(compact(0)).await;
        play.step(Step::Range(pb::RangeRequest { revision: 1, ..get("c") })).await;
        play.end().await;
    });
}

#[test]
fn reads_around_a_compaction() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        let mut play = Play::begin(&servers).await;
        for value in ["1", "2", "3"] {
            play.step(Step::Put(put("c", value))).await;
        }
        play.step(Step::Delete(delete("c", ""))).await;
        play.step(Step::Put(put("d", "1"))).await;
        let compacted = "OutOfRange \"etcdserver: mvcc: required revision has been compacted\"";
        play.step(compact(3)).await;
        play.step_says(compact(3), compacted).await;
        play.step_says(compact(2), compacted).await;
        play.step_says(compact(0), compacted).await;
        play.step_says(compact(6), "OutOfRange \"etcdserver: mvcc: required revision is a future revision\"")
            .await;
        for serializable in [false, true] {
            for revision in 1..6 {
                let read = pb::RangeRequest { revision, serializable, ..get("c") };
                play.step(Step::Range(read)).await;
            }
        }
        let below = RequestRange(pb::RangeRequest { revision: 2, ..get("c") });
        play.step_says(Step::Txn(all([below.clone()])), compacted).await;
        play.step_says(Step::Txn(all([RequestPut(put("half", "done")), below])), compacted).await;
        play.step(Step::Range(get("half"))).await;
        // At a deletion, and at the newest revision.
        play.step(compact(4)).await;
        play.step(Step::Range(pb::RangeRequest { revision: 4, ..get("c") })).await;
        play.step(Step::Compact(pb::CompactionRequest { revision: 5, physical: true })).await;
        play.step(Step::Range(pb::RangeRequest { revision: 5, ..get("d") })).await;
        play.step(Step::Put(put("c", "anew"))).await;
        play.end().await;
    });
}
