//! Restoring a store from what its checkpoints left.
//!
//! Owns the way back from the engine's records to the index. The records come in runs: a run is read, checked and sorted
//! without the store, so that one thread can do that while another takes the run before it into the store. Invariant: a
//! restored store equals the one that began the checkpoint, in all that can be seen.

use std::sync::Arc;

use bytes::Bytes;

use super::Store;
use crate::{
    codec::DecodeError,
    entry::Head,
    event::EventKind,
    key_range::KeyRange,
    planted::Bug,
    record::{self, Parts},
    revision::Revision,
    source::{RevisionSource, SourceError},
};

/// Changes in a run: enough that neighbours in the index share a leaf, few enough that their sorting stays in the
/// processor's caches.
const RUN_CHANGES: usize = 64 << 10;

/// Bytes of keys in a run, for the same reason.
const RUN_KEY_BYTES: usize = 8 << 20;

/// What a checkpoint left cannot be restored: the appliance's data is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The meta is malformed.
    #[error("checkpoint meta: {0}")]
    Meta(#[from] DecodeError),
    /// A record is malformed.
    #[error("record {revision}: {error}")]
    Record {
        /// Which.
        revision: Revision,
        /// How.
        error: DecodeError,
    },
    /// Records are not ascending, or lie above the revision of the meta.
    #[error("record {0} is out of order")]
    OutOfOrder(Revision),
    /// A record contradicts the ones before it or the leases of the meta.
    #[error("record {0} contradicts the rest")]
    Contradiction(Revision),
    /// The engine failed.
    #[error("storage: {0}")]
    Source(#[from] SourceError),
}

/// Some of the engine's records on their way into a store: their keys and places, not their values.
#[derive(Debug, Default)]
pub struct RestoreRun {
    keys: Vec<u8>,
    changes: Vec<Change>,
    first: Revision,
    last: Revision,
}

/// One change of a key.
#[derive(Debug)]
struct Change {
    /// Where its key begins in the run's `keys`.
    start: u32,
    length: u32,
    head: Head,
}

impl RestoreRun {
    /// Adds the next record.
    ///
    /// # Errors
    /// [`RestoreError`]: the record is malformed, impossible, or not behind the one before.
    pub fn add(&mut self, revision: Revision, record: &[u8]) -> Result<(), RestoreError> {
        if revision <= self.last || u32::try_from(revision.sub).is_err() {
            return Err(RestoreError::OutOfOrder(revision));
        }
        let parts = record::parse(record).map_err(|error| RestoreError::Record { revision, error })?;
        let Parts { kind, created, version, lease, key, .. } = parts;
        // Each version takes a revision of its own.
        if created > revision.main || version > revision.main - created + 1 {
            return Err(RestoreError::Contradiction(revision));
        }
        let head = match kind {
            EventKind::Put => Head::live(revision, created, version, lease),
            EventKind::Delete => Head::deleted(revision),
        };
        let (Ok(start), Ok(length)) = (u32::try_from(self.keys.len()), u32::try_from(key.len())) else {
            return Err(RestoreError::Contradiction(revision));
        };
        self.keys.extend_from_slice(key);
        if self.changes.is_empty() {
            self.first = revision;
        }
        self.last = revision;
        self.changes.push(Change { start, length, head });
        Ok(())
    }

    /// Whether it is time to give it to [`Restoring::add`] and to begin another.
    pub fn is_full(&self) -> bool {
        self.changes.len() >= RUN_CHANGES || self.keys.len() >= RUN_KEY_BYTES
    }

    /// Brings the changes into the order of their keys: neighbours share their leaf of the index, so that the
    /// processor's caches miss once for several. The sort is stable, which keeps the revisions of each key ascending.
    #[must_use]
    pub fn sorted(mut self) -> RestoreRun {
        let keys = &self.keys;
        self.changes.sort_by(|left, right| left.key(keys).cmp(right.key(keys)));
        self
    }
}

impl Change {
    fn key<'keys>(&self, keys: &'keys [u8]) -> &'keys [u8] {
        &keys[self.start as usize..][..self.length as usize]
    }
}

/// A store that is being restored.
pub struct Restoring {
    store: Store,
    last: Revision,
}

