//! Checkpoints: what makes the state durable.
//!
//! Owns what goes to the engine: the records applied since the last checkpoint, the revisions that died by
//! compaction, and a small meta (revisions, leases, alarms, users and roles). Beginning one shares, it does not copy, so
//! the store's lock is held for microseconds. `restore.rs` is the way back.

use std::sync::Arc;

use bytes::Bytes;

use super::Store;
use crate::{
    auth::Auth,
    codec::{DecodeError, Reader, write_bytes, write_signed, write_unsigned},
    command::{read_alarm, write_alarm},
    planted::Bug,
    revision::Revision,
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

    pub(super) fn decode_meta(&mut self, meta: &Bytes) -> Result<(), DecodeError> {
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
}
