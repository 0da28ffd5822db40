//! One appliance with its disk, in normal form; and messages in theirs.

use duet_protocol::explore::Inspection;
use duet_protocol::{
    Action, Appliance, Entry, Epoch, Instant, Lsn, Message, OwnState, Position, RoleName, WitnessRecord,
    WitnessWrite, limits,
};

use super::coverage::Coverage;
use super::drive::Surroundings;
use super::tamper::Tamper;

/// The reading every normal form has as `now`.
pub const NOW: Instant = Instant(1_000_000_000_000);
/// The present life of every process.
pub const PRESENT: u64 = 2;
/// All former lives.
pub const FORMER: u64 = 1;
/// Revision of the record the witness holds.
pub const CURRENT: u64 = 10;
/// Revision of a record that was read and is no longer there.
pub const STALE: u64 = 5;

/// An operation on the log whose durability was not reported.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Op {
    /// One entry at the end.
    Append(Entry),
    /// Everything above goes.
    Truncate(Lsn),
    /// All is replaced by a copy of the primary's log.
    Install(Vec<Entry>),
}

/// An answer of the witness on its way.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[expect(clippy::large_enum_variant, reason = "few appliance states have an answer on its way")]
pub enum Answer {
    /// A record, of revision `CURRENT` while it is still there.
    Read(WitnessRecord),
    /// To a conditional write.
    Written(WitnessWrite),
}

/// A request to a witness.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Asked {
    /// To be quoted in the answer.
    pub ticket: u64,
    /// Whether it is a write.
    pub writing: bool,
    /// Which register is asked.
    pub at: usize,
}

/// One appliance with its disk.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Node {
    /// The process; none while it is down.
    pub core: Option<Appliance>,
    /// The own state as it is durable.
    pub own: OwnState,
    /// The log as it is known to be durable.
    pub disk: Vec<Entry>,
    /// What was done to the log since.
    pub ops: Vec<Op>,
    /// Up to here the core no longer knows the log's entries; the model keeps them for the oracle.
    pub base: Lsn,
    /// A copy that has arrived.
    pub copy: Option<Vec<Entry>>,
    /// What the state machine's checkpoint holds.
    pub checkpoint: Lsn,
    /// The request to a witness under way.
    pub asked: Option<Asked>,
    /// Its answer, if it is on its way.
    pub answer: Option<Answer>,
    /// Its disk has lost entries that it had called durable.
    pub hurt: Option<Hurt>,
}

/// What a disk had lost when it lost it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Hurt {
    /// How many writes were acknowledged then: before it holds them all again it must not be primary.
    pub acknowledged: usize,
    /// The highest epoch in force or agreed to by then: a later configuration that names it as a member was agreed to with
    /// the disk as it is, and proves that it holds everything.
    pub known: Epoch,
}

/// What happens to an appliance.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stimulus {
    /// A rule is tried; a read of the witness is answered at once by the record of this number.
    Attempt(Action, u32),
    /// The same; the answer (that record) is on its way.
    AttemptSlowly(Action, u32),
    /// A message of this number is delivered.
    Message(u32),
    /// A client's write of this number.
    Write(u8),
    /// So many operations on the log are reported durable.
    Flush(u8),
    /// The copy is installed, durably.
    Installed,
    /// The state machine writes a checkpoint; the log below it is trimmed.
    Checkpoint,
    /// T passes.
    Jump,
    /// The process dies.
    Crash,
    /// The process ends after a soft shutdown.
    Stop,
    /// The process starts.
    Restart,
    /// Its disk has lost all entries but so many, while it was down.
    Damage(u8),
    /// Its disk is replaced by a blank one, while it was down.
    Replace,
    /// The peer's process has started again: its former life is over.
    PeerRestarted,
    /// The connection is cut and made anew.
    Reconnect,
    /// A soft shutdown begins.
    Shutdown,
    /// A switchover begins.
    Switchover,
    /// The witness's answer arrives.
    Answer,
    /// The witness does not answer in time.
    Silence,
    /// A conditional write is answered at once.
    Written(bool),
    /// A conditional write was applied and its answer is on its way (or: it can never be any more).
    AnswerSent(bool),
    /// This register's record has changed: one that was read is no longer current.
    RecordMoved(u8),
}

impl Node {
    /// A process that is down, with this disk.
    pub fn down(own: OwnState, disk: Vec<Entry>, checkpoint: Lsn) -> Self {
        Self {
            base: Lsn::ZERO,
            copy: None,
            core: None,
            own,
            disk,
            ops: Vec::new(),
            checkpoint,
            asked: None,
            answer: None,
            hurt: None,
        }
    }

    /// The log as the process knows it.
    pub fn log(&self) -> Vec<Entry> {
        let installing = usize::from(matches!(self.ops.last(), Some(Op::Install(_))));
        self.log_after(self.ops.len() - installing)
    }

