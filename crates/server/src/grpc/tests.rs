//! The client API end to end: real sockets, etcd's own client stubs, and a machine room that applies each write at once.

mod elections;
mod locks;

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use duet_etcd_api::etcdserverpb as pb;
use duet_mvcc::{Command, EmptySource, Store};
use duet_protocol::{ApplianceId, ClusterId, DiskId, Epoch, PerAppliance, ReadPermit, RoleName};
use parking_lot::RwLock;
use pb::alarm_request::AlarmAction;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::AppliedBatch;
use crate::auto_compaction::AutoCompaction;
use crate::client_limits::ClientLimits;
use crate::client_port::{ClientPortOptions, serve};
use crate::error::WriteError;
use crate::handle::{Handle, Identity, Inner, View};
use crate::space::Space;

/// Room for a few large values.
const QUOTA_BYTES: u64 = 64 << 20;

/// Long enough for a loaded machine, short enough for a person.
const PATIENCE: Duration = Duration::from_secs(10);

struct Machine {
    handle: Handle,
    url: String,
    stop: Option<oneshot::Sender<()>>,
    port: JoinHandle<()>,
}

const IDS: PerAppliance<u64> = PerAppliance { a: 11, b: 22 };

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

impl Machine {
    async fn start(appliance: ApplianceId, options: ClientPortOptions) -> Machine {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let identity = Identity {
            cluster_name: "test".to_owned(),
            cluster_id: ClusterId(7),
            appliance,
            disk: DiskId(1),
            client_url: url.clone(),
        };
        let view = View {
            role: RoleName::Starting,
            is_primary: false,
            primary: None,
            primary_client_url: None,
            epoch: Epoch(1),
            cluster_id: 7,
            my_member_id: *IDS.get(appliance),
            member_ids: IDS,
            peer_client_url: None,
            peer_connected: false,
            leaving: false,
            promotions: 0,
        };
        let inner = Inner {
            identity,
            inbox: Arc::default(),
            store: Arc::new(RwLock::new(Store::new(Arc::new(EmptySource)))),
            permit: Arc::default(),
            view: watch::Sender::new(view),
            event_sink: Arc::default(),
            waiters: Arc::default(),
            metrics: Arc::default(),
            users_are_on: Arc::default(),
            space: Arc::new(Space::new(Some(QUOTA_BYTES))),
            machine: Weak::new(),
        };
        let handle = Handle { inner: Arc::new(inner) };
        let room = handle.clone();
        std::thread::spawn(move || machine_room(&room));
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        let port = tokio::spawn(serve(listener, handle.clone(), axum::Router::new(), options, stopped));
        Machine { handle, url, stop: Some(stop), port }
    }

    async fn primary() -> Machine {
        let machine = Machine::start(ApplianceId::A, ClientPortOptions::default()).await;
        machine.promote(1);
        machine
    }

    fn promote(&self, epoch: u64) {
        let me = self.handle.identity().appliance;
        self.handle.inner.permit.set(ReadPermit::Yes);
        self.handle.inner.view.send_modify(|view| {
            view.role = RoleName::Primary;
            view.promotions += u64::from(!view.is_primary);
            view.is_primary = true;
            view.primary = Some(me);
            view.primary_client_url = Some(self.url.clone());
            view.epoch = Epoch(epoch);
        });
    }

    fn follow(&self, primary: Option<&Machine>) {
        self.handle.inner.permit.set(ReadPermit::No);
        self.handle.inner.view.send_modify(|view| {
            view.role = RoleName::Secondary;
            view.is_primary = false;
            view.primary = primary.map(|primary| primary.handle.identity().appliance);
            view.primary_client_url = primary.map(|primary| primary.url.clone());
        });
    }

    async fn channel(&self) -> Channel {
        Channel::from_shared(self.url.clone()).unwrap().connect().await.unwrap()
    }

    async fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel().await).max_decoding_message_size(usize::MAX)
    }

    async fn watch(&self) -> Watching {
        let (requests, receiver) = mpsc::channel(64);
        let mut client = WatchClient::new(self.channel().await).max_decoding_message_size(usize::MAX);
        let answers = client.watch(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        Watching { requests, answers }
    }
}

