//! The data directory of one appliance.
//!
//! ```text
//! <path>/lock           held by the process that works here
//! <path>/FORMAT         "duet data directory, format 2"; written last, so a directory that has it is complete
//! <path>/state/         the appliance's own state, two generations
//! <path>/log/           the log's segments
//! <path>/data.redb      the state store
//! <path>/incoming.redb  a copy of the peer's state that is arriving
//! <path>/installing     position of a copy that is being installed
//! ```

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use duet_protocol::OwnState;

use crate::{
    disk::{Disk, DiskFile, OpenMode, PathKind, read_whole},
    failure::{At, IoFailure},
    own_state::{OwnStateError, OwnStateFile},
    planted::Bug,
};

/// Newest layout this version reads, and the one it makes.
pub const FORMAT: u32 = 2;

const LOCK: &str = "lock";
const FORMAT_FILE: &str = "FORMAT";
const FORMAT_UNFINISHED: &str = "FORMAT.tmp";
const FORMAT_WORDS: &str = "duet data directory, format ";
const STATE: &str = "state";
const LOG: &str = "log";
const STORE: &str = "data.redb";

/// End of the name of the file by which is tried whether the directory could be made.
const PROBE_SUFFIX: &str = ".probe";

/// No format file is longer in bytes.
const FORMAT_BYTES_MAX: usize = 256;

/// What a creation that was cut short may have left, and what an empty file system has of its own.
const IN_A_BLANK: [&str; 5] = [LOCK, STATE, LOG, FORMAT_UNFINISHED, "lost+found"];

