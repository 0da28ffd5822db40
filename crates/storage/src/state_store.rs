//! The state store: a cache of the log's effect, with the position up to which the log was applied inside each transaction.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use duet_protocol::Position;

use crate::{disk::Disk, failure::IoFailure};

/// Why the state store does not go on. All are final.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The engine failed; `operation` says at what.
    #[error("the state store failed to {operation}: {source}")]
    Engine {
        /// What was tried.
        operation: &'static str,
        /// What the engine said.
        source: Box<redb::Error>,
    },
    /// No space. Make space and restart.
    #[error("the disk is full: no space for the state store ({operation})")]
    DiskFull {
        /// What was tried.
        operation: &'static str,
    },
    /// What is stored contradicts itself: get a whole copy from the peer.
    #[error("the state store is damaged: {reason}")]
    Damaged {
        /// What is wrong.
        reason: &'static str,
    },
    /// A file operation failed.
    #[error("the state store failed: {0}")]
    Failed(#[source] IoFailure),
    /// It failed before and must not be used any more.
    #[error("the state store failed before; restart the appliance")]
    Poisoned,
}

/// Changes that become durable together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Batch {
    /// Rows to write.
    pub puts: Vec<(Vec<u8>, Bytes)>,
    /// Keys to remove.
    pub deletes: Vec<Vec<u8>>,
    /// The state machine's own small record; `None` leaves the one there is.
    pub meta: Option<Bytes>,
    /// The log up to here is contained.
    pub applied: Position,
}

/// The state store. Clones share it.
#[derive(Clone, Debug)]
pub struct StateStore {}

impl StateStore {
    /// Opens the store at `path`, or makes an empty one.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn open(disk: Arc<dyn Disk>, path: &Path, cache_bytes: usize) -> Result<Self, StateError> {
        let _ = (disk, path, cache_bytes);
        unimplemented!()
    }

    /// The log up to here is contained and durable.
    pub fn applied(&self) -> Position {
        unimplemented!()
    }

    /// The state machine's own record; `None` before it first wrote one.
    pub fn meta(&self) -> Option<Bytes> {
        unimplemented!()
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        let _ = key;
        unimplemented!()
    }

    /// Up to `max` rows from `from_key` on, in the order of their keys.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn scan(&self, from_key: &[u8], max: usize) -> Result<Vec<(Bytes, Bytes)>, StateError> {
        let _ = (from_key, max);
        unimplemented!()
    }

    /// Writes a batch: durable as a whole when this returns, absent as a whole after a crash before that.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn commit(&self, batch: &Batch) -> Result<(), StateError> {
        let _ = batch;
        unimplemented!()
    }

    /// The state as it is now, for as long as the snapshot lives; commits go on beside it.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn snapshot(&self) -> Result<StateSnapshot, StateError> {
        unimplemented!()
    }
}

/// A consistent copy of the state, to be read in chunks.
#[derive(Debug)]
pub struct StateSnapshot {}

impl StateSnapshot {
    /// Where it stands.
    pub fn position(&self) -> Position {
        unimplemented!()
    }

    /// The state machine's own record in it.
    pub fn meta(&self) -> Option<Bytes> {
        unimplemented!()
    }

    /// The next rows, until their bytes exceed `max_bytes`; at least one; none at the end.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn next_chunk(&mut self, max_bytes: usize) -> Result<Vec<(Bytes, Bytes)>, StateError> {
        let _ = max_bytes;
        unimplemented!()
    }
}

/// A copy of the peer's state that is arriving. Dropped unfinished, it leaves nothing that counts.
#[derive(Debug)]
pub struct SnapshotBuilder {}

impl SnapshotBuilder {
    /// Writes rows of the copy.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn put_chunk<'a>(
        &mut self,
        rows: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<(), StateError> {
        let _ = rows.into_iter();
        unimplemented!()
    }

    /// Ends the copy and makes it durable, ready for [`crate::DataDir::install`].
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn finish(self, position: Position, meta: Option<Bytes>) -> Result<ReadySnapshot, StateError> {
        let _ = (position, meta);
        unimplemented!()
    }
}

/// A complete, durable copy that waits for its installation.
#[derive(Debug)]
pub struct ReadySnapshot {}

impl ReadySnapshot {
    /// Where it stands.
    pub fn position(&self) -> Position {
        unimplemented!()
    }
}
