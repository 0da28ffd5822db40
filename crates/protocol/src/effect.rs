//! Everything an appliance wants done.
//!
//! An effect may be carried out the moment it is emitted, and effects of different kinds in any order: whatever must
//! wait for something is emitted when that something's completion comes back as an input. Three rules bind the driver:
//! 1. Effects on the log (`Append`, `Truncate`, `InstallSnapshot`, `Trim`) are carried out in the order they were emitted.
//! 2. `SaveState` is the last effect of its step; make it durable and pass `Input::StateSaved` before anything else.
//! 3. `ReadPermit` is in force for the readers before any later effect is begun.

use alloc::{string::String, vec::Vec};

use crate::{
    AppendHeader, Entry, Epoch, Instant, Lsn, Message, OwnState, Position, WitnessId, WitnessRecord,
};

/// One thing to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Write these entries at the end of the log and report with `Flushed`, quoting `generation`.
    Append {
        /// The log's generation; raised by every `Truncate` and `InstallSnapshot`.
        generation: u64,
        /// Dense, the first follows the log's last.
        entries: Vec<Entry>,
    },
    /// Remove every entry above `last`. Report with `Flushed` of the new generation.
    Truncate {
        /// The new generation.
        generation: u64,
        /// The last entry that stays.
        last: Lsn,
    },
    /// Entries up to here are no longer needed; whole segments may go.
    Trim {
        /// The last LSN that may go.
        upto: Lsn,
    },
    /// Replace the own state durably, then pass `StateSaved`.
    SaveState(OwnState),
    /// Send to the peer; may be lost.
    Send(Message),
    /// Send an append with the log's entries `first..=last` (none when `first > last`); may be lost. Drop it when the log no
    /// longer holds them.
    SendAppend {
        /// All but the entries.
        header: AppendHeader,
        /// First entry to send.
        first: Lsn,
        /// Last entry to send.
        last: Lsn,
    },
    /// Send a whole copy of the state, as of its last checkpoint or later, then report with `SnapshotSendEnded`.
    SendSnapshot {
        /// The epoch it is sent under.
        epoch: Epoch,
    },
    /// Replace state and log by the copy received; then report with `SnapshotInstalled`.
    InstallSnapshot {
        /// The new generation of the log.
        generation: u64,
        /// The copy's position.
        position: Position,
    },
    /// Forget a received copy.
    DropSnapshot,
    /// Read the witness.
    ReadWitness {
        /// To be quoted in the answer.
        ticket: u64,
        /// Which register.
        witness: WitnessId,
    },
    /// Create the record if the witness has none.
    CreateRecord {
        /// To be quoted in the answer.
        ticket: u64,
        /// In which register.
        witness: WitnessId,
        /// The record.
        record: WitnessRecord,
    },
    /// Replace the record of revision `expected` (as last read) by `record`.
    CompareAndSet {
        /// To be quoted in the answer.
        ticket: u64,
        /// In which register.
        witness: WitnessId,
        /// Revision of the record it was computed from.
        expected: u64,
        /// The new record.
        record: WitnessRecord,
    },
    /// Apply the log's entries up to here and answer their writers; then report with `Applied`.
    Apply {
        /// Committed up to here.
        upto: Lsn,
    },
    /// The proposed writes were appended at `first` and on.
    Accepted {
        /// LSN of the first.
        first: Lsn,
        /// How many.
        count: u64,
    },
    /// The proposed writes were not appended and never will be: safe to try again elsewhere.
    Refused {
        /// How many.
        count: u64,
    },
    /// Writes above this LSN have an unknown outcome: they may or may not come to be.
    Abandon {
        /// The last LSN whose writers were or will be answered by `Apply`.
        above: Lsn,
    },
    /// Who may serve linearizable reads from now on.
    ReadPermit(ReadPermit),
    /// Reads that had come before [`crate::Input::AskReadIndex`] of this number may be answered from the own state, once that
    /// is applied up to `lsn`.
    ReadIndex {
        /// From the input.
        number: u64,
        /// Applied at least up to here.
        lsn: Lsn,
    },
    /// A decision worth telling a person, in one plain sentence.
    Explain(String),
    /// The soft shutdown is complete: the process may end.
    Stop,
    /// This appliance is in the way of its peer: the process is to end at once, so that its connections do, and to be started
    /// again. Nothing is promised to be lost or kept by it, as by a crash.
    GiveUp(&'static str),
    /// A numbered invariant is violated: stop at once and serve nothing. A crash beats corruption.
    Halt(&'static str),
}

/// Whether this appliance may answer linearizable reads from its own state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReadPermit {
    /// It may not.
    No,
    /// It may while its clock, read after the state was read, is below this.
    Until(Instant),
    /// It may: it is primary alone, or nobody else can be before this permit is replaced.
    Yes,
}
