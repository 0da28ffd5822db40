//! The durable half of one Duet appliance: its log, its state store and its own state.
//!
//! The only crate that touches an appliance's files, and all of them through [`disk::Disk`], so that a simulator can
//! stand in for the world. Two rules hold throughout. A failed write or sync is final: nothing is ever retried, because
//! after a failed sync nobody knows what the disk holds. And nothing is forgotten in silence: what a crash can leave
//! behind is repaired, everything else is reported as damage and left untouched for the peer to mend.
//!
//! Start with [`DataDir`]: [`DataDir::create`] once, then [`DataDir::open`] and [`DataDir::recover`] at every start.

pub mod data_dir;
pub mod disk;
mod failure;
mod fields;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod log;
pub mod own_state;
pub mod planted;
pub mod recovery;
pub mod state_store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use data_dir::{DataDir, DataDirError};
pub use disk::{Disk, DiskFile, RealDisk, StallingDisk};
pub use failure::{IoFailure, words};
pub use log::{Damage, Log, LogError, LogOptions, LogReader, Preparer, ReadError, Recovered, TornTail};
pub use own_state::{OwnStateError, OwnStateFile};
pub use recovery::{Parts, RecoverError, RecoverOptions};
pub use state_store::{
    Batch, CopyMark, ReadySnapshot, RowKey, SnapshotBuilder, StateError, StateReader, StateSizes,
    StateSnapshot, StateStore,
};
