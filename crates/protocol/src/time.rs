//! Time as the core sees it: a reading the driver passes in. The core never asks for it.

pub use core::time::Duration;

/// A reading of the appliance's own monotonic clock, in nanoseconds since an origin of its own.
///
/// The clock must go on while the machine is suspended (`CLOCK_BOOTTIME` on Linux), else a lease could outlive the
/// peer's promise. Readings of two appliances are never compared; only their rates are assumed to be alike
/// (see [`crate::limits::lease`]).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Instant(pub u64);

impl Instant {
    /// This reading and `duration` more; saturates.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The time from `earlier` to this reading; zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}
