//! Reads of keys: ranges, comparisons, and the loading of records behind both.
//!
//! Owns where a record comes from (cache, pending layers, engine) and etcd's rules for count, limit, order and
//! filters. What only needs revisions, versions or leases is answered from the index without loading a record.

use std::cmp::Ordering;

use bytes::Bytes;

use super::Store;
use crate::{
    entry::{KeyEntry, Stamp},
    error::Error,
    event::Event,
    key_range::KeyRange,
    planted::Bug,
    record,
    request::{
        Compare, CompareResult, CompareTarget, KeyValue, RangeRequest, RangeResponse, SortOrder, SortTarget,
    },
    revision::{Revision, count_of},
    source::SourceError,
};

/// A key in the index with the change that the reader sees.
type Found<'store> = (&'store [u8], &'store KeyEntry, Stamp);

/// A key of the answer, whose value may not be loaded yet.
struct Candidate<'store> {
    entry: &'store KeyEntry,
    stamp: Stamp,
    key_value: KeyValue,
    loaded: bool,
}

impl Store {
    /// Reads a range. The answer's revision is the store's, also for a read of the past.
    ///
    /// # Errors
    /// [`Error::FutureRevision`] and [`Error::Compacted`] for the revision asked for; [`Error::Storage`].
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        self.check_revision(request.revision)?;
        self.range_at(request, self.revision)
    }

    /// Whether a request may read at a revision; 0 and less mean the current one.
    pub(super) fn check_revision(&self, revision: i64) -> Result<(), Error> {
        if revision <= 0 {
            Ok(())
        } else if revision > self.revision {
            Err(Error::FutureRevision)
        } else if revision < self.compacted && !Bug::ReadsBelowCompaction.planted() {
            Err(Error::Compacted { compacted_revision: self.compacted })
        } else {
            Ok(())
        }
    }

    /// The same for a range in a transaction, where etcd takes a negative revision for one that was compacted.
    pub(super) fn check_revision_in_txn(&self, revision: i64) -> Result<(), Error> {
        if revision < 0 && revision < self.compacted {
            return Err(Error::Compacted { compacted_revision: self.compacted });
        }
        self.check_revision(revision)
    }

    /// Reads a range where `newest` is the current revision as the reader sees it: inside a transaction that has
    /// written already it is the transaction's own.
    pub(super) fn range_at(&self, request: &RangeRequest, newest: i64) -> Result<RangeResponse, Error> {
        let at = if request.revision > 0 { request.revision } else { newest };
        let range = KeyRange::new(request.key.clone(), request.range_end.clone());
        let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        let order = match (request.sort_order, request.sort_target) {
            (SortOrder::None, SortTarget::Key) => None,
            (SortOrder::None, _) => Some(SortOrder::Ascend),
            (order, _) => Some(order),
        };
        let rearranged = order.is_some() || has_filter(request);
        let wanted = match (request.count_only, rearranged) {
            (true, _) => 0,
            (false, true) if Bug::LimitBeforeFilter.planted() => limit,
            // etcd: whoever names a target but no order gets the first keys and one more, sorted, and cut again.
            (false, true) if request.sort_order == SortOrder::None && !has_filter(request) => {
                limit.saturating_add(1)
            }
            (false, true) => usize::MAX,
            (false, false) => limit,
        };

        let (found, count) = self.find(&range, at, wanted);
        let outline = (rearranged || request.keys_only) && request.sort_target != SortTarget::Value;
        let mut candidates = Vec::with_capacity(found.len());
        for (key, entry, stamp) in found {
            candidates.push(self.candidate(key, entry, stamp, outline)?);
        }
        candidates.retain(|candidate| passes(request, &candidate.key_value));
        if let Some(order) = order {
            // Stable: equal ones stay in key order, also when descending.
            candidates.sort_by(|left, right| {
                let ordering = order_by(request.sort_target, &left.key_value, &right.key_value);
                if order == SortOrder::Descend { ordering.reverse() } else { ordering }
            });
        }
        // Without filters the walk stopped at the limit, and the count tells whether there was more.
        let total = if rearranged { candidates.len() } else { count };
        candidates.truncate(limit);
        let kvs = candidates
            .into_iter()
            .map(|candidate| self.finish(candidate, request.keys_only))
            .collect::<Result<Vec<KeyValue>, Error>>()?;
        let more = !request.count_only && total > limit;
        assert!(kvs.len() <= count, "the answer is part of what was counted");
        let count = if Bug::CountIsLimited.planted() { kvs.len() } else { count };
        Ok(RangeResponse { revision: newest, kvs, more, count: count_of(count) })
    }

    /// The first `wanted` keys of a range that are live at a revision, and how many there are in all.
    fn find<'store>(&'store self, range: &KeyRange, at: i64, wanted: usize) -> (Vec<Found<'store>>, usize) {
        let mut found = Vec::new();
        let mut count = 0;
        self.index.walk(range, |key, entry| {
            if let Some(stamp) = entry.at(at).filter(|stamp| !stamp.is_delete()) {
                count += 1;
                if found.len() < wanted {
                    found.push((key, entry, stamp));
                }
            }
        });
        (found, count)
    }

    /// A key of the answer: from the index alone if an outline is enough and the index has it, else loaded.
    fn candidate<'store>(
        &'store self,
        key: &[u8],
        entry: &'store KeyEntry,
        stamp: Stamp,
        outline: bool,
    ) -> Result<Candidate<'store>, Error> {
        let head = entry.head();
        if !outline || stamp != head.stamp() {
            return Ok(Candidate {
                entry,
                stamp,
                key_value: self.load(entry, stamp)?.key_value,
                loaded: true,
            });
        }
        let key_value = KeyValue {
            key: Bytes::copy_from_slice(key),
            create_revision: head.created,
            mod_revision: head.revision().main,
            version: head.version,
            value: Bytes::new(),
            lease: head.lease,
        };
        Ok(Candidate { entry, stamp, key_value, loaded: false })
    }

    fn finish(&self, candidate: Candidate<'_>, keys_only: bool) -> Result<KeyValue, Error> {
        let mut key_value = candidate.key_value;
        if keys_only {
            key_value.value = Bytes::new();
        } else if !candidate.loaded {
            key_value = self.load(candidate.entry, candidate.stamp)?.key_value;
        }
        Ok(key_value)
    }

    /// The latest content of a key, if it is live.
    pub(super) fn live_key_value(&self, key: &[u8]) -> Result<Option<KeyValue>, Error> {
        let Some(entry) = self.index.get(key).filter(|entry| entry.head().is_live()) else { return Ok(None) };
        Ok(Some(self.load(entry, entry.head().stamp())?.key_value))
    }

    /// The record of a change that the index knows.
    pub(super) fn load(&self, entry: &KeyEntry, stamp: Stamp) -> Result<Event, Error> {
        let revision = stamp.revision();
        let head = entry.head();
        let cached = if head.revision() == revision { self.cache.get(head.slot, revision) } else { None };
        let record = match cached.or_else(|| self.pending.get(revision)) {
            Some(record) => record,
            None => self
                .history
                .get(revision)?
                .ok_or_else(|| SourceError::new(format!("record {revision} of the index is missing")))?,
        };
        decode(revision, &record)
    }

    /// Whether a condition of a transaction holds now.
    pub(super) fn holds(&self, compare: &Compare) -> Result<bool, Error> {
        let range = KeyRange::new(compare.key.clone(), compare.range_end.clone());
        let at = if Bug::CompareAfterChange.planted() { i64::MAX } else { self.revision };
        let (found, _) = self.find(&range, at, usize::MAX);
        if found.is_empty() {
            // A key that does not exist is all zeros, but has no value, not even an empty one.
            let is_value = matches!(compare.target, CompareTarget::Value(_));
            return Ok(!is_value && matches(compare, &KeyValue::default()));
        }
        let outline = !matches!(compare.target, CompareTarget::Value(_));
        for (key, entry, stamp) in found {
            if !matches(compare, &self.candidate(key, entry, stamp, outline)?.key_value) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A record as an event; one that cannot be read is damage.
pub(super) fn decode(revision: Revision, record: &Bytes) -> Result<Event, Error> {
    record::decode(revision, record)
        .map_err(|error| Error::Storage(SourceError::new(format!("record {revision}: {error}"))))
}

fn has_filter(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

fn passes(request: &RangeRequest, key_value: &KeyValue) -> bool {
    let within = |value: i64, min: i64, max: i64| (min == 0 || value >= min) && (max == 0 || value <= max);
    within(key_value.mod_revision, request.min_mod_revision, request.max_mod_revision)
        && within(key_value.create_revision, request.min_create_revision, request.max_create_revision)
}

fn order_by(target: SortTarget, left: &KeyValue, right: &KeyValue) -> Ordering {
    match target {
        SortTarget::Key => left.key.cmp(&right.key),
        SortTarget::Version => left.version.cmp(&right.version),
        SortTarget::Create => left.create_revision.cmp(&right.create_revision),
        SortTarget::Mod => left.mod_revision.cmp(&right.mod_revision),
        SortTarget::Value => left.value.cmp(&right.value),
    }
}

fn matches(compare: &Compare, key_value: &KeyValue) -> bool {
    let ordering = match &compare.target {
        CompareTarget::Version(operand) => key_value.version.cmp(operand),
        CompareTarget::Create(operand) => key_value.create_revision.cmp(operand),
        CompareTarget::Mod(operand) => key_value.mod_revision.cmp(operand),
        CompareTarget::Value(operand) => key_value.value.cmp(operand),
        CompareTarget::Lease(operand) => key_value.lease.cmp(operand),
    };
    match compare.result {
        CompareResult::Equal => ordering.is_eq(),
        CompareResult::Greater => ordering.is_gt(),
        CompareResult::Less => ordering.is_lt(),
        CompareResult::NotEqual => ordering.is_ne(),
    }
}
