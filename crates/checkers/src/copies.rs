//! Both appliances hold the same: equal digests at equal positions, equal revisions at equal LSNs, equal hashes at equal
//! revisions. LSNs are dense, and a revision is never more than an LSN's worth ahead.

use std::collections::BTreeMap;
use std::fmt;

use duet_protocol::{ApplianceId, Digest, Epoch, Lsn};

use crate::history::{Applied, History, Report};
use crate::operation::moment;
use crate::violation::{Verdict, Violation};

const EQUAL: &str = "both appliances hold the same";
const DENSE: &str = "LSNs are dense";

pub(crate) fn check(history: &History) -> Verdict {
    check_reports(&history.reports)?;
    check_applied(&history.applied)
}

/// What was told first of something; whatever is told later of the same must agree.
struct First<K, V>(BTreeMap<K, (V, String)>);

impl<K: Ord + fmt::Debug, V: PartialEq + fmt::Display + Copy> First<K, V> {
    const fn new() -> Self {
        Self(BTreeMap::new())
    }

    fn agrees(&mut self, key: K, value: V, who: &str, what: &str) -> Verdict {
        let (known, by) = self.0.entry(key).or_insert_with(|| (value, who.to_owned()));
        if *known == value {
            return Ok(());
        }
        Err(Violation::new(EQUAL, format!("{what}: {who} has {value}, {by} has {known}")))
    }
}

fn check_reports(reports: &[Report]) -> Verdict {
    let mut digests = First::<(Lsn, Epoch), Digest>::new();
    let mut hashes = First::<(i64, i64), u32>::new();
    let mut applied: Vec<(Lsn, i64, String)> = Vec::new();
    for report in reports {
        let who = || format!("{} at {}", report.appliance, moment(report.at));
        if let Some((lsn, epoch, digest)) = report.last {
            digests.agrees((lsn, epoch), digest, &who(), &format!("digest at LSN {lsn} of epoch {epoch}"))?;
        }
        if let Some(hash) = report.hash {
            let what = format!("hash at revision {} compacted to {}", hash.revision, hash.compacted);
            hashes.agrees((hash.revision, hash.compacted), hash.hash, &who(), &what)?;
        }
        applied.extend(report.applied.map(|(lsn, revision)| (lsn, revision, who())));
    }
    applied.sort();
    for pair in applied.windows(2) {
        let ((lsn, revision, who), (next_lsn, next_revision, next_who)) = (&pair[0], &pair[1]);
        let entries = i64::try_from(next_lsn.0 - lsn.0).unwrap_or(i64::MAX);
        if !(0..=entries).contains(&(next_revision - revision)) {
            let sentence = format!(
                "{who} has revision {revision} at LSN {lsn}, {next_who} has revision {next_revision} at LSN {next_lsn}"
            );
            return Err(Violation::new(EQUAL, sentence));
        }
    }
    Ok(())
}

fn check_applied(applied: &[Applied]) -> Verdict {
    let mut digests = First::<Lsn, Digest>::new();
    let mut revisions = First::<Lsn, i64>::new();
    let mut lives: BTreeMap<(ApplianceId, u64), Applied> = BTreeMap::new();
    for entry in applied {
        let who = format!("{} in its life {}", entry.appliance, entry.life);
        let lsn = entry.lsn;
        digests.agrees(lsn, entry.digest, &who, &format!("digest at LSN {lsn}"))?;
        revisions.agrees(lsn, entry.revision, &who, &format!("revision at LSN {lsn}"))?;
        let Some(before) = lives.insert((entry.appliance, entry.life), *entry) else { continue };
        if lsn != before.lsn.next() {
            return Err(Violation::new(DENSE, format!("{who} applied LSN {lsn} after LSN {}", before.lsn)));
        }
        if !(0..=1).contains(&(entry.revision - before.revision)) {
            let sentence = format!(
                "{who} went from revision {} to revision {} by LSN {lsn} alone",
                before.revision, entry.revision
            );
            return Err(Violation::new("dense revisions", sentence));
        }
    }
    Ok(())
}
