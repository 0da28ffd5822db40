//! R11: histories are compared by (epoch, LSN, digest), never by the LSN alone: equal numbers over different data are not
//! equal, a tail that nobody acknowledged goes, and data of something else is refused in words.

use std::time::Duration;

use duet_protocol::Lsn;

use crate::harness::{A, B, Ledger, PATIENCE, Pair, Witness, copy_dir, with_both_witnesses};
use crate::proxy::Line;

with_both_witnesses!(
    the_same_lsn_over_another_history_is_not_equal,
    data_of_a_fork_with_the_same_epoch_and_lsn_is_refused,
    the_tail_of_a_primary_that_died_is_gone,
    the_tail_of_a_primary_that_lives_is_gone,
    a_blank_disk_never_makes_a_pair_anew_and_never_wins,
    a_blank_disk_does_not_win_even_where_nothing_was_written,
    the_data_of_another_pair_with_the_same_name_is_refused,
    the_data_of_another_name_or_letter_is_refused,
);

/// Two futures of one past: in the first A wrote, in the second B did. Then A of the first meets the witness of the second.
async fn the_same_lsn_over_another_history_is_not_equal(witness: Witness) {
    let mut pair = Pair::start(witness).await;
    let mut ledger = Ledger::default();
    pair.write(A, &mut ledger, 3).await;
    pair.until_in_sync().await;
    pair.soft_stop(A).await;
    pair.until_primary(B).await;
    pair.soft_stop(B).await;
    let past = pair.dir().join("past-witness");
    pair.stop_witness();
    pair.save_witness(&past);
    pair.start_witness().await;

    pair.start_appliance(A).await;
    pair.until_primary(A).await;
    pair.client(A).put("fork", "first").await.unwrap();
    pair.soft_stop(A).await;
    let first = pair.record().await.part.unwrap();

    pair.stop_witness();
    pair.restore_witness(&past);
    pair.start_witness().await;
    // Once more than needed: its configuration is newer than A's.
    for _ in 0..2 {
        pair.start_appliance(B).await;
        pair.until_primary(B).await;
        if pair.status(B).await.lsn == 3 {
            pair.client(B).put("fork", "second").await.unwrap();
        }
        pair.soft_stop(B).await;
    }
    let second = pair.record().await.part.unwrap();
    assert_eq!((first.lsn, second.lsn), (Lsn(4), Lsn(4)), "the LSNs are equal");
    assert!(first.epoch != second.epoch && first.digest != second.digest);

    pair.start_appliance(A).await;
    let sentence = pair.until_waiting(A, &["LSN X = 4", "LSN Y = 4", "different history"]).await;
    println!("A says: {sentence}");
    pair.serves_nothing(A).await;
    pair.start_appliance(B).await;
    pair.until_primary(B).await;
    assert_eq!(pair.client(B).get("fork").await.unwrap().as_deref(), Some("second"));
    pair.has_all(B, &ledger).await;
}

/// As above, but both futures were written by A, in the same epoch: only the digests tell them apart.
async fn data_of_a_fork_with_the_same_epoch_and_lsn_is_refused(witness: Witness) {
    let mut pair = Pair::start(witness).await;
    let mut ledger = Ledger::default();
    pair.write(A, &mut ledger, 2).await;
    pair.soft_stop(B).await;
    pair.write(A, &mut ledger, 1).await;
    pair.until_record("A alone", |record| record.conf.is_solo() && record.conf.primary() == A).await;
    pair.crash(A).await;
    let (past, past_a, first_a) =
        (pair.dir().join("past-witness"), pair.dir().join("past-a"), pair.dir().join("first-a"));
    pair.stop_witness();
    pair.save_witness(&past);
    copy_dir(&pair.data(A), &past_a);
    pair.start_witness().await;

    pair.start_appliance(A).await;
    pair.until_primary(A).await;
    pair.client(A).put("fork", "first").await.unwrap();
    let first = pair.status(A).await;
    pair.crash(A).await;
    std::fs::rename(pair.data(A), &first_a).unwrap();

    pair.stop_witness();
    pair.restore_witness(&past);
    pair.start_witness().await;
    std::fs::rename(&past_a, pair.data(A)).unwrap();
    pair.start_appliance(A).await;
    pair.until_primary(A).await;
    pair.client(A).put("fork", "second").await.unwrap();
    let second = pair.status(A).await;
    assert_eq!((first.epoch, first.lsn), (second.epoch, second.lsn), "only the data differs");
    assert_ne!(first.digest, second.digest);
    pair.start_appliance(B).await;
    pair.until_in_sync().await;
    pair.soft_stop(A).await;
    pair.until_primary(B).await;

    std::fs::remove_dir_all(pair.data(A)).unwrap();
    std::fs::rename(&first_a, pair.data(A)).unwrap();
    pair.start_appliance(A).await;
    let sentence = pair.until_waiting(A, &["another history"]).await;
    println!("A says: {sentence}");
    let (a, b) = (pair.status(A).await, pair.status(B).await);
    assert_eq!(
        (a.lsn, a.epoch, &a.digest),
        (first.lsn, first.epoch, &first.digest),
        "nothing was copied over it"
    );
    assert_eq!((b.role.as_str(), b.conf.unwrap().in_sync), ("primary", vec!["B".to_owned()]));
    assert_eq!(pair.client(B).get("fork").await.unwrap().as_deref(), Some("second"));
    let through_a = pair.client(A).get("fork").await;
    assert!(through_a.is_err() || through_a.is_ok_and(|value| value.as_deref() == Some("second")));
    pair.has_all(B, &ledger).await;
}

