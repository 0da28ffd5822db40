//! Clients that watch: when a stream ends they watch on elsewhere, from where they were, from an older revision, or from
//! now. Each stream is judged as a watch of its own. One of them, the scribe, watches everything and leaves nothing out: what
//! it saw is what the checkers take for the truth.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use duet_checkers::{Change, ChangeKind, Keys, Watch, WatchEvent};
use duet_etcd_api::etcdserverpb::watch_client::WatchClient;
use duet_etcd_api::{etcdserverpb as pb, mvccpb};
use duet_protocol::ApplianceId::{self, A, B};
use tokio::sync::{mpsc, watch};
use tokio::time::Interval;
use tonic::{Status, Streaming};

use crate::calls;
use crate::client::{Client, within};
use crate::random::Random;
use crate::recorder::Recorder;

/// A stream is asked for its progress this often.
const PROGRESS: Duration = Duration::from_millis(700);
/// Time for a stream to begin.
const BEGIN: Duration = Duration::from_secs(2);
/// A stream is left after this many milliseconds, to begin another one.
const LIFE: std::ops::Range<u64> = 500..12_000;
/// After a stream that did not begin.
const RETRY: Duration = Duration::from_millis(100);

/// One watching client.
pub struct Watcher {
    pub number: u32,
    pub urls: [String; 2],
    pub keys: Keys,
    pub random: Random,
    pub recorder: Arc<Recorder>,
    /// The last revision of all, once it is known; each watcher goes on until it has shown it.
    pub last: watch::Receiver<Option<i64>>,
}

impl Watcher {
    pub async fn watch(mut self) {
        let mut turn = usize::try_from(self.number % 2).expect("zero or one");
        let mut shown = 0;
        while self.last.borrow().is_none_or(|last| shown < last) {
            let client = Client::new(&self.urls[turn]);
            let from = match self.random.within(0..4) {
                // No "from now" at the end: nothing would come.
                0 if self.last.borrow().is_none() => 0,
                1 if shown > 2 => {
                    1 + i64::try_from(self.random.within(0..shown.unsigned_abs())).expect("a revision")
                }
                _ => shown + 1,
            };
            let Ok(mut stream) = Stream::open(&client, [A, B][turn], self.number, &self.keys, from).await
            else {
                turn = 1 - turn;
                tokio::time::sleep(RETRY).await;
                continue;
            };
            let life = Duration::from_millis(self.random.within(LIFE));
            tokio::time::timeout(life, stream.follow(&self.recorder, &mut self.last)).await.ok();
            // What was compacted meanwhile nobody sees any more.
            shown = shown.max(stream.shown()).max(stream.compacted - 1);
            self.recorder.watch(stream.watch);
            if self.random.percent(50) {
                turn = 1 - turn;
            }
        }
    }
}

/// Follows every change from the first on, each once. Nobody may compact what it has not seen.
pub struct Scribe {
    pub number: u32,
    pub urls: [String; 2],
    pub recorder: Arc<Recorder>,
    pub seen: watch::Sender<i64>,
    pub last: watch::Receiver<Option<i64>>,
}

impl Scribe {
    /// Every change up to the last revision.
    pub async fn write_down(mut self) -> Vec<Change> {
        let (mut changes, mut turn, mut shown) = (Vec::new(), 0, 0);
        let all = Keys::Prefix(String::new());
        while self.last.borrow().is_none_or(|last| shown < last) {
            turn = 1 - turn;
            let client = Client::new(&self.urls[turn]);
            let opened = Stream::open(&client, [A, B][turn], self.number, &all, shown + 1).await;
            let Ok(mut stream) = opened else {
                tokio::time::sleep(RETRY).await;
                continue;
            };
            while stream.next(&self.recorder, &mut self.last).await {
                self.seen.send_replace(stream.shown());
            }
            shown = shown.max(stream.shown());
            changes.extend(stream.watch.events.iter().map(|event| event.change.clone()));
            self.recorder.watch(stream.watch);
        }
        changes
    }
}

/// One watch on one stream.
pub struct Stream {
    pub watch: Watch,
    requests: mpsc::Sender<pb::WatchRequest>,
    answers: Streaming<pb::WatchResponse>,
    messages: u64,
    ask: Interval,
    /// A compaction up to here ended it; zero: something else.
    compacted: i64,
}

