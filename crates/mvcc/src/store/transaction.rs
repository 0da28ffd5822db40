//! Changes of the store, with undo.
//!
//! Owns the one path on which keys change. A transaction writes in place, so that its own reads see its writes,
//! and remembers what was before; if any operation fails, everything is taken back. Invariant: after a failed
//! transaction index, leases and pending records are as if it had never begun.

use bytes::Bytes;

use super::{Store, range};
use crate::{
    entry::Head,
    error::Error,
    event::Event,
    key_range::KeyRange,
    planted::Bug,
    record,
    request::{DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, Response},
    revision::{Revision, count_of},
};

/// An answer with the events behind it, or a refusal.
pub(super) type Outcome = Result<(Response, Vec<Event>), Error>;

/// A transaction that is being written.
pub(super) struct Transaction<'store> {
    pub(super) store: &'store mut Store,
    /// The revision that the changes take if there are any.
    main: i64,
    /// Changed keys with their heads before, in order of the changes.
    undo: Vec<(Bytes, Option<Head>)>,
    events: Vec<Event>,
}

impl Store {
    /// Runs a transaction: all of it, or nothing if it fails.
    pub(super) fn transact<R>(
        &mut self,
        run: impl FnOnce(&mut Transaction<'_>) -> Result<R, Error>,
    ) -> Result<(R, Vec<Event>), Error> {
        let main = self.revision + 1;
        let mut transaction = Transaction { store: self, main, undo: Vec::new(), events: Vec::new() };
        match run(&mut transaction) {
            Ok(result) => Ok((result, transaction.commit())),
            Err(error) => {
                if !Bug::RollbackForgotten.planted() {
                    transaction.roll_back();
                }
                Err(error)
            }
        }
    }

    pub(super) fn apply_put(&mut self, request: &PutRequest) -> Outcome {
        // Before the key is looked at: etcd names the missing lease first here, unlike inside a transaction.
        if request.lease != 0 && !self.leases.exists(request.lease) {
            return Err(Error::LeaseNotFound);
        }
        let (response, events) = self.transact(|transaction| transaction.put(request))?;
        Ok((Response::Put(response), events))
    }

    pub(super) fn apply_delete_range(&mut self, request: &DeleteRangeRequest) -> Outcome {
        let (response, events) = self.transact(|transaction| transaction.delete_range(request))?;
        Ok((Response::DeleteRange(response), events))
    }

    /// Deletes a lease's keys, in key order at one revision, and then the lease.
    pub(super) fn apply_lease_revoke(&mut self, id: i64) -> Outcome {
        let keys = self.leases.keys(id).ok_or(Error::LeaseNotFound)?;
        let mut keys: Vec<Box<[u8]>> = keys.map(Into::into).collect();
        if Bug::RevokeInRandomOrder.planted() {
            let state = std::hash::RandomState::new();
            keys.sort_by_key(|key| std::hash::BuildHasher::hash_one(&state, key));
        }
        let ((), events) = self.transact(|transaction| {
            for key in &keys {
                transaction.delete(key);
            }
            Ok(())
        })?;
        assert!(events.len() == keys.len(), "every key of a lease is live");
        if !Bug::LeaseRevokedTwice.planted() {
            self.leases.remove(id);
        }
        Ok((Response::LeaseRevoke, events))
    }
}

impl Transaction<'_> {
    /// The current revision as the transaction sees it: its own once it has changed something.
    pub(super) fn newest(&self) -> i64 {
        if self.events.is_empty() || Bug::TxnReadsOldRevision.planted() {
            self.store.revision
        } else {
            self.main
        }
    }

