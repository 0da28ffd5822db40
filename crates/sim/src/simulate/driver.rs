//! What the real driver does, in simulated time: it hands inputs to the core one by one and carries out its effects.
//! It decides nothing.

use core::hash::Hash;

use bytes::Bytes;

use duet_protocol::{
    ApplianceId, Effect, Input, Lsn, Message, ReadPermit, RoleName, WitnessRead, WitnessWrite,
};

use super::clock::{MICRO, MILLI, SECOND, Time};
use super::disk::LogWrite;
use super::link::Packet;
use super::machine::{OperationId, Work};
use super::marks::Mark;
use super::witness::{Answer, Ask, Fate, Request};
use super::world::{Event, World};

/// How late a request to the witness may be carried out.
const LATE: (Time, Time) = (10 * MILLI, 12 * SECOND);

impl World {
    /// Something for the driver to handle, after what waits already.
    pub(crate) fn work(&mut self, id: ApplianceId, work: Work) {
        let Some(process) = &mut self.machines.get_mut(id).process else { return };
        process.inbox.push_back(work);
        self.drain(id);
    }

    fn drain(&mut self, id: ApplianceId) {
        while self.violation.is_none() {
            let Some(process) = &mut self.machines.get_mut(id).process else { return };
            if process.saving.is_some() || process.stalled_until.is_some() {
                return;
            }
            let Some(work) = process.inbox.pop_front() else { break };
            let input = match work {
                Work::Input(input) => input,
                Work::Write(operations) => {
                    process.proposing.clone_from(&operations);
                    Input::Propose(operations.into_iter().map(command).collect())
                }
            };
            self.step(id, input);
        }
        self.reschedule_tick(id);
    }

    fn step(&mut self, id: ApplianceId, input: Input) {
        self.count_step();
        let now = self.now;
        let machine = self.machines.get_mut(id);
        let reading = machine.clock.read(now);
        let Some(process) = &mut machine.process else { return };
        (now, id, &input).hash(&mut self.events);
        let mut effects = Vec::new();
        process.core.step(reading, input, &mut effects);
        let before = process.status.clone();
        process.status = process.core.status();
        for effect in effects {
            self.carry_out(id, effect);
        }
        self.observe(id, &before);
    }

    pub(crate) fn reschedule_tick(&mut self, id: ApplianceId) {
        let now = self.now;
        let machine = self.machines.get_mut(id);
        let Some(process) = &mut machine.process else { return };
        if process.saving.is_some() || process.stalled_until.is_some() {
            return;
        }
        let at = machine.clock.when(process.core.next_deadline()).max(now + 1);
        if process.tick_at.is_some_and(|other| other == at) {
            return;
        }
        process.tick_at = Some(at);
        let life = process.life;
        self.schedule_at(at, Event::Tick { id, life });
    }

