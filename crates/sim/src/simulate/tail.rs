//! The newest entries in memory, as the server keeps them: everything that is not yet durable, and a little more.

use std::collections::VecDeque;

use duet_protocol::{Entry, Lsn};

/// See the module.
#[derive(Debug)]
pub struct Tail {
    generation: u64,
    /// LSN before the first entry held.
    base: Lsn,
    entries: VecDeque<Entry>,
    durable: Lsn,
    /// How many durable entries are kept at most.
    most: usize,
}

impl Tail {
    /// Of a log that ends, durably, at `last`.
    pub fn new(last: Lsn, most: usize) -> Self {
        Self { generation: 0, base: last, entries: VecDeque::new(), durable: last, most }
    }

    fn last(&self) -> Lsn {
        Lsn(self.base.0 + self.entries.len() as u64)
    }

    fn index(&self, lsn: Lsn) -> Option<usize> {
        usize::try_from(lsn.0.checked_sub(self.base.0 + 1)?).ok()
    }

    fn evict(&mut self) {
        while self.entries.len() > self.most && self.base < self.durable {
            self.entries.pop_front();
            self.base = self.base.next();
        }
    }

    pub fn push(&mut self, entries: &[Entry]) {
        for entry in entries {
            assert!(entry.lsn == self.last().next(), "R1: LSNs are dense");
            self.entries.push_back(entry.clone());
        }
        self.evict();
    }

    pub fn flushed(&mut self, generation: u64, lsn: Lsn) {
        if generation == self.generation && lsn > self.durable {
            assert!(lsn <= self.last(), "only what was appended is durable");
            self.durable = lsn;
            self.evict();
        }
    }

    pub fn truncate(&mut self, generation: u64, last: Lsn) {
        self.generation = generation;
        while self.last() > last && self.entries.pop_back().is_some() {}
        self.base = self.base.min(last);
        self.durable = self.durable.min(last);
    }

    pub fn reset(&mut self, generation: u64, last: Lsn) {
        self.generation = generation;
        self.entries.clear();
        (self.base, self.durable) = (last, last);
    }

    /// The entries `first..=last`, if all of them are here.
    pub fn get(&self, first: Lsn, last: Lsn) -> Option<Vec<Entry>> {
        let (from, to) = (self.index(first)?, self.index(last)?);
        (from <= to && to < self.entries.len()).then(|| self.entries.range(from..=to).cloned().collect())
    }

    /// Entries from `first` to `last` at most, if the first is here.
    pub fn run(&self, first: Lsn, last: Lsn) -> Option<Vec<Entry>> {
        let from = self.index(first)?.min(self.entries.len());
        let run: Vec<Entry> =
            self.entries.range(from..).take_while(|entry| entry.lsn <= last).cloned().collect();
        (!run.is_empty()).then_some(run)
    }
}
