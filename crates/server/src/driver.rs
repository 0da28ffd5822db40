//! The driver: passes what happened to the protocol core, and carries out what the core wants. It decides nothing.
//!
//! One thread owns the core. A turn: take all that waits, step through it input by input, carry out each step's effects at
//! once and in order, publish who does what. Waiting writes become one proposal; the next one does not wait for the last
//! one's answer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use duet_protocol::{Appliance, Effect, Input, Instant, RoleName};
use duet_storage::{OwnStateError, OwnStateFile};

use crate::clock;
use crate::error::WriteError;
use crate::failpoint;
use crate::fatal::Fate;
use crate::handle::PermitCell;
use crate::inbox::{Inbox, PendingWrite, WAITING_WRITES, WriteAnswer};
use crate::log_writer::{Job, LogQueue};
use crate::peer::copy::CopySender;
use crate::peer::link::Link;
use crate::peer::outbox::Outgoing;
use crate::publisher::Publisher;
use crate::secondary_reads::SecondaryReads;
use crate::state::Machine;
use crate::tail::Tail;
use crate::witness_port::{Request, WitnessPort};

/// Bytes appended and not yet durable above which no more writes are proposed: bounds what waits for the disk.
const VOLATILE_BYTES: usize = 16 << 20;

/// Writes accepted and not yet answered above which no more are proposed: bounds what waits for the peer.
const ACCEPTED_WRITES: usize = WAITING_WRITES;

/// Bytes of log kept below the checkpoint for a peer that was away, however few entries they are: with values of a mebibyte the
/// limit in entries alone would keep a hundred gigabytes.
const RETAIN_BYTES: u64 = 1 << 30;

/// After the core said stop, the last messages to the peer get this long to leave; they are a courtesy.
const LAST_MESSAGES: Duration = Duration::from_millis(200);

