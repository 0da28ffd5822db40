//! The key index: every key in order, with its [`KeyEntry`].
//!
//! Owns the layout that keeps a million keys small: an ordered map of leaves, each holding the keys of a stretch
//! back to back in one buffer. A key costs its own bytes, four for its end and its entry; there is no allocation,
//! pointer or tree slot per key. Invariant: a leaf holds exactly the keys from its bound up to the next leaf's
//! bound, ascending, and is not empty.

use std::{collections::BTreeMap, ops::Bound};

use crate::{
    entry::{Head, KeyEntry},
    key_range::KeyRange,
    planted::Bug,
};

/// Most keys in a leaf. Inserting moves half a leaf on average: a few kilobytes, well below a microsecond.
const LEAF_KEYS: usize = 64;

/// A leaf with fewer keys joins its neighbour if both fit.
const SPARSE_LEAF_KEYS: usize = LEAF_KEYS / 4;

/// Largest buffer of a leaf with more than one key, so that long keys do not make inserts slow.
const LEAF_BYTES: usize = 32 << 10;

/// A stretch of keys with their entries.
#[derive(Debug, Default)]
struct Leaf {
    keys: Vec<u8>,
    /// Where each key ends in `keys`.
    ends: Vec<u32>,
    entries: Vec<KeyEntry>,
}

impl Leaf {
    fn start(&self, position: usize) -> usize {
        position.checked_sub(1).map_or(0, |before| self.ends[before] as usize)
    }

    fn key(&self, position: usize) -> &[u8] {
        &self.keys[self.start(position)..self.ends[position] as usize]
    }

    fn find(&self, key: &[u8]) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.key(middle).cmp(key) {
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    fn insert(&mut self, position: usize, key: &[u8], entry: KeyEntry) {
        let start = self.start(position);
        // Grow by an eighth, not by doubling: half of a doubled leaf would stay unused for ever.
        if self.keys.len() + key.len() > self.keys.capacity() {
            self.keys.reserve_exact(key.len() + self.keys.len() / 8);
        }
        if self.ends.len() == self.ends.capacity() {
            let more = 2 + self.ends.len() / 8;
            self.ends.reserve_exact(more);
            self.entries.reserve_exact(more);
        }
        let tail = self.keys.len() - start;
        self.keys.extend_from_slice(key);
        self.keys[start..].rotate_left(tail);
        let length = offset(key.len());
        for end in &mut self.ends[position..] {
            *end += length;
        }
        self.ends.insert(position, offset(start) + length);
        self.entries.insert(position, entry);
    }

    fn remove(&mut self, position: usize) {
        let start = self.start(position);
        let end = self.ends.remove(position) as usize;
        self.keys.drain(start..end);
        for later in &mut self.ends[position..] {
            *later -= offset(end - start);
        }
        self.entries.remove(position);
    }

    /// Moves the keys from a position on into a new leaf.
    fn split_off(&mut self, position: usize) -> Leaf {
        let start = self.start(position);
        let mut right = Leaf {
            keys: self.keys[start..].to_vec(),
            ends: self.ends[position..].iter().map(|end| end - offset(start)).collect(),
            entries: self.entries.split_off(position),
        };
        self.keys.truncate(start);
        self.ends.truncate(position);
        right.entries.shrink_to_fit();
        self.shrink();
        right
    }

    fn append(&mut self, mut right: Leaf) {
        let start = offset(self.keys.len());
        self.keys.extend_from_slice(&right.keys);
        self.ends.extend(right.ends.iter().map(|end| end + start));
        self.entries.append(&mut right.entries);
        self.shrink();
    }

    fn shrink(&mut self) {
        self.keys.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.entries.shrink_to_fit();
    }

    fn is_full_for(&self, key: &[u8]) -> bool {
        let keys = self.ends.len();
        keys >= LEAF_KEYS || (keys > 1 && self.keys.len() + key.len() > LEAF_BYTES)
    }
}

fn offset(length: usize) -> u32 {
    u32::try_from(length).expect("a leaf holds a few keys, each smaller than a request")
}

/// All keys in order.
#[derive(Debug, Default)]
pub(crate) struct KeyIndex {
    leaves: BTreeMap<Box<[u8]>, Leaf>,
    keys: usize,
}

impl KeyIndex {
    pub(crate) fn len(&self) -> usize {
        self.keys
    }

    /// Memory in bytes that the index holds, with the allocator's share. Walks all entries: for tests and audits.
    pub(crate) fn bytes(&self) -> usize {
        /// What an allocator adds to a block: its header and rounding, on average.
        const BLOCK: usize = 16;
        let leaf_bytes = |bound: &[u8], leaf: &Leaf| {
            let entries = leaf.entries.iter().map(KeyEntry::heap_bytes).sum::<usize>();
            let buffers = leaf.keys.capacity() + 4 * leaf.ends.capacity() + 4 * BLOCK;
            // The ordered map's own nodes are two thirds full, more or less.
            let node = (size_of::<Leaf>() + size_of::<Box<[u8]>>()) * 3 / 2;
            bound.len() + buffers + leaf.entries.capacity() * size_of::<KeyEntry>() + entries + node
        };
        self.leaves.iter().map(|(bound, leaf)| leaf_bytes(bound, leaf)).sum()
    }

