//! The log: entries in the order of their LSNs, durable, in segments of fixed places.
//!
//! # Files
//! `log/<id, 16 hex digits>-<base LSN, 20 digits>.seg`. A segment's first 4 KiB are its header: its id (never used
//! twice), the id of the segment it continues, the *base* (position of the entry before its first), a checksum. A header
//! is synced before its file gets that name. So a segment proves by being there that everything up to its base was
//! durable, and one rename is all that ever changes the shape of the log:
//!
//! * **rolling** makes a segment whose base is the last entry;
//! * **truncating** makes one whose base is an earlier entry: it supersedes what follows that entry in the older
//!   segments, which from then on does not count, whatever is found there;
//! * **resetting** makes one that continues nothing.
//!
//! Live is the chain from the newest segment back over "continues". What is not on it was superseded and is removed.
//!
//! # Records
//! 64 bytes of header and the command; see `record.rs`. A record names its segment and its LSN, and its checksum
//! covers the checksum of the record before it, so a record left over from an earlier life of a recycled file never
//! counts. It also carries the LSN up to which the log was synced when it was written.
//!
//! # Blocks
//! What was synced is never written again: after each sync the next append starts at a fresh 4 KiB block, and the
//! rest of the last one is zeros. A lone small write therefore takes 4 KiB of the log; that is the price for never
//! putting a durable record at risk by a torn block, and a sync costs the same for 512 bytes as for 64 KiB.
//! Appends before a sync share blocks.
//!
//! # What a start makes of it
//! In every segment but the newest each record up to the next one's base must be valid, or the log is damaged. In the
//! newest the first invalid record *n* ends the log if nothing proves that *n* had been durable; proof is a valid record
//! of this segment anywhere behind it that was written when *n* was synced. A crash can leave later blocks of an
//! unfinished group without the earlier ones; those carry no such proof, and the whole group is cut. Damage is
//! reported, never cut, and nothing on disk is touched.
//!
//! A cut is a roll: the log goes on in a new segment, so nothing that was cut can come back.
//!
//! # Repair (D1, D2)
//! Records have fixed places, their own LSNs and a digest chain that the peer has too, so a lost record can be fetched
//! from the peer and written where it was. Flag bits in both headers are reserved for that. What a log alone cannot see
//! is the loss of its very last group or newest segment; the state store's applied position and the peer are the second
//! and third instance of the counter (see [`crate::recovery`]).

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod reader;
mod record;
mod recovery;
mod segment;
mod spare;
mod view;
mod writer;

use std::{fmt, path::PathBuf};

use duet_protocol::{Lsn, Position, Stamp};

use crate::failure::IoFailure;
pub use reader::{LogReader, ReadError};
pub(crate) use recovery::{Verified, verify};
pub use spare::Preparer;
pub use writer::Log;

/// Unit of the log's places in bytes: a device may tear it, so no two groups share one.
pub const BLOCK_BYTES: u64 = 4096;

/// Size of a segment unless the options say otherwise: large enough that rolling is rare, small enough to zero ahead in
/// a fraction of a second.
pub const SEGMENT_BYTES: u64 = 64 << 20;

/// Longest command in bytes; far above any request limit, and a bound for what a damaged length can claim.
pub const COMMAND_BYTES_MAX: usize = 256 << 20;

/// Sizes of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogOptions {
    /// Size of a segment file in bytes; a multiple of [`BLOCK_BYTES`], at least two of them.
    pub segment_bytes: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { segment_bytes: SEGMENT_BYTES }
    }
}

/// What a start found in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// Position before the first entry that is still there.
    pub base: Position,
    /// One stamp for each entry: the first is that of `base.lsn + 1`.
    pub stamps: Vec<Stamp>,
    /// What was cut from the end, if a crash had left something there.
    pub torn: Option<TornTail>,
}

impl Recovered {
    /// A log that begins and ends at `base`.
    pub(crate) fn empty(base: Position) -> Self {
        Self { base, stamps: Vec::new(), torn: None }
    }

    /// Position of the last entry, or the base when there is none.
    pub fn last(&self) -> Position {
        self.stamps.last().map_or(self.base, |stamp| Position {
            epoch: stamp.epoch,
            lsn: Lsn(self.base.lsn.0 + self.stamps.len() as u64),
            digest: stamp.digest,
        })
    }

    /// Position of the entry `lsn` (or the base); `None` when it is not there.
    pub fn position(&self, lsn: Lsn) -> Option<Position> {
        if lsn == self.base.lsn {
            return Some(self.base);
        }
        let index = usize::try_from(lsn.0.checked_sub(self.base.lsn.0 + 1)?).ok()?;
        self.stamps.get(index).map(|stamp| Position { epoch: stamp.epoch, lsn, digest: stamp.digest })
    }
}

/// An unfinished write that a crash left at the end of the log; nothing of it was ever reported as durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TornTail {
    /// The LSN the log would have gone on with.
    pub at_lsn: Lsn,
    /// From there to the last byte that was found written.
    pub bytes_cut: u64,
}

/// Where a log is damaged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The segment file.
    pub segment: PathBuf,
    /// Place in it of the first invalid byte range.
    pub offset: u64,
    /// First LSN that cannot be read.
    pub first_lost: Lsn,
    /// From this LSN on there is again something valid; what lies between must come from the peer.
    pub valid_after: Lsn,
    /// What is wrong there.
    pub reason: &'static str,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} at byte {} of {}: entries from LSN {} are lost, entries from LSN {} are there",
            self.reason,
            self.offset,
            self.segment.display(),
            self.first_lost,
            self.valid_after
        )
    }
}

/// Why the log does not go on. All but `NewerFormat` and `Missing` mean: stop this appliance; nothing may be retried.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A write, a sync or another operation failed: what is on disk is unknown. Restart; the start finds out.
    #[error("the log failed: {0}")]
    Failed(#[source] IoFailure),
    /// There is no space for another segment. Make space and restart.
    #[error("the disk is full: no space for the log at {}", path.display())]
    DiskFull {
        /// The file that found no space.
        path: PathBuf,
    },
    /// The log failed before and must not be used any more.
    #[error("the log failed before; restart the appliance")]
    Poisoned,
    /// Entries that were durable cannot be read: get them from the peer. Nothing was changed on disk.
    #[error("the log is damaged: {0}")]
    Damaged(Damage),
    /// There is no log in this directory: create one if the appliance is blank, else it was lost.
    #[error("there is no log in {}", directory.display())]
    Missing {
        /// The directory.
        directory: PathBuf,
    },
    /// A newer version of this program wrote it: run that.
    #[error("{} has log format {format}, this version knows up to {}", path.display(), segment::FORMAT)]
    NewerFormat {
        /// The segment.
        path: PathBuf,
        /// Its format.
        format: u16,
    },
}

impl From<IoFailure> for LogError {
    fn from(failure: IoFailure) -> Self {
        if failure.is_disk_full() { Self::DiskFull { path: failure.path } } else { Self::Failed(failure) }
    }
}

#[cfg(test)]
mod tests;