    fn carry_out(&mut self, id: ApplianceId, effect: Effect) {
        match effect {
            Effect::Append { generation, entries } => {
                self.machines.get_mut(id).disk.write(LogWrite::Append(entries), Some(generation));
                self.begin_sync(id);
            }
            Effect::Truncate { generation, last } => {
                self.marks.reach(Mark::TailCut);
                self.note(|| format!("{id} truncates its log to LSN {last}"));
                self.machines.get_mut(id).disk.write(LogWrite::Truncate(last), Some(generation));
                self.begin_sync(id);
            }
            Effect::InstallSnapshot { generation, position } => {
                let verdict = self.oracle.on_installed(id, position);
                self.require(verdict);
                self.machines.get_mut(id).disk.write(LogWrite::Install(position), Some(generation));
                self.begin_sync(id);
            }
            Effect::Trim { upto } => {
                self.machines.get_mut(id).disk.write(LogWrite::Trim(upto), None);
                self.begin_sync(id);
            }
            Effect::SaveState(own) => {
                let time = self.random.within(self.options.save);
                if let Some(process) = &mut self.machines.get_mut(id).process {
                    process.saving = Some(own);
                    let life = process.life;
                    self.schedule(time, Event::Saved { id, life });
                }
            }
            Effect::Send(message) => self.send(id, Packet::Message(message)),
            Effect::SendAppend { header, first, last } => {
                let log = &self.machines.get(id).disk.written;
                let entries: Option<Vec<_>> =
                    (first.0..=last.0).map(|lsn| log.get(Lsn(lsn)).cloned()).collect();
                if let Some(entries) = entries {
                    for entry in &entries {
                        let verdict = self.oracle.on_entry(entry);
                        self.require(verdict);
                    }
                    self.send(id, Packet::Message(Message::Append { header, entries }));
                }
            }
            Effect::SendSnapshot { epoch } => self.send_copy(id, epoch),
            Effect::DropSnapshot => {
                self.marks.reach(Mark::CopyDropped);
                if let Some(process) = &mut self.machines.get_mut(id).process {
                    process.copy = None;
                }
            }
            Effect::ReadWitness { ticket } => self.ask_witness(id, ticket, Ask::Read),
            Effect::CreateRecord { ticket, record } => self.ask_witness(id, ticket, Ask::Create(record)),
            Effect::CompareAndSet { ticket, expected, record } => {
                self.ask_witness(id, ticket, Ask::Swap { expected, record });
            }
            Effect::Apply { upto } => self.begin_apply(id, upto),
            Effect::Accepted { first, count } => self.on_accepted(id, first, count),
            Effect::Refused { count } => {
                let operations = self.take_proposing(id, count);
                self.note(|| format!("{id} refuses {count} writes"));
                for operation in operations {
                    self.tell_refused(operation);
                }
            }
            Effect::Abandon { above } => {
                let Some(process) = &mut self.machines.get_mut(id).process else { return };
                let gone = process.writers.split_off(&above.next());
                for operation in gone.into_values() {
                    self.tell_unknown(operation);
                }
            }
            Effect::ReadPermit(permit) => {
                self.note(|| format!("{id} read permit {permit:?}"));
                if let Some(process) = &mut self.machines.get_mut(id).process {
                    process.permit = permit;
                }
                self.check_permits(id);
            }
            Effect::Explain(sentence) => self.note(|| format!("{id} explains: {sentence}")),
            Effect::Stop => {
                self.note(|| format!("{id} stops"));
                self.check_left(id);
                self.end_process(id, false);
            }
            Effect::Halt(why) => self.violate(format!("{id} halts: {why}")),
        }
    }

    fn take_proposing(&mut self, id: ApplianceId, count: u64) -> Vec<OperationId> {
        let Some(process) = &mut self.machines.get_mut(id).process else { return Vec::new() };
        let operations = core::mem::take(&mut process.proposing);
        if operations.len() as u64 != count {
            self.violate(format!("{id} answers {count} of {} proposed writes", operations.len()));
        }
        operations
    }

    fn on_accepted(&mut self, id: ApplianceId, first: Lsn, count: u64) {
        let operations = self.take_proposing(id, count);
        let Some(process) = &mut self.machines.get_mut(id).process else { return };
        let epoch = process.status.own.conf.epoch();
        for (lsn, operation) in (first.0..).zip(operations) {
            process.writers.insert(Lsn(lsn), operation);
        }
        let verdict = self.oracle.on_appended(id, epoch);
        self.require(verdict);
    }

    // ---- the disk ----

    pub(crate) fn on_saved(&mut self, id: ApplianceId, life: u64) {
        let Some(own) = self.process_of_mut(id, life).and_then(|process| process.saving.take()) else {
            return;
        };
        self.note(|| {
            let tent = own.tent.map_or_else(|| "none".into(), |tent| tent.to_string());
            format!(
                "{id} has stored conf[{}] tent[{tent}] max {} parted {}",
                own.conf, own.max_epoch, own.parted
            )
        });
        self.machines.get_mut(id).disk.own = own;
        self.check_stored();
        // Always the next input after the effect.
        if let Some(process) = self.process_of_mut(id, life) {
            if process.stalled_until.is_some() {
                process.inbox.push_front(Work::Input(Input::StateSaved));
                return;
            }
            self.step(id, Input::StateSaved);
            self.drain(id);
        }
    }

