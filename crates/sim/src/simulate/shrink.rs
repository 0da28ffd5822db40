//! Shortens the record of a failure: leaves out parts of its schedule for as long as it still fails in the same way.

use super::record::Record;
use super::run::replay;

/// The first words of a failure: which promise was broken.
fn kind(failure: &str) -> &str {
    failure.split([':', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']).next().unwrap_or(failure)
}

/// Shortens the record with at most `tries` runs; `progress` hears of each shorter one. `None`: it does not fail at all.
pub fn shrink(record: &Record, tries: usize, mut progress: impl FnMut(&Record)) -> Option<Record> {
    let mut best = attempt(record, None)?;
    let wanted = best.failure.as_deref().map(kind)?.to_owned();
    let mut tries = tries;
    let mut parts = 2;
    while tries > 0 && best.schedule.len() > 1 {
        let size = best.schedule.len().div_ceil(parts);
        let mut shorter = None;
        for start in (0..best.schedule.len()).step_by(size) {
            if tries == 0 {
                break;
            }
            tries -= 1;
            let mut candidate = best.clone();
            candidate.schedule.drain(start..(start + size).min(best.schedule.len()));
            shorter = attempt(&candidate, Some(&wanted));
            if shorter.is_some() {
                break;
            }
        }
        if let Some(shorter) = shorter {
            best = shorter;
            progress(&best);
            parts = parts.saturating_sub(1).max(2);
        } else if size == 1 {
            break;
        } else {
            parts = (parts * 2).min(best.schedule.len());
        }
    }
    Some(best)
}

/// Runs it; the record of the failure, without what came after it.
fn attempt(record: &Record, wanted: Option<&str>) -> Option<Record> {
    let outcome = replay(record);
    let failure = outcome.failure.filter(|failure| wanted.is_none_or(|wanted| kind(failure) == wanted))?;
    let mut record = Record { failure: Some(failure), ..record.clone() };
    record.schedule.retain(|step| step.at <= outcome.simulated);
    Some(record)
}