    fn leaf(&self, key: &[u8]) -> Option<&Leaf> {
        self.leaves
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)))
            .next_back()
            .map(|(_, leaf)| leaf)
    }

    fn leaf_mut(&mut self, key: &[u8]) -> Option<(&[u8], &mut Leaf)> {
        let bounds = (Bound::Unbounded, Bound::Included(key));
        self.leaves.range_mut::<[u8], _>(bounds).next_back().map(|(bound, leaf)| (bound.as_ref(), leaf))
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&KeyEntry> {
        let leaf = self.leaf(key)?;
        leaf.find(key).ok().map(|position| &leaf.entries[position])
    }

    pub(crate) fn get_mut(&mut self, key: &[u8]) -> Option<&mut KeyEntry> {
        let (_, leaf) = self.leaf_mut(key)?;
        leaf.find(key).ok().map(|position| &mut leaf.entries[position])
    }

    /// Records a change of a key: `change` makes the new head from the one so far, which is returned.
    pub(crate) fn push(&mut self, key: &[u8], change: impl FnOnce(Option<&Head>) -> Head) -> Option<Head> {
        let Some((_, leaf)) = self.leaf_mut(key) else {
            // Below every leaf's bound: this leaf takes the empty bound, so there is at most one of its kind.
            let mut leaf = Leaf::default();
            leaf.insert(0, key, KeyEntry::new(change(None)));
            self.leaves.insert(Box::default(), leaf);
            self.keys += 1;
            return None;
        };
        match leaf.find(key) {
            Ok(position) => {
                let entry = &mut leaf.entries[position];
                let before = *entry.head();
                entry.push(change(Some(&before)));
                Some(before)
            }
            Err(position) => {
                let entry = KeyEntry::new(change(None));
                if leaf.is_full_for(key) {
                    let position = self.make_room(key, position);
                    let (_, leaf) = self.leaf_mut(key).expect("a leaf covers the key still");
                    leaf.insert(position, key, entry);
                } else {
                    leaf.insert(position, key, entry);
                }
                self.keys += 1;
                None
            }
        }
    }

    /// Splits the full leaf that covers a key; returns the key's position in the leaf that covers it then.
    fn make_room(&mut self, key: &[u8], position: usize) -> usize {
        let (_, leaf) = self.leaf_mut(key).expect("a full leaf covers the key");
        let length = leaf.ends.len();
        if position == length {
            // Keys that arrive in order leave full leaves behind them.
            leaf.shrink();
            self.leaves.insert(key.into(), Leaf::default());
            return 0;
        }
        let middle = (length / 2).max(1);
        let right = leaf.split_off(middle);
        let bound: Box<[u8]> = right.key(0).into();
        let goes_right = key >= bound.as_ref() || Bug::SplitMisplacesKey.planted() && position == middle;
        self.leaves.insert(bound, right);
        if goes_right { position - middle } else { position }
    }

    /// Forgets a key that is in the index.
    pub(crate) fn remove(&mut self, key: &[u8]) {
        let (bound, leaf) = self.leaf_mut(key).expect("a removed key is in the index");
        let position = leaf.find(key).expect("a removed key is in the index");
        leaf.remove(position);
        let left = leaf.ends.len();
        let bound: Option<Box<[u8]>> = (left < SPARSE_LEAF_KEYS).then(|| bound.into());
        self.keys -= 1;
        if let Some(bound) = bound {
            self.join(&bound);
        }
    }

    /// Joins a sparse leaf with the one after it, or drops it if it is empty.
    fn join(&mut self, bound: &[u8]) {
        if self.leaves.get(bound).is_some_and(|leaf| leaf.ends.is_empty()) {
            self.leaves.remove(bound);
            return;
        }
        let after = (Bound::Excluded(bound), Bound::Unbounded);
        let Some((next, right)) = self.leaves.range::<[u8], _>(after).next() else { return };
        let (next, keys, bytes) = (next.clone(), right.ends.len(), right.keys.len());
        let Some(leaf) = self.leaves.get(bound) else { return };
        // Half full at most, so that the next insert does not split it again.
        if leaf.ends.len() + keys > LEAF_KEYS / 2 || leaf.keys.len() + bytes > LEAF_BYTES / 2 {
            return;
        }
        if let (Some(right), Some(leaf)) = (self.leaves.remove(&next), self.leaves.get_mut(bound))
            && !Bug::JoinLosesLeaf.planted()
        {
            leaf.append(right);
        }
    }

    /// Shows the keys of a range in order. A single key costs one lookup.
    pub(crate) fn walk<'index>(
        &'index self,
        range: &KeyRange,
        mut show: impl FnMut(&'index [u8], &'index KeyEntry),
    ) {
        if range.is_empty() {
            return;
        }
        let start = range.start();
        let first = self.leaves.range::<[u8], _>((Bound::Unbounded, Bound::Included(start))).next_back();
        if let Some((_, leaf)) = first {
            let place = leaf.find(start);
            if matches!(range, KeyRange::Single(_)) {
                if let Ok(position) = place {
                    show(leaf.key(position), &leaf.entries[position]);
                }
                return;
            }
            for position in place.unwrap_or_else(|after| after)..leaf.ends.len() {
                let key = leaf.key(position);
                if range.is_before(key) {
                    return;
                }
                show(key, &leaf.entries[position]);
            }
        }
        for (_, leaf) in self.leaves.range::<[u8], _>((Bound::Excluded(start), Bound::Unbounded)) {
            for (position, entry) in leaf.entries.iter().enumerate() {
                let key = leaf.key(position);
                if range.is_before(key) {
                    return;
                }
                show(key, entry);
            }
        }
    }

    /// Whether any entry is as asked for. Ends at the first that is.
    pub(crate) fn any(&self, is_wanted: impl Fn(&KeyEntry) -> bool) -> bool {
        self.leaves.values().any(|leaf| leaf.entries.iter().any(&is_wanted))
    }

    /// Lets `visit` change the entries from a key on, at least `max` of them if there are so many, whole leaves
    /// only. Entries for which it returns true are forgotten. Returns where to go on, or `None` at the end.
    pub(crate) fn visit_from(
        &mut self,
        start: &[u8],
        max: usize,
        mut visit: impl FnMut(&mut KeyEntry) -> bool,
    ) -> Option<Box<[u8]>> {
        let mut visited = 0;
        let mut gone: Vec<Box<[u8]>> = Vec::new();
        let mut resume: Option<Box<[u8]>> = None;
        let first: Box<[u8]> = self
            .leaves
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(start)))
            .next_back()
            .map_or_else(|| start.into(), |(bound, _)| bound.clone());
        for (bound, leaf) in
            self.leaves.range_mut::<[u8], _>((Bound::Included(first.as_ref()), Bound::Unbounded))
        {
            if visited >= max {
                resume = Some(bound.clone());
                break;
            }
            for position in 0..leaf.ends.len() {
                visited += 1;
                if visit(&mut leaf.entries[position]) {
                    gone.push(leaf.key(position).into());
                }
            }
        }
        for key in gone {
            self.remove(&key);
        }
        resume
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::revision::Revision;

    fn head(main: i64) -> Head {
        Head::live(Revision::new(main, 0), main, 1, 0)
    }

    fn keys(index: &KeyIndex, range: &KeyRange) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        index.walk(range, |key, _| keys.push(key.to_vec()));
        keys
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn behaves_like_an_ordered_map(
            steps in prop::collection::vec((0_u8..4, prop::collection::vec(0_u8..6, 0..5)), 1..800),
            start in prop::collection::vec(0_u8..6, 0..4),
            end in prop::collection::vec(0_u8..6, 0..4),
        ) {
            let mut index = KeyIndex::default();
            let mut model: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
            let mut main = 1;
            for (kind, key) in steps {
                main += 1;
                if kind == 0 {
                    if model.remove(&key).is_some() {
                        index.remove(&key);
                    }
                } else {
                    let before = index.push(&key, |_| head(main));
                    prop_assert_eq!(before.map(|head| head.revision().main), model.insert(key.clone(), main));
                }
                prop_assert_eq!(index.get(&key).map(|entry| entry.head().revision().main), model.get(&key).copied());
                prop_assert_eq!(index.len(), model.len());
            }
            for leaf in index.leaves.values() {
                prop_assert!(!leaf.ends.is_empty() && leaf.ends.len() <= LEAF_KEYS);
            }
            let range = KeyRange::new(Bytes::from(start), Bytes::from(end));
            let expected: Vec<Vec<u8>> = model.keys().filter(|key| range.contains(key)).cloned().collect();
            prop_assert_eq!(keys(&index, &range), expected);

            // Steps of any size visit every key (some twice, where leaves join) and forget what they are told to.
            let mut visited = 0;
            let mut from: Option<Box<[u8]>> = Some(Box::default());
            while let Some(start) = from {
                from = index.visit_from(&start, 5, |entry| {
                    visited += 1;
                    entry.head().revision().main % 2 == 0
                });
            }
            prop_assert!(visited >= model.len());
            model.retain(|_, main| *main % 2 != 0);
            let expected: Vec<Vec<u8>> = model.into_keys().collect();
            prop_assert_eq!(keys(&index, &KeyRange::all()), expected);
        }
    }
}
