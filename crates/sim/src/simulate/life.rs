//! The life of a process: its start on whatever the disk holds, and its end, expected or not, in the middle of whatever it was
//! doing.

use std::collections::VecDeque;

use duet_protocol::{Appliance, ApplianceId, Input, OwnState, Position, ReadPermit, RecoveredLog};
use duet_serving::{LeaseTimers, RingLimits};

use super::clock::{Clock, SECOND};
use super::event::Event;
use super::hub::Hub;
use super::kept::Kept;
use super::machine::{Process, Work};
use super::marks::Mark;
use super::secondary_reads::SecondaryReads;
use super::state::StateMachine;
use super::storage::{self, Found, Storage, words};
use super::witness::REGISTERS;
use super::world::{CLUSTER, World, draw_drift};

/// Changes of the disk within one piece of work, at most: a process dies after any number of them.
const CHANGES: u64 = 16;

/// How a process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// It has closed everything.
    Finished,
    /// It is killed, or kills itself: what it has written stays in the machine's memory.
    Killed,
    /// The machine goes with it.
    PowerCut,
}

/// What may be under way when a process dies.
#[derive(Clone, Copy, Debug)]
enum Under {
    Jobs,
    Save,
    Checkpoint,
    Copy,
}

impl World {
    /// Starts the process, if it does not run.
    pub fn start(&mut self, id: ApplianceId) {
        let machine = self.machines.get(id);
        if machine.process.is_some() || machine.held_down || !self.may_start(id) {
            return;
        }
        let options = storage::options(self.options.segment_bytes);
        let opened = Storage::open(&self.machines.get(id).disk, CLUSTER, options, self.options.tail)
            .map_err(words)
            .and_then(|(storage, found)| Ok((StateMachine::open(&storage.state)?, storage, found)));
        match opened {
            Err(why) => self.on_refusal(id, &why),
            Ok((state, storage, found)) => {
                self.compare_with_kept(id, &found, state.applied);
                if self.violation.is_some() {
                    return;
                }
                if self.may_start(id) {
                    self.begin_process(id, storage, state, found);
                } else {
                    self.machines.get(id).disk.kill();
                }
            }
        }
    }

    /// Everything that was said to be durable must be there; if the disk was made to lie, what is missing is told apart.
    fn compare_with_kept(&mut self, id: ApplianceId, found: &Found, applied: Position) {
        let machine = self.machines.get_mut(id);
        let lost = machine.kept.check(found, applied).err();
        let (before, last) = (machine.last_written, found.log.last());
        if last.lsn < before {
            self.marks.reach(Mark::SyncLoss);
        }
        if found.log.torn.is_some() {
            self.marks.reach(Mark::TornTail);
        }
        let machine = self.machines.get_mut(id);
        let fresh = machine.kept.last().lsn;
        machine.kept.learn(found.own.clone(), &found.log, applied);
        let unreported: Vec<Position> = (fresh.0 + 1..=last.lsn.0)
            .filter_map(|lsn| found.log.position(duet_protocol::Lsn(lsn)))
            .collect();
        for position in unreported {
            let verdict = self.oracle.on_entry(position);
            self.require(verdict);
        }
        if let Some(lost) = lost {
            self.on_unnoticed_loss(id, &lost);
        }
    }

    fn begin_process(&mut self, id: ApplianceId, storage: Storage, state: StateMachine, found: Found) {
        self.lives += 1;
        let (life, time) = (self.lives, self.now);
        let ring =
            RingLimits { batches: self.options.ring, bytes: 1 << 20, pulled: self.options.ring.min(64) };
        let machine = self.machines.get_mut(id);
        let now = machine.clock.read(time);
        let log = RecoveredLog { base: found.log.base, stamps: found.log.stamps };
        let mut core = Appliance::recover(life, found.own, log, state.applied.lsn, now);
        if let Some(retained) = self.options.retain {
            core.retain(retained);
        }
        machine.process = Some(Process {
            life,
            status: core.status(),
            core,
            inbox: VecDeque::new(),
            apply_target: state.applied.lsn,
            hub: Hub::new(state.store.revision(), ring),
            storage,
            state,
            saving: None,
            stalled_until: None,
            frozen: false,
            held: Vec::new(),
            permit: ReadPermit::No,
            reads: SecondaryReads::default(),
            writers: std::collections::BTreeMap::new(),
            proposing: Vec::new(),
            applying: false,
            arriving: None,
            copy: None,
            sending_copy: None,
            tick_at: None,
            promotions: 0,
            witness_known: [None; REGISTERS],
            timers: LeaseTimers::default(),
            untold: VecDeque::new(),
            applied_life: life,
            leaving_since: None,
        });
        machine.suspect = machine.is_doubtful();
        machine.refuses = false;
        self.note(|| format!("{id} starts"));
        self.check_state(id);
        let checkpoint = self.random.within(self.options.checkpoint);
        self.schedule(checkpoint, Event::CheckpointDue { id, life });
        self.schedule(0, Event::LeaseTick { id, life });
        self.input(id, Input::Tick);
    }

    /// The process cannot go on, by its disk's fault.
    pub(crate) fn fail(&mut self, id: ApplianceId, why: &str) {
        if self.life_of(id).is_none() {
            return;
        }
        if !self.machines.get(id).suspect {
            return self.violate(format!("storage: {id} fails on a healthy disk: {why}"));
        }
        self.marks.reach(Mark::DiskFailure);
        self.note(|| format!("{id} ends: {why}"));
        self.end_process(id, End::Killed);
    }

