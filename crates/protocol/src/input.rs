//! Everything that can happen to an appliance.

use alloc::vec::Vec;

use bytes::Bytes;

use crate::{Lsn, Message, Position, WitnessId, WitnessRecord};

/// One thing that happened. The driver passes each to `step` together with the time.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Input {
    /// The deadline passed. Harmless at any other time.
    Tick,
    /// A message from the peer.
    Message(Message),
    /// A connection to the peer is there.
    PeerConnected,
    /// The connection to the peer is gone.
    PeerDisconnected,
    /// Clients' writes, in order; answered by `Accepted` or `Refused`.
    Propose(Vec<Bytes>),
    /// The log is durable up to `lsn`.
    Flushed {
        /// The log generation of the last `Truncate`/`Install` effect the flush comes after (see [`crate::Effect::Append`]).
        generation: u64,
        /// Everything up to here is on disk.
        lsn: Lsn,
    },
    /// The state machine has applied everything up to here. Passed before anything that comes in after one of the writers was
    /// answered.
    Applied(Lsn),
    /// The state machine's durable checkpoint holds everything up to here: the log below may go.
    Checkpointed(Lsn),
    /// The own state of the last `SaveState` is durable. Always the next input after that effect.
    StateSaved,
    /// Answer to `ReadWitness`.
    WitnessRead {
        /// From the effect.
        ticket: u64,
        /// What came of it.
        outcome: WitnessRead,
    },
    /// Answer to `CreateRecord` or `CompareAndSet`.
    WitnessWritten {
        /// From the effect.
        ticket: u64,
        /// What came of it.
        outcome: WitnessWrite,
    },
    /// A whole copy of the primary's state has arrived and is ready to be installed.
    SnapshotReceived {
        /// The epoch under which the primary sent it.
        epoch: crate::Epoch,
        /// Where it ends.
        position: Position,
    },
    /// `InstallSnapshot` is done and durable: log and state start at its position.
    SnapshotInstalled(Position),
    /// The copy being sent to the peer has ended, well or not.
    SnapshotSendEnded,
    /// Somebody waits at the peer until it has applied what is committed here: it is to hear of it before the next heartbeat
    /// is due. Harmless at any time.
    Announce,
    /// Reads wait here, at a secondary: the primary is to be asked for a read index. Answered by [`crate::Effect::ReadIndex`],
    /// or not at all; then it may be asked again under a higher number.
    AskReadIndex(u64),
    /// Begin a soft shutdown (SIGTERM, `duet stop`).
    Shutdown,
    /// Hand over to the peer and go on as its secondary.
    Switchover,
    /// Agree with the peer on another witness. Both must be able to reach that register already; an appliance that is not
    /// primary of a pair, or has moved further, does nothing.
    MoveWitness(WitnessId),
}

/// What came of reading the witness. A timeout is `Unknown`, never "no".
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[expect(clippy::large_enum_variant, reason = "a few of these a minute")]
pub enum WitnessRead {
    /// The record.
    Record(WitnessRecord),
    /// The witness answered and holds no record for this pair: counts as unreachable, but can be refilled.
    Absent,
    /// The record of another pair: one of the two does not belong here.
    Foreign,
    /// No answer, or one that cannot be trusted.
    Unknown,
}

/// What came of writing to the witness.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum WitnessWrite {
    /// Done.
    Swapped,
    /// Certainly not done: the record is another.
    Mismatch,
    /// Done, to be done later, or never.
    Unknown,
}
