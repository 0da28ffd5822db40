//! Unions of key ranges, kept merged.
//!
//! Owns the arithmetic behind two questions: does a transaction change a key twice, and do a role's permissions cover a
//! range. Invariant: the spans are disjoint and do not touch, so a lookup is one step in a tree.

use std::{collections::BTreeMap, ops::Bound};

use crate::key_range::KeyRange;

/// The exclusive end of a span; `None` is no end.
type End = Option<Vec<u8>>;

/// How far a span goes on. In this order: no end is the furthest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach<'spans> {
    /// Up to here, exclusive.
    To(&'spans [u8]),
    /// Every key above.
    Endless,
}

/// Start to end, disjoint and not touching.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Spans {
    spans: BTreeMap<Vec<u8>, End>,
}

impl Spans {
    /// Adds the keys of a range.
    pub(crate) fn insert(&mut self, range: &KeyRange) {
        match range {
            KeyRange::Single(key) => {
                let mut successor = key.to_vec();
                successor.push(0);
                self.insert_span(key.to_vec(), Some(successor));
            }
            KeyRange::From(start) => self.insert_span(start.to_vec(), None),
            KeyRange::Between(start, end) if start < end => {
                self.insert_span(start.to_vec(), Some(end.to_vec()));
            }
            KeyRange::Between(..) => {}
        }
    }

    fn insert_span(&mut self, mut start: Vec<u8>, mut end: End) {
        // Swallow every span that overlaps or touches, from the last one that starts at or below our end.
        while let Some((other_start, other_end)) = self.last_from(end.as_deref()) {
            if other_end.as_ref().is_some_and(|other_end| *other_end < start) {
                break;
            }
            let other_start = other_start.clone();
            let other_end = self.spans.remove(&other_start).flatten();
            start = start.min(other_start);
            end = end.zip(other_end).map(|(end, other_end)| end.max(other_end));
        }
        self.spans.insert(start, end);
    }

    /// The last span that starts at or below `end`.
    fn last_from(&self, end: Option<&[u8]>) -> Option<(&Vec<u8>, &End)> {
        match end {
            Some(end) => self.spans.range::<[u8], _>((Bound::Unbounded, Bound::Included(end))).next_back(),
            None => self.spans.last_key_value(),
        }
    }

    /// Adds all of another union.
    pub(crate) fn absorb(&mut self, other: Spans) {
        for (start, end) in other.spans {
            self.insert_span(start, end);
        }
    }

    /// Whether a key is in it.
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.reach(key).is_some()
    }

    /// How far the span goes on in which a key lies; `None` if it lies in none.
    fn reach(&self, key: &[u8]) -> Option<Reach<'_>> {
        match self.last_from(Some(key))?.1 {
            Some(end) => (key < end.as_slice()).then_some(Reach::To(end)),
            None => Some(Reach::Endless),
        }
    }
}

/// Whether several unions together contain every key that can be in a range. A range without keys counts as its start:
/// who asks for one must be allowed there.
pub(crate) fn cover(unions: &[&Spans], range: &KeyRange) -> bool {
    let mut reached = range.start();
    loop {
        let end = match unions.iter().filter_map(|spans| spans.reach(reached)).max() {
            None => return false,
            Some(Reach::Endless) => return true,
            Some(Reach::To(end)) => end,
        };
        match range {
            KeyRange::Single(_) => return true,
            KeyRange::Between(_, wanted) if end >= wanted.as_ref() => return true,
            KeyRange::Between(..) | KeyRange::From(_) => {}
        }
        assert!(end > reached, "a span ends behind every key in it");
        reached = end;
    }
}
