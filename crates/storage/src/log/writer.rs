//! x
use std::{path::Path, sync::Arc};

use duet_protocol::{Entry, Lsn, Position};

use super::{LogError, LogOptions, LogReader, Preparer, Recovered};
use crate::disk::Disk;

/// The log, for its one writer.
#[derive(Debug)]
pub struct Log {}

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
        let _ = (disk, directory, base, options);
        unimplemented!()
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
        let _ = (disk, directory, options);
        unimplemented!()
    }

    /// Writes `entries` (dense, the first follows the last) behind the others. Readers see them; durable after `sync`.
    ///
    /// # Errors
    /// See [`LogError`]; the log is then poisoned.
    pub fn append(&mut self, entries: &[Entry]) -> Result<(), LogError> {
        let _ = entries;
        unimplemented!()
    }

    /// Makes everything appended durable; the LSN up to which it is.
    ///
    /// # Errors
    /// See [`LogError`]; the log is then poisoned.
    pub fn sync(&mut self) -> Result<Lsn, LogError> {
        unimplemented!()
    }

    /// Removes every entry above `last`, durably.
    ///
    /// # Errors
    /// See [`LogError`]; the log is then poisoned.
    pub fn truncate(&mut self, last: Lsn) -> Result<(), LogError> {
        let _ = last;
        unimplemented!()
    }

    /// Entries up to `upto` are not needed any more: whole segments go.
    ///
    /// # Errors
    /// See [`LogError`]; the log is then poisoned.
    pub fn trim(&mut self, upto: Lsn) -> Result<(), LogError> {
        let _ = upto;
        unimplemented!()
    }

    /// Forgets all entries and goes on from `base`, durably.
    ///
    /// # Errors
    /// See [`LogError`]; the log is then poisoned.
    pub fn reset(&mut self, base: Position) -> Result<(), LogError> {
        let _ = base;
        unimplemented!()
    }

    /// A reader, to be cloned and sent to other threads.
    pub fn reader(&self) -> LogReader {
        unimplemented!()
    }

    /// What makes the next segment's file ahead; give it to a background thread.
    pub fn preparer(&self) -> Preparer {
        unimplemented!()
    }

    /// [`Preparer::prepare_next`] on this thread.
    ///
    /// # Errors
    /// See there.
    pub fn prepare_next(&mut self) -> Result<bool, LogError> {
        self.preparer().prepare_next()
    }

    /// Position before the first entry.
    pub fn base(&self) -> Position {
        unimplemented!()
    }

    /// Position of the last entry appended, or the base.
    pub fn last(&self) -> Position {
        unimplemented!()
    }

    /// Everything up to here is durable.
    pub fn synced(&self) -> Lsn {
        unimplemented!()
    }

    /// Bytes the log's files take on disk.
    pub fn disk_bytes(&self) -> u64 {
        unimplemented!()
    }
}
