//! The naive model: a full copy of everything for every revision.
//!
//! Written from the list of observations, sharing nothing with the store but the types of requests and answers.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use duet_mvcc::{
    Alarm, AlarmKind, Applied, Command, Compare, CompareResult, CompareTarget, DeleteRangeRequest,
    DeleteRangeResponse, Error, Event, EventKind, KeyRange, KeyValue, MAX_LEASE_TTL_SECONDS, Operation,
    OperationResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, Response, Revision, SortOrder,
    SortTarget, TxnRequest, TxnResponse,
};

type Snapshot = BTreeMap<Bytes, KeyValue>;

#[derive(Clone)]
pub struct Model {
    /// By revision; 0 and 1 are the empty store.
    pub snapshots: Vec<Snapshot>,
    /// All events with the value before each.
    pub events: Vec<(Event, Option<KeyValue>)>,
    pub leases: BTreeMap<i64, i64>,
    pub alarms: BTreeSet<Alarm>,
    pub compacted: i64,
    /// Inside a transaction: the state with what it has written so far.
    draft: Option<Snapshot>,
    draft_events: Vec<(Event, Option<KeyValue>)>,
}

impl Default for Model {
    fn default() -> Model {
        Model {
            snapshots: vec![Snapshot::new(); 2],
            events: Vec::new(),
            leases: BTreeMap::new(),
            alarms: BTreeSet::new(),
            compacted: -1,
            draft: None,
            draft_events: Vec::new(),
        }
    }
}

impl Model {
    pub fn revision(&self) -> i64 {
        self.snapshots.len() as i64 - 1
    }

    fn current(&self) -> &Snapshot {
        self.draft.as_ref().unwrap_or_else(|| self.snapshots.last().unwrap())
    }

    fn newest(&self) -> i64 {
        self.revision() + i64::from(!self.draft_events.is_empty())
    }

    /// How many records a finished compaction leaves.
    pub fn visible_records(&self) -> usize {
        let recent = self.events.iter().filter(|(event, _)| event.revision.main >= self.compacted).count();
        let base = usize::try_from(self.compacted).map_or(0, |compacted| {
            self.snapshots[compacted].values().filter(|found| found.mod_revision < self.compacted).count()
        });
        recent + base
    }

    pub fn lease_keys(&self, id: i64) -> Vec<Bytes> {
        self.current().values().filter(|found| found.lease == id).map(|found| found.key.clone()).collect()
    }

    pub fn apply(&mut self, command: &Command) -> Applied {
        let before = self.clone();
        self.draft = Some(self.current().clone());
        let result = match command {
            command if self.forbids(command).is_some() => Err(self.forbids(command).unwrap()),
            Command::Put(request) if request.lease != 0 && !self.leases.contains_key(&request.lease) => {
                Err(Error::LeaseNotFound)
            }
            Command::Put(request) => self.put(request).map(Response::Put),
            Command::DeleteRange(request) => Ok(Response::DeleteRange(self.delete_range(request))),
            Command::Txn(request) => self.txn(request).map(Response::Txn),
            Command::Compact { revision } => self.compact(*revision),
            Command::LeaseGrant { id, ttl } => self.grant(*id, *ttl),
            Command::LeaseRevoke { id } => self.revoke(*id),
            Command::RaiseAlarm(alarm) => {
                self.alarms.insert(*alarm);
                Ok(Response::Alarm(Some(*alarm)))
            }
            Command::ClearAlarm(alarm) => Ok(Response::Alarm(self.alarms.remove(alarm).then_some(*alarm))),
            Command::Auth(_) | Command::As { .. } => panic!("users and roles have a model of their own"),
        };
        if result.is_err() {
            *self = before;
            return Applied { revision: self.revision(), result, events: Vec::new() };
        }
        let events = std::mem::take(&mut self.draft_events);
        let draft = self.draft.take().unwrap();
        if !events.is_empty() {
            self.snapshots.push(draft);
        }
        self.events.extend(events.iter().cloned());
        let events = events.into_iter().map(|(event, _)| event).collect();
        Applied { revision: self.revision(), result, events }
    }

    fn forbids(&self, command: &Command) -> Option<Error> {
        let raised: Vec<AlarmKind> = self.alarms.iter().map(|alarm| alarm.kind).collect();
        match command {
            Command::RaiseAlarm(_) | Command::ClearAlarm(_) => None,
            _ if raised.contains(&AlarmKind::Corrupt) => Some(Error::Corrupt),
            Command::Put(_) | Command::LeaseGrant { .. } if !raised.is_empty() => Some(Error::NoSpace),
            Command::Txn(txn) if !raised.is_empty() && has_put(txn) => Some(Error::NoSpace),
            _ => None,
        }
    }

