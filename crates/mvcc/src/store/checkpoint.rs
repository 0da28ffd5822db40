//! Checkpoints and the restoring from them.
//!
//! Owns what goes to the engine: the records applied since the last checkpoint, the revisions that died by
//! compaction, and a small meta (revisions, leases, alarms). Beginning one shares, it does not copy, so the store's lock
//! compaction, and a small meta (revisions, leases, users and roles). Beginning one shares, it does not copy, so the store's lock
//! is held for microseconds. Invariant: a restored store equals the one that began the checkpoint, in all that can be
//! seen.

use std::sync::Arc;

use bytes::Bytes;

use super::Store;
use crate::{
    auth::Auth,
    codec::{DecodeError, Reader, write_bytes, write_signed, write_unsigned},
    command::{read_alarm, write_alarm},
    entry::Head,
    event::{Event, EventKind},
    key_range::KeyRange,
    planted::Bug,
    record,
    revision::Revision,
    source::{RevisionSource, SourceError},
};

/// Format of a meta with revisions and leases only: the only one that the first version of this program reads.
const META_FORMAT: u8 = 1;

/// Format of a meta with sections behind that. Written only if there are any.
const META_FORMAT_WITH_SECTIONS: u8 = 2;

/// Section with the alarms.
const ALARMS_SECTION: u8 = 1;

/// Section with users and roles.
const AUTH_SECTION: u8 = 2;

/// No store gets to this revision: a larger one is damage, and so every revision has a next one.
const MAX_REVISION: i64 = 1 << 62;

/// Dead records in one checkpoint, at most (or one chunk): a large compaction is spread over several, because a
/// checkpoint that deletes millions of records would hold up the log's truncation for long.
const CHECKPOINT_DELETES: usize = 64 << 10;

/// Records that are restored together, and their size in bytes: a few megabytes, so that sorting stays in the
/// processor's caches and the memory does not show.
const RESTORE_BATCH_RECORDS: usize = 32 << 10;
/// See [`RESTORE_BATCH_RECORDS`].
const RESTORE_BATCH_BYTES: usize = 8 << 20;

/// One atomic write for the engine: first the puts, then the deletes, and the meta.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Records to add, ascending. Shared with the store.
    pub puts: Arc<Vec<(Revision, Bytes)>>,
    /// Records dead by compaction, in no particular order; may name ones that the engine does not have, and ones
    /// among the puts. Bounded: after a large compaction more follow in the next checkpoints
    /// ([`Statistics::pending_deletes`](crate::Statistics::pending_deletes) says how many).
    pub deletes: Vec<Revision>,
    /// What the store needs besides the records to be restored; replaces the former meta.
    pub meta: Bytes,
}

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

impl Store {
    /// Freezes what was applied since the last checkpoint, to be written to the engine outside of the store's lock
    /// and then to be confirmed by [`Store::finish_checkpoint`]. Commands may be applied meanwhile.
    ///
    /// # Panics
    /// If the former checkpoint was not finished. One that the engine could not write is fatal: the store has to be
    /// restored from what the engine holds.
    pub fn begin_checkpoint(&mut self) -> Checkpoint {
        let puts = self.pending.freeze();
        let puts = if Bug::MetaAheadOfRecords.planted() {
            Arc::new(puts[..puts.len().saturating_sub(1)].to_vec())
        } else {
            puts
        };
        let all = puts.last().is_none_or(|(revision, _)| revision.main == self.revision);
        assert!(all || Bug::MetaAheadOfRecords.planted(), "all is in it");
        let deletes = self.take_dead();
        Checkpoint { puts, deletes, meta: self.encode_meta() }
    }

    /// The dead records that go into one checkpoint: whole chunks, so that all versions of a key go together.
    fn take_dead(&mut self) -> Vec<Revision> {
        let mut deletes = Vec::new();
        while let Some(chunk) = self.dead.front()
            && (deletes.is_empty() || deletes.len() + chunk.len() <= CHECKPOINT_DELETES)
        {
            deletes.append(&mut self.dead.pop_front().unwrap_or_default());
        }
        deletes
    }

