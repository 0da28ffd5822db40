//! The one clock of an appliance: `CLOCK_BOOTTIME`, which goes on while the machine is suspended and is never set back.
//!
//! A lease may not outlive the peer's promise, so a clock that stands still during a suspend would be unsafe (promise S2).

use duet_protocol::Instant;
use rustix::time::{ClockId, clock_gettime};

const NANOSECONDS_PER_SECOND: u64 = 1_000_000_000;

/// The time now, in nanoseconds since the machine was booted.
pub fn now() -> Instant {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    Instant(seconds.saturating_mul(NANOSECONDS_PER_SECOND).saturating_add(nanoseconds))
}

/// The time from now to `deadline`; zero when it has passed.
pub fn until(deadline: Instant) -> std::time::Duration {
    deadline.since(now())
}
