//! The Maintenance service: status, hashes of the data, handing over. What is not built yet says so.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use duet_etcd_api::etcdserverpb as pb;
use duet_etcd_api::etcdserverpb::alarm_request::AlarmAction;
use duet_etcd_api::etcdserverpb::maintenance_client::MaintenanceClient;
use duet_etcd_api::etcdserverpb::maintenance_server::Maintenance;
use duet_mvcc::{Alarm, AlarmKind, Command, HashKv, HashScope, HashWalk, Response as Answer};
use futures_util::Stream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tonic::{Request, Response, Status};

use super::call::Call;
use super::errors::{
    BAD_LEADER_TRANSFEREE, DEFRAGMENT_NOT_BUILT, DOWNGRADE_NOT_BUILT, NO_LEADER, NOT_LEADER,
    SNAPSHOT_NOT_BUILT, STOPPED, refused,
};
use super::forward::{ReadAt, Written};
use super::kv::wrong_answer;
use super::{Api, ETCD_VERSION};

/// How long the machine room may take to report; it answers between two steps.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// Records hashed under one hold of the store's lock: writers wait for about a millisecond at most.
const HASH_SLICE_RECORDS: usize = 1024;

/// Hashes that are computed at once, each on a thread of its own; more wait for their turn.
const HASHES_AT_ONCE: usize = 2;

/// The Maintenance service.
#[derive(Clone)]
pub struct MaintenanceService {
    api: Api,
    hash_turns: Arc<Semaphore>,
}

impl MaintenanceService {
    /// Serves with the shared parts.
    pub fn new(api: Api) -> MaintenanceService {
        MaintenanceService { api, hash_turns: Arc::new(Semaphore::new(HASHES_AT_ONCE)) }
    }
}

impl MaintenanceService {
    /// Walks over the history: in slices between which writes go on, and not on a thread that serves connections.
    async fn hashed(&self, scope: HashScope) -> Result<HashKv, Status> {
        let Ok(turn) = self.hash_turns.clone().acquire_owned().await else { return Err(STOPPED.into()) };
        let (handle, stopping) = (self.api.handle().clone(), self.api.stopping());
        let hashed = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let mut walk = HashWalk::begin(&handle.store().read(), scope).map_err(|error| refused(&error))?;
            while !stopping.has_begun() {
                let step = walk.step(&handle.store().read(), HASH_SLICE_RECORDS);
                if let Some(hash) = step.map_err(|error| refused(&error))? {
                    return Ok(hash);
                }
            }
            Err(STOPPED.into())
        });
        hashed.await.unwrap_or_else(|_| Err(STOPPED.into()))
    }

    async fn change_alarms(
        &self,
        call: &Call,
        command: Command,
        request: pb::AlarmRequest,
    ) -> Result<Response<pb::AlarmResponse>, Status> {
        let written = self.api.write(call, command, |channel, call| {
            let request = call.forward(request);
            async move { MaintenanceClient::new(channel).alarm(request).await }
        });
        let applied = match written.await? {
            Written::Here(applied) => applied,
            Written::There(answer) => return Ok(Response::new(answer)),
        };
        match applied.result.map_err(|error| refused(&error))? {
            Answer::Alarm(alarm) => {
                let header = Some(self.api.header(applied.revision));
                let alarms = alarm.into_iter().map(member_of).collect();
                Ok(Response::new(pb::AlarmResponse { header, alarms }))
            }
            other => Err(wrong_answer(&other)),
        }
    }

    /// All alarms, or those of one kind.
    async fn list_alarms(
        &self,
        call: &Call,
        kind: Option<AlarmKind>,
        request: pb::AlarmRequest,
    ) -> Result<Response<pb::AlarmResponse>, Status> {
        let read = self.api.read(
            call,
            |store| {
                let wanted = store.alarms().filter(|alarm| kind.is_none_or(|kind| alarm.kind == kind));
                Ok((store.revision(), wanted.map(member_of).collect::<Vec<_>>()))
            },
            |channel, call| {
                let request = call.forward(request);
                async move { MaintenanceClient::new(channel).alarm(request).await }
            },
        );
        match read.await? {
            ReadAt::Here((revision, alarms)) => {
                let header = Some(self.api.header(revision));
                Ok(Response::new(pb::AlarmResponse { header, alarms }))
            }
            ReadAt::There(answer) => Ok(Response::new(answer)),
        }
    }
}