/// Applies writes in order, as the one appliance of a solo primary would.
fn machine_room(handle: &Handle) {
    // Ends when the test has dropped everything else.
    while Arc::strong_count(&handle.inner) > 1 {
        let gathered = handle.inner.inbox.take(Duration::from_millis(100), true);
        for write in gathered.writes {
            if !handle.inner.view.borrow().is_primary {
                let _ = write.answer.send(Err(WriteError::NotPrimary));
                continue;
            }
            let command = Command::decode(&write.command).unwrap();
            let mut applied = {
                let mut store = handle.inner.store.write();
                let applied = store.apply(&command);
                handle
                    .inner
                    .users_are_on
                    .store(store.auth().is_enabled(), std::sync::atomic::Ordering::SeqCst);
                handle.inner.space.note_alarms(&store);
                handle.inner.space.note_pending(&store);
                applied
            };
            let batch = AppliedBatch {
                events: std::mem::take(&mut applied.events),
                revision: applied.revision,
                restored: false,
            };
            let _ = write.answer.send(Ok(applied));
            if let Some(sink) = &*handle.inner.event_sink.read() {
                sink(Arc::new(batch));
            }
        }
    }
}

struct Watching {
    requests: mpsc::Sender<pb::WatchRequest>,
    answers: Streaming<pb::WatchResponse>,
}

impl Watching {
    async fn ask(&self, request: RequestUnion) {
        self.requests.send(pb::WatchRequest { request_union: Some(request) }).await.unwrap();
    }

    async fn create(&mut self, request: pb::WatchCreateRequest) -> pb::WatchResponse {
        self.ask(RequestUnion::CreateRequest(request)).await;
        self.next().await
    }

    async fn next(&mut self) -> pb::WatchResponse {
        self.end().await.unwrap()
    }

    async fn end(&mut self) -> Result<pb::WatchResponse, Status> {
        let answer = tokio::time::timeout(PATIENCE, self.answers.message()).await.expect("an answer in time");
        answer.map(|answer| answer.expect("the stream goes on"))
    }

    /// What comes within a short time.
    async fn soon(&mut self) -> Option<pb::WatchResponse> {
        let answer = tokio::time::timeout(Duration::from_millis(200), self.answers.message()).await;
        answer.ok().map(|answer| answer.unwrap().unwrap())
    }
}

fn watch_on(key: &str, end: &str) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { key: bytes(key), range_end: bytes(end), ..Default::default() }
}

fn put_request(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest { key: bytes(key), value: bytes(value), ..Default::default() }
}

async fn put(kv: &mut KvClient<Channel>, key: &str, value: &str) -> i64 {
    let answer = kv.put(put_request(key, value)).await.unwrap().into_inner();
    answer.header.unwrap().revision
}

/// Keys of a response's events with their revisions.
fn told(response: &pb::WatchResponse) -> Vec<(String, i64)> {
    let kvs = response.events.iter().filter_map(|event| event.kv.as_ref());
    kvs.map(|kv| (String::from_utf8_lossy(&kv.key).into_owned(), kv.mod_revision)).collect()
}

fn event(key: &str, revision: i64) -> (String, i64) {
    (key.to_owned(), revision)
}

#[tokio::test]
async fn keys_are_put_read_changed_and_deleted() {
    let machine = Machine::primary().await;
    let mut kv = machine.kv().await;
    assert_eq!(put(&mut kv, "a", "1").await, 2);
    assert_eq!(put(&mut kv, "b", "2").await, 3);
    let all = pb::RangeRequest { key: bytes("a"), range_end: bytes("c"), limit: 1, ..Default::default() };
    let answer = kv.range(all).await.unwrap().into_inner();
    let header = answer.header.unwrap();
    assert_eq!((header.cluster_id, header.member_id, header.raft_term), (7, 11, 1));
    assert_eq!((answer.count, answer.more, answer.kvs.len()), (2, true, 1));
    let delete = pb::DeleteRangeRequest { key: bytes("a"), prev_kv: true, ..Default::default() };
    let answer = kv.delete_range(delete).await.unwrap().into_inner();
    assert_eq!((answer.deleted, answer.prev_kvs[0].value.clone()), (1, bytes("1")));
    let compact = pb::CompactionRequest { revision: 3, physical: true };
    assert_eq!(kv.compact(compact).await.unwrap().into_inner().header.unwrap().revision, 4);
    let old = pb::RangeRequest { key: bytes("a"), revision: 2, ..Default::default() };
    let status = kv.range(old).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    assert_eq!(status.message(), "etcdserver: mvcc: required revision has been compacted");
}

