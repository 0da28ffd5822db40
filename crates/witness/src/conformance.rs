//! The one suite that every back end passes, for its tests: what the protocol relies on, and nothing else.
//!
//! [`run`] panics at the first broken promise. It expects a healthy witness: `Unknown` is a failure here, so
//! give the registers a generous deadline. [`run_with_troubles`] brings troubles in between that a witness far away has;
//! what else can go wrong is tested back end by back end.

mod troubles;

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

pub use self::troubles::{Trouble, Troubled, run_with_troubles};
use crate::register::MAX_RECORD_BYTES;
use crate::{BoxFuture, ReadOutcome, Register, Version, WriteOutcome};

/// Writers that race for one record.
const WRITERS: usize = 6;
/// Increments that each of them must bring about.
const INCREMENTS: usize = 8;

/// One witness under test.
pub trait Backend: Send + Sync {
    /// Opens the register of a cluster, each time with a connection or handle of its own.
    fn open(&self, cluster: &str) -> Arc<dyn Register>;

    /// Stops the witness and starts it again on what it had stored.
    fn restart(&self) -> BoxFuture<'_, ()>;

    /// Loses everything, as when the witness gets a blank disk; then it runs again.
    fn wipe(&self) -> BoxFuture<'_, ()>;
}

/// Puts the back end through everything.
pub async fn run(backend: &dyn Backend) {
    creates_once(backend).await;
    replaces_only_what_was_read(backend).await;
    equal_contents_are_different_records(backend).await;
    clusters_are_independent(backend).await;
    refuses_oversized_records(backend).await;
    counts_racing_increments_exactly(backend).await;
    only_one_of_racing_creators_wins(backend).await;
    reads_what_was_written(backend).await;
    keeps_the_record_over_a_restart(backend).await;
    old_versions_are_void_after_a_wipe(backend).await;
}

/// Absent, then created once; a second create changes nothing.
async fn creates_once(backend: &dyn Backend) {
    let register = backend.open("creates-once");
    assert!(!register.describe().is_empty(), "a register says where it is");
    assert_eq!(register.read().await, ReadOutcome::Absent, "a fresh name has no record");
    let stranger = Version::new("0123456789abcdef0123456789abcdef");
    assert_eq!(
        register.compare_and_set(&stranger, Bytes::from_static(b"x")).await,
        WriteOutcome::Mismatch,
        "a compare-and-set never creates"
    );
    assert_eq!(register.read().await, ReadOutcome::Absent);
    let version = swapped(register.create(Bytes::from_static(b"one")).await);
    assert_eq!(record(register.read().await), (version.clone(), Bytes::from_static(b"one")));
    assert_eq!(register.create(Bytes::from_static(b"one")).await, WriteOutcome::Mismatch);
    let other = backend.open("creates-once");
    assert_eq!(other.create(Bytes::from_static(b"two")).await, WriteOutcome::Mismatch);
    assert_eq!(record(other.read().await), (version, Bytes::from_static(b"one")));
}

/// A fresh version is accepted, a stale one refused, and each write is read by everybody at once.
async fn replaces_only_what_was_read(backend: &dyn Backend) {
    let (mine, yours) = (backend.open("replaces"), backend.open("replaces"));
    let first = swapped(mine.create(Bytes::from_static(b"1")).await);
    let second = swapped(yours.compare_and_set(&first, Bytes::from_static(b"2")).await);
    assert_eq!(mine.compare_and_set(&first, Bytes::from_static(b"3")).await, WriteOutcome::Mismatch);
    assert_eq!(record(mine.read().await), (second.clone(), Bytes::from_static(b"2")));
    let third = swapped(mine.compare_and_set(&second, Bytes::new()).await);
    assert_eq!(record(yours.read().await), (third, Bytes::new()), "an empty record is a record");
}

/// The ABA trap: the content of the first write comes back, its version does not.
async fn equal_contents_are_different_records(backend: &dyn Backend) {
    let register = backend.open("aba");
    let (a, b) = (Bytes::from_static(b"a"), Bytes::from_static(b"b"));
    let first = swapped(register.create(a.clone()).await);
    let second = swapped(register.compare_and_set(&first, b).await);
    let third = swapped(register.compare_and_set(&second, a.clone()).await);
    let fourth = swapped(register.compare_and_set(&third, a.clone()).await);
    let versions = HashSet::from([first.clone(), second.clone(), third.clone(), fourth]);
    assert_eq!(versions.len(), 4, "no version is ever used twice");
    for stale in [first, second, third] {
        assert_eq!(register.compare_and_set(&stale, a.clone()).await, WriteOutcome::Mismatch);
    }
}

/// Two pairs on one witness do not see each other, and a version of one means nothing to the other.
async fn clusters_are_independent(backend: &dyn Backend) {
    let (left, right) = (backend.open("left"), backend.open("right"));
    let version = swapped(left.create(Bytes::from_static(b"left")).await);
    assert_eq!(right.read().await, ReadOutcome::Absent);
    swapped(right.create(Bytes::from_static(b"right")).await);
    assert_eq!(right.compare_and_set(&version, Bytes::from_static(b"x")).await, WriteOutcome::Mismatch);
    assert_eq!(record(left.read().await).1, Bytes::from_static(b"left"));
    assert_eq!(record(right.read().await).1, Bytes::from_static(b"right"));
}