    /// The log if only so many operations reach the disk.
    pub fn log_after(&self, ops: usize) -> Vec<Entry> {
        let mut log = self.disk.clone();
        for op in &self.ops[..ops] {
            match op {
                Op::Append(entry) => log.push(entry.clone()),
                Op::Truncate(last) => log.retain(|entry| entry.lsn <= *last),
                Op::Install(entries) => log.clone_from(entries),
            }
        }
        log
    }

    /// How many of these operations cut the log.
    pub fn truncations(&self, ops: usize) -> u64 {
        self.ops[..ops].iter().filter(|op| !matches!(op, Op::Append(_))).count() as u64
    }

    /// What the core shows, while it runs.
    pub fn inspect(&self) -> Option<Inspection> {
        self.core.as_ref().map(Appliance::inspect)
    }

    /// All ways in which the process may die here.
    pub fn crash_variants(
        &self,
        own: &OwnState,
        around: &Surroundings,
        coverage: &mut Coverage,
    ) -> Vec<Self> {
        let applied = self.core.as_ref().map_or(self.checkpoint, |core| core.status().applied);
        let mut variants: Vec<Self> = Vec::new();
        for ops in 0..=self.ops.len() {
            let disk = self.log_after(ops);
            let last = disk.last().map_or(Lsn::ZERO, |entry| entry.lsn);
            if ops < self.ops.len() {
                coverage.mark("crash lost an appended entry");
                if matches!(self.ops[ops], Op::Truncate(_)) {
                    coverage.mark("crash undid a truncation");
                }
            }
            let installed = self.ops[..ops].iter().any(|op| matches!(op, Op::Install(_)));
            let base = if installed { last } else { self.base };
            if matches!(self.ops.last(), Some(Op::Install(_))) {
                coverage.mark("crash while a copy is installed");
            }
            let newest = if installed { last } else { applied.min(last) };
            let oldest = if around.checkpoints { self.checkpoint.max(base) } else { newest };
            for checkpoint in [oldest, newest] {
                let mut own = own.clone();
                match around.tamper {
                    Some(Tamper::TentLost) => own.tent = None,
                    Some(Tamper::EpochsForgotten) => {
                        own.max_epoch = own.tent.map_or(own.conf.epoch(), |tent| tent.epoch());
                    }
                    Some(Tamper::PartingForgotten) => own.parted = Epoch::ZERO,
                    _ => {}
                }
                let node = Self { base, hurt: self.hurt, ..Self::down(own, disk.clone(), checkpoint) };
                if !variants.contains(&node) {
                    variants.push(node);
                }
            }
        }
        variants
    }
}

/// Whether this role takes writes or has only just stopped to.
pub const fn is_primary(role: RoleName) -> bool {
    matches!(role, RoleName::Primary | RoleName::Offering)
}

/// A heartbeat of this life marks an append that stands for a whole copy of the primary's log.
pub const COPY: u64 = 99;

/// Whether a message stands for a copy.
pub fn is_copy(message: &Message) -> bool {
    matches!(message, Message::Append { header, .. } if header.heartbeat.life == COPY)
}

/// A message without what only people and policy read, its sending moved by `late`.
pub fn normal_message(message: &Message, late: bool) -> Message {
    let shift = |heartbeat: duet_protocol::Heartbeat| {
        let past = if late { NOW.after(limits::PROMISE_MAX) } else { NOW };
        heartbeat.moved(past, NOW)
    };
    match message {
        Message::Append { header, entries } => {
            let mut header = *header;
            header.last = Lsn::ZERO;
            header.heartbeat = shift(header.heartbeat);
            Message::Append { header, entries: entries.clone() }
        }
        Message::Acknowledge(acknowledge) => {
            let mut acknowledge = *acknowledge;
            acknowledge.heartbeat = shift(acknowledge.heartbeat);
            Message::Acknowledge(acknowledge)
        }
        Message::Firm(firm) => {
            let mut firm = *firm;
            firm.position = Position::EMPTY;
            firm.leaving = false;
            firm.damaged = false;
            firm.joined = false;
            Message::Firm(firm)
        }
        other => other.clone(),
    }
}

/// A message after a restart of the appliance whose life its heartbeat names.
pub fn message_of_former_life(message: &Message) -> Message {
    match message {
        _ if is_copy(message) => message.clone(),
        Message::Append { header, entries } => {
            let mut header = *header;
            header.heartbeat.life = FORMER;
            Message::Append { header, entries: entries.clone() }
        }
        Message::Acknowledge(acknowledge) => {
            let mut acknowledge = *acknowledge;
            acknowledge.heartbeat.life = FORMER;
            Message::Acknowledge(acknowledge)
        }
        other => other.clone(),
    }
}
