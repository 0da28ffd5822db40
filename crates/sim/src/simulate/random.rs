//! The one source of chance: xoshiro256**, seeded by splitmix64. The same seed gives the same run.

/// A seeded generator.
#[derive(Clone, Debug)]
pub struct Random {
    state: [u64; 4],
}

impl Random {
    /// The generator of this seed.
    pub fn new(seed: u64) -> Self {
        let mut x = seed;
        let state = core::array::from_fn(|_| {
            x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = x;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        });
        Self { state }
    }

    /// 64 random bits.
    pub const fn bits(&mut self) -> u64 {
        let result = self.state[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = self.state[1] << 17;
        self.state[2] ^= self.state[0];
        self.state[3] ^= self.state[1];
        self.state[1] ^= self.state[2];
        self.state[0] ^= self.state[3];
        self.state[2] ^= t;
        self.state[3] = self.state[3].rotate_left(45);
        result
    }

    /// A number below `bound` (which is not zero).
    pub const fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below zero");
        self.bits() % bound
    }

    /// A number of `range`, both ends included.
    pub const fn within(&mut self, range: (u64, u64)) -> u64 {
        assert!(range.0 <= range.1, "a range goes upwards");
        range.0 + self.below(range.1 - range.0 + 1)
    }

    /// True `per_mille` times in a thousand.
    pub const fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// A number of `range`, every order of magnitude alike: short times matter as much as long ones.
    pub fn spread(&mut self, range: (u64, u64)) -> u64 {
        let (low, high) = (range.0.max(1), range.1.max(1));
        let doublings = u64::from((high / low).max(1).ilog2()) + 1;
        let floor = low << self.below(doublings);
        let top = floor.saturating_mul(2).min(high);
        self.within((floor.min(top), top))
    }

    /// One of the items.
    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        let index = self.below(items.len() as u64);
        items[usize::try_from(index).expect("the index of an item")]
    }
}
