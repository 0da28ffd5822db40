//! What waits to be written to the peer.
//!
//! The driver puts frames in, the connection's writer takes all of them and writes them at once. When too much waits the
//! newest is dropped: the protocol repeats whatever matters, and a peer that does not read must not fill the memory.

use std::collections::VecDeque;

use duet_protocol::{AppendHeader, Entry, Lsn, Message};
use parking_lot::{Condvar, Mutex};

/// Frames that may wait. The window of the protocol fits in many times over, unless the peer does not read at all.
pub(crate) const WAITING_FRAMES: usize = 4_096;

/// Bytes of commands that may wait: twice the protocol's window in flight.
pub(crate) const WAITING_BYTES: usize = 32 << 20;

/// A frame to be written.
pub(crate) enum Outgoing {
    /// Ready as it is.
    Message(Message),
    /// An append whose entries were still in memory.
    Append { header: AppendHeader, entries: Vec<Entry> },
    /// An append whose entries must be read from the log; dropped when its generation is not `generation` any more.
    AppendFromLog { header: AppendHeader, first: Lsn, last: Lsn, generation: u64 },
}

impl Outgoing {
    fn bytes(&self) -> usize {
        match self {
            Self::Append { entries, .. } => entries.iter().map(|entry| entry.command.len()).sum(),
            Self::Message(_) | Self::AppendFromLog { .. } => 0,
        }
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    writer: Condvar,
}

#[derive(Default)]
struct State {
    frames: VecDeque<Outgoing>,
    bytes: usize,
    closed: bool,
    writing: bool,
}

impl Outbox {
    /// False: dropped.
    pub(crate) fn push(&self, frame: Outgoing) -> bool {
        let bytes = frame.bytes();
        let mut state = self.state.lock();
        let full = state.frames.len() >= WAITING_FRAMES || state.bytes + bytes > WAITING_BYTES;
        if full || state.closed {
            return false;
        }
        state.bytes += bytes;
        state.frames.push_back(frame);
        drop(state);
        self.writer.notify_one();
        true
    }

    /// All that waits, as soon as something does; `None` once closed and empty.
    pub(crate) fn take(&self) -> Option<VecDeque<Outgoing>> {
        let mut state = self.state.lock();
        state.writing = false;
        while state.frames.is_empty() {
            if state.closed {
                return None;
            }
            self.writer.wait(&mut state);
        }
        state.bytes = 0;
        state.writing = true;
        Some(std::mem::take(&mut state.frames))
    }

    /// Nothing more is taken in; what waits is still written.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.writer.notify_one();
    }

    /// Whether nothing waits and nothing is being written.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.frames.is_empty() && !state.writing
    }
}
