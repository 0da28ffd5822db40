//! What the key index knows about one key: its latest state, and where its older versions are.
//!
//! Sized for millions of keys: 48 bytes for a key that was put once, 16 more for each older version that is still
//! readable. Invariant: the stamps of a key (older ones and the latest) are strictly ascending by revision.

use crate::{planted::Bug, revision::Revision};

/// Marks an entry whose latest record has no slot in the cache.
pub(crate) const NO_SLOT: u32 = u32::MAX;

/// One change of a key: where its record is, and whether it was a delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    main: i64,
    sub: u32,
    deleted: bool,
}

impl Stamp {
    pub(crate) fn revision(self) -> Revision {
        Revision::new(self.main, i64::from(self.sub))
    }

    pub(crate) fn is_delete(self) -> bool {
        self.deleted
    }
}

/// The latest state of a key, all but its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    main: i64,
    /// Create revision; 0 if the key is deleted.
    pub(crate) created: i64,
    /// Version; 0 if the key is deleted.
    pub(crate) version: i64,
    /// Lease; 0 for none.
    pub(crate) lease: i64,
    sub: u32,
    /// Where the cache may hold the latest record; the cache checks, so a stale slot is harmless.
    pub(crate) slot: u32,
}

impl Head {
    /// A live key.
    pub(crate) fn live(revision: Revision, created: i64, version: i64, lease: i64) -> Head {
        assert!(created > 0 && created <= revision.main && version > 0, "a live key was created and put");
        Head { main: revision.main, created, version, lease, sub: narrow(revision.sub), slot: NO_SLOT }
    }

    /// A deleted key.
    pub(crate) fn deleted(revision: Revision) -> Head {
        let sub = narrow(revision.sub);
        Head { main: revision.main, created: 0, version: 0, lease: 0, sub, slot: NO_SLOT }
    }

    /// The same head with its record in a slot of the cache.
    pub(crate) fn in_slot(self, slot: u32) -> Head {
        Head { slot, ..self }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.version > 0
    }

    pub(crate) fn revision(&self) -> Revision {
        Revision::new(self.main, i64::from(self.sub))
    }

    pub(crate) fn stamp(&self) -> Stamp {
        Stamp { main: self.main, sub: self.sub, deleted: !self.is_live() }
    }
}

fn narrow(sub: i64) -> u32 {
    u32::try_from(sub).expect("a transaction has fewer changes than the memory has bytes")
}

/// All that the index holds for one key. The box keeps the entry small while there is nothing older.
#[derive(Debug, Clone)]
#[allow(clippy::box_collection)] // a vector inline would cost every key 16 bytes that most do not use
pub(crate) struct KeyEntry {
    head: Head,
    older: Option<Box<Vec<Stamp>>>,
}

impl KeyEntry {
    /// A key with its first known change.
    pub(crate) fn new(head: Head) -> KeyEntry {
        KeyEntry { head, older: None }
    }

    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// The latest record is in this slot of the cache.
    pub(crate) fn cached_in(&mut self, slot: u32) {
        self.head.slot = slot;
    }

