//! What the server's other threads do, in simulated time: the log's, the one that applies, the one that writes checkpoints, and
//! the copies that come and go.

use duet_protocol::{ApplianceId, Epoch, Input, Lsn};
use duet_serving::AppliedBatch;

use super::clock::{MICRO, MILLI};
use super::event::Event;
use super::link::Packet;
use super::machine::{Arriving, Work};
use super::marks::Mark;
use super::state;
use super::storage::{Done, Failure, Job};
use super::world::World;

impl World {
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

    pub(crate) fn push_job(&mut self, id: ApplianceId, job: Job) {
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
                self.lives += 1;
                let life = self.lives;
                let process = self.machines.get_mut(id).process.as_mut()?;
                process.applied_life = life;
                let revision = process.state.store.revision();
                self.tell_watches(id, AppliedBatch { events: Vec::new(), revision, restored: true });
                self.check_state(id);
                Some(Input::SnapshotInstalled(position))
            }
        }
    }

    pub(crate) fn begin_apply(&mut self, id: ApplianceId, upto: Lsn) {
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
            Ok(lsn) => {
                self.input(id, Input::Applied(lsn));
                self.answer_as_secondary(id);
            }
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
            let entries = process.storage.entries_to_apply(applied.lsn.next(), process.apply_target)?;
            let (mut events, mut revision) = (Vec::new(), 0);
            for entry in entries {
                let Some(process) = &mut self.machines.get_mut(id).process else { break };
                if !entry.follows(&process.state.applied) {
                    self.violate(format!("S1: {id} applies LSN {} upon another history", entry.lsn));
                    return Err("another history".into());
                }
                let mut outcome = process.state.apply(&entry)?;
                let writer = process.writers.remove(&entry.lsn);
                self.on_entry_applied(id, &entry, &outcome);
                if let Some(operation) = writer {
                    self.tell_acknowledged(id, operation, &entry, &outcome);
                }
                revision = outcome.revision;
                events.append(&mut outcome.events);
            }
            if !events.is_empty() {
                self.tell_watches(id, AppliedBatch { events, revision, restored: false });
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

    pub(crate) fn send_copy(&mut self, id: ApplianceId, epoch: Epoch) {
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
}
