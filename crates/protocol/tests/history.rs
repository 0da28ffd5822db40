//! Entries, positions and the index of a log: density, epochs, digests, runs.

#![allow(clippy::cast_possible_truncation, reason = "a handful of entries")]

use bytes::Bytes;
use duet_protocol::{Digest, Entry, Epoch, LogIndex, Lsn, Position, RecoveredLog};

/// A log of one entry for each given epoch; the command is as long as its LSN.
fn log(epochs: &[u64]) -> (LogIndex, Vec<Entry>) {
    let mut index = LogIndex::new(RecoveredLog { base: Position::EMPTY, stamps: Vec::new() });
    let mut entries = Vec::new();
    for &epoch in epochs {
        let previous = index.last();
        let command = Bytes::from(vec![7; index.last_lsn().0 as usize + 1]);
        let entry = Entry::following(&previous, Epoch(epoch), command);
        index.push(&entry);
        entries.push(entry);
    }
    (index, entries)
}

#[test]
fn a_digest_covers_lsn_epoch_command_and_everything_before() {
    let (_, entries) = log(&[1, 1, 3]);
    let first = entries[0].position();
    assert!(entries[1].follows(&first));
    let changed = [
        Entry { lsn: Lsn(3), ..entries[1].clone() },
        Entry { epoch: Epoch(3), ..entries[1].clone() },
        Entry { command: Bytes::from_static(b"other"), ..entries[1].clone() },
        Entry { digest: Digest::EMPTY, ..entries[1].clone() },
    ];
    for entry in changed {
        assert!(!entry.follows(&first), "{entry:?}");
    }
    assert!(!entries[1].follows(&Position { digest: Digest([1; 16]), ..first }), "another history before it");
    assert!(
        !Entry::following(&entries[2].position(), Epoch(1), Bytes::new()).follows(&entries[2].position())
    );
}

#[test]
#[should_panic(expected = "P5")]
fn an_epoch_that_falls_is_a_violation() {
    let (mut index, entries) = log(&[3]);
    index.push(&Entry::following(&entries[0].position(), Epoch(1), Bytes::new()));
}

#[test]
#[should_panic(expected = "dense")]
fn a_gap_is_a_violation() {
    let (mut index, entries) = log(&[1]);
    let second = Entry::following(&entries[0].position(), Epoch(1), Bytes::new());
    index.push(&Entry::following(&second.position(), Epoch(1), Bytes::new()));
}

#[test]
fn positions_survive_trimming_and_truncation() {
    let (mut index, entries) = log(&[1, 1, 3, 3, 5]);
    assert_eq!(index.last(), entries[4].position());
    index.trim(Lsn(2));
    assert_eq!(index.base(), entries[1].position());
    assert_eq!(index.at(Lsn(1)), None, "trimmed");
    assert_eq!(index.at(Lsn(2)), Some(entries[1].position()));
    assert_eq!(index.at(Lsn(3)), Some(entries[2].position()));
    index.truncate(Lsn(3));
    assert_eq!(index.last(), entries[2].position());
    assert_eq!(index.at(Lsn(4)), None);
    index.truncate(Lsn(2));
    assert_eq!((index.last(), index.last_lsn()), (entries[1].position(), Lsn(2)));
    index.reset(entries[4].position());
    assert_eq!(index.last(), entries[4].position());
}

#[test]
fn the_first_entry_of_an_epoch_is_found() {
    let (index, _) = log(&[1, 1, 3, 3, 3, 5]);
    assert_eq!(index.first_of_epoch_at(Lsn(5)), Lsn(3));
    assert_eq!(index.first_of_epoch_at(Lsn(2)), Lsn(1));
    assert_eq!(index.first_of_epoch_at(Lsn(6)), Lsn(6));
}

#[test]
fn a_run_ends_at_the_count_the_bytes_or_the_end_but_holds_at_least_one_entry() {
    let (mut index, _) = log(&[1; 10]); // entry n has n bytes
    assert_eq!(index.run(Lsn(1), Lsn(10), 100, 1_000), Lsn(10));
    assert_eq!(index.run(Lsn(1), Lsn(4), 100, 1_000), Lsn(4));
    assert_eq!(index.run(Lsn(3), Lsn(10), 2, 1_000), Lsn(4));
    assert_eq!(index.run(Lsn(3), Lsn(10), 100, 3 + 4 + 5), Lsn(5));
    assert_eq!(index.run(Lsn(3), Lsn(10), 100, 3 + 4 + 5 - 1), Lsn(4));
    assert_eq!(index.run(Lsn(9), Lsn(10), 100, 1), Lsn(9), "one entry goes however large");
    assert_eq!(index.run(Lsn(11), Lsn(10), 100, 100), Lsn(10), "nothing left");
    index.trim(Lsn(4));
    assert_eq!(index.run(Lsn(5), Lsn(10), 100, 5 + 6), Lsn(6));
    assert_eq!(index.run(Lsn(4), Lsn(10), 100, 100), Lsn(3), "trimmed");
}
