//! What was acknowledged is there, once, at the revision the client was told; what failed is nowhere; what nobody knows is
//! there at most once. Seen the other way round: every change of the data has exactly one cause.
//!
//! An acknowledged write names its revision. The changes left over must be done by writes of unknown outcome and by leases
//! that ended, each at most once: a matching.

use std::collections::BTreeMap;

use crate::history::{Change, ChangeKind, History};
use crate::leases;
use crate::matching::Matching;
use crate::observed::Observed;
use crate::operation::{Answer, Operation, Outcome, Request};
use crate::truth::Truth;
use crate::txn::{Done, Step, carry_out};
use crate::violation::{Verdict, Violation};

/// Why a revision is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The operation with this index.
    Operation(usize),
    /// This lease ran out.
    Expiry(i64),
}

/// The cause of every revision.
#[derive(Clone, Debug, Default)]
pub struct Causes(BTreeMap<i64, Cause>);

impl Causes {
    /// Revisions and their causes.
    pub fn iter(&self) -> impl Iterator<Item = (i64, Cause)> {
        self.0.iter().map(|(revision, cause)| (*revision, *cause))
    }

    /// Each lease that ran out, and the revision at which it took its keys along.
    pub(crate) fn expiries(&self) -> impl Iterator<Item = (i64, i64)> {
        self.iter().filter_map(|(revision, cause)| match cause {
            Cause::Expiry(lease) => Some((revision, lease)),
            Cause::Operation(_) => None,
        })
    }
}

/// The cause of every change.
pub(crate) fn causes(history: &History, truth: &Truth) -> Result<Causes, Violation> {
    let mut causes = Causes::default();
    for (index, operation) in history.operations.iter().enumerate() {
        if operation.has_written() {
            claim(&mut causes, history, truth, index)?;
        }
    }
    explain_the_rest(&mut causes, history, truth)?;
    Ok(causes)
}

/// An acknowledged write takes the revision it was told.
fn claim(causes: &mut Causes, history: &History, truth: &Truth, index: usize) -> Verdict {
    let operation = &history.operations[index];
    let Some((_, answer)) = operation.acknowledged() else { return Ok(()) };
    let Request::Txn(txn) = &operation.request else { return Ok(()) };
    let revision = answer.revision();
    let changes = truth.changes_at(revision);
    if !is_done(&carry_out(txn, &truth.moment(revision - 1), revision), changes) {
        return Err(Violation::new(
            "no acknowledged write is lost",
            format!("{operation}, but {}", there(revision, changes)),
        ));
    }
    if let Some(Cause::Operation(other)) = causes.0.insert(revision, Cause::Operation(index)) {
        let sentence =
            format!("{operation} and {} were both told revision {revision}", history.operations[other]);
        return Err(Violation::new("one write a revision", sentence));
    }
    Ok(())
}

/// Whether these changes are what was done.
fn is_done(done: &Done, changes: &[Change]) -> bool {
    done.effects.len() == changes.len()
        && done.effects.iter().zip(changes).all(|((key, now), change)| match (now, &change.kind) {
            (Some(now), ChangeKind::Put(put)) => *key == change.key && now == put,
            (None, ChangeKind::Delete) => *key == change.key,
            _ => false,
        })
}

/// What a revision holds, in words.
fn there(revision: i64, changes: &[Change]) -> String {
    if changes.is_empty() {
        return format!("there is no revision {revision}");
    }
    let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
    format!("what is there is {}", changes.join(" and "))
}

/// Who may have done what nobody was told of.
#[derive(Clone, Copy)]
enum Suspect {
    Operation(usize),
    Expiry(i64),
}

fn explain_the_rest(causes: &mut Causes, history: &History, truth: &Truth) -> Verdict {
    let open: Vec<(i64, &[Change])> =
        truth.revisions().filter(|(revision, _)| !causes.0.contains_key(revision)).collect();
    let suspects = suspects(history, truth);
    let case = Case { history, truth, observed: Observed::of(history) };
    let edges = |may_be_wrong: bool| -> Vec<Vec<usize>> {
        let may = |revision: i64, changes: &[Change]| {
            let fits = |suspect: &Suspect| case.may_have_done(*suspect, revision, changes, may_be_wrong);
            (0..suspects.len()).filter(|index| fits(&suspects[*index])).collect()
        };
        open.iter().map(|(revision, changes)| may(*revision, changes)).collect()
    };
    let mut matching = Matching::new(open.len(), suspects.len());
    matching.grow(&edges(false));
    // A lease that ended too early, or came back, is a cause all the same if there is no other; `leases` says what is wrong
    // with it.
    let late = edges(true);
    matching.grow(&late);
    for (index, (revision, changes)) in open.iter().enumerate() {
        let Some(partner) = matching.partner(index) else {
            let used = late[index].first().and_then(|suspect| {
                let other = matching.partner_of_right(*suspect)?;
                Some((suspects[*suspect], open[other].0))
            });
            return Err(unexplained(history, truth, (*revision, changes), used));
        };
        let cause = match suspects[partner] {
            Suspect::Operation(index) => Cause::Operation(index),
            Suspect::Expiry(lease) => Cause::Expiry(lease),
        };
        causes.0.insert(*revision, cause);
    }
    Ok(())
}

