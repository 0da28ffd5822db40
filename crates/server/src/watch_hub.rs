//! Between the thread that applies and the watch streams: recent events, and who must look at them.
//!
//! The apply thread only appends to a bounded ring. One task reads the ring and tells each stream the first revision
//! that concerns it; the stream then pulls events at its own pace, from the ring, or from the store's history when the
//! ring has moved on. So a slow watcher costs no memory and stalls nobody.
//!
//! Why nothing is lost or told twice: each watcher has a cursor, the next revision it is due. It is registered before
//! the store's revision C is read; events up to C come from history, and any later one is applied after C was read, so
//! it is dispatched to the registered watcher. What lies below the cursor is skipped.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use duet_mvcc::{Event, KeyRange};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::handle::{AppliedBatch, Handle};

/// Batches that the ring keeps: some seconds of writes at full speed.
const RING_BATCHES: usize = 8192;

/// Bytes of keys and values that the ring keeps alive. They are shared with the store while it still has them.
const RING_BYTES: usize = 32 << 20;

/// Batches that a stream takes from the ring at once: bounds what a stream that waits for its client keeps alive.
const PULL_BATCHES: usize = 64;

/// How often the dispatcher compares the ring with the store by itself, for a store that was replaced as a whole.
const GAP_CHECK: Duration = Duration::from_secs(1);

/// "No event waits."
const CLEAN: i64 = i64::MAX;

/// Who watches which keys. Looking up an event costs a hash lookup and a walk over the ranges.
#[derive(Debug)]
pub struct Interests<T> {
    keys: HashMap<Bytes, Vec<T>>,
    ranges: Vec<(KeyRange, T)>,
}

impl<T> Default for Interests<T> {
    fn default() -> Interests<T> {
        Interests { keys: HashMap::new(), ranges: Vec::new() }
    }
}

impl<T: Copy + PartialEq> Interests<T> {
    /// Adds one interest.
    pub fn insert(&mut self, range: &KeyRange, who: T) {
        match range {
            KeyRange::Single(key) => self.keys.entry(key.clone()).or_default().push(who),
            KeyRange::From(_) | KeyRange::Between(..) => self.ranges.push((range.clone(), who)),
        }
    }

    /// Takes one interest back.
    pub fn remove(&mut self, range: &KeyRange, who: T) {
        match range {
            KeyRange::Single(key) => {
                if let Some(watchers) = self.keys.get_mut(key) {
                    if let Some(position) = watchers.iter().position(|other| *other == who) {
                        watchers.swap_remove(position);
                    }
                    if watchers.is_empty() {
                        self.keys.remove(key);
                    }
                }
            }
            KeyRange::From(_) | KeyRange::Between(..) => {
                let found = self.ranges.iter().position(|(other, watcher)| *watcher == who && other == range);
                if let Some(position) = found {
                    self.ranges.swap_remove(position);
                }
            }
        }
    }

    /// Takes back all of one party's interests; `ranges` are theirs.
    fn remove_all(&mut self, ranges: &[KeyRange], who: T) {
        for range in ranges {
            if matches!(range, KeyRange::Single(_)) {
                self.remove(range, who);
            }
        }
        self.ranges.retain(|(_, other)| *other != who);
    }

    /// Everyone interested in `key`, in no particular order.
    pub fn of<'a>(&'a self, key: &'a Bytes) -> impl Iterator<Item = T> + 'a {
        let single = self.keys.get(key).into_iter().flatten().copied();
        let ranges = self.ranges.iter().filter(|(range, _)| range.contains(key)).map(|(_, who)| *who);
        single.chain(ranges)
    }
}

/// Tells one stream that it has something to pull.
#[derive(Debug)]
pub struct Signal {
    first: AtomicI64,
    wake: Notify,
}

impl Default for Signal {
    fn default() -> Signal {
        Signal { first: AtomicI64::new(CLEAN), wake: Notify::new() }
    }
}

impl Signal {
    /// There is something from `revision` on.
    pub fn raise(&self, revision: i64) {
        self.first.fetch_min(revision, Ordering::SeqCst);
        self.wake.notify_one();
    }

    /// The first revision to look at, if there is something; clears the signal.
    pub fn take(&self) -> Option<i64> {
        let first = self.first.swap(CLEAN, Ordering::SeqCst);
        (first != CLEAN).then_some(first)
    }

    /// Waits until it is raised. May return without cause.
    pub async fn raised(&self) {
        self.wake.notified().await;
    }
}

/// Number of a stream; never used again.
pub type StreamId = u64;

#[derive(Default)]
struct Streams {
    next: StreamId,
    signals: HashMap<StreamId, Arc<Signal>>,
    interests: Interests<StreamId>,
}

/// Recent batches, ascending.
struct Ring {
    batches: VecDeque<Arc<AppliedBatch>>,
    bytes: usize,
    /// The ring holds every event from this revision on up to `last`.
    covers_from: i64,
    last: i64,
}

