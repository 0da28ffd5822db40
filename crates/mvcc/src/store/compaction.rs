//! Compaction: forgetting history below a revision.
//!
//! Owns its two halves. The command moves the compacted revision and thereby what can be seen, at once. The removal
//! from index and engine follows in bounded steps, at any time and over restarts, and changes nothing that can be
//! seen. Invariant: all versions of one key go in one step, so a checkpoint never holds half of them.

use super::Store;
use crate::{error::Error, planted::Bug};

/// Dead records in a chunk, at least: chunks keep a step from moving a list of millions when it grows.
const DEAD_CHUNK_RECORDS: usize = 4096;

impl Store {
    /// Moves the compacted revision and schedules the removal.
    pub(super) fn compact(&mut self, revision: i64) -> Result<(), Error> {
        if revision <= self.compacted {
            return Err(Error::Compacted { compacted_revision: self.compacted });
        }
        if revision > self.revision && !Bug::FutureCompacted.planted() {
            return Err(Error::FutureRevision);
        }
        self.compacted = revision;
        // From the start, also if an older compaction was under way: it left keys before its position alone that
        // have dead versions now.
        if !(Bug::CompactionGoesOn.planted() && self.compaction.is_some()) {
            self.compaction = Some(Box::default());
        }
        Ok(())
    }

    /// Does a part of the removal: visits about `max_keys` keys (at least one leaf of the index). True if there is
    /// more to do. The removed records are in the next checkpoints' deletes.
    pub fn compact_step(&mut self, max_keys: usize) -> bool {
        let Some(start) = self.compaction.take() else { return false };
        let Store { index, dead, compacted, .. } = self;
        if dead.back().is_none_or(|chunk| chunk.len() >= DEAD_CHUNK_RECORDS) {
            dead.push_back(Vec::new());
        }
        let Some(dead) = dead.back_mut() else { return true };
        self.compaction = index.visit_from(&start, max_keys.max(1), |entry| {
            entry.compact(*compacted, |revision| dead.push(revision))
        });
        self.compaction.is_some()
    }
}
