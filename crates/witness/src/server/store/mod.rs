//! The records of a witness server and the tokens of its pairs: one redb file, one writer thread, group commit.
//!
//! All writes that wait while a commit is under way share the next one, so a disk that flushes 100 times a
//! second still serves thousands of pairs. A write is answered after its commit is durable, and reads see
//! only such commits. After a failed commit nobody knows what the disk holds: the writer ends for good and
//! the server with it. Of the records nothing is kept in memory; redb's page cache has a fixed size.

mod backup;
mod data_file;
mod measured;
mod trial;
mod writer;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata};
use tokio::sync::{mpsc, oneshot};

use super::ServeError;
use super::limits::WRITE_QUEUE;
use super::meter::Meter;
use super::pairs::{Pairs, Tokens};
use crate::stored::{Stored, StoredError};
use crate::{ClusterName, Version};
pub use backup::{BackupError, BackupWriter, Contents, check_backup, restore};
use data_file::{DataFile, PAIRS, RECORDS};
use writer::Request;

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
    /// There are [`super::limits::MAX_RECORDS`] already.
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

/// The open records. Cheap to clone; the writer ends, and the file is closed, when the last clone is gone.
#[derive(Clone)]
pub(super) struct Store {
    file: Arc<DataFile>,
    writes: mpsc::Sender<Request>,
}

/// Hears how the writer ended: well when all clones are gone, or with the error that must end the process.
pub(super) type WriterEnd = oneshot::Receiver<Result<(), ServeError>>;

impl Store {
    /// Opens the records in `directory`, or makes them if it is empty or missing.
    pub fn open(directory: &Path, meter: &Arc<Meter>) -> Result<(Self, WriterEnd), ServeError> {
        let file = Arc::new(DataFile::open(directory, meter)?);
        let (writes, requests) = mpsc::channel(WRITE_QUEUE);
        let (end, ended) = oneshot::channel();
        let store = Self { file: Arc::clone(&file), writes };
        let (directory, meter) = (directory.to_owned(), Arc::clone(meter));
        std::thread::Builder::new()
            .name("witness-writer".into())
            .spawn(move || {
                let outcome = writer::write_all(&file, &meter, requests)
                    .map_err(|error| ServeError::Disk { directory, message: error.to_string() });
                drop(file);
                // The receiver is gone if the server's future was dropped.
                let _ = end.send(outcome);
            })
            .map_err(|source| ServeError::Thread { source })?;
        Ok((store, ended))
    }

    /// Whether a directory is that of a witness.
    pub fn is_in(directory: &Path) -> bool {
        directory.join(data_file::FILE).exists()
    }

    /// Random name of this data directory: another one means that the witness was wiped.
    pub fn incarnation(&self) -> &str {
        &self.file.incarnation
    }

    /// How many records there are.
    pub fn count(&self) -> Result<u64, redb::Error> {
        Ok(self.file.database.begin_read()?.open_table(RECORDS)?.len()?)
    }

    /// Writes that wait for a commit.
    pub fn waiting(&self) -> usize {
        WRITE_QUEUE - self.writes.capacity()
    }

    /// The record of a cluster as last committed. Reads from the page cache as a rule.
    pub fn read(&self, cluster: &ClusterName) -> Result<Result<Option<Stored>, StoredError>, redb::Error> {
        let table = self.file.database.begin_read()?.open_table(RECORDS)?;
        let found = table.get(cluster.as_str())?;
        Ok(found.map(|stored| Stored::decode(cluster, stored.value())).transpose())
    }

    /// Tells `pairs` what the file holds. Tokens that cannot be read are refused, so their pair is told to get new ones.
    pub fn load(&self, pairs: &Pairs) -> Result<(), redb::Error> {
        let read = self.file.database.begin_read()?;
        for entry in read.open_table(RECORDS)?.iter()? {
            pairs.note_record(entry?.0.value());
        }
        for entry in read.open_table(PAIRS)?.iter()? {
            let (name, tokens) = entry?;
            let tokens = Tokens::decode(tokens.value()).unwrap_or_else(Tokens::nobodys);
            pairs.set_tokens(name.value(), tokens);
        }
        Ok(())
    }

    /// Writes a record and waits until that is durable.
    pub async fn write(
        &self,
        cluster: ClusterName,
        condition: Condition,
        bytes: Bytes,
    ) -> Result<Written, NoAnswer> {
        let (reply, answer) = oneshot::channel();
        self.hand_over(Request::Record { cluster, condition, bytes, reply })?;
        answer.await.map_err(|_| NoAnswer::Stopped)
    }

    /// Registers a pair or replaces its tokens, and waits until that is durable.
    pub async fn set_tokens(&self, cluster: ClusterName, tokens: Tokens) -> Result<(), NoAnswer> {
        let (reply, answer) = oneshot::channel();
        self.hand_over(Request::Tokens { cluster, tokens, reply })?;
        answer.await.map_err(|_| NoAnswer::Stopped)
    }

    /// Removes a pair with its record, and waits until that is durable.
    pub async fn remove(&self, cluster: ClusterName) -> Result<(), NoAnswer> {
        let (reply, answer) = oneshot::channel();
        self.hand_over(Request::Removal { cluster, reply })?;
        answer.await.map_err(|_| NoAnswer::Stopped)
    }

    fn hand_over(&self, request: Request) -> Result<(), NoAnswer> {
        self.writes.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NoAnswer::Busy,
            mpsc::error::TrySendError::Closed(_) => NoAnswer::Stopped,
        })
    }
}
