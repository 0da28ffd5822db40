//! Revisions: the position of every change in the history of the store.
//!
//! Owns the order of changes (`main` counts transactions, `sub` the changes inside one) and their key encoding
//! in the engine. The encoding keeps the order: comparing encoded keys byte by byte equals comparing revisions,
//! so the engine's ascending scan is the history in order.

use std::fmt;

/// Length in bytes of [`Revision::to_key`].
pub const REVISION_KEY_BYTES: usize = 16;

/// A number of things in memory, as etcd's messages count them.
pub(crate) fn count_of(things: usize) -> i64 {
    i64::try_from(things).expect("no memory holds 2^63 things")
}

/// Position of one change: `main` is the transaction (etcd's `mod_revision`), `sub` the change inside it, from 0.
///
/// Both are never negative in a stored change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision {
    /// Number of the transaction; 1 is the empty store, so the first change is in 2.
    pub main: i64,
    /// Number of the change inside the transaction, dense from 0.
    pub sub: i64,
}

impl Revision {
    /// The smallest revision: scans from the beginning start here.
    pub const ZERO: Revision = Revision { main: 0, sub: 0 };

    /// A revision from its two parts.
    pub const fn new(main: i64, sub: i64) -> Revision {
        Revision { main, sub }
    }

    /// The key of this revision in the engine: both parts big-endian, so that byte order is revision order.
    pub fn to_key(self) -> [u8; REVISION_KEY_BYTES] {
        assert!(self.main >= 0 && self.sub >= 0, "a stored revision is never negative");
        let mut key = [0; REVISION_KEY_BYTES];
        key[..8].copy_from_slice(&self.main.to_be_bytes());
        key[8..].copy_from_slice(&self.sub.to_be_bytes());
        key
    }

    /// Reads back [`Revision::to_key`]; `None` for a wrong length or a negative part.
    pub fn from_key(key: &[u8]) -> Option<Revision> {
        let key: &[u8; REVISION_KEY_BYTES] = key.try_into().ok()?;
        let (main, sub) = key.split_at(8);
        let main = i64::from_be_bytes(main.try_into().ok()?);
        let sub = i64::from_be_bytes(sub.try_into().ok()?);
        (main >= 0 && sub >= 0).then_some(Revision { main, sub })
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.main, self.sub)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_order_is_revision_order() {
        let revisions = [(0, 0), (1, 0), (1, 1), (1, 256), (2, 0), (255, 9), (256, 0), (i64::MAX, i64::MAX)];
        for left in revisions {
            for right in revisions {
                let (left, right) = (Revision::new(left.0, left.1), Revision::new(right.0, right.1));
                assert_eq!(left.cmp(&right), left.to_key().cmp(&right.to_key()));
            }
            let revision = Revision::new(left.0, left.1);
            assert_eq!(Revision::from_key(&revision.to_key()), Some(revision));
        }
    }

    #[test]
    fn malformed_keys_are_refused() {
        assert_eq!(Revision::from_key(&[]), None);
        assert_eq!(Revision::from_key(&[0; 17]), None);
        assert_eq!(Revision::from_key(&[0xff; 16]), None);
    }
}
