//! etcd's messages into the data model's checked types and back. Nothing here decides anything.
//!
//! The data model knows neither unknown enum numbers nor missing unions: they are settled here as etcd settles them.
//! Inner answers of a transaction carry a header with only the revision, as etcd's do.

use duet_etcd_api::etcdserverpb as pb;
use duet_etcd_api::mvccpb;
use duet_mvcc as mvcc;
use duet_mvcc::{Error, Event, EventKind, KeyValue, Operation, OperationResponse, SortOrder, SortTarget};
use tonic::Status;

use super::errors::{BAD_COMPARE_RESULT, refused};

/// A range as the data model takes it.
pub fn range(request: &pb::RangeRequest) -> Result<mvcc::RangeRequest, Error> {
    // etcd: no target is looked at for an order that it does not know.
    let sort_target = match pb::range_request::SortOrder::try_from(request.sort_order) {
        Ok(_) => SortTarget::from_wire(request.sort_target)?,
        Err(_) => SortTarget::Key,
    };
    Ok(mvcc::RangeRequest {
        key: request.key.clone(),
        range_end: request.range_end.clone(),
        limit: request.limit,
        revision: request.revision,
        sort_order: SortOrder::from_wire(request.sort_order),
        sort_target,
        serializable: request.serializable,
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
    })
}

/// A put as the data model takes it.
pub fn put(request: &pb::PutRequest) -> mvcc::PutRequest {
    mvcc::PutRequest {
        key: request.key.clone(),
        value: request.value.clone(),
        lease: request.lease,
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    }
}

/// A delete-range as the data model takes it.
pub fn delete_range(request: &pb::DeleteRangeRequest) -> mvcc::DeleteRangeRequest {
    mvcc::DeleteRangeRequest {
        key: request.key.clone(),
        range_end: request.range_end.clone(),
        prev_kv: request.prev_kv,
    }
}

/// A transaction as the data model takes it. Protobuf's own limit on nesting bounds the recursion.
pub fn txn(request: &pb::TxnRequest) -> Result<mvcc::TxnRequest, Status> {
    Ok(mvcc::TxnRequest {
        compare: request.compare.iter().map(compare).collect::<Result<_, _>>()?,
        success: request.success.iter().map(operation).collect::<Result<_, _>>()?,
        failure: request.failure.iter().map(operation).collect::<Result<_, _>>()?,
    })
}

fn operation(operation: &pb::RequestOp) -> Result<Operation, Status> {
    use pb::request_op::Request;
    match &operation.request {
        Some(Request::RequestRange(request)) => {
            range(request).map(Operation::Range).map_err(|error| refused(&error))
        }
        Some(Request::RequestPut(request)) => Ok(Operation::Put(put(request))),
        Some(Request::RequestDeleteRange(request)) => Ok(Operation::DeleteRange(delete_range(request))),
        Some(Request::RequestTxn(request)) => txn(request).map(Operation::Txn),
        None => Err(refused(&Error::KeyNotFound)),
    }
}

fn compare(compare: &pb::Compare) -> Result<mvcc::Compare, Status> {
    use pb::compare::TargetUnion;
    let union = compare.target_union.as_ref();
    let target = match compare.target {
        0 => mvcc::CompareTarget::Version(match union {
            Some(TargetUnion::Version(number)) => *number,
            _ => 0,
        }),
        1 => mvcc::CompareTarget::Create(match union {
            Some(TargetUnion::CreateRevision(number)) => *number,
            _ => 0,
        }),
        2 => mvcc::CompareTarget::Mod(match union {
            Some(TargetUnion::ModRevision(number)) => *number,
            _ => 0,
        }),
        3 => mvcc::CompareTarget::Value(match union {
            Some(TargetUnion::Value(value)) => value.clone(),
            _ => bytes::Bytes::new(),
        }),
        4 => mvcc::CompareTarget::Lease(match union {
            Some(TargetUnion::Lease(number)) => *number,
            _ => 0,
        }),
        _ => return Err(BAD_COMPARE_RESULT.into()),
    };
    let result = mvcc::CompareResult::from_wire(compare.result).ok_or(BAD_COMPARE_RESULT)?;
    Ok(mvcc::Compare { result, target, key: compare.key.clone(), range_end: compare.range_end.clone() })
}

/// A key as clients see it.
pub fn key_value(key_value: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: key_value.key,
        create_revision: key_value.create_revision,
        mod_revision: key_value.mod_revision,
        version: key_value.version,
        value: key_value.value,
        lease: key_value.lease,
    }
}

/// An event as watchers see it.
pub fn event(event: &Event, prev_kv: Option<KeyValue>) -> mvccpb::Event {
    let kind = match event.kind {
        EventKind::Put => mvccpb::event::EventType::Put,
        EventKind::Delete => mvccpb::event::EventType::Delete,
    };
    mvccpb::Event {
        r#type: kind.into(),
        kv: Some(key_value(event.key_value.clone())),
        prev_kv: prev_kv.map(key_value),
    }
}

