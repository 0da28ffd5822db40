//! The Lease service. Grants and revocations are writes; renewals and remaining times are the primary's clock's.
//!
//! Renewing needs no user, as in etcd: it changes no data, and who knows a lease's id was told it.

use duet_etcd_api::etcdserverpb as pb;
use duet_etcd_api::etcdserverpb::lease_client::LeaseClient;
use duet_etcd_api::etcdserverpb::lease_server::Lease;
use duet_mvcc::{Command, KeyRange, Response as Answer, effective_ttl};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use super::Api;
use super::call::{Call, requires_leader};
use super::errors::{NO_LEADER, STOPPED, refused};
use super::forward::{ReadAt, Written};
use super::kv::wrong_answer;

/// Renewals whose answers wait for one client to read.
const WAITING_ANSWERS: usize = 16;

/// What etcd answers for a lease that does not exist.
const UNKNOWN_LEASE_TTL: i64 = -1;

/// The Lease service.
#[derive(Clone)]
pub struct LeaseService {
    api: Api,
}

impl LeaseService {
    /// Serves with the shared parts.
    pub fn new(api: Api) -> LeaseService {
        LeaseService { api }
    }
}

fn client(channel: Channel) -> LeaseClient<Channel> {
    LeaseClient::new(channel).max_decoding_message_size(usize::MAX)
}

/// An id for a client that leaves the choice to the server: positive, and with 63 random bits never met again.
fn choose_id() -> i64 {
    loop {
        let id = rand::random::<i64>() & i64::MAX;
        if id != 0 {
            return id;
        }
    }
}

#[tonic::async_trait]
impl Lease for LeaseService {
    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let (call, mut request) = Call::of(request);
        let ttl = effective_ttl(request.ttl).map_err(|error| refused(&error))?;
        if request.id == 0 {
            request.id = choose_id();
        }
        let written = self.api.write(&call, Command::LeaseGrant { id: request.id, ttl }, |channel, call| {
            let request = call.forward(request);
            async move { client(channel).lease_grant(request).await }
        });
        let applied = match written.await? {
            Written::Here(applied) => applied,
            Written::There(answer) => return Ok(Response::new(answer)),
        };
        match applied.result.map_err(|error| refused(&error))? {
            Answer::LeaseGrant { id, ttl } => {
                self.api.leases().granted_now(id, ttl);
                let header = Some(self.api.header(applied.revision));
                Ok(Response::new(pb::LeaseGrantResponse { header, id, ttl, error: String::new() }))
            }
            other => Err(wrong_answer(&other)),
        }
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        let (call, request) = Call::of(request);
        let written = self.api.write(&call, Command::LeaseRevoke { id: request.id }, |channel, call| {
            let request = call.forward(request);
            async move { client(channel).lease_revoke(request).await }
        });
        let applied = match written.await? {
            Written::Here(applied) => applied,
            Written::There(answer) => return Ok(Response::new(answer)),
        };
        match applied.result.map_err(|error| refused(&error))? {
            Answer::LeaseRevoke => {
                let header = Some(self.api.header(applied.revision));
                Ok(Response::new(pb::LeaseRevokeResponse { header }))
            }
            other => Err(wrong_answer(&other)),
        }
    }

    type LeaseKeepAliveStream = ReceiverStream<Result<pb::LeaseKeepAliveResponse, Status>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let needs_leader = requires_leader(request.metadata().as_ref());
        let (call, requests) = Call::of(request);
        let (sender, receiver) = mpsc::channel(WAITING_ANSWERS);
        tokio::spawn(renewals(self.api.clone(), call, requests, sender, needs_leader));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let (call, request) = Call::of(request);
        let read = self.api.read_at_primary(
            &call,
            |store| {
                let lease = store.lease_time_to_live(request.id, request.keys);
                // Without the keys a lease says nothing about anything.
                let keys = lease.iter().flat_map(|lease| lease.keys.iter().cloned());
                self.api.permit(&call, store, |access| {
                    keys.map(KeyRange::Single).try_for_each(|key| access.read(&key))
                })?;
                Ok((lease, store.revision()))
            },
            |channel, call| {
                let request = call.forward(request);
                async move { client(channel).lease_time_to_live(request).await }
            },
        );
        let (lease, revision) = match read.await? {
            ReadAt::Here(answer) => answer,
            ReadAt::There(answer) => return Ok(Response::new(answer)),
        };
        let header = Some(self.api.header(revision));
        let id = request.id;
        let Some(lease) = lease else {
            let ttl = UNKNOWN_LEASE_TTL;
            return Ok(Response::new(pb::LeaseTimeToLiveResponse { header, id, ttl, ..Default::default() }));
        };
        let left = self.api.leases().left(id, lease.granted_ttl).map_err(|_| Status::from(NO_LEADER))?;
        Ok(Response::new(pb::LeaseTimeToLiveResponse {
            header,
            id,
            ttl: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            granted_ttl: lease.granted_ttl,
            keys: lease.keys,
        }))
    }

    async fn lease_leases(
        &self,
        request: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        let (call, request) = Call::of(request);
        let read = self.api.read_at_primary(
            &call,
            |store| {
                self.api.permit(&call, store, |_| Ok(()))?;
                Ok((store.leases(), store.revision()))
            },
            |channel, call| {
                let request = call.forward(request);
                async move { client(channel).lease_leases(request).await }
            },
        );
        let (mut leases, revision) = match read.await? {
            ReadAt::Here(answer) => answer,
            ReadAt::There(answer) => return Ok(Response::new(answer)),
        };
        self.api.leases().in_order_of_expiry(&mut leases);
        let leases = leases.into_iter().map(|id| pb::LeaseStatus { id }).collect();
        let header = Some(self.api.header(revision));
        Ok(Response::new(pb::LeaseLeasesResponse { header, leases }))
    }
}

