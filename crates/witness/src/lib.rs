//! The witness of a pair: one tiny record, changed only by compare-and-set, and never any user data.
//!
//! [`Register`] is the one trait, over bytes. Its back ends are Duet's own witness server ([`client`],
//! [`server`]), a directory on a shared file system ([`directory`]), and what others made: object stores (`objects`) and
//! etcd (`etcd`), which share the reasoning about answers in `foreign`; [`open()`] picks one from a URL.
//! [`record`] turns the protocol's record into bytes and back. [`conformance`] is the suite that every back
//! end has to pass: a back end that passes it may be trusted with a pair's safety.

mod address;
pub mod check;
pub mod client;
pub mod conformance;
mod credentials;
pub mod directory;
mod etcd;
mod foreign;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod http_names;
mod lineage;
pub mod memory;
pub mod name;
#[cfg(feature = "object-stores")]
mod objects;
pub mod open;
pub mod planted;
pub mod record;
pub mod register;
pub mod server;
mod stored;
pub mod token;

pub use etcd::EtcdAddress;
pub use name::{ClusterName, ClusterNameError};
#[cfg(feature = "object-stores")]
pub use objects::ObjectsAddress;
pub use open::{Access, OpenError, WitnessUrl, open};
pub use record::RecordError;
pub use register::{BoxFuture, ReadOutcome, Reason, Register, Version, WriteOutcome};
pub use token::{Credential, Token};
