//! What was compacted is gone: once a compaction was acknowledged nobody reads an earlier state.
//!
//! That the answers before are right is told by `answers.rs`, whether revisions are compacted or not; that both appliances
//! have forgotten the same by their hashes, in `copies.rs`.

use crate::Time;
use crate::history::History;
use crate::operation::{Operation, Outcome, Request};
use crate::violation::{Verdict, Violation};

/// Compactions that may have been done, whether that was heard or not.
pub(crate) struct Compactions(Vec<(Time, i64)>);

/// Those of a history.
pub(crate) fn that_may_be_done(history: &History) -> Compactions {
    let compaction = |operation: &Operation| match (&operation.request, &operation.outcome) {
        (_, Outcome::Failed { .. }) => None,
        (Request::Compact { revision }, _) => Some((operation.invoked, *revision)),
        _ => None,
    };
    Compactions(history.operations.iter().filter_map(compaction).collect())
}

impl Compactions {
    /// Whether the state after a revision may be gone at `at`.
    pub(crate) fn may_have_taken(&self, revision: i64, at: Time) -> bool {
        self.0.iter().any(|(invoked, compacted)| *compacted > revision && *invoked < at)
    }
}

pub(crate) fn check(history: &History) -> Verdict {
    // By the time at which they were acknowledged, each higher than all before.
    let mut compactions: Vec<(Time, i64, &Operation)> = Vec::new();
    let acknowledged = |operation: &'_ Operation| match operation.request {
        Request::Compact { revision } => operation.acknowledged().map(|(at, _)| (at, revision)),
        _ => None,
    };
    let mut all: Vec<_> = history
        .operations
        .iter()
        .filter_map(|operation| Some((acknowledged(operation)?, operation)))
        .collect();
    all.sort_by_key(|(when, _)| *when);
    for ((at, revision), operation) in all {
        if compactions.last().is_none_or(|(_, last, _)| revision > *last) {
            compactions.push((at, revision, operation));
        }
    }
    for operation in &history.operations {
        let Request::Past { revision, .. } = operation.request else { continue };
        let later = compactions.partition_point(|(at, ..)| *at < operation.invoked);
        let before = later.checked_sub(1).map(|last| &compactions[last]);
        if let Some((_, floor, compaction)) = before.filter(|(_, floor, _)| revision < *floor)
            && operation.acknowledged().is_some()
        {
            let sentence = format!("{operation} was answered after {compaction}: it is below {floor}");
            return Err(Violation::new("what was compacted is gone", sentence));
        }
    }
    Ok(())
}
