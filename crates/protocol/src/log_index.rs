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

/// A stamp as it is held: with the bytes of all entries up to and with this one, so that any run's size is a difference.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Mark {
    epoch: Epoch,
    digest: Digest,
    total: u64,
}

/// Index of the log's entries, `base.lsn + 1 ..= last`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct LogIndex {
    base: Position,
    /// Bytes of all entries ever marked up to the base.
    base_total: u64,
    marks: VecDeque<Mark>,
}

impl LogIndex {
    /// The index of a recovered log.
    pub fn new(log: RecoveredLog) -> Self {
        let mut index =
            Self { base: log.base, base_total: 0, marks: VecDeque::with_capacity(log.stamps.len()) };
        for stamp in log.stamps {
            index.mark(stamp);
        }
        index
    }

    fn mark(&mut self, stamp: Stamp) {
        let (epoch, total) =
            self.marks.back().map_or((self.base.epoch, self.base_total), |mark| (mark.epoch, mark.total));
        assert!(stamp.epoch >= epoch, "P5: epochs never fall along a log");
        let total = total + u64::from(stamp.bytes);
        self.marks.push_back(Mark { epoch: stamp.epoch, digest: stamp.digest, total });
    }

    /// The position just before the first entry held.
    pub const fn base(&self) -> Position {
        self.base
    }

    /// The last LSN; the base's when no entry is held.
    pub fn last_lsn(&self) -> Lsn {
        Lsn(self.base.lsn.0 + self.marks.len() as u64)
    }

    /// The last position.
    pub fn last(&self) -> Position {
        let lsn = self.last_lsn();
        self.marks.back().map_or(self.base, |mark| Position { epoch: mark.epoch, lsn, digest: mark.digest })
    }

    /// The position at `lsn`, if the log still knows it.
    pub fn at(&self, lsn: Lsn) -> Option<Position> {
        if lsn == self.base.lsn {
            return Some(self.base);
        }
        let mark = self.marks.get(self.index(lsn)?)?;
        Some(Position { epoch: mark.epoch, lsn, digest: mark.digest })
    }

    /// Where the mark of `lsn` is, if it is above the base.
    fn index(&self, lsn: Lsn) -> Option<usize> {
        usize::try_from(lsn.0.checked_sub(self.base.lsn.0 + 1)?).ok()
    }

    /// Adds an entry at the end.
    pub fn push(&mut self, entry: &Entry) {
        assert!(entry.lsn == self.last_lsn().next(), "R1: LSNs are dense");
        let bytes = u32::try_from(entry.command.len()).unwrap_or(u32::MAX);
        self.mark(Stamp { epoch: entry.epoch, digest: entry.digest, bytes });
    }

    /// Removes every entry above `last`.
    pub fn truncate(&mut self, last: Lsn) {
        assert!(last >= self.base.lsn && last <= self.last_lsn(), "truncation stays inside the log");
        self.marks.truncate(self.index(last.next()).unwrap_or(0));
    }

    /// Forgets entries up to `upto`.
    pub fn trim(&mut self, upto: Lsn) {
        assert!(upto <= self.last_lsn(), "only existing entries are trimmed");
        let Some(index) = self.index(upto) else { return };
        let Some(mark) = self.marks.get(index) else { return };
        self.base = Position { epoch: mark.epoch, lsn: upto, digest: mark.digest };
        self.base_total = mark.total;
        self.marks.drain(..=index);
    }

    /// Starts anew after `base`.
    pub fn reset(&mut self, base: Position) {
        *self = Self { base, base_total: 0, marks: VecDeque::new() };
    }

    /// The LSN of the first entry held that has the same epoch as the one at `lsn`.
    pub fn first_of_epoch_at(&self, lsn: Lsn) -> Lsn {
        let Some(position) = self.at(lsn) else { return lsn };
        let first = self.marks.partition_point(|mark| mark.epoch < position.epoch);
        Lsn(self.base.lsn.0 + 1 + first as u64).min(lsn)
    }

    /// The last LSN of a run that begins at `first` and holds at most `entries` entries and `bytes` bytes of commands (but
    /// always at least one entry), ending at `last` at the latest; the LSN before `first` when there is none.
    pub fn run(&self, first: Lsn, last: Lsn, entries: u64, bytes: u64) -> Lsn {
        let last = last.min(self.last_lsn()).min(Lsn(first.0.saturating_add(entries).saturating_sub(1)));
        let Some(index) = self.index(first).filter(|_| first <= last) else { return first.previous() };
        let before = if index == 0 { self.base_total } else { self.marks[index - 1].total };
        let fitting = self.marks.partition_point(|mark| mark.total <= before.saturating_add(bytes));
        Lsn(self.base.lsn.0 + fitting as u64).clamp(first, last)
    }
}
