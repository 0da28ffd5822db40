//! Whole copies of the state: read out for a peer or a backup, and built from what a peer sends.

use std::{
    fmt,
    ops::{Bound, RangeBounds},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use duet_protocol::Position;
use redb::{Database, Durability, ReadOnlyTable, ReadableDatabase, WriteTransaction};

use super::{
    BUILD_CACHE_BYTES, EngineFile, EngineResult, FACTS, Facts, GuardedDatabase, ROWS, StateError, Tally,
    guarded, incoming_path, put_row, read_facts, unseal, write_facts,
};
use crate::{
    disk::{Disk, OpenMode},
    failure::At,
    planted::Bug,
};

/// Bytes of rows read at once where a copy is resumed.
const RESUME_BYTES: usize = 8 << 20;

/// A consistent copy of the state, to be read in chunks.
pub struct StateSnapshot {
    rows: ReadOnlyTable<&'static [u8], &'static [u8]>,
    facts: Facts,
    /// The last key that was given out.
    after: Option<Bytes>,
    /// Of the rows given out.
    tally: Tally,
    /// Keeps the file open even when another database takes its place.
    _database: Arc<GuardedDatabase>,
}

impl fmt::Debug for StateSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateSnapshot").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// How far a copy has come: its last row, and what the rows up to there add up to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopyMark {
    /// Key of the last row.
    pub after: Bytes,
    /// Number of rows, sum of their checksums, bytes of their values.
    pub tally: [u64; 3],
}

impl StateSnapshot {
    pub(super) fn take(database: Arc<GuardedDatabase>) -> EngineResult<Self> {
        let transaction = database.begin_read()?;
        let rows = transaction.open_table(ROWS)?;
        let facts = read_facts(&transaction)?;
        let facts = facts.ok_or_else(|| redb::Error::Corrupted("no applied position".to_owned()))?;
        Ok(Self { rows, facts, after: None, tally: Tally::default(), _database: database })
    }

    /// Where it stands.
    pub fn position(&self) -> Position {
        self.facts.applied
    }

    /// The state machine's own record in it.
    pub fn meta(&self) -> Option<Bytes> {
        self.facts.meta.clone()
    }

    /// Begins with the first row again.
    pub fn rewind(&mut self) {
        self.after = None;
        self.tally = Tally::default();
    }

    /// Bytes of all rows, as a copy carries them.
    pub fn bytes(&self) -> u64 {
        self.facts.tally.content()
    }

    /// Bytes of the rows that were given out.
    pub fn bytes_read(&self) -> u64 {
        self.tally.content()
    }

    /// How many rows were given out.
    pub fn rows_read(&self) -> u64 {
        self.tally.parts()[0]
    }

    /// Goes on behind a copy that was interrupted, if its rows are those of this state; otherwise begins with the first row,
    /// and says `false`. Reads all rows up to there.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn resume(&mut self, mark: &CopyMark) -> Result<bool, StateError> {
        self.rewind();
        while self.after.as_ref().is_none_or(|after| *after < mark.after) {
            // To the mark and no further: what lies behind it is still to be given out.
            let more = guarded(|| self.read_rows(..=mark.after.clone(), RESUME_BYTES, |_, _| ()));
            match more.map_err(|error| StateError::of_engine("read", error))? {
                Some(key) => self.after = Some(key),
                None => break,
            }
        }
        let is_same = self.after.as_ref() == Some(&mark.after) && self.tally.parts() == mark.tally;
        if !is_same {
            self.rewind();
        }
        Ok(is_same)
    }

    /// The next rows, until their bytes reach `max_bytes`; at least one; none at the end.
    ///
    /// # Errors
    /// See [`StateError`]. At the end also when not all of the rows were there that were written.
    pub fn next_chunk(&mut self, max_bytes: usize) -> Result<Vec<(Bytes, Bytes)>, StateError> {
        let mut chunk = Vec::new();
        self.visit_chunk(max_bytes, |key, value| {
            chunk.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        })?;
        Ok(chunk)
    }

    /// As [`Self::next_chunk`], without a copy: shows key and value of each row. `false` at the end.
    ///
    /// # Errors
    /// The same. Rows shown before an error are not the state.
    pub fn visit_chunk(
        &mut self,
        max_bytes: usize,
        visit: impl FnMut(&[u8], &[u8]),
    ) -> Result<bool, StateError> {
        let last = guarded(|| self.read_rows(.., max_bytes, visit));
        let last = last.map_err(|error| StateError::of_engine("read", error))?;
        if let Some(key) = last {
            assert!(self.after.as_ref().is_none_or(|after| *after < key), "keys rise");
            self.after = Some(key);
            return Ok(true);
        }
        if self.tally != self.facts.tally && !Bug::TallyIgnored.planted() {
            return Err(StateError::Damaged { reason: "rows are missing, or came back" });
        }
        Ok(false)
    }

    /// Shows the next rows of those up to `end`. The answer is the last key shown.
    fn read_rows(
        &mut self,
        end: impl RangeBounds<Bytes>,
        max_bytes: usize,
        mut visit: impl FnMut(&[u8], &[u8]),
    ) -> EngineResult<Option<Bytes>> {
        let from = Bound::Included(self.after.as_deref().unwrap_or_default());
        let end = end.end_bound().map(|end| &**end);
        let mut last = None;
        let mut bytes = 0;
        let mut tally = self.tally;
        let lost = if Bug::CopyLosesRow.planted() && self.after.is_some() { 2 } else { 0 };
        for row in self.rows.range::<&[u8]>((from, end))?.skip(lost) {
            let (key, stored) = row?;
            if self.after.as_deref() == Some(key.value()) {
                continue;
            }
            let value = unseal(key.value(), stored.value())?;
            tally.add(stored.value());
            bytes += key.value().len() + value.len();
            visit(key.value(), value);
            last = Some(key);
            if bytes >= max_bytes {
                break;
            }
        }
        self.tally = tally;
        Ok(last.map(|key| Bytes::copy_from_slice(key.value())))
    }
}