/// What a stream gets for a first revision.
pub enum Pulled {
    /// Events from there on; `next` is where to go on if there is more.
    Events {
        /// Ascending.
        batches: Vec<Arc<AppliedBatch>>,
        /// Where the next pull starts, if the ring holds more.
        next: Option<i64>,
    },
    /// The ring has moved on: they are in the store's history.
    Overrun,
}

impl Ring {
    fn new(revision: i64) -> Ring {
        Ring { batches: VecDeque::new(), bytes: 0, covers_from: revision + 1, last: revision }
    }

    fn push(&mut self, batch: Arc<AppliedBatch>) {
        let first = batch.events.first().map_or(batch.revision, |event| event.revision.main);
        if batch.restored || first > self.last + 1 {
            self.skip_to(if batch.restored { batch.revision } else { first - 1 });
        }
        if batch.revision <= self.last {
            // Already skipped over: watchers find it in the history.
            return;
        }
        self.last = batch.revision;
        self.bytes += weight(&batch);
        self.batches.push_back(batch);
        while self.batches.len() > RING_BATCHES || self.bytes > RING_BYTES {
            let Some(oldest) = self.batches.pop_front() else { break };
            self.bytes -= weight(&oldest);
            self.covers_from = oldest.revision + 1;
        }
    }

    /// Events up to `revision` were not told and never will be: streams find them in the history.
    fn skip_to(&mut self, revision: i64) {
        if revision <= self.last {
            return;
        }
        self.batches.clear();
        self.bytes = 0;
        self.covers_from = revision + 1;
        self.last = revision;
    }

    /// The first batch that reaches beyond `revision`.
    fn position_above(&self, revision: i64) -> usize {
        self.batches.partition_point(|batch| batch.revision <= revision)
    }
}

fn weight(batch: &AppliedBatch) -> usize {
    batch.events.iter().map(|event| event.key_value.key.len() + event.key_value.value.len()).sum()
}

/// See the module.
pub struct WatchHub {
    handle: Handle,
    ring: Mutex<Ring>,
    arrived: Notify,
    streams: Mutex<Streams>,
    dispatched: watch::Sender<i64>,
}

impl WatchHub {
    /// Registers as the machine room's consumer of events. [`WatchHub::run`] must be running for watchers to be told.
    pub fn new(handle: Handle) -> Arc<WatchHub> {
        let revision = handle.store().read().revision();
        let hub = Arc::new(WatchHub {
            handle,
            ring: Mutex::new(Ring::new(revision)),
            arrived: Notify::new(),
            streams: Mutex::new(Streams::default()),
            dispatched: watch::Sender::new(revision),
        });
        // Weak: the sink must not keep the hub alive, which holds the handle that holds the sink.
        let weak = Arc::downgrade(&hub);
        hub.handle.set_event_sink(Box::new(move |batch| {
            if let Some(hub) = weak.upgrade() {
                hub.ring.lock().push(batch);
                hub.arrived.notify_one();
            }
        }));
        hub
    }

    /// Dispatches until dropped.
    pub async fn run(self: Arc<WatchHub>) {
        loop {
            if tokio::time::timeout(GAP_CHECK, self.arrived.notified()).await.is_err() {
                self.check_for_a_gap();
            }
            self.dispatch();
        }
    }

    /// A store that is ahead of what was told was replaced, or wrote before the hub existed. Batches that are only late
    /// lose nothing by this: their events are then taken from the history.
    fn check_for_a_gap(&self) {
        let told = self.ring.lock().last;
        let revision = self.handle.store().read().revision();
        if revision > told {
            let mut ring = self.ring.lock();
            if ring.last == told {
                ring.skip_to(revision);
            }
        }
    }

    fn dispatch(&self) {
        let dispatched = *self.dispatched.borrow();
        let (gap, batches, last) = {
            let ring = self.ring.lock();
            let from = ring.position_above(dispatched);
            // What the ring no longer holds may concern anybody.
            let gap = (dispatched + 1 < ring.covers_from).then_some(dispatched + 1);
            (gap, ring.batches.iter().skip(from).cloned().collect::<Vec<_>>(), ring.last)
        };
        {
            let streams = self.streams.lock();
            if let Some(gap) = gap {
                streams.signals.values().for_each(|signal| signal.raise(gap));
            }
            for event in batches.iter().flat_map(|batch| &batch.events) {
                for stream in streams.interests.of(&event.key_value.key) {
                    if let Some(signal) = streams.signals.get(&stream) {
                        signal.raise(event.revision.main);
                    }
                }
            }
        }
        if last > dispatched {
            self.dispatched.send_replace(last);
        }
    }

    /// Events from revision `first` on.
    pub fn pull(&self, first: i64) -> Pulled {
        let ring = self.ring.lock();
        if first < ring.covers_from {
            return Pulled::Overrun;
        }
        let start = ring.position_above(first - 1);
        let batches: Vec<_> = ring.batches.iter().skip(start).take(PULL_BATCHES).cloned().collect();
        let reached = batches.last().map_or(ring.last, |batch| batch.revision);
        Pulled::Events { batches, next: (reached < ring.last).then_some(reached + 1) }
    }

