//! Hashes of the history in etcd's own way, so that a pair and an etcd that applied the same operations give the same
//! number, and a hash over the whole state, which only two appliances can compare.
//!
//! Owns the walk over the history: in slices, each under its own hold of the store's lock, so that nobody waits for a
//! large one. Invariant: the number depends on the history and the compacted revision alone, not on how far the removal
//! of a compaction or a checkpoint has come, nor on what was written meanwhile.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::{Store, range};
use crate::{
    codec::{write_signed, write_unsigned},
    entry::KeyEntry,
    error::Error,
    etcd_form,
    event::EventKind,
    planted::Bug,
    revision::Revision,
};

/// Name of the part of etcd's database that holds the history; etcd's hash begins with it.
const KEY_BUCKET: &[u8] = b"key";

/// A compaction under way makes a walk begin anew. After so many it is done in one slice: it has to end.
const RESTARTS: u32 = 8;

/// A hash of the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashKv {
    /// The hash: equal on two appliances, and on an etcd, with equal history between the two revisions.
    pub hash: u32,
    /// The revision up to which it covers the history.
    pub hash_revision: i64,
    /// The compacted revision, from which it covers the history; -1 if nothing was compacted.
    pub compacted_revision: i64,
    /// The store's revision when it was done.
    pub revision: i64,
}

/// What a hash is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashScope {
    /// The history up to a revision (0 or less: the current one), as etcd hashes it.
    History {
        /// That revision.
        revision: i64,
    },
    /// The visible history, the leases and the alarms.
    State,
}

/// A walk over the history.
#[derive(Debug)]
pub struct HashWalk {
    scope: HashScope,
    /// Last main revision that counts.
    upto: i64,
    compacted: i64,
    /// Where the next slice begins.
    next: Revision,
    /// Whether any key is live at `upto`: etcd's rule for what is older than the compaction hangs on it.
    any_live: bool,
    hash: u32,
    restarts: u32,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl HashWalk {
    /// Begins at the state that the store has now.
    ///
    /// # Errors
    /// [`Error::Compacted`], [`Error::FutureRevision`].
    pub fn begin(store: &Store, scope: HashScope) -> Result<HashWalk, Error> {
        let upto = match scope {
            HashScope::History { revision } => {
                store.check_revision(revision)?;
                if revision > 0 { revision } else { store.revision }
            }
            HashScope::State => i64::MAX,
        };
        let is_live = |entry: &KeyEntry| entry.at(upto).is_some_and(|stamp| !stamp.is_delete());
        let any_live = scope != HashScope::State && store.compacted > 0 && store.index.any(is_live);
        Ok(HashWalk {
            scope,
            upto,
            compacted: store.compacted,
            next: Revision::ZERO,
            any_live,
            hash: crc32c::crc32c(KEY_BUCKET),
            restarts: 0,
            key: Vec::new(),
            value: Vec::new(),
        })
    }

    /// Goes on over about `records` records; the hash once it is done. All slices must be of the same store.
    ///
    /// # Errors
    /// [`Error::Compacted`] if the revision was compacted meanwhile; [`Error::Storage`].
    pub fn step(&mut self, store: &Store, records: usize) -> Result<Option<HashKv>, Error> {
        if store.compacted != self.compacted {
            *self = HashWalk { restarts: self.restarts + 1, ..HashWalk::begin(store, self.scope)? };
        }
        let mut left = if self.restarts > RESTARTS { usize::MAX } else { records.max(1) };
        let flow = store.each_record(self.next, |revision, record| {
            if revision.main > self.upto {
                return Ok(ControlFlow::Break(None));
            }
            if left == 0 {
                return Ok(ControlFlow::Break(Some(revision)));
            }
            left -= 1;
            self.add(store, revision, &record)?;
            Ok(ControlFlow::Continue(()))
        })?;
        if let ControlFlow::Break(Some(next)) = flow {
            self.next = next;
            return Ok(None);
        }
        if self.scope == HashScope::State {
            self.add_the_rest(store);
        }
        Ok(Some(HashKv {
            hash: self.hash,
            hash_revision: self.upto.min(store.revision),
            compacted_revision: self.compacted,
            revision: store.revision,
        }))
    }

    fn add(&mut self, store: &Store, revision: Revision, record: &Bytes) -> Result<(), Error> {
        let event = range::decode(revision, record)?;
        let is_delete = event.kind == EventKind::Delete;
        let entry = store.index.get(&event.key_value.key);
        if entry.is_some_and(|entry| self.counts(entry, revision, is_delete))
            || Bug::HashSeesRemoval.planted()
        {
            self.key.clear();
            self.value.clear();
            etcd_form::write_key(&mut self.key, revision, is_delete);
            etcd_form::write_value(&mut self.value, &event);
            self.hash = crc32c::crc32c_append(self.hash, &self.key);
            self.hash = crc32c::crc32c_append(self.hash, &self.value);
        }
        Ok(())
    }

    /// etcd hashes everything above the compacted revision. Of what is older it takes what a compaction at the hash's own
    /// revision would keep; or, if that is nothing at all, whatever the compaction left.
    fn counts(&self, entry: &KeyEntry, revision: Revision, is_delete: bool) -> bool {
        if revision.main > self.compacted {
            return true;
        }
        if self.any_live {
            return !is_delete && entry.at(self.upto).is_some_and(|stamp| stamp.revision() == revision);
        }
        // etcd up to 3.5.15 has no delete at the compacted revision itself, and later ones leave it out.
        let left_by_compaction = entry.visible(self.compacted).any(|stamp| stamp.revision() == revision);
        left_by_compaction && (self.scope == HashScope::State || !is_delete)
    }

    /// What is not history. In the last slice, so that it is of the same moment.
    fn add_the_rest(&mut self, store: &Store) {
        let mut rest = Vec::new();
        write_signed(&mut rest, store.revision);
        write_signed(&mut rest, store.compacted);
        write_unsigned(&mut rest, store.leases.iter().len() as u64);
        for (id, ttl) in store.leases.iter() {
            write_signed(&mut rest, id);
            write_signed(&mut rest, ttl);
        }
        rest.extend_from_slice(&store.encode_sections());
        self.hash = crc32c::crc32c_append(self.hash, &rest);
    }
}

impl Store {
    /// The hash of the history up to a revision in one go, see [`HashWalk`].
    ///
    /// # Errors
    /// [`Error::Compacted`], [`Error::FutureRevision`], [`Error::Storage`].
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, Error> {
        self.hash(HashScope::History { revision })
    }

    /// A hash in one go, see [`HashWalk`].
    ///
    /// # Errors
    /// As of [`Store::hash_kv`].
    pub fn hash(&self, scope: HashScope) -> Result<HashKv, Error> {
        let mut walk = HashWalk::begin(self, scope)?;
        loop {
            if let Some(hash) = walk.step(self, usize::MAX)? {
                return Ok(hash);
            }
        }
    }
}
