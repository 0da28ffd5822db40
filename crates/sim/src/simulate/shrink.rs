//! Shortens the record of a failure: leaves out parts of its schedule for as long as it still fails in the same way.

use super::record::Record;
use super::run::replay;

/// The first words of a failure: which promise was broken.
fn kind(failure: &str) -> &str {
    failure.split(':').next().unwrap_or(failure)
}

/// Shortens the record with at most `tries` runs; `progress` hears of each shorter one. `None`: it does not fail at all.
pub fn shrink(record: &Record, tries: usize, progress: impl FnMut(&Record)) -> Option<Record> {
    let found = attempt(record)?;
    let wanted = found.failure.as_deref().map(kind)?.to_owned();
    let same = |record: &Record| {
        attempt(record).filter(|found| found.failure.as_deref().map(kind) == Some(wanted.as_str()))
    };
    Some(shorten(found, tries, same, progress))
}

/// Leaves out halves, then smaller parts, and keeps what still `fails`.
fn shorten(
    record: Record,
    mut tries: usize,
    fails: impl Fn(&Record) -> Option<Record>,
    mut progress: impl FnMut(&Record),
) -> Record {
    let mut best = record;
    let mut size = best.schedule.len().div_ceil(2);
    let mut start = 0;
    while size > 0 && tries > 0 {
        if start >= best.schedule.len() {
            (start, size) = (0, if size == 1 { 0 } else { size.div_ceil(2) });
            continue;
        }
        tries -= 1;
        let mut candidate = best.clone();
        candidate.schedule.drain(start..(start + size).min(best.schedule.len()));
        match fails(&candidate) {
            Some(shorter) => {
                best = shorter;
                progress(&best);
            }
            None => start += size,
        }
    }
    best
}

/// Runs it; the record of the failure, without what would have come after it.
fn attempt(record: &Record) -> Option<Record> {
    let outcome = replay(record);
    let mut record = Record { failure: Some(outcome.failure?), ..record.clone() };
    record.schedule.retain(|step| step.at <= outcome.simulated);
    Some(record)
}

#[cfg(test)]
mod tests {
    use duet_protocol::ApplianceId;

    use super::*;
    use crate::simulate::schedule::{Scheduled, Step};

    #[test]
    fn only_what_the_failure_needs_is_left() {
        let step = |at| {
            let step = Step::Read { target: ApplianceId::A, way: 1, dice: at };
            Scheduled { at, step }
        };
        let record = Record { seed: 1, safety: 1, failure: None, schedule: (0..1000).map(step).collect() };
        let needs = |record: &Record| {
            let times: Vec<u64> = record.schedule.iter().map(|step| step.at).collect();
            [17, 500, 998].iter().all(|at| times.contains(at)).then(|| record.clone())
        };
        let mut told = 0;
        let shorter = shorten(record, 200, needs, |_| told += 1);
        assert_eq!(shorter.schedule, [step(17), step(500), step(998)]);
        assert!(told > 3);
    }

    #[test]
    fn failures_of_one_kind_differ_in_their_numbers_only() {
        assert_eq!(kind("S1: A applies LSN 7"), kind("S1: B installs a copy"));
        assert_ne!(kind("S1: A applies LSN 7"), kind("S4: A is in sync"));
    }
}
