//! The log's one writer.
//!
//! Keeps: what was synced is never written again; a segment gets its name only when all before it is durable; after a
//! failure nothing is written any more. Entries are encoded into one buffer that is reused, and go to the file with one
//! write for each append (two where a segment ends).

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use duet_protocol::{Entry, Lsn, Position};

use super::{
    Damage, LogError, LogOptions, LogReader, Preparer, ReadError, Recovered, Verified, record, recovery,
    segment::{self, SegmentHeader, SegmentId, block_up},
    view::{LiveSegment, SharedView, View},
};
use crate::{
    disk::{Disk, DiskFile},
    failure::At,
    planted::Bug,
};

/// A buffer that grew beyond this many bytes for one large append is given back.
const BUFFER_BYTES_KEPT: usize = 4 << 20;

/// The log, for its one writer.
#[derive(Debug)]
pub struct Log {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    preparer: Preparer,
    view: SharedView,
    /// Position of the last entry appended, or the base.
    last: Position,
    /// Everything up to here is durable.
    synced: Lsn,
    next_id: SegmentId,
    /// The newest segment's file.
    file: Arc<dyn DiskFile>,
    id: SegmentId,
    file_bytes: u64,
    /// Where its last record ends.
    end: u64,
    /// CRC of its last record, or of its header.
    crc: u32,
    /// Something was written since the last sync.
    dirty: bool,
    poisoned: bool,
    buffer: Vec<u8>,
    offsets: Vec<u64>,
}