/// Why a data directory cannot be used. Each says what a person should do.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Nothing is there.
    #[error("{} does not exist; create it, or correct the data directory in the configuration", path.display())]
    Missing {
        /// The data directory.
        path: PathBuf,
    },
    /// It is a file.
    #[error("{} is not a directory; choose another data directory", path.display())]
    NotADirectory {
        /// The data directory.
        path: PathBuf,
    },
    /// This user may not write there.
    #[error("{} is not writable for this user; change its owner or its permissions", path.display())]
    NotWritable {
        /// The data directory.
        path: PathBuf,
    },
    /// It is empty: nothing was ever created there.
    #[error("{} holds no data yet; create the appliance first", path.display())]
    Blank {
        /// The data directory.
        path: PathBuf,
    },
    /// Something else is in it.
    #[error("{} is not empty and not a data directory of Duet (it holds {found}); choose an empty directory", path.display())]
    NotOurs {
        /// The data directory.
        path: PathBuf,
        /// Something that was found in it.
        found: String,
    },
    /// There is an appliance's data already.
    #[error("{} already holds an appliance's data; start that, or choose an empty directory", path.display())]
    AlreadyCreated {
        /// The data directory.
        path: PathBuf,
    },
    /// Another process works in it.
    #[error("{} is in use by another process; stop that process, or give each appliance a directory of its own", path.display())]
    InUse {
        /// The data directory.
        path: PathBuf,
    },
    /// A newer version of this program made it.
    #[error("{} has data directory format {format}, this version knows up to {FORMAT}; run the newer version", path.display())]
    NewerFormat {
        /// The data directory.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// A version from before the first release made it.
    #[error(
        "{} has data directory format {format}, this version knows only {FORMAT}: start with a new data directory", path.display()
    )]
    OlderFormat {
        /// The data directory.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// The directory itself is damaged.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No space.
    #[error("the disk is full: no space for {}", path.display())]
    DiskFull {
        /// The file that found no space.
        path: PathBuf,
    },
    /// An operation failed.
    #[error("the data directory failed: {0}")]
    Failed(#[source] IoFailure),
    /// The own state could not be written.
    #[error(transparent)]
    OwnState(#[from] OwnStateError),
}

/// An appliance's data directory, locked for as long as this lives.
#[derive(Debug)]
pub struct DataDir {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// Open as long as the lock is to be held.
    _lock: Arc<dyn DiskFile>,
}

/// What is at a path.
enum Found {
    Nothing,
    Blank,
    Complete,
}

impl DataDir {
    /// Makes a data directory for a new appliance. `path` must not exist (its parent must) or be blank.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn create(disk: Arc<dyn Disk>, path: &Path, identity: &OwnState) -> Result<Self, DataDirError> {
        match look(disk.as_ref(), path)? {
            Found::Nothing => make_root(disk.as_ref(), path)?,
            Found::Blank => {}
            Found::Complete if Bug::DataOverwritten.planted() => {}
            Found::Complete => return Err(DataDirError::AlreadyCreated { path: path.to_owned() }),
        }
        let directory = Self::locked(disk, path)?;
        // Another process may have been quicker.
        let free = matches!(look(directory.disk.as_ref(), path)?, Found::Blank);
        if !free && !Bug::DataOverwritten.planted() {
            return Err(DataDirError::AlreadyCreated { path: path.to_owned() });
        }
        directory.fill(identity)?;
        assert!(Self::exists(directory.disk.as_ref(), path)?, "what was created is there");
        Ok(directory)
    }

    /// Opens and locks an existing one.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn open(disk: Arc<dyn Disk>, path: &Path) -> Result<Self, DataDirError> {
        match look(disk.as_ref(), path)? {
            Found::Nothing => Err(DataDirError::Missing { path: path.to_owned() }),
            Found::Blank => Err(DataDirError::Blank { path: path.to_owned() }),
            Found::Complete => Self::locked(disk, path),
        }
    }

    /// Whether there is a complete data directory at `path`.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn exists(disk: &dyn Disk, path: &Path) -> Result<bool, DataDirError> {
        Ok(matches!(look(disk, path)?, Found::Complete))
    }

    /// Whether [`DataDir::create`] would find `path` free: missing, empty, or left by a creation that was cut short.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn is_blank(disk: &dyn Disk, path: &Path) -> Result<bool, DataDirError> {
        Ok(matches!(look(disk, path)?, Found::Nothing | Found::Blank))
    }

    /// Finds out whether [`DataDir::create`] could make a data directory at `path` later, without making it.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn probe(disk: &Arc<dyn Disk>, path: &Path) -> Result<(), DataDirError> {
        match look(disk.as_ref(), path)? {
            Found::Nothing => probe_beside(disk.as_ref(), path),
            // Whoever holds the lock can write there.
            Found::Blank => match Self::locked(Arc::clone(disk), path) {
                Ok(_) | Err(DataDirError::InUse { .. }) => Ok(()),
                Err(error) => Err(error),
            },
            Found::Complete => Ok(()),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The disk it is on.
    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Where the own state is.
    pub(crate) fn state_path(&self) -> PathBuf {
        self.path.join(STATE)
    }

    /// Where the log is.
    pub(crate) fn log_path(&self) -> PathBuf {
        self.path.join(LOG)
    }

    /// Where the state store is.
    pub(crate) fn store_path(&self) -> PathBuf {
        self.path.join(STORE)
    }

    fn locked(disk: Arc<dyn Disk>, path: &Path) -> Result<Self, DataDirError> {
        let lock_path = path.join(LOCK);
        let lock = match disk.open(&lock_path, OpenMode::Create) {
            Err(error) if is_refused(&error) => {
                return Err(DataDirError::NotWritable { path: path.to_owned() });
            }
            opened => opened.at("open", &lock_path)?,
        };
        if !lock.try_lock().at("lock", &lock_path)? && !Bug::LockNotTaken.planted() {
            return Err(DataDirError::InUse { path: path.to_owned() });
        }
        Ok(Self { disk, path: path.to_owned(), _lock: lock })
    }

    /// Everything a new data directory has; the format file last.
    fn fill(&self, identity: &OwnState) -> Result<(), DataDirError> {
        for path in [self.state_path(), self.log_path()] {
            if self.disk.kind(&path).at("look at", &path)?.is_none() {
                self.disk.create_dir(&path).at("create", &path)?;
            }
        }
        self.disk.sync_dir(&self.path).at("sync", &self.path)?;
        let words = format!("{FORMAT_WORDS}{FORMAT}\n");
        if Bug::CompleteTooEarly.planted() {
            self.replace_file(FORMAT_FILE, FORMAT_UNFINISHED, words.as_bytes())?;
        }
        OwnStateFile::create(Arc::clone(&self.disk), &self.state_path(), identity)?;
        self.replace_file(FORMAT_FILE, FORMAT_UNFINISHED, words.as_bytes())?;
        Ok(())
    }

    /// Gives a small file new content, atomically and durably.
    pub(crate) fn replace_file(&self, name: &str, unfinished: &str, bytes: &[u8]) -> Result<(), IoFailure> {
        let unfinished = self.path.join(unfinished);
        let file = self.disk.open(&unfinished, OpenMode::Create).at("create", &unfinished)?;
        file.set_len(0).at("empty", &unfinished)?;
        file.write_at(bytes, 0).at("write", &unfinished)?;
        if !Bug::ReplacedUnsynced.planted() {
            file.sync_all().at("sync", &unfinished)?;
        }
        self.disk.rename(&unfinished, &self.path.join(name)).at("rename", &unfinished)?;
        self.disk.sync_dir(&self.path).at("sync", &self.path)
    }

    /// Removes a file if it is there; `true`: it was. Not yet durable.
    pub(crate) fn remove_file(&self, name: &str) -> Result<bool, IoFailure> {
        let path = self.path.join(name);
        match self.disk.remove(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            removed => removed.at("remove", &path).map(|()| true),
        }
    }
}

