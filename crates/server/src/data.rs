//! The data directory at a start: is it blank, whose is it, and what does it hold?
//!
//! Adds one file to the directory, `cluster-name`, so that a start with another pair's configuration is refused in words that
//! name both. The identity that counts is the cluster id in the own state.

use std::io;
use std::path::Path;
use std::sync::Arc;

use duet_protocol::{ClusterId, DiskId, OwnState};
use duet_storage::disk::OpenMode;
use duet_storage::{
    DataDir, DataDirError, Disk, LogError, OwnStateError, OwnStateFile, Parts, RecoverError, RecoverOptions,
    StallingDisk, StateError,
};

use crate::config::Config;
use crate::error::{Remedy, WrongData};
use crate::failpoint;

/// File with the cluster's name.
const NAME_FILE: &str = "cluster-name";

/// Its name while it is written.
const NAME_FILE_NEW: &str = "cluster-name.new";

/// Longest content of that file that is read, in bytes.
const NAME_FILE_BYTES: usize = 1024;

/// Memory of the state store's cache, in bytes: enough for its inner pages; values are cached by the store above.
const STATE_CACHE_BYTES: usize = 64 << 20;

/// Why the data directory is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataError {
    #[error(transparent)]
    Wrong(#[from] WrongData),
    /// In words: the caller tells a person.
    #[error("{reason}")]
    Storage { reason: String, remedy: Remedy },
}

impl From<DataDirError> for DataError {
    /// Its words name the place.
    fn from(error: DataDirError) -> Self {
        let remedy = match &error {
            DataDirError::Damaged { .. } => Remedy::CopyFromPeer,
            DataDirError::OwnState(error) => of_own_state(error),
            _ => Remedy::CorrectTheCause,
        };
        Self::Storage { reason: error.to_string(), remedy }
    }
}

/// Something in the data directory `path`.
fn within(path: &Path, error: impl std::fmt::Display, remedy: Remedy) -> DataError {
    DataError::Storage { reason: format!("data directory {}: {error}", path.display()), remedy }
}

const fn of_own_state(error: &OwnStateError) -> Remedy {
    match error {
        OwnStateError::Damaged { .. } | OwnStateError::Missing { .. } => Remedy::CopyFromPeer,
        _ => Remedy::CorrectTheCause,
    }
}

/// What can be done about parts that cannot be put to work.
const fn of_parts(error: &RecoverError) -> Remedy {
    match error {
        RecoverError::LostWrites { .. }
        | RecoverError::DataDir(DataDirError::Damaged { .. })
        | RecoverError::Log(LogError::Damaged(_) | LogError::Missing { .. })
        | RecoverError::State(StateError::Damaged { .. }) => Remedy::CopyFromPeer,
        RecoverError::OwnState(error) => of_own_state(error),
        _ => Remedy::CorrectTheCause,
    }
}

/// The data directory of a configuration.
pub(crate) struct Place<'a> {
    disk: Arc<dyn Disk>,
    config: &'a Config,
}

impl<'a> Place<'a> {
    pub(crate) fn new(config: &'a Config) -> Self {
        let disk = failpoint::disk();
        let disk = match &config.stall_file {
            Some(stall) => Arc::new(StallingDisk::new(disk, stall)),
            None => disk,
        };
        Self { disk, config }
    }

    fn path(&self) -> &Path {
        &self.config.data
    }

    pub(crate) fn is_blank(&self) -> Result<bool, DataError> {
        Ok(DataDir::is_blank(self.disk.as_ref(), self.path())?)
    }

    /// Whether a blank appliance could be made here.
    pub(crate) fn probe(&self) -> Result<(), DataError> {
        Ok(DataDir::probe(&self.disk, self.path())?)
    }

    /// Makes a blank appliance: it has no rights.
    pub(crate) fn create(&self, cluster: ClusterId, disk: DiskId) -> Result<OwnState, DataError> {
        let own = OwnState::blank(cluster, self.config.appliance, disk);
        let _lock = DataDir::create(self.disk.clone(), self.path(), &own)?;
        self.write_name().map_err(|error| self.name_failed(&error))?;
        Ok(own)
    }

    /// Opens and locks the directory, if it is this appliance's.
    pub(crate) fn open(&self) -> Result<(DataDir, OwnState), DataError> {
        let data = DataDir::open(self.disk.clone(), self.path())?;
        let (_, own) = OwnStateFile::load(self.disk.clone(), &self.path().join("state"))
            .map_err(|error| within(self.path(), &error, of_own_state(&error)))?;
        if own.appliance != self.config.appliance {
            let (found, wanted) = (own.appliance, self.config.appliance);
            return Err(WrongData::Appliance { path: self.path().to_owned(), found, wanted }.into());
        }
        match self.read_name().map_err(|error| self.name_failed(&error))? {
            Some(found) if found != self.config.cluster => {
                let wanted = self.config.cluster.clone();
                Err(WrongData::Cluster { path: self.path().to_owned(), found, wanted }.into())
            }
            Some(_) => Ok((data, own)),
            None => {
                // A crash came between the directory's making and this file's.
                self.write_name().map_err(|error| self.name_failed(&error))?;
                Ok((data, own))
            }
        }
    }

    /// Everything durable, in agreement.
    pub(crate) fn recover(data: &DataDir) -> Result<Parts, DataError> {
        let options =
            RecoverOptions { log: duet_storage::LogOptions::default(), cache_bytes: STATE_CACHE_BYTES };
        data.recover(options).map_err(|error| match error {
            RecoverError::DataDir(error) => error.into(),
            error => within(data.path(), &error, of_parts(&error)),
        })
    }

    fn name_failed(&self, error: &io::Error) -> DataError {
        let told = format!("{NAME_FILE}: {}", duet_storage::words(error));
        within(self.path(), told, Remedy::CorrectTheCause)
    }

    fn write_name(&self) -> io::Result<()> {
        let (new, name) = (self.path().join(NAME_FILE_NEW), self.path().join(NAME_FILE));
        let file = self.disk.open(&new, OpenMode::Create)?;
        file.set_len(0)?;
        file.write_at(self.config.cluster.as_bytes(), 0)?;
        file.sync_all()?;
        self.disk.rename(&new, &name)?;
        self.disk.sync_dir(self.path())
    }

    fn read_name(&self) -> io::Result<Option<String>> {
        let file = match self.disk.open(&self.path().join(NAME_FILE), OpenMode::Existing) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = vec![0; NAME_FILE_BYTES];
        let length = file.read_at(&mut bytes, 0)?;
        bytes.truncate(length);
        String::from_utf8(bytes).map(Some).map_err(|_| io::ErrorKind::InvalidData.into())
    }
}

/// A cluster id that was never used before.
pub(crate) fn draw_cluster() -> ClusterId {
    ClusterId(rand::random::<u64>().max(1))
}

/// A disk id that was never used before.
pub(crate) fn draw_disk() -> DiskId {
    DiskId(rand::random::<u128>().max(1))
}
