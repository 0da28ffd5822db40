//! An API server's cache: a list in pages, then a watch from there on, with progress; after a failure the watch goes on
//! where it was, after a compaction a new list comes first. What it holds at a revision must be what a list shows there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use duet_etcd_api::etcdserverpb as pb;
use duet_etcd_api::mvccpb::Event;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Duration, timeout};
use tokio_stream::wrappers::ReceiverStream;

use crate::api_server::{ApiServer, REGISTRY, bytes, end_of};
use crate::harness::{PATIENCE, Pair};

/// Objects on a page.
const PAGE: i64 = 7;

/// How often the cache asks how far its watch is.
const PROGRESS: Duration = Duration::from_millis(100);

/// Value and revision of each object.
pub type Objects = BTreeMap<Bytes, (Bytes, i64)>;

#[derive(Clone, Default)]
pub struct Cached {
    pub objects: Objects,
    /// Everything up to here is in it.
    pub revision: i64,
    /// How often it began anew with a list.
    pub lists: usize,
    /// How often its watch was opened again.
    pub watches: usize,
    /// Answers to requests for progress.
    pub progress: usize,
}

/// See the module.
pub struct WatchCache {
    cached: Arc<Mutex<Cached>>,
    task: JoinHandle<()>,
}

impl Drop for WatchCache {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why a watch ended.
enum Ended {
    /// The connection is gone or the appliance stops.
    Broken,
    /// It began below what is still there.
    Compacted,
}

impl WatchCache {
    pub fn start(server: ApiServer) -> WatchCache {
        let cached = Arc::new(Mutex::new(Cached::default()));
        let its = cached.clone();
        let task = tokio::spawn(async move {
            for turn in 0.. {
                if its.lock().unwrap().revision == 0 {
                    list(&server, &its).await;
                }
                its.lock().unwrap().watches += 1;
                if let Ended::Compacted = watch(&server, turn, &its).await {
                    its.lock().unwrap().revision = 0;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        WatchCache { cached, task }
    }

    /// What it holds, once that is everything up to `revision`.
    pub async fn at(&self, pair: &Pair, revision: i64) -> Cached {
        let reached = async || {
            assert!(!self.task.is_finished(), "the cache has failed");
            let cached = self.cached.lock().unwrap();
            (cached.revision >= revision).then(|| cached.clone())
        };
        pair.until(&format!("a cache holds revision {revision}"), reached).await
    }
}

async fn list(server: &ApiServer, cached: &Mutex<Cached>) {
    let (listed, revision) = loop {
        match server.list(REGISTRY, PAGE).await {
            Ok(listed) => break listed,
            // Compacted between two pages: an API server tells its client to begin again.
            Err(status) => assert!(status.message().contains("compacted"), "{status:?}"),
        }
    };
    let mut cached = cached.lock().unwrap();
    cached.objects = listed.into_iter().map(|kv| (kv.key, (kv.value, kv.mod_revision))).collect();
    cached.revision = revision;
    cached.lists += 1;
}

async fn watch(server: &ApiServer, turn: usize, cached: &Mutex<Cached>) -> Ended {
    let (requests, receiver) = mpsc::channel(4);
    let create = pb::WatchCreateRequest {
        key: bytes(REGISTRY),
        range_end: end_of(REGISTRY),
        start_revision: cached.lock().unwrap().revision + 1,
        prev_kv: true,
        progress_notify: true,
        ..Default::default()
    };
    let create = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    requests.send(create).await.expect("room for one");
    let mut client = WatchClient::new(server.client(turn).channel()).max_decoding_message_size(usize::MAX);
    let mut request = tonic::Request::new(ReceiverStream::new(receiver));
    request.metadata_mut().insert("hasleader", tonic::metadata::MetadataValue::from_static("true"));
    let Ok(Ok(responses)) = timeout(PATIENCE, client.watch(request)).await else { return Ended::Broken };
    let mut responses = responses.into_inner();
    loop {
        let response = match timeout(PROGRESS, responses.message()).await {
            Ok(Ok(Some(response))) => response,
            Ok(_) => return Ended::Broken,
            Err(_) => {
                let ask = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
                let _ = requests.try_send(pb::WatchRequest { request_union: Some(ask) });
                continue;
            }
        };
        if response.canceled {
            assert!(response.compact_revision > 0, "{response:?}");
            return Ended::Compacted;
        }
        take(&mut cached.lock().unwrap(), &response);
    }
}

fn take(cached: &mut Cached, response: &pb::WatchResponse) {
    let header = response.header.expect("a header");
    for event in &response.events {
        take_event(cached, event);
    }
    if response.events.is_empty() && !response.created {
        // Everything up to here was told: nothing older may come any more.
        cached.progress += 1;
        cached.revision = cached.revision.max(header.revision);
    }
}

fn take_event(cached: &mut Cached, event: &Event) {
    let kv = event.kv.as_ref().expect("an event has a key");
    assert!(kv.mod_revision >= cached.revision, "told after progress beyond it, or twice: {event:?}");
    let before = cached.objects.get(&kv.key);
    // A delete and its object's former content, a put and what it replaces: all must fit together.
    let former = event.prev_kv.as_ref().map(|kv| (kv.value.clone(), kv.mod_revision));
    if former.is_some() || kv.version == 1 {
        assert_eq!(former.as_ref(), before, "something was missed before {event:?}");
    }
    match event.r#type() {
        duet_etcd_api::mvccpb::event::EventType::Put => {
            cached.objects.insert(kv.key.clone(), (kv.value.clone(), kv.mod_revision));
        }
        duet_etcd_api::mvccpb::event::EventType::Delete => {
            assert!(before.is_some(), "a deletion of what was not there: {event:?}");
            cached.objects.remove(&kv.key);
        }
    }
    cached.revision = kv.mod_revision;
}
