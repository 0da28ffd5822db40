//! The newest entries of the log, in memory: what is sent and applied soon after it was appended needs no disk read.
//!
//! Holds every entry that is not yet durable, so whoever misses an entry here finds it in the log. Bounded: durable
//! entries leave from the front; the rest is bounded by the protocol's window and by the driver, which proposes nothing
//! while too much is not durable.

use std::collections::VecDeque;

use duet_protocol::{Entry, Lsn};
use parking_lot::Mutex;

/// Bytes kept in memory. Twice the protocol's window in flight, so that resending after a short loss needs no disk read.
pub(crate) const TAIL_BYTES: usize = 32 << 20;

/// What an entry costs besides its command, in bytes.
const ENTRY_OVERHEAD: usize = 128;

/// See the module.
pub(crate) struct Tail {
    state: Mutex<State>,
}

struct State {
    generation: u64,
    /// LSN before the first entry held.
    base: Lsn,
    entries: VecDeque<Entry>,
    bytes: usize,
    durable: Lsn,
    volatile_bytes: usize,
}

impl State {
    fn last(&self) -> Lsn {
        Lsn(self.base.0 + self.entries.len() as u64)
    }

    fn index(&self, lsn: Lsn) -> Option<usize> {
        usize::try_from(lsn.0.checked_sub(self.base.0 + 1)?).ok()
    }

    fn evict(&mut self) {
        while self.bytes > TAIL_BYTES && self.base < self.durable {
            let Some(entry) = self.entries.pop_front() else { return };
            self.base = entry.lsn;
            self.bytes -= cost(&entry);
        }
    }
}

fn cost(entry: &Entry) -> usize {
    entry.command.len() + ENTRY_OVERHEAD
}

impl Tail {
    /// Of a log that ends, durably, at `last`.
    pub(crate) fn new(last: Lsn) -> Self {
        let state = State {
            generation: 0,
            base: last,
            entries: VecDeque::new(),
            bytes: 0,
            durable: last,
            volatile_bytes: 0,
        };
        Self { state: Mutex::new(state) }
    }

    /// Entries just appended.
    pub(crate) fn push(&self, entries: &[Entry]) {
        let mut state = self.state.lock();
        for entry in entries {
            assert!(entry.lsn == state.last().next(), "R1: LSNs are dense");
            state.bytes += cost(entry);
            state.volatile_bytes += cost(entry);
            state.entries.push_back(entry.clone());
        }
        state.evict();
    }

    /// The log is durable up to `lsn`, in this generation.
    pub(crate) fn flushed(&self, generation: u64, lsn: Lsn) {
        let mut state = self.state.lock();
        if generation != state.generation || lsn <= state.durable {
            return;
        }
        assert!(lsn <= state.last(), "only what was appended is durable");
        let (from, to) = (state.index(state.durable.next()), state.index(lsn));
        if let (Some(from), Some(to)) = (from, to) {
            let bytes: usize = state.entries.range(from..=to).map(cost).sum();
            state.volatile_bytes -= bytes;
        }
        state.durable = lsn;
        state.evict();
    }

    /// The log ends at `last` from now on.
    pub(crate) fn truncate(&self, generation: u64, last: Lsn) {
        let mut state = self.state.lock();
        state.generation = generation;
        while state.last() > last {
            let Some(entry) = state.entries.pop_back() else { break };
            state.bytes -= cost(&entry);
            if entry.lsn > state.durable {
                state.volatile_bytes -= cost(&entry);
            }
        }
        state.base = state.base.min(last);
        state.durable = state.durable.min(last);
    }

    /// The log begins anew after `last`.
    pub(crate) fn reset(&self, generation: u64, last: Lsn) {
        let mut state = self.state.lock();
        state.generation = generation;
        state.entries.clear();
        (state.base, state.durable) = (last, last);
        (state.bytes, state.volatile_bytes) = (0, 0);
    }

