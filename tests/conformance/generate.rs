//! Random sequences from a seed: everything that KV, Lease and Watch offer, on few keys, so that the steps meet.
//!
//! Left out are what the two are meant to differ in, and what depends on time.

use bytes::Bytes;
use duet_etcd_api::etcdserverpb as pb;
use pb::compare::TargetUnion;
use pb::request_op::Request;

use crate::random::Random;
use crate::requests::{all, puts};
use crate::step::Step;

/// Few, so that Go's sort, which is stable only for up to twelve items, orders ties as ours does.
const KEYS: [&str; 9] = ["a", "a/", "a/1", "a/2", "b", "b\0", "c", "d", "zz"];
const ENDS: [&str; 7] = ["", "", "\0", "b", "a0", "c", "a"];
const VALUES: [&str; 5] = ["", "1", "2", "20", "x"];

/// Bytes of a value that no request may have.
const TOO_LARGE: usize = 1_600_000;

/// Operations that a part of a transaction may have.
const MOST_OPERATIONS: usize = 128;

/// Deepest nesting of transactions.
const DEPTH: u64 = 2;

/// A sequence in the making.
pub struct Generator {
    pub(crate) random: Random,
    /// Revisions that were made until now, at most.
    revision: u64,
    /// A compaction was asked for at these; etcd 3.4 forgets a deletion there, so no watch begins at one.
    compactions: Vec<i64>,
}

