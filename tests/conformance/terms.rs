//! Requests and answers in the terms of one sequence: keys without its prefix, revisions and lease ids counted from its
//! start, servers without their names. In these terms two servers must say the same.

use bytes::Bytes;
use duet_etcd_api::authpb::Permission;
use duet_etcd_api::etcdserverpb as pb;
use duet_etcd_api::mvccpb::{Event, KeyValue};
use pb::compare::TargetUnion;
use pb::request_op::Request;
use pb::response_op::Response;

/// Where a sequence starts on one server.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Before each key.
    pub prefix: Bytes,
    /// The store's revision when the sequence began.
    pub revision: i64,
    /// Added to each lease id.
    pub lease: i64,
}

/// `\0`: every key from here on.
pub const FROM_KEY: &[u8] = b"\0";

impl Terms {
    /// A key as the server knows it; no key stays none.
    pub fn key(&self, key: &Bytes) -> Bytes {
        if key.is_empty() { key.clone() } else { Bytes::from([&self.prefix[..], key].concat()) }
    }

    /// The end of a range; "every key from here on" ends with the sequence's own.
    pub fn range_end(&self, end: &Bytes) -> Bytes {
        match (end.as_ref(), self.prefix.split_last()) {
            (FROM_KEY, Some((last, rest))) => Bytes::from([rest, &[last + 1]].concat()),
            _ => self.key(end),
        }
    }

    fn key_back(&self, key: &mut Bytes) {
        if let Some(rest) = key.strip_prefix(&self.prefix[..]) {
            *key = key.slice_ref(rest);
        }
    }

    /// 1 is the first revision of the sequence; 0 and less mean what they mean anywhere.
    pub fn revision(&self, revision: i64) -> i64 {
        if revision > 0 { self.revision + revision } else { revision }
    }

    fn revision_back(&self, revision: &mut i64) {
        if *revision != 0 {
            *revision -= self.revision;
        }
    }

    pub fn lease(&self, lease: i64) -> i64 {
        if lease > 0 { self.lease + lease } else { lease }
    }

    pub fn lease_back(&self, lease: &mut i64) {
        if *lease > self.lease {
            *lease -= self.lease;
        }
    }

    pub fn range(&self, request: &pb::RangeRequest) -> pb::RangeRequest {
        pb::RangeRequest {
            key: self.key(&request.key),
            range_end: self.range_end(&request.range_end),
            revision: self.revision(request.revision),
            min_mod_revision: self.revision(request.min_mod_revision),
            max_mod_revision: self.revision(request.max_mod_revision),
            min_create_revision: self.revision(request.min_create_revision),
            max_create_revision: self.revision(request.max_create_revision),
            ..request.clone()
        }
    }

    pub fn put(&self, request: &pb::PutRequest) -> pb::PutRequest {
        pb::PutRequest { key: self.key(&request.key), lease: self.lease(request.lease), ..request.clone() }
    }

    pub fn delete(&self, request: &pb::DeleteRangeRequest) -> pb::DeleteRangeRequest {
        pb::DeleteRangeRequest {
            key: self.key(&request.key),
            range_end: self.range_end(&request.range_end),
            prev_kv: request.prev_kv,
        }
    }

    pub fn txn(&self, request: &pb::TxnRequest) -> pb::TxnRequest {
        let branch = |operations: &[pb::RequestOp]| {
            operations.iter().map(|operation| self.operation(operation)).collect()
        };
        pb::TxnRequest {
            compare: request.compare.iter().map(|compare| self.compare(compare)).collect(),
            success: branch(&request.success),
            failure: branch(&request.failure),
        }
    }

    fn operation(&self, operation: &pb::RequestOp) -> pb::RequestOp {
        let request = operation.request.as_ref().map(|request| match request {
            Request::RequestRange(request) => Request::RequestRange(self.range(request)),
            Request::RequestPut(request) => Request::RequestPut(self.put(request)),
            Request::RequestDeleteRange(request) => Request::RequestDeleteRange(self.delete(request)),
            Request::RequestTxn(request) => Request::RequestTxn(self.txn(request)),
        });
        pb::RequestOp { request }
    }