    fn compact(&mut self, revision: i64) -> Result<Response, Error> {
        if revision <= self.compacted {
            return Err(Error::Compacted { compacted_revision: self.compacted });
        }
        if revision > self.revision() {
            return Err(Error::FutureRevision);
        }
        self.compacted = revision;
        Ok(Response::Compact)
    }

    fn grant(&mut self, id: i64, ttl: i64) -> Result<Response, Error> {
        if id == 0 {
            return Err(Error::LeaseNotFound);
        }
        if ttl > MAX_LEASE_TTL_SECONDS {
            return Err(Error::LeaseTtlTooLarge);
        }
        if self.leases.contains_key(&id) {
            return Err(Error::LeaseExists);
        }
        self.leases.insert(id, ttl);
        Ok(Response::LeaseGrant { id, ttl })
    }

    fn revoke(&mut self, id: i64) -> Result<Response, Error> {
        self.leases.remove(&id).ok_or(Error::LeaseNotFound)?;
        for key in self.lease_keys(id) {
            self.delete(&key);
        }
        Ok(Response::LeaseRevoke)
    }

    fn record(&mut self, kind: EventKind, key_value: KeyValue, previous: Option<KeyValue>) {
        let revision = Revision::new(self.revision() + 1, self.draft_events.len() as i64);
        self.draft_events.push((Event { kind, revision, key_value }, previous));
    }

    fn put(&mut self, request: &PutRequest) -> Result<PutResponse, Error> {
        let previous = self.current().get(&request.key).cloned();
        if previous.is_none() && (request.ignore_value || request.ignore_lease) {
            return Err(Error::KeyNotFound);
        }
        let main = self.revision() + 1;
        let mut new = KeyValue {
            key: request.key.clone(),
            create_revision: main,
            mod_revision: main,
            version: 1,
            value: request.value.clone(),
            lease: request.lease,
        };
        if let Some(previous) = &previous {
            new.create_revision = previous.create_revision;
            new.version = previous.version + 1;
            if request.ignore_value {
                new.value = previous.value.clone();
            }
            if request.ignore_lease {
                new.lease = previous.lease;
            }
        }
        if new.lease != 0 && !self.leases.contains_key(&new.lease) {
            return Err(Error::LeaseNotFound);
        }
        self.draft.as_mut().unwrap().insert(request.key.clone(), new.clone());
        self.record(EventKind::Put, new, previous.clone());
        Ok(PutResponse { revision: main, prev_kv: previous.filter(|_| request.prev_kv) })
    }

    fn delete(&mut self, key: &Bytes) -> KeyValue {
        let previous = self.draft.as_mut().unwrap().remove(key).unwrap();
        let mod_revision = self.revision() + 1;
        let gone = KeyValue { key: key.clone(), mod_revision, ..KeyValue::default() };
        self.record(EventKind::Delete, gone, Some(previous.clone()));
        previous
    }

    fn delete_range(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let range = KeyRange::new(request.key.clone(), request.range_end.clone());
        let keys: Vec<Bytes> = self.current().keys().filter(|key| range.contains(key)).cloned().collect();
        let previous: Vec<KeyValue> = keys.iter().map(|key| self.delete(key)).collect();
        DeleteRangeResponse {
            revision: self.newest(),
            deleted: keys.len() as i64,
            prev_kvs: if request.prev_kv { previous } else { Vec::new() },
        }
    }

