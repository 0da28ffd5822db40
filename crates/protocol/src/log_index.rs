//! What the core knows of the log's entries without holding them: epoch, digest and size of each.
//!
//! Keeps P5 (epochs never fall along a log) and density: the LSN of a stamp is its place.

use alloc::{collections::VecDeque, vec::Vec};

use crate::{Digest, Entry, Epoch, Lsn, Position};

/// What is known of one entry besides its LSN.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Stamp {
    /// Epoch of the entry.
    pub epoch: Epoch,
    /// Digest of the history up to and with it.
    pub digest: Digest,
    /// Size of its command in bytes.
    pub bytes: u32,
}

/// A log as recovered from disk.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RecoveredLog {
    /// The position just before the first entry held; [`Position::EMPTY`] when nothing was ever trimmed.
    pub base: Position,
    /// The entries held, in order.
    pub stamps: Vec<Stamp>,
}

/// Index of the log's entries, `base.lsn + 1 ..= last`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct LogIndex {
    base: Position,
    stamps: VecDeque<Stamp>,
}

impl LogIndex {
    /// The index of a recovered log.
    pub fn new(log: RecoveredLog) -> Self {
        let mut epoch = log.base.epoch;
        for stamp in &log.stamps {
            assert!(stamp.epoch >= epoch, "P5: epochs never fall along a log");
            epoch = stamp.epoch;
        }
        Self { base: log.base, stamps: log.stamps.into() }
    }

    /// The position just before the first entry held.
    pub const fn base(&self) -> Position {
        self.base
    }

    /// The last LSN; the base's when no entry is held.
    pub fn last_lsn(&self) -> Lsn {
        Lsn(self.base.lsn.0 + self.stamps.len() as u64)
    }

    /// The last position.
    pub fn last(&self) -> Position {
        let last = self.last_lsn();
        match self.stamps.back() {
            None => self.base,
            Some(stamp) => Position { epoch: stamp.epoch, lsn: last, digest: stamp.digest },
        }
    }

    /// The position at `lsn`, if the log still knows it.
    pub fn at(&self, lsn: Lsn) -> Option<Position> {
        if lsn == self.base.lsn {
            return Some(self.base);
        }
        let stamp = self.stamp(lsn)?;
        Some(Position { epoch: stamp.epoch, lsn, digest: stamp.digest })
    }

    fn stamp(&self, lsn: Lsn) -> Option<&Stamp> {
        let index = lsn.0.checked_sub(self.base.lsn.0 + 1)?;
        self.stamps.get(usize::try_from(index).ok()?)
    }

    /// Adds an entry at the end.
    pub fn push(&mut self, entry: &Entry) {
        let last = self.last();
        assert!(entry.lsn == last.lsn.next(), "R1: LSNs are dense");
        assert!(entry.epoch >= last.epoch, "P5: epochs never fall along a log");
        let bytes = u32::try_from(entry.command.len()).unwrap_or(u32::MAX);
        self.stamps.push_back(Stamp { epoch: entry.epoch, digest: entry.digest, bytes });
    }

    /// Removes every entry above `last`.
    pub fn truncate(&mut self, last: Lsn) {
        assert!(last >= self.base.lsn && last <= self.last_lsn(), "truncation stays inside the log");
        let keep = usize::try_from(last.0 - self.base.lsn.0).unwrap_or(usize::MAX);
        self.stamps.truncate(keep);
    }

    /// Forgets entries up to `upto`.
    pub fn trim(&mut self, upto: Lsn) {
        assert!(upto <= self.last_lsn(), "only existing entries are trimmed");
        if let Some(position) = self.at(upto) {
            let drop = usize::try_from(upto.0 - self.base.lsn.0).unwrap_or(usize::MAX);
            self.stamps.drain(..drop);
            self.base = position;
        }
    }

    /// Starts anew after `base`.
    pub fn reset(&mut self, base: Position) {
        self.base = base;
        self.stamps.clear();
    }

    /// The LSN of the first entry held that has the same epoch as the one at `lsn`.
    pub fn first_of_epoch_at(&self, lsn: Lsn) -> Lsn {
        let Some(position) = self.at(lsn) else { return lsn };
        let first = self.stamps.partition_point(|stamp| stamp.epoch < position.epoch);
        Lsn(self.base.lsn.0 + 1 + first as u64).min(lsn)
    }

    /// The last LSN of a run that begins at `first` and holds at most `entries` entries and about `bytes` bytes of
    /// commands (at least one entry), ending at `last` at the latest.
    pub fn run(&self, first: Lsn, last: Lsn, entries: u64, bytes: u64) -> Lsn {
        let mut end = first.previous();
        let mut room = bytes;
        while end < last && end.0 + 1 - first.0 < entries {
            let Some(stamp) = self.stamp(end.next()) else { break };
            let size = u64::from(stamp.bytes);
            if size > room && end >= first {
                break;
            }
            room = room.saturating_sub(size);
            end = end.next();
        }
        end
    }
}
