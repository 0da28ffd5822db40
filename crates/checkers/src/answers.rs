//! An answer is the state at the revision it names: what a read found, whether conditions held, how many keys were deleted.
//!
//! An answer that wrote was computed on the revision before its own, any other on its own.

use crate::history::History;
use crate::operation::{Answer, Operation, Request};
use crate::truth::Truth;
use crate::txn::{Step, StepAnswer, Txn, carry_out};
use crate::violation::{Verdict, Violation};

const PROMISE: &str = "answers are the state at their revision";

pub(crate) fn check(history: &History, truth: &Truth) -> Verdict {
    history.operations.iter().try_for_each(|operation| check_one(operation, truth))
}

fn check_one(operation: &Operation, truth: &Truth) -> Verdict {
    let Some((_, answer)) = operation.acknowledged() else { return Ok(()) };
    if answer.revision() > truth.revision() {
        let last = truth.revision();
        return Err(Violation::new(
            PROMISE,
            format!("{operation} names a revision above the last one, {last}"),
        ));
    }
    match (&operation.request, answer) {
        (Request::Txn(txn), Answer::Txn { revision, succeeded, steps }) => {
            let base = revision - i64::from(operation.has_written());
            judge(operation, txn, truth, (base, *revision), (*succeeded, steps))
        }
        (Request::Serializable(txn), Answer::Txn { revision, succeeded, steps }) => {
            if operation.has_written() {
                return Err(Violation::new(PROMISE, format!("{operation} has written")));
            }
            judge(operation, txn, truth, (*revision, *revision), (*succeeded, steps))
        }
        (Request::Past { keys, revision }, Answer::Txn { succeeded, steps, .. }) => {
            let get = Txn::of(Step::Get(keys.clone()));
            judge(operation, &get, truth, (*revision, *revision), (*succeeded, steps))
        }
        (Request::Compact { .. }, Answer::Compacted { .. })
        | (
            Request::Grant { .. } | Request::KeepAlive { .. } | Request::Revoke { .. },
            Answer::Lease { .. },
        ) => Ok(()),
        _ => Err(Violation::new(PROMISE, format!("{operation} got the answer to another question"))),
    }
}

fn judge(
    operation: &Operation,
    txn: &Txn,
    truth: &Truth,
    (base, revision): (i64, i64),
    (succeeded, steps): (bool, &Vec<StepAnswer>),
) -> Verdict {
    let done = carry_out(txn, &truth.moment(base), revision);
    if done.succeeded != succeeded {
        let did = if done.succeeded { "held" } else { "did not hold" };
        return Err(Violation::new(
            PROMISE,
            format!("{operation}, but the conditions {did} at revision {base}"),
        ));
    }
    if done.answers.len() != steps.len() {
        return Err(Violation::new(PROMISE, format!("{operation} does not answer each step")));
    }
    for (right, given) in done.answers.iter().zip(steps) {
        if right != given {
            let sentence = format!("{operation}, but at revision {base} it is: {right}");
            return Err(Violation::new(PROMISE, sentence));
        }
    }
    Ok(())
}
