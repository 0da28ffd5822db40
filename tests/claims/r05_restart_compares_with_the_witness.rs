//! R5: a restarted appliance compares its own LSN with the LSN of the other that is stored at the witness; its status shows both.

use duet_protocol::ApplianceId;

use crate::harness::{A, B, Ledger, Pair, Witness, with_both_witnesses};

with_both_witnesses!(both_lsns_are_shown, a_witness_that_comes_later_is_asked_then);

/// The LSN at which the other one stopped, as the appliance read it at the witness.
fn lsn_at_the_witness(status: &duet_server::StatusReport) -> Option<u64> {
    status.witness.record.as_ref()?["part"]["lsn"].as_u64()
}

/// `first` stops, the other takes `further` writes and stops, `first` is started alone.
async fn one_returns_alone(pair: &mut Pair, first: ApplianceId, ledger: &mut Ledger, further: u64) {
    let last = first.peer();
    pair.soft_stop(first).await;
    pair.until_primary(last).await;
    pair.write(last, ledger, further).await;
    pair.soft_stop(last).await;
}

async fn both_lsns_are_shown(witness: Witness) {
    let mut pair = Pair::start(witness).await;
    let mut ledger = Ledger::default();
    for first in [A, B] {
        pair.write(A, &mut ledger, 3).await;
        pair.until_in_sync().await;
        let own = ledger.acknowledged.len() as u64;

        // X < Y.
        one_returns_alone(&mut pair, first, &mut ledger, 4).await;
        pair.start_appliance(first).await;
        let compared = |status: &duet_server::StatusReport| lsn_at_the_witness(status).is_some();
        let status = pair.until_status(first, "has read the witness", compared).await;
        assert_eq!(
            (status.lsn, lsn_at_the_witness(&status)),
            (own, Some(own + 4)),
            "own LSN, LSN at the witness"
        );
        assert!(!status.serving);
        pair.start_appliance(first.peer()).await;
        pair.converges_with(&ledger).await;

        // X = Y.
        one_returns_alone(&mut pair, first, &mut ledger, 0).await;
        let stored = pair.record().await.part.unwrap().lsn.0;
        pair.start_appliance(first).await;
        let status = pair.until_primary(first).await;
        assert_eq!((status.lsn, stored), (own + 4, own + 4));
        pair.start_appliance(first.peer()).await;
        pair.converges_with(&ledger).await;
    }
}

async fn a_witness_that_comes_later_is_asked_then(witness: Witness) {
    let mut pair = Pair::start(witness).await;
    let mut ledger = Ledger::default();
    pair.write(A, &mut ledger, 3).await;
    one_returns_alone(&mut pair, A, &mut ledger, 0).await;
    pair.stop_witness();
    pair.start_appliance(A).await;
    pair.until_waiting(A, &["witness"]).await;
    let status = pair.status(A).await;
    assert!(!status.witness.reachable && status.witness.error.is_some(), "{:?}", status.witness);
    pair.start_witness().await;
    pair.until_primary(A).await;
    pair.has_all(A, &ledger).await;
}
