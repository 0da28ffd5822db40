//! Hashes of the state, to compare two appliances and two runs.
//!
//! Owns what counts as the state: the visible history and the leases, nothing of caches, checkpoints or the progress
//! of a compaction. The hash function is the crate's own, so that it is the same in every version.

use std::ops::ControlFlow;

use super::{Store, range};
use crate::{error::Error, key_range::KeyRange, planted::Bug, revision::Revision};

/// A hash of the visible history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashKv {
    /// The hash: equal on two appliances with equal history between the two revisions.
    pub hash: u32,
    /// The revision up to which it covers the history.
    pub hash_revision: i64,
    /// The compacted revision, from which it covers the history; -1 if nothing was compacted.
    pub compacted_revision: i64,
}

/// A 64-bit hash over a sequence of numbers and bytes. Good against accidents, not against intent.
struct Hasher {
    state: u64,
}

impl Hasher {
    fn new() -> Hasher {
        Hasher { state: 0x6475_6574_6d76_6363 }
    }

    /// Mixes so that every bit of the input reaches every bit of the state (the finalizer of splitmix64).
    fn number(&mut self, number: u64) {
        let mut mixed = self.state.rotate_left(5) ^ number;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.state = mixed ^ (mixed >> 31);
    }

    fn signed(&mut self, number: i64) {
        self.number(number.cast_unsigned());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.number(u64::from_le_bytes(word));
        }
    }

    fn record(&mut self, revision: Revision, record: &[u8]) {
        self.signed(revision.main);
        self.signed(revision.sub);
        self.bytes(record);
    }
}

impl Store {
    /// Hashes the visible history up to a revision (0 or less: the current one). Reads all of it: slow.
    ///
    /// # Errors
    /// [`Error::Compacted`], [`Error::FutureRevision`], [`Error::Storage`].
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, Error> {
        self.check_revision(revision)?;
        let hash_revision = if revision > 0 { revision } else { self.revision };
        // A sum of the records' hashes: the order of reading does not matter, and the engine is read in its own.
        let mut sum = 0_u64;
        let flow = self.each_record(Revision::ZERO, |revision, record| {
            if revision.main > hash_revision {
                return Ok(ControlFlow::Break(()));
            }
            let event = range::decode(revision, record.clone())?;
            let entry = self.index.get(&event.key_value.key);
            let visible = revision.main >= self.compacted
                || entry.is_some_and(|entry| {
                    entry.visible(self.compacted).any(|stamp| stamp.revision() == revision)
                });
            if visible || Bug::HashSeesRemoval.planted() {
                let mut hasher = Hasher::new();
                hasher.record(revision, &record);
                sum = sum.wrapping_add(hasher.state);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        assert!(flow.is_continue() || hash_revision < self.revision, "only a read of the past ends early");
        let hash = u32::try_from((sum >> 32) ^ (sum & 0xffff_ffff)).expect("both halves have 32 bits");
        Ok(HashKv { hash, hash_revision, compacted_revision: self.compacted })
    }

    /// A digest of the whole logical state (revisions, leases with their keys, alarms, every visible version of every key).
    /// A digest of the whole logical state (revisions, leases with their keys, users and roles, every visible version of
    /// every key).
    /// For tests and audits: it loads every record.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn state_digest(&self) -> Result<u64, Error> {
        let mut hasher = Hasher::new();
        hasher.signed(self.revision);
        hasher.signed(self.compacted);
        for (id, ttl) in self.leases.iter() {
            hasher.signed(id);
            hasher.signed(ttl);
            for key in self.leases.keys(id).into_iter().flatten() {
                hasher.bytes(key);
            }
        }
        for alarm in self.alarms.iter() {
            hasher.number(alarm.kind as u64);
            hasher.number(alarm.member);
        }
        if !self.auth.is_untouched() {
            hasher.bytes(&self.auth.encode());
        }
        let mut failure = None;
        self.index.walk(&KeyRange::all(), |key, entry| {
            for stamp in entry.visible(self.compacted) {
                hasher.bytes(key);
                hasher.signed(stamp.revision().main);
                hasher.signed(stamp.revision().sub);
                match self.load(entry, stamp) {
                    Ok(event) => {
                        let key_value = event.key_value;
                        hasher.bytes(&key_value.key);
                        hasher.bytes(&key_value.value);
                        for number in [key_value.create_revision, key_value.version, key_value.lease] {
                            hasher.signed(number);
                        }
                    }
                    Err(error) => failure = Some(error),
                }
            }
            let head = entry.head();
            if head.is_live() {
                for number in [head.created, head.version, head.lease] {
                    hasher.signed(number);
                }
            }
        });
        failure.map_or(Ok(hasher.state), Err)
    }
}
