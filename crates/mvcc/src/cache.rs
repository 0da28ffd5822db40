//! The cache of latest records, under a byte budget.
//!
//! Owns the records of hot keys after their checkpoint, so that reads of them do not ask the engine. Eviction is a
//! clock: the hand frees the first slot that was not read since its last round. The cache never decides an answer,
//! only where it comes from, so it may differ between the two appliances.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use crate::{entry::NO_SLOT, planted::Bug, revision::Revision};

/// Memory that a cached record takes besides its bytes: its slot and the shared buffer's header.
const RECORD_OVERHEAD_BYTES: usize = 112;

#[derive(Debug)]
struct Slot {
    /// Whose record it is; `None` if the slot is free.
    revision: Option<Revision>,
    record: Bytes,
    read: AtomicBool,
}

/// Latest records by slot number; the key's index entry remembers the number.
#[derive(Debug)]
pub(crate) struct RecordCache {
    slots: Vec<Slot>,
    free: Vec<u32>,
    hand: usize,
    bytes: usize,
    budget: usize,
}

impl RecordCache {
    pub(crate) fn new(budget: usize) -> RecordCache {
        RecordCache { slots: Vec::new(), free: Vec::new(), hand: 0, bytes: 0, budget }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn set_budget(&mut self, budget: usize) {
        self.budget = budget;
        self.evict();
        if self.bytes == 0 {
            self.slots = Vec::new();
            self.free = Vec::new();
        }
    }

    /// Keeps a record if the budget allows; [`NO_SLOT`] if it does not.
    pub(crate) fn insert(&mut self, revision: Revision, record: Bytes) -> u32 {
        let size = record.len() + RECORD_OVERHEAD_BYTES;
        if size > self.budget {
            return NO_SLOT;
        }
        self.bytes += size;
        self.evict();
        let slot = Slot { revision: Some(revision), record, read: AtomicBool::new(false) };
        if let Some(number) = self.free.pop() {
            self.slots[number as usize] = slot;
            return number;
        }
        match u32::try_from(self.slots.len()) {
            Ok(number) if number != NO_SLOT => {
                self.slots.push(slot);
                number
            }
            _ => {
                self.bytes -= size;
                NO_SLOT
            }
        }
    }

    /// Whether a record of so many bytes can be kept without evicting another.
    pub(crate) fn has_room_for(&self, bytes: usize) -> bool {
        self.bytes + bytes + RECORD_OVERHEAD_BYTES <= self.budget
    }

    /// The record of exactly this revision, if the slot still holds it.
    pub(crate) fn get(&self, number: u32, revision: Revision) -> Option<Bytes> {
        let slot = self.slots.get(number as usize)?;
        if slot.revision != Some(revision) && !Bug::CacheUnchecked.planted() {
            return None;
        }
        slot.read.store(true, Ordering::Relaxed);
        Some(slot.record.clone())
    }

    /// Forgets the record of exactly this revision, which is not the latest any more.
    pub(crate) fn remove(&mut self, number: u32, revision: Revision) {
        if self.slots.get(number as usize).is_some_and(|slot| slot.revision == Some(revision)) {
            self.release(number as usize);
        }
    }

    fn release(&mut self, position: usize) {
        let slot = &mut self.slots[position];
        assert!(slot.revision.take().is_some(), "a slot is released once");
        let record = std::mem::take(&mut slot.record);
        self.bytes -= record.len() + RECORD_OVERHEAD_BYTES;
        self.free.push(u32::try_from(position).unwrap_or(NO_SLOT));
    }

    /// Turns the hand until the budget is kept. Ends: in its second round no slot is marked as read.
    fn evict(&mut self) {
        while self.bytes > self.budget && self.free.len() < self.slots.len() {
            if self.hand >= self.slots.len() {
                self.hand = 0;
            }
            let slot = &self.slots[self.hand];
            if slot.revision.is_some() && !slot.read.swap(false, Ordering::Relaxed) {
                self.release(self.hand);
            }
            self.hand += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(main: i64) -> Revision {
        Revision::new(main, 0)
    }

    #[test]
    fn what_is_read_survives_what_is_not() {
        let record = Bytes::from_static(&[7; 100]);
        let mut cache = RecordCache::new(3 * (100 + RECORD_OVERHEAD_BYTES));
        let slots: Vec<u32> = (1..=3).map(|main| cache.insert(revision(main), record.clone())).collect();
        assert!(cache.get(slots[0], revision(1)).is_some());
        let fourth = cache.insert(revision(4), record.clone());
        assert!(cache.get(slots[0], revision(1)).is_some());
        assert!(cache.get(slots[1], revision(2)).is_none());
        assert!(cache.get(fourth, revision(4)).is_some());
        assert!(cache.get(fourth, revision(2)).is_none());
    }

    #[test]
    fn the_budget_is_kept() {
        let mut cache = RecordCache::new(1000);
        assert_eq!(cache.insert(revision(1), Bytes::from(vec![0; 2000])), NO_SLOT);
        for main in 2..100 {
            cache.insert(revision(main), Bytes::from(vec![0; 50]));
            assert!(cache.bytes() <= 1000);
        }
        cache.set_budget(0);
        assert_eq!(cache.bytes(), 0);
        assert_eq!(cache.insert(revision(1), Bytes::new()), NO_SLOT);
        assert_eq!(cache.get(NO_SLOT, revision(1)), None);
    }
}
