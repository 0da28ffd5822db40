//! Looks at both appliances and the witness after every step and every event: the global invariants G2-G5, S4, R3, and
//! the marks on rare paths.

use duet_protocol::entitlement::{self, Entitlement};
use duet_protocol::{ApplianceId, LogIndex, Lsn, ReadPermit, RecoveredLog, RoleName, Status, WitnessRecord};

use super::changes;
use super::clock::{MILLI, SECOND};
use super::marks::Mark;
use super::witness::{Ask, Request, place_of};
use super::world::{Promotion, World};

const fn is_primary(role: RoleName) -> bool {
    matches!(role, RoleName::Primary | RoleName::Offering)
}

impl World {
    /// After a step of `id`, whose report was `before`.
    pub(crate) fn observe(&mut self, id: ApplianceId, before: &Status) {
        let Some(process) = &self.machines.get(id).process else { return };
        let after = process.status.clone();
        let saving = process.saving.is_some();
        if self.tells_changes() {
            for change in changes::between(before, &after) {
                self.note(|| format!("    {id}: {change}"));
            }
        }
        if !is_primary(before.role) && is_primary(after.role) {
            let epoch = after.own.conf.epoch();
            self.promotions.push(Promotion { at: self.now, id, epoch });
            self.note(|| format!("{id} is primary of {}", after.own.conf));
            self.mark_begin(before, &after);
        }
        if before.role != RoleName::Primary
            && after.role == RoleName::Primary
            && let Some(process) = &mut self.machines.get_mut(id).process
        {
            process.promotions += 1;
        }
        self.mark_changes(id, before, &after);
        self.check_roles(id, &after);
        if !saving {
            // Before it is durable a number may be forgotten and used again: nobody has seen it.
            for conf in [Some(after.own.conf), after.own.tent, after.pending].into_iter().flatten() {
                let verdict = self.oracle.on_conf(conf);
                self.require(verdict);
            }
            self.check_alone(id);
            self.check_alone(id.peer());
        }
    }

    /// G3, G5: never two primaries of one epoch, none while the other's lease holds.
    fn check_roles(&mut self, id: ApplianceId, status: &Status) {
        let peer = id.peer();
        let Some(other) = self.status(peer) else { return };
        if !is_primary(status.role) || !is_primary(other.role) {
            return;
        }
        if other.own.conf.epoch() == status.own.conf.epoch() {
            self.violate(format!("G3: both are primary in epoch {}", status.own.conf.epoch()));
        }
        for reader in ApplianceId::ALL {
            let permit = self.machines.get(reader).process.as_ref().map(|process| process.permit);
            if matches!(permit, Some(ReadPermit::Until(_))) && self.answers_reads(reader) {
                self.violate(format!("G5: both are primary while {reader}'s lease holds"));
            }
        }
    }

    /// G2: never do both hold a permit.
    pub(crate) fn check_permits(&mut self, id: ApplianceId) {
        if self.answers_reads(id) && self.answers_reads(id.peer()) {
            self.violate("G2: both appliances may answer reads".into());
        }
    }

    /// G4: while one needs nobody else, the other is not entitled and may not begin alone.
    fn check_alone(&mut self, id: ApplianceId) {
        let Some(process) = &self.machines.get(id).process else { return };
        let status = &process.status;
        let conf = &status.own.conf;
        let solo =
            is_primary(status.role) && conf.is_solo() && status.pending.is_none() && process.saving.is_none();
        if !solo {
            return;
        }
        let peer = self.machines.get(id.peer());
        let own = &peer.kept.own;
        if peer.process.as_ref().is_some_and(|process| is_primary(process.status.role)) {
            return; // deposed, and does not know yet: it can acknowledge nothing
        }
        let log = LogIndex::new(RecoveredLog { base: peer.position(), stamps: Vec::new() });
        let alone = own.conf.is_solo()
            && own.conf.has(id.peer(), own.disk)
            && !own.has_parted()
            && own.tent.is_none();
        if alone {
            let conf = own.conf;
            return self.violate(format!("G4: {id} is alone, and its peer may begin alone by {conf}"));
        }
        // By the one it asks, or by the one it counts on until an agreement on another is known to be in force.
        let entitled = [own.witness(), own.conf.witness()].into_iter().any(|witness| {
            let record = self.witnesses[place_of(witness)].record.as_ref();
            record.is_some_and(|record| {
                let may = Entitlement::judge(own, &log, witness, record).may();
                may && !entitlement::is_damaged(own, &log, record)
            })
        });
        if entitled {
            self.violate(format!("G4: {id} is alone, and its peer is entitled by the witness"));
        }
    }

