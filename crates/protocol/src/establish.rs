//! What an appliance asks of the witness: TAKE, PART, SYNC and NOTE (protocol sections 3, 8 and 16), and what it learns by
//! reading it.
//!
//! Each is the same shape: read the record, learn from it, check the guard, write conditionally on what was read. One
//! request is under way at a time. An answer that does not come changes nothing; reading later settles it.

use crate::appliance::{Action, AfterSave, Appliance};
use crate::entitlement::{self, Entitlement};
use crate::planted::Bug;
use crate::role::{Inquiry, Role};
use crate::{
    Conf, Effect, Epoch, Instant, Lsn, Note, PerAppliance, Position, WitnessId, WitnessRead, WitnessRecord,
    WitnessWrite, limits,
};
use alloc::vec::Vec;

/// The witness as this appliance knows it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct WitnessPort {
    /// Which register is asked: the one that the own state names.
    pub id: WitnessId,
    ticket: u64,
    pub request: Option<Request>,
    /// The record last read or written, and when.
    pub last: Option<(WitnessRecord, Instant)>,
    pub reachable: bool,
    /// It answered that it holds no record; the highest epoch known when that was first seen.
    pub absent: Option<Epoch>,
    /// What the last request was for, and when it was begun.
    pub asked: Option<(Action, Instant)>,
    /// Its record is older than one that it held: it was set back, and counts as having none.
    pub set_back: bool,
    /// The highest revision ever seen there: less means that it was set back, and a refilled one starts above.
    highest_revision: u64,
}

/// A request under way.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Request {
    ticket: u64,
    pub action: Action,
    /// What is being written; none while reading.
    record: Option<WitnessRecord>,
    pub since: Instant,
}

impl WitnessPort {
    /// A witness of which nothing is known yet.
    pub(crate) fn new(id: WitnessId) -> Self {
        Self { id, ..Self::default() }
    }

    fn begin(&mut self, action: Action, record: Option<WitnessRecord>, now: Instant) -> u64 {
        self.ticket += 1;
        self.asked = Some((action, now));
        self.request = Some(Request { ticket: self.ticket, action, record, since: now });
        self.ticket
    }

    fn take(&mut self, ticket: u64, writing: bool) -> Option<Request> {
        let is_it = |request: &&mut Request| {
            let mine = request.ticket == ticket || Bug::AnyTicketCounts.planted();
            mine && request.record.is_some() == writing
        };
        self.request.as_mut().filter(is_it)?;
        self.request.take()
    }

    fn learn(&mut self, record: WitnessRecord, now: Instant) {
        self.reachable = true;
        self.absent = None;
        self.set_back = false;
        self.highest_revision = self.highest_revision.max(record.revision);
        self.last = Some((record, now));
    }
}

impl Appliance {
    /// Begins one of the witness's procedures by reading it.
    pub(crate) fn ask_witness(&mut self, action: Action, fx: &mut Vec<Effect>) -> bool {
        if self.witness.request.is_some() || !self.may_ask(action) {
            return false;
        }
        let ticket = self.witness.begin(action, None, self.now);
        fx.push(Effect::ReadWitness { ticket, witness: self.witness.id });
        true
    }

    /// The part of a procedure's guard that does not depend on the record.
    fn may_ask(&self, action: Action) -> bool {
        match action {
            Action::Look => true,
            Action::Take => match &self.role {
                Role::Primary(primary) => !primary.offering && !self.effective_solo(),
                Role::Follower(follower) => self.promise_until <= self.now && follower.installing.is_none(),
                Role::Elect | Role::Stopped => false,
            },
            Action::Part => self.may_part(),
            Action::Sync => matches!(self.role, Role::Primary(_)),
            Action::Note => {
                self.leaving.is_some() && !self.own.conf.is_none() && self.durable_position().is_some()
            }
            _ => false,
        }
    }

