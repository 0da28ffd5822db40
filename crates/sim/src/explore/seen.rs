//! The states visited so far, each by 128 bits of hash, with the state it was first reached from.
//!
//! Of n states two share a hash with a probability of about n²/2¹²⁹: for 10⁹ states below 10⁻²⁰. Such a pair would hide one
//! state; nothing would be reported that is not so.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use super::pool::Pool;
use super::world::World;

const NO_PARENT: u32 = u32::MAX;

/// The states visited.
#[derive(Default)]
pub struct Seen {
    prints: Pool<u128>,
    parents: Vec<u32>,
}

impl Seen {
    /// Remembers a state reached from `parent`, which is none for the first. True: it is new.
    pub fn add(&mut self, world: &World, parent: Option<u32>) -> bool {
        let (_, new) = self.prints.intern(print(world));
        if new {
            self.parents.push(parent.unwrap_or(NO_PARENT));
        }
        new
    }

    /// The number of a state.
    pub fn number(&self, world: &World) -> Option<u32> {
        self.prints.find(&print(world))
    }

    /// The way from the first state to this one, by numbers.
    pub fn way_to(&self, state: u32) -> Vec<u32> {
        let mut way = vec![state];
        let mut at = state;
        while self.parents[at as usize] != NO_PARENT {
            at = self.parents[at as usize];
            way.push(at);
        }
        way.reverse();
        way
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.prints.len()
    }
}

fn print(world: &World) -> u128 {
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(salt);
        world.hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(1) << 64 | half(2)
}
