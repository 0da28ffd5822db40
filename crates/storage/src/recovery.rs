//! Putting the parts together at a start, and replacing them by a copy from the peer.
//!
//! Each part recovers by itself; here they are compared, because the LSN is kept in more than one place (D1): in the log and
//! in the state store, and the epoch in the log and in the own state. A log that ends below the state's position, or
//! begins above it, or holds another history there, or knows a newer epoch than the own state, has lost writes or belongs
//! to somebody else; then nothing is put to work.
//!
//! # Installing a copy
//! 1. The copy is complete and durable as `incoming.redb`.
//! 2. `installing` is written, with the copy's position. From here on the copy counts, whatever happens.
//! 3. `incoming.redb` becomes `data.redb`.
//! 4. The log is reset to the position.
//! 5. `installing` is removed.
//!
//! A start that finds `installing` does 3 to 5 again, as far as they are not done.

use std::{io::ErrorKind, path::PathBuf, sync::Arc};

use duet_protocol::{Digest, Epoch, OwnState, Position};

use crate::{
    data_dir::{DataDir, DataDirError},
    disk::read_whole,
    failure::{At, IoFailure},
    fields::Fields,
    log::{self, Log, LogError, LogOptions, Recovered},
    own_state::{OwnStateError, OwnStateFile},
    planted::Bug,
    state_store::{self, ReadySnapshot, SnapshotBuilder, StateError, StateStore},
};

const MARKER: &str = "installing";
const MARKER_UNFINISHED: &str = "installing.tmp";
const MARKER_MAGIC: [u8; 8] = *b"DUETINST";

/// Bytes of a marker: magic, checksum, position.
const MARKER_BYTES: usize = 8 + 4 + 32;

/// Sizes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecoverOptions {
    /// Of the log.
    pub log: LogOptions,
    /// Memory of the state store's cache in bytes.
    pub cache_bytes: usize,
}

/// Everything durable, opened and in agreement.
#[derive(Debug)]
pub struct Parts {
    /// The file of the own state.
    pub own_state_file: OwnStateFile,
    /// The own state.
    pub own_state: OwnState,
    /// The log, ready for appends.
    pub log: Log,
    /// What it holds.
    pub recovered: Recovered,
    /// The state store; its applied position is in the log or is its base.
    pub store: StateStore,
}

