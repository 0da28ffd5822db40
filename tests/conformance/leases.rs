//! Leases: granted, refused, renewed, revoked, and what hangs on them.

use duet_etcd_api::etcdserverpb as pb;

use crate::harness::run;
use crate::play::Play;
use crate::requests::{get, grant, put, range, watch};
use crate::servers::Servers;
use crate::step::Step;
use crate::watching::Told;

#[test]
fn leases_and_what_hangs_on_them() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        let mut play = Play::begin(&servers).await;
        play.step(grant(1, 100)).await;
        play.step_says(grant(1, 100), "FailedPrecondition \"etcdserver: lease already exists\"").await;
        play.step_says(grant(2, 9_000_000_001), "OutOfRange \"etcdserver: too large lease TTL\"").await;
        play.step(grant(2, 9_000_000_000)).await;
        play.step_says(Step::Revoke(9), "NotFound \"etcdserver: requested lease not found\"").await;
        play.step(Step::TimeToLive(9)).await;
        play.step(Step::KeepAlive(9)).await;
        play.step(Step::KeepAlive(1)).await;
        for key in ["l/1", "l/2", "l/3"] {
            play.step(Step::Put(pb::PutRequest { lease: 1, ..put(key, "v") })).await;
        }
        play.step(Step::Put(put("l/3", "without a lease"))).await;
        play.step(Step::Put(pb::PutRequest { lease: 2, ..put("l/2", "of another") })).await;
        play.step(Step::TimeToLive(1)).await;
        play.step(Step::TimeToLive(2)).await;
        play.step(Step::Leases).await;
        play.step(Step::Watch(watch("l/", "l0"))).await;
        play.step(Step::Revoke(1)).await;
        play.step(Step::Range(range("l/", "l0"))).await;
        play.step(Step::Revoke(1)).await;
        play.step(Step::Leases).await;
        play.end().await;
    });
}

#[test]
fn times_to_live_below_the_least_are_raised() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        let mut play = Play::begin(&servers).await;
        for (id, ttl) in [(1, 1), (2, 0), (3, -5)] {
            play.step_says(grant(id, ttl), "ttl: 2").await;
        }
        // All on one lease: which of several runs out first is a matter of time.
        for key in ["short", "lived"] {
            play.step(Step::Put(pb::PutRequest { lease: 1, ..put(key, "v") })).await;
        }
        play.step(Step::Watch(watch("a", "z"))).await;
        let ended = |told: &Told| told.values().flatten().filter(|line| line.contains("Delete")).count();
        for _ in 0..100 {
            let (etcd, duet) = play.told();
            if (ended(&etcd), ended(&duet)) == (2, 2) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        let told = play.settle().await;
        assert_eq!(ended(&told), 2, "{told:#?}");
        play.step(Step::Range(get("short"))).await;
        play.step_says(Step::Revoke(1), "requested lease not found").await;
        play.end().await;
    });
}
