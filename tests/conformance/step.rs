//! One step of a sequence, done at one server: what is asked, and what is said, in words.

use std::fmt::{Debug, Display, Formatter};

use duet_etcd_api::etcdserverpb as pb;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use tonic::Status;

use crate::caller::Caller;
use crate::terms::Terms;
use crate::user_step::UserStep;

/// What is asked, in the sequence's terms.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    Range(pb::RangeRequest),
    Put(pb::PutRequest),
    Delete(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Compact(pb::CompactionRequest),
    Grant(pb::LeaseGrantRequest),
    Revoke(i64),
    KeepAlive(i64),
    TimeToLive(i64),
    Leases,
    Watch(pb::WatchCreateRequest),
    CancelWatch(i64),
    Progress,
    Users(UserStep),
    LogIn(pb::AuthenticateRequest),
    /// What follows is asked by this user, with the token of its last login; without a name by nobody, and by a user who
    /// has never logged in with a token that nobody made.
    As(&'static str),
}

/// An answer in the sequence's terms, and the revision in its header as the server said it.
pub struct Answer {
    pub words: String,
    pub revision: Option<i64>,
}

/// Lease ids of one sequence.
pub const LEASES: std::ops::Range<i64> = 1..10;

impl Step {
    /// Whether the answer may come from an appliance that is a little behind.
    pub fn reads_here(&self) -> bool {
        match self {
            Step::Range(request) => request.serializable,
            Step::Txn(request) => {
                let all = || request.success.iter().chain(&request.failure);
                all().count() > 0
                    && all().all(|operation| match &operation.request {
                        Some(pb::request_op::Request::RequestRange(range)) => range.serializable,
                        _ => false,
                    })
            }
            Step::Watch(_) | Step::CancelWatch(_) | Step::Progress => true,
            _ => false,
        }
    }

    /// Does it; all but watches and logging in, which are more than one call.
    pub async fn call(&self, caller: Caller, terms: &Terms) -> Answer {
        let mut kv = KvClient::new(caller.clone()).max_decoding_message_size(usize::MAX);
        let mut leases = LeaseClient::new(caller.clone());
        match self {
            Step::Range(request) => {
                let answer = kv.range(terms.range(request)).await;
                said(answer, |answer| (answer.header, terms.range_back(answer)).0)
            }
            Step::Put(request) => {
                let answer = kv.put(terms.put(request)).await;
                said(answer, |answer| (answer.header, terms.put_back(answer)).0)
            }
            Step::Delete(request) => {
                let answer = kv.delete_range(terms.delete(request)).await;
                said(answer, |answer| (answer.header, terms.delete_back(answer)).0)
            }
            Step::Txn(request) => {
                let answer = kv.txn(terms.txn(request)).await;
                said(answer, |answer| (answer.header, terms.txn_back(answer)).0)
            }
            Step::Compact(request) => {
                let revision = terms.revision(request.revision);
                let answer = kv.compact(pb::CompactionRequest { revision, ..*request }).await;
                said(answer, |answer| (answer.header, terms.header_back(&mut answer.header)).0)
            }
            Step::Grant(request) => {
                let answer = leases
                    .lease_grant(pb::LeaseGrantRequest { id: terms.lease(request.id), ..*request })
                    .await;
                said(answer, |answer| {
                    terms.lease_back(&mut answer.id);
                    (answer.header, terms.header_back(&mut answer.header)).0
                })
            }
            Step::Revoke(id) => {
                let answer = leases.lease_revoke(pb::LeaseRevokeRequest { id: terms.lease(*id) }).await;
                said(answer, |answer| (answer.header, terms.header_back(&mut answer.header)).0)
            }
            Step::KeepAlive(id) => keep_alive(&mut leases, *id, terms).await,
            Step::TimeToLive(id) => {
                let request = pb::LeaseTimeToLiveRequest { id: terms.lease(*id), keys: true };
                said(leases.lease_time_to_live(request).await, |answer| {
                    terms.lease_back(&mut answer.id);
                    terms.keys_back(&mut answer.keys);
                    // A clock's answer: how far it may be off does not matter here.
                    answer.ttl = answer.ttl.signum();
                    (answer.header, terms.header_back(&mut answer.header)).0
                })
            }
            Step::Leases => said(leases.lease_leases(pb::LeaseLeasesRequest {}).await, |answer| {
                answer.leases.retain(|lease| LEASES.contains(&(lease.id - terms.lease)));
                answer.leases.iter_mut().for_each(|lease| terms.lease_back(&mut lease.id));
                answer.leases.sort_unstable_by_key(|lease| lease.id);
                (answer.header, terms.header_back(&mut answer.header)).0
            }),
            Step::Users(step) => step.call(caller, terms).await,
            Step::Watch(_) | Step::CancelWatch(_) | Step::Progress => unreachable!("the stream's business"),
            Step::LogIn(_) | Step::As(_) => unreachable!("the sequence's business"),
        }
    }
}

async fn keep_alive(leases: &mut LeaseClient<Caller>, id: i64, terms: &Terms) -> Answer {
    let request = pb::LeaseKeepAliveRequest { id: terms.lease(id) };
    let answer = match leases.lease_keep_alive(tokio_stream::once(request)).await {
        Ok(answers) => answers.into_inner().message().await,
        Err(status) => Err(status),
    };
    let answer = answer.and_then(|answer| answer.ok_or_else(|| Status::unknown("the stream ended")));
    said(answer.map(tonic::Response::new), |answer| {
        terms.lease_back(&mut answer.id);
        (answer.header, terms.header_back(&mut answer.header)).0
    })
}

/// An answer in words; `translate` puts it in the sequence's terms and gives the header it came with.
pub fn said<T: Debug>(
    answer: Result<tonic::Response<T>, Status>,
    translate: impl FnOnce(&mut T) -> Option<pb::ResponseHeader>,
) -> Answer {
    match answer {
        Ok(answer) => {
            let mut answer = answer.into_inner();
            let revision = translate(&mut answer).map(|header| header.revision);
            Answer { words: in_short(&answer), revision }
        }
        Err(status) => Answer { words: refusal(&status), revision: None },
    }
}

/// A refusal: its code and its text.
pub fn refusal(status: &Status) -> String {
    format!("{:?} {:?}", status.code(), status.message())
}

/// A message without the fields that have their default.
pub fn in_short(message: &impl Debug) -> String {
    const DEFAULTS: [&str; 7] = [": 0,", ": false,", ": b\"\",", ": None,", ": [],", ": \"\",", ": Key,"];
    let text = format!("{message:#?}");
    let told = text.lines().filter(|line| !DEFAULTS.iter().any(|default| line.ends_with(default)));
    told.map(str::trim_start).collect::<Vec<_>>().join(" ")
}

impl Display for Step {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&in_short(self))
    }
}
