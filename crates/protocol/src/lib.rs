//! The pair protocol of one Duet appliance, as a pure state machine.
//!
//! `#![no_std]`: no clock, file, socket, thread or random number can be named here. [`Appliance::step`] is the only door:
//! what happened goes in as an [`Input`], what is to be done comes out as [`Effect`]s. docs/protocol.md has the rules and
//! numbers the invariants (P1, P2, ...) that are cited here.
#![no_std]

extern crate alloc;

mod agreement;
pub mod appliance;
pub mod conf;
pub mod decision;
mod duties;
pub mod effect;
pub mod entitlement;
mod establish;
pub mod explore;
pub mod ids;
pub mod input;
mod invariants;
mod lease;
pub mod limits;
pub mod log_index;
pub mod message;
pub mod own_state;
pub mod planted;
pub mod position;
mod relocation;
mod replication;
mod role;
mod shutdown;
pub mod status;
pub mod time;
pub mod witness_record;

pub use appliance::{Action, Appliance};
pub use conf::Conf;
pub use effect::{Effect, ReadPermit};
pub use ids::{ApplianceId, ClusterId, Digest, DiskId, Epoch, Lsn, PerAppliance, WitnessId};
pub use input::{Input, WitnessRead, WitnessWrite};
pub use log_index::{LogIndex, RecoveredLog, Stamp};
pub use message::{Acknowledge, AppendHeader, Firm, Heartbeat, Message, Proposal, ReadIndex, ReadQuestion};
pub use own_state::OwnState;
pub use position::{Entry, Position};
pub use role::Agreement;
pub use status::{PeerStatus, RoleName, Status};
pub use time::{Duration, Instant};
pub use witness_record::{Note, WitnessRecord};
