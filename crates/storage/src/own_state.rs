//! The appliance's own state on disk: `state/own-<generation, 16 hex digits>`.
//!
//! Saving writes the next generation under a temporary name, syncs it, gives it its name, syncs the directory, and only
//! then removes the generation before the last; two are kept. A crash therefore leaves the old generation or the new
//! one as the newest, whole in either case: the temporary name of a torn write is never looked at.
//!
//! **Damage rule.** The newest generation counts, and only it. If it is damaged, loading fails: the one before may lack an
//! epoch or a promise that was given (P1, P2), and falling back to it in silence could make two primaries. The older
//! one is there for the eyes of a person, nothing else.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use duet_protocol::OwnState;

use crate::{disk::Disk, failure::IoFailure};

/// Newest format this version reads, and the one it writes.
pub(crate) const FORMAT: u16 = 1;

/// Why the own state could not be loaded or saved.
#[derive(Debug, thiserror::Error)]
pub enum OwnStateError {
    /// The newest generation cannot be trusted: this appliance has no rights until its peer has given it a new state.
    #[error("the appliance's own state {} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There is none, though the data directory is complete: it was lost.
    #[error("the appliance's own state is missing from {}", directory.display())]
    Missing {
        /// The directory.
        directory: PathBuf,
    },
    /// A newer version of this program wrote it: run that.
    #[error("{} has format {format}, this version knows up to {FORMAT}", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u16,
    },
    /// No space. Make space and restart.
    #[error("the disk is full: no space for {}", path.display())]
    DiskFull {
        /// The file that found no space.
        path: PathBuf,
    },
    /// A read, write or sync failed: which generation is on disk is unknown. Restart; the start finds out.
    #[error("the appliance's own state failed: {0}")]
    Failed(#[source] IoFailure),
    /// It failed before and must not be used any more.
    #[error("saving the appliance's own state failed before; restart the appliance")]
    Poisoned,
}

/// The file of the own state.
#[derive(Debug)]
pub struct OwnStateFile {}

impl OwnStateFile {
    /// Writes the first generation into `directory`, which must exist.
    ///
    /// # Errors
    /// See [`OwnStateError`].
    pub fn create(disk: Arc<dyn Disk>, directory: &Path, state: &OwnState) -> Result<Self, OwnStateError> {
        let _ = (disk, directory, state);
        unimplemented!()
    }

    /// Loads the newest generation.
    ///
    /// # Errors
    /// See [`OwnStateError`].
    pub fn load(disk: Arc<dyn Disk>, directory: &Path) -> Result<(Self, OwnState), OwnStateError> {
        let _ = (disk, directory);
        unimplemented!()
    }

    /// Replaces the state: when this returns, the new one is durable.
    ///
    /// # Errors
    /// See [`OwnStateError`]; nothing can be saved after a failure.
    pub fn save(&mut self, state: &OwnState) -> Result<(), OwnStateError> {
        let _ = state;
        unimplemented!()
    }
}
