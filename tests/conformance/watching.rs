//! One stream of watches at one server, and what each watch was told.
//!
//! How events are spread over responses is a matter of time, so only their order within each watch is compared, and
//! that the events of one revision are never torn apart unless the watch allows it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use duet_etcd_api::etcdserverpb as pb;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

use crate::caller::Caller;
use crate::step::{in_short, refusal};
use crate::terms::Terms;

/// Requests that wait to be sent.
const REQUESTS: usize = 16;

/// What the watches of a stream were told, each in its order; refusals are under -1.
pub type Told = BTreeMap<i64, Vec<String>>;

#[derive(Clone, Default)]
struct Seen {
    told: Told,
    /// Answers to progress requests.
    progress: usize,
    /// Revision of each watch's last response with events; whether more of it may follow.
    last: BTreeMap<i64, (i64, bool)>,
}

/// See the module.
pub struct Watching {
    requests: mpsc::Sender<pb::WatchRequest>,
    seen: Arc<Mutex<Seen>>,
    reader: JoinHandle<()>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Watching {
    pub fn open(caller: Caller, terms: Terms) -> Watching {
        let (requests, receiver) = mpsc::channel(REQUESTS);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let its = seen.clone();
        let reader = tokio::spawn(async move {
            let mut client = WatchClient::new(caller).max_decoding_message_size(usize::MAX);
            let mut responses = match client.watch(ReceiverStream::new(receiver)).await {
                Ok(responses) => responses.into_inner(),
                Err(status) => return its.lock().unwrap().note(-1, refusal(&status)),
            };
            loop {
                match responses.message().await {
                    Ok(Some(response)) => its.lock().unwrap().take(response, &terms),
                    Ok(None) => return its.lock().unwrap().note(-1, "the stream ended".to_owned()),
                    Err(status) => return its.lock().unwrap().note(-1, refusal(&status)),
                }
            }
        });
        Watching { requests, seen, reader }
    }

    pub async fn ask(&self, request: RequestUnion) {
        // A stream that has ended is told of in what was seen.
        let _ = self.requests.send(pb::WatchRequest { request_union: Some(request) }).await;
    }

    pub fn told(&self) -> Told {
        self.seen.lock().unwrap().told.clone()
    }

    pub fn progress(&self) -> usize {
        self.seen.lock().unwrap().progress
    }

    /// Answers to requests for a watch.
    pub fn created(&self) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.told.values().flatten().filter(|line| line.starts_with("created")).count()
    }

    /// Watches that go on.
    pub fn running(&self) -> Vec<i64> {
        let seen = self.seen.lock().unwrap();
        let on = |told: &[String]| told.last().is_some_and(|line| !line.starts_with("ended"));
        seen.told.iter().filter(|(id, told)| **id >= 0 && on(told)).map(|(id, _)| *id).collect()
    }
}

impl Seen {
    fn note(&mut self, id: i64, line: String) {
        self.told.entry(id).or_default().push(line);
    }

    fn take(&mut self, mut response: pb::WatchResponse, terms: &Terms) {
        let id = response.watch_id;
        if response.created {
            let refused = if response.canceled { ", refused" } else { "" };
            return self.note(id, format!("created{refused} {}", response.cancel_reason));
        }
        if response.canceled {
            let no_header = response.header.is_none_or(|header| header.revision == 0);
            terms.compact_revision_back(&mut response.compact_revision);
            let (compacted, reason) = (response.compact_revision, &response.cancel_reason);
            let header = if no_header { ", header without revision" } else { "" };
            return self.note(id, format!("ended, compacted {compacted} {reason:?}{header}"));
        }
        if response.events.is_empty() {
            self.progress += 1;
            return;
        }
        let revision_of = |event: Option<&duet_etcd_api::mvccpb::Event>| {
            event.and_then(|event| event.kv.as_ref()).map_or(0, |kv| kv.mod_revision)
        };
        let (first, last) = (revision_of(response.events.first()), revision_of(response.events.last()));
        if let Some((before, whole)) = self.last.insert(id, (last, !response.fragment))
            && before == first
            && whole
        {
            self.note(id, format!("the events of revision {first} are torn apart"));
        }
        if response.header.is_some_and(|header| header.revision < last) {
            self.note(id, format!("a header older than its event of revision {last}"));
        }
        for mut event in response.events {
            terms.event_back(&mut event);
            self.note(id, in_short(&event));
        }
    }
}
