//! What can go wrong at this crate's edges: one enum for each, its variants named by what the caller must do.

use std::path::PathBuf;

/// Why a write got no answer of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WriteError {
    /// It was never appended: safe to try at the other appliance.
    #[error("this appliance is not the primary")]
    NotPrimary,
    /// It may or may not come to be: never to be repeated on the client's behalf.
    #[error("the outcome of the write is unknown")]
    Unknown,
    /// It was never appended: too many writes wait already.
    #[error("too many writes are waiting")]
    Overloaded,
    /// It was never appended: this appliance is shutting down.
    #[error("this appliance is stopping")]
    Stopping,
    /// It was never appended: its command is larger than the log takes.
    #[error("the write is too large")]
    TooLarge,
}

/// Linearizable reads may not be answered here now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("this appliance may not answer linearizable reads now")]
pub struct NotPrimary;

/// Why `duet init` did nothing, or not all.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The pair exists already.
    #[error(
        "this pair already exists at the witness (cluster {cluster}): start this appliance without init; it will copy \
         from its peer"
    )]
    PairExists {
        /// Cluster id in the record.
        cluster: String,
    },
    /// The data directory belongs to a pair that exists, but the witness has no record of it.
    #[error(
        "the data directory {path} already holds data of cluster {cluster} that has been in use, but the witness has no \
         record for it: init is for new pairs only"
    )]
    InUse {
        /// The data directory.
        path: PathBuf,
        /// Its cluster id.
        cluster: String,
    },
    /// The directory is of another cluster or appliance.
    #[error(transparent)]
    WrongData(#[from] WrongData),
    /// The witness did not answer, so nobody knows whether the pair exists. Init may be repeated.
    #[error(
        "the witness {witness} cannot be used: {reason}; nothing was decided, run init again when it answers"
    )]
    Witness {
        /// Where it is.
        witness: String,
        /// What went wrong.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("data directory {path}: {reason}")]
    Storage {
        /// The data directory.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
}

impl InitError {
    /// What to do about it, where the error itself does not say so.
    pub const fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Witness { .. } => {
                Some("Check that the witness runs and that its address in the configuration is right.")
            }
            Self::WrongData(_) => Some("Correct `data`, `cluster` or `appliance` in the configuration."),
            Self::Storage { .. } => Some("Nothing was lost; correct the cause and run init again."),
            Self::PairExists { .. } | Self::InUse { .. } => None,
        }
    }
}

/// The data directory belongs to something else.
#[derive(Debug, thiserror::Error)]
pub enum WrongData {
    /// Another cluster's name.
    #[error("the data directory {path} belongs to cluster \"{found}\", the configuration says \"{wanted}\"")]
    Cluster {
        /// The data directory.
        path: PathBuf,
        /// In the data.
        found: String,
        /// In the configuration.
        wanted: String,
    },
    /// The other appliance's letter.
    #[error("the data directory {path} belongs to appliance {found}, the configuration says {wanted}")]
    Appliance {
        /// The data directory.
        path: PathBuf,
        /// In the data.
        found: duet_protocol::ApplianceId,
        /// In the configuration.
        wanted: duet_protocol::ApplianceId,
    },
}

/// Why an appliance did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory is of another cluster or appliance.
    #[error(transparent)]
    WrongData(#[from] WrongData),
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({what}): {reason}")]
    Listen {
        /// The configured address.
        address: String,
        /// `client_listen` or `peer_listen`.
        what: &'static str,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The witness's configuration is unusable.
    #[error("witness {witness}: {reason}")]
    Witness {
        /// Where it is.
        witness: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file could not be read or written, or is damaged beyond what the appliance may mend by itself.
    #[error("data directory {path}: {reason}")]
    Storage {
        /// The data directory.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// A thread could not be started.
    #[error("cannot start the {name} thread: {reason}")]
    Thread {
        /// Which one.
        name: &'static str,
        /// What the system said.
        reason: std::io::Error,
    },
}

impl StartError {
    /// What to do about it, where the error itself does not say so.
    pub const fn advice(&self) -> Option<&'static str> {
        match self {
            Self::WrongData(_) => Some("Correct `data`, `cluster` or `appliance` in the configuration."),
            Self::Listen { .. } => Some("Stop the program that uses the port, or configure another one."),
            Self::Witness { .. } => Some("Correct `witness` in the configuration."),
            Self::Storage { .. } => {
                Some("Nothing on the disk was changed by this; correct the cause and start again.")
            }
            Self::Thread { .. } => Some("Raise the limit on threads or processes for this user."),
        }
    }
}

/// Why a server's life ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExitReason {
    /// The soft shutdown is complete.
    Stopped,
    /// Something failed that an appliance does not survive; the process must end with a non-zero code.
    Fatal(String),
}