    /// S4, and what is in force, by what is durable in the three places.
    pub(crate) fn check_stored(&mut self) {
        let [a, b] = ApplianceId::ALL.map(|id| {
            let own = &self.machines.get(id).kept.own;
            [Some(own.conf).filter(|conf| !conf.is_none()), own.tent]
        });
        // A record that was lost was stored all the same; one that names another witness is a mark.
        let witnesses = [0, 1].map(|at| {
            let last = self.witnesses[at].history.last().map(|(_, record)| record.conf);
            last.filter(|conf| place_of(conf.witness()) == at)
        });
        self.oracle.on_stored(&[a, b, witnesses]);
        let lsn = self.oracle.relied_upon();
        for id in ApplianceId::ALL {
            let kept = &self.machines.get(id).kept;
            let held = if lsn < kept.base.lsn { self.oracle.truth_at(lsn) } else { kept.at(lsn) };
            if self.excused == Some(id) {
                if !self.oracle.newest.has(id, kept.own.disk) {
                    self.excused = None;
                }
                continue;
            }
            let verdict = self.oracle.check_member(id, kept.own.disk, held);
            self.require(verdict);
        }
    }

    /// The witness holds another record.
    pub(crate) fn on_record(&mut self, request: &Request) {
        let Some(record) = self.witnesses[request.at].record.clone() else { return };
        let verdict = self.oracle.on_conf(record.conf);
        self.require(verdict);
        if record.part.is_some() && !record.conf.is_solo() {
            self.violate("P8: a position at the witness beside a configuration of both".into());
        }
        if matches!(request.ask, Ask::Create(_)) {
            self.marks.reach(Mark::Refill);
        }
        self.mark_record(request.at, &record, request.from);
        for id in ApplianceId::ALL {
            self.check_alone(id);
        }
    }

    /// R3: a soft shutdown leaves the LSN at the witness, if the witness answered all the time.
    pub(crate) fn check_left(&mut self, id: ApplianceId) {
        let Some(process) = &self.machines.get(id).process else { return };
        let position = process.status.last;
        let Some((since, begun)) = process.leaving_since else { return };
        let blank = process.status.own.conf.is_none();
        // After a handover it may have followed its successor for a moment: the LSN is the one it stopped serving at.
        let known = |lsn: Lsn| lsn >= begun && lsn <= position.lsn;
        let seen = |record: &WitnessRecord| {
            let parted = record.conf.primary() == id && record.part.is_some_and(|part| known(part.lsn));
            parted || record.left.get(id).is_some_and(|note| known(note.position.lsn))
        };
        let noted = self.records().iter().rev().take_while(|(at, _)| *at >= since).any(|(_, r)| seen(r))
            || self.record().is_some_and(seen);
        if noted || blank {
            return;
        }
        self.marks.reach(Mark::StoppedUnnoted);
        let quick = self.witness_filter.is_none()
            && self.options.witness_latency.1 <= 50 * MILLI
            && self.options.save.1 <= 20 * MILLI
            && self.options.fsync.1 <= 20 * MILLI
            && self.options.lossy.is_none();
        let healthy = self.witness().healthy_since.is_some_and(|healthy| healthy + SECOND < since);
        let undisturbed = self.undisturbed_since().is_some_and(|quiet| quiet + 3 * SECOND < since);
        if quick && healthy && undisturbed && self.record().is_some() {
            self.violate(format!("R3: {id} stops at {position}, and the witness was never told"));
        }
    }

    fn mark_begin(&mut self, before: &Status, after: &Status) {
        if before.role == RoleName::Elect {
            self.marks.reach(Mark::ElectBegan);
        }
        let epoch = after.own.conf.epoch();
        let by_witness = self.record().is_some_and(|record| record.conf.epoch() == epoch);
        if by_witness {
            self.marks.reach(Mark::TakeWon);
        }
    }

