//! The witness in a directory on any shared file system that both appliances mount.
//!
//! Layout: `DIRECTORY/duet-witness-directory` (made once by an operator, see [`prepare`]), and for each pair
//! `DIRECTORY/CLUSTER/record`, `lock`, and for a moment `new-VERSION`. A write takes an exclusive advisory
//! lock, writes and flushes `new-VERSION`, checks that the record is still the expected one, renames, and
//! flushes the directory.
//!
//! The marker file stands against the worst accident: while the share is not mounted, each appliance sees an
//! empty directory of its own. Without the marker everything is `Unknown`; nothing is ever created there.
//!
//! Limits: the file system must have locks and renames that are coherent between machines. NFS version 4 has
//! (mount it with `lookupcache=none`), NFS 3 without a lock daemon, a replicated file system without coherent
//! locks, or a directory that some tool copies back and forth have not. The directory must not live on one of
//! the two appliances.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::planted::Bug;
use crate::register::too_large;
use crate::stored::{MAX_STORED_BYTES, Stored};
use crate::{BoxFuture, ClusterName, ReadOutcome, Reason, Register, Version, WriteOutcome};

/// File that makes a directory a witness.
const MARKER: &str = "duet-witness-directory";
/// What [`prepare`] writes into it.
const MARKER_TEXT: &str = "duet-witness-directory 1\n";
/// Start of the names of files that are being written.
const NEW_PREFIX: &str = "new-";
/// Pause between two tries to get the lock. The lock is held for a few flushes, so this is about one such
/// time; a waiting lock call cannot be given a deadline.
const LOCK_RETRY: Duration = Duration::from_millis(5);
/// Calls that may hang in a dead file system at the same time before further ones are refused at once: each
/// holds a thread.
const MAX_HANGING_CALLS: usize = 4;

/// Makes a directory a witness directory, once, by an operator's explicit wish and with the share mounted.
/// Doing it again changes nothing.
///
/// # Errors
/// When the directory is not there or not writable, or is one of a newer format.
pub fn prepare(directory: &Path) -> Result<(), PrepareError> {
    let failed = |source| PrepareError::Directory { directory: directory.to_owned(), source };
    let path = directory.join(MARKER);
    match OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(mut marker) => {
            marker.write_all(MARKER_TEXT.as_bytes()).map_err(failed)?;
            marker.sync_all().map_err(failed)?;
            sync_directory(directory).map_err(failed)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            check_marker(directory).map_err(|reason| PrepareError::Marker { reason })
        }
        Err(error) => Err(failed(error)),
    }
}

/// The directory cannot become a witness.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// Make the directory, mount the share, or allow writing.
    #[error("cannot make {} a witness directory: {source}", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// It holds a marker that this program cannot use.
    #[error("{reason}")]
    Marker {
        /// What is wrong with it.
        reason: Reason,
    },
}

/// The record of one pair in a witness directory.
pub struct DirectoryRegister {
    place: Arc<Place>,
    deadline: Duration,
    calls: Arc<AtomicUsize>,
}

impl DirectoryRegister {
    /// The record of `cluster` in `directory`; every call ends within `deadline`. Touches nothing yet.
    pub fn new(directory: impl Into<PathBuf>, cluster: ClusterName, deadline: Duration) -> Self {
        let directory = directory.into();
        let folder = directory.join(cluster.as_str());
        let place = Arc::new(Place { directory, folder, cluster });
        Self { place, deadline, calls: Arc::new(AtomicUsize::new(0)) }
    }

