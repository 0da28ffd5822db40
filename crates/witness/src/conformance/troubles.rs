//! Troubles between an appliance and its witness: whatever happens, nothing is told that is not so.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Backend, record, swapped};
use crate::{BoxFuture, ReadOutcome, Register, WriteOutcome};

/// Deadline of the registers that have trouble.
const DEADLINE: Duration = Duration::from_secs(1);
/// What a call may take longer than its deadline on a busy machine.
const GRACE: Duration = Duration::from_secs(5);
/// After this long a request that came late has been carried out, or never will be.
const UNTIL_LATE_ONES_ARE_DONE: Duration = Duration::from_secs(3);
/// Deadline with which a slow witness is a healthy one.
const PATIENT: Duration = Duration::from_mins(1);

/// A trouble. It begins after the register has read the record once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// The witness carries out what it gets, and its answer is lost.
    ReplyLost,
    /// Requests reach the witness half a second after the deadline of who sent them.
    Late,
    /// Every answer takes two seconds.
    Slow,
    /// The witness says that it has too much to do.
    Throttled,
    /// From the beginning: the witness does not know who asks.
    WrongCredentials,
    /// Who asks may read and not write.
    ReadOnly,
}

/// A witness that can be got into trouble.
pub trait Troubled: Backend {
    /// Opens the register of a cluster with this trouble before it; calls end within `deadline`.
    fn open_troubled(
        &self,
        cluster: &str,
        trouble: Trouble,
        deadline: Duration,
    ) -> BoxFuture<'_, Arc<dyn Register>>;
}

/// Puts the back end through these troubles.
pub async fn run_with_troubles(backend: &dyn Troubled, troubles: &[Trouble]) {
    for trouble in troubles {
        match trouble {
            Trouble::ReplyLost => reply_lost(backend).await,
            Trouble::Late => late(backend).await,
            Trouble::Slow => slow(backend).await,
            Trouble::Throttled | Trouble::WrongCredentials => nothing_is_done(backend, *trouble).await,
            Trouble::ReadOnly => read_only(backend).await,
        }
    }
}

/// A write that was done and not answered is never told as "certainly not done".
async fn reply_lost(backend: &dyn Troubled) {
    let direct = backend.open("lost-reply");
    let lossy = backend.open_troubled("lost-reply", Trouble::ReplyLost, DEADLINE).await;
    let outcome = lossy.create(Bytes::from_static(b"1")).await;
    assert!(!matches!(outcome, WriteOutcome::Mismatch), "it was created");
    let (first, bytes) = record(direct.read().await);
    assert_eq!(bytes, "1");
    let lossy = backend.open_troubled("lost-reply", Trouble::ReplyLost, DEADLINE).await;
    let outcome = lossy.compare_and_set(&first, Bytes::from_static(b"2")).await;
    assert!(!matches!(outcome, WriteOutcome::Mismatch), "it was replaced");
    assert!(!matches!(lossy.read().await, ReadOutcome::Absent), "it is there");
    let (second, bytes) = record(direct.read().await);
    assert_eq!(bytes, "2");
    swapped(direct.compare_and_set(&second, Bytes::from_static(b"3")).await);
}

