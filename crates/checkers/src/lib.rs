//! Judges what a pair did by what was seen of it: pure functions from a recorded [`History`] to the first promise that was
//! broken, in a sentence that names the operations.
//!
//! Whoever records - the chaos test with real processes, the simulation - fills in a [`History`] and calls [`check`]. Each
//! promise has a file of its own:
//!
//! | promise | file |
//! |---|---|
//! | revisions are dense, versions and create revisions follow from the changes | `truth.rs` |
//! | acknowledged writes are there, failed ones never, unknown ones at most once | `writes.rs` |
//! | every answer is the state at the revision it names | `answers.rs` |
//! | what was compacted is gone | `compactions.rs` |
//! | revisions never go against real time: linearizable | `real_time.rs` |
//! | the same without believing any revision, for small histories | `linearizability.rs` |
//! | watches: ordered, gapless, nothing twice, nothing that never happened | `watches.rs` |
//! | leases: never expired early, never for ever | `leases.rs` |
//! | equal data at equal LSNs and revisions, dense LSNs | `copies.rs` |
//!
//! A linearizable history has one order of all operations that agrees with real time and explains every answer. etcd's
//! revisions name that order, so it need not be searched: it is checked in time linear in the history (and a sort). Because
//! that believes the revisions, [`linearizability`] searches the order from values alone, for as long as it may.

mod answers;
mod compactions;
mod copies;
mod history;
mod leases;
pub mod linearizability;
mod matching;
mod observed;
mod operation;
mod real_time;
mod truth;
mod txn;
mod violation;
mod watches;
mod writes;

pub use history::{Applied, Change, ChangeKind, DataHash, History, Quiet, Report, Watch, WatchEvent};
pub use operation::{Answer, Operation, Outcome, Request};
pub use truth::{KeyValue, Truth};
pub use txn::{Compare, Condition, Keys, Number, Step, StepAnswer, Txn};
pub use violation::Violation;
pub use writes::{Cause, Causes};

/// A moment, in nanoseconds of the recorder's own clock. One clock for the whole history.
pub type Time = u64;

/// Judges everything there is in `history`; the first broken promise of each kind.
///
/// What rests on a broken promise is not judged: without a sound truth there is nothing to compare with.
pub fn check(history: &History) -> Vec<Violation> {
    let mut found: Vec<Violation> = copies::check(history).err().into_iter().collect();
    let truth = match Truth::of(&history.changes) {
        Ok(truth) => truth,
        Err(violation) => {
            found.push(violation);
            return found;
        }
    };
    found.extend(answers::check(history, &truth).err());
    found.extend(compactions::check(history).err());
    found.extend(watches::check(history, &truth).err());
    match writes::causes(history, &truth) {
        Ok(causes) => {
            found.extend(real_time::check(history, &causes).err());
            found.extend(leases::check(history, &truth, &causes).err());
        }
        Err(violation) => found.push(violation),
    }
    found
}
