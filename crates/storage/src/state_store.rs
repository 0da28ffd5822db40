//! The state store: the effect of the log on the data, with the position up to which it was applied in every transaction.
//!
//! A narrow door to the engine, so that another can take its place. It is never the only copy: what it holds beyond its last
//! commit is in the log, and all of it is with the peer. So its rules are few: each commit is one durable transaction with
//! the applied position inside; an error of the engine is final; it knows nothing of what its keys and values mean. What a
//! bad disk makes of the rows is found out by checksums of its own (`seal.rs`).
//! The engine works through [`Disk`] as everything here does.

mod backend;
mod guard;
mod seal;
mod snapshot;

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use duet_protocol::Position;
use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, Table, TableDefinition, WriteTransaction,
};

use crate::{
    disk::{Disk, DiskFile, OpenMode},
    failure::{At, IoFailure},
    fields::Fields,
    planted::Bug,
    recovery::decode_position,
};
use backend::EngineFile;
use guard::{GuardedDatabase, guarded};
use seal::{Tally, seal, seal_into, unseal};
pub use snapshot::{CopyMark, ReadySnapshot, SnapshotBuilder, StateSnapshot};

/// Name of a copy that is arriving.
pub(crate) const INCOMING: &str = "incoming.redb";

/// Memory in bytes for building a copy: its pages are written once, in the order of their keys.
const BUILD_CACHE_BYTES: usize = 16 << 20;

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
const FACTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("facts");
const APPLIED: &str = "applied";
const META: &str = "meta";
const TALLY: &str = "tally";

/// Length in bytes of a row's key, which is the state machine's business otherwise.
pub const ROW_KEY_BYTES: usize = 16;

/// The key of a row.
pub type RowKey = [u8; ROW_KEY_BYTES];

/// Why the state store does not go on. All are final.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The engine failed; `operation` says at what.
    #[error("the state store (data.redb) failed to {operation}: {source}")]
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
    #[error("the state store (data.redb) is damaged: {reason}")]
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
    pub puts: Vec<(RowKey, Bytes)>,
    /// Keys to remove.
    pub deletes: Vec<RowKey>,
    /// The state machine's own small record; `None` leaves the one there is.
    pub meta: Option<Bytes>,
    /// The log up to here is contained.
    pub applied: Position,
}

/// The state store. Clones share it.
#[derive(Clone, Debug)]
pub struct StateStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    disk: Arc<dyn Disk>,
    cache_bytes: usize,
    poisoned: AtomicBool,
    current: RwLock<Current>,
    /// Held by the one commit that is under way.
    committing: Mutex<()>,
}

/// The database in use and what is known of it.
#[derive(Debug)]
struct Current {
    database: Arc<GuardedDatabase>,
    file: Arc<dyn DiskFile>,
    facts: Facts,
}

/// What a state takes, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StateSizes {
    /// Keys and values of all rows as they are stored, and the state machine's own record.
    pub content: u64,
    /// Its file, with free space that is used again.
    pub file: u64,
}

/// What a state says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub applied: Position,
    pub meta: Option<Bytes>,
    /// Of all rows.
    pub tally: Tally,
}