impl Stream {
    /// Revision zero: from now on.
    pub async fn open(
        client: &Client,
        appliance: ApplianceId,
        number: u32,
        keys: &Keys,
        from: i64,
    ) -> Result<Self, Status> {
        let (key, range_end) = calls::range(keys);
        let create = pb::WatchCreateRequest {
            key,
            range_end,
            start_revision: from,
            prev_kv: true,
            ..Default::default()
        };
        let (requests, receiver) = mpsc::channel(4);
        let create = pb::watch_request::RequestUnion::CreateRequest(create);
        requests.try_send(pb::WatchRequest { request_union: Some(create) }).expect("room for one");
        let requested = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let begin = async {
            let mut client = WatchClient::new(client.channel()).max_decoding_message_size(256 << 20);
            let mut answers = client.watch(requested).await?.into_inner();
            let created = answers.message().await?.ok_or_else(|| Status::unavailable("the stream ended"))?;
            Ok(tonic::Response::new((answers, created)))
        };
        let (answers, created) = within(BEGIN, begin).await?;
        if !created.created || created.canceled {
            return Err(Status::unavailable(created.cancel_reason));
        }
        let from = if from > 0 { from } else { created.header.map_or(0, |header| header.revision) + 1 };
        let (client, keys, events) = (number, keys.clone(), Vec::new());
        let watch = Watch { client, appliance, keys, from, with_previous: true, events, complete_to: 0 };
        let ask = tokio::time::interval(PROGRESS);
        Ok(Self { watch, requests, answers, messages: 0, ask, compacted: 0 })
    }

    /// Everything up to here was shown.
    pub fn shown(&self) -> i64 {
        let event = self.watch.events.last().map_or(0, |event| event.change.revision);
        event.max(self.watch.complete_to)
    }

    /// Takes what comes, to the end of the stream, or until everything up to the last revision of all has come.
    async fn follow(&mut self, recorder: &Recorder, last: &mut watch::Receiver<Option<i64>>) {
        while self.next(recorder, last).await {}
    }

    /// Takes one message; whether there may be another one.
    async fn next(&mut self, recorder: &Recorder, last: &mut watch::Receiver<Option<i64>>) -> bool {
        if last.borrow().is_some_and(|last| self.shown() >= last) {
            return false;
        }
        tokio::select! {
            answer = self.answers.message() => match answer {
                Ok(Some(answer)) if answer.canceled => {
                    self.end(&answer);
                    false
                }
                Ok(Some(answer)) => {
                    self.take(answer, recorder);
                    true
                }
                _ => false,
            },
            _ = self.ask.tick() => {
                let progress = pb::watch_request::RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
                self.requests.try_send(pb::WatchRequest { request_union: Some(progress) }).ok();
                true
            }
        }
    }

    /// Where a compaction ends it, something is gone that was not shown.
    fn end(&mut self, answer: &pb::WatchResponse) {
        let next = self.watch.from.max(self.shown() + 1);
        self.compacted = answer.compact_revision;
        assert!(
            self.compacted == 0 || self.compacted > next,
            "a watch at {next} is ended by a compaction to {}",
            self.compacted
        );
    }

    /// Takes what comes until everything up to `last` has come.
    pub async fn follow_to(&mut self, recorder: &Recorder, last: i64) {
        let (_sender, mut receiver) = watch::channel(Some(last));
        self.follow(recorder, &mut receiver).await;
    }

    fn take(&mut self, answer: pb::WatchResponse, recorder: &Recorder) {
        self.messages += 1;
        let (at, message) = (recorder.now(), self.messages);
        if answer.events.is_empty() {
            let revision = answer.header.map_or(0, |header| header.revision);
            self.watch.complete_to = self.watch.complete_to.max(revision);
        }
        for event in answer.events {
            let Some(held) = event.kv.as_ref() else { continue };
            let kind = match event.r#type() {
                mvccpb::event::EventType::Put => ChangeKind::Put(calls::content(held)),
                mvccpb::event::EventType::Delete => ChangeKind::Delete,
            };
            let change = Change { revision: held.mod_revision, key: text(&held.key), kind };
            let previous = event.prev_kv.as_ref().map(calls::content);
            self.watch.events.push(WatchEvent { at, message, change, previous });
        }
    }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
