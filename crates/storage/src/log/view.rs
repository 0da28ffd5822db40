//! What the writer and the readers of a log share: which segments are live, and where in them each record begins.
//!
//! The writer changes it after its bytes are in the file, under a lock held for a few stores; readers take from it the
//! files and places they need and read outside the lock. Keeps: live segments are dense (each base is the LSN before its
//! first record), places rise within a segment.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use duet_protocol::{Lsn, Position};

use super::segment::SegmentId;
use crate::disk::DiskFile;

/// A live segment.
#[derive(Debug)]
pub(super) struct LiveSegment {
    pub id: SegmentId,
    /// The segment it continues; that one may have been trimmed.
    pub continues: Option<SegmentId>,
    pub path: PathBuf,
    pub file: Arc<dyn DiskFile>,
    pub file_bytes: u64,
    /// Position before its first record.
    pub base: Position,
    /// CRC of its header.
    pub header_crc: u32,
    /// Where each record begins.
    pub offsets: Vec<u64>,
    /// Where the last record ends.
    pub end: u64,
}

impl LiveSegment {
    /// LSN of its last record, or of its base.
    pub fn last(&self) -> Lsn {
        Lsn(self.base.lsn.0 + self.offsets.len() as u64)
    }

    /// Place of the record `lsn`: from, to.
    pub fn place(&self, lsn: Lsn) -> Option<(u64, u64)> {
        let index = usize::try_from(lsn.0.checked_sub(self.base.lsn.0 + 1)?).ok()?;
        let from = *self.offsets.get(index)?;
        Some((from, self.offsets.get(index + 1).copied().unwrap_or(self.end)))
    }
}

/// The live segments, oldest first; never empty once the log is open.
#[derive(Debug, Default)]
pub(super) struct View {
    pub segments: VecDeque<LiveSegment>,
}

impl View {
    /// Position before the first entry.
    pub fn base(&self) -> Position {
        self.oldest().base
    }

    /// LSN of the last entry, or of the base.
    pub fn last(&self) -> Lsn {
        self.newest().last()
    }

    pub fn oldest(&self) -> &LiveSegment {
        let Some(segment) = self.segments.front() else { unreachable!("an open log has a segment") };
        segment
    }

    pub fn newest(&self) -> &LiveSegment {
        let Some(segment) = self.segments.back() else { unreachable!("an open log has a segment") };
        segment
    }

    pub fn newest_mut(&mut self) -> &mut LiveSegment {
        let Some(segment) = self.segments.back_mut() else { unreachable!("an open log has a segment") };
        segment
    }

    /// The segment that holds the record `lsn`.
    pub fn holding(&self, lsn: Lsn) -> Option<&LiveSegment> {
        let after = self.segments.partition_point(|segment| segment.base.lsn < lsn);
        let segment = self.segments.get(after.checked_sub(1)?)?;
        (lsn <= segment.last()).then_some(segment)
    }

    /// Adds the next segment.
    pub fn push(&mut self, segment: LiveSegment) {
        if let Some(newest) = self.segments.back() {
            assert!(newest.id < segment.id, "segments are numbered in their order");
            assert!(newest.last() == segment.base.lsn, "live segments are dense");
        }
        self.segments.push_back(segment);
    }
}

/// The view under its lock.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedView(Arc<RwLock<View>>);

impl SharedView {
    pub fn new(view: View) -> Self {
        Self(Arc::new(RwLock::new(view)))
    }

    // A panic under the lock cannot leave the view half changed in a way a reader would trust: readers verify all they read.
    pub fn read(&self) -> RwLockReadGuard<'_, View> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn write(&self) -> RwLockWriteGuard<'_, View> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