    fn begin_sync(&mut self, id: ApplianceId) {
        let range = self.machines.get(id).slow_disk.unwrap_or(self.options.fsync);
        let time = self.random.within(range);
        let machine = self.machines.get_mut(id);
        let Some(life) = machine.process.as_ref().map(|process| process.life) else { return };
        if machine.disk.begin_sync() {
            self.schedule(time, Event::Synced { id, life });
        }
    }

    pub(crate) fn on_synced(&mut self, id: ApplianceId, life: u64) {
        if self.process_of(id, life).is_none() {
            return;
        }
        let synced = self.machines.get_mut(id).disk.end_sync();
        for entry in &synced.fresh {
            let verdict = self.oracle.on_entry(entry);
            self.require(verdict);
        }
        self.begin_sync(id);
        if let Some(position) = synced.installed {
            self.marks.reach(Mark::Copy);
            if let Some(process) = self.process_of_mut(id, life) {
                process.applied = position;
                process.apply_target = position.lsn;
                process.copy = None;
            }
            self.input(id, Input::SnapshotInstalled(position));
            if synced.last == position.lsn {
                return;
            }
        }
        self.input(id, Input::Flushed { generation: synced.generation, lsn: synced.last });
    }

    // ---- the state machine ----

    fn begin_apply(&mut self, id: ApplianceId, upto: Lsn) {
        let time = self.random.within(self.options.apply);
        let Some(process) = &mut self.machines.get_mut(id).process else { return };
        process.apply_target = process.apply_target.max(upto);
        if !process.applying {
            process.applying = true;
            let life = process.life;
            self.schedule(time, Event::Applied { id, life });
        }
    }

    pub(crate) fn on_applied(&mut self, id: ApplianceId, life: u64) {
        let Some(process) = self.process_of_mut(id, life) else { return };
        process.applying = false;
        let mut applied = process.applied;
        while let Some(upto) = self.process_of(id, life).map(|process| process.apply_target)
            && applied.lsn < upto
        {
            let Some(entry) = self.machines.get(id).disk.written.get(applied.lsn.next()).cloned() else {
                return self.violate(format!("{id} is to apply LSN {}, which it lacks", applied.lsn.next()));
            };
            if !entry.follows(&applied) {
                return self.violate(format!("S1: {id} applies LSN {} upon another history", entry.lsn));
            }
            let verdict = self.oracle.on_applied(id, &entry);
            match verdict {
                Ok(true) => self.on_first_applied(operation_of(&entry.command), entry.lsn),
                Ok(false) => {}
                Err(breach) => return self.violate(breach),
            }
            applied = entry.position();
            let Some(process) = self.process_of_mut(id, life) else { return };
            process.applied = applied;
            if let Some(operation) = process.writers.remove(&entry.lsn) {
                self.tell_acknowledged(operation, &entry);
            }
        }
        self.input(id, Input::Applied(applied.lsn));
    }

    pub(crate) fn on_checkpoint(&mut self, id: ApplianceId, life: u64) {
        let Some(process) = self.process_of(id, life) else { return };
        let (applied, told) = (process.applied, process.status.applied);
        let next = self.random.within(self.options.checkpoint);
        self.schedule(next, Event::Checkpoint { id, life });
        // The state machine reports nothing newer than what the core has been told is applied.
        if applied.lsn > told || applied.lsn <= self.machines.get(id).disk.checkpoint.lsn {
            return;
        }
        if self.machines.get(id).disk.durable.at(applied.lsn) == Some(applied) {
            self.machines.get_mut(id).disk.checkpoint = applied;
            self.input(id, Input::Checkpointed(applied.lsn));
        }
    }