    fn may_part(&self) -> bool {
        match &self.role {
            Role::Primary(primary) => {
                self.effective_solo() && primary.pending.is_none() && self.durable_position().is_some()
            }
            // A second try after a conflict: it has parted already and done nothing since.
            Role::Follower(follower) => {
                self.own.has_parted()
                    && self.own.conf.is_solo()
                    && self.own.conf.primary() == self.me
                    && self.own.tent.is_none()
                    && follower.pending.is_none()
                    && self.leaving.is_some()
            }
            Role::Elect | Role::Stopped => false,
        }
    }

    /// The own state has changed, and with it perhaps the witness: what was asked of the former one is void, what it said is
    /// forgotten, but that the own disk has lost writes.
    pub(crate) fn follow_witness(&mut self) {
        let id = self.own.witness();
        if id == self.witness.id {
            return;
        }
        let damage = self
            .witness
            .last
            .take()
            .filter(|(record, _)| entitlement::is_damaged(&self.own, &self.log, record));
        let ticket = self.witness.ticket;
        self.witness = WitnessPort { ticket, last: damage, ..WitnessPort::new(id) };
        self.note_inquiry(Inquiry::Unasked);
    }

    /// A request without an answer for too long counts as unanswered.
    pub(crate) fn expire_request(&mut self) {
        self.witness.request = None;
        self.witness.reachable = false;
        self.note_inquiry(Inquiry::Silent);
    }

    fn note_inquiry(&mut self, inquiry: Inquiry) {
        if let Role::Follower(follower) = &mut self.role {
            follower.inquiry = inquiry;
        }
    }

    pub(crate) fn on_witness_read(&mut self, ticket: u64, outcome: WitnessRead, fx: &mut Vec<Effect>) {
        let Some(request) = self.witness.take(ticket, false) else { return };
        let record = match outcome {
            WitnessRead::Record(record)
                if record.cluster == self.own.cluster || Bug::ForeignRecordRead.planted() =>
            {
                if self.is_set_back(&record) && !self.may_refill() {
                    self.forget_record(Inquiry::SetBack);
                    self.witness.set_back = true;
                    return;
                }
                record
            }
            WitnessRead::Absent => {
                self.forget_record(Inquiry::Absent);
                return;
            }
            WitnessRead::Record(_) | WitnessRead::Foreign => {
                self.witness.reachable = false;
                self.note_inquiry(Inquiry::Foreign);
                return;
            }
            WitnessRead::Unknown => {
                self.witness.reachable = false;
                self.note_inquiry(Inquiry::Silent);
                return;
            }
        };
        self.witness.learn(record.clone(), self.now);
        self.note_inquiry(Inquiry::Answered);
        if self.watch(&record, fx) || !self.may_ask(request.action) {
            return;
        }
        match request.action {
            Action::Take => self.take(&record, fx),
            Action::Part => self.part(&record, fx),
            Action::Sync => self.sync(&record, fx),
            Action::Note => self.note(&record, fx),
            _ => {}
        }
    }

    /// Whether the witness held a later record than this. What the peer has written since that one is forgotten, too.
    fn is_set_back(&self, record: &WitnessRecord) -> bool {
        record.revision < self.witness.highest_revision && !Bug::SetBackBelieved.planted()
    }

    /// The witness has lost what it knew.
    fn forget_record(&mut self, inquiry: Inquiry) {
        self.witness.reachable = true;
        self.witness.set_back = false;
        self.witness.absent.get_or_insert(self.own.max_epoch);
        // What a record has told of the own disk stays true when the record is gone.
        if !self.is_damaged() {
            self.witness.last = None;
        }
        self.note_inquiry(inquiry);
    }