/// A pair in which A took writes that nobody acknowledged, while B was promoted. Gives the attempts at those writes.
async fn with_a_tail_at_a(
    witness: Witness,
    ledger: &mut Ledger,
) -> (Pair, Vec<tokio::task::JoinHandle<bool>>) {
    let pair = Pair::start_with_lines(witness).await;
    pair.write(A, ledger, 3).await;
    pair.until_in_sync().await;
    pair.set_witness_line(A, Line::Cut);
    pair.set_peer_lines(Line::Cut);
    let attempts = ["tail/1", "tail/2", "tail/3"].map(|key| {
        let client = pair.client(A).clone();
        tokio::spawn(async move { client.put_within(key, "never acknowledged", PATIENCE).await.is_ok() })
    });
    pair.until_status(A, "has a tail in its log", |status| status.flushed == 6 && status.committed == 3)
        .await;
    pair.until_primary(B).await;
    pair.write(B, ledger, 1).await;
    (pair, attempts.into())
}

/// A is back; what it had beyond the third write is not there, and never will be.
async fn without_the_tail(pair: &Pair, ledger: &Ledger) {
    pair.converges_with(ledger).await;
    let (primary, secondary) = pair.until_in_sync().await;
    assert_eq!((primary.appliance.as_str(), primary.lsn, secondary.lsn), ("B", 4, 4));
    for key in ["tail/1", "tail/2", "tail/3"] {
        assert_eq!(pair.client(A).get(key).await.unwrap(), None, "{key}");
        assert_eq!(pair.client(A).get_here(key).await.unwrap(), None, "{key}");
    }
}

async fn the_tail_of_a_primary_that_died_is_gone(witness: Witness) {
    let mut ledger = Ledger::default();
    let (mut pair, attempts) = with_a_tail_at_a(witness, &mut ledger).await;
    pair.crash(A).await;
    for attempt in attempts {
        assert!(!attempt.await.unwrap(), "acknowledged by A alone");
    }
    pair.set_witness_line(A, Line::Open);
    pair.set_peer_lines(Line::Open);
    pair.start_appliance(A).await;
    without_the_tail(&pair, &ledger).await;
    // Not after a restart of both either.
    pair.crash(A).await;
    // Killed before it has noticed, B would leave a pair behind, and either of the two might begin.
    let alone =
        |status: &duet_server::StatusReport| status.conf.as_ref().is_some_and(|conf| conf.in_sync == ["B"]);
    pair.until_status(B, "is alone", alone).await;
    pair.crash(B).await;
    pair.start_both().await;
    without_the_tail(&pair, &ledger).await;
}

async fn the_tail_of_a_primary_that_lives_is_gone(witness: Witness) {
    let mut ledger = Ledger::default();
    let (pair, attempts) = with_a_tail_at_a(witness, &mut ledger).await;
    pair.set_witness_line(A, Line::Open);
    pair.set_peer_lines(Line::Open);
    without_the_tail(&pair, &ledger).await;
    for attempt in attempts {
        assert!(!attempt.await.unwrap(), "told that it was done, and it was not");
    }
}

async fn a_blank_disk_never_makes_a_pair_anew_and_never_wins(witness: Witness) {
    blank_disks_wait(witness, 3).await;
}

/// Without any write a blank disk has the very LSN that the witness holds.
async fn a_blank_disk_does_not_win_even_where_nothing_was_written(witness: Witness) {
    blank_disks_wait(witness, 0).await;
}

