//! Deterministic simulation of the pair in simulated time: the real core with its policy, driven only by `step` and
//! `next_deadline`, among clocks that drift, disks that lose what was not synced, a network that cuts and delays, a
//! witness that answers late or never, and clients that write and read.
//!
//! One seed is one run. Each has a safety phase, with faults, and a liveness phase, in which everything is healed and the
//! pair must converge. An oracle that sees everything judges every step.

mod changes;
mod clients;
mod clock;
mod damage;
mod digest;
mod disk;
mod driver;
mod event;
mod faults;
mod glance;
mod handling;
mod hub;
mod kept;
mod leases;
mod life;
mod link;
mod machine;
mod marks;
mod observe;
mod operation;
mod options;
mod oracle;
mod random;
mod readers;
mod record;
mod recorder;
mod relocation;
mod run;
mod schedule;
mod secondary_reads;
mod shrink;
mod state;
mod storage;
mod tail;
mod threads;
mod translate;
mod watchers;
mod witness;
mod witness_port;
mod workload;
mod world;

pub use clock::{Clock, MICRO, MILLI, MOST_DRIFT, SECOND, Time};
pub use marks::{Mark, Marks};
pub use options::{Fault, Lossy, Options};
pub use random::Random;
pub use record::Record;
pub use run::{Outcome, replay, replay_traced, run, run_traced};
pub use schedule::{Scheduled, Step};
pub use shrink::shrink;
pub use witness::{Answer, Ask, Fate, Request};
pub use world::{MessageFilter, Promotion, WitnessFilter, World};