fn suspects(history: &History, truth: &Truth) -> Vec<Suspect> {
    let unknown = |operation: &Operation| match (&operation.request, &operation.outcome) {
        (Request::Txn(txn), Outcome::Unknown) => txn.steps().any(|step| !matches!(step, Step::Get(_))),
        (Request::Revoke { .. }, Outcome::Unknown | Outcome::Acknowledged { .. }) => true,
        _ => false,
    };
    let operations = (0..history.operations.len()).filter(|index| unknown(&history.operations[*index]));
    let leases = leases::in_use(truth);
    operations.map(Suspect::Operation).chain(leases.into_iter().map(Suspect::Expiry)).collect()
}

struct Case<'a> {
    history: &'a History,
    truth: &'a Truth,
    observed: Observed<'a>,
}

impl Case<'_> {
    fn may_have_done(&self, suspect: Suspect, revision: i64, changes: &[Change], may_be_wrong: bool) -> bool {
        match suspect {
            Suspect::Operation(index) => {
                self.operation_may(&self.history.operations[index], revision, changes)
            }
            Suspect::Expiry(lease) => {
                ends_lease(self.truth, lease, revision, changes)
                    && (may_be_wrong
                        || leases::early(self.history, &self.observed, lease, revision).is_none()
                            && leases::used_after(self.truth, lease, revision).is_none())
            }
        }
    }

    fn operation_may(&self, operation: &Operation, revision: i64, changes: &[Change]) -> bool {
        let told = operation.acknowledged().map(|(_, answer)| answer.revision());
        let fits = match &operation.request {
            Request::Txn(txn) => {
                is_done(&carry_out(txn, &self.truth.moment(revision - 1), revision), changes)
            }
            Request::Revoke { lease } => ends_lease(self.truth, *lease, revision, changes),
            _ => false,
        };
        fits && told.is_none_or(|told| told >= revision)
            && self.observed.seen_before(operation.invoked).is_none_or(|floor| floor.revision < revision)
    }
}

/// Whether these changes delete every key of the lease and nothing else.
fn ends_lease(truth: &Truth, lease: i64, revision: i64, changes: &[Change]) -> bool {
    let mut deleted: Vec<&str> = Vec::new();
    for change in changes {
        if change.kind != ChangeKind::Delete {
            return false;
        }
        deleted.push(&change.key);
    }
    deleted.sort_unstable();
    // Cheap before exact: this is asked for every open revision and every lease.
    let lives = |key: &&str| truth.at(key, revision - 1).is_some_and(|held| held.lease == lease);
    deleted.first().is_some_and(lives) && deleted == truth.attached(lease, revision - 1)
}

/// The sentence for a change that nobody can have made.
fn unexplained(
    history: &History,
    truth: &Truth,
    (revision, changes): (i64, &[Change]),
    used: Option<(Suspect, i64)>,
) -> Violation {
    let there = there(revision, changes);
    if let Some((Suspect::Operation(index), other)) = used {
        let sentence =
            format!("{there}, but {} was done at revision {other} already", history.operations[index]);
        return Violation::new("no write is done twice", sentence);
    }
    let did = |operation: &&Operation| match &operation.request {
        Request::Txn(txn) => is_done(&carry_out(txn, &truth.moment(revision - 1), revision), changes),
        _ => false,
    };
    let culprit = history.operations.iter().find(did);
    match culprit {
        Some(operation) if matches!(operation.outcome, Outcome::Failed { .. }) => {
            Violation::new("no failed write appears", format!("{there}, by {operation}"))
        }
        Some(operation)
            if matches!(operation.outcome, Outcome::Acknowledged { answer: Answer::Txn { .. }, .. }) =>
        {
            Violation::new("no write is done twice", format!("{there}, as if {operation} were done again"))
        }
        Some(operation) => {
            Violation::new("revisions follow real time", format!("{there}, seen before {operation} began"))
        }
        None => Violation::new("every change has a cause", format!("{there}, and no operation explains it")),
    }
}
