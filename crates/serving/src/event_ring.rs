//! The recent events, for watches that are in step.
//!
//! Bounded: a watch that is too slow for it reads the history. Why nothing is lost or told twice: a watch's range is
//! registered before the store's revision C is read; events up to C come from the history, and any later one is applied after
//! C was read, so it is told to the registered watch. What lies below the watch's cursor is skipped.

use std::collections::VecDeque;
use std::sync::Arc;

use duet_mvcc::Event;

use crate::interests::Interests;
use crate::planted::Bug;

/// Writes that were applied together, in order.
#[derive(Clone, Debug)]
pub struct AppliedBatch {
    /// What changed, in order of revisions.
    pub events: Vec<Event>,
    /// The store's revision after them.
    pub revision: i64,
    /// The store was replaced by a copy from the peer: events of the revisions in between are not told.
    pub restored: bool,
}

/// How much a ring keeps.
#[derive(Clone, Copy, Debug)]
pub struct RingLimits {
    /// Batches.
    pub batches: usize,
    /// Bytes of keys and values that are kept alive. They are shared with the store while it still has them.
    pub bytes: usize,
    /// Batches that a stream takes at once: bounds what a stream that waits for its client keeps alive.
    pub pulled: usize,
}

/// See the module.
#[derive(Debug)]
pub struct EventRing {
    limits: RingLimits,
    /// Ascending.
    batches: VecDeque<Arc<AppliedBatch>>,
    bytes: usize,
    /// Every event from this revision on up to `last` is held.
    covers_from: i64,
    last: i64,
}

/// What a stream gets for a first revision.
#[derive(Clone, Debug)]
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

/// What streams have not been told of yet.
#[derive(Clone, Debug)]
pub struct News {
    /// The ring does not hold everything: from this revision on something may concern anybody.
    pub gap: Option<i64>,
    /// What it holds, ascending.
    batches: Vec<Arc<AppliedBatch>>,
    /// Everything up to here is told with this.
    pub upto: i64,
}

impl EventRing {
    /// An empty ring beside a store that is at `revision`.
    pub const fn new(revision: i64, limits: RingLimits) -> Self {
        Self { limits, batches: VecDeque::new(), bytes: 0, covers_from: revision + 1, last: revision }
    }

    /// The revision up to which events came.
    pub const fn last(&self) -> i64 {
        self.last
    }

    /// Takes what was applied.
    pub fn push(&mut self, batch: Arc<AppliedBatch>) {
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
        while self.batches.len() > self.limits.batches || self.bytes > self.limits.bytes {
            let Some(oldest) = self.batches.pop_front() else { break };
            self.bytes -= weight(&oldest);
            self.covers_from = oldest.revision + i64::from(!Bug::RingCoversDropped.planted());
        }
    }

    /// Events up to `revision` were not told and never will be: streams find them in the history.
    pub fn skip_to(&mut self, revision: i64) {
        if revision <= self.last {
            return;
        }
        self.batches.clear();
        self.bytes = 0;
        if !Bug::GapForgotten.planted() {
            self.covers_from = revision + 1;
        }
        self.last = revision;
    }

    /// Events from revision `first` on.
    pub fn pull(&self, first: i64) -> Pulled {
        if first < self.covers_from {
            return Pulled::Overrun;
        }
        let start = self.position_above(first - 1);
        let batches: Vec<_> = self.batches.iter().skip(start).take(self.limits.pulled).cloned().collect();
        let reached = batches.last().map_or(self.last, |batch| batch.revision);
        Pulled::Events { batches, next: (reached < self.last).then_some(reached + 1) }
    }

    /// What came after revision `told`.
    pub fn news(&self, told: i64) -> News {
        let from = self.position_above(told);
        let has_gap = told + 1 < self.covers_from && !Bug::GapNotTold.planted();
        let gap = has_gap.then_some(told + 1);
        News { gap, batches: self.batches.iter().skip(from).cloned().collect(), upto: self.last }
    }

    /// The first batch that reaches beyond `revision`.
    fn position_above(&self, revision: i64) -> usize {
        self.batches.partition_point(|batch| batch.revision <= revision)
    }
}

impl News {
    /// Everybody whom an event concerns, with its revision. A gap concerns all, and is for the caller to tell.
    pub fn concerned<'a, T: Copy + PartialEq>(
        &'a self,
        interests: &'a Interests<T>,
    ) -> impl Iterator<Item = (T, i64)> + 'a {
        let events = self.batches.iter().flat_map(|batch| &batch.events);
        events.flat_map(|event| interests.of(&event.key_value.key).map(|who| (who, event.revision.main)))
    }
}

fn weight(batch: &AppliedBatch) -> usize {
    batch.events.iter().map(|event| event.key_value.key.len() + event.key_value.value.len()).sum()
}

/// The events of a batch, one slice for each revision.
pub fn by_revision(events: &[Event]) -> impl Iterator<Item = &[Event]> {
    events.chunk_by(|left, right| left.revision.main == right.revision.main)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use duet_mvcc::{EventKind, KeyRange, KeyValue, Revision};

    use super::*;

    const LIMITS: RingLimits = RingLimits { batches: 8, bytes: 1 << 20, pulled: 3 };

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
    fn the_ring_is_bounded_and_knows_what_it_covers() {
        let mut ring = EventRing::new(1, LIMITS);
        for revision in 2..=19 {
            ring.push(batch(revision, "k"));
        }
        assert_eq!(ring.batches.len(), LIMITS.batches);
        assert_eq!((ring.covers_from, ring.last), (12, 19));
        assert_eq!(ring.position_above(12), 1);
        assert!(matches!(ring.pull(11), Pulled::Overrun));
        let Pulled::Events { batches, next } = ring.pull(12) else { panic!("it holds revision 12") };
        assert_eq!((batches.len(), next), (3, Some(15)));
    }

    #[test]
    fn a_jump_of_the_store_is_a_gap() {
        let mut ring = EventRing::new(1, LIMITS);
        ring.push(batch(2, "k"));
        ring.push(batch(7, "k"));
        assert_eq!((ring.covers_from, ring.last), (7, 7));
        assert_eq!(ring.news(2).gap, Some(3));
        ring.push(Arc::new(AppliedBatch { events: Vec::new(), revision: 20, restored: true }));
        assert_eq!((ring.covers_from, ring.last), (21, 20));
        ring.push(batch(15, "k"));
        assert_eq!((ring.batches.len(), ring.last), (0, 20));
    }

    #[test]
    fn news_concern_those_who_watch_the_key() {
        let mut ring = EventRing::new(1, LIMITS);
        let mut interests = Interests::default();
        interests.insert(&KeyRange::new(Bytes::from_static(b"b"), Bytes::new()), 'x');
        interests.insert(&KeyRange::all(), 'y');
        for (revision, key) in [(2, "a"), (3, "b"), (4, "c")] {
            ring.push(batch(revision, key));
        }
        let news = ring.news(2);
        assert_eq!((news.gap, news.upto), (None, 4));
        assert_eq!(news.concerned(&interests).collect::<Vec<_>>(), [('x', 3), ('y', 3), ('y', 4)]);
    }

    #[test]
    fn events_are_grouped_by_revision() {
        let events: Vec<_> = [2, 3, 3, 4].into_iter().flat_map(|at| batch(at, "k").events.clone()).collect();
        let sizes: Vec<_> = by_revision(&events).map(<[Event]>::len).collect();
        assert_eq!(sizes, [1, 2, 1]);
    }
}
