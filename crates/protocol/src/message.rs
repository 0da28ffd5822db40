//! What the two appliances say to each other.
//!
//! Any message may be lost, late, doubled or out of order; the handlers hold all the same. The transport's ordered
//! connection only makes that rare.

use alloc::vec::Vec;

use crate::time::Duration;
use crate::{Conf, DiskId, Entry, Epoch, Instant, Lsn, Position};

/// A message from one appliance to the other.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// Entries of the log, or none: a heartbeat. Sent by the primary.
    Append {
        /// Everything but the entries.
        header: AppendHeader,
        /// The entries that follow `header.previous`.
        entries: Vec<Entry>,
    },
    /// A secondary's answer to an append.
    Acknowledge(Acknowledge),
    /// Asks the peer to agree to a configuration.
    Propose(Proposal),
    /// The responder has stored the proposed configuration as its tent.
    Stored(Conf),
    /// What an appliance that is not primary knows to be in force; also the refusal of a proposal.
    Firm(Firm),
    /// A secondary that shuts down softly asks to be let go. A hint only.
    Leave,
    /// A secondary asks for a read index: up to where it must have applied the log to answer the reads that wait there.
    AskReadIndex(ReadQuestion),
    /// The primary's answer.
    ReadIndex(ReadIndex),
}

/// Names one question for a read index.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ReadQuestion {
    /// Differs for every life of the secondary's process.
    pub life: u64,
    /// Differs for every question of that life, and grows.
    pub number: u64,
}

/// Answer to a question for a read index.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ReadIndex {
    /// From the question that is answered.
    pub question: ReadQuestion,
    /// Epoch of the configuration under which the primary answered.
    pub epoch: Epoch,
    /// Whatever was acknowledged before the question was sent is at or below this.
    pub lsn: Lsn,
}

/// All of an append but its entries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AppendHeader {
    /// The primary's configuration.
    pub conf: Conf,
    /// The primary's last LSN when its epoch began; own entries of older epochs above it are dead (tail rule).
    pub base: Lsn,
    /// The primary's position just before the entries.
    pub previous: Position,
    /// Everything up to here is committed, and applied by the primary: the secondary applies no more than that, or a read
    /// there could show what a later one at the primary does not.
    pub committed: Lsn,
    /// The primary's last LSN, for people: how far the secondary is behind.
    pub last: Lsn,
    /// To be returned by the answer as it is.
    pub heartbeat: Heartbeat,
    /// The primary's data directory.
    pub disk: DiskId,
}

/// Names one sending of an append; the lease is counted from it, never from the receipt of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Heartbeat {
    /// Differs for every life of the primary's process.
    pub life: u64,
    /// The primary's clock when it sent the append.
    pub sent: Instant,
    /// For how long an answer binds the secondary, from its receipt; at most [`crate::limits::PROMISE_MAX`].
    pub promise: Duration,
}

/// Answer to an append. It carries a promise: not to begin as primary for the time that the append asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Acknowledge {
    /// Epoch of the configuration under which the entries were taken.
    pub epoch: Epoch,
    /// The secondary's log is durable and equal to the primary's up to here.
    pub matched: Lsn,
    /// From the append that is answered.
    pub heartbeat: Heartbeat,
    /// The entry before the append's first was missing or another: send again from this LSN.
    pub retry_from: Option<Lsn>,
    /// The secondary's data directory.
    pub disk: DiskId,
}

/// Asks the peer to agree to `conf`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Proposal {
    /// What is proposed.
    pub conf: Conf,
    /// The configuration it was computed from; the responder must hold the same.
    pub base: Conf,
    /// For a cold start of both at once: the responder must be at this very position.
    pub position: Option<Position>,
}

/// What an appliance that is not primary knows and where it stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Firm {
    /// The newest configuration it knows to be in force.
    pub conf: Conf,
    /// The highest epoch it knows of.
    pub max_epoch: Epoch,
    /// Where its log ends.
    pub position: Position,
    /// Its data directory.
    pub disk: DiskId,
    /// It is shutting down: it takes no handover.
    pub leaving: bool,
    /// Its disk lost writes: it must not coordinate or take over.
    pub damaged: bool,
    /// Its data directory was in sync once: it can vouch for what its appliance has agreed to.
    pub joined: bool,
}
