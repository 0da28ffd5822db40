//! The Maintenance service: status, alarms, hashes of the data, snapshots, handing over.

use std::sync::Arc;
use std::time::Duration;

use duet_etcd_api::etcdserverpb as pb;
use duet_etcd_api::etcdserverpb::alarm_request::AlarmAction;
use duet_etcd_api::etcdserverpb::downgrade_request::DowngradeAction;
use duet_etcd_api::etcdserverpb::maintenance_client::MaintenanceClient;
use duet_etcd_api::etcdserverpb::maintenance_server::Maintenance;
use duet_mvcc::{Alarm, AlarmKind, Command, HashKv, HashScope, HashWalk, Response as Answer};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::call::Call;
use super::errors::{
    BAD_LEADER_TRANSFEREE, INVALID_DOWNGRADE_TARGET, NO_DOWNGRADE, NO_LEADER, NOT_LEADER, STOPPED, STORAGE,
    TOO_MANY_REQUESTS, UNKNOWN_DOWNGRADE_ACTION, WRONG_DOWNGRADE_VERSION_FORMAT, refused,
};
use super::forward::{ReadAt, Written};
use super::kv::wrong_answer;
use super::{Api, ETCD_VERSION};
use crate::etcd_snapshot::{Chunks, EtcdSnapshot, ExportError};

/// How long the machine room may take to report; it answers between two steps.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// Records hashed under one hold of the store's lock: writers wait for about a millisecond at most.
const HASH_SLICE_RECORDS: usize = 1024;

/// Hashes that are computed at once, each on a thread of its own; more wait for their turn.
const HASHES_AT_ONCE: usize = 2;

/// Snapshots that are sent at once, each from a thread of its own; more are refused. While one is sent the state store keeps
/// every page that it needs.
const SNAPSHOTS_AT_ONCE: usize = 2;

/// How long a defragmentation waits for the removal of what was compacted; that goes on behind it.
const DEFRAGMENT_LIMIT: Duration = Duration::from_mins(1);

/// Length of a snapshot's chunk in bytes, as etcd's.
const CHUNK_BYTES: usize = 32 << 10;

/// Chunks that wait for one client to read.
const WAITING_CHUNKS: usize = 8;

/// How long a client may take for one chunk.
const CHUNK_TAKEN: Duration = Duration::from_secs(30);

/// The Maintenance service.
#[derive(Clone)]
pub struct MaintenanceService {
    api: Api,
    hash_turns: Arc<Semaphore>,
    snapshot_turns: Arc<Semaphore>,
}

impl MaintenanceService {
    /// Serves with the shared parts.
    pub fn new(api: Api) -> MaintenanceService {
        MaintenanceService {
            api,
            hash_turns: Arc::new(Semaphore::new(HASHES_AT_ONCE)),
            snapshot_turns: Arc::new(Semaphore::new(SNAPSHOTS_AT_ONCE)),
        }
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

/// As etcd takes it: two or three numbers.
fn is_version(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    (2..=3).contains(&parts.len()) && parts.iter().all(is_number)
}

/// Where a snapshot goes.
type SnapshotSender = mpsc::Sender<Result<pb::SnapshotResponse, Status>>;

/// Freezes the state and sends it. Runs on a thread of its own.
fn send_snapshot(api: &Api, runtime: &Handle, sender: &SnapshotSender) -> Result<(), Status> {
    let machine = api.handle().machine().ok_or(STOPPED)?;
    let rows = machine.freeze().map_err(|error| unreadable(&error.into()))?;
    drop(machine);
    let members = api.view().member_ids;
    let snapshot = EtcdSnapshot::prepare(rows, members).map_err(|error| unreadable(&error))?;
    let revision = snapshot.revision();
    let mut stopping = api.stopping();
    let mut chunks = Chunks::new(snapshot.bytes(), CHUNK_BYTES, |blob, remaining_bytes| {
        let header = Some(api.header(revision));
        let chunk = pb::SnapshotResponse { header, remaining_bytes, blob, ..Default::default() };
        let sent = runtime.block_on(async {
            tokio::select! {
                sent = timeout(CHUNK_TAKEN, sender.send(Ok(chunk))) => matches!(sent, Ok(Ok(()))),
                () = stopping.begun() => false,
            }
        });
        if sent { Ok(()) } else { Err(ExportError::NotTaken) }
    });
    let written = snapshot.write(|bytes| chunks.add(bytes)).and_then(|()| chunks.finish());
    written.map_err(|error| unreadable(&error))
}

fn unreadable(error: &ExportError) -> Status {
    if matches!(error, ExportError::NotTaken) {
        return STOPPED.into();
    }
    tracing::error!(%error, "a snapshot could not be made");
    STORAGE.into()
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
            // An alarm of no kind forbids nothing, so none is kept.
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

    /// There is nothing to be rewritten: the engine writes into freed pages again and gives back the end of its file, and
    /// the quota counts the content, not the file. Answers when what was compacted is gone, so that its space is free.
    async fn defragment(
        &self,
        request: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        self.api.require_root_bluntly(&Call::of(request).0)?;
        let machine = self.api.handle().machine().ok_or(STOPPED)?;
        let tidy = tokio::task::spawn_blocking(move || machine.tidy(DEFRAGMENT_LIMIT));
        tidy.await.map_err(|_| Status::from(STOPPED))?;
        let header = Some(self.api.header(self.api.revision()));
        Ok(Response::new(pb::DefragmentResponse { header }))
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

    type SnapshotStream = ReceiverStream<Result<pb::SnapshotResponse, Status>>;

    async fn snapshot(
        &self,
        request: Request<pb::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        self.api.require_root_bluntly(&Call::of(request).0)?;
        let Ok(turn) = self.snapshot_turns.clone().try_acquire_owned() else {
            return Err(TOO_MANY_REQUESTS.into());
        };
        let (sender, receiver) = mpsc::channel(WAITING_CHUNKS);
        let (api, runtime) = (self.api.clone(), Handle::current());
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            if let Err(status) = send_snapshot(&api, &runtime, &sender) {
                // Whoever does not take chunks does not take this either.
                let _ = sender.try_send(Err(status));
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
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

    /// There is no version to go down to: every well-formed one is an invalid target, and nothing is ever under way.
    async fn downgrade(
        &self,
        request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        let (call, request) = Call::of(request);
        self.api.require_root(&call)?;
        Err(match DowngradeAction::try_from(request.action) {
            Ok(DowngradeAction::Validate | DowngradeAction::Enable) if !is_version(&request.version) => {
                WRONG_DOWNGRADE_VERSION_FORMAT
            }
            Ok(DowngradeAction::Validate | DowngradeAction::Enable) => INVALID_DOWNGRADE_TARGET,
            Ok(DowngradeAction::Cancel) => NO_DOWNGRADE,
            Err(_) => UNKNOWN_DOWNGRADE_ACTION,
        }
        .into())
    }
}