    /// The process ends at once. What was not durable may be lost; with `power`, also what is on its way to the peer.
    pub fn crash(&mut self, id: ApplianceId, power: bool) {
        if self.machines.get(id).process.is_none() {
            return;
        }
        self.note(|| format!("{id} crashes{}", if power { ", its power is cut" } else { "" }));
        self.end_process(id, if power { End::PowerCut } else { End::Killed });
    }

    /// The core has stopped: what is committed is applied, a last checkpoint is written; or it is killed before that.
    pub(crate) fn finish_process(&mut self, id: ApplianceId) {
        if self.random.chance(200) {
            return self.end_process(id, End::Killed);
        }
        match self.finish(id) {
            Ok(()) => self.end_process(id, End::Finished),
            Err(why) => self.fail(id, &why),
        }
    }

    fn finish(&mut self, id: ApplianceId) -> Result<(), storage::Failure> {
        let mut done = Vec::new();
        if let Some(process) = &mut self.machines.get_mut(id).process {
            process.storage.take_rest();
            process.storage.work_off(&mut process.state, &mut done)?;
        }
        for done in done {
            self.learn_done(id, done);
        }
        self.apply_committed(id)?;
        let Some(process) = &mut self.machines.get_mut(id).process else { return Ok(()) };
        let mut written = process.state.finish_checkpoint(&process.storage.state)?;
        if process.state.begin_checkpoint(&process.storage.state) {
            written = process.state.finish_checkpoint(&process.storage.state)?;
        }
        if let Some(position) = written {
            self.machines.get_mut(id).kept.checkpointed(position);
        }
        Ok(())
    }

    pub(crate) fn end_process(&mut self, id: ApplianceId, end: End) {
        if end != End::Finished {
            self.cut_short(id);
        }
        let machine = self.machines.get_mut(id);
        let Some(process) = machine.process.take() else { return };
        machine.last_written = process.status.last.lsn;
        let Process { life, storage, state, writers, proposing, inbox, reads, .. } = process;
        if end == End::Finished {
            drop((state, storage));
            machine.disk.kill();
        } else {
            machine.disk.kill();
            drop((state, storage));
        }
        if end == End::PowerCut {
            machine.disk.power_cut(&mut self.random);
        }
        for operation in writers.values().chain(&proposing) {
            self.tell_unknown(*operation);
        }
        for operation in reads.into_operations() {
            self.tell_refused(operation);
        }
        for work in inbox {
            if let Work::Write(operations) = work {
                for operation in operations {
                    self.tell_unknown(operation);
                }
            }
        }
        self.streams_broken(id, life);
        let power = end == End::PowerCut;
        if power && self.random.chance(500) {
            // Another boot, another clock.
            let drift = draw_drift(&mut self.random, self.options.drift);
            let reading = self.random.within((0, 100 * SECOND));
            self.machines.get_mut(id).clock = Clock::new(self.now, reading, drift);
        }
        self.process_gone(id, power);
        if self.restarts {
            let lasts = self.random.spread(self.options.fault_lasts);
            self.schedule(lasts, Event::Start { id });
        }
    }

    /// Of what was under way any part is carried out, down to single changes of the disk.
    fn cut_short(&mut self, id: ApplianceId) {
        let machine = self.machines.get_mut(id);
        let Some(process) = &mut machine.process else { return };
        let mut order = [Under::Jobs, Under::Save, Under::Checkpoint, Under::Copy];
        let first = usize::try_from(self.random.below(4)).unwrap_or(0);
        order.rotate_left(first);
        for under in order {
            machine.disk.cut_after(self.random.below(CHANGES));
            // Nobody is left to be told whether it succeeded.
            match under {
                Under::Jobs => drop(process.storage.work_off(&mut process.state, &mut Vec::new())),
                Under::Save => {
                    if let Some(own) = &process.saving {
                        drop(process.storage.own.save(own));
                    }
                }
                Under::Checkpoint => drop(process.state.finish_checkpoint(&process.storage.state)),
                Under::Copy => {
                    if let Some(copy) = process.arriving.take() {
                        drop(process.storage.store_copy(&copy));
                    }
                }
            }
        }
    }

    /// The disk is replaced by a blank one while the process is down.
    pub fn replace_disk(&mut self, id: ApplianceId) {
        let disk = duet_protocol::DiskId(u128::from(self.random.bits()) << 32 | 1);
        let machine = self.machines.get_mut(id);
        assert!(machine.process.is_none(), "a disk is replaced while the process is down");
        let own = OwnState::blank(CLUSTER, id, disk);
        machine.disk = super::disk::SimDisk::default();
        let options = storage::options(self.options.segment_bytes);
        storage::make(&machine.disk, &own, Position::EMPTY, &super::state::Rows::default(), options);
        machine.kept = Kept::new(own, Position::EMPTY);
        machine.suspect = false;
        machine.waits_for_peer = false;
        machine.refuses = false;
        self.note(|| format!("{id} gets a blank disk"));
    }

    /// The last `count` entries vanish from the disk, though they were reported durable, while the process is down: as far as
    /// nothing else on the disk gives the loss away.
    pub fn lose_writes(&mut self, id: ApplianceId, count: u64) {
        let machine = self.machines.get_mut(id);
        assert!(machine.process.is_none(), "writes are lost while the process is down");
        let options = storage::options(self.options.segment_bytes);
        machine.disk.disarm();
        machine.disk.set_capacity(None);
        let lost = storage::lose_last(&machine.disk, count, options);
        machine.suspect = true;
        self.note(|| format!("{id} has lost its last {lost} entries"));
    }
}
