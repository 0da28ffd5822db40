//! World time and the appliances' own clocks, which start anywhere and run a little too fast or too slow.

use duet_protocol::Instant;

/// World time in nanoseconds since the start of the run. Only the simulation knows it.
pub type Time = u64;

/// A microsecond of world time.
pub const MICRO: Time = 1_000;
/// A millisecond of world time.
pub const MILLI: Time = 1_000_000;
/// A second of world time.
pub const SECOND: Time = 1_000_000_000;

/// The most a clock's rate may be off, in parts per million. Two of them differ by just under the 1 % that
/// `CLOCK_DRIFT_DIVISOR` allows for.
pub const MOST_DRIFT: i64 = 4_950;

const MILLION: i128 = 1_000_000;

/// One appliance's monotonic clock.
#[derive(Clone, Debug)]
pub struct Clock {
    world: Time,
    reading: u64,
    drift: i64,
}

impl Clock {
    /// A clock that shows `reading` at `world` and runs off by `drift` parts per million.
    pub const fn new(world: Time, reading: u64, drift: i64) -> Self {
        assert!(drift.abs() <= MOST_DRIFT, "the clock assumption");
        Self { world, reading, drift }
    }

    /// What it shows at `world`.
    pub fn read(&self, world: Time) -> Instant {
        let passed = i128::from(world - self.world);
        let shown = passed * (MILLION + i128::from(self.drift)) / MILLION;
        Instant(self.reading + u64::try_from(shown).expect("a clock does not run backwards"))
    }

    /// The first world time at which it shows `reading` or more.
    pub fn when(&self, reading: Instant) -> Time {
        let ahead = i128::from(reading.0.saturating_sub(self.reading));
        let rate = MILLION + i128::from(self.drift);
        let passed = (ahead * MILLION + rate - 1) / rate;
        self.world.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    /// From `world` on it runs off by `drift` parts per million.
    pub fn retune(&mut self, world: Time, drift: i64) {
        *self = Self::new(world, self.read(world).0, drift);
    }
}
