//! The checkers' words as calls of the etcd API, and the answers back.

use std::error::Error as _;
use std::time::Duration;

use bytes::Bytes;
use duet_checkers::{
    Answer, Compare, Condition, KeyValue, Keys, Number, Outcome, Request, Step, StepAnswer, Time, Txn,
};
use duet_etcd_api::{etcdserverpb as pb, mvccpb};
use tonic::{Code, Status};

use crate::client::{Client, within};

/// A client gives up after this; what it asked may still be done.
const REQUEST: Duration = Duration::from_secs(2);

/// Asks, and tells what came of it.
pub async fn ask(client: &Client, request: &Request, now: impl Fn() -> Time) -> Outcome {
    let answer = match request {
        Request::Txn(txn) => ask_txn(client, txn, false).await,
        Request::Serializable(txn) => ask_txn(client, txn, true).await,
        Request::Past { keys, revision } => read_past(client, keys, *revision).await,
        Request::Compact { revision } => compact(client, *revision).await,
        Request::Grant { lease, ttl } => grant(client, *lease, *ttl).await,
        Request::KeepAlive { lease } => keep_alive(client, *lease).await,
        Request::Revoke { lease } => revoke(client, *lease).await,
    };
    match answer {
        Ok(answer) => Outcome::Acknowledged { at: now(), answer },
        Err(status) if is_certain(&status) => Outcome::Failed { at: now() },
        Err(_) => Outcome::Unknown,
    }
}

/// Whether a refusal says that nothing was done and never will be.
fn is_certain(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    let told = ["etcdserver: no leader", "etcdserver: too many requests"].contains(&status.message());
    let wrong = [Code::InvalidArgument, Code::NotFound, Code::FailedPrecondition, Code::OutOfRange];
    told || wrong.contains(&status.code())
}

async fn ask_txn(client: &Client, txn: &Txn, serializable: bool) -> Result<Answer, Status> {
    let mut kv = client.kv();
    let single = match (&txn.conditions[..], &txn.then[..]) {
        ([], [step]) => step_request(step, serializable),
        _ => pb::request_op::Request::RequestTxn(txn_request(txn, serializable)),
    };
    // A single step goes as a call of its own, as clients do.
    let response = match single {
        pb::request_op::Request::RequestRange(request) => {
            pb::response_op::Response::ResponseRange(within(REQUEST, kv.range(request)).await?)
        }
        pb::request_op::Request::RequestPut(request) => {
            pb::response_op::Response::ResponsePut(within(REQUEST, kv.put(request)).await?)
        }
        pb::request_op::Request::RequestDeleteRange(request) => {
            pb::response_op::Response::ResponseDeleteRange(within(REQUEST, kv.delete_range(request)).await?)
        }
        pb::request_op::Request::RequestTxn(request) => {
            let answer = within(REQUEST, kv.txn(request)).await?;
            let steps =
                answer.responses.into_iter().filter_map(|step| step.response).map(|step| step_answer(step).1);
            let (succeeded, steps) = (answer.succeeded, steps.collect());
            return Ok(Answer::Txn { revision: revision(answer.header.as_ref()), succeeded, steps });
        }
    };
    let (revision, step) = step_answer(response);
    Ok(Answer::Txn { revision, succeeded: true, steps: vec![step] })
}

async fn read_past(client: &Client, keys: &Keys, at: i64) -> Result<Answer, Status> {
    let (key, range_end) = range(keys);
    let request = pb::RangeRequest { key, range_end, revision: at, ..Default::default() };
    let answer = within(REQUEST, client.kv().range(request)).await?;
    let (revision, step) = step_answer(pb::response_op::Response::ResponseRange(answer));
    Ok(Answer::Txn { revision, succeeded: true, steps: vec![step] })
}

async fn compact(client: &Client, revision: i64) -> Result<Answer, Status> {
    let request = pb::CompactionRequest { revision, physical: false };
    let answer = within(REQUEST, client.kv().compact(request)).await?;
    Ok(Answer::Compacted { revision: answer.header.map_or(0, |header| header.revision) })
}

