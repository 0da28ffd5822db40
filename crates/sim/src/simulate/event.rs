//! The queue of events in simulated time, and what happens at each.

use duet_protocol::{ApplianceId, Input, Lsn, WitnessId, WitnessRecord};

use super::clock::Time;
use super::hub::WatcherId;
use super::link::Packet;
use super::machine::OperationId;
use super::schedule::Step;
use super::witness::{Answered, Request, Version};
use super::world::World;

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Event {
    Tick { id: ApplianceId, life: u64 },
    Resume { id: ApplianceId, life: u64 },
    Start { id: ApplianceId },
    Saved { id: ApplianceId, life: u64 },
    JobsDone { id: ApplianceId, life: u64 },
    Applied { id: ApplianceId, life: u64 },
    CheckpointDue { id: ApplianceId, life: u64 },
    CheckpointDone { id: ApplianceId, life: u64 },
    CopyStored { id: ApplianceId, life: u64 },
    Dial,
    Connected { id: ApplianceId, connection: u64 },
    Disconnected { id: ApplianceId, connection: u64 },
    Deliver { to: ApplianceId, connection: Option<u64>, packet: Box<Packet> },
    CopySent { id: ApplianceId, life: u64, connection: u64 },
    Cut { from: ApplianceId },
    Uncut { from: ApplianceId },
    WitnessArrival(Box<Request>),
    WitnessAnswer { to: ApplianceId, life: u64, ticket: u64, answered: Box<Answered> },
    WitnessBack { id: Option<ApplianceId> },
    WitnessQuick,
    MarkFormer { id: ApplianceId, life: u64, moved_to: WitnessId },
    MarkArrives { at: usize, version: Version, record: Box<WitnessRecord> },
    DiskQuick { id: ApplianceId },
    DiskBack { id: ApplianceId },
    DiskFreed { id: ApplianceId },
    ClientActs { client: usize },
    ClientArrives { id: ApplianceId, operations: Vec<OperationId>, read: bool },
    ReadChecked { id: ApplianceId, life: u64, operation: OperationId, begun: Time, floor: Lsn, lsn: Lsn },
    ReadWaits { id: ApplianceId, life: u64, operation: OperationId },
    ReadIndexed { id: ApplianceId, life: u64, number: u64, lsn: Lsn },
    WatcherActs { watcher: WatcherId },
    WatchArrives { watcher: WatcherId, attempt: u64, id: ApplianceId },
    Told { id: ApplianceId, life: u64 },
    StreamTurn { watcher: WatcherId, id: ApplianceId, life: u64 },
    LeaseTick { id: ApplianceId, life: u64 },
    ClientGivesUp { client: usize, turn: u64 },
    Fault,
    Step(Step),
}

impl World {
    pub(crate) fn schedule(&mut self, after: Time, event: Event) {
        self.schedule_at(self.now + after, event);
    }

    pub(crate) fn schedule_at(&mut self, at: Time, event: Event) {
        self.sequence += 1;
        self.queue.insert((at.max(self.now), self.sequence), event);
    }

    /// The next event happens. False: a promise was broken, or nothing is left to happen.
    pub fn advance(&mut self) -> bool {
        if self.violation.is_some() {
            return false;
        }
        let Some(((at, _), event)) = self.queue.pop_first() else { return false };
        assert!(at >= self.now, "time does not go back");
        self.now = at;
        self.happen(event);
        self.check_stored();
        true
    }

    /// Everything happens that is due within `time`.
    pub fn run_for(&mut self, time: Time) {
        let end = self.now + time;
        while self.violation.is_none() && self.queue.first_key_value().is_some_and(|((at, _), _)| *at <= end)
        {
            self.advance();
        }
        self.now = self.now.max(end);
    }

    /// Runs until `reached`, at most for `time`. Whether it was reached.
    pub fn run_until(&mut self, time: Time, mut reached: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + time;
        while !reached(self) {
            if self.queue.first_key_value().is_none_or(|((at, _), _)| *at > end) || !self.advance() {
                return false;
            }
        }
        true
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick { id, life } => {
                let now = self.now;
                let due = self.process_of(id, life).is_some_and(|process| process.tick_at == Some(now));
                if due {
                    self.input(id, Input::Tick);
                }
            }
            Event::Resume { id, life } => self.on_resume(id, life),
            Event::Start { id } => self.start(id),
            Event::Saved { id, life } => self.on_saved(id, life),
            Event::JobsDone { id, life } => self.on_jobs_done(id, life),
            Event::Applied { id, life } => self.on_applied(id, life),
            Event::CheckpointDue { id, life } => self.on_checkpoint_due(id, life),
            Event::CheckpointDone { id, life } => self.on_checkpoint_done(id, life),
            Event::CopyStored { id, life } => self.on_copy_stored(id, life),
            Event::Dial => self.on_dial(),
            Event::Connected { id, connection } => self.on_connected(id, connection),
            Event::Disconnected { id, connection } => self.on_disconnected(id, connection),
            Event::Deliver { to, connection, packet } => self.on_delivery(to, connection, *packet),
            Event::CopySent { id, life, connection } => self.on_copy_sent(id, life, connection),
            Event::Cut { from } => {
                if self.faulting {
                    self.cut(from, false);
                }
            }
            Event::Uncut { from } => self.uncut(from),
            Event::WitnessArrival(request) => self.on_witness_arrival(&request),
            Event::WitnessAnswer { to, life, ticket, answered } => {
                self.on_witness_answer(to, life, ticket, *answered);
            }
            Event::WitnessBack { id } => self.witness_back(id),
            Event::MarkFormer { id, life, moved_to } => self.mark_former(id, life, moved_to),
            Event::MarkArrives { at, version, record } => self.on_mark(at, version, &record),
            Event::WitnessQuick => self.witness_late = false,
            Event::DiskQuick { id } => self.machines.get_mut(id).slow_disk = None,
            Event::DiskBack { id } => self.on_disk_back(id),
            Event::DiskFreed { id } => self.on_disk_freed(id),
            Event::ClientActs { client } => self.on_client(client),
            Event::ClientArrives { id, operations, read } => self.on_client_arrival(id, operations, read),
            Event::ReadChecked { id, life, operation, begun, floor, lsn } => {
                self.on_read_checked(id, life, operation, (begun, floor, lsn));
            }
            Event::ReadWaits { id, life, operation } => self.on_read_waits(id, life, operation),
            Event::ReadIndexed { id, life, number, lsn } => self.on_read_indexed(id, life, number, lsn),
            Event::WatcherActs { watcher } => self.on_watcher(watcher),
            Event::WatchArrives { watcher, attempt, id } => self.on_watch_arrival(watcher, attempt, id),
            Event::Told { id, life } => self.on_told(id, life),
            Event::StreamTurn { watcher, id, life } => self.on_stream_turn(watcher, id, life),
            Event::LeaseTick { id, life } => self.on_lease_tick(id, life),
            Event::ClientGivesUp { client, turn } => self.on_client_gives_up(client, turn),
            Event::Fault => self.on_fault(),
            Event::Step(step) => self.perform(step),
        }
    }
}
