//! R9: when the restarted appliance has X < Y, the live one remains primary; it remains so with X = Y too.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::{A, B, Ledger, Pair, Witness, with_both_witnesses};

with_both_witnesses!(the_live_one_is_primary_throughout);

async fn the_live_one_is_primary_throughout(witness: Witness) {
    let mut pair = Pair::start(witness).await;
    let mut ledger = Ledger::default();
    for (returning, further) in [(A, 4), (B, 0), (A, 0), (B, 4)] {
        let live = returning.peer();
        pair.soft_stop(returning).await;
        let before = pair.until_primary(live).await;
        pair.write(live, &mut ledger, further).await;
        let settled = pair.status(live).await;
        assert_eq!(settled.conf, before.conf);

        pair.launch(returning);
        // It is looked at all the while: the one never stops being primary, the other never begins.
        let done = AtomicBool::new(false);
        let watch = async {
            let mut looks = 0_u64;
            while !done.load(Ordering::SeqCst) {
                if let Ok(status) = pair.try_status(returning).await {
                    assert!(status.role != "primary" && status.role != "elect", "{status:?}");
                }
                if let Ok(status) = pair.try_status(live).await {
                    assert_eq!(status.role, "primary");
                    assert_eq!(status.conf.unwrap().primary, live.to_string());
                }
                looks += 1;
            }
            looks
        };
        let rejoin = async {
            pair.until_in_sync().await;
            done.store(true, Ordering::SeqCst);
        };
        let (looks, ()) = tokio::join!(watch, rejoin);
        println!("looked {looks} times while {returning} came back");
        pair.converges_with(&ledger).await;
    }
}
