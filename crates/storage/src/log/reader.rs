//! Reading entries while the log is being written.
//!
//! A reader asks the view for the places of some records, reads them without any lock, and believes nothing: segment id, LSN
//! and checksum of each must be right. If they are not, the writer may have trimmed or truncated in the meantime and the
//! file may have a new life; only if the view still says that the record is there is the log damaged.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use duet_protocol::{Entry, Lsn};

use super::{BLOCK_BYTES, Damage, record, segment::SegmentId, view::SharedView};
use crate::{disk::DiskFile, failure::IoFailure, planted::Bug};

/// Bytes of the file in one read: a bound on memory where small records lie far apart.
const READ_BYTES: u64 = 1 << 20;

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
pub struct LogReader {
    view: SharedView,
}

/// Places of consecutive records in one segment.
#[derive(Debug)]
struct Plan {
    segment: SegmentId,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    first: Lsn,
    /// From and to of each.
    places: Vec<(u64, u64)>,
}

impl LogReader {
    pub(super) fn new(view: SharedView) -> Self {
        Self { view }
    }

    /// Position before the first entry that can be read.
    pub fn base(&self) -> duet_protocol::Position {
        self.view.read().base()
    }

    /// The last LSN that can be read, synced or not.
    pub fn last(&self) -> Lsn {
        self.view.read().last()
    }

    /// How many of the newest entries lie in segments that take `bytes` together, but at least those of the newest one.
    pub fn entries_within(&self, bytes: u64) -> u64 {
        let view = self.view.read();
        let mut room = bytes;
        let mut first = view.newest();
        for segment in view.segments.iter().rev() {
            let Some(left) = room.checked_sub(segment.file_bytes) else { break };
            (room, first) = (left, segment);
        }
        view.last().0 - first.base.lsn.0
    }

    /// Entries from `from` on, verified, until their commands reach `max_bytes` or the log ends; at least one. Includes
    /// what was appended and is not synced yet.
    ///
    /// # Errors
    /// See [`ReadError`]; asking beyond the end is one.
    pub fn read(&self, from: Lsn, max_bytes: usize) -> Result<Vec<Entry>, ReadError> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        loop {
            let next = Lsn(from.0 + entries.len() as u64);
            let got = match self.plan(next, max_bytes - bytes).map(|plan| self.carry_out(&plan)) {
                Ok(Ok(got)) => got,
                // The writer was quicker: ask the view again.
                Ok(Err(None)) => continue,
                // What was read so far is good; the next call meets the error.
                Ok(Err(Some(_))) | Err(_) if !entries.is_empty() => break,
                Ok(Err(Some(error))) | Err(error) => return Err(error),
            };
            assert!(!got.is_empty(), "a read gives an entry or an error");
            for entry in got {
                bytes += entry.command.len();
                entries.push(entry);
                if bytes >= max_bytes {
                    return Ok(entries);
                }
            }
        }
        assert!(entries[0].lsn == from, "what was asked for comes first");
        Ok(entries)
    }

    /// Where the records from `from` on are; as many as one read takes, of `bytes` or somewhat more.
    fn plan(&self, from: Lsn, bytes: usize) -> Result<Plan, ReadError> {
        let limit = (bytes as u64).clamp(BLOCK_BYTES, READ_BYTES);
        let view = self.view.read();
        if from <= view.base().lsn {
            return Err(ReadError::Trimmed { from, first: view.base().lsn.next() });
        }
        let Some(segment) = view.holding(from) else {
            return Err(ReadError::Beyond { from, last: view.last() });
        };
        let mut places: Vec<(u64, u64)> = Vec::new();
        let mut lsn = from;
        while let Some((start, end)) = segment.place(lsn) {
            let begin = places.first().map_or(start, |place| place.0);
            if !places.is_empty() && end - begin > limit {
                break;
            }
            places.push((start, end));
            lsn = lsn.next();
        }
        assert!(!places.is_empty(), "a segment that holds a record knows its place");
        let (path, file) = (segment.path.clone(), Arc::clone(&segment.file));
        Ok(Plan { segment: segment.id, path, file, first: from, places })
    }

    /// Reads and verifies as much as is good; an error of `None` means that the plan is out of date.
    fn carry_out(&self, plan: &Plan) -> Result<Vec<Entry>, Option<ReadError>> {
        let start = plan.places[0].0;
        let end = plan.places[plan.places.len() - 1].1;
        let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(usize::MAX)];
        let got = plan.file.read_at(&mut bytes, start);
        let mut entries = Vec::with_capacity(plan.places.len());
        if got.as_ref().is_ok_and(|got| *got == bytes.len()) {
            for (index, (from, to)) in plan.places.iter().enumerate() {
                let lsn = Lsn(plan.first.0 + index as u64);
                let at = |offset: u64| usize::try_from(offset - start).unwrap_or(usize::MAX);
                // The next record's start may lie behind padding; the record itself says how long it is.
                let record = record::parse(&bytes[at(*from)..at(*to)], plan.segment.0);
                match record.filter(|(header, _)| header.lsn == lsn || Bug::ReaderBelievesPlaces.planted()) {
                    Some((header, command)) => {
                        entries.push(record::entry(&header, Bytes::copy_from_slice(command)));
                    }
                    None => break,
                }
            }
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
        Err(self.explain(plan, got.err()))
    }

    /// Whether a failed read is the log's fault or the plan's.
    fn explain(&self, plan: &Plan, error: Option<std::io::Error>) -> Option<ReadError> {
        let (lost, offset) = (plan.first, plan.places[0].0);
        let view = self.view.read();
        let still_there = view
            .holding(lost)
            .is_some_and(|segment| segment.id == plan.segment && segment.place(lost).is_some());
        if !still_there {
            return None;
        }
        let segment = plan.path.clone();
        Some(match error {
            Some(source) => ReadError::Failed(IoFailure { operation: "read", path: segment, source }),
            None => ReadError::Damaged(Damage {
                segment,
                offset,
                first_lost: lost,
                valid_after: lost.next(),
                reason: "a record cannot be read back as it was written",
            }),
        })
    }
}
