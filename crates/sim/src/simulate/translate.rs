//! From the data model's words to those of the checkers.
//!
//! A value is told by its number and its length: of the operation that wrote it the workload makes the rest.

use bytes::Bytes;
use duet_checkers as seen;
use duet_mvcc::{
    Applied, Command, Compare, CompareResult, CompareTarget, Event, EventKind, KeyRange, Operation,
    OperationResponse, RangeResponse, Response, TxnRequest,
};
use seen::{Answer, Change, ChangeKind, Condition, KeyValue, Keys, Number, Request, Step, StepAnswer, Txn};

use super::workload;

fn text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}

fn value(bytes: &[u8]) -> String {
    match workload::writer_of(bytes) {
        Some(writer) => format!("{writer}+{}", bytes.len()),
        None => format!("{bytes:?}"),
    }
}

fn between(key: &Bytes, range_end: &Bytes) -> Keys {
    if range_end.is_empty() { Keys::One(text(key)) } else { Keys::Range(text(key), text(range_end)) }
}

/// The keys of a range.
pub fn keys(range: &KeyRange) -> Keys {
    match range {
        KeyRange::Single(key) => Keys::One(text(key)),
        KeyRange::Between(from, to) => Keys::Range(text(from), text(to)),
        KeyRange::From(from) => Keys::Range(text(from), char::MAX.to_string()),
    }
}

/// What a key holds.
pub fn key_value(held: &duet_mvcc::KeyValue) -> KeyValue {
    KeyValue {
        value: value(&held.value),
        create_revision: held.create_revision,
        mod_revision: held.mod_revision,
        version: held.version,
        lease: held.lease,
    }
}

/// A change of the data.
pub fn change(event: &Event) -> Change {
    let kind = match event.kind {
        EventKind::Put => ChangeKind::Put(key_value(&event.key_value)),
        EventKind::Delete => ChangeKind::Delete,
    };
    Change { revision: event.revision.main, key: text(&event.key_value.key), kind }
}

/// A client's request; `None`: it is nothing that the checkers know (a compaction changes no data).
pub fn request(command: &Command) -> Option<Request> {
    Some(match command {
        Command::Put(put) => Request::Txn(Txn::of(step(&Operation::Put(put.clone())))),
        Command::DeleteRange(delete) => Request::Txn(Txn::of(step(&Operation::DeleteRange(delete.clone())))),
        Command::Txn(txn) => Request::Txn(transaction(txn)),
        Command::LeaseGrant { id, ttl } => Request::Grant { lease: *id, ttl: *ttl },
        Command::LeaseRevoke { id } => Request::Revoke { lease: *id },
        _ => return None,
    })
}

/// A read.
pub fn read(request: &duet_mvcc::RangeRequest, is_serializable: bool) -> Request {
    let txn = Txn::of(Step::Get(between(&request.key, &request.range_end)));
    if is_serializable { Request::Serializable(txn) } else { Request::Txn(txn) }
}

fn transaction(txn: &TxnRequest) -> Txn {
    Txn {
        conditions: txn.compare.iter().map(condition).collect(),
        then: txn.success.iter().map(step).collect(),
        otherwise: txn.failure.iter().map(step).collect(),
    }
}

fn condition(compare: &Compare) -> Condition {
    let (number, than) = match &compare.target {
        CompareTarget::Version(than) => (Number::Version, *than),
        CompareTarget::Create(than) => (Number::CreateRevision, *than),
        CompareTarget::Mod(than) => (Number::ModRevision, *than),
        CompareTarget::Lease(than) => (Number::Lease, *than),
        CompareTarget::Value(_) => unreachable!("the workload compares numbers"),
    };
    let compared = match (compare.result, number) {
        (CompareResult::Greater, _) => seen::Compare::Above(number, than),
        (CompareResult::Less, _) => seen::Compare::Below(number, than),
        (CompareResult::Equal, Number::Version) => seen::Compare::Version(than),
        (CompareResult::Equal, Number::CreateRevision) => seen::Compare::CreateRevision(than),
        (CompareResult::Equal, Number::ModRevision) => seen::Compare::ModRevision(than),
        (CompareResult::Equal, Number::Lease) => seen::Compare::Lease(than),
        (CompareResult::NotEqual, _) => unreachable!("the workload asks for equality and order"),
    };
    Condition { key: text(&compare.key), compare: compared }
}

fn step(operation: &Operation) -> Step {
    match operation {
        Operation::Range(range) => Step::Get(between(&range.key, &range.range_end)),
        Operation::Put(put) => Step::Put { key: text(&put.key), value: value(&put.value), lease: put.lease },
        Operation::DeleteRange(delete) => Step::Delete(between(&delete.key, &delete.range_end)),
        Operation::Txn(_) => unreachable!("the workload nests nothing"),
    }
}

/// What a read found.
pub fn found(answer: &RangeResponse) -> Answer {
    Answer::Txn { revision: answer.revision, succeeded: true, steps: vec![got(answer)] }
}

fn got(answer: &RangeResponse) -> StepAnswer {
    StepAnswer::Got(answer.kvs.iter().map(|held| (text(&held.key), key_value(held))).collect())
}

/// The answer to a command; `None`: it was refused, or is nothing that the checkers know.
pub fn answer(applied: &Applied) -> Option<Answer> {
    let revision = applied.revision;
    let txn = |succeeded, steps| Answer::Txn { revision, succeeded, steps };
    Some(match applied.result.as_ref().ok()? {
        Response::Put(_) => txn(true, vec![StepAnswer::Put]),
        Response::DeleteRange(delete) => txn(true, vec![StepAnswer::Deleted(delete.deleted)]),
        Response::Txn(answer) => txn(answer.succeeded, answer.responses.iter().map(answered).collect()),
        Response::LeaseGrant { ttl, .. } => Answer::Lease { revision, ttl: Some(*ttl) },
        Response::LeaseRevoke => Answer::Lease { revision, ttl: None },
        _ => return None,
    })
}

fn answered(response: &OperationResponse) -> StepAnswer {
    match response {
        OperationResponse::Range(range) => got(range),
        OperationResponse::Put(_) => StepAnswer::Put,
        OperationResponse::DeleteRange(delete) => StepAnswer::Deleted(delete.deleted),
        OperationResponse::Txn(_) => unreachable!("the workload nests nothing"),
    }
}
