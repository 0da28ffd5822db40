//! The data directory of one appliance.
//!
//! ```text
//! <path>/lock           held by the process that works here
//! <path>/FORMAT         "duet data directory, format 1"; written last, so a directory that has it is complete
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

use crate::{disk::Disk, failure::IoFailure, own_state::OwnStateError};

/// Newest layout this version reads, and the one it makes.
pub const FORMAT: u32 = 1;

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
pub struct DataDir {}

impl DataDir {
    /// Makes a data directory for a new appliance. `path` must not exist (its parent must) or be blank.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn create(disk: Arc<dyn Disk>, path: &Path, identity: &OwnState) -> Result<Self, DataDirError> {
        let _ = (disk, path, identity);
        unimplemented!()
    }

    /// Opens and locks an existing one.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn open(disk: Arc<dyn Disk>, path: &Path) -> Result<Self, DataDirError> {
        let _ = (disk, path);
        unimplemented!()
    }

    /// Whether there is a complete data directory at `path`.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn exists(disk: &dyn Disk, path: &Path) -> Result<bool, DataDirError> {
        let _ = (disk, path);
        unimplemented!()
    }

    /// Whether [`DataDir::create`] would find `path` free: missing, empty, or left by a creation that was cut short.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn is_blank(disk: &dyn Disk, path: &Path) -> Result<bool, DataDirError> {
        let _ = (disk, path);
        unimplemented!()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        unimplemented!()
    }
}
