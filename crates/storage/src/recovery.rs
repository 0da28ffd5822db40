//! Putting the parts together at a start, and replacing them by a copy from the peer.

use duet_protocol::OwnState;
use duet_protocol::Position;

use crate::{
    data_dir::{DataDir, DataDirError},
    failure::IoFailure,
    log::{Log, LogError, LogOptions, Recovered},
    own_state::{OwnStateError, OwnStateFile},
    state_store::{ReadySnapshot, SnapshotBuilder, StateError, StateStore},
};

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
    #[error("writes were lost: {reason} (log {log_base} to {log_last}, state {applied})")]
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
    /// A file operation failed.
    #[error("the data directory failed: {0}")]
    Failed(#[source] IoFailure),
}

impl DataDir {
    /// Opens everything, completes an installation that a crash cut short, removes leftovers, and compares the parts.
    ///
    /// # Errors
    /// See [`RecoverError`]; on damage nothing was changed on disk.
    pub fn recover(&self, options: RecoverOptions) -> Result<Parts, RecoverError> {
        let _ = options;
        unimplemented!()
    }

    /// Begins to receive a copy of the peer's state beside the present one.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn receive_snapshot(&self) -> Result<SnapshotBuilder, StateError> {
        unimplemented!()
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
        let _ = (ready, store, log);
        unimplemented!()
    }

    /// The same for a directory whose log or state is damaged and cannot be opened: [`DataDir::recover`] afterwards opens
    /// the copy. Only the own state must be sound.
    ///
    /// # Errors
    /// See [`RecoverError`].
    pub fn install_over_damage(
        &self,
        ready: ReadySnapshot,
        options: RecoverOptions,
    ) -> Result<Parts, RecoverError> {
        let _ = (ready, options);
        unimplemented!()
    }
}
