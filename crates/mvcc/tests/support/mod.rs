//! What the tests share: an engine in memory and short ways to say a request.
#![allow(dead_code)] // every test binary uses its own part
#![allow(clippy::disallowed_types)] // the engine of the tests may lock; the ban is for the crate
#![allow(clippy::unwrap_used)] // in a test's helper a panic is the report
#![allow(clippy::cast_possible_wrap)] // the numbers here are small

pub mod generate;
pub mod model;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use duet_mvcc::{
    Applied, Checkpoint, Command, Compare, CompareResult, CompareTarget, DeleteRangeRequest, Error, Event,
    EventKind, EventLimits, KeyRange, Operation, OperationResponse, PutRequest, RangeRequest, RangeResponse,
    Response, Revision, RevisionSource, SourceError, Store, TxnLimits, TxnRequest, TxnResponse,
    validate_delete_range, validate_put, validate_range, validate_txn,
};

/// What an engine holds on disk.
#[derive(Default, Clone)]
pub struct Contents {
    pub records: BTreeMap<[u8; 16], Bytes>,
    pub meta: Option<Bytes>,
}

/// An engine in memory, which fails on demand.
#[derive(Default)]
pub struct Engine {
    pub contents: Mutex<Contents>,
    pub broken: Mutex<bool>,
}

impl Engine {
    pub fn write(&self, checkpoint: &Checkpoint) {
        let mut contents = self.contents.lock().unwrap();
        for (revision, record) in checkpoint.puts.iter() {
            let before = contents.records.insert(revision.to_key(), record.clone());
            assert!(before.is_none(), "record {revision} is written once");
        }
        for revision in &checkpoint.deletes {
            contents.records.remove(&revision.to_key());
        }
        contents.meta = Some(checkpoint.meta.clone());
    }

    /// A store from what is on disk.
    pub fn restore(self: &Arc<Engine>) -> Store {
        let contents = self.contents.lock().unwrap().clone();
        let Some(meta) = contents.meta else { return Store::new(self.clone()) };
        let records: Vec<(Revision, Bytes)> = contents
            .records
            .into_iter()
            .map(|(key, record)| (Revision::from_key(&key).unwrap(), record))
            .collect();
        let mut store = Store::restore(self.clone(), &meta, records.iter().cloned().map(Ok)).unwrap();
        // Half of them, so that reads find some in the cache and some in the engine.
        for (revision, record) in records.into_iter().step_by(2) {
            store.warm(revision, record);
        }
        store
    }

    fn check(&self) -> Result<(), SourceError> {
        if *self.broken.lock().unwrap() { Err(SourceError::new("the disk is gone")) } else { Ok(()) }
    }
}

impl RevisionSource for Engine {
    fn get(&self, revision: Revision) -> Result<Option<Bytes>, SourceError> {
        self.check()?;
        Ok(self.contents.lock().unwrap().records.get(&revision.to_key()).cloned())
    }

    fn scan(&self, from: Revision, max: usize) -> Result<Vec<(Revision, Bytes)>, SourceError> {
        self.check()?;
        let contents = self.contents.lock().unwrap();
        let records = contents.records.range(from.to_key()..).take(max);
        Ok(records.map(|(key, record)| (Revision::from_key(key).unwrap(), record.clone())).collect())
    }
}

/// A store with its engine, used as the server uses it: validate, then propose or read.
pub struct Bench {
    pub engine: Arc<Engine>,
    pub store: Store,
}

impl Default for Bench {
    fn default() -> Bench {
        let engine = Arc::new(Engine::default());
        Bench { store: Store::new(engine.clone()), engine }
    }
}

impl Bench {
    pub fn apply(&mut self, command: &Command) -> Applied {
        // Through the log's form, as in life.
        let command = Command::decode(&command.encode()).unwrap();
        self.store.apply(&command)
    }

    pub fn checkpoint(&mut self) {
        let checkpoint = self.store.begin_checkpoint();
        self.engine.write(&checkpoint);
        self.store.finish_checkpoint();
    }

    /// Power off and on: back to the last checkpoint.
    pub fn restart(&mut self) {
        self.store = self.engine.restore();
    }

    pub fn put_request(&mut self, request: PutRequest) -> Result<Applied, Error> {
        validate_put(&request)?;
        let applied = self.apply(&Command::Put(request));
        applied.result.clone().map(|_| applied)
    }

    pub fn put(&mut self, key: &str, value: &str) -> i64 {
        self.put_request(put(key, value)).unwrap().revision
    }

