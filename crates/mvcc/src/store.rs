//! The store (signatures first; the bodies follow).

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    DecodeError, Error, Event, EventBatch, EventLimits, KeyRange, KeyValue, LeaseInfo, RangeRequest, RangeResponse,
    Response, Revision, RevisionSource, SourceError, TxnRequest, TxnResponse, command::Command,
};

/// Default budget in bytes for latest records that are kept in memory after their checkpoint.
pub const DEFAULT_CACHE_BYTES: usize = 32 << 20;

/// What applying one command gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The store's revision after the command: the answer's header revision.
    pub revision: i64,
    /// The answer, or why the command was refused and changed nothing.
    pub result: Result<Response, Error>,
    /// What watchers see of it, in order.
    pub events: Vec<Event>,
}

/// One atomic write for the engine: first the puts, then the deletes, and the meta.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Records to add, ascending. Shared with the store.
    pub puts: Arc<Vec<(Revision, Bytes)>>,
    /// Records dead by compaction, in no particular order; may name ones that the engine does not have.
    pub deletes: Vec<Revision>,
    /// What the store needs besides the records to be restored; replaces the former meta.
    pub meta: Bytes,
}

/// A hash of the visible history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashKv {
    /// The hash: equal on two appliances with equal history.
    pub hash: u32,
    /// The revision it covers the history up to.
    pub hash_revision: i64,
    /// The compacted revision that it covers the history from; -1 if nothing was compacted.
    pub compacted_revision: i64,
}

/// Sizes, for metrics and for deciding when to checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Keys in the index, deleted but not yet compacted ones included.
    pub index_keys: usize,
    /// Records that no completed checkpoint holds yet.
    pub pending_records: usize,
    /// Their size in bytes.
    pub pending_bytes: usize,
    /// Dead records that the next checkpoint will delete.
    pub pending_deletes: usize,
    /// Size in bytes of the cached records.
    pub cached_bytes: usize,
}

/// What a checkpoint left cannot be restored: the appliance's data is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The meta is malformed.
    #[error("checkpoint meta: {0}")]
    Meta(DecodeError),
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

/// etcd's data model.
pub struct Store {
    _history: Arc<dyn RevisionSource>,
}

#[allow(unused_variables, clippy::unimplemented)]
impl Store {
    /// An empty store, at revision 1.
    pub fn new(history: Arc<dyn RevisionSource>) -> Store {
        Store { _history: history }
    }

    /// The store as a completed checkpoint left it.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn restore(
        history: Arc<dyn RevisionSource>,
        meta: &Bytes,
        records: impl IntoIterator<Item = Result<(Revision, Bytes), SourceError>>,
    ) -> Result<Store, RestoreError> {
        unimplemented!()
    }

    /// Changes the budget for cached records, in bytes.
    pub fn set_cache_bytes(&mut self, bytes: usize) {
        unimplemented!()
    }

    /// Applies one command.
    pub fn apply(&mut self, command: &Command) -> Applied {
        unimplemented!()
    }

    /// The current revision.
    pub fn revision(&self) -> i64 {
        unimplemented!()
    }

    /// The compacted revision: reads and watches are possible from here on; -1 if nothing was compacted.
    pub fn compacted_revision(&self) -> i64 {
        unimplemented!()
    }

    /// Reads a range.
    ///
    /// # Errors
    /// As etcd.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        unimplemented!()
    }

    /// Runs a transaction that [`TxnRequest::is_read_only`].
    ///
    /// # Errors
    /// As etcd.
    pub fn read_only_txn(&self, request: &TxnRequest) -> Result<TxnResponse, Error> {
        unimplemented!()
    }

    /// One lease, with its keys if wanted; `None` if it does not exist.
    pub fn lease_time_to_live(&self, id: i64, want_keys: bool) -> Option<LeaseInfo> {
        unimplemented!()
    }

    /// The ids of all leases, ascending.
    pub fn leases(&self) -> Vec<i64> {
        unimplemented!()
    }

    /// The history of a range from a revision on, in bounded pieces: call again from `next_revision` until that
    /// is above [`Store::revision`].
    ///
    /// # Errors
    /// [`Error::Compacted`] below the compacted revision; [`Error::Storage`].
    pub fn events(
        &self,
        range: &KeyRange,
        from_revision: i64,
        limits: EventLimits,
    ) -> Result<EventBatch, Error> {
        unimplemented!()
    }

    /// The key's content before the event; `None` if there was none or it is compacted.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn previous_key_value(&self, event: &Event) -> Result<Option<KeyValue>, Error> {
        unimplemented!()
    }

    /// Freezes what was applied since the last checkpoint, to be written to the engine outside of the lock.
    pub fn begin_checkpoint(&mut self) -> Checkpoint {
        unimplemented!()
    }

    /// The engine holds the checkpoint durably: forget what is in it.
    pub fn finish_checkpoint(&mut self) {
        unimplemented!()
    }

    /// Visits up to `max_keys` keys and drops their dead versions; true if there is more to do.
    pub fn compact_step(&mut self, max_keys: usize) -> bool {
        unimplemented!()
    }

    /// Hashes the visible history up to a revision (0: the current one).
    ///
    /// # Errors
    /// [`Error::Compacted`], [`Error::FutureRevision`], [`Error::Storage`].
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, Error> {
        unimplemented!()
    }

    /// A digest of the whole logical state, for tests.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn state_digest(&self) -> Result<u64, Error> {
        unimplemented!()
    }

    /// Sizes.
    pub fn statistics(&self) -> Statistics {
        unimplemented!()
    }
}
