//! Why a witness server does not start, or ended.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::Reason;

/// Why a witness server does not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Choose another port, or stop the program that uses it.
    #[error("port {} on {} is in use by another program", address.port(), address.ip())]
    PortInUse {
        /// Where it was to listen.
        address: SocketAddr,
    },
    /// Correct the address.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where it was to listen.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// Correct the path, or allow this user to write there.
    #[error("cannot use the data directory {}: {source}", directory.display())]
    Directory {
        /// The directory, or the file in it.
        directory: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Stop the other witness server.
    #[error("the data directory {} is used by another witness server", directory.display())]
    Locked {
        /// The directory.
        directory: PathBuf,
    },
    /// Give another directory, or move the file away.
    #[error("{} exists already", file.display())]
    Occupied {
        /// The file.
        file: PathBuf,
    },
    /// Upgrade this program.
    #[error("{} has format {found}, this program knows {known}: it was written by a newer Duet", file.display())]
    NewerFormat {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that this program opens.
        known: u32,
    },
    /// Check the disk; then either restore the file, or move it away: the pairs will refill an empty witness.
    #[error("{} is damaged ({message}): check the disk; nothing was changed", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// End the process, check disk and free space, start again: what a failed flush has left on disk is not
    /// known.
    #[error("the disk of {} failed ({message}): the witness must stop", directory.display())]
    Disk {
        /// The data directory.
        directory: PathBuf,
        /// What failed.
        message: String,
    },
    /// The operating system is out of something.
    #[error("cannot start the witness's writer thread: {source}")]
    Thread {
        /// What the operating system says.
        source: io::Error,
    },
    /// The operating system has no random numbers.
    #[error("{reason}")]
    Randomness {
        /// What it says.
        reason: Reason,
    },
}