    /// Learns from a record: a newer configuration is adopted, or was put there by this appliance itself. True: a durable
    /// write is under way, whatever else was intended must be begun anew.
    fn watch(&mut self, record: &WitnessRecord, fx: &mut Vec<Effect>) -> bool {
        let ignored = Bug::RecordIgnored.planted() && matches!(self.role, Role::Follower(_));
        if record.conf.epoch() <= self.own.conf.epoch() || ignored {
            return false;
        }
        if matches!(self.role, Role::Primary(_))
            && record.conf.primary() == self.me
            && self.is_me(&record.conf)
        {
            return self.won(record.conf, fx);
        }
        self.adopt_from_witness(record.conf, fx)
    }

    fn adopt_from_witness(&mut self, conf: Conf, fx: &mut Vec<Effect>) -> bool {
        // The tent may already be in force: the witness is not believed over it (trap 3).
        if self.own.tent.is_some_and(|tent| tent.epoch() > conf.epoch()) && !Bug::RecordOverTent.planted() {
            return false;
        }
        self.own.tent = None;
        self.store_conf(conf);
        self.step_down(fx);
        self.save(AfterSave::Nothing, fx);
        true
    }

    /// Sets the own configuration; the caller makes it durable.
    pub(crate) fn store_conf(&mut self, conf: Conf) {
        assert!(conf.epoch() > self.own.conf.epoch(), "P1: the configuration's epoch never falls");
        assert!(conf.witness() >= self.own.conf.witness(), "P12: nobody goes back to a former witness");
        self.own.conf = conf;
        self.own.max_epoch = self.own.max_epoch.max(conf.epoch());
        self.own.tent = self.own.tent.filter(|tent| tent.epoch() > conf.epoch());
    }

    /// A TAKE of this appliance is known to be applied. True: the outcome is being stored.
    pub(crate) fn won(&mut self, conf: Conf, fx: &mut Vec<Effect>) -> bool {
        assert!(self.role != Role::Stopped, "an appliance that has stopped waits for no answer");
        let outdated = conf.epoch() <= self.own.conf.epoch();
        // It has agreed to something newer meanwhile (trap 3).
        let bound = self.own.tent.is_some_and(|tent| tent.epoch() > conf.epoch());
        if outdated || (bound && !Bug::WonOverTent.planted()) {
            return false;
        }
        self.own.tent = None;
        self.store_conf(conf);
        if matches!(self.role, Role::Primary(_)) {
            self.go_on_under_new_conf();
            self.save(AfterSave::GoOn, fx);
        } else {
            self.drop_pending();
            let waits = self.is_installing() && !Bug::WinsWhileInstalling.planted();
            let after = if waits { AfterSave::Nothing } else { AfterSave::BeginOrElect };
            self.save(after, fx);
        }
        true
    }

    fn take(&mut self, record: &WitnessRecord, fx: &mut Vec<Effect>) {
        assert!(record.conf.epoch() <= self.own.conf.epoch() || !matches!(self.role, Role::Primary(_)), "P9");
        if matches!(self.role, Role::Follower(_)) {
            let entitled = Entitlement::judge(&self.own, &self.log, self.witness.id, record).may()
                || Bug::TakenByAnybody.planted();
            if !entitled
                || entitlement::is_damaged(&self.own, &self.log, record)
                || self.durable_position().is_none()
            {
                return;
            }
        }
        let epoch = self.fresh_epoch(record.conf.epoch());
        assert!(epoch > record.conf.epoch(), "P9: a TAKE writes an epoch above the one read");
        self.own.max_epoch = epoch;
        self.drop_pending();
        let conf = Conf::solo(epoch, self.me, self.disk).at(self.witness.id);
        let next = self.next_record(record, conf, None);
        self.witness.request =
            Some(Request { ticket: 0, action: Action::Take, record: None, since: self.now });
        if Bug::TakesBeforeSaving.planted() {
            return self.compare_and_set(record.revision, next, fx);
        }
        self.save(AfterSave::CompareAndSet { expected: record.revision, record: next }, fx);
    }

