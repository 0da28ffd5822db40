//! The records of a witness server: one redb file, one writer thread, group commit.
//!
//! All writes that wait while a commit is under way share the next one, so a disk that flushes 100 times a
//! second still serves thousands of pairs. A write is answered after its commit is durable, and reads see
//! only such commits. After a failed commit nobody knows what the disk holds: the writer ends for good and
//! the server with it. Nothing is kept in memory for a pair; redb's page cache has a fixed size.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use redb::{Builder, Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use tokio::sync::{mpsc, oneshot};

use super::ServeError;
use super::trial::Trial;
use crate::planted::Bug;
use crate::register::draw_nonce;
use crate::stored::{Stored, StoredError};
use crate::{ClusterName, Version};

/// Cluster name to record, as [`Stored`] encodes it.
const RECORDS: TableDefinition<&str, &[u8]> = TableDefinition::new("records");
/// What the file says about itself.
const ABOUT: TableDefinition<&str, &str> = TableDefinition::new("about");
/// Key in [`ABOUT`]: number of the format.
const FORMAT_KEY: &str = "format";
/// Key in [`ABOUT`]: random name of this data directory, drawn when it was made.
const INCARNATION_KEY: &str = "incarnation";
/// Format that this program writes, and the newest it opens.
const FORMAT: u32 = 1;
/// The data file.
const FILE: &str = "witness.redb";
/// Where the data file is made before it gets its name: under that name it is whole, or damaged.
const NEW_FILE: &str = "witness.redb.new";
/// Locked while a process uses the directory.
const LOCK_FILE: &str = "LOCK";

/// Page cache in bytes. The index pages of 100,000 records fit in; the rest is the operating system's cache.
const CACHE_BYTES: usize = 32 * 1024 * 1024;
/// Records that one server holds at most; with the largest records about 17 GB. Keeps a client gone wild from
/// filling the disk.
pub(super) const MAX_RECORDS: u64 = 1_000_000;
/// Writes that may wait for their commit. More than that is refused at once: they would miss their deadlines
/// anyway.
const WRITE_QUEUE: usize = 4096;
/// Writes in one commit: bounds its memory to a few megabytes, and the time the last one waits for the first.
const MAX_BATCH: usize = 512;

/// When a write is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Condition {
    /// There is no record.
    Absent,
    /// The record has this version.
    Version(Version),
}

/// What came of a write.
#[derive(Debug)]
pub(super) enum Written {
    Swapped(Version),
    Mismatch,
    /// There are [`MAX_RECORDS`] already.
    Full,
    /// The record in the file cannot be used, so its version is not known.
    Unusable(StoredError),
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// More than [`WRITE_QUEUE`] writes wait.
    Busy,
    /// The writer has ended.
    Stopped,
}

/// A write on its way to the writer thread.
struct Request {
    cluster: ClusterName,
    condition: Condition,
    bytes: Bytes,
    reply: oneshot::Sender<Written>,
}

/// The open records. Cheap to clone; the writer ends, and the file is closed, when the last clone is gone.
#[derive(Clone)]
pub(super) struct Store {
    file: Arc<DataFile>,
    writes: mpsc::Sender<Request>,
}

/// The data file with the lock on its directory; the fields are dropped in this order.
struct DataFile {
    database: Database,
    incarnation: String,
    _lock: File,
}

impl Store {
    /// Opens the records in `directory`, or makes them if it is empty or missing. The receiver hears how the
    /// writer ended: well when all clones are gone, or with the error that must end the process.
    pub fn open(directory: &Path) -> Result<(Self, oneshot::Receiver<Result<(), ServeError>>), ServeError> {
        let file = Arc::new(DataFile::open(directory)?);
        let (writes, requests) = mpsc::channel(WRITE_QUEUE);
        let (end, ended) = oneshot::channel();
        let store = Self { file: Arc::clone(&file), writes };
        let directory = directory.to_owned();
        std::thread::Builder::new()
            .name("witness-writer".into())
            .spawn(move || {
                let outcome = write_all(&file, requests)
                    .map_err(|error| ServeError::Disk { directory, message: error.to_string() });
                drop(file);
                // The receiver is gone if the server's future was dropped.
                let _ = end.send(outcome);
            })
            .map_err(|source| ServeError::Thread { source })?;
        Ok((store, ended))
    }

    /// Random name of this data directory: another one means that the witness was wiped.
    pub fn incarnation(&self) -> &str {
        &self.file.incarnation
    }

    /// How many records there are.
    pub fn count(&self) -> Result<u64, redb::Error> {
        Ok(self.file.database.begin_read()?.open_table(RECORDS)?.len()?)
    }

    /// The record of a cluster as last committed. Reads from the page cache as a rule.
    pub fn read(&self, cluster: &ClusterName) -> Result<Result<Option<Stored>, StoredError>, redb::Error> {
        let table = self.file.database.begin_read()?.open_table(RECORDS)?;
        let found = table.get(cluster.as_str())?;
        Ok(found.map(|stored| Stored::decode(cluster, stored.value())).transpose())
    }