impl StateStore {
    /// Opens the store at `path`, or makes an empty one.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn open(disk: Arc<dyn Disk>, path: &Path, cache_bytes: usize) -> Result<Self, StateError> {
        if disk.kind(path).at("look at", path)?.is_none() {
            make_empty(&disk, path)?;
        }
        let current = open_database(disk.as_ref(), path, cache_bytes)?;
        let (poisoned, committing) = (AtomicBool::new(false), Mutex::new(()));
        let current = RwLock::new(current);
        Ok(Self { shared: Arc::new(Shared { disk, cache_bytes, poisoned, current, committing }) })
    }

    /// The log up to here is contained and durable.
    pub fn applied(&self) -> Position {
        self.current().facts.applied
    }

    /// The state machine's own record; `None` before it first wrote one.
    pub fn meta(&self) -> Option<Bytes> {
        self.current().facts.meta.clone()
    }

    /// What the last commit left.
    ///
    /// # Errors
    /// The file cannot be looked at.
    pub fn sizes(&self) -> Result<StateSizes, StateError> {
        let current = self.current();
        let meta = current.facts.meta.as_ref().map_or(0, Bytes::len) as u64;
        let file = current.file.len().at("measure", Path::new("data.redb"))?;
        Ok(StateSizes { content: current.facts.tally.content() + meta, file })
    }

    /// A reader of the state that is in use now. It sees later commits, and stays with this state when a copy takes its
    /// place: whoever knows what the rows mean must not suddenly read another state's.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn reader(&self) -> Result<StateReader, StateError> {
        Ok(StateReader { database: self.database()?, shared: Arc::clone(&self.shared) })
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        self.reader()?.get(key)
    }

    /// Up to `max` rows from `from_key` on, in the order of their keys.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn scan(&self, from_key: &[u8], max: usize) -> Result<Vec<(Bytes, Bytes)>, StateError> {
        self.reader()?.scan(from_key, max)
    }

    /// Writes a batch: durable as a whole when this returns, absent as a whole after a crash before that.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn commit(&self, batch: &Batch) -> Result<(), StateError> {
        let _turn = self.shared.committing.lock().unwrap_or_else(PoisonError::into_inner);
        let database = self.database()?;
        let Facts { applied: before, mut tally, .. } = self.current().facts.clone();
        assert!(batch.applied.lsn >= before.lsn, "the applied position never falls");
        assert!(batch.applied.lsn > before.lsn || batch.applied == before, "one history");
        let write = || {
            if Bug::AppliedApart.planted() {
                let mut transaction = database.begin_write()?;
                transaction.set_quick_repair(true);
                write_facts(&transaction, Facts { applied: batch.applied, meta: None, tally })?;
                transaction.commit()?;
            }
            let mut transaction = database.begin_write()?;
            let lazy = Bug::CommitNotDurable.planted();
            transaction.set_durability(if lazy { Durability::None } else { Durability::Immediate })?;
            transaction.set_quick_repair(true);
            write_batch(&transaction, batch, &mut tally)?;
            transaction.commit()?;
            Ok(())
        };
        self.finally("commit", write)?;
        let mut current = self.shared.current.write().unwrap_or_else(PoisonError::into_inner);
        assert!(Arc::ptr_eq(&current.database, &database), "nobody installs during a commit");
        current.facts.applied = batch.applied;
        current.facts.tally = tally;
        if batch.meta.is_some() {
            current.facts.meta.clone_from(&batch.meta);
        }
        Ok(())
    }

    /// The state as it is now, for as long as the snapshot lives; commits go on beside it.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn snapshot(&self) -> Result<StateSnapshot, StateError> {
        let database = self.database()?;
        self.finally("take a snapshot", || StateSnapshot::take(database))
    }

    /// Goes on with the database that is at `path` now. Snapshots taken before stay with the old one.
    pub(crate) fn reopen(&self, path: &Path) -> Result<(), StateError> {
        let _turn = self.shared.committing.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = open_database(self.shared.disk.as_ref(), path, self.shared.cache_bytes);
        if opened.is_err() {
            self.shared.poisoned.store(true, Ordering::SeqCst);
        }
        let opened = opened?;
        *self.shared.current.write().unwrap_or_else(PoisonError::into_inner) = opened;
        Ok(())
    }

    fn current(&self) -> RwLockReadGuard<'_, Current> {
        self.shared.current.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn database(&self) -> Result<Arc<GuardedDatabase>, StateError> {
        self.shared.check()?;
        Ok(Arc::clone(&self.current().database))
    }

    fn finally<T>(
        &self,
        operation: &'static str,
        call: impl FnOnce() -> EngineResult<T>,
    ) -> Result<T, StateError> {
        self.shared.finally(operation, call)
    }
}

impl Shared {
    fn check(&self) -> Result<(), StateError> {
        if self.poisoned.load(Ordering::SeqCst) { Err(StateError::Poisoned) } else { Ok(()) }
    }

    /// Calls the engine and turns an error of it into ours, after which nothing works any more.
    fn finally<T>(
        &self,
        operation: &'static str,
        call: impl FnOnce() -> EngineResult<T>,
    ) -> Result<T, StateError> {
        guarded(call).map_err(|error| {
            self.poisoned.store(!Bug::EngineTriedAgain.planted(), Ordering::SeqCst);
            StateError::of_engine(operation, error)
        })
    }
}

/// See [`StateStore::reader`].
#[derive(Clone, Debug)]
pub struct StateReader {
    shared: Arc<Shared>,
    database: Arc<GuardedDatabase>,
}

impl StateReader {
    /// The value of `key`.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StateError> {
        self.shared.check()?;
        let read = || {
            let rows = self.database.begin_read()?.open_table(ROWS)?;
            let Some(stored) = rows.get(key)? else { return Ok(None) };
            Ok(Some(Bytes::copy_from_slice(unseal(key, stored.value())?)))
        };
        self.shared.finally("read", read)
    }

    /// Up to `max` rows from `from_key` on, in the order of their keys.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn scan(&self, from_key: &[u8], max: usize) -> Result<Vec<(Bytes, Bytes)>, StateError> {
        self.shared.check()?;
        let read = || {
            let rows = self.database.begin_read()?.open_table(ROWS)?;
            let mut found = Vec::new();
            for row in rows.range(from_key..)?.take(max) {
                let (key, stored) = row?;
                let value = unseal(key.value(), stored.value())?;
                found.push((Bytes::copy_from_slice(key.value()), Bytes::copy_from_slice(value)));
            }
            Ok(found)
        };
        self.shared.finally("scan", read)
    }
}

/// What a sequence of calls to the engine gives.
type EngineResult<T> = Result<T, redb::Error>;

