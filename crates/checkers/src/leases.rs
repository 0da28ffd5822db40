//! Leases: the keys of a lease stay until its time is over, and not for ever.
//!
//! An acknowledged grant or renewal took place after it was asked, so the lease lives at least for its time to live from
//! then. When it ended is known from the other side: before anybody saw it.

use std::collections::BTreeSet;

use crate::Time;
use crate::history::{Change, ChangeKind, History};
use crate::observed::Observed;
use crate::operation::{Answer, Operation, Outcome, Request, moment};
use crate::truth::Truth;
use crate::violation::{Verdict, Violation};
use crate::writes::Causes;

const SECOND: Time = 1_000_000_000;
/// Of a hundred: by so much the clocks of recorder and appliance may differ in rate (docs/protocol.md, limits of the proof).
const CLOCK_PERCENT: Time = 2;
/// After its time a lease must be gone within this: the primary looks every half second, and a test machine is busy.
const GRACE: Time = 10 * SECOND;

pub(crate) fn check(history: &History, truth: &Truth, causes: &Causes) -> Verdict {
    let observed = Observed::of(history);
    for (revision, lease) in causes.expiries() {
        if let Some(sentence) = early(history, &observed, lease, revision) {
            return Err(Violation::new("no lease ends early", sentence));
        }
        nothing_after(truth, lease, revision, "ran out")?;
    }
    for operation in &history.operations {
        check_revoked(history, operation, truth)?;
    }
    check_for_ever(history, truth)
}

/// Every lease that some key lived by.
pub(crate) fn in_use(truth: &Truth) -> BTreeSet<i64> {
    let leases = truth.revisions().flat_map(|(_, changes)| changes).filter_map(lease_of);
    leases.collect()
}

fn lease_of(change: &Change) -> Option<i64> {
    match &change.kind {
        ChangeKind::Put(now) => Some(now.lease).filter(|lease| *lease != 0),
        ChangeKind::Delete => None,
    }
}

/// Grants and renewals of a lease, each with the time to live it gave.
fn renewals(history: &History, lease: i64) -> impl Iterator<Item = (&Operation, Time)> {
    history.operations.iter().filter_map(move |operation| {
        let asked = match &operation.request {
            Request::Grant { lease, .. } | Request::KeepAlive { lease } => *lease,
            _ => return None,
        };
        match operation.acknowledged()? {
            (_, Answer::Lease { ttl: Some(ttl), .. }) if asked == lease => {
                Some((operation, u64::try_from(*ttl).unwrap_or(0) * SECOND))
            }
            _ => None,
        }
    })
}

/// The sentence, if the lease that ended at `revision` was seen gone before its time.
pub(crate) fn early(history: &History, observed: &Observed<'_>, lease: i64, revision: i64) -> Option<String> {
    let (seen, by) = observed.first_seen(revision)?;
    renewals(history, lease).find_map(|(operation, ttl)| {
        let least = operation.invoked + ttl - ttl / 100 * CLOCK_PERCENT;
        (seen < least).then(|| {
            let (seen, least) = (moment(seen), moment(least));
            format!("lease {lease} ended at revision {revision}, seen at {seen} by {by}, but lives until {least} by {operation}")
        })
    })
}

/// The first key that is put under the lease after its end.
pub(crate) fn used_after(truth: &Truth, lease: i64, end: i64) -> Option<&Change> {
    let mut changes = truth.revisions().flat_map(|(_, changes)| changes);
    changes.find(|change| change.revision > end && lease_of(change) == Some(lease))
}

fn nothing_after(truth: &Truth, lease: i64, end: i64, how: &str) -> Verdict {
    match used_after(truth, lease, end) {
        Some(change) => {
            let sentence = format!("lease {lease} {how} at revision {end}, but {change}");
            Err(Violation::new("no lease comes back", sentence))
        }
        None => Ok(()),
    }
}

/// A revoked lease has no keys, gets none, and is not renewed.
fn check_revoked(history: &History, operation: &Operation, truth: &Truth) -> Verdict {
    let Request::Revoke { lease } = operation.request else { return Ok(()) };
    let Some((at, answer)) = operation.acknowledged() else { return Ok(()) };
    let end = answer.revision();
    if let Some(key) = truth.attached(lease, end).first() {
        let sentence = format!("{operation}, but {key} lives by it at revision {end}");
        return Err(Violation::new("a revoked lease takes its keys along", sentence));
    }
    nothing_after(truth, lease, end, "was revoked")?;
    let later = renewals(history, lease).find(|(renewal, _)| renewal.invoked > at);
    match later {
        Some((renewal, _)) => Err(Violation::new(
            "no lease comes back",
            format!("{renewal} came after {operation} was answered"),
        )),
        None => Ok(()),
    }
}

/// A lease that nobody renews any more is gone before the end of the quiet time.
fn check_for_ever(history: &History, truth: &Truth) -> Verdict {
    let Some(quiet) = history.quiet else { return Ok(()) };
    let end = truth.revision();
    for lease in in_use(truth) {
        let Some(key) = truth.attached(lease, end).first().copied() else { continue };
        let Some(ttl) = renewals(history, lease).map(|(_, ttl)| ttl).max() else { continue };
        let last = last_renewal(history, lease).max(quiet.since);
        if last + ttl + GRACE < quiet.until {
            let (last, until) = (moment(last), moment(quiet.until));
            let sentence = format!(
                "lease {lease} of {} s was renewed at {last} at the latest, but {key} still lives by it at {until}",
                ttl / SECOND
            );
            return Err(Violation::new("no lease lives for ever", sentence));
        }
    }
    Ok(())
}

/// The latest moment at which somebody may have renewed it, as far as clients know.
fn last_renewal(history: &History, lease: i64) -> Time {
    let times = history.operations.iter().filter_map(|operation| match operation.request {
        Request::Grant { lease: it, .. } | Request::KeepAlive { lease: it } if it == lease => {
            Some(match operation.outcome {
                Outcome::Acknowledged { at, .. } | Outcome::Failed { at } => at,
                Outcome::Unknown => operation.invoked,
            })
        }
        _ => None,
    });
    times.max().unwrap_or(0)
}