    fn mark_changes(&mut self, id: ApplianceId, before: &Status, after: &Status) {
        let (old, new) = (&before.own, &after.own);
        if before.role != RoleName::Elect && after.role == RoleName::Elect {
            self.marks.reach(Mark::Elect);
        }
        if is_primary(before.role) && after.role == RoleName::Starting && old.conf != new.conf {
            let handed = before.pending == Some(new.conf);
            self.marks.reach(if handed { Mark::Handover } else { Mark::Deposed });
        }
        if before.role == RoleName::Starting && old.conf != new.conf && before.pending == Some(new.conf) {
            self.marks.reach(if new.conf.is_pair() { Mark::ColdPair } else { Mark::ColdSolo });
        }
        if is_primary(before.role) && is_primary(after.role) && old.conf != new.conf {
            let agreed = before.pending == Some(new.conf);
            let mark = match (new.conf.is_pair(), agreed) {
                (true, _) if new.conf.witness() != old.conf.witness() => Mark::Moved,
                (true, _) if old.conf.is_pair() => Mark::Renewed,
                (true, _) => Mark::Rejoin,
                (false, true) => Mark::Leave,
                (false, false) => Mark::PrimaryTook,
            };
            self.marks.reach(mark);
            if mark == Mark::PrimaryTook && self.reading {
                self.marks.reach(Mark::TakeLearned);
            }
        }
        if old.tent != new.tent {
            if new.tent.is_some() {
                self.marks.reach(Mark::Tent);
            } else if old.tent != Some(new.conf) {
                self.marks.reach(Mark::TentDropped);
            }
        }
        if before.role == RoleName::Starting
            && is_primary(after.role)
            && old.conf == new.conf
            && !after.witness_reachable
        {
            self.marks.reach(Mark::BeginAlone);
        }
        if before.waiting != after.waiting
            && let Some(sentence) = &after.waiting
        {
            let sentence = sentence.clone();
            self.note(|| format!("{id} waits: {sentence}"));
            self.mark_wait(&sentence);
        }
        if before.role != after.role {
            let (from, to) = (before.role.as_str(), after.role.as_str());
            self.note(|| format!("{id}: {from} -> {to}"));
        }
    }

    fn mark_wait(&mut self, sentence: &str) {
        let marks = [
            ("but", Mark::WaitBehind),
            ("different history", Mark::WaitOtherHistory),
            ("went on without", Mark::WaitPeerWentOn),
            ("has agreed that", Mark::WaitAgreed),
            ("It shut down last", Mark::WaitParted),
            ("agreed to another witness", Mark::WaitMoving),
            ("set back to an old copy", Mark::WaitSetBack),
            ("Neither the other", Mark::WaitSilent),
            ("holds no record", Mark::WaitAbsent),
            ("have lost writes", Mark::WaitDamaged),
            ("has lost writes", Mark::WaitDamaged),
        ];
        // The more special ones come later: the last that fits.
        if let Some((_, mark)) = marks.iter().rev().find(|(words, _)| sentence.contains(words)) {
            self.marks.reach(*mark);
        }
    }

    fn mark_record(&mut self, at: usize, record: &WitnessRecord, from: ApplianceId) {
        let history = &self.witnesses[at].history;
        let Some((_, before)) = history.len().checked_sub(2).and_then(|index| history.get(index)) else {
            return;
        };
        let before = before.clone();
        if record.part.is_some() && before.part != record.part {
            self.marks.reach(Mark::Part);
        }
        if record.part.is_none() && before.part.is_some() && record.conf.primary() != before.conf.primary() {
            self.marks.reach(Mark::Equality);
        }
        if record.left.get(from).is_some() && record.left.get(from) != before.left.get(from) {
            self.marks.reach(Mark::Note);
        }
        let peer = from.peer();
        if record.left.get(peer).is_none() && before.left.get(peer).is_some() {
            self.marks.reach(Mark::NoteCleared);
        }
        if self.process_of_writer_is_gone(from, record) {
            self.marks.reach(Mark::TakeTooLate);
        }
    }

    fn process_of_writer_is_gone(&self, from: ApplianceId, record: &WitnessRecord) -> bool {
        record.conf.epoch() < self.own(from).conf.epoch() && record.part.is_none()
    }
}