    fn part(&mut self, record: &WitnessRecord, fx: &mut Vec<Effect>) {
        let Some(position) = self.durable_position() else { return };
        assert!(record.conf.epoch() <= self.own.conf.epoch(), "P9: PART never writes a conf older than read");
        let next = self.next_record(record, self.own.conf, Some(position));
        let intent = Request { ticket: 0, action: Action::Part, record: None, since: self.now };
        self.step_down(fx);
        if let Some(leaving) = &mut self.leaving {
            leaving.noted &= Bug::EarlierNoteCounts.planted(); // a note of before is not this position
            leaving.parted = true;
        }
        self.own.parted = self.own.conf.epoch();
        if Bug::PartsBeforeSaving.planted() {
            self.witness.request = Some(intent);
            return self.compare_and_set(record.revision, next, fx);
        }
        self.save(AfterSave::CompareAndSet { expected: record.revision, record: next }, fx);
        self.witness.request = Some(intent);
    }

    /// Whether the record should be brought up to date by its primary.
    pub(crate) fn needs_sync(&self, record: &WitnessRecord) -> bool {
        record.conf.epoch() < self.own.conf.epoch()
            || (record.conf == self.own.conf && record.left != notes_to_keep(record, &self.own.conf))
    }

    fn sync(&mut self, record: &WitnessRecord, fx: &mut Vec<Effect>) {
        if !self.needs_sync(record) || record.conf.epoch() > self.own.conf.epoch() {
            return;
        }
        let next = self.next_record(record, self.own.conf, None);
        self.witness.request =
            Some(Request { ticket: 0, action: Action::Sync, record: None, since: self.now });
        self.compare_and_set(record.revision, next, fx);
    }

    fn note(&mut self, record: &WitnessRecord, fx: &mut Vec<Effect>) {
        let (Some(leaving), Some(position)) = (&self.leaving, self.durable_position()) else { return };
        let note = Note { position, was_primary: leaving.was_primary };
        let mut next = record.clone();
        next.revision += 1;
        next.writer = self.me;
        next.floor = self.floors(record.floor);
        *next.left.get_mut(self.me) = Some(note);
        if Bug::NoteWritesPart.planted() {
            next.part = Some(position);
        }
        if Bug::NoteWritesConf.planted() {
            next.conf = self.own.conf;
        }
        self.witness.request =
            Some(Request { ticket: 0, action: Action::Note, record: None, since: self.now });
        self.compare_and_set(record.revision, next, fx);
    }

    /// Whether an empty witness may be given the own configuration: both are in sync by an agreement that is newer than the
    /// witness's loss. Whatever the peer had asked of the witness before is void by that agreement; an older pair is not
    /// enough, the peer may have been promoted since (docs/protocol.md, *refill*).
    pub(crate) fn may_refill(&self) -> bool {
        let newer = |absent| self.own.conf.epoch() > absent || Bug::RefillsUnderOldPair.planted();
        let both = self.own.conf.is_pair() || Bug::RefillsAlone.planted();
        matches!(self.role, Role::Primary(_)) && both && self.witness.absent.is_some_and(newer)
    }

    /// Gives an empty witness its record back (section 10).
    pub(crate) fn refill(&mut self, fx: &mut Vec<Effect>) -> bool {
        if !self.may_refill() || self.witness.request.is_some() {
            return false;
        }
        let record = WitnessRecord {
            cluster: self.own.cluster,
            revision: if Bug::RefillRepeatsRevisions.planted() {
                1
            } else {
                self.witness.highest_revision + limits::REFILL_GAP
            },
            writer: self.me,
            conf: self.own.conf,
            part: None,
            floor: self.floors(PerAppliance::default()),
            left: PerAppliance::default(),
        };
        let ticket = self.witness.begin(Action::Refill, Some(record.clone()), self.now);
        fx.push(Effect::CreateRecord { ticket, witness: self.witness.id, record });
        true
    }

