//! What an appliance keeps in memory for its clients, beside the data: when leases run out, the recent events, how far each
//! watch is, which reads share a question to the primary.
//!
//! Pure: no clock, no task, no socket. The server drives it with its own clock and tasks, the simulation with simulated time,
//! so what is judged there is what runs here.

mod cursor;
mod event_ring;
mod interests;
mod lease_timers;
pub mod planted;
mod read_rounds;

pub use cursor::{Cursor, Piece};
pub use event_ring::{AppliedBatch, EventRing, News, Pulled, RingLimits, by_revision};
pub use interests::Interests;
pub use lease_timers::{LEASE_TICK, LeaseTimers};
pub use read_rounds::{Entered, ReadRounds};
