//! The witness in an etcd that is there anyway.
//!
//! A pair has two keys below `PREFIX/CLUSTER/`: `record`, and `version` with the record's version. Both are written in
//! one transaction that compares `version`; both are read in one. Not the revision: an etcd that is restored from a backup, or made anew, gives
//! the same revisions out again, and a version is never used twice.
//!
//! Several members may be named. When one does not answer, the next is asked within the same deadline. A write may so
//! reach etcd twice, which its condition makes harmless: the second is refused, and the record tells whose write was
//! done, see [`foreign`](crate::foreign).
//!
//! A Duet pair speaks the same language, but it is no witness: not for itself, and not for another pair, as two pairs
//! that each wait for the other after a power cut would wait for ever. Every member is asked once whether it is one.

mod address;
mod member;
mod words;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use duet_etcd_api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use duet_etcd_api::etcdserverpb::request_op::Request as Operation;
use duet_etcd_api::etcdserverpb::response_op::Response as Answer;
use duet_etcd_api::etcdserverpb::{Compare, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse};

pub use self::address::EtcdAddress;
pub(crate) use self::address::FORM;
use self::member::{Failed, Member};
use crate::foreign::{Condition, ForeignRegister, Object, Put, Store};
use crate::{BoxFuture, ClusterName, Reason, Register, Version};

/// The record of one pair in an etcd.
struct Etcd {
    address: EtcdAddress,
    /// What the pair's two keys begin with.
    folder: String,
    members: Vec<Member>,
    /// The member that answered last is asked first.
    preferred: AtomicUsize,
    deadline: Duration,
}

/// The register of `cluster` in the etcd at `address`; connects later.
pub(crate) fn register(address: &EtcdAddress, cluster: ClusterName, deadline: Duration) -> Box<dyn Register> {
    let etcd = Etcd {
        address: address.clone(),
        folder: format!("{}/{cluster}/", address.prefix()),
        members: address.endpoints().map(|endpoint| Member::new(endpoint, address.credentials())).collect(),
        preferred: AtomicUsize::new(0),
        deadline,
    };
    Box::new(ForeignRegister::new(etcd, cluster, deadline))
}

impl Etcd {
    fn version_key(&self) -> Bytes {
        Bytes::from(format!("{}version", self.folder))
    }

    fn record_key(&self) -> Bytes {
        Bytes::from(format!("{}record", self.folder))
    }

    /// Asks the members one after another until one answers. Each gets its part of the time that is left.
    async fn ask(&self, request: &TxnRequest) -> Result<TxnResponse, Reason> {
        let until = Instant::now() + self.deadline;
        let (number, first) = (self.members.len(), self.preferred.load(Ordering::Relaxed));
        let mut told = None;
        for turn in 0..number {
            let index = (first + turn) % number;
            let member = &self.members[index];
            let left = until.saturating_duration_since(Instant::now());
            let part = left / u32::try_from(number - turn).unwrap_or(u32::MAX);
            let failed = match tokio::time::timeout(part, member.txn(request)).await {
                Ok(Ok(answer)) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Ok(Err(failed)) => failed,
                Err(_) => Failed::silent(part),
            };
            let reason =
                Reason::new(format!("the etcd at {} {}", member.endpoint(), failed.what(&self.folder)));
            if failed.is_final() {
                return Err(reason);
            }
            // The first one's words: the others often fail for the same reason.
            told.get_or_insert(reason);
        }
        Err(told.unwrap_or_else(|| Reason::new("no member of etcd is named")))
    }

    async fn fetch(&self) -> Result<Option<Object>, Reason> {
        let (from, to) = (self.record_key(), format!("{}version\0", self.folder));
        // A transaction that only reads is as linearizable as any other.
        let range = RangeRequest { key: from, range_end: to.into(), ..RangeRequest::default() };
        let read = RequestOp { request: Some(Operation::RequestRange(range)) };
        let response = self.ask(&TxnRequest { success: vec![read], ..TxnRequest::default() }).await?;
        let Some(Answer::ResponseRange(found)) =
            response.responses.into_iter().next().and_then(|answer| answer.response)
        else {
            return Err(self.reason("gave no answer to what it was asked"));
        };
        let value =
            |key: &Bytes| found.kvs.iter().find(|pair| pair.key == *key).map(|pair| pair.value.clone());
        match (value(&self.record_key()), value(&self.version_key())) {
            (None, None) => Ok(None),
            (Some(bytes), Some(version)) => {
                let tag = String::from_utf8(version.into())
                    .map_err(|_| self.reason("has a version that is not text"))?;
                Ok(Some(Object { tag, bytes }))
            }
            _ => Err(self.reason("has one of the pair's two keys only: somebody removed the other")),
        }
    }

    async fn store(&self, condition: &Condition, version: &Version, bytes: Bytes) -> Result<Put, Reason> {
        let put = |key: Bytes, value: Bytes| RequestOp {
            request: Some(Operation::RequestPut(PutRequest { key, value, ..PutRequest::default() })),
        };
        let compare = match condition {
            Condition::Absent => [self.version_key(), self.record_key()].map(absent).into(),
            Condition::Tag(tag) => vec![Compare {
                key: self.version_key(),
                result: CompareResult::Equal.into(),
                target: CompareTarget::Value.into(),
                target_union: Some(TargetUnion::Value(Bytes::from(tag.clone()))),
                ..Compare::default()
            }],
        };
        let tag = version.as_str().to_owned();
        let request = TxnRequest {
            compare,
            success: vec![put(self.record_key(), bytes), put(self.version_key(), tag.clone().into())],
            failure: Vec::new(),
        };
        let response = self.ask(&request).await?;
        Ok(if response.succeeded { Put::Done { tag } } else { Put::Refused })
    }

    fn reason(&self, what: &str) -> Reason {
        Reason::new(format!("the {} {what}", self.describe()))
    }
}

/// Holds while the key does not exist.
fn absent(key: Bytes) -> Compare {
    Compare {
        key,
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        target_union: Some(TargetUnion::CreateRevision(0)),
        ..Compare::default()
    }
}

impl Store for Etcd {
    fn get(&self) -> BoxFuture<'_, Result<Option<Object>, Reason>> {
        Box::pin(self.fetch())
    }

    fn put<'a>(
        &'a self,
        condition: &'a Condition,
        version: &'a Version,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<Put, Reason>> {
        Box::pin(self.store(condition, version, bytes))
    }

    fn silence(&self, waited: Duration) -> Reason {
        self.reason(&Failed::silent(waited).what(&self.folder))
    }

    fn describe(&self) -> String {
        format!("{}, keys {}", self.address.describe(), self.folder)
    }
}