#[tokio::test]
async fn requests_above_the_limits_are_refused_in_etcds_words() {
    let machine = Machine::primary().await;
    let mut kv = machine.kv().await;
    let large = |size: usize| {
        let mut kv = kv.clone();
        async move {
            let value = Bytes::from(vec![0; size]);
            let request = pb::PutRequest { key: bytes("s"), value, ..Default::default() };
            kv.put(request).await.map_err(|status| (status.code(), status.message().to_owned()))
        }
    };
    let limit = 1_572_864;
    assert!(large(limit - 512).await.is_ok());
    let too_large = (Code::InvalidArgument, "etcdserver: request is too large".to_owned());
    assert_eq!(large(limit).await.unwrap_err(), too_large);
    assert_eq!(large(2_097_052).await.unwrap_err(), too_large);
    let text = "grpc: received message larger than max (2097262 vs. 2097152)".to_owned();
    assert_eq!(large(2_097_254).await.unwrap_err(), (Code::ResourceExhausted, text));
    assert!(put(&mut kv, "after", "that").await > 0);
}

#[tokio::test]
async fn a_watch_is_created_told_and_cancelled_as_in_etcd() {
    let machine = Machine::primary().await;
    let mut kv = machine.kv().await;
    let mut watching = machine.watch().await;
    let created = watching.create(watch_on("w", "")).await;
    assert_eq!((created.watch_id, created.created, created.canceled), (0, true, false));
    assert_eq!(watching.create(watch_on("w", "")).await.watch_id, 1);
    let explicit = pb::WatchCreateRequest { watch_id: 119, ..watch_on("w", "x") };
    assert_eq!(watching.create(explicit.clone()).await.watch_id, 119);
    let refused = watching.create(explicit).await;
    assert_eq!((refused.watch_id, refused.created, refused.canceled), (-1, true, true));
    assert_eq!(refused.cancel_reason, "mvcc: duplicate watch ID provided on the WatchStream");
    let refused = watching.create(watch_on("w", "a")).await;
    assert_eq!(refused.cancel_reason, "mvcc: watcher range is empty");
    let refused = watching.create(pb::WatchCreateRequest { start_revision: -1, ..watch_on("w", "") }).await;
    assert_eq!(refused.cancel_reason, "etcdserver: mvcc: required revision has been compacted");
    put(&mut kv, "w", "1").await;
    for id in [0, 1, 119] {
        let response = watching.next().await;
        assert_eq!((response.watch_id, told(&response)), (id, vec![event("w", 2)]));
        assert_eq!(response.header.unwrap().revision, 2);
    }
    for id in [119, 119, 1] {
        watching.ask(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: id })).await;
    }
    for id in [119, 1] {
        let response = watching.next().await;
        assert_eq!((response.watch_id, response.canceled, response.created), (id, true, false));
    }
    put(&mut kv, "wx", "nobody").await;
    put(&mut kv, "w", "2").await;
    assert_eq!(told(&watching.next().await), [event("w", 4)]);
    assert_eq!(watching.soon().await, None);
}

#[tokio::test]
async fn history_comes_first_and_once() {
    let machine = Machine::primary().await;
    let mut kv = machine.kv().await;
    for value in ["1", "2", "3"] {
        put(&mut kv, "h", value).await;
    }
    let delete = pb::DeleteRangeRequest { key: bytes("h"), ..Default::default() };
    kv.delete_range(delete).await.unwrap();
    let mut watching = machine.watch().await;
    watching.create(pb::WatchCreateRequest { start_revision: 3, prev_kv: true, ..watch_on("", "\0") }).await;
    let history = watching.next().await;
    assert_eq!(told(&history), [event("h", 3), event("h", 4), event("h", 5)]);
    assert_eq!(history.header.as_ref().map(|header| header.revision), Some(5));
    let before: Vec<_> =
        history.events.iter().map(|event| event.prev_kv.as_ref().map(|kv| kv.value.clone())).collect();
    assert_eq!(before, [Some(bytes("1")), Some(bytes("2")), Some(bytes("3"))]);
    put(&mut kv, "h", "again").await;
    assert_eq!(told(&watching.next().await), [event("h", 6)]);
    kv.compact(pb::CompactionRequest { revision: 5, physical: false }).await.unwrap();
    let created = watching.create(pb::WatchCreateRequest { start_revision: 2, ..watch_on("h", "") }).await;
    assert!(created.created && !created.canceled);
    let cancelled = watching.next().await;
    assert_eq!((cancelled.canceled, cancelled.compact_revision, cancelled.watch_id), (true, 5, 1));
    assert_eq!((cancelled.cancel_reason.as_str(), cancelled.header.unwrap().revision), ("", 0));
}