    /// Writes a record and waits until that is durable.
    pub async fn write(
        &self,
        cluster: ClusterName,
        condition: Condition,
        bytes: Bytes,
    ) -> Result<Written, NoAnswer> {
        let (reply, answer) = oneshot::channel();
        let request = Request { cluster, condition, bytes, reply };
        self.writes.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NoAnswer::Busy,
            mpsc::error::TrySendError::Closed(_) => NoAnswer::Stopped,
        })?;
        answer.await.map_err(|_| NoAnswer::Stopped)
    }
}

impl DataFile {
    fn open(directory: &Path) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Directory { directory: directory.to_owned(), source };
        make_directory(directory).map_err(failed)?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(directory.join(LOCK_FILE))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(ServeError::Locked { directory: directory.to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // For people who wonder who holds it; nothing reads it.
        lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(failed)?;
        let path = directory.join(FILE);
        if !path.try_exists().map_err(failed)? {
            make(directory)?;
        }
        if !Bug::RecordsUnchecked.planted() {
            check_unchanged(&path)?;
        }
        let open = Builder::new().set_cache_size(CACHE_BYTES).open(&path);
        let database = open.map_err(|error| cannot_open(&path, error))?;
        let incarnation = check(&path, &database)?;
        Ok(Self { database, incarnation, _lock: lock })
    }
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
fn make(directory: &Path) -> Result<(), ServeError> {
    let failed = |source| ServeError::Directory { directory: directory.to_owned(), source };
    let new = directory.join(NEW_FILE);
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let incarnation = draw_nonce().map_err(|reason| ServeError::Randomness { reason })?;
    fill(&new, &format!("{incarnation:032x}")).map_err(|error| failed(std::io::Error::other(error)))?;
    File::open(&new).and_then(|file| file.sync_all()).map_err(failed)?;
    std::fs::rename(&new, directory.join(FILE)).map_err(failed)?;
    File::open(directory).and_then(|file| file.sync_all()).map_err(failed)
}

/// An empty data file that knows its format and incarnation.
fn fill(path: &Path, incarnation: &str) -> Result<(), redb::Error> {
    let database = Database::create(path)?;
    let transaction = database.begin_write()?;
    {
        let mut about = transaction.open_table(ABOUT)?;
        about.insert(FORMAT_KEY, FORMAT.to_string().as_str())?;
        about.insert(INCARNATION_KEY, incarnation)?;
        transaction.open_table(RECORDS)?;
    }
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

/// The writer thread: takes what waits, commits it at once, answers.
fn write_all(file: &DataFile, mut requests: mpsc::Receiver<Request>) -> Result<(), redb::Error> {
    while let Some(first) = requests.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < MAX_BATCH {
            match requests.try_recv() {
                Ok(request) => batch.push(request),
                Err(_) => break,
            }
        }
        let (conditions, replies): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .map(|request| ((request.cluster, request.condition, request.bytes), request.reply))
            .unzip();
        let outcomes = commit(file, &conditions)?;
        assert_eq!(outcomes.len(), replies.len(), "every write is answered");
        for (reply, outcome) in replies.into_iter().zip(outcomes) {
            // The client has gone if nobody receives; its write is done all the same.
            let _ = reply.send(outcome);
        }
    }
    Ok(())
}

/// Carries out the writes in their order in one transaction; durable when this returns.
fn commit(file: &DataFile, writes: &[(ClusterName, Condition, Bytes)]) -> Result<Vec<Written>, redb::Error> {
    let mut outcomes = Vec::with_capacity(writes.len());
    let mut transaction = file.database.begin_write()?;
    if Bug::RepliesBeforeCommit.planted() {
        let _ = transaction.set_durability(redb::Durability::None);
    }
    {
        let mut table = transaction.open_table(RECORDS)?;
        for (cluster, condition, bytes) in writes {
            let decode = |stored: redb::AccessGuard<'_, &[u8]>| Stored::decode(cluster, stored.value());
            let stored = if Bug::BatchSeesOldVersions.planted() {
                file.database.begin_read()?.open_table(RECORDS)?.get(cluster.as_str())?.map(decode)
            } else {
                table.get(cluster.as_str())?.map(decode)
            };
            let found = match stored {
                Some(Ok(stored)) => Some(stored.version),
                Some(Err(_)) if Bug::DamagedRecordReplaced.planted() => None,
                Some(Err(error)) => {
                    outcomes.push(Written::Unusable(error));
                    continue;
                }
                None => None,
            };
            let expected = match condition {
                Condition::Absent => None,
                Condition::Version(version) => Some(version),
            };
            let careless = Bug::ServerOverwrites.planted() && found.is_some() && expected.is_some()
                || Bug::CreateReplaces.planted() && expected.is_none();
            if found.as_ref() != expected && !careless {
                outcomes.push(Written::Mismatch);
                continue;
            }
            if found.is_none() && table.len()? >= MAX_RECORDS {
                outcomes.push(Written::Full);
                continue;
            }
            let version = Version::draw().map_err(|reason| redb::Error::Io(std::io::Error::other(reason)))?;
            let stored = Stored { version: version.clone(), bytes: bytes.clone() };
            table.insert(cluster.as_str(), stored.encode(cluster).as_slice())?;
            outcomes.push(Written::Swapped(version));
        }
    }
    // redb's default durability: `fsync` before it returns.
    transaction.commit()?;
    Ok(outcomes)
}