    /// Runs blocking file operations on a thread of their own, for which the caller waits no longer than the
    /// deadline.
    ///
    /// Not tokio's blocking pool: a runtime waits for that pool when it ends, and a file system that hangs
    /// would then hang the whole program. A call left behind may still take effect later; it stays
    /// conditional, and it gives up by itself once it notices that its deadline is over.
    async fn run<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Place, Instant) -> Result<T, Reason> + Send + 'static,
    ) -> Result<T, Reason> {
        let Some(slot) = Slot::take(&self.calls) else {
            return Err(Reason::new(format!(
                "{MAX_HANGING_CALLS} earlier calls to {} still hang: is the file system's server up?",
                self.place.directory.display()
            )));
        };
        let place = Arc::clone(&self.place);
        let until = Instant::now() + self.deadline;
        let (reply, answer) = tokio::sync::oneshot::channel();
        let thread = std::thread::Builder::new().name("witness-dir".into()).spawn(move || {
            let outcome = act(&place, until);
            drop(slot);
            // Nobody waits any longer if the deadline is over.
            let _ = reply.send(outcome);
        });
        if let Err(error) = thread {
            return Err(Reason::new(format!("cannot start a thread for file access: {error}")));
        }
        match tokio::time::timeout(self.deadline, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Reason::new("file access ended unexpectedly; see the log")),
            Err(_) => Err(self.place.late()),
        }
    }

    async fn write(&self, expected: Option<Version>, bytes: Bytes) -> WriteOutcome {
        if let Some(reason) = too_large(bytes.len()) {
            return WriteOutcome::Unknown(reason);
        }
        let write = move |place: &Place, until| place.write(expected.as_ref(), bytes, until);
        self.run(write).await.unwrap_or_else(WriteOutcome::Unknown)
    }
}

impl Register for DirectoryRegister {
    fn read(&self) -> BoxFuture<'_, ReadOutcome> {
        Box::pin(async {
            match self.run(|place, _| place.read()).await {
                Ok(Some(Stored { version, bytes })) => ReadOutcome::Record { version, bytes },
                Ok(None) => ReadOutcome::Absent,
                Err(reason) => ReadOutcome::Unknown(reason),
            }
        })
    }

    fn create(&self, bytes: Bytes) -> BoxFuture<'_, WriteOutcome> {
        Box::pin(self.write(None, bytes))
    }

    fn compare_and_set(&self, expected: &Version, bytes: Bytes) -> BoxFuture<'_, WriteOutcome> {
        Box::pin(self.write(Some(expected.clone()), bytes))
    }

    fn describe(&self) -> String {
        format!("witness directory {}, cluster {}", self.place.directory.display(), self.place.cluster)
    }
}

/// One of the [`MAX_HANGING_CALLS`]; given back when the call really ends, not when its caller gives up.
struct Slot(Arc<AtomicUsize>);