#[tokio::test]
async fn filters_and_a_start_in_the_future_hold_events_back() {
    let machine = Machine::primary().await;
    let mut kv = machine.kv().await;
    let mut watching = machine.watch().await;
    watching.create(pb::WatchCreateRequest { filters: vec![0], ..watch_on("f", "") }).await;
    watching.create(pb::WatchCreateRequest { start_revision: 4, ..watch_on("f", "") }).await;
    put(&mut kv, "f", "1").await;
    put(&mut kv, "f", "2").await;
    put(&mut kv, "f", "3").await;
    let delete = pb::DeleteRangeRequest { key: bytes("f"), ..Default::default() };
    kv.delete_range(delete).await.unwrap();
    let response = watching.next().await;
    assert_eq!((response.watch_id, told(&response)), (1, vec![event("f", 4)]));
    let response = watching.next().await;
    assert_eq!((response.watch_id, told(&response)), (0, vec![event("f", 5)]));
    let response = watching.next().await;
    assert_eq!((response.watch_id, told(&response)), (1, vec![event("f", 5)]));
}

#[tokio::test]
async fn the_events_of_a_transaction_come_together_in_its_order() {
    let machine = Machine::primary().await;
    let mut kv = machine.kv().await;
    let mut watching = machine.watch().await;
    watching.create(watch_on("t", "u")).await;
    let operation = |key: &str| pb::RequestOp {
        request: Some(pb::request_op::Request::RequestPut(put_request(key, "v"))),
    };
    let txn = pb::TxnRequest { success: vec![operation("t2"), operation("t1")], ..Default::default() };
    kv.txn(txn).await.unwrap();
    assert_eq!(told(&watching.next().await), [event("t2", 2), event("t1", 2)]);
}

#[tokio::test]
async fn progress_is_told_on_demand_and_after_quiet_time() {
    let options =
        ClientPortOptions { watch_progress_interval: Duration::from_millis(300), ..Default::default() };
    let machine = Machine::start(ApplianceId::A, options).await;
    machine.promote(1);
    let mut kv = machine.kv().await;
    let mut watching = machine.watch().await;
    watching.create(watch_on("p", "")).await;
    put(&mut kv, "other", "1").await;
    watching.ask(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})).await;
    let progress = watching.next().await;
    assert_eq!((progress.watch_id, progress.events.len()), (-1, 0));
    assert_eq!(progress.header.unwrap().revision, 2);
    assert_eq!(watching.soon().await, None);
    watching.create(pb::WatchCreateRequest { progress_notify: true, ..watch_on("p", "") }).await;
    let progress = watching.next().await;
    assert_eq!((progress.watch_id, progress.events.len(), progress.created), (1, 0, false));
}

#[tokio::test]
async fn a_slow_watcher_gets_everything_in_order_and_stalls_nobody() {
    const WRITES: i64 = 20_000;
    /// Fewer than may wait at once.
    const BATCH: i64 = 2_000;
    let machine = Machine::primary().await;
    let mut watching = machine.watch().await;
    watching.create(watch_on("s", "")).await;
    // More than the ring holds, while the watcher does not read.
    let value = Bytes::from(vec![7; 512]);
    for _ in 0..WRITES / BATCH {
        let writes = (0..BATCH).map(|_| {
            let put = duet_mvcc::PutRequest { key: bytes("s"), value: value.clone(), ..Default::default() };
            machine.handle.write(Command::Put(put))
        });
        for write in futures_util::future::join_all(writes).await {
            write.unwrap();
        }
    }
    let mut expected = 2;
    while expected < WRITES + 2 {
        for (_, revision) in told(&watching.next().await) {
            assert_eq!(revision, expected);
            expected += 1;
        }
    }
    assert_eq!(watching.soon().await, None);
}

