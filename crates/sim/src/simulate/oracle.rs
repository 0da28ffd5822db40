//! What must hold whatever happens: S1-S4 and G2-G5 of docs/protocol.md, seen from outside with both appliances, their
//! disks and the witness in view. It knows the one true history: every entry that any appliance ever applied.

use core::hash::Hasher;
use std::collections::BTreeMap;

use duet_mvcc::{Applied, Event, EventKind, RangeRequest, RangeResponse, Response, Store};
use duet_protocol::{ApplianceId, Conf, Digest, DiskId, Entry, Epoch, Lsn, Position};

use super::clock::Time;
use super::digest::Fold;
use super::workload;

/// A breach of a promise, in words.
pub type Verdict = Result<(), String>;

/// What the oracle remembers.
pub struct Oracle {
    base: Position,
    /// The history above the base.
    truth: Vec<Position>,
    /// What came of each entry of it.
    outcomes: Vec<u64>,
    /// The store that the whole history was applied to, without crash, checkpoint or restart.
    pub reference: Store,
    /// Entries that were durable or sent anywhere (S3).
    entries: BTreeMap<(Lsn, Epoch), Digest>,
    /// Who appended in an epoch (S3).
    appenders: BTreeMap<Epoch, ApplianceId>,
    /// Every configuration ever seen (P4).
    confs: BTreeMap<Epoch, Conf>,
    /// The newest configuration that ever was in force.
    pub newest: Conf,
    /// Clients were told that everything up to here is written.
    pub acknowledged: Lsn,
    /// Clients have read everything up to here.
    pub shown: Lsn,
    /// The latest begin of a read that was answered.
    last_read_begun: Option<Time>,
}

impl Oracle {
    pub fn new(base: Position, conf: Conf, reference: Store) -> Self {
        Self {
            base,
            truth: Vec::new(),
            outcomes: Vec::new(),
            reference,
            entries: BTreeMap::new(),
            appenders: BTreeMap::new(),
            confs: BTreeMap::from([(conf.epoch(), conf)]),
            newest: conf,
            acknowledged: base.lsn,
            shown: base.lsn,
            last_read_begun: None,
        }
    }

    /// The true history's position at `lsn`.
    pub fn truth_at(&self, lsn: Lsn) -> Option<Position> {
        if lsn == self.base.lsn {
            return Some(self.base);
        }
        let index = usize::try_from(lsn.0.checked_sub(self.base.lsn.0 + 1)?).ok()?;
        self.truth.get(index).copied()
    }

    /// Where the true history ends.
    pub fn end(&self) -> Position {
        self.truth.last().copied().unwrap_or(self.base)
    }

    /// An appliance has applied an entry. `Ok(true)`: it is the first to do so.
    pub fn on_applied(&mut self, id: ApplianceId, entry: &Entry, outcome: &Applied) -> Result<bool, String> {
        let end = self.end();
        let is_first = entry.lsn == end.lsn.next();
        if is_first {
            if !entry.follows(&end) {
                return Err(format!(
                    "S1: {id} applies LSN {}, which does not follow the true history",
                    entry.lsn
                ));
            }
            let right = self.reference.apply(&workload::command_of(entry)?);
            self.truth.push(entry.position());
            self.outcomes.push(fold_outcome(&right));
        }
        match self.truth_at(entry.lsn) {
            Some(known) if known == entry.position() => {}
            known => {
                return Err(format!(
                    "S1: {id} applies LSN {} of epoch {}, but the true history has {known:?}",
                    entry.lsn, entry.epoch
                ));
            }
        }
        let index = usize::try_from(entry.lsn.0 - self.base.lsn.0 - 1).ok();
        let right = index.and_then(|index| self.outcomes.get(index).copied());
        if right != Some(fold_outcome(outcome)) {
            return Err(format!("data: at LSN {} {id} gives another answer or other events", entry.lsn));
        }
        Ok(is_first)
    }

    /// What a reader was answered at some revision is what was there at that revision.
    pub fn check_answer(&self, id: ApplianceId, request: &RangeRequest, answer: &RangeResponse) -> Verdict {
        if answer.revision < self.reference.compacted_revision() {
            return Ok(());
        }
        let then = RangeRequest { revision: answer.revision, ..request.clone() };
        match self.reference.range(&then) {
            Ok(right) if right.kvs == answer.kvs => Ok(()),
            right => Err(format!(
                "data: {id} answers {:?} at revision {}, right is {right:?}",
                answer.kvs, answer.revision
            )),
        }
    }

    /// A copy of the state is installed.
    pub fn on_installed(&self, id: ApplianceId, position: Position) -> Verdict {
        match self.truth_at(position.lsn) {
            Some(known) if known == position => Ok(()),
            _ => Err(format!("S1: {id} installs a copy at {position} that is not of the true history")),
        }
    }