    fn send_copy(&mut self, id: ApplianceId, epoch: duet_protocol::Epoch) {
        let transfer = self.random.within((MILLI, 300 * MILLI));
        let up = self.link.open && *self.link.up.get(id);
        let connection = self.link.connection;
        let Some(process) = &mut self.machines.get_mut(id).process else { return };
        let (life, position) = (process.life, process.applied);
        process.sending_copy = Some(connection);
        self.note(|| format!("{id} sends a copy at {position}"));
        self.schedule(transfer, Event::CopySent { id, life, connection });
        if up && !*self.link.cut.get(id) {
            let packet = Packet::Copy { epoch, position };
            let deliver = Event::Deliver { to: id.peer(), connection: Some(connection), packet };
            self.schedule(transfer.saturating_sub(MICRO), deliver);
        }
    }

    // ---- the witness ----

    fn ask_witness(&mut self, from: ApplianceId, ticket: u64, ask: Ask) {
        let Some(life) = self.life_of(from) else { return };
        self.note(|| format!("{from} asks the witness: {}", describe(&ask)));
        let mut request = Request { from, life, ticket, ask, answered: true };
        let writes = !matches!(request.ask, Ask::Read);
        let mut fate = self.witness_filter.as_mut().map_or(Fate::Normal, |filter| filter(&request));
        if fate == Fate::Normal && self.witness_late {
            fate = match self.random.below(4) {
                0 => Fate::Lost,
                1 => Fate::Unanswered,
                2 => Fate::Late(self.random.spread(LATE)),
                _ => Fate::Normal,
            };
        }
        let latency = self.random.within(self.options.witness_latency);
        match fate {
            _ if !self.witness.reached_by(from) && (fate == Fate::Normal || self.random.chance(500)) => {
                return self.witness_unreachable(&request);
            }
            Fate::Normal => return self.schedule(latency, Event::WitnessArrival(request)),
            Fate::Lost => {}
            Fate::Unanswered => {
                let unanswered = Request { answered: false, ..request.clone() };
                self.schedule(latency, Event::WitnessArrival(unanswered));
            }
            Fate::Late(delay) => {
                // A late answer may even come, when the driver has no deadline of its own.
                request.answered = writes && self.options.witness_deadline.is_none();
                self.schedule(delay, Event::WitnessArrival(request.clone()));
            }
        }
        self.witness_times_out(&request);
    }

    /// Connection refused, or no answer at all.
    fn witness_unreachable(&mut self, request: &Request) {
        if self.random.chance(500) {
            let (to, life, ticket) = (request.from, request.life, request.ticket);
            let answer = unknown(&request.ask);
            self.schedule(MILLI, Event::WitnessAnswer { to, life, ticket, answer });
        } else {
            self.witness_times_out(request);
        }
    }

    fn witness_times_out(&mut self, request: &Request) {
        if let Some(deadline) = self.options.witness_deadline {
            let (to, life, ticket) = (request.from, request.life, request.ticket);
            let answer = unknown(&request.ask);
            self.schedule(deadline, Event::WitnessAnswer { to, life, ticket, answer });
        }
    }

    pub(crate) fn on_witness_arrival(&mut self, request: &Request) {
        if !self.witness.up {
            return self.witness_times_out(request);
        }
        let answer = self.witness.carry_out(self.now, &request.ask);
        let from = request.from;
        if !matches!(answer, Answer::Read(_)) {
            self.note(|| format!("the witness has {} what {from} wrote", outcome(&answer)));
            if matches!(answer, Answer::Written(WitnessWrite::Mismatch)) {
                self.marks.reach(Mark::SwapConflict);
            }
            self.on_record(request);
        }
        if request.answered && self.witness.reached_by(from) {
            let latency = self.random.within(self.options.witness_latency);
            let (to, life, ticket) = (from, request.life, request.ticket);
            self.schedule(latency, Event::WitnessAnswer { to, life, ticket, answer });
        } else {
            self.witness_times_out(request);
        }
    }

