//! Linearizable by revisions. The order of the revisions is one order of all operations: the write of a revision, then
//! the reads at it. It must agree with real time: whatever began after another had been answered comes after it.
//!
//! A write, moreover, comes after everything that anybody in whatever way had seen before it was asked.

use crate::history::History;
use crate::observed::Observed;
use crate::operation::Operation;
use crate::violation::{Verdict, Violation};
use crate::writes::{Cause, Causes};

pub(crate) fn check(history: &History, causes: &Causes) -> Verdict {
    let observed = Observed::of(history);
    for operation in &history.operations {
        check_read(operation, &observed)?;
    }
    for (revision, cause) in causes.iter() {
        if let Cause::Operation(index) = cause {
            check_write(&history.operations[index], revision, &observed)?;
        }
    }
    Ok(())
}

fn check_read(operation: &Operation, observed: &Observed<'_>) -> Verdict {
    let Some((_, answer)) = operation.acknowledged() else { return Ok(()) };
    if !operation.is_linearizable() || operation.has_written() {
        return Ok(());
    }
    match observed.linear_before(operation.invoked) {
        Some(floor) if floor.revision > answer.revision() => {
            let sentence = format!("{operation} began after {} was answered, and is older", floor.seen_by);
            Err(Violation::new("no stale answer", sentence))
        }
        _ => Ok(()),
    }
}

fn check_write(operation: &Operation, revision: i64, observed: &Observed<'_>) -> Verdict {
    match observed.seen_before(operation.invoked) {
        Some(floor) if floor.revision >= revision => {
            let (seen, by) = (floor.revision, floor.seen_by);
            let sentence = format!(
                "{operation} wrote revision {revision}, but revision {seen} was seen before it began: {by}"
            );
            Err(Violation::new("revisions follow real time", sentence))
        }
        _ => Ok(()),
    }
}