async fn blank_disks_wait(witness: Witness, writes: u64) {
    let mut pair = Pair::start(witness).await;
    let mut ledger = Ledger::default();
    for (blank, other) in [(A, B), (B, A)] {
        let primary = pair.until_any_primary().await;
        pair.write(primary, &mut ledger, writes).await;
        pair.until_in_sync().await;
        pair.soft_stop(blank).await;
        pair.until_primary(other).await;
        pair.soft_stop(other).await;
        std::fs::remove_dir_all(pair.data(blank)).unwrap();
        let before = pair.record().await;

        let (status, told) = pair.try_init(blank, &[]).await;
        assert!(!status.success() && told.contains("already exists"), "{told}");
        pair.start_appliance(blank).await;
        let sentence = pair.until_waiting(blank, &["new and empty"]).await;
        println!("{blank} says: {sentence}");
        pair.serves_nothing(blank).await;
        pair.until_waiting(blank, &["new and empty"]).await;
        assert_eq!(pair.record().await, before, "the witness's record is untouched");
        let now = pair.status(blank).await;
        assert_eq!((now.serving, now.lsn), (false, 0));

        pair.start_appliance(other).await;
        pair.until_primary(other).await;
        pair.converges_with(&ledger).await;
    }
}

async fn the_data_of_another_pair_with_the_same_name_is_refused(witness: Witness) {
    let mut other = Pair::start(witness).await;
    other.client(A).put("whose", "theirs").await.unwrap();
    other.soft_stop(B).await;
    other.client(A).put("whose", "theirs again").await.unwrap();
    other.crash(A).await;
    let foreign = other.dir().join("a");

    let mut pair = Pair::start(witness).await;
    let mut ledger = Ledger::default();
    pair.write(A, &mut ledger, 3).await;
    pair.soft_stop(A).await;
    pair.until_primary(B).await;
    pair.write(B, &mut ledger, 1).await;
    std::fs::remove_dir_all(pair.data(A)).unwrap();
    copy_dir(&foreign, &pair.data(A));
    pair.launch(A);
    // Refused at once, or refused by all it meets; in no case does it serve what it has.
    let refused = async || {
        let log = pair.log(A);
        (log.contains("belongs to cluster") || log.contains("two inits")).then_some(())
    };
    pair.until("A says that its data is another pair's", refused).await;
    if pair.is_running(A) {
        let status = pair.status(A).await;
        println!(
            "A waits: {:?}; peer: {:?}; witness: {:?}",
            status.waiting, status.peer.error, status.witness.error
        );
        assert!(!status.serving && status.role != "primary", "it serves another pair's data: {status:?}");
    }
    let through_a = pair.client(A).get_within("whose", Duration::from_secs(3)).await;
    assert!(through_a.is_err(), "{through_a:?}");
    pair.has_all(B, &ledger).await;
    assert_eq!(pair.client(B).get("whose").await.unwrap(), None);
    assert_eq!(pair.record().await.conf.primary(), B);
}

async fn the_data_of_another_name_or_letter_is_refused(witness: Witness) {
    let mut pair = Pair::start(witness).await;
    let mut ledger = Ledger::default();
    pair.write(A, &mut ledger, 3).await;
    pair.until_in_sync().await;
    pair.soft_stop(B).await;
    let own = pair.config_text(B);
    let wrong_letter =
        own.replace(&pair.data(B).display().to_string(), &pair.dir().join("copy-of-a").display().to_string());
    pair.soft_stop(A).await;
    copy_dir(&pair.data(A), &pair.dir().join("copy-of-a"));
    let wrong_name = own.replace("cluster = \"claims\"", "cluster = \"another\"");
    for (config, words) in [
        (wrong_letter, ["belongs to appliance A", "the configuration says B"]),
        (wrong_name, ["belongs to cluster \"claims\"", "the configuration says \"another\""]),
    ] {
        assert_ne!(config, own);
        std::fs::write(pair.config_path(B), config).unwrap();
        pair.launch(B);
        let end = pair.process(B).wait(PATIENCE).await;
        let told = pair.log(B);
        assert!(end.is_some_and(|status| !status.success()), "it goes on: {told}");
        for word in words {
            assert!(told.contains(word), "{told}");
        }
        pair.ends(B).await;
    }
    std::fs::write(pair.config_path(B), own).unwrap();
    pair.start_both().await;
    pair.converges_with(&ledger).await;
}
