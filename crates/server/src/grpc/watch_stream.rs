//! The watchers of one stream and what each is due.
//!
//! Each has a [`Cursor`]: in step it takes live events from the hub, behind it reads the history. Within a revision all
//! events go out in one response, in the order of the operations; a response from history may hold several revisions, as
//! etcd's do.

use std::collections::BTreeMap;

use bytes::Bytes;
use duet_etcd_api::etcdserverpb as pb;
use duet_etcd_api::mvccpb;
use duet_mvcc::{Error, Event, EventKind, EventLimits, KeyRange};
use duet_serving::{Cursor, Interests, Piece, Pulled, by_revision};
use pb::watch_create_request::FilterType;
use prost::Message;
use tokio::sync::mpsc;
use tonic::Status;

use super::call::Call;
use super::convert;
use super::errors::{WATCH_COMPACTED, WATCH_DUPLICATE_ID, WATCH_EMPTY_RANGE, refused};
use super::{Api, MAX_MESSAGE_BYTES};
use crate::watch_hub::Subscription;

/// Watchers on one stream; bounds memory. etcd has no limit; the Kubernetes API server uses about a hundred.
const WATCHERS_PER_STREAM: usize = 100_000;

/// Why a watch was refused that has no counterpart in etcd.
const WATCH_TOO_MANY: &str = "duet: too many watches on one stream";

/// In place of a watch id: no watch, or all of the stream.
const NO_WATCH_ID: i64 = -1;

/// Why a stream is over.
pub enum Ended {
    /// Nobody reads any more.
    ClientGone,
    /// To be told to the client.
    Failed(Status),
}

/// Where responses go.
type Client = mpsc::Sender<Result<pb::WatchResponse, Status>>;

#[expect(clippy::struct_excessive_bools, reason = "the client's wishes, each independent of the others")]
struct Watcher {
    range: KeyRange,
    puts: bool,
    deletes: bool,
    prev_kv: bool,
    fragment: bool,
    progress_notify: bool,
    /// Nothing was sent since the last progress notification was due.
    quiet: bool,
    cursor: Cursor,
}

impl Watcher {
    fn wants(&self, event: &Event) -> bool {
        match event.kind {
            EventKind::Put => self.puts,
            EventKind::Delete => self.deletes,
        }
    }
}

/// See the module.
pub struct WatchStream {
    api: Api,
    client: Client,
    subscription: Subscription,
    watchers: BTreeMap<i64, Watcher>,
    interests: Interests<i64>,
    next_id: i64,
    /// The client asked for progress when the store was at this revision.
    progress_wanted: Option<i64>,
    /// Quiet watchers are due a notification.
    notify_quiet: bool,
    /// Who opened the stream; nobody has to be asked for a watch of the server's own.
    call: Option<Call>,
}

impl WatchStream {
    /// A stream without watchers.
    pub fn new(api: Api, client: Client) -> WatchStream {
        let subscription = api.hub().open();
        WatchStream {
            api,
            client,
            subscription,
            watchers: BTreeMap::new(),
            interests: Interests::default(),
            next_id: 0,
            progress_wanted: None,
            notify_quiet: false,
            call: None,
        }
    }

    /// The stream is a client's, who may watch what it may read. That is asked when a watch is taken up; one that runs goes
    /// on when the permission is taken away, as in etcd.
    pub fn of(self, call: Call) -> WatchStream {
        WatchStream { call: Some(call), ..self }
    }

    fn may_watch(&self, range: &KeyRange) -> Result<(), Status> {
        let Some(call) = &self.call else { return Ok(()) };
        self.api.permit_here(call, |access| access.read(range)).map_err(|error| refused(&error))
    }

    /// Where responses go.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Waits until [`WatchStream::deliver`] may have something to do.
    pub async fn raised(&self) {
        self.subscription.signal().raised().await;
    }

