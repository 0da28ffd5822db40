//! R10: what was written to the one while the other was away is written to the other when it is back; it becomes a full
//! secondary again by itself, from the log, or by a full copy where the log does not reach back or the disk is blank.

use crate::client::Load;
use crate::harness::{A, B, Ledger, Pair, Witness, with_both_witnesses};

with_both_witnesses!(
    from_the_log,
    under_writers_that_never_rest,
    a_blank_disk_gets_everything,
    by_a_full_copy_when_the_log_was_trimmed,
    a_full_secondary_can_take_over
);

async fn from_the_log(witness: Witness) {
    let mut pair = Pair::start(witness).await;
    let mut ledger = Ledger::default();
    for away in [B, A] {
        let live = away.peer();
        pair.write(live, &mut ledger, 2).await;
        pair.until_in_sync().await;
        pair.crash(away).await;
        pair.until_primary(live).await;
        let load = Load::start(&pair, if away == A { "without A" } else { "without B" }, 32);
        load.goes_on(&pair, 3_000).await;
        let outcome = load.stop().await;
        pair.start_appliance(away).await;
        pair.converges_with(&ledger).await;
        outcome.is_in(&pair.client(away).everything_here().await.unwrap());
        assert!(!pair.log(away).contains("the copy is installed"), "the log reached back");
    }
}

async fn under_writers_that_never_rest(witness: Witness) {
    let mut pair = Pair::start(witness).await;
    pair.soft_stop(B).await;
    let load = Load::start(&pair, "restless", 64);
    load.goes_on(&pair, 2_000).await;
    pair.start_appliance(B).await;
    let in_sync = |status: &duet_server::StatusReport| {
        status.conf.as_ref().is_some_and(|conf| conf.in_sync == ["A", "B"])
    };
    pair.until_status(A, "has B in sync while it is written to", in_sync).await;
    load.goes_on(&pair, 500).await;
    let outcome = load.stop().await;
    pair.until_in_sync().await;
    outcome.is_in(&pair.client(B).everything_here().await.unwrap());
}

async fn a_blank_disk_gets_everything(witness: Witness) {
    let mut pair = Pair::start(witness).await;
    let mut ledger = Ledger::default();
    for replaced in [B, A] {
        pair.write(replaced.peer(), &mut ledger, 20).await;
        pair.until_in_sync().await;
        let disk = pair.status(replaced).await.disk;
        pair.crash(replaced).await;
        pair.until_primary(replaced.peer()).await;
        std::fs::remove_dir_all(pair.data(replaced)).unwrap();
        pair.write(replaced.peer(), &mut ledger, 5).await;
        pair.start_appliance(replaced).await;
        pair.converges_with(&ledger).await;
        assert_ne!(pair.status(replaced).await.disk, disk, "another disk has another identity");
    }
}

async fn by_a_full_copy_when_the_log_was_trimmed(witness: Witness) {
    let mut pair = Pair::lay_out(witness).await;
    pair.configure("retain_entries = 50");
    pair.start_new().await;
    let mut ledger = Ledger::default();
    pair.write(A, &mut ledger, 10).await;
    pair.until_in_sync().await;
    for blank in [false, true] {
        pair.crash(B).await;
        pair.until_primary(A).await;
        pair.write(A, &mut ledger, 200).await;
        pair.until_checkpoint(A).await;
        if blank {
            std::fs::remove_dir_all(pair.data(B)).unwrap();
        }
        pair.start_appliance(B).await;
        pair.converges_with(&ledger).await;
        assert!(pair.log(B).contains("the copy is installed"), "{}", pair.log(B));
        pair.write(B, &mut ledger, 5).await;
    }
    // What was copied is good for a primary.
    pair.soft_stop(A).await;
    pair.until_primary(B).await;
    pair.has_all(B, &ledger).await;
}

async fn a_full_secondary_can_take_over(witness: Witness) {
    let mut pair = Pair::start(witness).await;
    let mut ledger = Ledger::default();
    for returning in [B, A, B] {
        let live = returning.peer();
        pair.soft_stop(returning).await;
        pair.until_primary(live).await;
        pair.write(live, &mut ledger, 10).await;
        pair.start_appliance(returning).await;
        pair.until_in_sync().await;
        pair.write(live, &mut ledger, 2).await;
        pair.crash(live).await;
        pair.until_primary(returning).await;
        pair.has_all(returning, &ledger).await;
        pair.start_appliance(live).await;
        pair.converges_with(&ledger).await;
    }
}
