//! What the real driver does, in simulated time: it hands inputs to the core one by one and carries out its effects.
//! It decides nothing.

use core::hash::Hash;

use duet_protocol::{ApplianceId, Effect, Input, Lsn, Message};

use super::event::Event;
use super::life::End;
use super::link::Packet;
use super::machine::{OperationId, Work};
use super::marks::Mark;
use super::storage::Job;
use super::witness::Ask;
use super::world::World;

impl World {
    /// Something for the driver to handle, after what waits already.
    pub(crate) fn work(&mut self, id: ApplianceId, work: Work) {
        let Some(process) = &mut self.machines.get_mut(id).process else { return };
        process.inbox.push_back(work);
        self.drain(id);
    }

    pub(crate) fn drain(&mut self, id: ApplianceId) {
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

    pub(crate) fn step(&mut self, id: ApplianceId, input: Input) {
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
            Effect::ReadWitness { ticket, witness } => self.ask_witness(id, ticket, witness, Ask::Read),
            Effect::CreateRecord { ticket, witness, record } => {
                self.ask_witness(id, ticket, witness, Ask::Create(record));
            }
            Effect::CompareAndSet { ticket, witness, expected, record } => {
                self.ask_witness(id, ticket, witness, Ask::Swap { expected, record });
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
            Effect::ReadIndex { number, lsn } => {
                if let Some(life) = self.life_of(id) {
                    self.schedule(0, Event::ReadIndexed { id, life, number, lsn });
                }
            }
            Effect::Explain(sentence) => self.note(|| format!("{id} explains: {sentence}")),
            Effect::Stop => {
                self.note(|| format!("{id} stops"));
                self.check_left(id);
                self.finish_process(id);
            }
            Effect::GiveUp(why) => {
                self.marks.reach(Mark::GivenUp);
                self.note(|| format!("{id} gives up: {why}"));
                self.end_process(id, End::Killed);
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
}
