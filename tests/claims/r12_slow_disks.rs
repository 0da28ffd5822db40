//! R12: a disk that stands still for a second delays writes, and changes nothing else: nobody takes over, nobody is dropped. One
//! that is stuck for longer is as good as gone: the pair goes on without it.

use duet_server::StatusReport;

use crate::harness::{A, B, Ledger, Pair, Witness, with_both_witnesses};

with_both_witnesses!(
    a_disk_that_stands_still_for_a_second_changes_neither_roles_nor_members,
    a_pair_goes_on_without_a_disk_that_is_stuck,
);

/// For longer than the test takes.
const STUCK: &str = "log.sync.before=sleep:3600000";

async fn a_disk_that_stands_still_for_a_second_changes_neither_roles_nor_members(witness: Witness) {
    let mut pair = Pair::lay_out(witness).await;
    pair.make_armable();
    pair.start_new().await;
    let mut ledger = Ledger::default();
    let conf = pair.until_in_sync().await.0.conf;
    for slow in [A, B] {
        pair.arm(slow, "log.sync.before=sleep:1000");
        pair.write(A, &mut ledger, 2).await;
        pair.disarm(slow);
        pair.converges_with(&ledger).await;
        let (primary, _) = pair.until_in_sync().await;
        assert_eq!(primary.conf, conf, "the disk of {slow} stood still");
    }
}

async fn a_pair_goes_on_without_a_disk_that_is_stuck(witness: Witness) {
    let mut pair = Pair::lay_out(witness).await;
    pair.make_armable();
    pair.start_new().await;
    let mut ledger = Ledger::default();
    pair.write(A, &mut ledger, 3).await;
    pair.until_in_sync().await;
    // The secondary answers every heartbeat, and is dropped all the same.
    pair.arm(B, STUCK);
    pair.write(A, &mut ledger, 3).await;
    let alone = |status: &StatusReport| status.conf.as_ref().is_some_and(|conf| conf.in_sync == ["A"]);
    pair.until_status(A, "is alone", alone).await;
    pair.disarm(B);
    pair.process(B).kill();
    pair.ends(B).await;
    pair.start_appliance(B).await;
    pair.converges_with(&ledger).await;
    // The primary could not even hand over: that needs its disk.
    pair.arm(A, STUCK);
    let lost = tokio::spawn({
        let client = pair.client(A).clone();
        async move { client.put("unknown", "outcome").await }
    });
    let ended = pair.ends(A).await;
    assert!(!ended.success() && pair.log(A).contains("gives up"), "{ended}: {}", pair.log(A));
    assert!(lost.await.unwrap().is_err());
    pair.until_primary(B).await;
    pair.write(B, &mut ledger, 3).await;
    pair.disarm(A);
    pair.start_appliance(A).await;
    pair.converges_with(&ledger).await;
}