/// Makes and removes a file beside `path`: that needs just what making `path` needs.
fn probe_beside(disk: &dyn Disk, path: &Path) -> Result<(), DataDirError> {
    let mut name = path.as_os_str().to_owned();
    name.push(PROBE_SUFFIX);
    let probe = PathBuf::from(name);
    match disk.open(&probe, OpenMode::Create) {
        Err(error) if is_refused(&error) => {
            return Err(DataDirError::NotWritable { path: parent_of(path).to_owned() });
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(DataDirError::Missing { path: parent_of(path).to_owned() });
        }
        made => drop(made.at("create", &probe)?),
    }
    disk.remove(&probe).at("remove", &probe)?;
    Ok(())
}

fn make_root(disk: &dyn Disk, path: &Path) -> Result<(), DataDirError> {
    match disk.create_dir(path) {
        Err(error) if is_refused(&error) => {
            return Err(DataDirError::NotWritable { path: parent_of(path).to_owned() });
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(DataDirError::Missing { path: parent_of(path).to_owned() });
        }
        made => made.at("create", path)?,
    }
    disk.sync_dir(parent_of(path)).at("sync", parent_of(path))?;
    Ok(())
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn is_refused(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
}

/// Finds out what is at `path`; everything that is neither free nor ours is an error.
fn look(disk: &dyn Disk, path: &Path) -> Result<Found, DataDirError> {
    match disk.kind(path) {
        Err(error) if is_refused(&error) => {
            return Err(DataDirError::NotWritable { path: path.to_owned() });
        }
        // A file stands where a directory above it should.
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            return Err(DataDirError::NotADirectory { path: parent_of(path).to_owned() });
        }
        kind => match kind.at("look at", path)? {
            None => return Ok(Found::Nothing),
            Some(PathKind::Directory) => {}
            Some(_) => return Err(DataDirError::NotADirectory { path: path.to_owned() }),
        },
    }
    let names = match disk.list(path) {
        Err(error) if is_refused(&error) => {
            return Err(DataDirError::NotWritable { path: path.to_owned() });
        }
        names => names.at("list", path)?,
    };
    let has = |name: &str| names.iter().any(|found| found == name);
    if has(FORMAT_FILE) {
        check_format(disk, path)?;
        return Ok(Found::Complete);
    }
    let log = path.join(LOG);
    let has_entries = has(LOG) && !disk.list(&log).at("list", &log)?.is_empty();
    if has_entries || (has(STORE) && has(STATE)) {
        let reason = "it holds an appliance's data but its FORMAT file is missing";
        return Err(DataDirError::Damaged { path: path.to_owned(), reason });
    }
    match names.into_iter().find(|name| !IN_A_BLANK.contains(&name.as_str())) {
        Some(found) => Err(DataDirError::NotOurs { path: path.to_owned(), found }),
        None => Ok(Found::Blank),
    }
}

fn check_format(disk: &dyn Disk, path: &Path) -> Result<(), DataDirError> {
    let path = path.join(FORMAT_FILE);
    let bytes = match read_whole(disk, &path, FORMAT_BYTES_MAX) {
        Err(error) if is_refused(&error) => return Err(DataDirError::NotWritable { path }),
        Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => Vec::new(),
        bytes => bytes.at("read", &path)?,
    };
    let number = std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| text.strip_prefix(FORMAT_WORDS)?.strip_suffix('\n')?.parse::<u32>().ok());
    match number {
        Some(FORMAT) => Ok(()),
        Some(_) if Bug::NewerFormatOpened.planted() => Ok(()),
        Some(format) if format > FORMAT => {
            Err(DataDirError::NewerFormat { path: parent_of(&path).to_owned(), format })
        }
        Some(format) if format > 0 => {
            Err(DataDirError::OlderFormat { path: parent_of(&path).to_owned(), format })
        }
        _ => Err(DataDirError::Damaged { path, reason: "it does not name a format" }),
    }
}

impl From<IoFailure> for DataDirError {
    fn from(failure: IoFailure) -> Self {
        if failure.is_disk_full() { Self::DiskFull { path: failure.path } } else { Self::Failed(failure) }
    }
}

#[cfg(test)]
mod tests;