    pub(crate) fn on_witness_answer(&mut self, to: ApplianceId, life: u64, ticket: u64, answer: Answer) {
        if self.process_of(to, life).is_none() {
            return;
        }
        self.note(|| format!("{to} hears from the witness: {}", outcome(&answer)));
        match answer {
            Answer::Read(outcome) => {
                self.reading = true;
                self.input(to, Input::WitnessRead { ticket, outcome });
                self.reading = false;
            }
            Answer::Written(outcome) => self.input(to, Input::WitnessWritten { ticket, outcome }),
        }
    }

    // ---- the readers ----

    pub(crate) fn on_read_arrival(&mut self, id: ApplianceId, operation: OperationId) {
        let floor = self.oracle.relied_upon();
        let now = self.now;
        let machine = self.machines.get(id);
        let Some(process) = machine.process.as_ref().filter(|process| !process.frozen) else {
            return self.tell_refused(operation);
        };
        if !machine.permit_holds(now) {
            return self.tell_refused(operation);
        }
        let (life, lsn) = (process.life, process.applied.lsn);
        // The permit is checked once more after the state was read, and that may be a long time later.
        let takes = if self.random.chance(50) { (MILLI, 300 * MILLI) } else { (MICRO, 100 * MICRO) };
        let takes = self.random.within(takes);
        self.schedule(takes, Event::ReadChecked { id, life, operation, begun: now, floor, lsn });
    }

    pub(crate) fn on_read_checked(
        &mut self,
        id: ApplianceId,
        life: u64,
        operation: OperationId,
        (begun, floor, lsn): (Time, Lsn, Lsn),
    ) {
        let now = self.now;
        let machine = self.machines.get(id);
        let permit =
            self.process_of(id, life).filter(|process| !process.frozen).map(|process| process.permit);
        if permit.is_none() || !machine.permit_holds(now) {
            self.marks.reach(Mark::ReadCancelled);
            return self.tell_refused(operation);
        }
        self.marks.reach(if permit == Some(ReadPermit::Yes) { Mark::SoloRead } else { Mark::LeaseRead });
        let verdict = self.oracle.on_read(id, begun, floor, lsn);
        self.require(verdict);
        self.tell_read(operation, id, lsn);
    }

    /// Whether this appliance serves: takes writes and answers reads.
    pub fn serves(&self, id: ApplianceId) -> bool {
        self.role(id) == Some(RoleName::Primary) && self.answers_reads(id)
    }
}

fn unknown(ask: &Ask) -> Answer {
    match ask {
        Ask::Read => Answer::Read(WitnessRead::Unknown),
        Ask::Create(_) | Ask::Swap { .. } => Answer::Written(WitnessWrite::Unknown),
    }
}

/// The command of an operation: its number, so that every command is another.
pub(crate) fn command(operation: OperationId) -> Bytes {
    Bytes::copy_from_slice(&operation.to_le_bytes())
}

fn operation_of(command: &Bytes) -> OperationId {
    command.as_ref().try_into().map(OperationId::from_le_bytes).expect("a command of this world")
}

fn describe(ask: &Ask) -> String {
    match ask {
        Ask::Read => "read".into(),
        Ask::Create(record) => format!("create {}", record.conf),
        Ask::Swap { record, expected } => format!(
            "swap {expected}: {}{}{}",
            record.conf,
            record.part.map_or_else(String::new, |part| format!(", parted at {part}")),
            match (record.left.a, record.left.b) {
                (None, None) => "",
                (Some(_), None) => ", note of A",
                (None, Some(_)) => ", note of B",
                (Some(_), Some(_)) => ", notes of both",
            }
        ),
    }
}

fn outcome(answer: &Answer) -> String {
    match answer {
        Answer::Read(WitnessRead::Record(record)) => format!("record {}: {}", record.revision, record.conf),
        Answer::Read(WitnessRead::Absent) => "no record".into(),
        Answer::Read(WitnessRead::Foreign) => "another pair's record".into(),
        Answer::Read(WitnessRead::Unknown) => "nothing".into(),
        Answer::Written(WitnessWrite::Swapped) => "swapped".into(),
        Answer::Written(WitnessWrite::Mismatch) => "not swapped".into(),
        Answer::Written(WitnessWrite::Unknown) => "unknown".into(),
    }
}
