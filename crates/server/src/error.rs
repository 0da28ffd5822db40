//! What can go wrong at this crate's edges: one enum for each, its variants named by what the caller must do.

use std::io::{self, ErrorKind};
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
    #[error("this pair already exists at the witness (cluster {cluster})")]
    PairExists {
        /// Cluster id in the record.
        cluster: String,
    },
    /// The data directory belongs to a pair that exists, but the witness has no record of it.
    #[error(
        "the data directory {path} already holds data of cluster {cluster} that has been in use, but the witness has no \
         record of it"
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
    /// The data directory cannot be used.
    #[error("{reason}")]
    Storage {
        /// What went wrong, and where.
        reason: String,
        /// What can be done about it.
        remedy: Remedy,
    },
}

/// What a person can do about a data directory that cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remedy {
    /// The cause is outside of the data: a permission, a full disk, another process.
    CorrectTheCause,
    /// What is stored is damaged or incomplete, and only the peer has it whole.
    CopyFromPeer,
}

impl Remedy {
    const fn advice(self) -> &'static str {
        match self {
            Self::CorrectTheCause => {
                "Nothing on the disk was changed by this; correct the cause and start again."
            }
            Self::CopyFromPeer => {
                "Nothing was changed. If the peer is in service: move this directory away and start with an empty one; \
                 everything is copied from the peer."
            }
        }
    }
}

impl InitError {
    /// What to do about it, where the error itself does not say so.
    pub const fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Witness { .. } => {
                Some("Check that the witness runs and that its address in the configuration is right.")
            }
            Self::WrongData(_) => Some("Correct `data`, `cluster` or `appliance` in the configuration."),
            Self::Storage { remedy, .. } => Some(remedy.advice()),
            Self::PairExists { .. } => {
                Some("Start this appliance without init: it will copy everything from its peer.")
            }
            Self::InUse { .. } => Some(
                "Init is for new pairs only: start the appliance with `duet serve`; the pair makes a new record by itself.",
            ),
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
    #[error("cannot listen on {address} ({what}): {}", in_words(reason))]
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
    #[error("{reason}")]
    Storage {
        /// What went wrong, and where.
        reason: String,
        /// What can be done about it.
        remedy: Remedy,
    },
    /// A thread could not be started.
    #[error("cannot start the {name} thread: {}", in_words(reason))]
    Thread {
        /// Which one.
        name: &'static str,
        /// What the system said.
        reason: std::io::Error,
    },
}

impl StartError {
    /// What to do about it, where the error itself does not say so.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::WrongData(_) => Some("Correct `data`, `cluster` or `appliance` in the configuration."),
            Self::Listen { reason, .. } => Some(match reason.kind() {
                ErrorKind::AddrInUse => "Stop the program that uses the port, or configure another one.",
                ErrorKind::PermissionDenied => {
                    "Configure a port above 1023, or allow this user to use this one."
                }
                _ => "Configure an address of this machine; 0.0.0.0 stands for all of them.",
            }),
            Self::Witness { .. } => Some("Correct `witness` in the configuration."),
            Self::Storage { remedy, .. } => Some(remedy.advice()),
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

/// Says in plain words why the network or the system refused.
pub(crate) fn in_words(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => "the address is in use by another program".to_owned(),
        ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
        ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "no answer in time".to_owned(),
        _ => duet_storage::words(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_fits_the_cause_and_nobody_reads_numbers() {
        // EACCES, EADDRINUSE, EADDRNOTAVAIL
        for (number, said, advice) in [
            (13, "denied", "1023"),
            (98, "in use", "Stop the program"),
            (99, "does not have", "of this machine"),
        ] {
            let reason = io::Error::from_raw_os_error(number);
            let error =
                StartError::Listen { address: "192.0.2.1:1".to_owned(), what: "client_listen", reason };
            let told = error.to_string();
            assert!(told.contains(said) && !told.contains("os error"), "{told}");
            assert!(error.advice().is_some_and(|told| told.contains(advice)), "{:?}", error.advice());
        }
        let storage = |remedy| StartError::Storage { reason: "the log is damaged".to_owned(), remedy };
        assert!(storage(Remedy::CopyFromPeer).advice().is_some_and(|told| told.contains("from the peer")));
        assert_ne!(storage(Remedy::CopyFromPeer).advice(), storage(Remedy::CorrectTheCause).advice());
        assert!(InitError::PairExists { cluster: "7".to_owned() }.advice().is_some());
    }
}
