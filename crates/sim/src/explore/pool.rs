//! Values held once and named by a number, and a fast hash for small keys.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// A multiplicative hash; keys here are small and not chosen by an enemy.
#[derive(Default, Clone, Copy)]
pub struct QuickHasher(u64);

const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

impl Hasher for QuickHasher {
    fn finish(&self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(FACTOR);
        let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(FACTOR);
        mixed ^ (mixed >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(FACTOR);
        self.0 ^= self.0 >> 31;
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}

/// A map with that hash.
pub type QuickMap<K, V> = HashMap<K, V, BuildHasherDefault<QuickHasher>>;

/// The hash of one value.
pub fn quick_hash<T: Hash>(value: &T) -> u64 {
    let mut hasher = QuickHasher::default();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Values held once. Found again by their hash and an exact comparison.
pub struct Pool<T> {
    values: Vec<T>,
    index: Index,
}

impl<T: Hash + Eq> Default for Pool<T> {
    fn default() -> Self {
        Self { values: Vec::new(), index: Index::default() }
    }
}

impl<T: Hash + Eq> Pool<T> {
    /// The number of `value`; true when it is new.
    pub fn intern(&mut self, value: T) -> (u32, bool) {
        let hash = quick_hash(&value);
        let values = &self.values;
        if let Some(found) = self.index.find(hash, |number| values[number as usize] == value) {
            return (found, false);
        }
        let number = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
        assert!(number < u32::MAX, "the pool is full");
        self.values.push(value);
        self.index.add(hash, number);
        (number, true)
    }

    /// The number of a value that is held.
    pub fn find(&self, value: &T) -> Option<u32> {
        self.index.find(quick_hash(value), |number| self.values[number as usize] == *value)
    }

    /// The value of a number.
    pub fn get(&self, number: u32) -> &T {
        &self.values[number as usize]
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// An open-addressing table of numbers, each with a part of its hash; whoever owns the values compares them.
#[derive(Default)]
struct Index {
    slots: Vec<Slot>,
    used: usize,
}

#[derive(Clone, Copy)]
struct Slot {
    hash: u32,
    number: u32,
}

const EMPTY: Slot = Slot { hash: 0, number: u32::MAX };

/// The part of a hash that is kept.
const fn kept(hash: u64) -> u32 {
    (hash >> 32) as u32
}

impl Index {
    fn place(&self, hash: u32) -> usize {
        hash as usize & (self.slots.len() - 1)
    }

    fn find(&self, hash: u64, same: impl Fn(u32) -> bool) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let hash = kept(hash);
        let mut place = self.place(hash);
        loop {
            let slot = self.slots[place];
            if slot.number == EMPTY.number {
                return None;
            }
            if slot.hash == hash && same(slot.number) {
                return Some(slot.number);
            }
            place = (place + 1) & (self.slots.len() - 1);
        }
    }

    fn add(&mut self, hash: u64, number: u32) {
        if (self.used + 1) * 3 > self.slots.len() * 2 {
            let old = std::mem::take(&mut self.slots);
            self.slots = vec![EMPTY; (old.len() * 2).max(1024)];
            for slot in old.into_iter().filter(|slot| slot.number != EMPTY.number) {
                self.put(slot);
            }
        }
        self.put(Slot { hash: kept(hash), number });
        self.used += 1;
    }

    fn put(&mut self, slot: Slot) {
        let mut place = self.place(slot.hash);
        while self.slots[place].number != EMPTY.number {
            place = (place + 1) & (self.slots.len() - 1);
        }
        self.slots[place] = slot;
    }
}