/// A record at the limit is stored, one above it is not, and does no harm.
async fn refuses_oversized_records(backend: &dyn Backend) {
    let register = backend.open("oversized");
    let (full, over) = (vec![0xa5; MAX_RECORD_BYTES], vec![0; MAX_RECORD_BYTES + 1]);
    let refused = register.create(Bytes::from(over.clone())).await;
    assert!(matches!(refused, WriteOutcome::Unknown(_)), "{refused:?}");
    assert_eq!(register.read().await, ReadOutcome::Absent);
    let version = swapped(register.create(Bytes::from(full.clone())).await);
    let refused = register.compare_and_set(&version, Bytes::from(over)).await;
    assert!(matches!(refused, WriteOutcome::Unknown(_)), "{refused:?}");
    assert_eq!(record(register.read().await), (version, Bytes::from(full)));
}

/// Each `Swapped` counts exactly once: no lost update, no success told twice.
async fn counts_racing_increments_exactly(backend: &dyn Backend) {
    swapped(backend.open("race").create(Bytes::from_static(b"0")).await);
    let writers: Vec<_> =
        (0..WRITERS).map(|_| tokio::spawn(increment(backend.open("race"), INCREMENTS))).collect();
    let mut versions = HashSet::new();
    for writer in writers {
        let Ok(swaps) = writer.await else { panic!("a writer panicked") };
        for version in swaps {
            assert!(versions.insert(version), "no version is ever used twice");
        }
    }
    assert_eq!(versions.len(), WRITERS * INCREMENTS);
    assert_eq!(count(&record(backend.open("race").read().await).1), WRITERS * INCREMENTS);
}

/// Brings about `times` increments and returns the versions they made.
async fn increment(register: Arc<dyn Register>, times: usize) -> Vec<Version> {
    let mut versions = Vec::new();
    while versions.len() < times {
        let (expected, bytes) = record(register.read().await);
        let next = Bytes::from((count(&bytes) + 1).to_string());
        match register.compare_and_set(&expected, next).await {
            WriteOutcome::Swapped(version) => versions.push(version),
            WriteOutcome::Mismatch => {}
            WriteOutcome::Unknown(reason) => panic!("a healthy witness answers: {reason}"),
        }
    }
    versions
}

/// However many try to create at once, one does.
async fn only_one_of_racing_creators_wins(backend: &dyn Backend) {
    let creators: Vec<_> = (0..WRITERS)
        .map(|number| {
            let register = backend.open("creators");
            tokio::spawn(async move { (number, register.create(Bytes::from(number.to_string())).await) })
        })
        .collect();
    let mut winners = Vec::new();
    for creator in creators {
        match creator.await {
            Ok((number, WriteOutcome::Swapped(version))) => winners.push((version, number)),
            Ok((_, WriteOutcome::Mismatch)) => {}
            other => panic!("a healthy witness answers: {other:?}"),
        }
    }
    assert_eq!(winners.len(), 1, "exactly one creator wins: {winners:?}");
    let (version, bytes) = record(backend.open("creators").read().await);
    assert_eq!((version, count(&bytes)), winners[0]);
}

/// Whoever writes reads its own write at once, and so does everybody else.
async fn reads_what_was_written(backend: &dyn Backend) {
    let (mine, yours) = (backend.open("own"), backend.open("own"));
    let mut version = swapped(mine.create(Bytes::from_static(b"0")).await);
    for number in 1..=10 {
        let bytes = Bytes::from(number.to_string());
        version = swapped(mine.compare_and_set(&version, bytes.clone()).await);
        assert_eq!(record(mine.read().await), (version.clone(), bytes.clone()));
        assert_eq!(record(yours.read().await), (version.clone(), bytes));
    }
}

/// What was answered is stored, with its version.
async fn keeps_the_record_over_a_restart(backend: &dyn Backend) {
    let register = backend.open("restart");
    let first = swapped(register.create(Bytes::from_static(b"1")).await);
    let second = swapped(register.compare_and_set(&first, Bytes::from_static(b"2")).await);
    drop(register);
    backend.restart().await;
    let register = backend.open("restart");
    assert_eq!(record(register.read().await), (second.clone(), Bytes::from_static(b"2")));
    assert_eq!(register.compare_and_set(&first, Bytes::from_static(b"x")).await, WriteOutcome::Mismatch);
    swapped(register.compare_and_set(&second, Bytes::from_static(b"3")).await);
    backend.restart().await;
    assert_eq!(record(backend.open("restart").read().await).1, Bytes::from_static(b"3"));
}

/// A compare-and-set computed before the witness was wiped must not succeed on the record made since.
async fn old_versions_are_void_after_a_wipe(backend: &dyn Backend) {
    let same = Bytes::from_static(b"same");
    let before = swapped(backend.open("wiped").create(same.clone()).await);
    backend.wipe().await;
    let register = backend.open("wiped");
    assert_eq!(register.read().await, ReadOutcome::Absent, "a wiped witness holds nothing");
    assert_eq!(register.compare_and_set(&before, same.clone()).await, WriteOutcome::Mismatch);
    let after = swapped(register.create(same.clone()).await);
    assert_ne!(before, after);
    assert_eq!(register.compare_and_set(&before, Bytes::from_static(b"x")).await, WriteOutcome::Mismatch);
    assert_eq!(record(register.read().await), (after, same));
}

fn record(outcome: ReadOutcome) -> (Version, Bytes) {
    match outcome {
        ReadOutcome::Record { version, bytes } => (version, bytes),
        other => panic!("expected a record, got {other:?}"),
    }
}

fn swapped(outcome: WriteOutcome) -> Version {
    match outcome {
        WriteOutcome::Swapped(version) => version,
        other => panic!("expected the write to be done, got {other:?}"),
    }
}

fn count(bytes: &[u8]) -> usize {
    let number = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
    let Some(number) = number else { panic!("not the number that was written: {bytes:?}") };
    number
}
