//! Exhaustive exploration of the pair protocol: the real core, two appliances, the witness's register, and a network that
//! loses, delays, doubles and reorders.
//!
//! A state of the world is a handful of numbers: each appliance, message, record and history is held once in a pool, and
//! what an appliance does in a given state with a given stimulus is computed once. Rules are tried at any time through
//! `Appliance::attempt`; the duties (when to try what) take no part, so what holds here holds under any policy.
//!
//! Two more things befall the world besides: what a disk may do while its appliance is down, and the witness's own mishaps
//! (misfortune.rs). From every situation reached the duties must lead to service when nothing fails any more (situations.rs).
//!
//! What is covered: entries lost or kept at a crash unless reported durable, truncations undone by a crash, own states lost
//! or kept, compare-and-sets applied at once, late or never with their answers lost or late, late reads of the witness,
//! messages of former lives, promises and leases run out at any time. The oracle is in oracle.rs.

mod arrival;
mod calm;
mod campaign;
mod coverage;
mod drive;
mod explorer;
mod misfortune;
mod node;
mod oracle;
mod pool;
mod register;
mod search;
mod seen;
mod sights;
mod situations;
mod start;
mod tamper;
#[cfg(test)]
mod tests;
mod trace;
mod walk;
mod world;

pub use campaign::{Campaign, DEEP, Outcome, QUICK};
pub use coverage::Coverage;
pub use explorer::Explorer;
pub use search::{Found, Limits, Report, Search};
pub use situations::{Situations, WaysOut};
pub use tamper::Tamper;
pub use world::{Bounds, Start, World};
