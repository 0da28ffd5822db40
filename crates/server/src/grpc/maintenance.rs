//! The Maintenance service: status, hashes of the data, handing over. What is not built yet says so.

use std::pin::Pin;
use std::time::Duration;

use duet_etcd_api::etcdserverpb as pb;
use duet_etcd_api::etcdserverpb::maintenance_server::Maintenance;
use futures_util::Stream;
use tokio::time::timeout;
use tonic::{Request, Response, Status};

use super::call::Call;
use super::errors::{
    ALARM_NOT_BUILT, BAD_LEADER_TRANSFEREE, DEFRAGMENT_NOT_BUILT, DOWNGRADE_NOT_BUILT, HASH_NOT_BUILT,
    NO_LEADER, NOT_LEADER, SNAPSHOT_NOT_BUILT, STOPPED, refused,
};
use super::{Api, ETCD_VERSION};

/// How long the machine room may take to report; it answers between two steps.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// The Maintenance service.
#[derive(Clone)]
pub struct MaintenanceService {
    api: Api,
}

impl MaintenanceService {
    /// Serves with the shared parts.
    pub fn new(api: Api) -> MaintenanceService {
        MaintenanceService { api }
    }
}

#[tonic::async_trait]
impl Maintenance for MaintenanceService {
    async fn alarm(&self, request: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        let (call, request) = Call::of(request);
        if request.action == i32::from(pb::alarm_request::AlarmAction::Get) {
            self.api.require_user(&call)?;
        } else {
            self.api.require_root(&call)?;
        }
        if request.action == i32::from(pb::alarm_request::AlarmAction::Activate) {
            return Err(ALARM_NOT_BUILT.into());
        }
        // There are none: listing them, and ending one, both leave an empty list, as in etcd.
        let header = Some(self.api.header(self.api.revision()));
        Ok(Response::new(pb::AlarmResponse { header, alarms: Vec::new() }))
    }

    async fn status(
        &self,
        request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        self.api.require_root(&Call::of(request).0)?;
        let Ok(Ok(report)) = timeout(STATUS_TIMEOUT, self.api.handle().status()).await else {
            return Err(STOPPED.into());
        };
        let (revision, statistics) = {
            let store = self.api.handle().store().read();
            (store.revision(), store.statistics())
        };
        let leader = {
            let view = self.api.view();
            view.primary.map(|primary| *view.member_ids.get(primary)).unwrap_or_default()
        };
        let errors = if leader == 0 { vec![NO_LEADER.text.to_owned()] } else { Vec::new() };
        let header = self.api.header(revision);
        let in_memory = i64::try_from(statistics.cached_bytes + statistics.pending_bytes).unwrap_or(i64::MAX);
        Ok(Response::new(pb::StatusResponse {
            header: Some(header),
            version: ETCD_VERSION.to_owned(),
            db_size: in_memory,
            db_size_in_use: in_memory,
            leader,
            raft_index: report.lsn,
            raft_term: header.raft_term,
            raft_applied_index: report.applied,
            errors,
            is_learner: false,
            ..Default::default()
        }))
    }

    async fn defragment(
        &self,
        request: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        self.api.require_root_bluntly(&Call::of(request).0)?;
        Err(DEFRAGMENT_NOT_BUILT.into())
    }

    async fn hash(&self, request: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        self.api.require_root_bluntly(&Call::of(request).0)?;
        Err(HASH_NOT_BUILT.into())
    }

    async fn hash_kv(
        &self,
        request: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        let (call, request) = Call::of(request);
        self.api.require_root_bluntly(&call)?;
        let wanted = request.revision;
        let handle = self.api.handle().clone();
        // A walk over the whole history: not on a thread that serves connections.
        let hashed = tokio::task::spawn_blocking(move || {
            let store = handle.store().read();
            store.hash_kv(wanted).map(|hash| (hash, store.revision()))
        });
        let (hash, revision) =
            hashed.await.map_err(|_| Status::from(STOPPED))?.map_err(|error| refused(&error))?;
        Ok(Response::new(pb::HashKvResponse {
            header: Some(self.api.header(revision)),
            hash: hash.hash,
            compact_revision: hash.compacted_revision,
            hash_revision: hash.hash_revision,
        }))
    }

    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<pb::SnapshotResponse, Status>> + Send>>;

    async fn snapshot(
        &self,
        request: Request<pb::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        self.api.require_root_bluntly(&Call::of(request).0)?;
        Err(SNAPSHOT_NOT_BUILT.into())
    }

    /// A switchover, asked for in etcd's words: of the primary, with the peer as the target.
    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        let (call, request) = Call::of(request);
        self.api.require_root(&call)?;
        let target = request.target_id;
        let (is_primary, me, peer) = {
            let view = self.api.view();
            let ids = [view.member_ids.a, view.member_ids.b];
            let peer = ids.into_iter().find(|id| *id != view.my_member_id).unwrap_or_default();
            (view.is_primary, view.my_member_id, peer)
        };
        if !is_primary {
            return Err(NOT_LEADER.into());
        }
        if target != me && target != peer {
            return Err(BAD_LEADER_TRANSFEREE.into());
        }
        if target == peer {
            let mut view = self.api.watch_view();
            self.api.handle().switchover();
            let moved = view
                .wait_for(|view| view.primary.is_some_and(|primary| *view.member_ids.get(primary) == target));
            match tokio::time::timeout_at(call.deadline, moved).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return Err(STOPPED.into()),
                Err(_) => return Err(call.timed_out()),
            }
        }
        let header = Some(self.api.header(self.api.revision()));
        Ok(Response::new(pb::MoveLeaderResponse { header }))
    }

    async fn downgrade(
        &self,
        request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        self.api.require_root(&Call::of(request).0)?;
        Err(DOWNGRADE_NOT_BUILT.into())
    }
}
