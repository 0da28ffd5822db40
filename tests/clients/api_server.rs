//! An API server of Kubernetes as etcd sees it: the requests of its storage layer, at one appliance and, when that fails,
//! at the other.

use bytes::Bytes;
use duet_etcd_api::etcdserverpb as pb;
use duet_etcd_api::mvccpb::KeyValue;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request;
use pb::response_op::Response;
use tonic::{Code, Status};

use crate::harness::{A, B, PATIENCE, Pair};
use crate::support::client::{Client, within};

/// Where all objects are.
pub const REGISTRY: &str = "/registry/";
/// What the API servers' compactors agree by.
const COMPACT_REV_KEY: &str = "compact_rev_key";
/// Pause before the other appliance is tried.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// The end of the range of all keys that begin with `prefix`.
pub fn end_of(prefix: &str) -> Bytes {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().expect("a prefix") += 1;
    end.into()
}

/// How an optimistic write came out.
#[derive(Debug)]
pub enum Outcome {
    /// Done, at this revision.
    Done(i64),
    /// Somebody else was quicker: this is there now.
    Conflict(Option<KeyValue>),
    /// Nobody knows.
    Unknown,
}

/// See the module.
#[derive(Clone)]
pub struct ApiServer {
    clients: [Client; 2],
}

fn holds(key: &str, target: CompareTarget, operand: TargetUnion) -> pb::Compare {
    pb::Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: bytes(key),
        target_union: Some(operand),
        ..Default::default()
    }
}

fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn put(key: &str, value: &str, lease: i64) -> pb::RequestOp {
    op(Request::RequestPut(pb::PutRequest {
        key: bytes(key),
        value: bytes(value),
        lease,
        ..Default::default()
    }))
}

fn get(key: &str) -> pb::RequestOp {
    op(Request::RequestRange(pb::RangeRequest { key: bytes(key), ..Default::default() }))
}

fn first_kv(answer: &pb::TxnResponse) -> Option<KeyValue> {
    match answer.responses.first()?.response.as_ref()? {
        Response::ResponseRange(range) => range.kvs.first().cloned(),
        _ => None,
    }
}

impl ApiServer {
    /// One that prefers an appliance: 0 is A, 1 is B.
    pub fn new(pair: &Pair, prefers: usize) -> ApiServer {
        let mut clients = [A, B].map(|appliance| Client::new(&pair.client_url(appliance)));
        clients.rotate_left(prefers);
        ApiServer { clients }
    }

    /// The client of the `turn`-th try.
    pub fn client(&self, turn: usize) -> &Client {
        &self.clients[turn % 2]
    }

    /// Does something that may be repeated, until an appliance answers.
    pub async fn read<T, F>(&self, call: impl Fn(Client) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let start = std::time::Instant::now();
        for turn in 0.. {
            match call(self.client(turn).clone()).await {
                Err(status) if is_retriable(&status) => {
                    assert!(start.elapsed() < PATIENCE, "nobody answers: {status:?}");
                    tokio::time::sleep(PAUSE).await;
                }
                answer => return answer.map(tonic::Response::into_inner),
            }
        }
        unreachable!("tries for ever")
    }

    async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Status> {
        self.read(|client| {
            let request = request.clone();
            async move { client.kv().range(request).await }
        })
        .await
    }

    async fn write(&self, turn: usize, txn: pb::TxnRequest) -> Outcome {
        match within(PATIENCE, self.client(turn).kv().txn(txn)).await {
            Ok(answer) if answer.succeeded => Outcome::Done(answer.header.unwrap().revision),
            Ok(answer) => Outcome::Conflict(first_kv(&answer)),
            Err(status) => {
                assert!(is_retriable(&status), "an API server would fail: {status:?}");
                tokio::time::sleep(PAUSE).await;
                Outcome::Unknown
            }
        }
    }