/// The sequence of a seed.
pub fn sequence(seed: u64) -> Vec<Step> {
    let mut generator = Generator::new(seed);
    let length = generator.random.within(20..60);
    // Something to watch with, so that there is progress to tell.
    let first = Step::Watch(pb::WatchCreateRequest { key: "progress".into(), ..Default::default() });
    let mut steps = vec![first];
    steps.extend((0..length).map(|_| generator.step()));
    steps
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Generator {
        Generator { random: Random::new(seed), revision: 1, compactions: Vec::new() }
    }

    pub(crate) fn step(&mut self) -> Step {
        if self.random.percent(2) {
            return self.above_a_limit();
        }
        match self.random.within(0..100) {
            0..30 => {
                self.revision += 1;
                Step::Put(self.put())
            }
            30..55 => Step::Range(self.range()),
            55..62 => {
                self.revision += 1;
                Step::Delete(self.delete())
            }
            62..78 => {
                self.revision += 1;
                Step::Txn(self.txn(0))
            }
            78..81 => {
                let revision = self.any_revision();
                self.compactions.push(revision);
                Step::Compact(pb::CompactionRequest { revision, physical: self.random.percent(50) })
            }
            81..85 => {
                let ttl = self.random.pick(&[100, 100, 1000, 9_000_000_001]);
                Step::Grant(pb::LeaseGrantRequest { id: self.lease(), ttl })
            }
            85..87 => {
                self.revision += 1;
                Step::Revoke(self.lease())
            }
            87..89 => Step::TimeToLive(self.lease()),
            89 => Step::KeepAlive(self.lease()),
            90 => Step::Leases,
            91..96 => Step::Watch(self.watch()),
            96..98 => Step::CancelWatch(self.random.pick(&[1, 2, 3, 7])),
            _ => Step::Progress,
        }
    }

    /// What is refused whatever the state is.
    fn above_a_limit(&mut self) -> Step {
        let too_large = pb::PutRequest { value: vec![b'v'; TOO_LARGE].into(), ..self.put() };
        let many = self.random.pick(&[MOST_OPERATIONS + 1, 2 * MOST_OPERATIONS]);
        match self.random.within(0..4) {
            0 => Step::Put(too_large),
            1 => Step::Txn(all([Request::RequestPut(too_large)])),
            2 => Step::Txn(pb::TxnRequest { success: puts(many), ..self.txn(DEPTH) }),
            _ => Step::Txn(pb::TxnRequest { failure: puts(many), ..self.txn(DEPTH) }),
        }
    }

    fn key(&mut self) -> Bytes {
        if self.random.percent(2) { Bytes::new() } else { self.random.pick(&KEYS).into() }
    }

    fn lease(&mut self) -> i64 {
        self.random.pick(&[1, 2, 3, 4])
    }

    /// Usually one that was made; sometimes none, the newest, or one of the future.
    fn any_revision(&mut self) -> i64 {
        let made = self.random.within(1..self.revision + 2);
        self.random.pick(&[0, -1, i64::try_from(made).unwrap(), i64::try_from(made).unwrap()])
    }

    /// Mostly none.
    fn bound(&mut self) -> i64 {
        if self.random.percent(15) { self.any_revision() } else { 0 }
    }

    fn put(&mut self) -> pb::PutRequest {
        let (ignore_value, ignore_lease) = (self.random.percent(8), self.random.percent(8));
        let value = if ignore_value && self.random.percent(70) { "" } else { self.random.pick(&VALUES) };
        let lease = if self.random.percent(25) { self.lease() } else { 0 };
        pb::PutRequest {
            key: self.key(),
            value: value.into(),
            lease: if ignore_lease && self.random.percent(70) { 0 } else { lease },
            prev_kv: self.random.percent(30),
            ignore_value,
            ignore_lease,
        }
    }

    fn range(&mut self) -> pb::RangeRequest {
        pb::RangeRequest {
            key: self.key(),
            range_end: self.random.pick(&ENDS).into(),
            limit: self.random.pick(&[0, 0, 0, 1, 2, 5, -1]),
            revision: if self.random.percent(30) { self.any_revision() } else { 0 },
            sort_order: self.random.pick(&[0, 0, 0, 1, 2, 7]),
            sort_target: self.random.pick(&[0, 0, 0, 1, 2, 3, 4]),
            serializable: self.random.percent(20),
            keys_only: self.random.percent(15),
            count_only: self.random.percent(10),
            min_mod_revision: self.bound(),
            max_mod_revision: self.bound(),
            min_create_revision: self.bound(),
            max_create_revision: self.bound(),
        }
    }

    fn delete(&mut self) -> pb::DeleteRangeRequest {
        pb::DeleteRangeRequest {
            key: self.key(),
            range_end: self.random.pick(&ENDS).into(),
            prev_kv: self.random.percent(50),
        }
    }

    fn txn(&mut self, depth: u64) -> pb::TxnRequest {
        let compares = self.random.within(0..3);
        let compare = (0..compares).map(|_| self.compare()).collect();
        let mut branch = || {
            let operations = self.random.within(0..4);
            (0..operations).map(|_| self.operation(depth)).collect()
        };
        pb::TxnRequest { compare, success: branch(), failure: branch() }
    }

    fn operation(&mut self, depth: u64) -> pb::RequestOp {
        let request = match self.random.within(0..100) {
            0..40 => Request::RequestPut(self.put()),
            40..65 => Request::RequestRange(self.range()),
            65..80 => Request::RequestDeleteRange(self.delete()),
            _ if depth < DEPTH => Request::RequestTxn(self.txn(depth + 1)),
            _ => Request::RequestRange(self.range()),
        };
        pb::RequestOp { request: Some(request) }
    }

    fn compare(&mut self) -> pb::Compare {
        let target = self.random.pick(&[0, 1, 2, 3, 4]);
        let target_union = match target {
            0 => TargetUnion::Version(self.random.pick(&[0, 1, 2])),
            1 => TargetUnion::CreateRevision(self.any_revision()),
            2 => TargetUnion::ModRevision(self.any_revision()),
            3 => TargetUnion::Value(self.random.pick(&VALUES).into()),
            _ => TargetUnion::Lease(self.random.pick(&[0, 1, 2])),
        };
        pb::Compare {
            result: self.random.pick(&[0, 1, 2, 3]),
            target,
            key: self.key(),
            range_end: if self.random.percent(30) { self.random.pick(&ENDS).into() } else { Bytes::new() },
            target_union: (!self.random.percent(4)).then_some(target_union),
        }
    }

    fn watch(&mut self) -> pb::WatchCreateRequest {
        let mut start_revision = if self.random.percent(60) { self.any_revision().max(0) } else { 0 };
        while self.compactions.contains(&start_revision) {
            start_revision += 1;
        }
        let filters: &[i32] = self.random.pick(&[&[][..], &[], &[0], &[1]]);
        pb::WatchCreateRequest {
            key: self.random.pick(&KEYS).into(),
            range_end: self.random.pick(&ENDS).into(),
            start_revision,
            filters: filters.to_vec(),
            prev_kv: self.random.percent(50),
            watch_id: self.random.pick(&[0, 0, 0, 7]),
            ..Default::default()
        }
    }
}