/// A copy of the peer's state that is arriving. Dropped unfinished, it leaves nothing that counts.
pub struct SnapshotBuilder {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    transaction: WriteTransaction,
    database: Database,
    /// Key of the last row.
    last: Option<Bytes>,
    tally: Tally,
}

impl fmt::Debug for SnapshotBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotBuilder").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl SnapshotBuilder {
    /// Begins a copy in `directory`, in place of any that was begun before.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn create(disk: Arc<dyn Disk>, directory: &Path) -> Result<Self, StateError> {
        let path = incoming_path(directory);
        if disk.kind(&path).at("look at", &path)?.is_some() {
            disk.remove(&path).at("remove", &path)?;
        }
        let file = disk.open(&path, OpenMode::CreateNew).at("create", &path)?;
        let begin = || {
            let database = Database::builder()
                .set_cache_size(BUILD_CACHE_BYTES)
                .create_with_backend(EngineFile::new(file))?;
            let mut transaction = database.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            transaction.set_quick_repair(true);
            transaction.open_table(ROWS)?;
            transaction.open_table(FACTS)?;
            Ok((database, transaction))
        };
        let (database, transaction) =
            begin().map_err(|error| StateError::of_engine("begin a copy", error))?;
        let tally = Tally::default();
        Ok(Self { disk, directory: directory.to_owned(), transaction, database, last: None, tally })
    }

    /// How far it has come; `None` before the first row.
    pub fn mark(&self) -> Option<CopyMark> {
        let after = self.last.clone()?;
        Some(CopyMark { after, tally: self.tally.parts() })
    }

    /// Writes rows of the copy.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn put_chunk<'a>(
        &mut self,
        rows: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<(), StateError> {
        let mut last = None;
        let write = || {
            let mut table = self.transaction.open_table(ROWS)?;
            let mut sealed = Vec::new();
            for (key, value) in rows {
                put_row(&mut table, key, value, &mut sealed, &mut self.tally)?;
                last = Some(key);
            }
            Ok(())
        };
        let written: EngineResult<()> = write();
        self.last = last.map(Bytes::copy_from_slice).or(self.last.take());
        written.map_err(|error| StateError::of_engine("write a copy", error))
    }

    /// Ends the copy and makes it durable, ready for [`crate::DataDir::install`].
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn finish(self, position: Position, meta: Option<Bytes>) -> Result<ReadySnapshot, StateError> {
        let Self { disk, directory, transaction, database, tally, .. } = self;
        let end = || {
            write_facts(&transaction, Facts { applied: position, meta, tally })?;
            transaction.commit()?;
            database.close()?;
            Ok(())
        };
        end().map_err(|error| StateError::of_engine("complete a copy", error))?;
        let path = incoming_path(&directory);
        let file = disk.open(&path, OpenMode::Existing).at("open", &path)?;
        file.sync_all().at("sync", &path)?;
        disk.sync_dir(&directory).at("sync", &directory)?;
        Ok(ReadySnapshot { path, position })
    }
}

/// A complete, durable copy that waits for its installation.
#[derive(Debug)]
pub struct ReadySnapshot {
    path: PathBuf,
    position: Position,
}

impl ReadySnapshot {
    /// Where it stands.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Where it stands; it is installed from now on.
    pub(crate) fn into_position(self) -> Position {
        self.position
    }

    /// Where its file is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}
