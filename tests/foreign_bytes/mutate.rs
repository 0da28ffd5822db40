//! Bytes that are nearly right: valid samples with a few changes, the same ones in every run.

/// Numbers that lengths, counts and counters go wrong with.
const NUMBERS: [u64; 12] =
    [0, 1, 2, 0x7f, 0x80, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 0x4000_0000, i64::MAX as u64, u64::MAX];

/// Characters that texts are built of.
const SIGNS: &[u8] = b"\"\\{}[]:,=.#'/ \n\t\0-+eE019A@%";

/// Makes such bytes.
pub struct Mutator {
    samples: Vec<Vec<u8>>,
    seed: u64,
}

impl Mutator {
    pub fn new(samples: Vec<Vec<u8>>, seed: u64) -> Self {
        assert!(!samples.is_empty(), "something to begin with");
        Self { samples, seed }
    }

    /// A number below `bound`, which is above zero (SplitMix64).
    fn below(&mut self, bound: usize) -> usize {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.seed;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % bound as u64).unwrap()
    }

    fn sample(&mut self) -> Vec<u8> {
        let index = self.below(self.samples.len());
        self.samples[index].clone()
    }

    /// The next bytes: one time in eight nothing but noise.
    pub fn next(&mut self) -> Vec<u8> {
        if self.below(8) == 0 {
            let length = self.below(200);
            let mask = if self.below(2) == 0 { 0xff } else { 0x1f };
            return (0..length).map(|_| self.byte() & mask).collect();
        }
        let mut bytes = self.sample();
        for _ in 0..=self.below(4) {
            self.change(&mut bytes);
        }
        bytes
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len() + 1);
        let to = at + self.below(bytes.len() - at + 1);
        match self.below(10) {
            0 => self.flip(bytes),
            1 => bytes.truncate(at),
            2 => drop(bytes.drain(at..to)),
            3 => {
                let part = bytes[at..to].to_vec();
                bytes.splice(at..at, part);
            }
            4 => {
                let other = self.sample();
                let from = self.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            5 => bytes.insert(at, SIGNS[self.below(SIGNS.len())]),
            6 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = SIGNS[self.below(SIGNS.len())];
                }
            }
            _ => self.lie(bytes, at),
        }
    }

    fn flip(&mut self, bytes: &mut [u8]) {
        if !bytes.is_empty() {
            let bit = self.below(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    /// Overwrites a number of one, two, four or eight bytes, by one that is special or near the one before.
    fn lie(&mut self, bytes: &mut [u8], at: usize) {
        let width = 1 << self.below(4);
        let Some(field) = bytes.get_mut(at..at + width) else { return };
        let mut old = [0; 8];
        old[..width].copy_from_slice(field);
        let number = match self.below(3) {
            0 => u64::from_le_bytes(old).wrapping_add(1),
            1 => u64::from_le_bytes(old).wrapping_sub(1),
            _ => NUMBERS[self.below(NUMBERS.len())],
        };
        field.copy_from_slice(&number.to_le_bytes()[..width]);
        if self.below(4) == 0 {
            field.reverse();
        }
    }
}
