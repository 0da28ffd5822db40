//! Random numbers from one seed (SplitMix64), so that a seed is a schedule.

use std::hash::{BuildHasher, Hasher};
use std::ops::Range;

/// A stream of random numbers.
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A seed that nobody has chosen, short enough to be typed.
    pub fn any_seed() -> u64 {
        std::collections::hash_map::RandomState::new().build_hasher().finish() % 1_000_000
    }

    /// Another stream for a part of its own.
    pub fn fork(&mut self) -> Self {
        Self(self.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// True so many times of a hundred.
    pub fn percent(&mut self, share: u64) -> bool {
        self.within(0..100) < share
    }

    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        let count = u64::try_from(items.len()).expect("a short list");
        items[usize::try_from(self.within(0..count)).expect("an index")]
    }
}
