//! One running Duet appliance: the machine room around the protocol core, and the client API on top of it.
//!
//! The only crate with threads and sockets. [`Server`] starts and ends an appliance, [`Handle`] is the door between the
//! client API (grpc, http, watches, leases) and the machine room (driver, log, state, peer, witness). The driver decides
//! nothing: what is to be done is decided by `duet_protocol` alone.

pub mod clock;
pub mod config;
pub mod error;
mod etcd_snapshot;
pub mod handle;
pub mod http;
pub mod status_report;

// The machine room.
mod data;
mod driver;
pub mod failpoint;
mod fatal;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod inbox;
mod init;
mod log_writer;
mod metrics;
mod peer;
mod progress;
mod publisher;
mod run;
mod secondary_reads;
mod space;
mod state;
mod tail;
mod threads;
mod waiters;
mod witness_port;

// The client API.
mod auth;
mod auto_compaction;
pub mod client_limits;
pub mod client_port;
pub mod grpc;
pub mod lease_clock;
pub mod watch_hub;

pub use auth::{AuthOptions, JwtKeys, OptionError, TokenKind};
pub use config::Config;
pub use duet_serving::AppliedBatch;
pub use error::{ExitReason, InitError, NotPrimary, StartError, WriteError};
pub use handle::{Handle, Identity, ReadGuard, View};
pub use init::{InitReport, init};
pub use run::Server;
pub use status_report::StatusReport;