fn revision(header: Option<&pb::ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Key and end of range.
pub fn range(keys: &Keys) -> (Bytes, Bytes) {
    match keys {
        Keys::One(key) => (bytes(key), Bytes::new()),
        Keys::Prefix(prefix) if prefix.is_empty() => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
        Keys::Prefix(prefix) => {
            let mut end = prefix.clone().into_bytes();
            *end.last_mut().expect("not empty") += 1;
            (bytes(prefix), end.into())
        }
        Keys::Range(from, to) => (bytes(from), bytes(to)),
    }
}

fn step_request(step: &Step, serializable: bool) -> pb::request_op::Request {
    match step {
        Step::Get(keys) => {
            let (key, range_end) = range(keys);
            let request = pb::RangeRequest { key, range_end, serializable, ..Default::default() };
            pb::request_op::Request::RequestRange(request)
        }
        Step::Put { key, value, lease } => pb::request_op::Request::RequestPut(pb::PutRequest {
            key: bytes(key),
            value: bytes(value),
            lease: *lease,
            ..Default::default()
        }),
        Step::Delete(keys) => {
            let (key, range_end) = range(keys);
            let request = pb::DeleteRangeRequest { key, range_end, ..Default::default() };
            pb::request_op::Request::RequestDeleteRange(request)
        }
    }
}

fn txn_request(txn: &Txn, serializable: bool) -> pb::TxnRequest {
    let steps = |steps: &[Step]| -> Vec<pb::RequestOp> {
        let request = |step| pb::RequestOp { request: Some(step_request(step, serializable)) };
        steps.iter().map(request).collect()
    };
    pb::TxnRequest {
        compare: txn.conditions.iter().map(compare).collect(),
        success: steps(&txn.then),
        failure: steps(&txn.otherwise),
    }
}

fn compare(condition: &Condition) -> pb::Compare {
    use pb::compare::{CompareResult, CompareTarget, TargetUnion};
    let number = |of: Number, number: i64| match of {
        Number::Version => (CompareTarget::Version, TargetUnion::Version(number)),
        Number::CreateRevision => (CompareTarget::Create, TargetUnion::CreateRevision(number)),
        Number::ModRevision => (CompareTarget::Mod, TargetUnion::ModRevision(number)),
        Number::Lease => (CompareTarget::Lease, TargetUnion::Lease(number)),
    };
    let (result, (target, union)) = match &condition.compare {
        Compare::Value(value) => {
            (CompareResult::Equal, (CompareTarget::Value, TargetUnion::Value(bytes(value))))
        }
        Compare::Version(version) => (CompareResult::Equal, number(Number::Version, *version)),
        Compare::CreateRevision(revision) => {
            (CompareResult::Equal, number(Number::CreateRevision, *revision))
        }
        Compare::ModRevision(revision) => (CompareResult::Equal, number(Number::ModRevision, *revision)),
        Compare::Lease(lease) => (CompareResult::Equal, number(Number::Lease, *lease)),
        Compare::Above(of, floor) => (CompareResult::Greater, number(*of, *floor)),
        Compare::Below(of, ceiling) => (CompareResult::Less, number(*of, *ceiling)),
    };
    pb::Compare {
        result: result.into(),
        target: target.into(),
        key: bytes(&condition.key),
        target_union: Some(union),
        ..Default::default()
    }
}

fn step_answer(response: pb::response_op::Response) -> (i64, StepAnswer) {
    use pb::response_op::Response;
    match response {
        Response::ResponseRange(answer) => {
            let found = answer.kvs.iter().map(|held| (text(&held.key), content(held))).collect();
            (revision(answer.header.as_ref()), StepAnswer::Got(found))
        }
        Response::ResponsePut(answer) => (revision(answer.header.as_ref()), StepAnswer::Put),
        Response::ResponseDeleteRange(answer) => {
            (revision(answer.header.as_ref()), StepAnswer::Deleted(answer.deleted))
        }
        Response::ResponseTxn(_) => unreachable!("no transaction holds another here"),
    }
}

/// What a key holds.
pub fn content(held: &mvccpb::KeyValue) -> KeyValue {
    KeyValue {
        value: text(&held.value),
        create_revision: held.create_revision,
        mod_revision: held.mod_revision,
        version: held.version,
        lease: held.lease,
    }
}

async fn grant(client: &Client, lease: i64, ttl: i64) -> Result<Answer, Status> {
    let request = pb::LeaseGrantRequest { id: lease, ttl };
    let answer = within(REQUEST, client.lease().lease_grant(request)).await?;
    Ok(Answer::Lease { revision: revision(answer.header.as_ref()), ttl: Some(answer.ttl) })
}

async fn revoke(client: &Client, lease: i64) -> Result<Answer, Status> {
    let answer = within(REQUEST, client.lease().lease_revoke(pb::LeaseRevokeRequest { id: lease })).await?;
    Ok(Answer::Lease { revision: revision(answer.header.as_ref()), ttl: None })
}

async fn keep_alive(client: &Client, lease: i64) -> Result<Answer, Status> {
    let renew = async {
        let requests = tokio_stream::once(pb::LeaseKeepAliveRequest { id: lease });
        let mut answers = client.lease().lease_keep_alive(requests).await?.into_inner();
        let answer = answers.message().await?.ok_or_else(|| Status::unavailable("the stream ended"))?;
        Ok(tonic::Response::new(answer))
    };
    let answer = within(REQUEST, renew).await?;
    // etcd answers zero for a lease that does not exist.
    let ttl = (answer.ttl > 0).then_some(answer.ttl);
    Ok(Answer::Lease { revision: revision(answer.header.as_ref()), ttl })
}