    pub fn put_with_lease(&mut self, key: &str, lease: i64) -> Result<Applied, Error> {
        self.put_request(PutRequest { lease, ..put(key, "v") })
    }

    pub fn delete_request(&mut self, request: DeleteRangeRequest) -> Result<Applied, Error> {
        validate_delete_range(&request)?;
        let applied = self.apply(&Command::DeleteRange(request));
        applied.result.clone().map(|_| applied)
    }

    pub fn delete(&mut self, key: &str, end: &str) -> Applied {
        self.delete_request(delete(key, end)).unwrap()
    }

    pub fn txn(&mut self, request: TxnRequest) -> Result<TxnResponse, Error> {
        validate_txn(&request, TxnLimits::default())?;
        if request.is_read_only() {
            return self.store.read_only_txn(&request);
        }
        match self.apply(&Command::Txn(request)).result? {
            Response::Txn(response) => Ok(response),
            other => panic!("not the answer to a transaction: {other:?}"),
        }
    }

    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        validate_range(request)?;
        self.store.range(request)
    }

    pub fn get(&self, key: &str) -> Option<duet_mvcc::KeyValue> {
        self.range(&range(key, "")).unwrap().kvs.into_iter().next()
    }

    pub fn compact(&mut self, revision: i64) -> Result<(), Error> {
        self.apply(&Command::Compact { revision }).result.map(|_| ())
    }

    pub fn grant(&mut self, id: i64, ttl: i64) -> Result<(), Error> {
        self.apply(&Command::LeaseGrant { id, ttl }).result.map(|_| ())
    }

    /// The whole history of a range from a revision on.
    pub fn history(&self, range: &KeyRange, from: i64) -> Result<Vec<Event>, Error> {
        history_of(&self.store, range, from, EventLimits::default())
    }
}

pub fn history_of(
    store: &Store,
    range: &KeyRange,
    from: i64,
    limits: EventLimits,
) -> Result<Vec<Event>, Error> {
    let mut events = Vec::new();
    let mut next = from;
    while next <= store.revision() {
        let batch = store.events(range, next, limits)?;
        assert!(batch.next_revision > next);
        events.extend(batch.events);
        next = batch.next_revision;
    }
    Ok(events)
}

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub fn put(key: &str, value: &str) -> PutRequest {
    PutRequest { key: bytes(key), value: bytes(value), ..PutRequest::default() }
}

pub fn range(key: &str, end: &str) -> RangeRequest {
    RangeRequest { key: bytes(key), range_end: bytes(end), ..RangeRequest::default() }
}

pub fn delete(key: &str, end: &str) -> DeleteRangeRequest {
    DeleteRangeRequest { key: bytes(key), range_end: bytes(end), prev_kv: false }
}

pub fn op_put(key: &str) -> Operation {
    Operation::Put(put(key, "v"))
}

pub fn op_range(key: &str, end: &str) -> Operation {
    Operation::Range(range(key, end))
}

pub fn op_delete(key: &str, end: &str) -> Operation {
    Operation::DeleteRange(delete(key, end))
}

pub fn op_txn(success: Vec<Operation>) -> Operation {
    Operation::Txn(txn(success))
}

pub fn txn(success: Vec<Operation>) -> TxnRequest {
    TxnRequest { success, ..TxnRequest::default() }
}

pub fn compare(key: &str, end: &str, target: CompareTarget, result: CompareResult) -> Compare {
    Compare { result, target, key: bytes(key), range_end: bytes(end) }
}

pub fn keys(response: &RangeResponse) -> Vec<String> {
    response.kvs.iter().map(|key_value| String::from_utf8(key_value.key.to_vec()).unwrap()).collect()
}

/// Events as (kind, key, mod revision), for short expectations.
pub fn outline(events: &[Event]) -> Vec<(EventKind, String, i64)> {
    let outline = |event: &Event| {
        let key = String::from_utf8(event.key_value.key.to_vec()).unwrap();
        (event.kind, key, event.key_value.mod_revision)
    };
    events.iter().map(outline).collect()
}

/// The header revision of an inner answer.
pub fn inner_revision(response: &OperationResponse) -> i64 {
    match response {
        OperationResponse::Range(response) => response.revision,
        OperationResponse::Put(response) => response.revision,
        OperationResponse::DeleteRange(response) => response.revision,
        OperationResponse::Txn(response) => response.revision,
    }
}
