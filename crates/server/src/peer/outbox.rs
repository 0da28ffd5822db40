//! What waits to be written to the peer.
//!
//! While nothing waits the driver writes to the connection itself, as far as that does not make it wait: it saves a change
//! of threads on each side for every batch. What the connection does not take at once, and what must be read from the log
//! first, is put in here; the connection's writer takes all of it and writes it. When too much waits the newest is
//! dropped: the protocol repeats whatever matters, and a peer that does not read must not fill the memory.

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
    /// The end of frames of which the beginning is written already.
    Rest(Vec<u8>),
}

impl Outgoing {
    /// Of the commands it holds.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Append { entries, .. } => entries.iter().map(|entry| entry.command.len()).sum(),
            Self::Rest(rest) => rest.len(),
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
    /// The connection's writer is at work.
    writing: bool,
    /// The driver writes by itself.
    claimed: bool,
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

    /// For the driver: whether it may write by itself, because nothing is to be written before. `release` must follow.
    pub(crate) fn claim(&self) -> bool {
        let mut state = self.state.lock();
        state.claimed = state.frames.is_empty() && !state.writing && !state.closed;
        state.claimed
    }

    /// The driver has written all but `rest`.
    pub(crate) fn release(&self, rest: &[u8]) {
        let mut state = self.state.lock();
        state.claimed = false;
        if !rest.is_empty() {
            state.bytes += rest.len();
            state.frames.push_front(Outgoing::Rest(rest.to_vec()));
            drop(state);
            self.writer.notify_one();
        }
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
        state.frames.is_empty() && !state.writing && !state.claimed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_driver_could_not_write_comes_before_all_else() {
        let outbox = Outbox::default();
        assert!(outbox.claim());
        assert!(!outbox.is_idle());
        outbox.release(b"rest");
        assert!(outbox.push(Outgoing::Message(Message::Leave)));
        assert!(!outbox.claim(), "something waits");
        let mut taken = outbox.take().unwrap();
        assert!(!outbox.claim(), "the writer is at work");
        assert!(matches!(taken.pop_front(), Some(Outgoing::Rest(rest)) if rest == b"rest"));
        assert!(matches!(taken.pop_front(), Some(Outgoing::Message(Message::Leave))));
        outbox.close();
        assert!(outbox.take().is_none());
        assert!(!outbox.claim(), "it is closed");
    }

    #[test]
    fn all_written_leaves_nothing_behind() {
        let outbox = Outbox::default();
        assert!(outbox.claim());
        outbox.release(b"");
        assert!(outbox.is_idle());
        assert!(outbox.claim());
    }
}