    /// Sends a conditional write; the request's intent was set by the procedure.
    pub(crate) fn compare_and_set(&mut self, expected: u64, record: WitnessRecord, fx: &mut Vec<Effect>) {
        let Some(intent) = self.witness.request.take() else { return };
        let ticket = self.witness.begin(intent.action, Some(record.clone()), self.now);
        fx.push(Effect::CompareAndSet { ticket, witness: self.witness.id, expected, record });
    }

    pub(crate) fn on_witness_written(&mut self, ticket: u64, outcome: WitnessWrite, fx: &mut Vec<Effect>) {
        let Some(Request { action, record: Some(record), .. }) = self.witness.take(ticket, true) else {
            return;
        };
        let taken = match outcome {
            WitnessWrite::Mismatch if Bug::MismatchIsSuccess.planted() => action == Action::Take,
            WitnessWrite::Unknown if Bug::SilenceIsSuccess.planted() => action == Action::Take,
            _ => false,
        };
        match if taken { WitnessWrite::Swapped } else { outcome } {
            WitnessWrite::Swapped => {
                let conf = record.conf;
                self.witness.learn(record, self.now);
                match action {
                    Action::Take => {
                        self.won(conf, fx);
                    }
                    Action::Part | Action::Note => self.on_left(),
                    _ => {}
                }
            }
            // Read it again at once before the next attempt.
            WitnessWrite::Mismatch => {
                self.witness.asked = None;
                if action == Action::Refill {
                    self.witness.absent = None; // there is a record after all
                }
            }
            WitnessWrite::Unknown => self.witness.reachable = false,
        }
    }

    /// The record that follows `record`, with this configuration and position.
    fn next_record(&self, record: &WitnessRecord, conf: Conf, part: Option<Position>) -> WitnessRecord {
        assert!(conf.epoch() >= record.conf.epoch(), "P9: never a configuration older than the one read");
        assert!(part.is_none() || conf.is_solo(), "P8: a position only with a solo configuration");
        WitnessRecord {
            cluster: record.cluster,
            revision: record.revision.max(self.witness.highest_revision) + 1,
            writer: self.me,
            conf,
            part: if Bug::PartKept.planted() { part.or(record.part) } else { part },
            floor: self.floors(record.floor),
            left: notes_to_keep(record, &conf),
        }
    }

    /// Committed LSNs only: nobody ever truncates them, so a sound log is never below its floor.
    fn floors(&self, old: PerAppliance<Lsn>) -> PerAppliance<Lsn> {
        let mut floor = old;
        let mine = floor.get_mut(self.me);
        let own = if Bug::FloorOfUncommitted.planted() { self.flushed } else { self.committed };
        *mine = (*mine).max(own.min(self.flushed));
        if let Role::Primary(primary) = &self.role {
            let peers = floor.get_mut(self.me.peer());
            let held = if Bug::FloorOfUnmatched.planted() { self.committed } else { primary.matched };
            *peers = (*peers).max(held.min(self.committed));
        }
        floor
    }

    pub(crate) fn is_damaged(&self) -> bool {
        self.witness
            .last
            .as_ref()
            .is_some_and(|(record, _)| entitlement::is_damaged(&self.own, &self.log, record))
    }
}

/// A former primary's note is cleared by its successor (R4), a member's because it is back; a note of the one that
/// left as secondary stays until it is in the in-sync set again (section 16).
fn notes_to_keep(record: &WitnessRecord, conf: &Conf) -> PerAppliance<Option<Note>> {
    let mut left = record.left;
    for appliance in crate::ApplianceId::ALL {
        let back = conf.members().get(appliance).is_some();
        let note = left.get_mut(appliance);
        *note = note.filter(|note| {
            let succeeded = note.was_primary && !Bug::NoteNeverCleared.planted();
            !succeeded && (!back || Bug::NoteOfReturnedKept.planted())
        });
    }
    left
}