    /// The engine holds the checkpoint durably: drops from memory what is in it.
    ///
    /// # Panics
    /// If none was begun.
    pub fn finish_checkpoint(&mut self) {
        self.pending.drop_frozen();
    }

    fn encode_meta(&self) -> Bytes {
        let leases = self.leases.iter();
        let sections = self.encode_sections();
        let mut output = Vec::with_capacity(32 + 16 * leases.len() + sections.len());
        output.push(if sections.is_empty() { META_FORMAT } else { META_FORMAT_WITH_SECTIONS });
        write_signed(&mut output, self.revision);
        write_signed(&mut output, self.compacted);
        // What is dead and not in this checkpoint is still in the engine: a restored store has to find it again.
        let removal_is_due = self.compaction.is_some() || self.dead.iter().any(|chunk| !chunk.is_empty());
        output.push(u8::from(removal_is_due && !Bug::DeletesWithoutMark.planted()));
        write_unsigned(&mut output, leases.len() as u64);
        for (id, ttl) in leases {
            write_signed(&mut output, id);
            write_signed(&mut output, ttl);
        }
        output.extend_from_slice(&sections);
        Bytes::from(output)
    }

    /// What most stores have nothing of, each behind its tag and its length, tags ascending.
    pub(super) fn encode_sections(&self) -> Vec<u8> {
        let mut output = Vec::new();
        if !self.alarms.is_empty() {
            let mut section = Vec::new();
            for alarm in self.alarms.iter() {
                write_alarm(&mut section, alarm);
            }
            output.push(ALARMS_SECTION);
            write_bytes(&mut output, &section);
        }
        if !self.auth.is_untouched() && !Bug::AuthLostAtRestore.planted() {
            output.push(AUTH_SECTION);
            write_bytes(&mut output, &self.auth.encode());
        }
        output
    }

    fn decode_section(&mut self, tag: u8, section: Bytes) -> Result<(), DecodeError> {
        let mut reader = Reader::new(section);
        match tag {
            ALARMS_SECTION => {
                while !reader.is_done() {
                    let alarm = read_alarm(&mut reader)?;
                    self.alarms.raise(alarm).map_err(|_| DecodeError::TrailingBytes)?;
                }
            }
            AUTH_SECTION => self.auth = Auth::decode(&mut reader)?,
            tag => return Err(DecodeError::UnknownTag(tag)),
        }
        reader.finish()
    }

    fn decode_meta(&mut self, meta: &Bytes) -> Result<(), DecodeError> {
        let mut reader = Reader::new(meta.clone());
        let format = reader.byte()?;
        if format != META_FORMAT && format != META_FORMAT_WITH_SECTIONS {
            return Err(DecodeError::UnknownFormat(format));
        }
        self.revision = reader.signed()?;
        self.compacted = reader.signed()?;
        if !(super::EMPTY_REVISION..=MAX_REVISION).contains(&self.revision)
            || !(super::NOT_COMPACTED..=self.revision).contains(&self.compacted)
        {
            return Err(DecodeError::MalformedInteger);
        }
        if Bug::CompactedLostAtRestore.planted() {
            self.compacted = super::NOT_COMPACTED;
        }
        self.compaction = match reader.byte()? {
            0 => None,
            1 => (!Bug::CompactionForgotten.planted()).then(Box::default),
            tag => return Err(DecodeError::UnknownTag(tag)),
        };
        for _ in 0..reader.length()? {
            let (id, ttl) = (reader.signed()?, reader.signed()?);
            let ttl = if Bug::LeaseTtlLostAtRestore.planted() { crate::MIN_LEASE_TTL_SECONDS } else { ttl };
            self.leases.grant(id, ttl).map_err(|_| DecodeError::MalformedInteger)?;
        }
        let mut last = 0;
        while format == META_FORMAT_WITH_SECTIONS && (last == 0 || !reader.is_done()) {
            let tag = reader.byte()?;
            if tag <= last {
                return Err(DecodeError::UnknownTag(tag));
            }
            last = tag;
            let section = reader.bytes()?;
            self.decode_section(tag, section)?;
        }
        reader.finish()
    }

