//! A whole copy of the state, for a peer that the log alone cannot bring up to date: blank, or away for too long.
//!
//! The primary dials a connection of its own for it, so that heartbeats and appends never wait behind it; TCP's flow control
//! bounds what is in memory. The receiver speaks first: of a copy that was interrupted it keeps what has come, and the next
//! one goes on behind that if those rows are still the state's. The copy is installed only when the core says so.

mod progress;
mod receive;
mod send;

use std::time::Duration;

use duet_storage::StateError;

use super::fields::Malformed;
use super::frame::FrameError;
use super::link::LinkError;

pub(crate) use progress::CopyProgress;
pub(crate) use receive::{CopyReceiver, ReceivedCopy};
pub(crate) use send::CopySender;

/// Bytes of rows in one frame: large enough to keep disk and network busy, small enough to be of no weight in memory.
const CHUNK_BYTES: usize = 512 << 10;

/// Largest record of the state machine that is sent with a copy, in bytes: tens of millions of leases.
const META_BYTES: usize = 512 << 20;

/// How long a receiver may be busy with writing what it has, before it takes more.
const STALL: Duration = Duration::from_secs(30);

/// Why a copy was not sent or not taken. Another one is tried.
#[derive(Debug, thiserror::Error)]
enum CopyError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the connection failed: {0}")]
    Connection(#[from] std::io::Error),
    #[error("a row of {0} bytes is too large to be sent")]
    RowTooLarge(usize),
    #[error("the state machine's record of {0} bytes is too large to be sent")]
    MetaTooLarge(usize),
    #[error("the copy is not complete: {rows} rows of {expected} arrived")]
    Incomplete { rows: u64, expected: u64 },
    #[error("the copy is not complete: a part of the state machine's record is missing")]
    IncompleteRecord,
    #[error("it came out of turn")]
    OutOfTurn,
    #[error("it is not needed any more")]
    Superseded,
    /// Fatal, unlike the others.
    #[error(transparent)]
    Storage(#[from] StateError),
}

#[cfg(test)]
mod tests;
