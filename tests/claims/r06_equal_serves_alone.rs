//! R6: a restarted appliance whose data equals what the witness holds of the other is promoted: alone, without its peer and
//! without a person.

use crate::harness::{A, B, Ledger, Pair, Witness, with_both_witnesses};

with_both_witnesses!(either_one_serves_alone, what_it_wrote_alone_reaches_the_other);

async fn either_one_serves_alone(witness: Witness) {
    let mut pair = Pair::start(witness).await;
    let mut ledger = Ledger::default();
    pair.write(A, &mut ledger, 5).await;
    let (primary, _) = pair.until_in_sync().await;
    // A hands over to B, which writes nothing and stops: LSN Y is at the witness, and X = Y.
    pair.soft_stop(A).await;
    pair.until_primary(B).await;
    pair.soft_stop(B).await;
    let record = pair.record().await;
    let part = record.part.unwrap();
    assert_eq!((record.conf.primary(), part.lsn.0), (B, primary.lsn));
    assert_eq!((part.epoch.0, part.digest.to_string()), (primary.epoch, primary.digest));
    // Each in its turn, as none of them writes.
    for alone in [A, B, B, A] {
        pair.start_appliance(alone).await;
        let status = pair.until_primary(alone).await;
        assert_eq!((status.lsn, status.conf.unwrap().in_sync), (5, vec![alone.to_string()]));
        assert!(!status.peer.connected, "there is no peer");
        pair.has_all(alone, &ledger).await;
        pair.soft_stop(alone).await;
    }
    pair.start_both().await;
    pair.converges_with(&ledger).await;
}

async fn what_it_wrote_alone_reaches_the_other(witness: Witness) {
    let mut pair = Pair::start(witness).await;
    let mut ledger = Ledger::default();
    for alone in [A, B] {
        pair.write(A, &mut ledger, 2).await;
        pair.until_in_sync().await;
        // The other one is the last to stop, so that this one has to be equal to serve.
        pair.soft_stop(alone).await;
        pair.until_primary(alone.peer()).await;
        pair.soft_stop(alone.peer()).await;
        pair.start_appliance(alone).await;
        pair.until_primary(alone).await;
        pair.write(alone, &mut ledger, 3).await;
        pair.start_appliance(alone.peer()).await;
        pair.converges_with(&ledger).await;
        assert_eq!(pair.until_any_primary().await, alone, "it stays primary");
    }
}