impl Log {
    /// Begins a log at `base` in `directory` (which must exist), superseding whatever is there, damaged or not.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn create(
        disk: Arc<dyn Disk>,
        directory: &Path,
        base: Position,
        options: LogOptions,
    ) -> Result<Self, LogError> {
        let preparer = Preparer::new(Arc::clone(&disk), directory, options.segment_bytes);
        let older = recovery::list_segments(disk.as_ref(), directory)?;
        let id = SegmentId(older.last().map_or(0, |(id, _, _)| id.0) + 1);
        preparer.adopt()?;
        let segment = make_segment(disk.as_ref(), directory, &preparer, (id, None), base, 0)?;
        remove_all(disk.as_ref(), directory, older.into_iter().map(|(_, _, path)| path))?;
        let crc = segment.header_crc;
        Ok(Self::assemble(disk, directory, preparer, View { segments: [segment].into() }, base, crc))
    }

    /// Opens the log, verifies all of it, cuts a torn tail. What is reported is durable.
    ///
    /// # Errors
    /// See [`LogError`]; on `Damaged` nothing was changed on disk.
    pub fn open(
        disk: Arc<dyn Disk>,
        directory: &Path,
        options: LogOptions,
    ) -> Result<(Self, Recovered), LogError> {
        let found = recovery::verify(disk.as_ref(), directory)?;
        Self::go_on(disk, directory, found, options)
    }

    /// Puts to work what was found: removes what was superseded and cuts a torn tail.
    ///
    /// # Errors
    /// See [`LogError`].
    pub(crate) fn go_on(
        disk: Arc<dyn Disk>,
        directory: &Path,
        found: Verified,
        options: LogOptions,
    ) -> Result<(Self, Recovered), LogError> {
        let preparer = Preparer::new(Arc::clone(&disk), directory, options.segment_bytes);
        remove_all(disk.as_ref(), directory, found.leftovers)?;
        preparer.adopt()?;
        let last = found.recovered.last();
        let view = View { segments: found.segments };
        assert!(view.last() == last.lsn, "every record found has its place and its stamp");
        let mut log = Self::assemble(disk, directory, preparer, view, last, found.last_crc);
        if !found.goes_on && !Bug::TornTailGoesOn.planted() {
            log.begin_segment(last, 0, true)?;
        }
        Ok((log, found.recovered))
    }

    fn assemble(
        disk: Arc<dyn Disk>,
        directory: &Path,
        preparer: Preparer,
        view: View,
        last: Position,
        crc: u32,
    ) -> Self {
        let newest = view.newest();
        let (file, id, file_bytes, end) =
            (Arc::clone(&newest.file), newest.id, newest.file_bytes, newest.end);
        Self {
            disk,
            directory: directory.to_owned(),
            preparer,
            view: SharedView::new(view),
            last,
            synced: last.lsn,
            next_id: SegmentId(id.0 + 1),
            file,
            id,
            file_bytes,
            end,
            crc,
            dirty: false,
            poisoned: false,
            buffer: Vec::new(),
            offsets: Vec::new(),
        }
    }

    /// Writes `entries` (dense, the first follows the last) behind the others. Readers see them; durable after `sync`.
    ///
    /// # Errors
    /// See [`LogError`]; the log is then poisoned.
    pub fn append(&mut self, entries: &[Entry]) -> Result<(), LogError> {
        self.guarded(|log| {
            for entry in entries {
                log.push(entry)?;
            }
            log.flush()
        })
    }

    /// Makes everything appended durable; the LSN up to which it is.
    ///
    /// # Errors
    /// See [`LogError`]; the log is then poisoned.
    pub fn sync(&mut self) -> Result<Lsn, LogError> {
        self.guarded(|log| {
            log.sync_data()?;
            Ok(log.synced)
        })
    }

    /// Removes every entry above `last`, durably; what stays is durable too.
    ///
    /// # Errors
    /// See [`LogError`]; the log is then poisoned.
    pub fn truncate(&mut self, last: Lsn) -> Result<(), LogError> {
        assert!(last >= self.base().lsn, "a truncation leaves the base");
        assert!(last <= self.last.lsn, "a truncation removes what is there");
        self.guarded(|log| {
            log.sync_data()?;
            if last == log.last.lsn {
                return Ok(());
            }
            let position = log.position(last)?;
            if Bug::TruncationForgotten.planted() {
                (log.last, log.synced) = (position, last);
                return Ok(());
            }
            log.begin_segment(position, 0, true)
        })
    }

    /// Entries up to `upto` are not needed any more: whole segments go.
    ///
    /// # Errors
    /// See [`LogError`]; the log is then poisoned.
    pub fn trim(&mut self, upto: Lsn) -> Result<(), LogError> {
        self.guarded(|log| {
            // One by one and each durable before the next: a gap in the chain would be damage.
            while let Some(segment) = log.take_oldest(upto) {
                log.preparer.recycle(&segment.path, &segment.file, segment.file_bytes)?;
            }
            Ok(())
        })
    }

    /// Forgets all entries and goes on from `base`, durably.
    ///
    /// # Errors
    /// See [`LogError`]; the log is then poisoned.
    pub fn reset(&mut self, base: Position) -> Result<(), LogError> {
        self.guarded(|log| {
            let segment = log.make_next(None, base, 0)?;
            log.dirty = false;
            let crc = segment.header_crc;
            let old = {
                let mut view = log.view.write();
                std::mem::replace(&mut *view, View { segments: [segment].into() })
            };
            log.go_on_in_newest(base, crc);
            remove_all(
                log.disk.as_ref(),
                &log.directory,
                old.segments.into_iter().map(|segment| segment.path),
            )
        })
    }

    /// A reader, to be cloned and sent to other threads.
    pub fn reader(&self) -> LogReader {
        LogReader::new(self.view.clone())
    }

    /// What makes the next segment's file ahead; give it to a background thread.
    pub fn preparer(&self) -> Preparer {
        self.preparer.clone()
    }

    /// [`Preparer::prepare_next`] on this thread.
    ///
    /// # Errors
    /// See there.
    pub fn prepare_next(&mut self) -> Result<bool, LogError> {
        self.preparer.prepare_next()
    }

    /// Position before the first entry.
    pub fn base(&self) -> Position {
        self.view.read().base()
    }

    /// Position of the last entry appended, or the base.
    pub fn last(&self) -> Position {
        self.last
    }

    /// Everything up to here is durable.
    pub fn synced(&self) -> Lsn {
        self.synced
    }

    /// Bytes the log's segments take on disk, without the spare.
    pub fn disk_bytes(&self) -> u64 {
        self.view.read().segments.iter().map(|segment| segment.file_bytes).sum()
    }

    /// Runs an operation that, once begun, must end well for the log to be used any more.
    fn guarded<T>(
        &mut self,
        operation: impl FnOnce(&mut Self) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        if self.poisoned {
            return Err(LogError::Poisoned);
        }
        self.poisoned = true;
        let done = operation(self);
        self.poisoned &= !Bug::SyncTriedAgain.planted();
        let done = done?;
        self.poisoned = false;
        assert!(self.synced <= self.last.lsn, "only what was appended is durable");
        Ok(done)
    }

    /// Puts one entry into the buffer, and the buffer into the file where a segment ends.
    fn push(&mut self, entry: &Entry) -> Result<(), LogError> {
        assert!(entry.lsn == self.last.lsn.next(), "R1: LSNs are dense");
        assert!(entry.epoch >= self.last.epoch, "P5: epochs never fall along a log");
        let bytes = record::bytes_of(entry) as u64;
        if self.write_start() + self.buffer.len() as u64 + bytes > self.file_bytes {
            self.flush()?;
            self.sync_data()?;
            self.begin_segment(self.last, bytes, false)?;
        }
        let offset = self.write_start() + self.buffer.len() as u64;
        assert!(offset + bytes <= self.file_bytes, "a record fits its segment");
        self.offsets.push(offset);
        self.crc = record::encode(&mut self.buffer, entry, self.id.0, self.synced, self.crc);
        self.last = entry.position();
        Ok(())
    }

    /// Where the buffer goes: a fresh block, unless the last one holds nothing that was synced.
    fn write_start(&self) -> u64 {
        if self.dirty || Bug::SyncedBlockRewritten.planted() { self.end } else { block_up(self.end) }
    }

    /// Writes the buffer, with zeros to the end of its last block, and shows its records to the readers.
    fn flush(&mut self) -> Result<(), LogError> {
        assert!(self.buffer.is_empty() == self.offsets.is_empty(), "each record has its place");
        if self.buffer.is_empty() {
            return Ok(());
        }
        let start = self.write_start();
        let end = start + self.buffer.len() as u64;
        let padding = usize::try_from(block_up(end) - end).unwrap_or(0);
        self.buffer.resize(self.buffer.len() + padding, 0);
        assert!(start + self.buffer.len() as u64 <= self.file_bytes, "padding stays in the segment");
        self.dirty = true;
        self.end = end;
        let written = self.file.write_at(&self.buffer, start);
        {
            let mut view = self.view.write();
            let newest = view.newest_mut();
            assert!(newest.id == self.id && newest.end <= start, "records go behind the others");
            written.at("write", &newest.path)?;
            newest.offsets.append(&mut self.offsets);
            newest.end = end;
        }
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        Ok(())
    }

    fn sync_data(&mut self) -> Result<(), LogError> {
        assert!(self.buffer.is_empty(), "what was pushed was flushed");
        if self.dirty {
            let synced = if Bug::SyncSkipped.planted() { Ok(()) } else { self.file.sync_data() };
            if synced.is_err() {
                synced.at("sync", &self.view.read().newest().path)?;
            }
            self.dirty = false;
            self.synced = self.last.lsn;
        }
        assert!(self.synced == self.last.lsn, "a sync leaves nothing behind");
        Ok(())
    }

    /// Position of an entry that is there, or of the base.
    fn position(&self, lsn: Lsn) -> Result<Position, LogError> {
        let base = self.base();
        if lsn == base.lsn {
            return Ok(base);
        }
        match self.reader().read(lsn, 0) {
            Ok(entries) => Ok(entries[0].position()),
            Err(ReadError::Failed(failure)) => Err(failure.into()),
            Err(ReadError::Damaged(damage)) => Err(LogError::Damaged(damage)),
            Err(ReadError::Trimmed { .. } | ReadError::Beyond { .. }) => {
                unreachable!("LSN {lsn} is between the base and the end of the log")
            }
        }
    }

    /// Goes on behind `at` in a new segment; what followed `at` is superseded the moment the segment has its name.
    /// `shrink`: the segment before will get no more records, so its unused space is given back.
    fn begin_segment(&mut self, at: Position, bytes: u64, shrink: bool) -> Result<(), LogError> {
        assert!(!self.dirty && at.lsn <= self.synced, "a new segment proves that all before it is durable");
        let continues = {
            let view = self.view.read();
            match view.holding(at.lsn) {
                Some(holder) => Some(holder.id),
                None => view.oldest().continues,
            }
        };
        let segment = self.make_next(continues, at, bytes)?;
        let crc = segment.header_crc;
        let (superseded, holder) = {
            let mut view = self.view.write();
            let keep = view.segments.partition_point(|segment| segment.base.lsn < at.lsn);
            let superseded: Vec<_> = view.segments.drain(keep..).map(|segment| segment.path).collect();
            let holder = view.segments.back_mut().map(|holder| {
                assert!(Some(holder.id) == continues, "the chain is what the view says");
                cut(holder, at.lsn, shrink);
                (holder.path.clone(), Arc::clone(&holder.file), holder.file_bytes)
            });
            view.push(segment);
            (superseded, holder)
        };
        self.go_on_in_newest(at, crc);
        remove_all(self.disk.as_ref(), &self.directory, superseded)?;
        if let Some((path, file, file_bytes)) = holder.filter(|_| shrink) {
            file.set_len(file_bytes).at("shorten", &path)?;
        }
        Ok(())
    }

    fn make_next(
        &mut self,
        continues: Option<SegmentId>,
        base: Position,
        bytes: u64,
    ) -> Result<LiveSegment, LogError> {
        let id = self.next_id;
        self.next_id = SegmentId(id.0 + 1);
        make_segment(self.disk.as_ref(), &self.directory, &self.preparer, (id, continues), base, bytes)
    }

    fn go_on_in_newest(&mut self, last: Position, crc: u32) {
        let view = self.view.read();
        let newest = view.newest();
        assert!(newest.base == last && newest.offsets.is_empty(), "the newest segment is new");
        self.file = Arc::clone(&newest.file);
        (self.id, self.file_bytes, self.end) = (newest.id, newest.file_bytes, newest.end);
        (self.last, self.synced, self.crc) = (last, last.lsn, crc);
    }

    /// Takes the oldest segment out of the view if all of it is at or below `upto` and it is not the only one.
    fn take_oldest(&self, upto: Lsn) -> Option<LiveSegment> {
        let mut view = self.view.write();
        let next = view.segments.get(1)?;
        let upto = if Bug::TrimsOneTooFar.planted() { upto.next() } else { upto };
        if next.base.lsn > upto {
            return None;
        }
        view.segments.pop_front()
    }
}

