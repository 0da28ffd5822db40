//! R2: every data write is on both appliances before it is acknowledged.

use std::time::Duration;

use crate::client::Load;
use crate::harness::{A, B, Ledger, Pair, Witness, with_both_witnesses};
use crate::proxy::Line;

with_both_witnesses!(
    the_secondary_has_what_was_acknowledged_just_before_the_primary_died,
    each_acknowledged_write_is_on_both_disks,
    nothing_is_acknowledged_while_only_the_primary_has_it
);

async fn the_secondary_has_what_was_acknowledged_just_before_the_primary_died(witness: Witness) {
    let mut pair = Pair::start(witness).await;
    let mut ledger = Ledger::default();
    for (primary, secondary) in [(A, B), (B, A)] {
        pair.write(primary, &mut ledger, 3).await;
        // From here on the secondary can do nothing any more: it has the write already, or never.
        pair.process(secondary).pause();
        pair.process(primary).kill();
        pair.ends(primary).await;
        pair.process(secondary).resume();
        pair.until_primary(secondary).await;
        pair.has_all(secondary, &ledger).await;
        pair.start_appliance(primary).await;
        pair.converges_with(&ledger).await;
    }
}

async fn each_acknowledged_write_is_on_both_disks(witness: Witness) {
    let mut pair = Pair::start(witness).await;
    let mut outcomes = Vec::new();
    for (name, survivor) in [("first", A), ("second", B)] {
        let load = Load::start(&pair, name, 16);
        load.goes_on(&pair, 200).await;
        let outcome = load.stop().await;
        pair.process(A).kill();
        pair.process(B).kill();
        pair.ends(A).await;
        pair.ends(B).await;
        pair.start_appliance(survivor).await;
        pair.until_primary(survivor).await;
        outcomes.push(outcome);
        let data = pair.client(survivor).everything().await.unwrap();
        for outcome in &outcomes {
            outcome.is_in(&data);
        }
        pair.start_appliance(survivor.peer()).await;
        pair.until_in_sync().await;
    }
}

async fn nothing_is_acknowledged_while_only_the_primary_has_it(witness: Witness) {
    let pair = Pair::start_with_lines(witness).await;
    let mut ledger = Ledger::default();
    pair.write(A, &mut ledger, 2).await;
    // Without the witness the primary cannot go on alone, so it needs the secondary for every acknowledgement.
    pair.set_witness_line(A, Line::Cut);
    pair.set_witness_line(B, Line::Cut);
    pair.set_peer_lines(Line::Silent);
    let attempt = pair.client(A).put_within("held", "back", Duration::from_secs(2)).await;
    attempt.expect_err("acknowledged with the secondary out of reach");
    let status = pair.until_status(A, "has the write in its own log", |status| status.flushed == 3).await;
    assert_eq!(status.committed, 2, "it is not committed");
    assert_eq!(pair.client(A).get_here("held").await.unwrap(), None, "nor can it be read");
    pair.set_peer_lines(Line::Open);
    pair.until_in_sync().await;
    pair.write(A, &mut ledger, 1).await;
    pair.set_witness_line(A, Line::Open);
    pair.set_witness_line(B, Line::Open);
    pair.converges_with(&ledger).await;
}