    fn compare(&self, compare: &pb::Compare) -> pb::Compare {
        let target_union = compare.target_union.as_ref().map(|target| match target {
            TargetUnion::CreateRevision(revision) => TargetUnion::CreateRevision(self.revision(*revision)),
            TargetUnion::ModRevision(revision) => TargetUnion::ModRevision(self.revision(*revision)),
            TargetUnion::Lease(lease) => TargetUnion::Lease(self.lease(*lease)),
            other @ (TargetUnion::Version(_) | TargetUnion::Value(_)) => other.clone(),
        });
        pb::Compare {
            key: self.key(&compare.key),
            range_end: self.range_end(&compare.range_end),
            target_union,
            ..compare.clone()
        }
    }

    pub fn watch(&self, request: &pb::WatchCreateRequest) -> pb::WatchCreateRequest {
        pb::WatchCreateRequest {
            key: self.key(&request.key),
            range_end: self.range_end(&request.range_end),
            start_revision: self.revision(request.start_revision),
            ..request.clone()
        }
    }

    pub fn permission(&self, permission: &Permission) -> Permission {
        Permission {
            key: self.key(&permission.key),
            range_end: self.range_end(&permission.range_end),
            ..permission.clone()
        }
    }

    pub fn permissions_back(&self, answer: &mut pb::AuthRoleGetResponse) {
        self.header_back(&mut answer.header);
        for permission in &mut answer.perm {
            self.key_back(&mut permission.key);
            self.key_back(&mut permission.range_end);
        }
        // etcd tells those that begin with the same key in any order.
        answer.perm.sort_unstable_by(|a, b| (&a.key, &a.range_end).cmp(&(&b.key, &b.range_end)));
    }

    /// Of the ids only whether they are set.
    pub fn header_back(&self, header: &mut Option<pb::ResponseHeader>) {
        if let Some(header) = header {
            header.cluster_id = u64::from(header.cluster_id != 0);
            header.member_id = u64::from(header.member_id != 0);
            header.raft_term = u64::from(header.raft_term != 0);
            self.revision_back(&mut header.revision);
        }
    }

    pub fn kv_back(&self, kv: &mut KeyValue) {
        self.key_back(&mut kv.key);
        self.revision_back(&mut kv.create_revision);
        self.revision_back(&mut kv.mod_revision);
        self.lease_back(&mut kv.lease);
    }

    pub fn event_back(&self, event: &mut Event) {
        event.kv.iter_mut().chain(&mut event.prev_kv).for_each(|kv| self.kv_back(kv));
    }

    pub fn range_back(&self, answer: &mut pb::RangeResponse) {
        self.header_back(&mut answer.header);
        answer.kvs.iter_mut().for_each(|kv| self.kv_back(kv));
    }

    pub fn put_back(&self, answer: &mut pb::PutResponse) {
        self.header_back(&mut answer.header);
        answer.prev_kv.iter_mut().for_each(|kv| self.kv_back(kv));
    }

    pub fn delete_back(&self, answer: &mut pb::DeleteRangeResponse) {
        self.header_back(&mut answer.header);
        answer.prev_kvs.iter_mut().for_each(|kv| self.kv_back(kv));
    }

    pub fn txn_back(&self, answer: &mut pb::TxnResponse) {
        self.header_back(&mut answer.header);
        for response in answer.responses.iter_mut().filter_map(|response| response.response.as_mut()) {
            match response {
                Response::ResponseRange(response) => self.range_back(response),
                Response::ResponsePut(response) => self.put_back(response),
                Response::ResponseDeleteRange(response) => self.delete_back(response),
                Response::ResponseTxn(response) => self.txn_back(response),
            }
        }
    }

    pub fn keys_back(&self, keys: &mut [Bytes]) {
        for key in keys.iter_mut() {
            self.key_back(key);
        }
        // etcd tells a lease's keys in any order.
        keys.sort_unstable();
    }

    pub fn compact_revision_back(&self, revision: &mut i64) {
        self.revision_back(revision);
    }
}
