//! The appliance: all volatile and durable state of the core, and its one door.

use alloc::vec::Vec;

use crate::log_index::RecoveredLog;
use crate::status::Status;
use crate::{Effect, Input, Instant, Lsn, OwnState};

/// One appliance of a pair. See the crate's documentation for the contract.
pub struct Appliance;

impl Appliance {
    /// An appliance after a start of its process. `life` differs for every start; `applied` is what the state machine's
    /// checkpoint holds.
    pub fn recover(life: u64, own: OwnState, log: RecoveredLog, applied: Lsn, now: Instant) -> Self {
        let _ = (life, own, log, applied, now);
        Self
    }

    /// Something happened at `now`: appends to `effects` what is to be done.
    pub fn step(&mut self, now: Instant, input: Input, effects: &mut Vec<Effect>) {
        let _ = (now, input, effects);
    }

    /// When `Input::Tick` is due at the latest.
    pub fn next_deadline(&self) -> Instant {
        Instant(u64::MAX)
    }

    /// What a person may know.
    pub fn status(&self) -> Status {
        unimplemented!("being written")
    }
}
