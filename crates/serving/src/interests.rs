//! Who watches which keys.

use std::collections::HashMap;

use bytes::Bytes;
use duet_mvcc::KeyRange;

/// Up to so many keys are compared one by one, which is quicker than to hash the key of an event: a stream with a watch or two
/// looks at every event since it was last told, and few of them concern it.
const FEW_KEYS: usize = 8;

/// Who watches which keys. Looking up an event costs a hash lookup, or some comparisons, and a walk over the ranges.
#[derive(Debug)]
pub struct Interests<T> {
    keys: HashMap<Bytes, Vec<T>>,
    ranges: Vec<(KeyRange, T)>,
}

impl<T> Default for Interests<T> {
    fn default() -> Interests<T> {
        Interests { keys: HashMap::new(), ranges: Vec::new() }
    }
}

impl<T: Copy + PartialEq> Interests<T> {
    /// Adds one interest.
    pub fn insert(&mut self, range: &KeyRange, who: T) {
        match range {
            KeyRange::Single(key) => self.keys.entry(key.clone()).or_default().push(who),
            KeyRange::From(_) | KeyRange::Between(..) => self.ranges.push((range.clone(), who)),
        }
    }

    /// Takes one interest back.
    pub fn remove(&mut self, range: &KeyRange, who: T) {
        match range {
            KeyRange::Single(key) => {
                if let Some(watchers) = self.keys.get_mut(key) {
                    if let Some(position) = watchers.iter().position(|other| *other == who) {
                        watchers.swap_remove(position);
                    }
                    if watchers.is_empty() {
                        self.keys.remove(key);
                    }
                }
            }
            KeyRange::From(_) | KeyRange::Between(..) => {
                let found = self.ranges.iter().position(|(other, watcher)| *watcher == who && other == range);
                if let Some(position) = found {
                    self.ranges.swap_remove(position);
                }
            }
        }
    }

    /// Takes back all of one party's interests; `ranges` are theirs.
    pub fn remove_all(&mut self, ranges: &[KeyRange], who: T) {
        for range in ranges {
            if matches!(range, KeyRange::Single(_)) {
                self.remove(range, who);
            }
        }
        self.ranges.retain(|(_, other)| *other != who);
    }

    /// Everyone interested in `key`, in no particular order.
    pub fn of<'a>(&'a self, key: &'a Bytes) -> impl Iterator<Item = T> + 'a {
        let single = if self.keys.len() <= FEW_KEYS {
            self.keys.iter().find_map(|(other, watchers)| (other == key).then_some(watchers))
        } else {
            self.keys.get(key)
        };
        let single = single.into_iter().flatten().copied();
        let ranges = self.ranges.iter().filter(|(range, _)| range.contains(key)).map(|(_, who)| *who);
        single.chain(ranges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interests_are_found_by_key_and_by_range() {
        let mut interests = Interests::default();
        let single = KeyRange::new(Bytes::from_static(b"a"), Bytes::new());
        let range = KeyRange::new(Bytes::from_static(b"a"), Bytes::from_static(b"b"));
        interests.insert(&single, 1);
        interests.insert(&range, 2);
        let of = |interests: &Interests<i32>, key: &'static [u8]| {
            let mut found: Vec<_> = interests.of(&Bytes::from_static(key)).collect();
            found.sort_unstable();
            found
        };
        assert_eq!(of(&interests, b"a"), [1, 2]);
        assert_eq!(of(&interests, b"ab"), [2]);
        assert_eq!(of(&interests, b"b"), [0; 0]);
        interests.remove(&range, 2);
        interests.remove(&single, 1);
        assert_eq!(of(&interests, b"a"), [0; 0]);
        assert!(interests.keys.is_empty() && interests.ranges.is_empty());
    }

    #[test]
    fn few_keys_and_many_are_found_alike() {
        let key = |number: usize| Bytes::from(format!("key {number}"));
        let mut interests = Interests::default();
        for number in 0..3 * FEW_KEYS {
            interests.insert(&KeyRange::Single(key(number)), number);
            for other in 0..4 * FEW_KEYS {
                let found: Vec<_> = interests.of(&key(other)).collect();
                assert_eq!(found, if other <= number { vec![other] } else { Vec::new() });
            }
        }
    }
}