#[tokio::test]
async fn a_store_that_was_replaced_loses_no_events() {
    let machine = Machine::primary().await;
    let mut watching = machine.watch().await;
    watching.create(watch_on("g", "")).await;
    // Applied without a word to the hub.
    for _ in 0..3 {
        let put = duet_mvcc::PutRequest { key: bytes("g"), ..Default::default() };
        machine.handle.store().write().apply(&Command::Put(put));
    }
    assert_eq!(told(&watching.next().await), [event("g", 2), event("g", 3), event("g", 4)]);
    let mut kv = machine.kv().await;
    put(&mut kv, "g", "live").await;
    assert_eq!(told(&watching.next().await), [event("g", 5)]);
}

#[tokio::test]
async fn leases_are_granted_renewed_and_expire_with_their_keys() {
    let machine = Machine::primary().await;
    let mut leases = LeaseClient::new(machine.channel().await);
    let mut kv = machine.kv().await;
    let granted = leases.lease_grant(pb::LeaseGrantRequest { ttl: 1, id: 0 }).await.unwrap().into_inner();
    assert_eq!(granted.ttl, 2);
    let id = granted.id;
    kv.put(pb::PutRequest { lease: id, ..put_request("l", "v") }).await.unwrap();
    let requests = tokio_stream::iter([id, 999].map(|id| pb::LeaseKeepAliveRequest { id }));
    let mut renewals = leases.lease_keep_alive(requests).await.unwrap().into_inner();
    assert_eq!(renewals.message().await.unwrap().map(|answer| (answer.id, answer.ttl)), Some((id, 2)));
    assert_eq!(renewals.message().await.unwrap().map(|answer| (answer.id, answer.ttl)), Some((999, 0)));
    let asked = pb::LeaseTimeToLiveRequest { id, keys: true };
    let answer = leases.lease_time_to_live(asked).await.unwrap().into_inner();
    assert_eq!((answer.granted_ttl, answer.keys), (2, vec![bytes("l")]));
    assert!((0..=2).contains(&answer.ttl));
    let unknown = pb::LeaseTimeToLiveRequest { id: 31337, keys: false };
    assert_eq!(leases.lease_time_to_live(unknown).await.unwrap().into_inner().ttl, -1);
    let mut watching = machine.watch().await;
    watching.create(watch_on("l", "")).await;
    let expiry = watching.next().await;
    assert_eq!(expiry.events[0].r#type, 1);
    let status = leases.lease_revoke(pb::LeaseRevokeRequest { id }).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "etcdserver: requested lease not found"));
}

#[tokio::test]
async fn a_secondary_forwards_to_the_primary() {
    let primary = Machine::primary().await;
    let secondary = Machine::start(ApplianceId::B, ClientPortOptions::default()).await;
    secondary.follow(Some(&primary));
    let mut kv = secondary.kv().await;
    assert_eq!(put(&mut kv, "k", "v").await, 2);
    let range = pb::RangeRequest { key: bytes("k"), ..Default::default() };
    let answer = kv.range(range.clone()).await.unwrap().into_inner();
    assert_eq!((answer.count, answer.header.unwrap().member_id), (1, 11));
    let local = kv.range(pb::RangeRequest { serializable: true, ..range }).await.unwrap().into_inner();
    assert_eq!((local.count, local.header.unwrap().member_id), (0, 22));
    let status = kv.put(pb::PutRequest { lease: 5, ..put_request("k", "v") }).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "etcdserver: requested lease not found"));
    let mut leases = LeaseClient::new(secondary.channel().await);
    leases.lease_grant(pb::LeaseGrantRequest { ttl: 60, id: 9 }).await.unwrap();
    let requests = tokio_stream::iter([pb::LeaseKeepAliveRequest { id: 9 }]);
    let mut renewals = leases.lease_keep_alive(requests).await.unwrap().into_inner();
    assert_eq!(renewals.message().await.unwrap().map(|answer| answer.ttl), Some(60));
}