    /// The revision up to which every stream has been told that it has something to pull.
    pub fn dispatched(&self) -> watch::Receiver<i64> {
        self.dispatched.subscribe()
    }

    /// A new stream without interests.
    pub fn open(self: &Arc<WatchHub>) -> Subscription {
        let signal = Arc::new(Signal::default());
        let mut streams = self.streams.lock();
        let id = streams.next;
        streams.next += 1;
        streams.signals.insert(id, signal.clone());
        drop(streams);
        Subscription { hub: self.clone(), id, signal, ranges: Vec::new() }
    }
}

/// One stream's place at the hub; leaves it when dropped.
pub struct Subscription {
    hub: Arc<WatchHub>,
    id: StreamId,
    signal: Arc<Signal>,
    ranges: Vec<KeyRange>,
}

impl Subscription {
    /// Raised when there are events for this stream.
    pub fn signal(&self) -> &Signal {
        &self.signal
    }

    /// From here on events of `range` raise the signal.
    pub fn add(&mut self, range: &KeyRange) {
        self.hub.streams.lock().interests.insert(range, self.id);
        self.ranges.push(range.clone());
    }

    /// One watcher of `range` is gone.
    pub fn remove(&mut self, range: &KeyRange) {
        if let Some(position) = self.ranges.iter().position(|other| other == range) {
            self.ranges.swap_remove(position);
            self.hub.streams.lock().interests.remove(range, self.id);
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut streams = self.hub.streams.lock();
        streams.interests.remove_all(&self.ranges, self.id);
        streams.signals.remove(&self.id);
    }
}

/// The events of a batch, one slice for each revision.
pub fn by_revision(events: &[Event]) -> impl Iterator<Item = &[Event]> {
    events.chunk_by(|left, right| left.revision.main == right.revision.main)
}

#[cfg(test)]
mod tests {
    use duet_mvcc::{EventKind, KeyValue, Revision};

    use super::*;

    fn batch(revision: i64, key: &'static str) -> Arc<AppliedBatch> {
        let key_value = KeyValue {
            key: Bytes::from_static(key.as_bytes()),
            mod_revision: revision,
            ..Default::default()
        };
        let event = Event { kind: EventKind::Put, revision: Revision::new(revision, 0), key_value };
        Arc::new(AppliedBatch { events: vec![event], revision, restored: false })
    }

    #[test]
    fn interests_are_found_by_key_and_by_range() {
        let mut interests = Interests::default();
        let single = KeyRange::new(Bytes::from_static(b"a"), Bytes::new());
        let range = KeyRange::new(Bytes::from_static(b"a"), Bytes::from_static(b"b"));
        interests.insert(&single, 1);
        interests.insert(&range, 2);
        let of = |interests: &Interests<i32>, key: &'static [u8]| {
            let mut found: Vec<_> = interests.of(&Bytes::from_static(key)).collect();
            found.sort_unstable();
            found
        };
        assert_eq!(of(&interests, b"a"), [1, 2]);
        assert_eq!(of(&interests, b"ab"), [2]);
        assert_eq!(of(&interests, b"b"), [0; 0]);
        interests.remove(&range, 2);
        interests.remove(&single, 1);
        assert_eq!(of(&interests, b"a"), [0; 0]);
        assert!(interests.keys.is_empty() && interests.ranges.is_empty());
    }

    #[test]
    fn a_signal_keeps_the_lowest_revision() {
        let signal = Signal::default();
        assert_eq!(signal.take(), None);
        signal.raise(9);
        signal.raise(4);
        signal.raise(7);
        assert_eq!(signal.take(), Some(4));
        assert_eq!(signal.take(), None);
    }

    #[test]
    fn the_ring_is_bounded_and_knows_what_it_covers() {
        let mut ring = Ring::new(1);
        let batches = i64::try_from(RING_BATCHES).unwrap();
        for revision in 2..=batches + 11 {
            ring.push(batch(revision, "k"));
        }
        assert_eq!(ring.batches.len(), RING_BATCHES);
        assert_eq!((ring.covers_from, ring.last), (12, batches + 11));
        assert_eq!(ring.position_above(12), 1);
    }

    #[test]
    fn a_jump_of_the_store_is_a_gap() {
        let mut ring = Ring::new(1);
        ring.push(batch(2, "k"));
        ring.push(batch(7, "k"));
        assert_eq!((ring.covers_from, ring.last), (7, 7));
        ring.push(Arc::new(AppliedBatch { events: Vec::new(), revision: 20, restored: true }));
        assert_eq!((ring.covers_from, ring.last), (21, 20));
        ring.push(batch(15, "k"));
        assert_eq!((ring.batches.len(), ring.last), (0, 20));
    }

    #[test]
    fn events_are_grouped_by_revision() {
        let events: Vec<_> = [2, 3, 3, 4].into_iter().flat_map(|at| batch(at, "k").events.clone()).collect();
        let sizes: Vec<_> = by_revision(&events).map(<[Event]>::len).collect();
        assert_eq!(sizes, [1, 2, 1]);
    }
}