    /// A write whose client was told "unknown" at `told` turns out to be applied now.
    pub fn on_late_write(&self, told: Time, lsn: Lsn) -> Verdict {
        match self.last_read_begun {
            Some(begun) if begun > told => Err(format!(
                "S1: the write at LSN {lsn}, unknown since {told}, appears after a read without it"
            )),
            _ => Ok(()),
        }
    }

    pub fn on_acknowledged(&mut self, lsn: Lsn) {
        self.acknowledged = self.acknowledged.max(lsn);
    }

    /// A linearizable read that began at `begun`, when `floor` had been acknowledged or shown, answers up to `lsn`.
    pub fn on_read(&mut self, id: ApplianceId, begun: Time, floor: Lsn, lsn: Lsn) -> Verdict {
        if lsn < floor {
            return Err(format!(
                "S2: {id} answers a read at LSN {lsn}, but LSN {floor} was known before it began"
            ));
        }
        self.shown = self.shown.max(lsn);
        self.last_read_begun = self.last_read_begun.max(Some(begun));
        Ok(())
    }

    /// Everything clients may rely on.
    pub fn relied_upon(&self) -> Lsn {
        self.acknowledged.max(self.shown)
    }

    /// An entry leaves an appliance or is durable there.
    pub fn on_entry(&mut self, entry: Position) -> Verdict {
        let Position { lsn, epoch, digest } = entry;
        if *self.entries.entry((lsn, epoch)).or_insert(digest) == digest {
            Ok(())
        } else {
            Err(format!("S3: two different entries at LSN {lsn} in epoch {epoch}"))
        }
    }

    pub fn on_appended(&mut self, id: ApplianceId, epoch: Epoch) -> Verdict {
        let known = *self.appenders.entry(epoch).or_insert(id);
        if known == id { Ok(()) } else { Err(format!("S3: both appliances append in epoch {epoch}")) }
    }

    /// A configuration is seen somewhere.
    pub fn on_conf(&mut self, conf: Conf) -> Verdict {
        if conf.is_none() {
            return Ok(());
        }
        let known = *self.confs.entry(conf.epoch()).or_insert(conf);
        if known == conf {
            Ok(())
        } else {
            Err(format!("P4: two configurations have epoch {}", conf.epoch()))
        }
    }

    /// What the three places have stored: each appliance's configuration and tent, the witness's.
    pub fn on_stored(&mut self, places: &[[Option<Conf>; 2]; 3]) {
        for (index, place) in places.iter().enumerate() {
            for conf in place.iter().flatten() {
                let elsewhere = places
                    .iter()
                    .enumerate()
                    .any(|(other, held)| other != index && held.contains(&Some(*conf)));
                if elsewhere && conf.epoch() > self.newest.epoch() {
                    self.newest = *conf;
                }
            }
        }
    }

    /// S4: whether the member's durable log holds everything clients may rely on.
    pub fn check_member(&self, id: ApplianceId, disk: DiskId, held: Option<Position>) -> Verdict {
        if !self.newest.has(id, disk) {
            return Ok(());
        }
        let lsn = self.relied_upon();
        if held.is_some() && held == self.truth_at(lsn) {
            return Ok(());
        }
        Err(format!(
            "S4: {id} is in sync by {}, but does not hold LSN {lsn}, which clients rely on",
            self.newest
        ))
    }
}

/// What came of a command, in one number: revision, answer, events.
fn fold_outcome(outcome: &Applied) -> u64 {
    let mut fold = Fold::default();
    fold.write_i64(outcome.revision);
    match &outcome.result {
        Err(error) => fold.write(error.to_string().as_bytes()),
        Ok(Response::Put(put)) => {
            fold.write_i64(put.prev_kv.as_ref().map_or(0, |before| before.mod_revision));
        }
        Ok(Response::DeleteRange(delete)) => {
            fold.write_i64(delete.deleted);
            delete.prev_kvs.iter().for_each(|before| fold.write_i64(before.mod_revision));
        }
        Ok(Response::Txn(txn)) => fold.write(&[1, u8::from(txn.succeeded)]),
        Ok(Response::Compact) => fold.write(&[2]),
        Ok(Response::LeaseGrant { id, .. }) => fold.write_i64(*id),
        Ok(Response::LeaseRevoke) => fold.write(&[3]),
        Ok(Response::Alarm(alarm)) => fold.write(&[4, u8::from(alarm.is_some())]),
        Ok(Response::Auth) => fold.write(&[5]),
    }
    for event in &outcome.events {
        fold_event(&mut fold, event);
    }
    fold.value()
}

fn fold_event(fold: &mut Fold, event: &Event) {
    let key_value = &event.key_value;
    fold.write(&[u8::from(event.kind == EventKind::Put)]);
    for number in [
        event.revision.main,
        event.revision.sub,
        key_value.create_revision,
        key_value.version,
        key_value.lease,
        i64::try_from(key_value.value.len()).unwrap_or(-1),
    ] {
        fold.write_i64(number);
    }
    fold.write(&key_value.key);
    fold.write(key_value.value.get(..8).unwrap_or(&key_value.value));
}
