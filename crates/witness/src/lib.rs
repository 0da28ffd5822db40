//! The witness of a pair: one tiny record, changed only by compare-and-set, and never any user data.
//!
//! [`Register`] is the one trait, over bytes. Its back ends are Duet's own witness server ([`client`],
//! [`server`]) and a directory on a shared file system ([`directory`]); [`open()`] picks one from a URL.
//! [`record`] turns the protocol's record into bytes and back. [`conformance`] is the suite that every back
//! end has to pass: a back end that passes it may be trusted with a pair's safety.

pub mod client;
pub mod conformance;
pub mod directory;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod http_names;
pub mod memory;
pub mod name;
pub mod open;
pub mod planted;
pub mod record;
pub mod register;
pub mod server;
mod stored;
pub mod token;

pub use name::{ClusterName, ClusterNameError};
pub use open::{Access, OpenError, WitnessUrl, open};
pub use record::RecordError;
pub use register::{BoxFuture, ReadOutcome, Reason, Register, Version, WriteOutcome};
pub use token::{Credential, Token};