    fn readable(&self, revision: i64) -> Result<(), Error> {
        if revision > self.revision() {
            Err(Error::FutureRevision)
        } else if revision > 0 && revision < self.compacted {
            Err(Error::Compacted { compacted_revision: self.compacted })
        } else {
            Ok(())
        }
    }

    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        self.readable(request.revision)?;
        let snapshot = match usize::try_from(request.revision) {
            Ok(revision) if revision > 0 => &self.snapshots[revision],
            _ => self.current(),
        };
        let range = KeyRange::new(request.key.clone(), request.range_end.clone());
        let mut kvs: Vec<KeyValue> =
            snapshot.values().filter(|found| range.contains(&found.key)).cloned().collect();
        let count = kvs.len() as i64;
        if request.count_only {
            return Ok(RangeResponse { revision: self.newest(), kvs: Vec::new(), more: false, count });
        }
        let (min, max) = (request.min_mod_revision, request.max_mod_revision);
        kvs.retain(|found| {
            (min == 0 || found.mod_revision >= min) && (max == 0 || found.mod_revision <= max)
        });
        let (min, max) = (request.min_create_revision, request.max_create_revision);
        kvs.retain(|found| {
            (min == 0 || found.create_revision >= min) && (max == 0 || found.create_revision <= max)
        });
        let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        let filters = [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        ];
        if request.sort_order == SortOrder::None && filters == [0; 4] {
            // Only the first keys are sorted.
            kvs.truncate(limit.saturating_add(1));
        }
        match request.sort_target {
            SortTarget::Key => kvs.sort_by_key(|found| found.key.clone()),
            SortTarget::Version if request.sort_order == SortOrder::Descend => {
                kvs.sort_by_key(|found| -found.version);
            }
            SortTarget::Version => kvs.sort_by_key(|found| found.version),
            SortTarget::Create if request.sort_order == SortOrder::Descend => {
                kvs.sort_by_key(|found| -found.create_revision);
            }
            SortTarget::Create => kvs.sort_by_key(|found| found.create_revision),
            SortTarget::Mod if request.sort_order == SortOrder::Descend => {
                kvs.sort_by_key(|found| -found.mod_revision);
            }
            SortTarget::Mod => kvs.sort_by_key(|found| found.mod_revision),
            SortTarget::Value if request.sort_order == SortOrder::Descend => {
                kvs.sort_by_key(|found| std::cmp::Reverse(found.value.clone()));
            }
            SortTarget::Value => kvs.sort_by_key(|found| found.value.clone()),
        }
        if request.sort_target == SortTarget::Key && request.sort_order == SortOrder::Descend {
            kvs.reverse();
        }
        let more = kvs.len() > limit;
        kvs.truncate(limit);
        if request.keys_only {
            for found in &mut kvs {
                found.value = Bytes::new();
            }
        }
        Ok(RangeResponse { revision: self.newest(), kvs, more, count })
    }

    fn holds(&self, compare: &Compare) -> bool {
        let range = KeyRange::new(compare.key.clone(), compare.range_end.clone());
        let found: Vec<KeyValue> = self
            .snapshots
            .last()
            .unwrap()
            .values()
            .filter(|found| range.contains(&found.key))
            .cloned()
            .collect();
        if found.is_empty() {
            return !matches!(compare.target, CompareTarget::Value(_))
                && one_holds(compare, &KeyValue::default());
        }
        found.iter().all(|found| one_holds(compare, found))
    }

    fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, Error> {
        let mut taken = Vec::new();
        self.gather(request, &mut taken);
        for operation in &taken {
            let Operation::Put(request) = operation else { continue };
            let exists = self.current().contains_key(&request.key);
            if (request.ignore_value || request.ignore_lease) && !exists {
                return Err(Error::KeyNotFound);
            }
            if request.lease != 0 && !self.leases.contains_key(&request.lease) {
                return Err(Error::LeaseNotFound);
            }
        }
        for operation in &taken {
            if let Operation::Range(request) = operation {
                if request.revision < 0 && request.revision < self.compacted {
                    return Err(Error::Compacted { compacted_revision: self.compacted });
                }
                self.readable(request.revision)?;
            }
        }
        let response = self.run(request)?;
        Ok(TxnResponse { revision: self.newest(), ..response })
    }

    fn taken<'request>(&self, request: &'request TxnRequest) -> (bool, &'request [Operation]) {
        // Conditions always look at the last snapshot, never at the draft.
        let succeeded = request.compare.iter().all(|compare| self.holds(compare));
        (succeeded, if succeeded { &request.success } else { &request.failure })
    }

    fn gather(&self, request: &TxnRequest, taken: &mut Vec<Operation>) {
        for operation in self.taken(request).1 {
            match operation {
                Operation::Txn(nested) => self.gather(nested, taken),
                other => taken.push(other.clone()),
            }
        }
    }

    fn run(&mut self, request: &TxnRequest) -> Result<TxnResponse, Error> {
        let (succeeded, operations) = self.taken(request);
        let mut responses = Vec::new();
        for operation in operations {
            responses.push(match operation {
                Operation::Range(request) => OperationResponse::Range(self.range(request)?),
                Operation::Put(request) => OperationResponse::Put(self.put(request)?),
                Operation::DeleteRange(request) => OperationResponse::DeleteRange(self.delete_range(request)),
                Operation::Txn(request) => OperationResponse::Txn(self.run(request)?),
            });
        }
        Ok(TxnResponse { revision: 0, succeeded, responses })
    }
}

fn one_holds(compare: &Compare, found: &KeyValue) -> bool {
    let ordering = match &compare.target {
        CompareTarget::Version(number) => found.version.cmp(number),
        CompareTarget::Create(number) => found.create_revision.cmp(number),
        CompareTarget::Mod(number) => found.mod_revision.cmp(number),
        CompareTarget::Lease(number) => found.lease.cmp(number),
        CompareTarget::Value(value) => found.value.cmp(value),
    };
    match compare.result {
        CompareResult::Equal => ordering.is_eq(),
        CompareResult::NotEqual => ordering.is_ne(),
        CompareResult::Less => ordering.is_lt(),
        CompareResult::Greater => ordering.is_gt(),
    }
}

fn has_put(txn: &TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).any(|operation| match operation {
        Operation::Put(_) => true,
        Operation::Txn(nested) => has_put(nested),
        Operation::Range(_) | Operation::DeleteRange(_) => false,
    })
}
