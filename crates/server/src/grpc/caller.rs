//! Whoever called the Lock or the Election service, as a client of this appliance's own KV and Lease services.
//!
//! Both services are recipes over keys and leases, as in etcd. Every step is an ordinary call with the caller's own
//! metadata: it is checked, passed on to the primary and refused like any other.

use std::time::Duration;

use duet_etcd_api::etcdserverpb as pb;
use duet_etcd_api::etcdserverpb::kv_server::Kv;
use duet_etcd_api::etcdserverpb::lease_server::Lease;
use duet_etcd_api::mvccpb;
use tokio::time::{Instant, sleep};
use tonic::metadata::MetadataMap;
use tonic::{Code, Extensions, Request, Response, Status};

use super::call::{TIMEOUT_HEADER, clients_limit};
use super::errors::{DEADLINE_EXCEEDED, STOPPED, TIMEOUT_LEADER_FAILED};
use super::kv::KvService;
use super::lease::LeaseService;
use super::{Api, PRIMARY_POLL};

/// Time to live of a lease that is made for a caller without one, in seconds, as in etcd.
pub const SESSION_TTL: i64 = 60;

/// How long a caller may wait who named no limit: practically for ever, but a number that can be added to a time.
const NO_LIMIT: Duration = Duration::from_hours(24 * 365);

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Caller {
    pub api: Api,
    kv: KvService,
    leases: LeaseService,
    metadata: MetadataMap,
    /// When the caller no longer waits for the answer.
    pub deadline: Instant,
}

impl Caller {
    /// Who sent `request`, and its message.
    pub fn of<T>(api: &Api, request: Request<T>) -> (Caller, T) {
        let (mut metadata, _, message) = request.into_parts();
        let limit = clients_limit(&metadata).map_or(NO_LIMIT, |limit| limit.min(NO_LIMIT));
        // The limit is the whole call's; each step has the usual one.
        metadata.remove(TIMEOUT_HEADER);
        let caller = Caller {
            api: api.clone(),
            kv: KvService::new(api.clone()),
            leases: LeaseService::new(api.clone()),
            metadata,
            deadline: Instant::now() + limit,
        };
        (caller, message)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        Request::from_parts(self.metadata.clone(), Extensions::new(), message)
    }

    pub async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Status> {
        self.kv.range(self.request(request)).await.map(Response::into_inner)
    }

    pub async fn delete(&self, request: pb::DeleteRangeRequest) -> Result<pb::DeleteRangeResponse, Status> {
        self.kv.delete_range(self.request(request)).await.map(Response::into_inner)
    }

    pub async fn txn(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, Status> {
        self.kv.txn(self.request(request)).await.map(Response::into_inner)
    }

    /// A transaction that has the same effect once or twice: tried again if nobody knows whether it was carried out.
    pub async fn repeatable_txn(&self, request: &pb::TxnRequest) -> Result<pb::TxnResponse, Status> {
        loop {
            match self.txn(request.clone()).await {
                Err(status) if is_unknown(&status) && !self.is_over() => sleep(PRIMARY_POLL).await,
                answer => return answer,
            }
        }
    }

    /// A read for somebody who has been waiting and goes on waiting while there is no primary.
    pub async fn patient_txn(&self, request: &pb::TxnRequest) -> Result<pb::TxnResponse, Status> {
        loop {
            match self.txn(request.clone()).await {
                Err(status) if status.code() == Code::Unavailable && !self.is_over() => {
                    sleep(PRIMARY_POLL).await;
                }
                answer => return answer,
            }
        }
    }

    /// A new lease for a caller that brought none.
    pub async fn session(&self) -> Result<i64, Status> {
        loop {
            let request = pb::LeaseGrantRequest { ttl: SESSION_TTL, id: 0 };
            match self.leases.lease_grant(self.request(request)).await {
                // One that was granted all the same runs out by itself.
                Err(status) if is_unknown(&status) && !self.is_over() => sleep(PRIMARY_POLL).await,
                answer => return answer.map(|granted| granted.into_inner().id),
            }
        }
    }

    /// Gives a session's lease back, with all keys on it.
    pub async fn end_session(&self, lease: i64) -> Result<(), Status> {
        let request = pb::LeaseRevokeRequest { id: lease };
        self.leases.lease_revoke(self.request(request)).await.map(|_| ())
    }

    fn is_over(&self) -> bool {
        self.api.stopping().has_begun() || Instant::now() >= self.deadline
    }

    /// Returns when the caller can wait no longer, with what to tell it.
    pub async fn over(&self) -> Status {
        let mut stopping = self.api.stopping();
        tokio::select! {
            () = tokio::time::sleep_until(self.deadline) => DEADLINE_EXCEEDED.into(),
            () = stopping.begun() => STOPPED.into(),
        }
    }
}

fn is_unknown(status: &Status) -> bool {
    status.code() == Code::Unavailable && status.message() == TIMEOUT_LEADER_FAILED.text
}

/// What a step refused, as the recipe's answer. etcd's recipes run on its Go client, whose errors have lost their code
/// when they come back; those after which a client tries elsewhere keep it here.
pub fn step_failed(status: Status) -> Status {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => status,
        _ => Status::new(Code::Unknown, status.message()),
    }
}

/// The keys that one step of a transaction read.
pub fn kvs(responses: &[pb::ResponseOp], position: usize) -> &[mvccpb::KeyValue] {
    match responses.get(position).and_then(|response| response.response.as_ref()) {
        Some(pb::response_op::Response::ResponseRange(range)) => &range.kvs,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_step_loses_its_code_unless_a_client_goes_by_it() {
        let refused = step_failed(Status::not_found("etcdserver: requested lease not found"));
        assert_eq!(
            (refused.code(), refused.message()),
            (Code::Unknown, "etcdserver: requested lease not found")
        );
        assert_eq!(step_failed(STOPPED.into()).code(), Code::Unavailable);
    }
}
