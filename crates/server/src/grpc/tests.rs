//! The client API end to end: real sockets, etcd's own client stubs, and a machine room that applies each write at once.

mod elections;
mod forwarding;
mod keys;
mod limits;
mod locks;
mod reflection;
mod watches;

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
            both_in_sync: false,
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
            progress: Arc::default(),
            reads: Arc::default(),
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