/// The header of an answer inside a transaction.
fn inner_header(revision: i64) -> pb::ResponseHeader {
    pb::ResponseHeader { revision, ..Default::default() }
}

/// The answer to a range, under `header`.
pub fn range_response(response: mvcc::RangeResponse, header: pb::ResponseHeader) -> pb::RangeResponse {
    pb::RangeResponse {
        header: Some(header),
        kvs: response.kvs.into_iter().map(key_value).collect(),
        more: response.more,
        count: response.count,
    }
}

/// The answer to a put, under `header`.
pub fn put_response(response: mvcc::PutResponse, header: pb::ResponseHeader) -> pb::PutResponse {
    pb::PutResponse { header: Some(header), prev_kv: response.prev_kv.map(key_value) }
}

/// The answer to a delete-range, under `header`.
pub fn delete_range_response(
    response: mvcc::DeleteRangeResponse,
    header: pb::ResponseHeader,
) -> pb::DeleteRangeResponse {
    pb::DeleteRangeResponse {
        header: Some(header),
        deleted: response.deleted,
        prev_kvs: response.prev_kvs.into_iter().map(key_value).collect(),
    }
}

/// The answer to a transaction, under `header`.
pub fn txn_response(response: mvcc::TxnResponse, header: pb::ResponseHeader) -> pb::TxnResponse {
    pb::TxnResponse {
        header: Some(header),
        succeeded: response.succeeded,
        responses: response.responses.into_iter().map(operation_response).collect(),
    }
}

fn operation_response(response: OperationResponse) -> pb::ResponseOp {
    use pb::response_op::Response;
    let response = match response {
        OperationResponse::Range(response) => {
            let header = inner_header(response.revision);
            Response::ResponseRange(range_response(response, header))
        }
        OperationResponse::Put(response) => {
            let header = inner_header(response.revision);
            Response::ResponsePut(put_response(response, header))
        }
        OperationResponse::DeleteRange(response) => {
            let header = inner_header(response.revision);
            Response::ResponseDeleteRange(delete_range_response(response, header))
        }
        OperationResponse::Txn(response) => {
            let header = inner_header(response.revision);
            Response::ResponseTxn(txn_response(response, header))
        }
    };
    pb::ResponseOp { response: Some(response) }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use duet_mvcc::{CompareTarget, Revision};

    use super::*;

    #[test]
    fn unknown_sort_numbers_are_settled_as_etcd_does() {
        let request = pb::RangeRequest { sort_order: 7, sort_target: 4, ..Default::default() };
        let sorted = range(&request).map(|range| (range.sort_order, range.sort_target));
        assert_eq!(sorted, Ok((SortOrder::None, SortTarget::Key)));
        let request =
            pb::RangeRequest { key: Bytes::from_static(b"k"), sort_target: 9, ..Default::default() };
        assert_eq!(range(&request), Err(Error::InvalidSortOption));
    }

    #[test]
    fn a_missing_or_mismatched_operand_is_zero() {
        let missing = pb::Compare { key: Bytes::from_static(b"k"), ..Default::default() };
        assert_eq!(compare(&missing).map(|compare| compare.target).ok(), Some(CompareTarget::Version(0)));
        let mismatched = pb::Compare {
            target: 1,
            target_union: Some(pb::compare::TargetUnion::Value(Bytes::from_static(b"v"))),
            ..missing
        };
        assert_eq!(compare(&mismatched).map(|compare| compare.target).ok(), Some(CompareTarget::Create(0)));
    }

    #[test]
    fn an_operation_without_content_is_refused_in_etcds_words() {
        let request = pb::TxnRequest { success: vec![pb::RequestOp { request: None }], ..Default::default() };
        let status = txn(&request).err().map(|status| status.message().to_owned());
        assert_eq!(status.as_deref(), Some("etcdserver: key not found"));
    }

    #[test]
    fn inner_headers_have_only_the_revision() {
        let response = mvcc::TxnResponse {
            revision: 5,
            succeeded: true,
            responses: vec![OperationResponse::Put(mvcc::PutResponse { revision: 5, prev_kv: None })],
        };
        let outer = pb::ResponseHeader { cluster_id: 1, member_id: 2, revision: 5, raft_term: 3 };
        let answer = txn_response(response, outer);
        assert_eq!(answer.header, Some(outer));
        let Some(pb::response_op::Response::ResponsePut(put)) = &answer.responses[0].response else {
            panic!("a put's answer");
        };
        assert_eq!(put.header, Some(pb::ResponseHeader { revision: 5, ..Default::default() }));
    }

    #[test]
    fn an_absent_former_value_stays_absent() {
        let change = Event {
            kind: EventKind::Delete,
            revision: Revision::new(4, 0),
            key_value: KeyValue { key: Bytes::from_static(b"k"), mod_revision: 4, ..Default::default() },
        };
        let sent = event(&change, None);
        assert_eq!(sent.r#type, i32::from(mvccpb::event::EventType::Delete));
        assert_eq!(sent.prev_kv, None);
        assert_eq!(sent.kv.map(|kv| (kv.version, kv.create_revision, kv.mod_revision)), Some((0, 0, 4)));
    }
}