/// Why an appliance's data cannot be put to work.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The own state.
    #[error(transparent)]
    OwnState(#[from] OwnStateError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The state store.
    #[error(transparent)]
    State(#[from] StateError),
    /// The parts are each sound and contradict each other: writes were lost (D1). The peer has them.
    #[error("writes were lost: {reason} (log from {log_base} to {log_last}, state at {applied})")]
    LostWrites {
        /// What contradicts what.
        reason: &'static str,
        /// Where the log begins.
        log_base: Position,
        /// Where the log ends.
        log_last: Position,
        /// Where the state stands.
        applied: Position,
    },
}

impl DataDir {
    /// Opens everything, completes an installation that a crash cut short, removes leftovers, and compares the parts.
    ///
    /// # Errors
    /// See [`RecoverError`]; on damage and on lost writes nothing was changed on disk, but for what the state store's
    /// engine repairs in its own file.
    pub fn recover(&self, options: RecoverOptions) -> Result<Parts, RecoverError> {
        let (own_state_file, own_state) = OwnStateFile::load(Arc::clone(self.disk()), &self.state_path())?;
        let (log, recovered, store) =
            match self.read_marker()?.filter(|_| !Bug::InstallationForgotten.planted()) {
                Some(position) => self.complete_installation(position, options)?,
                None => self.open_parts(&own_state, options)?,
            };
        // Also the copy's own state must know its epoch.
        compare(&own_state, &recovered, store.applied())?;
        assert!(log.last() == recovered.last() && log.synced() == log.last().lsn);
        Ok(Parts { own_state_file, own_state, log, recovered, store })
    }

    /// Begins to receive a copy of the peer's state beside the present one, dropping an earlier unfinished one.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn receive_snapshot(&self) -> Result<SnapshotBuilder, StateError> {
        SnapshotBuilder::create(Arc::clone(self.disk()), self.path())
    }

    /// Replaces state and log by a received copy. Interrupted at any point, the next [`DataDir::recover`] finds either the old
    /// state and log or the new ones.
    ///
    /// # Errors
    /// See [`RecoverError`]; final.
    pub fn install(
        &self,
        ready: ReadySnapshot,
        store: &StateStore,
        log: &mut Log,
    ) -> Result<(), RecoverError> {
        let position = ready.into_position();
        if !Bug::MarkerSkipped.planted() {
            self.write_marker(&position)?;
        }
        self.take_incoming()?;
        store.reopen(&self.store_path())?;
        assert!(store.applied() == position, "the copy stands where it said");
        if Bug::MarkerRemovedEarly.planted() {
            self.remove_marker()?;
        }
        log.reset(position)?;
        self.remove_marker()?;
        Ok(())
    }

    /// The same for a directory whose log or state is damaged and cannot be opened. Only the own state must be sound.
    ///
    /// # Errors
    /// See [`RecoverError`].
    pub fn install_over_damage(
        &self,
        ready: ReadySnapshot,
        options: RecoverOptions,
    ) -> Result<Parts, RecoverError> {
        self.write_marker(&ready.into_position())?;
        self.recover(options)
    }

    /// Looks first and changes something only when all of it is in agreement.
    fn open_parts(
        &self,
        own_state: &OwnState,
        options: RecoverOptions,
    ) -> Result<(Log, Recovered, StateStore), RecoverError> {
        let verified = match log::verify(self.disk().as_ref(), &self.log_path()) {
            // An appliance that never knew a configuration never had an entry.
            Err(LogError::Missing { .. }) if own_state.max_epoch == Epoch::ZERO => None,
            verified => Some(verified?),
        };
        let open_store =
            || StateStore::open(Arc::clone(self.disk()), &self.store_path(), options.cache_bytes);
        let store_path = self.store_path();
        let is_there = self.disk().kind(&store_path).at("look at", &store_path)?.is_some();
        let store = if is_there { Some(open_store()?) } else { None };
        let applied = store.as_ref().map_or(Position::EMPTY, StateStore::applied);
        let nothing = Recovered::empty(Position::EMPTY);
        let recovered = verified.as_ref().map_or(&nothing, |verified| &verified.recovered);
        if !Bug::ChangesBeforeRefusal.planted() {
            compare(own_state, recovered, applied)?;
        }
        let (log, recovered) = match verified {
            Some(verified) => Log::go_on(Arc::clone(self.disk()), &self.log_path(), verified, options.log)?,
            None => self.create_log(Position::EMPTY, options.log)?,
        };
        let mut removed = false;
        for name in [state_store::INCOMING, MARKER_UNFINISHED] {
            removed |= self.remove_file(name)?;
        }
        if removed {
            self.disk().sync_dir(self.path()).at("sync", self.path())?;
        }
        let store = match store {
            Some(store) => store,
            None => open_store()?,
        };
        Ok((log, recovered, store))
    }

    fn create_log(&self, base: Position, options: LogOptions) -> Result<(Log, Recovered), RecoverError> {
        let log = Log::create(Arc::clone(self.disk()), &self.log_path(), base, options)?;
        Ok((log, Recovered::empty(base)))
    }

    /// Steps 3 to 5.
    fn complete_installation(
        &self,
        position: Position,
        options: RecoverOptions,
    ) -> Result<(Log, Recovered, StateStore), RecoverError> {
        let incoming = self.path().join(state_store::INCOMING);
        if self.disk().kind(&incoming).at("look at", &incoming)?.is_some() {
            self.take_incoming()?;
        }
        let store = StateStore::open(Arc::clone(self.disk()), &self.store_path(), options.cache_bytes)?;
        if store.applied() != position {
            let reason = "the state is not the copy that was being installed";
            return Err(StateError::Damaged { reason }.into());
        }
        let (log, recovered) = self.create_log(position, options.log)?;
        self.remove_marker()?;
        Ok((log, recovered, store))
    }

    fn take_incoming(&self) -> Result<(), IoFailure> {
        let incoming = self.path().join(state_store::INCOMING);
        self.disk().rename(&incoming, &self.store_path()).at("rename", &incoming)?;
        if Bug::IncomingUnsynced.planted() {
            return Ok(());
        }
        self.disk().sync_dir(self.path()).at("sync", self.path())
    }

    fn write_marker(&self, position: &Position) -> Result<(), IoFailure> {
        let body = state_store::encode_position(position);
        let mut bytes = MARKER_MAGIC.to_vec();
        bytes.extend(crc32c::crc32c(&body).to_le_bytes());
        bytes.extend(body);
        assert!(bytes.len() == MARKER_BYTES && decode_marker(&bytes) == Some(*position));
        self.replace_file(MARKER, MARKER_UNFINISHED, &bytes)
    }

    fn read_marker(&self) -> Result<Option<Position>, RecoverError> {
        let path = self.path().join(MARKER);
        match read_whole(self.disk().as_ref(), &path, MARKER_BYTES) {
            Ok(bytes) => decode_marker(&bytes).map(Some).ok_or_else(|| damaged_marker(path)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == ErrorKind::FileTooLarge => Err(damaged_marker(path)),
            Err(source) => Err(IoFailure { operation: "read", path, source }.into()),
        }
    }

    fn remove_marker(&self) -> Result<(), IoFailure> {
        self.remove_file(MARKER)?;
        self.disk().sync_dir(self.path()).at("sync", self.path())
    }
}

fn damaged_marker(path: PathBuf) -> RecoverError {
    DataDirError::Damaged { path, reason: "it does not name a position" }.into()
}

fn decode_marker(bytes: &[u8]) -> Option<Position> {
    let mut fields = Fields(bytes);
    let sound = fields.array::<8>()? == MARKER_MAGIC && fields.u32()? == crc32c::crc32c(bytes.get(12..)?);
    let position = decode_position(&mut fields)?;
    (sound && fields.is_done()).then_some(position)
}

/// Reads a position as [`state_store::encode_position`] writes it.
pub(crate) fn decode_position(fields: &mut Fields<'_>) -> Option<Position> {
    let epoch = fields.epoch()?;
    let lsn = fields.lsn()?;
    Some(Position { epoch, lsn, digest: Digest(fields.array()?) })
}

/// D1: the instances of the counter must agree.
fn compare(own_state: &OwnState, recovered: &Recovered, applied: Position) -> Result<(), RecoverError> {
    let last = recovered.last();
    if Bug::LostWritesIgnored.planted() {
        return Ok(());
    }
    let reason = if applied.lsn > last.lsn {
        "the log ends before the state's position"
    } else if applied.lsn < recovered.base.lsn {
        "the log begins after the state's position"
    } else if recovered.position(applied.lsn) != Some(applied) && !Bug::HistoriesUncompared.planted() {
        "log and state hold different histories"
    } else if last.epoch > own_state.max_epoch.max(own_state.conf.epoch()) {
        "the log is newer than the appliance's own state"
    } else {
        return Ok(());
    };
    Err(RecoverError::LostWrites { reason, log_base: recovered.base, log_last: last, applied })
}

impl From<IoFailure> for RecoverError {
    fn from(failure: IoFailure) -> Self {
        DataDirError::from(failure).into()
    }
}

#[cfg(test)]
mod tests;
