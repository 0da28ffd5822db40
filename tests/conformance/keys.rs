//! Puts, ranges and deletions, one after the other.

use duet_etcd_api::etcdserverpb as pb;

use crate::harness::run;
use crate::play::Play;
use crate::requests::{bytes, delete, get, put, range};
use crate::servers::Servers;
use crate::step::Step;

#[test]
fn an_empty_store_and_its_first_keys() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        let mut play = Play::with_the_whole_store(&servers).await;
        play.step(Step::Range(range("\0", "\0"))).await;
        play.step(Step::Delete(delete("none", ""))).await;
        play.step(Step::Put(put("k", "1"))).await;
        play.step(Step::Put(put("k", "2"))).await;
        play.step(Step::Range(get("k"))).await;
        play.step(Step::Delete(delete("k", ""))).await;
        play.step(Step::Put(pb::PutRequest { prev_kv: true, ..put("k", "3") })).await;
        play.step(Step::Put(pb::PutRequest { prev_kv: true, ..put("k", "") })).await;
        for (key, end) in [("\0", "\0"), ("", "\0"), ("k", "\0"), ("l", "\0"), ("\0", ""), ("", "")] {
            play.step(Step::Range(range(key, end))).await;
            play.step(Step::Range(pb::RangeRequest { count_only: true, ..range(key, end) })).await;
        }
        for (key, end) in [("", ""), ("", "\0"), ("", "z"), ("l", "k"), ("k", "k"), ("\0", "\0")] {
            play.step(Step::Delete(delete(key, end))).await;
        }
        play.end().await;
    });
}

#[test]
fn puts_with_every_option() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        let mut play = Play::begin(&servers).await;
        play.step_says(Step::Put(put("", "v")), "InvalidArgument \"etcdserver: key is not provided\"").await;
        let keep_value = |value: &str| pb::PutRequest { ignore_value: true, ..put("k", value) };
        let keep_lease = |lease| pb::PutRequest { ignore_lease: true, lease, ..put("k", "w") };
        play.step_says(Step::Put(keep_value("v")), "value is provided").await;
        play.step_says(Step::Put(keep_value("")), "key not found").await;
        play.step_says(Step::Put(keep_lease(5)), "lease is provided").await;
        play.step_says(Step::Put(keep_lease(0)), "key not found").await;
        let leased = |lease| pb::PutRequest { lease, ..put("k", "v") };
        play.step_says(Step::Put(leased(5)), "NotFound \"etcdserver: requested lease not found\"").await;
        play.step(Step::Put(leased(-5))).await;
        play.step(crate::requests::grant(5, 100)).await;
        play.step(Step::Put(leased(5))).await;
        play.step(Step::Put(keep_lease(0))).await;
        play.step(Step::Range(get("k"))).await;
        play.step(Step::Put(pb::PutRequest { prev_kv: true, ..keep_value("") })).await;
        play.step(Step::Range(get("k"))).await;
        play.step(Step::TimeToLive(5)).await;
        let both = pb::PutRequest { ignore_value: true, ignore_lease: true, ..put("k", "") };
        play.step(Step::Put(both)).await;
        play.end().await;
    });
}

/// Values, versions and revisions that each give another order.
async fn seven_keys(play: &mut Play) {
    for (key, value) in [("r/1", "4"), ("r/2", "5"), ("r/3", "6"), ("r/4", "3"), ("r/5", "2"), ("r/6", "1")] {
        play.step(Step::Put(put(key, value))).await;
    }
    play.step(Step::Put(put("r/7", "0"))).await;
    play.step(Step::Put(put("r/3", "9"))).await;
}

#[test]
fn ranges_in_every_order_and_piece() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        let mut play = Play::begin(&servers).await;
        seven_keys(&mut play).await;
        for sort_order in [0, 1, 2, 7, -1] {
            for sort_target in 0..5 {
                for limit in [0, 3] {
                    let wish = pb::RangeRequest { sort_order, sort_target, limit, ..range("r/", "r0") };
                    play.step(Step::Range(wish)).await;
                }
            }
        }
        for limit in [-1, 1, 6, 7, 8] {
            for (keys_only, count_only) in [(false, false), (true, false), (false, true), (true, true)] {
                let wish = pb::RangeRequest { limit, keys_only, count_only, ..range("r/", "r0") };
                play.step(Step::Range(wish)).await;
            }
        }
        for (key, end) in [("r/3", "r/3"), ("r/3", "r/1"), ("r/6", "\0"), ("r/2", "r/4"), ("r/9", "")] {
            play.step(Step::Range(range(key, end))).await;
        }
        play.end().await;
    });
}

#[test]
fn ranges_between_revisions() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        let mut play = Play::begin(&servers).await;
        seven_keys(&mut play).await;
        for revision in [-7, 0, 1, 3, 7, 8] {
            play.step(Step::Range(pb::RangeRequest { revision, ..range("r/", "r0") })).await;
        }
        let future = pb::RangeRequest { revision: 9, ..get("r/1") };
        play.step_says(Step::Range(future), "OutOfRange \"etcdserver: mvcc: required revision is a future")
            .await;
        for bound in [-1, 1, 3, 5, 8, 20] {
            for limit in [0, 2] {
                for bounds in [
                    pb::RangeRequest { min_mod_revision: bound, ..Default::default() },
                    pb::RangeRequest { max_mod_revision: bound, ..Default::default() },
                    pb::RangeRequest { min_create_revision: bound, ..Default::default() },
                    pb::RangeRequest { max_create_revision: bound, sort_order: 2, ..Default::default() },
                    pb::RangeRequest { max_mod_revision: bound, count_only: true, ..Default::default() },
                ] {
                    let wish = pb::RangeRequest { key: bytes("r/"), range_end: bytes("r0"), limit, ..bounds };
                    play.step(Step::Range(wish)).await;
                }
            }
        }
        play.end().await;
    });
}

#[test]
fn keys_in_order_of_their_bytes() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        let mut play = Play::begin(&servers).await;
        for key in [&b"o/"[..], b"o/\0", b"o/a\0", b"o/a", b"o/Z", b"o/\xff", b"o/\xff\xff", b"o", b"p"] {
            play.step(Step::Put(pb::PutRequest { key: key.into(), ..Default::default() })).await;
        }
        for (key, end) in [(&b"o/"[..], &b"o0"[..]), (b"o/a", b"o/\xff"), (b"o/\xff", b"\0"), (b"o", b"o/\0")]
        {
            let wish = pb::RangeRequest { key: key.into(), range_end: end.into(), ..Default::default() };
            play.step(Step::Range(wish)).await;
        }
        play.end().await;
    });
}

#[test]
fn deletions_of_one_many_and_none() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        let mut play = Play::begin(&servers).await;
        seven_keys(&mut play).await;
        play.step(Step::Delete(delete("r/2", ""))).await;
        play.step(Step::Delete(delete("r/2", ""))).await;
        play.step(Step::Delete(pb::DeleteRangeRequest { prev_kv: false, ..delete("r/1", "r/5") })).await;
        play.step(Step::Delete(delete("r/7", "r/6"))).await;
        play.step(Step::Delete(delete("r/6", "\0"))).await;
        play.step(Step::Range(range("r/", "r0"))).await;
        play.step(Step::Put(put("r/1", "again"))).await;
        play.step(Step::Range(get("r/1"))).await;
        play.step_says(Step::Delete(delete("", "")), "key is not provided").await;
        play.end().await;
    });
}
