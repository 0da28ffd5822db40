//! R7: a restarted appliance with X < Y is not promoted: it waits for its peer and says so.

use duet_protocol::ApplianceId;

use crate::harness::{A, B, Ledger, Pair, Witness, with_both_witnesses};

with_both_witnesses!(it_waits_says_why_and_serves_nothing, it_waits_for_a_peer_that_crashed);

/// It gives nothing but what it had when it stopped, the first `old` writes, and that only to those who ask for old data.
async fn gives_only_old_data(pair: &Pair, appliance: ApplianceId, ledger: &Ledger, old: u64) {
    let before = pair.status(appliance).await;
    let ask = || Box::pin(pair.serves_nothing(appliance));
    tokio::join!(ask(), ask(), ask(), ask());
    let here = pair.client(appliance).everything_here().await.unwrap();
    let known = &ledger.acknowledged[..usize::try_from(old).unwrap()];
    assert_eq!(here, known.iter().cloned().collect());
    let now = pair.status(appliance).await;
    assert!(now.waiting.is_some(), "{now:?}");
    assert_eq!((now.lsn, now.digest), (before.lsn, before.digest));
}

async fn it_waits_says_why_and_serves_nothing(witness: Witness) {
    let mut pair = Pair::start(witness).await;
    let mut ledger = Ledger::default();
    for (first, name, other) in [(A, "X", "Y"), (B, "Y", "X")] {
        pair.write(A, &mut ledger, 3).await;
        pair.until_in_sync().await;
        let old = ledger.acknowledged.len() as u64;
        let last = first.peer();
        pair.soft_stop(first).await;
        pair.until_primary(last).await;
        pair.write(last, &mut ledger, 2).await;
        pair.soft_stop(last).await;

        pair.start_appliance(first).await;
        let (own, theirs) = (format!("LSN {name} = {old}"), format!("LSN {other} = {}", old + 2));
        let sentence = pair.until_waiting(first, &[&own, &theirs]).await;
        println!("{first} says: {sentence}");
        assert!(sentence.contains(&format!("waits for {last}")), "{sentence}");
        gives_only_old_data(&pair, first, &ledger, old).await;

        pair.start_appliance(last).await;
        pair.until_primary(last).await;
        pair.converges_with(&ledger).await;
        assert_eq!(pair.until_any_primary().await, last);
    }
}

async fn it_waits_for_a_peer_that_crashed(witness: Witness) {
    let mut pair = Pair::start(witness).await;
    let mut ledger = Ledger::default();
    pair.write(A, &mut ledger, 3).await;
    pair.soft_stop(A).await;
    pair.until_primary(B).await;
    pair.write(B, &mut ledger, 2).await;
    pair.until_record("B alone", |record| record.conf.is_solo() && record.conf.primary() == B).await;
    pair.crash(B).await;

    pair.start_appliance(A).await;
    let sentence = pair.until_waiting(A, &["waits for B"]).await;
    println!("A says: {sentence}");
    gives_only_old_data(&pair, A, &ledger, 3).await;
    assert!(pair.is_running(A), "it goes on waiting");

    pair.start_appliance(B).await;
    pair.until_primary(B).await;
    pair.converges_with(&ledger).await;
}
