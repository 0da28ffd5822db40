//! One appliance as the world sees it: a machine with a clock and a disk, and, while it runs, a process around the core.

use std::collections::{BTreeMap, VecDeque};

use duet_protocol::{Appliance, Epoch, Input, Lsn, OwnState, Position, ReadPermit, Status};
use duet_serving::{AppliedBatch, LeaseTimers};
use duet_storage::ReadySnapshot;

use super::clock::{Clock, Time};
use super::disk::SimDisk;
use super::event::Event;
use super::hub::Hub;
use super::kept::Kept;
use super::secondary_reads::SecondaryReads;
use super::state::{Rows, StateMachine};
use super::storage::Storage;
use super::witness::{REGISTERS, Version};

/// A client's operation.
pub type OperationId = u64;

/// What waits to be handled by the driver.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "few of them wait at a time")]
pub enum Work {
    Input(Input),
    Write(Vec<OperationId>),
}

/// A copy of the peer's state on its way to this appliance's disk.
#[derive(Clone, Debug)]
pub struct Arriving {
    pub epoch: Epoch,
    pub position: Position,
    pub rows: Rows,
}

/// A running process.
#[derive(Debug)]
pub struct Process {
    pub life: u64,
    pub core: Appliance,
    /// The core's own report after its last step.
    pub status: Status,
    pub inbox: VecDeque<Work>,
    pub storage: Storage,
    pub state: StateMachine,
    /// The own state being made durable; nothing is handled meanwhile.
    pub saving: Option<OwnState>,
    /// The driver handles nothing until then.
    pub stalled_until: Option<Time>,
    /// All of the process stands still, the readers too.
    pub frozen: bool,
    /// What comes when it goes on.
    pub held: Vec<Event>,
    pub permit: ReadPermit,
    /// Reads that wait for a read index, while it is secondary.
    pub reads: SecondaryReads,
    /// Whose write waits for which entry.
    pub writers: BTreeMap<Lsn, OperationId>,
    /// Whose write is being proposed in this step.
    pub proposing: Vec<OperationId>,
    pub apply_target: Lsn,
    pub applying: bool,
    /// A copy that is being written.
    pub arriving: Option<Arriving>,
    /// A copy that is complete and waits for the core's word.
    pub copy: Option<ReadySnapshot>,
    /// Of which connection a copy is being sent.
    pub sending_copy: Option<u64>,
    pub tick_at: Option<Time>,
    /// How often it has become primary.
    pub promotions: u64,
    /// When leases run out, while it is primary.
    pub timers: LeaseTimers,
    pub hub: Hub,
    /// Revision and version of each register's record as last read or written.
    pub witness_known: [Option<(u64, Version)>; REGISTERS],
    /// Applied, and not told to the watches yet.
    pub untold: VecDeque<AppliedBatch>,
    /// Another one with each copy that is installed: within it one entry is applied after the other.
    pub applied_life: u64,
    /// Since when it shuts down softly, and what was committed then.
    pub leaving_since: Option<(Time, Lsn)>,
}

/// A machine.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Machine {
    pub clock: Clock,
    pub disk: SimDisk,
    /// What it has said to be durable.
    pub kept: Kept,
    pub process: Option<Process>,
    /// The time of one fsync while the disk is slow.
    pub slow_disk: Option<(Time, Time)>,
    /// It is being repaired: nobody starts the process.
    pub held_down: bool,
    /// It has lost its last writes and cannot know: it is started when its peer goes on without it.
    pub waits_for_peer: bool,
    /// Its last start refused what the disk holds.
    pub refuses: bool,
    /// The disk was made to fail or to lie: the process may fail, and may miss what it had stored.
    pub suspect: bool,
    /// Where its log ended, durable or not, when the last process died.
    pub last_written: Lsn,
}

impl Machine {
    /// Whether the disk is wrong somewhere, or may come to be.
    pub fn is_doubtful(&self) -> bool {
        self.disk.is_doubtful()
    }

    /// Whether the readers' permit holds at `now`, by the machine's own clock.
    pub fn permit_holds(&self, now: Time) -> bool {
        match self.process.as_ref().map(|process| process.permit) {
            None | Some(ReadPermit::No) => false,
            Some(ReadPermit::Until(until)) => self.clock.read(now) < until,
            Some(ReadPermit::Yes) => true,
        }
    }

    /// Where the log ends for all to see: in the process, else on the disk.
    pub fn position(&self) -> Position {
        self.process.as_ref().map_or_else(|| self.kept.last(), |process| process.status.last)
    }

    /// The role, while there is a process.
    pub fn role(&self) -> Option<duet_protocol::RoleName> {
        self.process.as_ref().map(|process| process.status.role)
    }
}