    /// Sets a key.
    pub(super) fn put(&mut self, request: &PutRequest) -> Result<PutResponse, Error> {
        let previous = if request.prev_kv || request.ignore_value {
            self.store.live_key_value(&request.key)?
        } else {
            None
        };
        let value = match (&previous, request.ignore_value) {
            (Some(previous), true) => previous.value.clone(),
            (None, true) => return Err(Error::KeyNotFound),
            (_, false) => request.value.clone(),
        };
        let lease = if request.ignore_lease {
            let entry = self.store.index.get(&request.key).filter(|entry| entry.head().is_live());
            entry.ok_or(Error::KeyNotFound)?.head().lease
        } else {
            request.lease
        };
        if lease != 0 && !self.store.leases.exists(lease) {
            return Err(Error::LeaseNotFound);
        }
        self.change(&request.key, |before, revision| {
            let life = before.filter(|head| head.is_live());
            let (created, version) = life.map_or((revision.main, 1), |head| (head.created, head.version + 1));
            let record = record::encode_put(&request.key, &value, created, version, lease);
            (Head::live(revision, created, version, lease), record)
        });
        Ok(PutResponse { revision: self.main, prev_kv: previous.filter(|_| request.prev_kv) })
    }

    /// Deletes the live keys of a range, in key order.
    pub(super) fn delete_range(
        &mut self,
        request: &DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, Error> {
        let range = KeyRange::new(request.key.clone(), request.range_end.clone());
        let mut keys: Vec<Box<[u8]>> = Vec::new();
        self.store.index.walk(&range, |key, entry| {
            if entry.head().is_live() {
                keys.push(key.into());
            }
        });
        if Bug::DeleteSparesLast.planted() && keys.len() > 1 {
            keys.pop();
        }
        let mut prev_kvs = Vec::new();
        if request.prev_kv {
            for key in &keys {
                prev_kvs.extend(self.store.live_key_value(key)?);
            }
        }
        for key in &keys {
            self.delete(key);
        }
        let deleted = count_of(keys.len());
        Ok(DeleteRangeResponse { revision: self.newest(), deleted, prev_kvs })
    }

    /// Deletes a live key.
    fn delete(&mut self, key: &[u8]) {
        self.change(key, |before, revision| {
            assert!(before.is_some_and(Head::is_live), "only a live key is deleted");
            (Head::deleted(revision), record::encode_delete(key))
        });
    }

    /// Makes one change of a key in every place that knows the key. `change` makes the new head and the record,
    /// into which key and value are copied: nothing keeps the buffer alive that the request came in.
    fn change(&mut self, key: &[u8], change: impl FnOnce(Option<&Head>, Revision) -> (Head, Bytes)) {
        let Store { index, cache, pending, leases, .. } = &mut *self.store;
        let revision = Revision::new(self.main, count_of(self.events.len()));
        let mut record = Bytes::new();
        let (mut lease, mut head_is_live) = (0, false);
        let before = index.push(key, |before| {
            let (head, bytes) = change(before, revision);
            head_is_live = head.is_live();
            record = bytes;
            lease = head.lease;
            if head.is_live() { head.in_slot(cache.insert(revision, record.clone())) } else { head }
        });
        if let Some(before) = &before {
            cache.remove(before.slot, before.revision());
        }
        let kept = Bug::LeaseNotDetached.planted() && head_is_live && lease == 0;
        if !kept {
            leases.move_key(key, before.map_or(0, |head| head.lease), lease);
        }
        pending.push(revision, record.clone());
        let event = range::decode(revision, &record).expect("a record just written can be read");
        self.undo.push((event.key_value.key.clone(), before));
        self.events.push(event);
    }

    fn commit(self) -> Vec<Event> {
        if !self.events.is_empty() {
            self.store.revision = self.main;
        }
        self.events
    }

    fn roll_back(self) {
        let Store { index, cache, pending, leases, .. } = self.store;
        for (key, before) in self.undo.into_iter().rev() {
            let entry = index.get_mut(&key).expect("a changed key is in the index");
            let head = *entry.head();
            cache.remove(head.slot, head.revision());
            leases.move_key(&key, head.lease, before.map_or(0, |before| before.lease));
            match before {
                Some(before) => entry.pop(before),
                None => index.remove(&key),
            }
        }
        pending.roll_back(self.main);
    }
}