    /// The store as a completed checkpoint left it, from the engine's meta and all of its records, ascending.
    ///
    /// The records' bytes may stay in the cache: they should not be slices of much larger buffers.
    ///
    /// # Errors
    /// [`RestoreError`]: the engine's content is damaged, nothing may be served from it.
    pub fn restore(
        history: Arc<dyn RevisionSource>,
        meta: &Bytes,
        records: impl IntoIterator<Item = Result<(Revision, Bytes), SourceError>>,
    ) -> Result<Store, RestoreError> {
        let mut store = Store::new(history);
        store.decode_meta(meta)?;
        let mut last = Revision::ZERO;
        let (mut batch, mut batch_bytes) = (Vec::new(), 0);
        for item in records {
            let (revision, bytes) = item?;
            if revision <= last || revision.main > store.revision || u32::try_from(revision.sub).is_err() {
                return Err(RestoreError::OutOfOrder(revision));
            }
            last = revision;
            batch_bytes += bytes.len();
            let event = record::decode(revision, bytes.clone())
                .map_err(|error| RestoreError::Record { revision, error })?;
            batch.push((event, bytes));
            if batch.len() >= RESTORE_BATCH_RECORDS || batch_bytes >= RESTORE_BATCH_BYTES {
                store.restore_batch(&mut batch)?;
                batch_bytes = 0;
            }
        }
        store.restore_batch(&mut batch)?;
        if Bug::RevisionReusedAfterRestart.planted() {
            store.revision = store.newest_live_revision();
        }
        if !Bug::LeaseKeysLostAtRestore.planted() {
            store.attach_leases()?;
        }
        Ok(store)
    }

    /// Takes a batch of records into the index in key order: neighbours share their leaf, so that the processor's
    /// caches miss once for several records. The sort is stable, which keeps the revisions of each key ascending.
    fn restore_batch(&mut self, batch: &mut Vec<(Event, Bytes)>) -> Result<(), RestoreError> {
        batch.sort_by(|(left, _), (right, _)| left.key_value.key.cmp(&right.key_value.key));
        for (event, bytes) in batch.drain(..) {
            self.restore_record(&event, bytes)?;
        }
        Ok(())
    }

    fn restore_record(&mut self, event: &Event, bytes: Bytes) -> Result<(), RestoreError> {
        let revision = event.revision;
        let (created, version) = (event.key_value.create_revision, event.key_value.version);
        // Each version takes a revision of its own.
        if created > revision.main || version > revision.main - created + 1 {
            return Err(RestoreError::Contradiction(revision));
        }
        let Store { index, cache, .. } = self;
        let mut follows = true;
        let before = index.push(&event.key_value.key, |before| {
            follows = before.is_none_or(|before| continues(before, event));
            let key_value = &event.key_value;
            match event.kind {
                EventKind::Delete => Head::deleted(revision),
                EventKind::Put => {
                    Head::live(revision, key_value.create_revision, key_value.version, key_value.lease)
                        .in_slot(cache.insert_if_room(revision, bytes))
                }
            }
        });
        if let Some(before) = before {
            cache.remove(before.slot, before.revision());
        }
        if follows { Ok(()) } else { Err(RestoreError::Contradiction(revision)) }
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

/// Whether a record can be the next one of a key.
fn continues(before: &Head, event: &Event) -> bool {
    let key_value = &event.key_value;
    match (event.kind, before.is_live()) {
        (EventKind::Put, true) => {
            key_value.create_revision == before.created && key_value.version == before.version + 1
        }
        (EventKind::Put, false) => key_value.create_revision == event.revision.main && key_value.version == 1,
        (EventKind::Delete, is_live) => is_live,
    }
}
