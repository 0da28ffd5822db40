//! The connection between the two appliances.
//!
//! Who dials: A dials B's `peer_listen` and keeps one connection for the protocol's messages; there is never a second one to
//! choose from. B replaces a connection by a newer one of A. Two rare errands use connections of their own, dialled by whoever
//! needs them: a whole copy of the state (by the primary), and a blank appliance's question which pair this is.
//! The transport is made of plain blocking threads, not of the async runtime: heartbeats do not queue behind clients'
//! requests, and one read of the socket wakes one thread.
//!
//! Every connection begins with a [`hello`]; a frame is length, checksum and body ([`frame`]); [`codec`] has the bodies.

pub(crate) mod board;
pub(crate) mod codec;
pub(crate) mod copy;
pub(crate) mod fields;
pub(crate) mod frame;
pub(crate) mod hello;
pub(crate) mod link;
pub(crate) mod outbox;