    /// The entries `first..=last`; `None` when not all of them are here.
    pub(crate) fn get(&self, first: Lsn, last: Lsn) -> Option<Vec<Entry>> {
        let state = self.state.lock();
        let (from, to) = (state.index(first)?, state.index(last)?);
        (from <= to && to < state.entries.len()).then(|| state.entries.range(from..=to).cloned().collect())
    }

    /// Entries from `first` to `last` at most, as far as they have at most `bytes` bytes; at least one. `None` when
    /// the first is not here.
    pub(crate) fn run(&self, first: Lsn, last: Lsn, count: usize, bytes: usize) -> Option<Vec<Entry>> {
        let state = self.state.lock();
        let from = state.index(first)?;
        let mut room = bytes;
        let mut run = Vec::new();
        for entry in state.entries.range(from.min(state.entries.len())..) {
            let fits = run.is_empty() || (entry.command.len() <= room && run.len() < count);
            if entry.lsn > last || !fits {
                break;
            }
            room = room.saturating_sub(entry.command.len());
            run.push(entry.clone());
        }
        (!run.is_empty()).then_some(run)
    }

    /// Raised by every truncation and reset: entries read in one generation may be others in the next.
    pub(crate) fn generation(&self) -> u64 {
        self.state.lock().generation
    }

    /// Bytes appended and not durable yet.
    pub(crate) fn volatile_bytes(&self) -> usize {
        self.state.lock().volatile_bytes
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use duet_protocol::{Epoch, Position};

    use super::*;

    fn entries(after: u64, count: u64, size: usize) -> Vec<Entry> {
        let mut position = Position { epoch: Epoch(1), lsn: Lsn(after), ..Position::EMPTY };
        (0..count)
            .map(|_| {
                let entry = Entry::following(&position, Epoch(1), Bytes::from(vec![7; size]));
                position = entry.position();
                entry
            })
            .collect()
    }

    #[test]
    fn holds_what_is_not_durable_whatever_its_size() {
        let tail = Tail::new(Lsn(10));
        let size = TAIL_BYTES / 4;
        tail.push(&entries(10, 8, size));
        assert_eq!(tail.get(Lsn(11), Lsn(18)).unwrap().len(), 8);
        tail.flushed(0, Lsn(18));
        assert!(tail.get(Lsn(11), Lsn(18)).is_none(), "durable entries left");
        assert_eq!(tail.get(Lsn(16), Lsn(18)).unwrap().len(), 3);
        assert_eq!(tail.volatile_bytes(), 0);
    }

    #[test]
    fn a_truncation_takes_the_end_and_raises_the_generation() {
        let tail = Tail::new(Lsn(0));
        tail.push(&entries(0, 10, 10));
        tail.flushed(0, Lsn(5));
        tail.truncate(1, Lsn(3));
        tail.flushed(0, Lsn(10));
        assert!(tail.get(Lsn(1), Lsn(4)).is_none());
        assert_eq!(tail.get(Lsn(1), Lsn(3)).unwrap().len(), 3);
        tail.push(&entries(3, 2, 10));
        assert_eq!(tail.run(Lsn(2), Lsn(9), 100, 25).unwrap().len(), 2, "bounded by bytes");
        assert_eq!(tail.run(Lsn(2), Lsn(9), 3, 1000).unwrap().len(), 3, "bounded by count");
        assert_eq!(tail.generation(), 1);
        assert_eq!(tail.volatile_bytes(), 2 * (10 + ENTRY_OVERHEAD));
        tail.reset(2, Lsn(100));
        assert!(tail.run(Lsn(5), Lsn(9), 100, 25).is_none());
        assert!(tail.run(Lsn(101), Lsn(101), 100, 25).is_none());
    }

    #[test]
    fn a_truncation_below_what_is_held_empties_it() {
        let tail = Tail::new(Lsn(50));
        tail.push(&entries(50, 2, 10));
        tail.truncate(1, Lsn(40));
        tail.push(&entries(40, 1, 10));
        assert_eq!(tail.get(Lsn(41), Lsn(41)).unwrap().len(), 1);
    }
}
