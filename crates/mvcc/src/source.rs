//! The boundary to the engine that holds the history on disk.
//!
//! Owns only the trait and its error. The engine (another crate) holds exactly what completed checkpoints wrote,
//! under the keys of [`Revision`]; the store never writes through this trait, it hands out a
//! [`Checkpoint`](crate::Checkpoint) instead.

use bytes::Bytes;

use crate::revision::Revision;

/// The engine could not answer: its files are damaged or unreadable.
///
/// Fatal for the appliance: the state machine cannot go on without its history, and no client may see a guess.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct SourceError {
    /// What happened, in words for the operator.
    pub detail: String,
}

impl SourceError {
    /// An error with the given description.
    pub fn new(detail: impl Into<String>) -> SourceError {
        SourceError { detail: detail.into() }
    }
}

/// Reads the records that completed checkpoints wrote.
///
/// Both methods may be called while a checkpoint is being written, and see it either whole or not at all.
pub trait RevisionSource: Send + Sync {
    /// The record of exactly this revision, or `None` if the engine has none.
    ///
    /// # Errors
    /// The engine cannot be read.
    fn get(&self, revision: Revision) -> Result<Option<Bytes>, SourceError>;

    /// Up to `max` records at or after `from`, ascending. Fewer than `max` means that the end was reached.
    ///
    /// # Errors
    /// The engine cannot be read.
    fn scan(&self, from: Revision, max: usize) -> Result<Vec<(Revision, Bytes)>, SourceError>;
}

/// A source without any record: for an empty store, and for tests that never checkpoint.
#[derive(Debug, Clone, Copy, Default)]
pub struct EmptySource;

impl RevisionSource for EmptySource {
    fn get(&self, _revision: Revision) -> Result<Option<Bytes>, SourceError> {
        Ok(None)
    }

    fn scan(&self, _from: Revision, _max: usize) -> Result<Vec<(Revision, Bytes)>, SourceError> {
        Ok(Vec::new())
    }
}
