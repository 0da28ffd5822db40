//! What the real driver does, in simulated time: it hands inputs to the core one by one and carries out its effects.
//! It decides nothing.

use core::hash::Hash;

use duet_protocol::{
    ApplianceId, Effect, Epoch, Input, Lsn, Message, ReadPermit, RoleName, WitnessRead, WitnessWrite,
};

use super::clock::{MICRO, MILLI, SECOND, Time};
use super::link::Packet;
use super::machine::{Arriving, OperationId, Work};
use super::marks::Mark;
use super::state;
use super::storage::{Done, Failure, Job};
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
                    Input::Propose(operations.into_iter().map(|operation| self.command(operation)).collect())
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
        let life = process.life;
        (now, id, &input).hash(&mut self.events);
        let mut effects = Vec::new();
        process.core.step(reading, input, &mut effects);
        let before = process.status.clone();
        process.status = process.core.status();
        for effect in effects {
            if self.life_of(id) == Some(life) {
                self.carry_out(id, effect);
            }
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
                self.push_job(id, Job::Append { generation, entries });
            }
            Effect::Truncate { generation, last } => {
                self.marks.reach(Mark::TailCut);
                self.note(|| format!("{id} truncates its log to LSN {last}"));
                self.machines.get_mut(id).kept.begin_truncation(last);
                self.push_job(id, Job::Truncate { generation, last });
            }
            Effect::InstallSnapshot { generation, position } => {
                let verdict = self.oracle.on_installed(id, position);
                self.require(verdict);
                self.machines.get_mut(id).kept.begin_installation(position);
                let copy = self.machines.get_mut(id).process.as_mut().and_then(|process| process.copy.take());
                match copy {
                    Some(copy) => self.push_job(id, Job::Install { generation, position, copy }),
                    None => self.violate(format!("{id} wants to install a copy that was not received")),
                }
            }
            Effect::Trim { upto } => self.push_job(id, Job::Trim { upto }),
            Effect::SaveState(own) => {
                let time = self.random.within(self.options.save);
                let machine = self.machines.get_mut(id);
                machine.kept.begin_save(&own);
                if let Some(process) = &mut machine.process {
                    process.saving = Some(own);
                    let life = process.life;
                    self.schedule(time, Event::Saved { id, life });
                }
            }
            Effect::Send(message) => self.send(id, Packet::Message(message)),
            Effect::SendAppend { header, first, last } => {
                let Some(process) = &self.machines.get(id).process else { return };
                match process.storage.entries_to_send(first, last) {
                    Err(failure) => self.fail(id, &failure),
                    Ok(None) => {}
                    Ok(Some(entries)) => {
                        for entry in &entries {
                            let verdict = self.oracle.on_entry(entry.position());
                            self.require(verdict);
                        }
                        self.send(id, Packet::Message(Message::Append { header, entries }));
                    }
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
                self.finish_process(id);
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
        let Some(process) = self.process_of_mut(id, life) else { return };
        let Some(own) = process.saving.take() else { return };
        if let Err(error) = process.storage.own.save(&own) {
            return self.fail(id, &error.to_string());
        }
        self.note(|| {
            let tent = own.tent.map_or_else(|| "none".into(), |tent| tent.to_string());
            format!(
                "{id} has stored conf[{}] tent[{tent}] max {} parted {}",
                own.conf, own.max_epoch, own.parted
            )
        });
        self.machines.get_mut(id).kept.saved();
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

    fn push_job(&mut self, id: ApplianceId, job: Job) {
        if let Some(process) = &mut self.machines.get_mut(id).process {
            process.storage.push(job);
            self.begin_jobs(id);
        }
    }

    fn begin_jobs(&mut self, id: ApplianceId) {
        let range = self.machines.get(id).slow_disk.unwrap_or(self.options.fsync);
        let Some(process) = &mut self.machines.get_mut(id).process else { return };
        if process.storage.take_jobs() {
            let life = process.life;
            let time = self.random.within(range);
            self.schedule(time, Event::JobsDone { id, life });
        }
    }

    /// The log's thread has done what it had taken; now it is seen on the disk.
    pub(crate) fn on_jobs_done(&mut self, id: ApplianceId, life: u64) {
        let Some(process) = self.process_of_mut(id, life) else { return };
        let mut done = Vec::new();
        let worked = process.storage.work_off(&mut process.state, &mut done);
        for done in done {
            let input = self.learn_done(id, done);
            if let Some(input) = input {
                self.input(id, input);
            }
        }
        if self.process_of(id, life).is_none() {
            return;
        }
        match worked {
            Ok(()) => self.begin_jobs(id),
            Err(failure) => self.fail(id, &failure),
        }
    }

    /// What has become durable, and what the core is told about it.
    pub(crate) fn learn_done(&mut self, id: ApplianceId, done: Done) -> Option<Input> {
        let kept = &mut self.machines.get_mut(id).kept;
        match done {
            Done::Written { generation, entries } => {
                kept.written(&entries);
                for entry in &entries {
                    let verdict = self.oracle.on_entry(entry.position());
                    self.require(verdict);
                }
                let lsn = entries.last().map(|entry| entry.lsn)?;
                Some(Input::Flushed { generation, lsn })
            }
            Done::Truncated { generation, lsn } => {
                kept.truncated(lsn);
                Some(Input::Flushed { generation, lsn })
            }
            Done::Trimmed => {
                let base = self.machines.get(id).process.as_ref()?.storage.log.base();
                self.machines.get_mut(id).kept.trimmed(base);
                None
            }
            Done::Checkpointed(position) => {
                kept.checkpointed(position);
                Some(Input::Checkpointed(position.lsn))
            }
            Done::Installed(position) => {
                kept.installed(position);
                self.marks.reach(Mark::Copy);
                let process = self.machines.get_mut(id).process.as_mut()?;
                process.apply_target = process.apply_target.max(position.lsn);
                // Their entries will never be applied one by one here.
                for operation in core::mem::take(&mut process.writers).into_values() {
                    self.tell_unknown(operation);
                }
                self.check_state(id);
                Some(Input::SnapshotInstalled(position))
            }
        }
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
        match self.apply_committed(id) {
            Ok(lsn) => self.input(id, Input::Applied(lsn)),
            Err(failure) => self.fail(id, &failure),
        }
    }

    /// Applies everything that is committed; where the state machine stands then.
    pub(crate) fn apply_committed(&mut self, id: ApplianceId) -> Result<Lsn, Failure> {
        loop {
            let Some(process) = &mut self.machines.get_mut(id).process else {
                return Err("it is gone".into());
            };
            let applied = process.state.applied;
            if applied.lsn >= process.apply_target {
                process.state.compact_some();
                return Ok(applied.lsn);
            }
            for entry in process.storage.entries_to_apply(applied.lsn.next(), process.apply_target)? {
                let Some(process) = &mut self.machines.get_mut(id).process else { break };
                if !entry.follows(&process.state.applied) {
                    self.violate(format!("S1: {id} applies LSN {} upon another history", entry.lsn));
                    return Err("another history".into());
                }
                let outcome = process.state.apply(&entry)?;
                let writer = process.writers.remove(&entry.lsn);
                self.on_entry_applied(id, &entry, &outcome);
                if let Some(operation) = writer {
                    self.tell_acknowledged(operation, &entry);
                }
            }
        }
    }

    /// The checkpoint thread's timer.
    pub(crate) fn on_checkpoint_due(&mut self, id: ApplianceId, life: u64) {
        let takes = self.random.within(self.options.save);
        let next = self.random.within(self.options.checkpoint);
        let Some(process) = self.process_of_mut(id, life) else { return };
        // A spare segment that cannot be made is only a warning.
        let _ = process.storage.log.prepare_next();
        if process.state.begin_checkpoint(&process.storage.state) {
            self.schedule(takes, Event::CheckpointDone { id, life });
        }
        self.schedule(takes + next, Event::CheckpointDue { id, life });
    }

    pub(crate) fn on_checkpoint_done(&mut self, id: ApplianceId, life: u64) {
        let Some(process) = self.process_of_mut(id, life) else { return };
        match process.state.finish_checkpoint(&process.storage.state) {
            Err(failure) => self.fail(id, &failure),
            Ok(None) => {} // a copy was installed meanwhile
            Ok(Some(position)) => {
                let input = self.learn_done(id, Done::Checkpointed(position));
                if let Some(input) = input {
                    self.input(id, input);
                }
            }
        }
    }

    fn send_copy(&mut self, id: ApplianceId, epoch: Epoch) {
        let transfer = self.random.within((MILLI, 300 * MILLI));
        let up = self.link.open && *self.link.up.get(id);
        let connection = self.link.connection;
        let Some(process) = &mut self.machines.get_mut(id).process else { return };
        let (position, rows) = match state::copy(&process.storage.state) {
            Ok(copy) => copy,
            Err(failure) => return self.fail(id, &failure),
        };
        let life = process.life;
        process.sending_copy = Some(connection);
        self.note(|| format!("{id} sends a copy at {position}"));
        self.schedule(transfer, Event::CopySent { id, life, connection });
        if up && !*self.link.cut.get(id) {
            let packet = Box::new(Packet::Copy(Arriving { epoch, position, rows }));
            let deliver = Event::Deliver { to: id.peer(), connection: Some(connection), packet };
            self.schedule(transfer.saturating_sub(MICRO), deliver);
        }
    }

    /// A copy has arrived; it is made durable beside the state there is.
    pub(crate) fn on_copy(&mut self, id: ApplianceId, copy: Arriving) {
        let time = self.random.within(self.options.save);
        let Some(process) = &mut self.machines.get_mut(id).process else { return };
        if process.arriving.is_some() || process.copy.is_some() || process.storage.is_installing() {
            return; // there is room for one
        }
        process.arriving = Some(copy);
        let life = process.life;
        self.schedule(time, Event::CopyStored { id, life });
    }

    pub(crate) fn on_copy_stored(&mut self, id: ApplianceId, life: u64) {
        let Some(process) = self.process_of_mut(id, life) else { return };
        let Some(copy) = process.arriving.take() else { return };
        match process.storage.store_copy(&copy) {
            Err(failure) => self.fail(id, &failure),
            Ok(ready) => {
                process.copy = Some(ready);
                let Arriving { epoch, position, .. } = copy;
                self.input(id, Input::SnapshotReceived { epoch, position });
            }
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
            Fate::Normal => return self.schedule(latency, Event::WitnessArrival(Box::new(request))),
            Fate::Lost => {}
            Fate::Unanswered => {
                let unanswered = Request { answered: false, ..request.clone() };
                self.schedule(latency, Event::WitnessArrival(Box::new(unanswered)));
            }
            Fate::Late(delay) => {
                // A late answer may even come, when the driver has no deadline of its own.
                request.answered = writes && self.options.witness_deadline.is_none();
                self.schedule(delay, Event::WitnessArrival(Box::new(request.clone())));
            }
        }
        self.witness_times_out(&request);
    }

    /// Connection refused, or no answer at all.
    fn witness_unreachable(&mut self, request: &Request) {
        if self.random.chance(500) {
            let (to, life, ticket) = (request.from, request.life, request.ticket);
            let answer = Box::new(unknown(&request.ask));
            self.schedule(MILLI, Event::WitnessAnswer { to, life, ticket, answer });
        } else {
            self.witness_times_out(request);
        }
    }

    fn witness_times_out(&mut self, request: &Request) {
        if let Some(deadline) = self.options.witness_deadline {
            let (to, life, ticket) = (request.from, request.life, request.ticket);
            let answer = Box::new(unknown(&request.ask));
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
            let (to, life, ticket, answer) = (from, request.life, request.ticket, Box::new(answer));
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
        let (life, lsn) = (process.life, process.state.applied.lsn);
        self.answer(id, operation);
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
