//! Entries, and positions in a history of entries.
//!
//! A bare LSN cannot compare two histories (R11): a position is (epoch, LSN, digest), and EQUAL means all three.

use core::fmt;

use bytes::Bytes;

use crate::{Digest, Epoch, Lsn};

/// A place in a history: the last entry up to there, and the digest of everything up to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Position {
    /// Epoch of the entry at `lsn`.
    pub epoch: Epoch,
    /// Its LSN; zero for the empty history.
    pub lsn: Lsn,
    /// Digest of the history up to and with it.
    pub digest: Digest,
}

impl Position {
    /// The position of an empty log.
    pub const EMPTY: Self = Self { epoch: Epoch::ZERO, lsn: Lsn::ZERO, digest: Digest::EMPTY };

    /// Order of likely progress: first the epoch, then the LSN. Says nothing about equality of the histories.
    pub fn is_ahead_of(&self, other: &Self) -> bool {
        (self.epoch, self.lsn) > (other.epoch, other.lsn)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LSN {} (epoch {})", self.lsn, self.epoch)
    }
}

/// One entry of the log: a data write and its place in the history.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Entry {
    /// Its place; one more than the entry before.
    pub lsn: Lsn,
    /// Epoch of the configuration under which the primary appended it.
    pub epoch: Epoch,
    /// Digest of the history up to and with this entry.
    pub digest: Digest,
    /// What it does to the data. The protocol never looks inside.
    pub command: Bytes,
}

impl Entry {
    /// The entry that follows `previous`.
    pub fn following(previous: &Position, epoch: Epoch, command: Bytes) -> Self {
        let lsn = previous.lsn.next();
        let digest = chain(&previous.digest, lsn, epoch, &command);
        Self { lsn, epoch, digest, command }
    }

    /// Whether this entry is the one that follows `previous`: dense LSN, an epoch that does not fall (P5), and a digest
    /// that is true to the command.
    pub fn follows(&self, previous: &Position) -> bool {
        self.lsn == previous.lsn.next()
            && self.epoch >= previous.epoch
            && self.digest == chain(&previous.digest, self.lsn, self.epoch, &self.command)
    }

    /// The position of a log that ends with this entry.
    pub const fn position(&self) -> Position {
        Position { epoch: self.epoch, lsn: self.lsn, digest: self.digest }
    }
}

/// Digest of the history that ends with the given entry.
fn chain(previous: &Digest, lsn: Lsn, epoch: Epoch, command: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&previous.0);
    hasher.update(&lsn.0.to_le_bytes());
    hasher.update(&epoch.0.to_le_bytes());
    hasher.update(command);
    let mut digest = Digest::EMPTY;
    digest.0.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    digest
}