impl Slot {
    fn take(calls: &Arc<AtomicUsize>) -> Option<Self> {
        let slot = Self(Arc::clone(calls));
        // Counted before it is checked, so that two callers cannot both take the last one.
        (slot.0.fetch_add(1, Ordering::AcqRel) < MAX_HANGING_CALLS).then_some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Where one record is. All functions block.
struct Place {
    directory: PathBuf,
    folder: PathBuf,
    cluster: ClusterName,
}

impl Place {
    /// The record, once it is known to be durable.
    fn read(&self) -> Result<Option<Stored>, Reason> {
        check_marker(&self.directory)?;
        let found = self.load()?;
        if found.is_some() && !Bug::ReadUnsynced.planted() {
            // The writer may have died between its rename and its flush: nobody may act on what could still
            // vanish.
            sync_directory(&self.folder).map_err(|error| self.failed("flush", &self.folder, &error))?;
        }
        Ok(found)
    }

    /// The record as it is.
    fn load(&self) -> Result<Option<Stored>, Reason> {
        let path = self.folder.join("record");
        let mut stored = Vec::new();
        let limit = MAX_STORED_BYTES as u64 + 1;
        match File::open(&path).and_then(|file| file.take(limit).read_to_end(&mut stored)) {
            Ok(_) if Bug::DamagedFileIsAbsent.planted() => Ok(Stored::decode(&self.cluster, &stored).ok()),
            Ok(_) => Stored::decode(&self.cluster, &stored)
                .map(Some)
                .map_err(|error| Reason::new(format!("the witness's record {} {error}", path.display()))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed("read", &path, &error)),
        }
    }

    /// Writes the record if it is the expected one; `None` expects that there is none.
    fn write(
        &self,
        expected: Option<&Version>,
        bytes: Bytes,
        until: Instant,
    ) -> Result<WriteOutcome, Reason> {
        check_marker(&self.directory)?;
        if expected.is_none() {
            self.make_folder()?;
        } else if self.load()?.is_none() {
            // Without a record there may be no folder to hold the lock; nothing is created for a
            // compare-and-set.
            return Ok(WriteOutcome::Mismatch);
        }
        let lock = self.lock(until)?;
        // A first look saves two flushes when it is a mismatch anyway.
        if !self.is_expected(expected)? {
            return Ok(WriteOutcome::Mismatch);
        }
        self.remove_leftovers()?;
        let version = Version::draw()?;
        let new = self.folder.join(format!("{NEW_PREFIX}{version}"));
        let outcome = self.replace(&new, &Stored { version, bytes }, expected, until);
        if !matches!(outcome, Ok(WriteOutcome::Swapped(_))) {
            // Best effort: what stays is removed by the next writer.
            let _ = std::fs::remove_file(&new);
        }
        drop(lock);
        outcome
    }

    /// The write itself, under the lock.
    ///
    /// The lock of a network file system can be lost while this process sleeps. Three things keep a sleeper
    /// from overwriting the work of the lock's next holder: that one has removed the sleeper's new file, so
    /// the rename fails; the last check comes after the slow flush; and a sleeper that wakes up late stops at
    /// its deadline.
    fn replace(
        &self,
        new: &Path,
        stored: &Stored,
        expected: Option<&Version>,
        until: Instant,
    ) -> Result<WriteOutcome, Reason> {
        let record = self.folder.join("record");
        let written = OpenOptions::new().write(true).create_new(true).open(new).and_then(|mut file| {
            file.write_all(&stored.encode(&self.cluster))?;
            if Bug::RecordUnsynced.planted() { Ok(()) } else { sync_file(&file) }
        });
        written.map_err(|error| self.failed("write", new, &error))?;
        if !self.is_expected(expected)? {
            return Ok(WriteOutcome::Mismatch);
        }
        if Instant::now() >= until && !Bug::SleeperWrites.planted() {
            return Err(self.late());
        }
        #[cfg(test)]
        tests::took_place("renamed");
        std::fs::rename(new, &record).map_err(|error| self.failed("replace", &record, &error))?;
        if !Bug::RecordNameUnsynced.planted() {
            sync_directory(&self.folder).map_err(|error| self.failed("flush", &self.folder, &error))?;
        }
        Ok(WriteOutcome::Swapped(stored.version.clone()))
    }

    fn is_expected(&self, expected: Option<&Version>) -> Result<bool, Reason> {
        let careless = Bug::DirectoryOverwrites.planted() && expected.is_some();
        Ok(self.load()?.as_ref().map(|stored| &stored.version) == expected || careless)
    }

    /// Makes the cluster's folder durable, whoever made it.
    fn make_folder(&self) -> Result<(), Reason> {
        match std::fs::create_dir(&self.folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                Err(self.failed("create", &self.folder, &error))
            }
            _ => {
                sync_directory(&self.directory).map_err(|error| self.failed("flush", &self.directory, &error))
            }
        }
    }

    /// Takes the exclusive lock; it ends when the file is dropped, or the process dies.
    fn lock(&self, until: Instant) -> Result<File, Reason> {
        let path = self.folder.join("lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| self.failed("open", &path, &error))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if Bug::DirectoryUnlocked.planted() => return Ok(file),
                Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(LOCK_RETRY),
                Err(TryLockError::WouldBlock) => {
                    let path = path.display();
                    return Err(Reason::new(format!(
                        "{path} is locked by another process; nothing was written"
                    )));
                }
                Err(TryLockError::Error(error)) => return Err(self.failed("lock", &path, &error)),
            }
        }
    }