/// Why the driver ends, other than by a soft shutdown. All are fatal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DriverFailure {
    #[error(transparent)]
    OwnState(#[from] OwnStateError),
    #[error("this appliance gives up: {0}")]
    GivesUp(&'static str),
    #[error("a rule of the protocol is violated: {0}")]
    Halt(&'static str),
    #[error("the core wants to install a copy that was not received")]
    NoCopy,
}

/// See the module.
pub(crate) struct Driver {
    pub(crate) core: Appliance,
    pub(crate) own_state: OwnStateFile,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) tail: Arc<Tail>,
    pub(crate) log: Arc<LogQueue>,
    pub(crate) machine: Arc<Machine>,
    pub(crate) link: Arc<Link>,
    pub(crate) copies: Arc<CopySender>,
    pub(crate) witness: WitnessPort,
    pub(crate) permit: Arc<PermitCell>,
    pub(crate) reads: Arc<SecondaryReads>,
    pub(crate) publisher: Publisher,
    pub(crate) fate: Fate,
    /// Writers of the proposals the core has not yet accepted or refused.
    pub(crate) proposed: VecDeque<WriteAnswer>,
    /// What this turn has for the peer: sent together at its end, or before anything that takes time.
    pub(crate) outgoing: Vec<Outgoing>,
    pub(crate) stopping: bool,
    /// Entries of log kept below the checkpoint for such a peer at most, as configured.
    pub(crate) retain_entries: u64,
}

impl Driver {
    /// Runs until the soft shutdown is complete or something fails.
    pub(crate) fn run(mut self) -> Result<(), DriverFailure> {
        let mut effects = Vec::new();
        self.publisher.publish(&self.core.status());
        while !self.stopping && !self.fate.has_ended() {
            let room =
                self.tail.volatile_bytes() < VOLATILE_BYTES && self.machine.waiters.count() < ACCEPTED_WRITES;
            let gathered = self.inbox.take(clock::until(self.core.next_deadline()), room);
            for input in gathered.inputs {
                self.step(input, &mut effects)?;
            }
            if !gathered.writes.is_empty() {
                self.propose(gathered.writes, &mut effects)?;
            }
            if gathered.announce {
                self.step(Input::Announce, &mut effects)?;
            }
            if let Some(number) = gathered.ask_read_index {
                self.step(Input::AskReadIndex(number), &mut effects)?;
            }
            if clock::now() >= self.core.next_deadline() {
                self.step(Input::Tick, &mut effects)?;
            }
            self.link.send(&mut self.outgoing);
            let status = self.core.status();
            self.publisher.publish(&status);
            for answer in gathered.status {
                let _ = answer.send(self.publisher.report(&status));
            }
        }
        self.end();
        Ok(())
    }

    fn propose(&mut self, writes: Vec<PendingWrite>, effects: &mut Vec<Effect>) -> Result<(), DriverFailure> {
        let mut commands = Vec::with_capacity(writes.len());
        for write in writes {
            commands.push(write.command);
            self.proposed.push_back(write.answer);
        }
        self.step(Input::Propose(commands), effects)
    }

    /// Passes one input to the core, and the completions of what that made durable here.
    fn step(&mut self, input: Input, effects: &mut Vec<Effect>) -> Result<(), DriverFailure> {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            if self.stopping {
                return Ok(());
            }
            if matches!(input, Input::Checkpointed(_)) {
                // The log is about to be trimmed.
                self.core.retain(self.retain_entries.min(self.machine.entries_within(RETAIN_BYTES)));
            }
            self.core.step(clock::now(), input, effects);
            for effect in effects.drain(..) {
                if let Some(completion) = self.carry_out(effect)? {
                    assert!(next.replace(completion).is_none(), "one durable write in a step");
                }
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, effect: Effect) -> Result<Option<Input>, DriverFailure> {
        match effect {
            Effect::Append { generation, entries } => {
                self.tail.push(&entries);
                self.log.push(Job::Append { generation, entries });
            }
            Effect::Truncate { generation, last } => {
                self.tail.truncate(generation, last);
                self.log.push(Job::Truncate { generation, last });
            }
            Effect::Trim { upto } => self.log.push(Job::Trim { upto }),
            Effect::SaveState(own) => {
                self.link.send(&mut self.outgoing);
                failpoint::reach("own_state.save.before");
                self.own_state.save(&own)?;
                failpoint::reach("own_state.save.after");
                return Ok(Some(Input::StateSaved));
            }
            Effect::Send(message) => self.outgoing.push(Outgoing::Message(message)),
            Effect::SendAppend { header, first, last } => {
                let frame = if first > last {
                    Outgoing::Append { header, entries: Vec::new() }
                } else if let Some(entries) = self.tail.get(first, last) {
                    Outgoing::Append { header, entries }
                } else {
                    let generation = self.tail.generation();
                    Outgoing::AppendFromLog { header, first, last, generation }
                };
                self.outgoing.push(frame);
            }
            Effect::SendSnapshot { epoch } => self.copies.start(epoch),
            Effect::InstallSnapshot { generation, position } => {
                let copy = self.link.copies.take().ok_or(DriverFailure::NoCopy)?;
                self.tail.reset(generation, position.lsn);
                self.log.push(Job::Install { generation, position, copy });
            }
            Effect::DropSnapshot => drop(self.link.copies.take()),
            Effect::ReadWitness { ticket, witness } => self.witness.ask(Request::Read { ticket, witness }),
            Effect::CreateRecord { ticket, witness, record } => {
                self.witness.ask(Request::Create { ticket, witness, record });
            }
            Effect::CompareAndSet { ticket, witness, expected, record } => {
                self.witness.ask(Request::CompareAndSet { ticket, witness, expected, record });
            }
            Effect::Apply { upto } => self.machine.apply_to(upto),
            Effect::Accepted { first, count } => {
                let count = usize::try_from(count).unwrap_or(usize::MAX).min(self.proposed.len());
                self.machine.waiters.accepted(first, self.proposed.drain(..count));
            }
            Effect::Refused { count } => {
                let count = usize::try_from(count).unwrap_or(usize::MAX).min(self.proposed.len());
                for answer in self.proposed.drain(..count) {
                    let _ = answer.send(Err(WriteError::NotPrimary));
                }
            }
            Effect::Abandon { above } => self.machine.waiters.abandon(above),
            Effect::ReadPermit(permit) => self.permit.set(permit),
            Effect::ReadIndex { number, lsn } => self.reads.answered(number, lsn, &self.inbox),
            Effect::Explain(sentence) => self.publisher.explain(sentence),
            Effect::Stop => self.stopping = true,
            Effect::GiveUp(why) => return Err(DriverFailure::GivesUp(why)),
            Effect::Halt(invariant) => return Err(DriverFailure::Halt(invariant)),
        }
        Ok(None)
    }

    /// The core has stopped: lets its last words leave, then tells everybody.
    fn end(&mut self) {
        self.link.send(&mut self.outgoing);
        let status = self.core.status();
        debug_assert!(
            self.fate.has_ended() || status.role == RoleName::Stopped,
            "only the core stops the driver"
        );
        self.publisher.publish(&status);
        let deadline: Instant = clock::now().after(LAST_MESSAGES);
        while !self.link.is_idle() && clock::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.fate.stopped();
    }
}

impl Drop for Driver {
    /// However it ended: nothing more is taken, and nobody waits for ever.
    fn drop(&mut self) {
        self.inbox.close();
        self.log.close();
        self.machine.close();
        for answer in self.proposed.drain(..) {
            let _ = answer.send(Err(WriteError::Stopping));
        }
    }
}