/// Forgets the records of `segment` above `last`.
fn cut(segment: &mut LiveSegment, last: Lsn, shrink: bool) {
    if let Some((start, _)) = segment.place(last.next()) {
        let count = usize::try_from(last.0 - segment.base.lsn.0).unwrap_or(usize::MAX);
        segment.offsets.truncate(count);
        segment.end = start;
    }
    assert!(segment.last() == last, "the segment holds the last entry that stays");
    if shrink {
        segment.file_bytes = segment.file_bytes.min(block_up(segment.end));
    }
}

/// Makes a durable segment: header first, its name last.
fn make_segment(
    disk: &dyn Disk,
    directory: &Path,
    preparer: &Preparer,
    (id, continues): (SegmentId, Option<SegmentId>),
    base: Position,
    record_bytes: u64,
) -> Result<LiveSegment, LogError> {
    preparer.turn_into(segment::HEADER_BYTES as u64 + record_bytes, |spare| {
        let file_bytes = spare.file_bytes;
        let header = SegmentHeader { id, continues, base, file_bytes, stale: spare.stale };
        let (block, header_crc) = header.encode();
        let path = segment::path(directory, id, base.lsn);
        spare.file.write_at(&block, 0).at("write", &spare.path)?;
        if !Bug::SegmentUnsynced.planted() {
            spare.file.sync_data().at("sync", &spare.path)?;
        }
        disk.rename(&spare.path, &path).at("rename", &spare.path)?;
        if !Bug::SegmentNameUnsynced.planted() {
            disk.sync_dir(directory).at("sync", directory)?;
        }
        let (file, end, offsets) = (spare.file, segment::HEADER_BYTES as u64, Vec::new());
        Ok(LiveSegment { id, continues, path, file, file_bytes, base, header_crc, offsets, end })
    })
}

/// Removes files and makes that durable.
fn remove_all(
    disk: &dyn Disk,
    directory: &Path,
    paths: impl IntoIterator<Item = PathBuf>,
) -> Result<(), LogError> {
    let mut any = false;
    for path in paths {
        disk.remove(&path).at("remove", &path)?;
        any = true;
    }
    if any {
        disk.sync_dir(directory).at("sync", directory)?;
    }
    Ok(())
}

impl From<Damage> for LogError {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}