    /// Memory in bytes outside of the entry itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        let heap = |older: &Vec<Stamp>| size_of::<Vec<Stamp>>() + older.capacity() * size_of::<Stamp>() + 32;
        self.older.as_deref().map_or(0, heap)
    }

    fn older(&self) -> &[Stamp] {
        self.older.as_deref().map_or(&[], Vec::as_slice)
    }

    /// All changes that are known, ascending.
    pub(crate) fn stamps(&self) -> impl DoubleEndedIterator<Item = Stamp> + '_ {
        self.older().iter().copied().chain(std::iter::once(self.head.stamp()))
    }

    /// Adds a later change; what was the latest becomes an older one.
    pub(crate) fn push(&mut self, head: Head) {
        assert!(head.revision() > self.head.revision(), "changes of a key ascend");
        let older = self.older.get_or_insert_default();
        if older.len() < 4 {
            // Most keys have few versions between compactions: do not let the vector double for them.
            older.reserve_exact(1);
        }
        older.push(self.head.stamp());
        self.head = head;
    }

    /// Undoes the latest [`KeyEntry::push`], whose former head the caller kept.
    pub(crate) fn pop(&mut self, before: Head) {
        let popped = self.older.as_mut().and_then(|older| older.pop());
        assert!(popped == Some(before.stamp()), "undo restores the change before the latest");
        self.head = before;
        if self.older().is_empty() {
            self.older = None;
        }
    }

    /// The last change at or before a main revision: what a reader at that revision sees.
    pub(crate) fn at(&self, main: i64) -> Option<Stamp> {
        if self.head.main <= main {
            return Some(self.head.stamp());
        }
        let older = self.older();
        let after = older.partition_point(|stamp| stamp.main <= main);
        after.checked_sub(1).map(|position| older[position])
    }

    /// The last change strictly before a revision.
    pub(crate) fn before(&self, revision: Revision) -> Option<Stamp> {
        if self.head.revision() < revision {
            return Some(self.head.stamp());
        }
        let older = self.older();
        let after = older.partition_point(|stamp| stamp.revision() < revision);
        after.checked_sub(1).map(|position| older[position])
    }

    /// The changes that a compaction at `compacted` leaves visible: all from that revision on (watchers may start
    /// there), and before it only the one that readers at it still see, which is none for a delete.
    pub(crate) fn visible(&self, compacted: i64) -> impl Iterator<Item = Stamp> + '_ {
        let base = self.at(compacted).filter(|stamp| !stamp.deleted);
        self.stamps().filter(move |stamp| stamp.main >= compacted || base == Some(*stamp))
    }

    /// Drops the changes that are not visible any more and reports them; true if nothing is left of the key.
    pub(crate) fn compact(&mut self, compacted: i64, mut dead: impl FnMut(Revision)) -> bool {
        let early = Bug::CompactionDropsDelete.planted() && !self.head.is_live();
        let compacted = if early && self.head.main == compacted { compacted + 1 } else { compacted };
        if self.older.is_none() && (self.head.is_live() || self.head.main >= compacted) {
            return false;
        }
        let base = self.at(compacted).filter(|stamp| !stamp.deleted);
        let base = base.filter(|_| !Bug::CompactionDropsLatest.planted());
        let head = self.head.stamp();
        let keeps = |stamp: Stamp| {
            let latest = Bug::CompactionDropsLatest.planted() && stamp == head && !stamp.deleted;
            stamp.main >= compacted || base == Some(stamp) || latest
        };
        if let Some(older) = &mut self.older {
            older.retain(|stamp| {
                let keep = keeps(*stamp);
                if !keep {
                    dead(stamp.revision());
                }
                keep
            });
            older.shrink_to_fit();
        }
        if self.older().is_empty() {
            self.older = None;
        }
        let gone = !keeps(self.head.stamp());
        if gone {
            assert!(self.older.is_none() && !self.head.is_live(), "only a deleted key can vanish");
            dead(self.head.revision());
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(main: i64) -> Revision {
        Revision::new(main, 0)
    }

    fn entry() -> KeyEntry {
        let mut entry = KeyEntry::new(Head::live(revision(2), 2, 1, 0));
        entry.push(Head::live(revision(4), 2, 2, 0));
        entry.push(Head::deleted(revision(6)));
        entry.push(Head::live(revision(8), 8, 1, 0));
        entry
    }

    #[test]
    fn the_entry_stays_small() {
        assert_eq!(size_of::<KeyEntry>(), 48);
        assert_eq!(size_of::<Stamp>(), 16);
    }

    #[test]
    fn lookups_find_the_change_in_force() {
        let entry = entry();
        let at = |main| entry.at(main).map(|stamp| stamp.main);
        assert_eq!(
            [at(1), at(2), at(3), at(5), at(7), at(8), at(99)],
            [None, Some(2), Some(2), Some(4), Some(6), Some(8), Some(8)]
        );
        assert_eq!(entry.before(revision(8)).map(|stamp| stamp.main), Some(6));
        assert_eq!(entry.before(revision(2)), None);
    }

    #[test]
    fn compaction_keeps_what_readers_and_watchers_need() {
        for (compacted, kept) in
            [(1, vec![2, 4, 6, 8]), (3, vec![2, 4, 6, 8]), (5, vec![4, 6, 8]), (6, vec![6, 8]), (7, vec![8])]
        {
            let mut entry = entry();
            let visible: Vec<i64> = entry.visible(compacted).map(|stamp| stamp.main).collect();
            assert_eq!(visible, kept);
            let mut dead = 0;
            assert!(!entry.compact(compacted, |_| dead += 1));
            assert_eq!(entry.stamps().map(|stamp| stamp.main).collect::<Vec<_>>(), kept);
            assert_eq!(dead, 4 - kept.len());
        }
    }

    #[test]
    fn a_deleted_key_vanishes_after_its_delete_is_compacted() {
        let mut entry = KeyEntry::new(Head::live(revision(2), 2, 1, 0));
        entry.push(Head::deleted(revision(3)));
        assert!(!entry.compact(3, |_| ()));
        assert!(entry.compact(4, |_| ()));
    }

    #[test]
    fn undo_restores_the_former_head() {
        let mut entry = KeyEntry::new(Head::live(revision(2), 2, 1, 7));
        let before = *entry.head();
        entry.push(Head::deleted(revision(3)));
        entry.pop(before);
        assert_eq!(*entry.head(), before);
        assert_eq!(entry.stamps().count(), 1);
    }
}