impl Restoring {
    /// Begins with the engine's meta.
    ///
    /// # Errors
    /// [`RestoreError::Meta`].
    pub fn begin(history: Arc<dyn RevisionSource>, meta: &Bytes) -> Result<Restoring, RestoreError> {
        let mut store = Store::new(history);
        store.decode_meta(meta)?;
        Ok(Restoring { store, last: Revision::ZERO })
    }

    /// Takes the next records, sorted.
    ///
    /// # Errors
    /// [`RestoreError`]: the engine's content is damaged, nothing may be served from it.
    pub fn add(&mut self, run: &RestoreRun) -> Result<(), RestoreError> {
        if run.changes.is_empty() {
            return Ok(());
        }
        if run.first <= self.last {
            return Err(RestoreError::OutOfOrder(run.first));
        }
        if run.last.main > self.store.revision {
            return Err(RestoreError::OutOfOrder(run.last));
        }
        self.last = run.last;
        for change in &run.changes {
            let mut follows = true;
            self.store.index.push(change.key(&run.keys), |before| {
                follows = before.is_none_or(|before| continues(before, &change.head));
                change.head
            });
            if !follows {
                return Err(RestoreError::Contradiction(change.head.revision()));
            }
        }
        Ok(())
    }

    /// Ends it: these were all of the records.
    ///
    /// # Errors
    /// [`RestoreError::Contradiction`] between records and leases.
    pub fn finish(self) -> Result<Store, RestoreError> {
        let Restoring { mut store, .. } = self;
        if Bug::RevisionReusedAfterRestart.planted() {
            store.revision = store.newest_live_revision();
        }
        if !Bug::LeaseKeysLostAtRestore.planted() {
            store.attach_leases()?;
        }
        Ok(store)
    }
}

impl Store {
    /// The store as a completed checkpoint left it, from the engine's meta and all of its records, ascending.
    ///
    /// # Errors
    /// [`RestoreError`]: the engine's content is damaged, nothing may be served from it.
    pub fn restore(
        history: Arc<dyn RevisionSource>,
        meta: &Bytes,
        records: impl IntoIterator<Item = Result<(Revision, Bytes), SourceError>>,
    ) -> Result<Store, RestoreError> {
        let mut restoring = Restoring::begin(history, meta)?;
        let mut run = RestoreRun::default();
        for item in records {
            let (revision, record) = item?;
            run.add(revision, &record)?;
            if run.is_full() {
                restoring.add(&std::mem::take(&mut run).sorted())?;
            }
        }
        restoring.add(&run.sorted())?;
        restoring.finish()
    }

    /// Offers a record of the engine to the cache, so that the first reads after a restart need not ask for it. `false`
    /// when there is no room for it. Changes no answer.
    ///
    /// The record's bytes stay in the cache: they should not be a slice of a much larger buffer.
    pub fn warm(&mut self, revision: Revision, record: Bytes) -> bool {
        let Ok(Parts { key, .. }) = record::parse(&record) else { return true };
        let Store { index, cache, .. } = self;
        let Some(entry) = index.get_mut(key) else { return true };
        let head = entry.head();
        if head.revision() != revision || !head.is_live() || cache.get(head.slot, revision).is_some() {
            return true;
        }
        if !cache.has_room_for(record.len()) {
            return false;
        }
        entry.cached_in(cache.insert(revision, record));
        true
    }

    /// Hangs the live keys on their leases again, which the records name.
    fn attach_leases(&mut self) -> Result<(), RestoreError> {
        let Store { index, leases, .. } = self;
        let mut contradiction = None;
        index.walk(&KeyRange::all(), |key, entry| {
            let head = entry.head();
            if head.lease == 0 {
                return;
            }
            if leases.exists(head.lease) {
                leases.move_key(key, 0, head.lease);
            } else {
                contradiction = Some(head.revision());
            }
        });
        contradiction.map_or(Ok(()), |revision| Err(RestoreError::Contradiction(revision)))
    }
}

/// Whether a change can be the next one of a key.
fn continues(before: &Head, next: &Head) -> bool {
    match (next.is_live(), before.is_live()) {
        (true, true) => next.created == before.created && next.version == before.version + 1,
        (true, false) => next.created == next.revision().main && next.version == 1,
        (false, is_live) => is_live,
    }
}