    /// Takes up a watch.
    pub async fn create(&mut self, request: pb::WatchCreateRequest) -> Result<(), Ended> {
        // etcd: no key is the smallest key.
        let key = if request.key.is_empty() { Bytes::from_static(b"\0") } else { request.key };
        let range = KeyRange::new(key, request.range_end);
        if let Err(status) = self.may_watch(&range) {
            // As Go's library writes an error.
            let reason = format!("rpc error: code = {:?} desc = {}", status.code(), status.message());
            return self.refuse(&reason).await;
        }
        let id = match self.choose_id(request.watch_id, &range, request.start_revision) {
            Ok(id) => id,
            Err(reason) => return self.refuse(reason).await,
        };
        // Registered before the revision is read: see the hub.
        self.subscription.add(&range);
        self.interests.insert(&range, id);
        let revision = self.api.revision();
        let excluded = |kind: FilterType| request.filters.contains(&i32::from(kind));
        let watcher = Watcher {
            range,
            puts: !excluded(FilterType::Noput),
            deletes: !excluded(FilterType::Nodelete),
            prev_kv: request.prev_kv,
            fragment: request.fragment,
            progress_notify: request.progress_notify,
            quiet: true,
            cursor: Cursor::new(request.start_revision, revision),
        };
        self.watchers.insert(id, watcher);
        let header = Some(self.api.header(revision));
        self.send(pb::WatchResponse { header, watch_id: id, created: true, ..Default::default() }).await
    }