impl StateError {
    fn of_engine(operation: &'static str, error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) if crate::failure::is_disk_full(&error) => Self::DiskFull { operation },
            redb::Error::Corrupted(_) => Self::Damaged { reason: "the engine found it corrupted" },
            // The engine's word for a foreign or shortened file.
            redb::Error::Io(error)
                if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
            {
                Self::Damaged { reason: "it is no database, or was cut short" }
            }
            error => Self::Engine { operation, source: Box::new(error) },
        }
    }
}

impl From<IoFailure> for StateError {
    fn from(failure: IoFailure) -> Self {
        if failure.is_disk_full() {
            Self::DiskFull { operation: failure.operation }
        } else {
            Self::Failed(failure)
        }
    }
}

/// Makes a store without rows at `path`: complete beside it, then renamed.
fn make_empty(disk: &Arc<dyn Disk>, path: &Path) -> Result<(), StateError> {
    let Some(directory) = path.parent() else { unreachable!("a store is in a directory") };
    let ready = SnapshotBuilder::create(Arc::clone(disk), directory)?.finish(Position::EMPTY, None)?;
    disk.rename(ready.path(), path).at("rename", ready.path())?;
    disk.sync_dir(directory).at("sync", directory)?;
    Ok(())
}

fn open_database(disk: &dyn Disk, path: &Path, cache_bytes: usize) -> Result<Current, StateError> {
    let file = disk.open(path, OpenMode::Existing).at("open", path)?;
    if file.is_empty().at("measure", path)? {
        return Err(StateError::Damaged { reason: "its file is empty" });
    }
    let open = || {
        let database = Database::builder()
            .set_cache_size(cache_bytes)
            .create_with_backend(EngineFile::new(Arc::clone(&file)))?;
        let facts = read_facts(&database.begin_read()?)?;
        Ok((database, facts))
    };
    let (database, facts) = guarded(open).map_err(|error| StateError::of_engine("open", error))?;
    let facts = facts.ok_or(StateError::Damaged { reason: "it does not say up to where it was applied" })?;
    Ok(Current { database: Arc::new(GuardedDatabase::new(database)), file, facts })
}

/// What the state says of itself; `None` when it does not.
fn read_facts(transaction: &ReadTransaction) -> EngineResult<Option<Facts>> {
    let table = transaction.open_table(FACTS)?;
    let fact = |name: &str| -> EngineResult<Option<Bytes>> {
        let Some(stored) = table.get(name)? else { return Ok(None) };
        Ok(Some(Bytes::copy_from_slice(unseal(name.as_bytes(), stored.value())?)))
    };
    let applied = fact(APPLIED)?.and_then(|bytes| {
        let mut fields = Fields(&bytes);
        decode_position(&mut fields).filter(|_| fields.is_done())
    });
    let tally = fact(TALLY)?.and_then(|bytes| Tally::decode(&bytes));
    let meta = fact(META)?;
    Ok(applied.zip(tally).map(|(applied, tally)| Facts { applied, meta, tally }))
}

fn write_batch(transaction: &WriteTransaction, batch: &Batch, tally: &mut Tally) -> EngineResult<()> {
    let mut rows = transaction.open_table(ROWS)?;
    let mut sealed = Vec::new();
    for (key, value) in &batch.puts {
        put_row(&mut rows, key, value, &mut sealed, tally)?;
    }
    for key in &batch.deletes {
        if let Some(gone) = rows.remove(key.as_slice())? {
            tally.remove(gone.value());
        }
    }
    drop(rows);
    write_facts(transaction, Facts { applied: batch.applied, meta: batch.meta.clone(), tally: *tally })
}

/// Writes a row; `sealed` is room to work in, used again for the next.
fn put_row(
    rows: &mut Table<'_, &'static [u8], &'static [u8]>,
    key: &[u8],
    value: &[u8],
    sealed: &mut Vec<u8>,
    tally: &mut Tally,
) -> EngineResult<()> {
    seal_into(sealed, key, value);
    if let Some(before) = rows.insert(key, sealed.as_slice())? {
        tally.remove(before.value());
    }
    tally.add(sealed);
    Ok(())
}

/// Without `meta` the one there is stays.
fn write_facts(transaction: &WriteTransaction, facts: Facts) -> EngineResult<()> {
    let mut table = transaction.open_table(FACTS)?;
    let mut write = |name: &str, value: &[u8]| -> EngineResult<()> {
        table.insert(name, seal(name.as_bytes(), value).as_slice())?;
        Ok(())
    };
    write(APPLIED, &encode_position(&facts.applied))?;
    write(TALLY, &facts.tally.encode())?;
    if let Some(meta) = facts.meta {
        write(META, &meta)?;
    }
    Ok(())
}

/// Epoch, LSN, digest.
pub(crate) fn encode_position(position: &Position) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&position.epoch.0.to_le_bytes());
    bytes[8..16].copy_from_slice(&position.lsn.0.to_le_bytes());
    bytes[16..].copy_from_slice(&position.digest.0);
    bytes
}

/// Where a copy that is arriving in `directory` is.
fn incoming_path(directory: &Path) -> PathBuf {
    directory.join(INCOMING)
}

#[cfg(test)]
mod tests;
