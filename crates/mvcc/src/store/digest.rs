//! A digest of the state, to compare two appliances and two runs in tests.
//!
//! Owns what counts as the state: the visible history, leases and alarms, nothing of caches, checkpoints or the progress
//! of a compaction. The hash function is the crate's own, so that it is the same in every version.

use super::Store;
use crate::{error::Error, key_range::KeyRange};

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
}

impl Store {
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