    /// The new watch's id, or why it cannot be.
    fn choose_id(&mut self, wanted: i64, range: &KeyRange, start: i64) -> Result<i64, &'static str> {
        if range.is_empty() {
            return Err(WATCH_EMPTY_RANGE);
        }
        if wanted != 0 && self.watchers.contains_key(&wanted) {
            return Err(WATCH_DUPLICATE_ID);
        }
        if start < 0 {
            return Err(WATCH_COMPACTED);
        }
        if self.watchers.len() >= WATCHERS_PER_STREAM {
            return Err(WATCH_TOO_MANY);
        }
        if wanted != 0 {
            return Ok(wanted);
        }
        while self.watchers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        Ok(self.next_id - 1)
    }

    async fn refuse(&mut self, reason: &str) -> Result<(), Ended> {
        let header = Some(self.api.header(self.api.revision()));
        self.send(pb::WatchResponse {
            header,
            watch_id: NO_WATCH_ID,
            created: true,
            canceled: true,
            cancel_reason: reason.to_owned(),
            ..Default::default()
        })
        .await
    }

    /// Ends a watch; an unknown id gets no answer, as in etcd.
    pub async fn cancel(&mut self, id: i64) -> Result<(), Ended> {
        if !self.remove(id) {
            return Ok(());
        }
        let header = Some(self.api.header(self.api.revision()));
        self.send(pb::WatchResponse { header, watch_id: id, canceled: true, ..Default::default() }).await
    }

    fn remove(&mut self, id: i64) -> bool {
        let Some(watcher) = self.watchers.remove(&id) else { return false };
        self.subscription.remove(&watcher.range);
        self.interests.remove(&watcher.range, id);
        true
    }

    /// Sends live events that the hub has for this stream.
    pub async fn deliver(&mut self) -> Result<(), Ended> {
        let Some(first) = self.subscription.signal().take() else { return Ok(()) };
        match self.api.hub().clone().pull(first) {
            Pulled::Overrun => {
                self.watchers.values_mut().for_each(|watcher| watcher.cursor.overrun(first));
            }
            Pulled::Events { batches, next } => {
                for batch in batches {
                    for events in by_revision(&batch.events) {
                        self.deliver_revision(events).await?;
                    }
                }
                if let Some(next) = next {
                    self.subscription.signal().raise(next);
                }
            }
        }
        Ok(())
    }

    /// Sends the events of one revision to the watchers in step that they concern.
    async fn deliver_revision(&mut self, events: &[Event]) -> Result<(), Ended> {
        let Some(revision) = events.first().map(|event| event.revision.main) else { return Ok(()) };
        let mut concerned: BTreeMap<i64, Vec<&Event>> = BTreeMap::new();
        for event in events {
            for id in self.interests.of(&event.key_value.key) {
                concerned.entry(id).or_default().push(event);
            }
        }
        for (id, events) in concerned {
            let Some(watcher) = self.watchers.get_mut(&id) else { continue };
            if watcher.cursor.takes(revision) {
                self.send_events(id, &events, revision).await?;
            }
        }
        Ok(())
    }

    /// Sends each watcher that is behind one piece of history; true if one still is.
    pub async fn catch_up(&mut self) -> Result<bool, Ended> {
        let behind: Vec<i64> = self
            .watchers
            .iter()
            .filter(|(_, watcher)| !watcher.cursor.is_in_step())
            .map(|(id, _)| *id)
            .collect();
        for id in behind {
            self.catch_up_one(id).await?;
        }
        Ok(self.watchers.values().any(|watcher| !watcher.cursor.is_in_step()))
    }

    async fn catch_up_one(&mut self, id: i64) -> Result<(), Ended> {
        let Some(watcher) = self.watchers.get_mut(&id) else { return Ok(()) };
        let piece = {
            let store = self.api.handle().store().read();
            watcher.cursor.catch_up(&store, &watcher.range, EventLimits::default())
        };
        match piece {
            Ok(None) => Ok(()),
            Ok(Some(Piece { events, revision })) => {
                let events: Vec<&Event> = events.iter().collect();
                self.send_events(id, &events, revision).await
            }
            Err(Error::Compacted { compacted_revision }) => {
                self.remove(id);
                let header = Some(self.api.header(0));
                self.send(pb::WatchResponse {
                    header,
                    watch_id: id,
                    canceled: true,
                    compact_revision: compacted_revision,
                    ..Default::default()
                })
                .await
            }
            Err(error) => Err(Ended::Failed(refused(&error))),
        }
    }

    /// Sends one watcher what it wants of `events`.
    async fn send_events(&mut self, id: i64, events: &[&Event], revision: i64) -> Result<(), Ended> {
        let Some(watcher) = self.watchers.get_mut(&id) else { return Ok(()) };
        let events =
            with_previous(&self.api, watcher, events).map_err(|error| Ended::Failed(refused(&error)))?;
        if events.is_empty() {
            return Ok(());
        }
        watcher.quiet = false;
        let fragment = watcher.fragment;
        let header = Some(self.api.header(revision));
        let response = pb::WatchResponse { header, watch_id: id, events, ..Default::default() };
        if !fragment {
            return self.send(response).await;
        }
        for part in fragments(response, MAX_MESSAGE_BYTES) {
            self.send(part).await?;
        }
        Ok(())
    }

    /// The client wants to know how far this stream is.
    pub fn want_progress(&mut self) {
        // etcd: a stream without watchers gets no answer.
        if !self.watchers.is_empty() {
            self.progress_wanted = Some(self.api.revision());
        }
    }

    /// The time between progress notifications has passed.
    pub fn progress_is_due(&mut self) {
        self.notify_quiet = true;
    }

    /// Whether a client waits for [`WatchStream::tell_progress`].
    pub fn waits_for_progress(&self) -> bool {
        self.progress_wanted.is_some()
    }

    /// Tells how far this stream is, if somebody wants to know and it can be said. `dispatched` was read before: what
    /// concerns this stream up to there has been signalled.
    pub async fn tell_progress(&mut self, dispatched: i64) -> Result<(), Ended> {
        if self.progress_wanted.is_none() && !self.notify_quiet {
            return Ok(());
        }
        if let Some(first) = self.subscription.signal().take() {
            self.subscription.signal().raise(first);
            return Ok(());
        }
        if self.progress_wanted.is_some_and(|wanted| wanted <= dispatched)
            && self.watchers.values().all(|watcher| watcher.cursor.is_in_step())
        {
            self.progress_wanted = None;
            self.send_progress(NO_WATCH_ID, dispatched).await?;
        }
        if std::mem::take(&mut self.notify_quiet) {
            let mut quiet = Vec::new();
            for (id, watcher) in self.watchers.iter_mut().filter(|(_, watcher)| watcher.progress_notify) {
                if std::mem::replace(&mut watcher.quiet, true) && watcher.cursor.is_in_step() {
                    quiet.push(*id);
                }
            }
            for id in quiet {
                self.send_progress(id, dispatched).await?;
            }
        }
        Ok(())
    }

    async fn send_progress(&mut self, watch_id: i64, revision: i64) -> Result<(), Ended> {
        let header = Some(self.api.header(revision));
        self.send(pb::WatchResponse { header, watch_id, ..Default::default() }).await
    }

    async fn send(&mut self, response: pb::WatchResponse) -> Result<(), Ended> {
        self.client.send(Ok(response)).await.map_err(|_| Ended::ClientGone)
    }
}