    /// Creates an object that must not be there.
    pub async fn create(&self, turn: usize, key: &str, value: &str, lease: i64) -> Outcome {
        let txn = pb::TxnRequest {
            compare: vec![holds(key, CompareTarget::Mod, TargetUnion::ModRevision(0))],
            success: vec![put(key, value, lease)],
            failure: vec![get(key)],
        };
        self.write(turn, txn).await
    }

    /// Changes an object that must still be as it was read.
    pub async fn update(&self, turn: usize, key: &str, revision: i64, value: &str) -> Outcome {
        let txn = pb::TxnRequest {
            compare: vec![holds(key, CompareTarget::Mod, TargetUnion::ModRevision(revision))],
            success: vec![put(key, value, 0)],
            failure: vec![get(key)],
        };
        self.write(turn, txn).await
    }

    /// Deletes an object that must still be as it was read.
    pub async fn delete(&self, turn: usize, key: &str, revision: i64) -> Outcome {
        let delete = pb::DeleteRangeRequest { key: bytes(key), ..Default::default() };
        let txn = pb::TxnRequest {
            compare: vec![holds(key, CompareTarget::Mod, TargetUnion::ModRevision(revision))],
            success: vec![op(Request::RequestDeleteRange(delete))],
            failure: vec![get(key)],
        };
        self.write(turn, txn).await
    }

    /// One object.
    pub async fn get(&self, key: &str) -> Option<KeyValue> {
        let request = pb::RangeRequest { key: bytes(key), ..Default::default() };
        self.range(request).await.unwrap().kvs.into_iter().next()
    }

    /// Everything below a prefix in pages, all of one revision; it.
    ///
    /// # Errors
    /// The revision was compacted between two pages.
    pub async fn list(&self, prefix: &str, page: i64) -> Result<(Vec<KeyValue>, i64), Status> {
        let (mut revision, mut from, mut listed) = (0, bytes(prefix), Vec::new());
        loop {
            let request = pb::RangeRequest {
                key: from,
                range_end: end_of(prefix),
                limit: page,
                revision,
                ..Default::default()
            };
            let answer = self.range(request).await?;
            if revision == 0 {
                revision = answer.header.unwrap().revision;
            }
            let remaining = answer.count - i64::try_from(answer.kvs.len()).unwrap();
            assert_eq!(answer.more, remaining > 0, "what remains is told with each page");
            listed.extend(answer.kvs);
            if !answer.more {
                return Ok((listed, revision));
            }
            // The continue token: right after the last key.
            let last = &listed.last().expect("a page before the end is not empty").key;
            from = Bytes::from([last, &b"\0"[..]].concat());
        }
    }

    /// A lease for objects that pass.
    pub async fn lease(&self, ttl: i64) -> i64 {
        let request = pb::LeaseGrantRequest { ttl, id: 0 };
        let granted = self.read(|client| async move { client.lease().lease_grant(request).await }).await;
        granted.unwrap().id
    }

    /// One round of the compactor: whoever finds `compact_rev_key` at the version it knows may compact, up to what was
    /// the newest revision a round before. The version and revision for the next round.
    pub async fn compact(&self, turn: usize, version: i64, revision: i64) -> Result<(i64, i64), Status> {
        let txn = pb::TxnRequest {
            compare: vec![holds(COMPACT_REV_KEY, CompareTarget::Version, TargetUnion::Version(version))],
            success: vec![put(COMPACT_REV_KEY, &revision.to_string(), 0)],
            failure: vec![get(COMPACT_REV_KEY)],
        };
        let answer = within(PATIENCE, self.client(turn).kv().txn(txn)).await?;
        let now = answer.header.unwrap().revision;
        if !answer.succeeded {
            return Ok((first_kv(&answer).expect("somebody else's").version, now));
        }
        if revision > 0 {
            let request = pb::CompactionRequest { revision, physical: false };
            within(PATIENCE, self.client(turn).kv().compact(request)).await?;
        }
        Ok((version + 1, now))
    }
}

/// Errors after which a client tries elsewhere.
pub fn is_retriable(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::ResourceExhausted
    ) || status.message().contains("transport error")
        || status.message().contains("h2 protocol error")
}