/// Serves one stream of renewals, one after the other.
async fn renewals(
    api: Api,
    call: Call,
    mut requests: Streaming<pb::LeaseKeepAliveRequest>,
    answers: mpsc::Sender<Result<pb::LeaseKeepAliveResponse, Status>>,
    needs_leader: bool,
) {
    let mut stopping = api.stopping();
    loop {
        let request = tokio::select! {
            request = requests.message() => request,
            () = stopping.begun() => Err(STOPPED.into()),
            () = answers.closed() => return,
        };
        let answer = match request {
            Ok(Some(_)) if needs_leader && !api.has_primary() => Err(NO_LEADER.into()),
            Ok(Some(request)) => renew(&api, &call.renewed(), request).await,
            Ok(None) => return,
            Err(status) => Err(status),
        };
        let ends = answer.is_err();
        if answers.send(answer).await.is_err() || ends {
            return;
        }
    }
}

/// Renews one lease where the primary is.
pub(super) async fn renew(
    api: &Api,
    call: &Call,
    request: pb::LeaseKeepAliveRequest,
) -> Result<pb::LeaseKeepAliveResponse, Status> {
    let renewed = api
        .at_primary(
            call,
            || api.leases().keep_alive(request.id),
            |channel, call| {
                let request = call.forward(tokio_stream::once(request));
                async move {
                    let mut answers = client(channel).lease_keep_alive(request).await?.into_inner();
                    // A stream that ends without an answer is no answer: renewing again does no harm.
                    let answer = answers.message().await?.ok_or(NO_LEADER)?;
                    Ok(Response::new(answer))
                }
            },
        )
        .await?;
    Ok(match renewed {
        ReadAt::Here(ttl) => {
            let header = Some(api.header(api.revision()));
            pb::LeaseKeepAliveResponse { header, id: request.id, ttl: ttl.unwrap_or(0) }
        }
        ReadAt::There(answer) => answer,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_ids_are_positive() {
        assert!((0..1000).all(|_| choose_id() > 0));
    }
}