/// `None` stands for every kind, and for those that etcd does not define.
fn kind_of(request: &pb::AlarmRequest) -> Option<AlarmKind> {
    match pb::AlarmType::try_from(request.alarm) {
        Ok(pb::AlarmType::Nospace) => Some(AlarmKind::NoSpace),
        Ok(pb::AlarmType::Corrupt) => Some(AlarmKind::Corrupt),
        Ok(pb::AlarmType::None) | Err(_) => None,
    }
}

fn type_of(kind: AlarmKind) -> pb::AlarmType {
    match kind {
        AlarmKind::NoSpace => pb::AlarmType::Nospace,
        AlarmKind::Corrupt => pb::AlarmType::Corrupt,
    }
}

fn member_of(alarm: Alarm) -> pb::AlarmMember {
    pb::AlarmMember { member_id: alarm.member, alarm: type_of(alarm.kind).into() }
}

/// As etcd's status tells an alarm: in protobuf's text form, with a blank at the end.
fn alarm_in_words(alarm: Alarm) -> String {
    format!("memberID:{} alarm:{} ", alarm.member, type_of(alarm.kind).as_str_name())
}

#[tonic::async_trait]
impl Maintenance for MaintenanceService {
    async fn alarm(&self, request: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        let (call, request) = Call::of(request);
        if request.action == i32::from(AlarmAction::Get) {
            self.api.require_user(&call)?;
        } else {
            self.api.require_root(&call)?;
        }
        let kind = kind_of(&request);
        match (AlarmAction::try_from(request.action), kind) {
            (Ok(AlarmAction::Activate), Some(kind)) => {
                let command = Command::RaiseAlarm(Alarm { kind, member: request.member_id });
                self.change_alarms(&call, command, request).await
            }
            (Ok(AlarmAction::Deactivate), Some(kind)) => {
                let command = Command::ClearAlarm(Alarm { kind, member: request.member_id });
                self.change_alarms(&call, command, request).await
            }
            (Ok(AlarmAction::Get), _) => self.list_alarms(&call, kind, request).await,
            // etcd changes nothing either.
            (Ok(AlarmAction::Activate | AlarmAction::Deactivate) | Err(_), _) => {
                let header = Some(self.api.header(self.api.revision()));
                Ok(Response::new(pb::AlarmResponse { header, alarms: Vec::new() }))
            }
        }
    }

    async fn status(
        &self,
        request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        self.api.require_root(&Call::of(request).0)?;
        let Ok(Ok(report)) = timeout(STATUS_TIMEOUT, self.api.handle().status()).await else {
            return Err(STOPPED.into());
        };
        let (revision, alarms) = {
            let store = self.api.handle().store().read();
            (store.revision(), store.alarms().collect::<Vec<_>>())
        };
        let leader = {
            let view = self.api.view();
            view.primary.map(|primary| *view.member_ids.get(primary)).unwrap_or_default()
        };
        let no_leader = (leader == 0).then(|| NO_LEADER.text.to_owned());
        let errors = no_leader.into_iter().chain(alarms.into_iter().map(alarm_in_words)).collect();
        let header = self.api.header(revision);
        let space = self.api.handle().space();
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        Ok(Response::new(pb::StatusResponse {
            header: Some(header),
            version: ETCD_VERSION.to_owned(),
            db_size: bytes(space.on_disk()),
            db_size_in_use: bytes(space.used()),
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
        let hash = self.hashed(HashScope::State).await?;
        let header = Some(self.api.header(hash.revision));
        Ok(Response::new(pb::HashResponse { header, hash: hash.hash }))
    }

    async fn hash_kv(
        &self,
        request: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        let (call, request) = Call::of(request);
        self.api.require_root_bluntly(&call)?;
        let hash = self.hashed(HashScope::History { revision: request.revision }).await?;
        Ok(Response::new(pb::HashKvResponse {
            header: Some(self.api.header(hash.revision)),
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
