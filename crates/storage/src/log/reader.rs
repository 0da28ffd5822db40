//! x
use duet_protocol::{Entry, Lsn};

use super::Damage;
use crate::failure::IoFailure;

/// Why entries could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// They were trimmed: take a whole copy instead.
    #[error("LSN {from} was trimmed; the log begins at LSN {first}")]
    Trimmed {
        /// The first LSN asked for.
        from: Lsn,
        /// The first LSN there is (or will be).
        first: Lsn,
    },
    /// They are not there (any more, or yet).
    #[error("LSN {from} is not in the log, which ends at LSN {last}")]
    Beyond {
        /// The first LSN asked for.
        from: Lsn,
        /// The last LSN there is.
        last: Lsn,
    },
    /// What was written cannot be read back: get it from the peer.
    #[error("the log is damaged: {0}")]
    Damaged(Damage),
    /// The read failed.
    #[error("the log cannot be read: {0}")]
    Failed(#[source] IoFailure),
}

/// Reads entries while the log is being written, from any thread.
#[derive(Clone, Debug)]
pub struct LogReader {}

impl LogReader {
    /// Entries from `from` on, verified, until their commands exceed `max_bytes` or the log ends; at least one. Includes
    /// what was appended and is not synced yet.
    ///
    /// # Errors
    /// See [`ReadError`]; asking beyond the end is one.
    pub fn read(&self, from: Lsn, max_bytes: usize) -> Result<Vec<Entry>, ReadError> {
        let _ = (from, max_bytes);
        unimplemented!()
    }
}
