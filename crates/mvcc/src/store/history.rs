//! The history for watchers: what happened from a revision on.
//!
//! Owns the reading of records in revision order, from the engine and then from memory, in bounded pieces so that
//! nobody holds the store's lock for long. Invariant: whole revisions only, none skipped, none twice.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::{Store, range};
use crate::{
    error::Error,
    event::{Event, EventBatch, EventLimits},
    key_range::KeyRange,
    planted::Bug,
    request::KeyValue,
    revision::Revision,
};

/// Records that one call looks at before it stops at the end of a revision, whether they matched or not: about a
/// millisecond of work from memory, ten from the engine.
const SCAN_RECORDS: usize = 4096;

/// Records that are asked of the engine at once.
pub(super) const CHUNK_RECORDS: usize = 1024;

/// Events found so far.
struct Gathering<'request> {
    range: &'request KeyRange,
    limits: EventLimits,
    /// The main revision that is being gathered.
    main: i64,
    scanned: usize,
    bytes: usize,
    events: Vec<Event>,
}

impl Gathering<'_> {
    fn is_full(&self) -> bool {
        self.scanned >= SCAN_RECORDS
            || self.events.len() >= self.limits.max_events.max(1)
            || self.bytes >= self.limits.max_bytes.max(1)
    }

    /// Takes the next record, or breaks with the revision that the next call begins at.
    fn add(&mut self, revision: Revision, record: &Bytes) -> Result<ControlFlow<i64>, Error> {
        assert!(revision.main >= self.main, "history is read in its order");
        if Bug::WatchSplitsRevision.planted() && self.is_full() {
            return Ok(ControlFlow::Break(self.main + 1));
        }
        if revision.main != self.main {
            if self.is_full() {
                return Ok(ControlFlow::Break(revision.main));
            }
            self.main = revision.main;
        }
        self.scanned += 1;
        let event = range::decode(revision, record)?;
        if self.range.contains(&event.key_value.key) {
            self.bytes += event.key_value.key.len() + event.key_value.value.len();
            self.events.push(event);
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl Store {
    /// The history of a range from a revision on, in order. Bounded in events, bytes and work: call again from
    /// [`EventBatch::next_revision`] until that is above [`Store::revision`], also after an empty batch.
    ///
    /// # Errors
    /// [`Error::Compacted`] below the compacted revision (it is in the error); [`Error::Storage`].
    pub fn events(
        &self,
        range: &KeyRange,
        from_revision: i64,
        limits: EventLimits,
    ) -> Result<EventBatch, Error> {
        if from_revision < 0 || (from_revision < self.compacted && !Bug::WatchBelowCompaction.planted()) {
            return Err(Error::Compacted { compacted_revision: self.compacted });
        }
        if Bug::WatchRefusedAtCompaction.planted() && from_revision == self.compacted {
            return Err(Error::Compacted { compacted_revision: self.compacted });
        }
        let end = from_revision.max(self.revision + 1);
        let mut gathering =
            Gathering { range, limits, main: from_revision, scanned: 0, bytes: 0, events: Vec::new() };
        let mut next_revision = end;
        if !range.is_empty() && from_revision <= self.revision {
            let flow = self.each_record(Revision::new(from_revision, 0), |revision, record| {
                gathering.add(revision, &record)
            })?;
            if let ControlFlow::Break(next) = flow {
                next_revision = next;
            }
        }
        assert!(next_revision > from_revision || from_revision == end, "every call makes progress");
        Ok(EventBatch { events: gathering.events, next_revision })
    }

    /// The key's content before an event; `None` if there was none, or if it has been compacted meanwhile.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn previous_key_value(&self, event: &Event) -> Result<Option<KeyValue>, Error> {
        let Some(entry) = self.index.get(&event.key_value.key) else { return Ok(None) };
        let Some(stamp) = entry.before(event.revision) else { return Ok(None) };
        // By the compacted revision, not by what the index still has: that depends on how far a compaction came.
        let main = event.revision.main;
        let readable = main > self.compacted || (main == self.compacted && stamp.revision().main == main);
        if stamp.is_delete() || !(readable || Bug::PreviousOfCompacted.planted()) {
            return Ok(None);
        }
        Ok(Some(self.load(entry, stamp)?.key_value))
    }

    /// Shows every record from a revision on, in order, until `show` breaks. Includes dead records below the
    /// compacted revision that are not removed yet.
    pub(super) fn each_record<B>(
        &self,
        from: Revision,
        mut show: impl FnMut(Revision, Bytes) -> Result<ControlFlow<B>, Error>,
    ) -> Result<ControlFlow<B>, Error> {
        // The engine may hold the frozen layer already: what memory has is read from memory only.
        let all_from_engine = Bug::WatchDoublesFrozen.planted();
        let first_in_memory = self.pending.first_main().filter(|_| !all_from_engine).unwrap_or(i64::MAX);
        let mut position = from;
        while position.main < first_in_memory {
            let chunk = self.history.scan(position, CHUNK_RECORDS)?;
            let is_last = chunk.len() < CHUNK_RECORDS;
            for (revision, record) in chunk {
                if revision.main >= first_in_memory {
                    position = revision;
                    break;
                }
                position = Revision::new(revision.main, revision.sub + 1);
                if let ControlFlow::Break(value) = show(revision, record)? {
                    return Ok(ControlFlow::Break(value));
                }
            }
            if is_last {
                break;
            }
        }
        for (revision, record) in self.pending.iter_from(from) {
            if let ControlFlow::Break(value) = show(*revision, record.clone())? {
                return Ok(ControlFlow::Break(value));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}
