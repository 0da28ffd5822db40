//! The Election service: whoever's key is the oldest of a line is the leader, and the key's value is what it proclaims.

use duet_etcd_api::v3electionpb as pb;
use duet_etcd_api::v3electionpb::election_server::Election;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::Api;
use super::call::requires_leader;
use super::caller::{Caller, step_failed};
use super::errors::{ELECTION_NO_LEADER, ELECTION_NOT_LEADER, LEADER_MISSING};
use super::waiting_line::{Place, Wish, resign, rewrite, wait_in_line};
use super::{keys, observe};

/// Proclamations that wait for one client to read.
const WAITING_PROCLAMATIONS: usize = 8;

/// The Election service.
#[derive(Clone)]
pub struct ElectionService {
    api: Api,
}

impl ElectionService {
    /// Serves with the shared parts.
    pub fn new(api: Api) -> ElectionService {
        ElectionService { api }
    }
}

#[tonic::async_trait]
impl Election for ElectionService {
    async fn campaign(
        &self,
        request: Request<pb::CampaignRequest>,
    ) -> Result<Response<pb::CampaignResponse>, Status> {
        let (caller, pb::CampaignRequest { name, lease, value }) = Caller::of(&self.api, request);
        let wish = Wish { name: name.clone(), lease, value, key_lost: ELECTION_NOT_LEADER };
        let turn = wait_in_line(caller, wish).await?;
        let Place { key, created: rev, lease } = turn.place;
        let leader = pb::LeaderKey { name, key, rev, lease };
        // etcd: the header is that of the step in which the key was created, however long ago.
        Ok(Response::new(pb::CampaignResponse { header: turn.taken, leader: Some(leader) }))
    }

    async fn proclaim(
        &self,
        request: Request<pb::ProclaimRequest>,
    ) -> Result<Response<pb::ProclaimResponse>, Status> {
        let (caller, pb::ProclaimRequest { leader, value }) = Caller::of(&self.api, request);
        let leader = leader.ok_or(LEADER_MISSING)?;
        // etcd: a key whose lease is not named moves to a new one.
        let lease =
            if leader.lease == 0 { caller.session().await.map_err(step_failed)? } else { leader.lease };
        let place = Place { key: leader.key, created: leader.rev, lease };
        let header = rewrite(&caller, &place, &value).await.map_err(step_failed)?;
        Ok(Response::new(pb::ProclaimResponse { header: Some(header.ok_or(ELECTION_NOT_LEADER)?) }))
    }

    async fn leader(
        &self,
        request: Request<pb::LeaderRequest>,
    ) -> Result<Response<pb::LeaderResponse>, Status> {
        let (caller, pb::LeaderRequest { name }) = Caller::of(&self.api, request);
        let answer = caller.range(keys::oldest(&keys::line(&name))).await.map_err(step_failed)?;
        let kv = answer.kvs.into_iter().next().ok_or(ELECTION_NO_LEADER)?;
        Ok(Response::new(pb::LeaderResponse { header: answer.header, kv: Some(kv) }))
    }

    type ObserveStream = ReceiverStream<Result<pb::LeaderResponse, Status>>;

    async fn observe(
        &self,
        request: Request<pb::LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        let needs_leader = requires_leader(request.metadata().as_ref());
        let (caller, pb::LeaderRequest { name }) = Caller::of(&self.api, request);
        let (client, receiver) = mpsc::channel(WAITING_PROCLAMATIONS);
        tokio::spawn(observe::serve(caller, keys::line(&name), client, needs_leader));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn resign(
        &self,
        request: Request<pb::ResignRequest>,
    ) -> Result<Response<pb::ResignResponse>, Status> {
        let (caller, pb::ResignRequest { leader }) = Caller::of(&self.api, request);
        let leader = leader.ok_or(LEADER_MISSING)?;
        let header = resign(&caller, &leader.key, leader.rev).await.map_err(step_failed)?;
        Ok(Response::new(pb::ResignResponse { header }))
    }
}
