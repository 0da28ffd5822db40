//! One appliance as the world sees it: a machine with a clock and a disk, and, while it runs, a process around the core.

use std::collections::{BTreeMap, VecDeque};

use duet_protocol::{Appliance, Epoch, Input, Lsn, OwnState, Position, ReadPermit, Status};

use super::clock::{Clock, Time};
use super::disk::Disk;

/// A client's operation.
pub type OperationId = u64;

/// What waits to be handled by the driver.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "few of them wait at a time")]
pub enum Work {
    Input(Input),
    Write(Vec<OperationId>),
}

/// A running process.
#[derive(Debug)]
pub struct Process {
    pub life: u64,
    pub core: Appliance,
    /// The core's own report after its last step.
    pub status: Status,
    pub inbox: VecDeque<Work>,
    /// The own state being made durable; nothing is handled meanwhile.
    pub saving: Option<OwnState>,
    /// The driver handles nothing until then.
    pub stalled_until: Option<Time>,
    /// All of the process stands still, the readers too.
    pub frozen: bool,
    pub permit: ReadPermit,
    /// Whose write waits for which entry.
    pub writers: BTreeMap<Lsn, OperationId>,
    /// Whose write is being proposed in this step.
    pub proposing: Vec<OperationId>,
    pub apply_target: Lsn,
    pub applying: bool,
    /// What the state machine holds.
    pub applied: Position,
    /// A received copy.
    pub copy: Option<(Epoch, Position)>,
    /// Of which connection a copy is being sent.
    pub sending_copy: Option<u64>,
    pub tick_at: Option<Time>,
    /// Since when it shuts down softly, and what was committed then.
    pub leaving_since: Option<(Time, Lsn)>,
}

/// A machine.
#[derive(Debug)]
pub struct Machine {
    pub clock: Clock,
    pub disk: Disk,
    pub process: Option<Process>,
    /// The time of one fsync while the disk is slow.
    pub slow_disk: Option<(Time, Time)>,
    /// It is being repaired: nobody starts the process.
    pub held_down: bool,
}

impl Machine {
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
        if self.process.is_some() { self.disk.written.last() } else { self.disk.durable.last() }
    }

    /// The role, while there is a process.
    pub fn role(&self) -> Option<duet_protocol::RoleName> {
        self.process.as_ref().map(|process| process.status.role)
    }
}