#[tokio::test]
async fn requests_wait_for_a_primary_and_go_where_it_is() {
    let old = Machine::start(ApplianceId::A, ClientPortOptions::default()).await;
    let new = Machine::start(ApplianceId::B, ClientPortOptions::default()).await;
    old.follow(None);
    new.follow(Some(&old));
    // Through the one that believes the other to be primary, which is not: neither takes it yet.
    let mut kv = new.kv().await;
    let waiting = tokio::spawn(async move { put(&mut kv, "k", "v").await });
    let mut kv = old.kv().await;
    let reading = tokio::spawn(async move {
        let range = pb::RangeRequest { key: bytes("k"), ..Default::default() };
        kv.range(range).await.map(|answer| answer.into_inner().header.map(|header| header.member_id))
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished() && !reading.is_finished());
    new.promote(2);
    old.follow(Some(&new));
    assert_eq!(waiting.await.unwrap(), 2);
    assert_eq!(reading.await.unwrap().unwrap(), Some(22));
}

#[tokio::test]
async fn without_a_primary_a_request_ends_at_its_deadline_or_sooner_if_it_insists() {
    let machine = Machine::start(ApplianceId::A, ClientPortOptions::default()).await;
    let mut kv = machine.kv().await;
    let mut request = tonic::Request::new(put_request("k", "v"));
    request.metadata_mut().insert("hasleader", tonic::metadata::MetadataValue::from_static("true"));
    let status = kv.put(request).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "etcdserver: no leader"));
    let serializable = pb::RangeRequest { key: bytes("k"), serializable: true, ..Default::default() };
    assert!(kv.range(serializable).await.is_ok());
    let began = tokio::time::Instant::now();
    let status = kv.put(put_request("k", "v")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "etcdserver: no leader"));
    assert!(began.elapsed() >= super::REQUEST_TIMEOUT);
}

#[tokio::test]
async fn a_forwarded_write_whose_connection_breaks_is_unknown_and_not_repeated() {
    let secondary = Machine::start(ApplianceId::B, ClientPortOptions::default()).await;
    // A primary that takes the request and dies.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let connections = tokio::spawn(async move {
        let mut connections = 0;
        while let Ok(Ok((mut socket, _))) =
            tokio::time::timeout(Duration::from_secs(1), listener.accept()).await
        {
            connections += 1;
            // HTTP/2's preface and the empty settings of a server, then silence, then the end.
            tokio::io::AsyncWriteExt::write_all(&mut socket, &[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        connections
    });
    secondary.handle.inner.view.send_modify(|view| {
        view.primary = Some(ApplianceId::A);
        view.primary_client_url = Some(url);
    });
    let status = secondary.kv().await.put(put_request("k", "v")).await.unwrap_err();
    let text = "etcdserver: request timed out, possibly due to previous leader failure";
    assert_eq!((status.code(), status.message()), (Code::Unavailable, text));
    assert_eq!(connections.await.unwrap(), 1);
}

#[tokio::test]
async fn a_stopping_appliance_ends_streams_and_answers_what_is_under_way() {
    let mut machine = Machine::primary().await;
    let mut watching = machine.watch().await;
    watching.create(watch_on("k", "")).await;
    let mut kv = machine.kv().await;
    put(&mut kv, "k", "v").await;
    watching.next().await;
    machine.stop.take().unwrap().send(()).unwrap();
    let status = watching.end().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "etcdserver: server stopped"));
    tokio::time::timeout(PATIENCE, &mut machine.port).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_quota_raises_the_alarm_before_it_is_exceeded() {
    let machine = Machine::primary().await;
    let mut kv = machine.kv().await;
    let mut maintenance = MaintenanceClient::new(machine.channel().await);
    let large = |number: usize| pb::PutRequest {
        key: bytes(&format!("k{number}")),
        value: Bytes::from(vec![7; 1 << 20]),
        ..Default::default()
    };
    let mut taken = 0;
    let refused = loop {
        match kv.put(large(taken)).await {
            Ok(_) => taken += 1,
            Err(status) => break status,
        }
    };
    assert_eq!(taken, 63, "64 MiB with what belongs to each record");
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded")
    );
    let list = pb::AlarmRequest::default();
    let alarms = maintenance.alarm(list).await.unwrap().into_inner().alarms;
    assert_eq!(alarms, [pb::AlarmMember { member_id: IDS.a, alarm: pb::AlarmType::Nospace.into() }]);
    let small = pb::PutRequest { key: bytes("small"), ..Default::default() };
    kv.put(small.clone()).await.expect_err("the alarm holds for small ones too");
    let status = maintenance.status(pb::StatusRequest {}).await;
    status.expect_err("nobody reports here");

    let mut delete = pb::DeleteRangeRequest { key: bytes("k"), range_end: bytes("l"), ..Default::default() };
    kv.delete_range(delete.clone()).await.unwrap();
    let disarm =
        pb::AlarmRequest { action: AlarmAction::Deactivate.into(), member_id: IDS.a, alarm: alarms[0].alarm };
    assert_eq!(maintenance.alarm(disarm).await.unwrap().into_inner().alarms, alarms);
    assert!(maintenance.alarm(disarm).await.unwrap().into_inner().alarms.is_empty());
    kv.put(small).await.unwrap();
    kv.put(large(0)).await.expect_err("nothing was compacted: it is raised again");
    delete.key = bytes("small");
    kv.delete_range(delete).await.unwrap();
}

