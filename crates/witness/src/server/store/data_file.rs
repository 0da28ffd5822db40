//! The data file: made whole, opened only when it is sound, locked while it is used.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Builder, Database, ReadableDatabase, TableDefinition};

use super::super::ServeError;
use super::super::limits::CACHE_BYTES;
use super::super::meter::Meter;
use super::measured::Measured;
use super::trial::Trial;
use crate::planted::Bug;
use crate::register::draw_nonce;

/// Cluster name to record, as [`crate::stored::Stored`] encodes it.
pub(super) const RECORDS: TableDefinition<&str, &[u8]> = TableDefinition::new("records");
/// Cluster name to tokens, as [`super::super::pairs::Tokens`] encodes them: the pairs that are registered.
pub(super) const PAIRS: TableDefinition<&str, &[u8]> = TableDefinition::new("pairs");
/// What the file says about itself.
const ABOUT: TableDefinition<&str, &str> = TableDefinition::new("about");
/// Key in [`ABOUT`]: number of the format.
const FORMAT_KEY: &str = "format";
/// Key in [`ABOUT`]: random name of this data directory, drawn when it was made.
const INCARNATION_KEY: &str = "incarnation";
/// Format that this program writes, and the newest it opens. 1 had no [`PAIRS`].
const FORMAT: u32 = 2;
/// The data file.
pub(super) const FILE: &str = "witness.redb";
/// Where the data file is made before it gets its name: under that name it is whole, or damaged.
const NEW_FILE: &str = "witness.redb.new";
/// Locked while a process uses the directory.
const LOCK_FILE: &str = "LOCK";

/// The data file with the lock on its directory; the fields are dropped in this order.
pub(super) struct DataFile {
    pub database: Database,
    pub incarnation: String,
    _lock: File,
}

impl DataFile {
    /// Opens the file in `directory`, or makes it if there is none.
    pub fn open(directory: &Path, meter: &Arc<Meter>) -> Result<Self, ServeError> {
        let lock = lock(directory)?;
        let path = directory.join(FILE);
        if !path.try_exists().map_err(failed(directory))? {
            make(directory, |_| Ok(()))?;
        }
        if !Bug::RecordsUnchecked.planted() {
            check_unchanged(&path)?;
        }
        let backend = Measured::open(&path, Arc::clone(meter)).map_err(failed(directory))?;
        let open = Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(backend);
        let database = open.map_err(|error| cannot_open(&path, error))?;
        let incarnation = check(&path, &database)?;
        upgrade(&database).map_err(|error| disk(directory, &error))?;
        Ok(Self { database, incarnation, _lock: lock })
    }

    /// Makes a file that holds what `fill` writes; refuses where there is one already.
    pub fn make(
        directory: &Path,
        fill: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), ServeError> {
        let _lock = lock(directory)?;
        let path = directory.join(FILE);
        if path.try_exists().map_err(failed(directory))? {
            return Err(ServeError::Occupied { file: path });
        }
        make(directory, fill)
    }
}

fn failed(directory: &Path) -> impl Fn(std::io::Error) -> ServeError {
    let directory = directory.to_owned();
    move |source| ServeError::Directory { directory: directory.clone(), source }
}

fn disk(directory: &Path, error: &redb::Error) -> ServeError {
    ServeError::Disk { directory: directory.to_owned(), message: error.to_string() }
}

/// Takes the directory for this process, until the file is dropped.
fn lock(directory: &Path) -> Result<File, ServeError> {
    let failed = failed(directory);
    make_directory(directory).map_err(&failed)?;
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(directory.join(LOCK_FILE))
        .map_err(&failed)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(ServeError::Locked { directory: directory.to_owned() });
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    // For people who wonder who holds it; nothing reads it.
    lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(failed)?;
    Ok(lock)
}

/// Makes the directory if it is missing, durably: a directory that vanishes in a power cut takes its records
/// along.
fn make_directory(directory: &Path) -> std::io::Result<()> {
    let missing = directory.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists());
    let missing: Vec<&Path> = missing.collect();
    std::fs::create_dir_all(directory)?;
    for parent in missing.into_iter().filter_map(Path::parent) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// Makes the data file under another name and renames it when it is whole and durable.
