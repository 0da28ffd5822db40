//! A witness restored from an old backup is a known limit (docs/protocol.md): it may name a configuration that was since
//! replaced. So it is no fault of the storms. With both appliances up it does no harm: they know the newer configuration,
//! and the primary puts it there again.

use crate::harness::{A, B, Ledger, Pair, Witness, run};

#[test]
fn a_witness_set_back_while_both_are_up_does_no_harm() {
    run(async {
        let mut pair = Pair::start(Witness::Server).await;
        let mut ledger = Ledger::default();
        pair.write(A, &mut ledger, 3).await;
        pair.until_in_sync().await;
        let backup = pair.dir().join("backup");
        pair.stop_witness();
        pair.save_witness(&backup);
        pair.start_witness().await;
        pair.order(A, "switchover").await.unwrap();
        pair.until_primary(B).await;
        pair.write(B, &mut ledger, 3).await;
        pair.until_in_sync().await;
        let newest =
            pair.until_record("B's pair", |record| record.conf.is_pair() && record.conf.primary() == B).await;
        pair.stop_witness();
        pair.restore_witness(&backup);
        pair.start_witness().await;
        assert_eq!(pair.record().await.conf.primary(), A, "it holds what it held before the switchover");
        pair.write(B, &mut ledger, 3).await;
        pair.until_record("the newest configuration again", |record| {
            record.conf.epoch() >= newest.conf.epoch()
        })
        .await;
        pair.crash(B).await;
        pair.until_primary(A).await;
        pair.has_all(A, &ledger).await;
        pair.write(A, &mut ledger, 3).await;
        pair.start_appliance(B).await;
        pair.converges_with(&ledger).await;
    });
}
