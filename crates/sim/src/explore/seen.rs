//! The states visited so far, each by 128 bits of hash, with the state it was first reached from.
//!
//! Of n states two share a hash with a probability of about n²/2¹²⁹: for 10⁹ states below 10⁻²⁰. Such a pair would hide one
//! state; nothing would be reported that is not so.
//!
//! A state from which less may still happen than from one visited before, all else being equal, is not visited again:
//! whatever it leads to, the other leads to as well. More left never forbids anything; the explorer's `left` is only
//! counted down.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use super::pool::Pool;
use super::world::{Left, World};

const NONE: u32 = u32::MAX;

/// The states visited.
#[derive(Default)]
pub struct Seen {
    /// States apart from what is left, by their hashes.
    prints: Pool<u128>,
    /// The state visited last of each print.
    latest: Vec<u32>,
    states: Vec<State>,
}

/// A state visited.
struct State {
    left: Left,
    /// The one visited before it that differs in nothing but what is left.
    earlier: u32,
    parent: u32,
}

impl Seen {
    /// Remembers a state reached from `parent`, which is none for the first. True: it is new, and no state visited before
    /// leads to everything it leads to.
    pub fn add(&mut self, world: &World, parent: Option<u32>) -> bool {
        let (print, new) = self.prints.intern(print(world));
        let left = Left::of(&world.left);
        if new {
            self.latest.push(NONE);
        } else if self.alike(print).any(|state| self.states[state as usize].left.covers(left)) {
            return false;
        }
        let number = u32::try_from(self.states.len()).unwrap_or(NONE);
        assert!(number < NONE, "too many states to number");
        let earlier = std::mem::replace(&mut self.latest[print as usize], number);
        self.states.push(State { left, earlier, parent: parent.unwrap_or(NONE) });
        true
    }

    /// The number of a state.
    pub fn number(&self, world: &World) -> Option<u32> {
        let print = self.prints.find(&print(world))?;
        let left = Left::of(&world.left);
        self.alike(print).find(|&state| self.states[state as usize].left == left)
    }

    /// The states of one print, the latest first.
    fn alike(&self, print: u32) -> impl Iterator<Item = u32> {
        let some = |state: u32| (state != NONE).then_some(state);
        let earlier = move |&state: &u32| some(self.states[state as usize].earlier);
        std::iter::successors(some(self.latest[print as usize]), earlier)
    }

    /// The way from the first state to this one, by numbers.
    pub fn way_to(&self, state: u32) -> Vec<u32> {
        let some = |state: u32| (state != NONE).then_some(state);
        let parent = |&at: &u32| some(self.states[at as usize].parent);
        let mut way: Vec<_> = std::iter::successors(Some(state), parent).collect();
        way.reverse();
        way
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.states.len()
    }
}

/// The hash of a state apart from what is left.
fn print(world: &World) -> u128 {
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(salt);
        world.hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(1) << 64 | half(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explore::world::{Bounds, MOST_MESSAGES};

    fn world(node: u32, left: Bounds) -> World {
        World {
            nodes: [node, 0],
            witness: 0,
            history: 0,
            net: [[u32::MAX; MOST_MESSAGES]; 2],
            left: Bounds { messages: 1, ..left },
        }
    }

    #[test]
    fn a_state_with_less_left_than_one_visited_is_not_new() {
        let bounds = |crashes, late| Bounds { crashes, late, ..Bounds::NONE };
        let mut seen = Seen::default();
        assert!(seen.add(&world(1, bounds(2, 1)), None));
        assert!(!seen.add(&world(1, bounds(2, 1)), Some(0)), "the same");
        assert!(!seen.add(&world(1, bounds(1, 1)), Some(0)), "a crash less");
        assert!(seen.add(&world(1, bounds(1, 2)), Some(0)), "a crash less, but another late write");
        assert!(seen.add(&world(2, bounds(1, 1)), Some(0)), "another appliance state");
        assert!(!seen.add(&world(1, bounds(0, 2)), Some(2)), "less than the second");
        assert!(seen.add(&world(1, bounds(3, 3)), Some(1)), "more than all");
        assert_eq!(seen.len(), 4);
        assert_eq!(seen.number(&world(1, bounds(1, 2))), Some(1));
        assert_eq!(seen.number(&world(1, bounds(1, 1))), None);
        assert_eq!(seen.way_to(3), [0, 1, 3]);
    }

    #[test]
    fn a_state_with_fewer_writes_left_is_another_one() {
        let bounds = |writes| Bounds { writes, crashes: 1, ..Bounds::NONE };
        let mut seen = Seen::default();
        assert!(seen.add(&world(1, bounds(2)), None));
        assert!(seen.add(&world(1, bounds(1)), Some(0)), "the next write is another write");
    }
}