/// A write that comes late changes nothing once another was done; if it is the first, it counts.
async fn late(backend: &dyn Troubled) {
    let direct = backend.open("late");
    let late = backend.open_troubled("late", Trouble::Late, DEADLINE).await;
    let start = Instant::now();
    expect_unknown(&late.create(Bytes::from_static(b"late")).await);
    assert!(start.elapsed() < DEADLINE + GRACE, "{:?}", start.elapsed());
    let mut version = match direct.create(Bytes::from_static(b"1")).await {
        WriteOutcome::Swapped(version) => version,
        WriteOutcome::Mismatch => record(direct.read().await).0,
        WriteOutcome::Unknown(reason) => panic!("a healthy witness answers: {reason}"),
    };
    for bytes in ["2", "3"] {
        let late = backend.open_troubled("late", Trouble::Late, DEADLINE).await;
        expect_unknown(&late.compare_and_set(&version, Bytes::from_static(b"late")).await);
        match direct.compare_and_set(&version, Bytes::from(bytes)).await {
            WriteOutcome::Swapped(next) => {
                tokio::time::sleep(UNTIL_LATE_ONES_ARE_DONE).await;
                assert_eq!(record(direct.read().await), (next.clone(), Bytes::from(bytes)), "it is too late");
                version = next;
            }
            WriteOutcome::Mismatch => {
                let (next, found) = record(direct.read().await);
                assert_eq!(found, "late", "nobody else writes");
                version = next;
            }
            WriteOutcome::Unknown(reason) => panic!("a healthy witness answers: {reason}"),
        }
    }
    let late = backend.open_troubled("late", Trouble::Late, DEADLINE).await;
    expect_unknown(&late.compare_and_set(&version, Bytes::from_static(b"late")).await);
    tokio::time::sleep(UNTIL_LATE_ONES_ARE_DONE).await;
    let (now, bytes) = record(direct.read().await);
    assert_eq!(now != version, bytes == "late", "done as a whole or not at all");
    swapped(direct.compare_and_set(&now, Bytes::from_static(b"4")).await);
}

/// Who cannot wait is told that nothing is known, in time; who can gets the right answer.
async fn slow(backend: &dyn Troubled) {
    let direct = backend.open("slow");
    let version = swapped(direct.create(Bytes::from_static(b"1")).await);
    let hasty = backend.open_troubled("slow", Trouble::Slow, DEADLINE).await;
    let start = Instant::now();
    assert!(matches!(hasty.read().await, ReadOutcome::Unknown(_)));
    expect_unknown(&hasty.compare_and_set(&version, Bytes::from_static(b"2")).await);
    assert!(start.elapsed() < 2 * (DEADLINE + GRACE), "{:?}", start.elapsed());
    tokio::time::sleep(UNTIL_LATE_ONES_ARE_DONE).await;
    let (version, _) = record(direct.read().await);
    let patient = backend.open_troubled("slow", Trouble::Slow, PATIENT).await;
    let next = swapped(patient.compare_and_set(&version, Bytes::from_static(b"3")).await);
    assert_eq!(record(direct.read().await), (next, Bytes::from_static(b"3")));
}

/// Nothing is read, nothing written, and it is told so.
async fn nothing_is_done(backend: &dyn Troubled, trouble: Trouble) {
    let cluster = format!("{trouble:?}");
    let direct = backend.open(&cluster);
    let version = swapped(direct.create(Bytes::from_static(b"1")).await);
    let register = backend.open_troubled(&cluster, trouble, DEADLINE).await;
    let read = register.read().await;
    assert!(matches!(read, ReadOutcome::Unknown(_)), "{trouble:?}: {read:?}");
    expect_unknown(&register.create(Bytes::from_static(b"x")).await);
    expect_unknown(&register.compare_and_set(&version, Bytes::from_static(b"x")).await);
    assert_eq!(record(direct.read().await), (version, Bytes::from_static(b"1")));
}

async fn read_only(backend: &dyn Troubled) {
    let direct = backend.open("read-only");
    let version = swapped(direct.create(Bytes::from_static(b"1")).await);
    let register = backend.open_troubled("read-only", Trouble::ReadOnly, DEADLINE).await;
    assert_eq!(record(register.read().await), (version.clone(), Bytes::from_static(b"1")));
    expect_unknown(&register.create(Bytes::from_static(b"x")).await);
    expect_unknown(&register.compare_and_set(&version, Bytes::from_static(b"x")).await);
    assert_eq!(record(direct.read().await), (version, Bytes::from_static(b"1")));
}

fn expect_unknown(outcome: &WriteOutcome) {
    assert!(matches!(outcome, WriteOutcome::Unknown(_)), "nothing can be known: {outcome:?}");
}