#[tokio::test]
async fn limits_that_were_chosen_hold_on_both_ways_in() {
    let limits = ClientLimits { max_request_bytes: 4_096, max_txn_ops: 2, ..ClientLimits::default() };
    let options = ClientPortOptions { limits, ..ClientPortOptions::default() };
    let machine = Machine::start(ApplianceId::A, options).await;
    machine.promote(1);
    let mut kv = machine.kv().await;
    let put = |bytes: usize| pb::PutRequest {
        key: Bytes::from_static(b"k"),
        value: Bytes::from(vec![7; bytes]),
        ..Default::default()
    };
    kv.put(put(4_000)).await.unwrap();
    let told = kv.put(put(4_097)).await.unwrap_err();
    assert_eq!(told.message(), "etcdserver: request is too large");
    let told = kv.put(put(600_000)).await.unwrap_err();
    assert_eq!(told.code(), Code::ResourceExhausted);
    assert!(told.message().ends_with("(600007 vs. 528384)"), "{}", told.message());
    let operation = |key: &str| pb::RequestOp {
        request: Some(pb::request_op::Request::RequestPut(pb::PutRequest {
            key: bytes(key),
            ..Default::default()
        })),
    };
    let txn = |keys: &[&str]| pb::TxnRequest {
        success: keys.iter().copied().map(operation).collect(),
        ..Default::default()
    };
    kv.txn(txn(&["a", "b"])).await.unwrap();
    let told = kv.txn(txn(&["a", "b", "c"])).await.unwrap_err();
    assert_eq!(told.message(), "etcdserver: too many operations in txn request");
    // The long way.
    let mut leases = pb::lease_client::LeaseClient::new(machine.channel().await);
    leases.lease_grant(pb::LeaseGrantRequest { ttl: 60, id: 1 }).await.unwrap();
    let compare = pb::Compare { key: Bytes::from(vec![7; 600_000]), ..Default::default() };
    let told = kv.txn(pb::TxnRequest { compare: vec![compare], ..Default::default() }).await.unwrap_err();
    assert_eq!(told.code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn history_is_compacted_by_itself() {
    let rule = AutoCompaction::Period(Duration::from_secs(1));
    let limits = ClientLimits { auto_compaction: Some(rule), ..ClientLimits::default() };
    let options = ClientPortOptions { limits, ..ClientPortOptions::default() };
    let machine = Machine::start(ApplianceId::A, options).await;
    machine.promote(1);
    let mut kv = machine.kv().await;
    let put = pb::PutRequest { key: bytes("k"), ..Default::default() };
    let compacted = || machine.handle.store().read().compacted_revision();
    let start = std::time::Instant::now();
    while compacted() < 3 {
        kv.put(put.clone()).await.unwrap();
        assert!(start.elapsed() < PATIENCE, "compacted at {}", compacted());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let now = machine.handle.store().read().revision();
    assert!(compacted() < now, "what is younger than a second is kept");
}

#[tokio::test]
async fn only_a_grpc_call_finds_a_grpc_service() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let machine = Machine::primary().await;
    let address = machine.url.strip_prefix("http://").unwrap();
    for (path, content) in [
        ("/etcdserverpb.KV/Range", "application/grpc"),
        ("/etcdserverpb.KV/Range", "application/json"),
        ("/etcdserverpb.Maintenance/Nope", "text/plain"),
        ("/nope.Svc/Nope", "application/grpc"),
    ] {
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {content}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 404 "), "{path} {content}: {answer}");
    }
}