fn make(
    directory: &Path,
    contents: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
) -> Result<(), ServeError> {
    let failed = failed(directory);
    let new = directory.join(NEW_FILE);
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let incarnation = draw_nonce().map_err(|reason| ServeError::Randomness { reason })?;
    fill(&new, &format!("{incarnation:032x}"), contents)
        .map_err(|error| failed(std::io::Error::other(error)))?;
    File::open(&new).and_then(|file| file.sync_all()).map_err(&failed)?;
    std::fs::rename(&new, directory.join(FILE)).map_err(&failed)?;
    File::open(directory).and_then(|file| file.sync_all()).map_err(failed)
}

/// A data file that knows its format and incarnation, and has its contents.
fn fill(
    path: &Path,
    incarnation: &str,
    contents: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
) -> Result<(), redb::Error> {
    let database = Builder::new().set_cache_size(CACHE_BYTES).create(path)?;
    let transaction = database.begin_write()?;
    {
        let mut about = transaction.open_table(ABOUT)?;
        about.insert(FORMAT_KEY, FORMAT.to_string().as_str())?;
        about.insert(INCARNATION_KEY, incarnation)?;
        transaction.open_table(RECORDS)?;
        transaction.open_table(PAIRS)?;
    }
    contents(&transaction)?;
    transaction.commit()?;
    Ok(())
}

/// Brings a sound file of an older format up to date.
fn upgrade(database: &Database) -> Result<(), redb::Error> {
    let now = FORMAT.to_string();
    let read = database.begin_read()?.open_table(ABOUT)?;
    if read.get(FORMAT_KEY)?.is_some_and(|format| format.value() == now) {
        return Ok(());
    }
    drop(read);
    let transaction = database.begin_write()?;
    transaction.open_table(PAIRS)?;
    transaction.open_table(ABOUT)?.insert(FORMAT_KEY, now.as_str())?;
    transaction.commit()?;
    Ok(())
}

/// Checks the whole file and changes nothing. Damage is found now, not when a pair needs the record; a full file takes about
/// a second.
fn check_unchanged(path: &Path) -> Result<(), ServeError> {
    let trial =
        Trial::open(path).map_err(|source| ServeError::Directory { directory: path.to_owned(), source })?;
    if trial.is_empty() {
        let message = "it is empty".to_owned();
        return Err(ServeError::Damaged { file: path.to_owned(), message });
    }
    let database = Builder::new()
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(true)
        .create_with_backend(trial)
        .map_err(|error| cannot_open(path, error))?;
    check(path, &database).map(drop)
}

/// Checks the format and returns the incarnation.
fn check(path: &Path, database: &Database) -> Result<String, ServeError> {
    let damaged = |message: String| ServeError::Damaged { file: path.to_owned(), message };
    let about = |key| -> Result<Option<String>, redb::Error> {
        let table = database.begin_read()?.open_table(ABOUT)?;
        Ok(table.get(key)?.map(|value| value.value().to_owned()))
    };
    let format = about(FORMAT_KEY).map_err(|error| damaged(error.to_string()))?;
    let format: u32 = format
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| damaged("it does not say its format".into()))?;
    if format > FORMAT {
        return Err(ServeError::NewerFormat { file: path.to_owned(), found: format, known: FORMAT });
    }
    let readable = database.begin_read().map_err(redb::Error::from);
    let records = readable.and_then(|read| read.open_table(RECORDS).map_err(redb::Error::from));
    records.map_err(|error| damaged(error.to_string()))?;
    about(INCARNATION_KEY)
        .map_err(|error| damaged(error.to_string()))?
        .ok_or_else(|| damaged("it does not say its incarnation".into()))
}

fn cannot_open(path: &Path, error: redb::DatabaseError) -> ServeError {
    use redb::{DatabaseError, StorageError};
    let file = path.to_owned();
    match error {
        // redb reports a foreign or cut file as invalid data.
        DatabaseError::Storage(StorageError::Io(source))
            if source.kind() != ErrorKind::InvalidData && source.kind() != ErrorKind::UnexpectedEof =>
        {
            ServeError::Directory { directory: file, source }
        }
        DatabaseError::DatabaseAlreadyOpen => {
            ServeError::Locked { directory: path.parent().map_or_else(PathBuf::new, Path::to_owned) }
        }
        other => ServeError::Damaged { file, message: other.to_string() },
    }
}
