//! Short words for requests.

use bytes::Bytes;
use duet_etcd_api::etcdserverpb as pb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request;

use crate::step::Step;

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest { key: bytes(key), value: bytes(value), ..Default::default() }
}

pub fn get(key: &str) -> pb::RangeRequest {
    range(key, "")
}

pub fn range(key: &str, range_end: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: bytes(key), range_end: bytes(range_end), ..Default::default() }
}

pub fn delete(key: &str, range_end: &str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: bytes(key), range_end: bytes(range_end), prev_kv: true }
}

pub fn watch(key: &str, range_end: &str) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { key: bytes(key), range_end: bytes(range_end), ..Default::default() }
}

pub fn compare(key: &str, target: TargetUnion, result: CompareResult) -> pb::Compare {
    let kind = match &target {
        TargetUnion::Version(_) => CompareTarget::Version,
        TargetUnion::CreateRevision(_) => CompareTarget::Create,
        TargetUnion::ModRevision(_) => CompareTarget::Mod,
        TargetUnion::Value(_) => CompareTarget::Value,
        TargetUnion::Lease(_) => CompareTarget::Lease,
    };
    pb::Compare {
        result: result.into(),
        target: kind.into(),
        key: bytes(key),
        target_union: Some(target),
        ..Default::default()
    }
}

/// A transaction without comparisons.
pub fn all<const N: usize>(operations: [Request; N]) -> pb::TxnRequest {
    pb::TxnRequest { success: operations.map(op).into(), ..Default::default() }
}

pub fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

pub fn puts(count: usize) -> Vec<pb::RequestOp> {
    (0..count).map(|number| op(Request::RequestPut(put(&format!("k{number:03}"), "v")))).collect()
}

pub fn grant(id: i64, ttl: i64) -> Step {
    Step::Grant(pb::LeaseGrantRequest { ttl, id })
}

pub fn compact(revision: i64) -> Step {
    Step::Compact(pb::CompactionRequest { revision, physical: false })
}

pub fn log_in(name: &str, password: &str) -> Step {
    Step::LogIn(pb::AuthenticateRequest { name: name.to_owned(), password: password.to_owned() })
}
