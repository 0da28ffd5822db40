//! R8: a restarted appliance compares its LSN with the LSN of the live other one.

use crate::harness::{A, B, Ledger, Pair, Witness, with_both_witnesses};
use crate::proxy::Line;

with_both_witnesses!(it_learns_the_peers_lsn_and_follows, it_asks_the_peer_even_without_a_witness);

async fn it_learns_the_peers_lsn_and_follows(witness: Witness) {
    let mut pair = Pair::start_with_lines(witness).await;
    let mut ledger = Ledger::default();
    for returning in [A, B] {
        let live = returning.peer();
        pair.write(live, &mut ledger, 3).await;
        pair.until_in_sync().await;
        let own = ledger.acknowledged.len() as u64;
        pair.soft_stop(returning).await;
        pair.until_primary(live).await;
        pair.write(live, &mut ledger, 4).await;

        // First without a line to the peer: it has its own LSN only, and waits.
        pair.set_peer_lines(Line::Cut);
        pair.start_appliance(returning).await;
        let alone = pair.status(returning).await;
        assert_eq!((alone.lsn, alone.peer.lsn, alone.serving), (own, None, false));
        pair.until_waiting(returning, &["waits"]).await;
        // Then with it: it hears of the peer's LSN, which is greater.
        pair.set_peer_lines(Line::Open);
        let heard = |status: &duet_server::StatusReport| {
            status.role == "secondary" && status.peer.lsn == Some(own + 4)
        };
        pair.until_status(returning, "follows, and knows the peer's LSN", heard).await;
        pair.converges_with(&ledger).await;
        assert_eq!(pair.until_any_primary().await, live);
    }
}

async fn it_asks_the_peer_even_without_a_witness(witness: Witness) {
    let mut pair = Pair::start(witness).await;
    let mut ledger = Ledger::default();
    pair.write(A, &mut ledger, 3).await;
    pair.soft_stop(B).await;
    pair.write(A, &mut ledger, 3).await;
    pair.stop_witness();
    pair.start_appliance(B).await;
    pair.converges_with(&ledger).await;
    assert_eq!(pair.until_any_primary().await, A);
    pair.start_witness().await;
    pair.until_record("both in sync", |record| record.conf.is_pair()).await;
}