/// What `watcher` wants of `events`, as clients see it.
fn with_previous(api: &Api, watcher: &Watcher, events: &[&Event]) -> Result<Vec<mvccpb::Event>, Error> {
    let wanted = events.iter().filter(|event| watcher.wants(event));
    if !watcher.prev_kv {
        return Ok(wanted.map(|event| convert::event(event, None)).collect());
    }
    let store = api.handle().store().read();
    wanted.map(|event| Ok(convert::event(event, store.previous_key_value(event)?))).collect()
}

/// Splits a response as etcd does: each part below `limit` bytes unless it has one event, all but the last one marked.
fn fragments(response: pb::WatchResponse, limit: usize) -> Vec<pb::WatchResponse> {
    if response.encoded_len() < limit || response.events.len() < 2 {
        return vec![response];
    }
    let (frame, events) = {
        let mut frame = response;
        let events = std::mem::take(&mut frame.events);
        (pb::WatchResponse { fragment: true, ..frame }, events)
    };
    let mut parts = vec![frame.clone()];
    let mut bytes = frame.encoded_len();
    for event in events {
        let length = event.encoded_len();
        // The field's number and length come before each event.
        let added = 1 + prost::length_delimiter_len(length) + length;
        if bytes + added >= limit && parts.last().is_some_and(|part| !part.events.is_empty()) {
            parts.push(frame.clone());
            bytes = frame.encoded_len();
        }
        bytes += added;
        if let Some(part) = parts.last_mut() {
            part.events.push(event);
        }
    }
    if let Some(last) = parts.last_mut() {
        last.fragment = false;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(events: usize, bytes: usize) -> pb::WatchResponse {
        let kv = mvccpb::KeyValue { value: Bytes::from(vec![7; bytes]), ..Default::default() };
        let event = mvccpb::Event { kv: Some(kv), ..Default::default() };
        pb::WatchResponse { watch_id: 3, events: vec![event; events], ..Default::default() }
    }

    #[test]
    fn forty_large_events_go_in_two_halves_as_in_etcd() {
        let parts: Vec<_> = fragments(response(40, 100_000), MAX_MESSAGE_BYTES)
            .iter()
            .map(|part| (part.watch_id, part.events.len(), part.fragment))
            .collect();
        assert_eq!(parts, [(3, 20, true), (3, 20, false)]);
    }

    #[test]
    fn small_or_single_responses_stay_whole() {
        assert_eq!(fragments(response(40, 10), MAX_MESSAGE_BYTES).len(), 1);
        let parts = fragments(response(1, MAX_MESSAGE_BYTES + 1), MAX_MESSAGE_BYTES);
        assert_eq!(parts.len(), 1);
        assert!(!parts[0].fragment);
    }

    #[test]
    fn an_event_above_the_limit_goes_alone() {
        let parts = fragments(response(3, 600), 500);
        let sizes: Vec<_> = parts.iter().map(|part| (part.events.len(), part.fragment)).collect();
        assert_eq!(sizes, [(1, true), (1, true), (1, false)]);
    }
}
