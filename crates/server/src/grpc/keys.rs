//! The keys of locks and elections, and the steps of transactions on them, in the API's own terms.

use bytes::Bytes;
use duet_etcd_api::etcdserverpb as pb;
use pb::range_request::{SortOrder, SortTarget};
use pb::request_op::Request;

/// What all keys of a line begin with.
pub fn line(name: &Bytes) -> Bytes {
    Bytes::from([name, &b"/"[..]].concat())
}

/// The key of a lease's place in a line.
pub fn place(line: &Bytes, lease: i64) -> Bytes {
    // As Go writes a negative number.
    let sign = if lease < 0 { "-" } else { "" };
    Bytes::from([line, format!("{sign}{:x}", lease.unsigned_abs()).as_bytes()].concat())
}

/// The end of the range of all keys that begin with `line`, which ends with `/`.
pub fn end_of(line: &Bytes) -> Bytes {
    let name = line.strip_suffix(b"/").unwrap_or(line);
    Bytes::from([name, &b"0"[..]].concat())
}

/// The oldest key of a line.
pub fn oldest(line: &Bytes) -> pb::RangeRequest {
    pb::RangeRequest {
        key: line.clone(),
        range_end: end_of(line),
        limit: 1,
        sort_order: SortOrder::Ascend.into(),
        sort_target: SortTarget::Create.into(),
        ..Default::default()
    }
}

/// The youngest key of a line among those created up to a revision.
pub fn newest_up_to(line: &Bytes, revision: i64) -> pb::RangeRequest {
    pb::RangeRequest {
        sort_order: SortOrder::Descend.into(),
        max_create_revision: revision,
        keys_only: true,
        ..oldest(line)
    }
}

/// Holds if the key was created at that revision; 0: if there is none.
pub fn created_at(key: &Bytes, revision: i64) -> pb::Compare {
    pb::Compare {
        result: pb::compare::CompareResult::Equal.into(),
        target: pb::compare::CompareTarget::Create.into(),
        key: key.clone(),
        target_union: Some(pb::compare::TargetUnion::CreateRevision(revision)),
        ..Default::default()
    }
}

/// Sets a key and hangs it on a lease.
pub fn put(key: &Bytes, value: &Bytes, lease: i64) -> pb::RequestOp {
    let request = pb::PutRequest { key: key.clone(), value: value.clone(), lease, ..Default::default() };
    pb::RequestOp { request: Some(Request::RequestPut(request)) }
}

/// Reads keys.
pub fn range(request: pb::RangeRequest) -> pb::RequestOp {
    pb::RequestOp { request: Some(Request::RequestRange(request)) }
}

/// Reads a key.
pub fn get(key: &Bytes) -> pb::RequestOp {
    range(pb::RangeRequest { key: key.clone(), ..Default::default() })
}

/// Deletes a key.
pub fn delete(key: &Bytes) -> pb::RequestOp {
    let request = pb::DeleteRangeRequest { key: key.clone(), ..Default::default() };
    pb::RequestOp { request: Some(Request::RequestDeleteRange(request)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_as_etcd_writes_them() {
        let jobs = line(&Bytes::from_static(b"jobs"));
        assert_eq!(place(&jobs, 0x1e61), "jobs/1e61");
        assert_eq!(place(&jobs, -255), "jobs/-ff");
        assert_eq!(end_of(&jobs), "jobs0");
        assert_eq!(place(&line(&Bytes::new()), 1), "/1");
    }
}
