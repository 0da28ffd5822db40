//! Leases: which exist, how long they were granted for, and which keys hang on them.
//!
//! Owns the replicated part only. The clock that decides about expiry is the server's: after a promotion every
//! lease starts anew with its granted time to live, as in etcd. Invariant: a key is listed at a lease exactly if
//! the key is live and its latest put named that lease.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::error::Error;

/// Shortest time to live in seconds; shorter wishes (also 0 and negative) are raised to it. etcd's value with
/// default timing: one and a half election timeouts, so that a lease outlives a change of primary.
pub const MIN_LEASE_TTL_SECONDS: i64 = 2;

/// Longest time to live in seconds; etcd's value.
pub const MAX_LEASE_TTL_SECONDS: i64 = 9_000_000_000;

/// The time to live that a client gets for the one it asked for, both in seconds.
///
/// # Errors
/// [`Error::LeaseTtlTooLarge`] above [`MAX_LEASE_TTL_SECONDS`].
pub fn effective_ttl(requested: i64) -> Result<i64, Error> {
    if requested > MAX_LEASE_TTL_SECONDS {
        return Err(Error::LeaseTtlTooLarge);
    }
    Ok(requested.max(MIN_LEASE_TTL_SECONDS))
}

/// What is known about one lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseInfo {
    /// Time to live in seconds as granted.
    pub granted_ttl: i64,
    /// The keys that hang on it, ascending; empty unless asked for.
    pub keys: Vec<Bytes>,
}

#[derive(Debug, Default)]
struct Lease {
    ttl: i64,
    keys: BTreeSet<Box<[u8]>>,
}

/// All leases by id.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    leases: BTreeMap<i64, Lease>,
}

impl Leases {
    pub(crate) fn exists(&self, id: i64) -> bool {
        self.leases.contains_key(&id)
    }

    /// Adds a lease without keys.
    pub(crate) fn grant(&mut self, id: i64, ttl: i64) -> Result<(), Error> {
        if id == 0 {
            return Err(Error::LeaseNotFound);
        }
        if ttl > MAX_LEASE_TTL_SECONDS {
            return Err(Error::LeaseTtlTooLarge);
        }
        if self.exists(id) {
            return Err(Error::LeaseExists);
        }
        self.leases.insert(id, Lease { ttl, keys: BTreeSet::new() });
        Ok(())
    }

    /// Removes a lease whose keys are deleted already.
    pub(crate) fn remove(&mut self, id: i64) {
        let lease = self.leases.remove(&id);
        assert!(lease.is_some_and(|lease| lease.keys.is_empty()), "a lease goes after its keys");
    }

    /// Moves a key from one lease to another; 0 is none.
    pub(crate) fn move_key(&mut self, key: &[u8], from: i64, to: i64) {
        if from == to {
            return;
        }
        if from != 0 {
            let removed = self.leases.get_mut(&from).is_some_and(|lease| lease.keys.remove(key));
            assert!(removed, "a key with a lease is listed at it");
        }
        if to != 0 {
            let added = self.leases.get_mut(&to).is_some_and(|lease| lease.keys.insert(key.into()));
            assert!(added, "a key is listed at one lease only, which exists");
        }
    }

    /// The keys of a lease, ascending.
    pub(crate) fn keys(&self, id: i64) -> Option<impl Iterator<Item = &[u8]>> {
        self.leases.get(&id).map(|lease| lease.keys.iter().map(AsRef::as_ref))
    }

    pub(crate) fn ttl(&self, id: i64) -> Option<i64> {
        self.leases.get(&id).map(|lease| lease.ttl)
    }

    /// Ids and times to live, ascending by id.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (i64, i64)> {
        self.leases.iter().map(|(id, lease)| (*id, lease.ttl))
    }
}
