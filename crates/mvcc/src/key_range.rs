//! Ranges of keys as etcd's (key, range_end) pairs mean them.
//!
//! Owns the one reading of that pair, used by ranges, deletes, comparisons and watches alike.

use bytes::Bytes;

use crate::planted::Bug;

/// etcd's mark for "no upper end" in `range_end`.
const NO_END: &[u8] = b"\0";

/// A set of neighbouring keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyRange {
    /// Exactly this key.
    Single(Bytes),
    /// This key and all above.
    From(Bytes),
    /// From the first up to the second, exclusive. Empty if the second is not above the first.
    Between(Bytes, Bytes),
}

impl KeyRange {
    /// From the two fields of a request: an empty end is the single key, one zero byte is no end.
    pub fn new(key: Bytes, range_end: Bytes) -> KeyRange {
        if range_end.is_empty() {
            KeyRange::Single(key)
        } else if range_end == NO_END {
            KeyRange::From(key)
        } else {
            KeyRange::Between(key, range_end)
        }
    }

    /// Every key.
    pub fn all() -> KeyRange {
        KeyRange::From(Bytes::new())
    }

    /// The smallest key that can be in the range.
    pub fn start(&self) -> &[u8] {
        match self {
            KeyRange::Single(key) | KeyRange::From(key) | KeyRange::Between(key, _) => key,
        }
    }

    /// True if no key can be in the range.
    pub fn is_empty(&self) -> bool {
        matches!(self, KeyRange::Between(key, end) if end <= key)
    }

    /// True if the key is in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            KeyRange::Single(single) => single == key,
            KeyRange::From(start) => key >= start.as_ref(),
            KeyRange::Between(start, end) => {
                let at_end = Bug::RangeEndIncluded.planted() && key == end.as_ref();
                key >= start.as_ref() && (key < end.as_ref() || at_end)
            }
        }
    }

    /// True if the key lies above every key of the range: a walk in key order may stop.
    pub(crate) fn is_before(&self, key: &[u8]) -> bool {
        match self {
            KeyRange::Single(single) => key > single.as_ref(),
            KeyRange::From(_) => false,
            KeyRange::Between(_, end) => {
                let at_end = Bug::RangeEndIncluded.planted() && key == end.as_ref();
                key >= end.as_ref() && !at_end
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(key: &'static str, end: &'static str) -> KeyRange {
        KeyRange::new(Bytes::from_static(key.as_bytes()), Bytes::from_static(end.as_bytes()))
    }

    #[test]
    fn the_pair_is_read_as_etcd_reads_it() {
        assert!(range("a", "").contains(b"a"));
        assert!(!range("a", "").contains(b"a\0"));
        assert!(range("a", "\0").contains(b"zz"));
        assert!(!range("a", "\0").contains(b"A"));
        assert!(range("a", "b").contains(b"azz"));
        assert!(!range("a", "b").contains(b"b"));
        assert!(range("\0", "\0").contains(b"\xff\xff"));
    }

    #[test]
    fn an_inverted_range_is_empty() {
        assert!(range("b", "a").is_empty());
        assert!(range("b", "b").is_empty());
        assert!(!range("b", "\0").is_empty());
        assert!(!range("b", "").is_empty());
        assert!(!range("b", "b").contains(b"b"));
    }
}