    /// Removes what writers that died have left behind. Only under the lock.
    fn remove_leftovers(&self) -> Result<(), Reason> {
        let failed = |error: io::Error| self.failed("clean", &self.folder, &error);
        for entry in std::fs::read_dir(&self.folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if name.to_str().is_some_and(|name| name.starts_with(NEW_PREFIX)) {
                std::fs::remove_file(self.folder.join(name)).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn failed(&self, verb: &str, path: &Path, error: &io::Error) -> Reason {
        let hint = match error.kind() {
            ErrorKind::PermissionDenied => ": give this program's user the right to read and write there",
            ErrorKind::ReadOnlyFilesystem => ": mount the share for writing",
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => ": make room there",
            ErrorKind::StaleNetworkFileHandle | ErrorKind::TimedOut => ": is the file system's server up?",
            _ => "",
        };
        let cluster = &self.cluster;
        Reason::new(format!("cannot {verb} {} of cluster {cluster}: {error}{hint}", path.display()))
    }

    fn late(&self) -> Reason {
        Reason::new(format!(
            "{} did not answer in time: is the file system's server up?",
            self.directory.display()
        ))
    }
}

/// Whether the directory is a witness directory, so that a missing record really is a missing record.
fn check_marker(directory: &Path) -> Result<(), Reason> {
    let shown = directory.display();
    let mut text = String::new();
    // One byte more than the text, to notice a longer one.
    let limit = MARKER_TEXT.len() as u64 + 1;
    let read =
        File::open(directory.join(MARKER)).and_then(|marker| marker.take(limit).read_to_string(&mut text));
    match read {
        Ok(_) if text == MARKER_TEXT => Ok(()),
        Ok(_) => Err(Reason::new(format!(
            "{shown}/{MARKER} is damaged or of a newer Duet: expected {:?}",
            MARKER_TEXT.trim_end()
        ))),
        Err(_) if Bug::MarkerUnchecked.planted() => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Reason::new(format!(
            "{shown} is no witness directory (no file {MARKER} in it): mount the share, or \
             run `duet init` if the pair is new"
        ))),
        Err(error) => Err(Reason::new(format!("cannot read {shown}/{MARKER}: {error}"))),
    }
}

/// Makes the bytes of a file durable.
fn sync_file(file: &File) -> io::Result<()> {
    #[cfg(test)]
    tests::took_place("bytes durable");
    file.sync_all()
}

/// Makes the names in a directory durable.
fn sync_directory(directory: &Path) -> io::Result<()> {
    #[cfg(test)]
    tests::took_place("names durable");
    match File::open(directory)?.sync_all() {
        // Some network file systems (SMB) have no such operation; their server answers a rename when it is
        // done.
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    thread_local! {
        static JOURNAL: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
    }

    /// Notes what is done to the disk. No file system of a test loses what was not flushed, so the order is what is tested.
    pub(super) fn took_place(what: &'static str) {
        JOURNAL.with_borrow_mut(|journal| journal.push(what));
    }

    fn journal() -> Vec<&'static str> {
        JOURNAL.with_borrow_mut(std::mem::take)
    }

    #[test]
    fn a_record_is_durable_before_it_is_answered_or_read() {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path()).unwrap();
        let (cluster, folder) = ("pair".parse().unwrap(), directory.path().join("pair"));
        let place = Place { directory: directory.path().to_owned(), folder, cluster };
        let until = Instant::now() + Duration::from_mins(1);
        let written = place.write(None, Bytes::from_static(b"1"), until);
        journal();
        let Ok(WriteOutcome::Swapped(version)) = written else { panic!("created") };
        let written = place.write(Some(&version), Bytes::from_static(b"2"), until);
        assert!(matches!(written, Ok(WriteOutcome::Swapped(_))));
        assert_eq!(journal(), ["bytes durable", "renamed", "names durable"]);
        assert!(place.read().unwrap().is_some());
        assert_eq!(journal(), ["names durable"]);
    }
}
