//! Between the thread that applies and the watch streams: recent events, and who must look at them.
//!
//! The apply thread only appends to a bounded ring. One task reads the ring and tells each stream the first revision
//! that concerns it; the stream then pulls events at its own pace, from the ring, or from the store's history when the
//! ring has moved on. So a slow watcher costs no memory and stalls nobody. Why nothing is lost or told twice:
//! [`EventRing`].

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use duet_mvcc::KeyRange;
use duet_serving::{EventRing, Interests, Pulled, RingLimits};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::handle::Handle;

/// What the ring of recent events keeps: some seconds of writes at full speed.
const RING: RingLimits = RingLimits { batches: 8192, bytes: 32 << 20, pulled: 64 };

/// How often the dispatcher compares the ring with the store by itself, for a store that was replaced as a whole.
const GAP_CHECK: Duration = Duration::from_secs(1);

/// "No event waits."
const CLEAN: i64 = i64::MAX;

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

    fn is_raised(&self) -> bool {
        self.first.load(Ordering::Relaxed) != CLEAN
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
    watches: usize,
}

/// See the module.
pub struct WatchHub {
    handle: Handle,
    ring: Mutex<EventRing>,
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
            ring: Mutex::new(EventRing::new(revision, RING)),
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
            // What is ready to run first puts in more, as in `threads.rs`.
            tokio::task::yield_now().await;
            self.dispatch();
        }
    }

    /// A store that is ahead of what was told was replaced, or wrote before the hub existed. Batches that are only late
    /// lose nothing by this: their events are then taken from the history.
    fn check_for_a_gap(&self) {
        let told = self.ring.lock().last();
        let revision = self.handle.store().read().revision();
        if revision > told {
            let mut ring = self.ring.lock();
            if ring.last() == told {
                ring.skip_to(revision);
            }
        }
    }

    fn dispatch(&self) {
        let dispatched = *self.dispatched.borrow();
        let news = self.ring.lock().news(dispatched);
        {
            let streams = self.streams.lock();
            if let Some(gap) = news.gap {
                streams.signals.values().for_each(|signal| signal.raise(gap));
            }
            for (stream, revision) in news.concerned(&streams.interests) {
                if let Some(signal) = streams.signals.get(&stream) {
                    signal.raise(revision);
                }
            }
        }
        if news.upto > dispatched {
            self.dispatched.send_replace(news.upto);
        }
    }

    /// Events from revision `first` on.
    pub fn pull(&self, first: i64) -> Pulled {
        self.ring.lock().pull(first)
    }

    /// The revision up to which every stream has been told that it has something to pull.
    pub fn dispatched(&self) -> watch::Receiver<i64> {
        self.dispatched.subscribe()
    }

    /// How many there are.
    pub(crate) fn load(&self) -> WatchLoad {
        let streams = self.streams.lock();
        let behind = streams.signals.values().filter(|signal| signal.is_raised()).count();
        WatchLoad { streams: streams.signals.len(), watches: streams.watches, behind }
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

/// Streams and watches at one moment.
pub(crate) struct WatchLoad {
    pub(crate) streams: usize,
    pub(crate) watches: usize,
    /// Streams that have something to take.
    pub(crate) behind: usize,
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
        let mut streams = self.hub.streams.lock();
        streams.interests.insert(range, self.id);
        streams.watches += 1;
        drop(streams);
        self.ranges.push(range.clone());
    }

    /// One watcher of `range` is gone.
    pub fn remove(&mut self, range: &KeyRange) {
        if let Some(position) = self.ranges.iter().position(|other| other == range) {
            self.ranges.swap_remove(position);
            let mut streams = self.hub.streams.lock();
            streams.interests.remove(range, self.id);
            streams.watches -= 1;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut streams = self.hub.streams.lock();
        streams.interests.remove_all(&self.ranges, self.id);
        streams.watches -= self.ranges.len();
        streams.signals.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
