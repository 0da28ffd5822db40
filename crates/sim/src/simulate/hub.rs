//! One appliance's watch streams, as the server's hub and its streams' tasks serve them: the same ring of recent events, the same
//! cursors, each stream woken and carried on by an event of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use duet_mvcc::{Error, Event, EventLimits, KeyRange, Store};
use duet_serving::{AppliedBatch, Cursor, EventRing, Interests, Piece, Pulled, RingLimits, by_revision};

/// Number of a watcher: each has one stream with one watch.
pub type WatcherId = usize;

/// One stream.
#[derive(Debug)]
struct Stream {
    range: KeyRange,
    cursor: Cursor,
    /// The first revision to look at.
    raised: Option<i64>,
    with_previous: bool,
    /// Its task has nothing to do.
    asleep: bool,
    /// The client wants to know how far the stream is, since the store was at this revision.
    wants_progress: Option<i64>,
}

/// An event as it goes to the client.
pub type Shown = (Event, Option<duet_mvcc::KeyValue>);

/// What a stream has to say after one turn of its task.
#[derive(Debug, Default)]
pub struct Turn {
    /// Events, a message each.
    pub messages: Vec<Vec<Shown>>,
    /// Everything up to this revision was shown.
    pub progress: Option<i64>,
    /// There is more to do.
    pub again: bool,
    /// The watch is over.
    pub ended: Option<Error>,
    /// The ring had moved on.
    pub overrun: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Hub {
    ring: EventRing,
    /// Streams were told of everything up to this revision.
    told: i64,
    streams: BTreeMap<WatcherId, Stream>,
    interests: Interests<WatcherId>,
}

impl Hub {
    /// Beside a store that is at `revision`.
    pub fn new(revision: i64, limits: RingLimits) -> Self {
        Self {
            ring: EventRing::new(revision, limits),
            told: revision,
            streams: BTreeMap::new(),
            interests: Interests::default(),
        }
    }

    /// Something was applied.
    pub fn push(&mut self, batch: AppliedBatch) {
        self.ring.push(Arc::new(batch));
    }

    /// Tells the streams what is new; those whose task slept and is to be woken.
    pub fn dispatch(&mut self) -> Vec<WatcherId> {
        let news = self.ring.news(self.told);
        if let Some(gap) = news.gap {
            self.streams.values_mut().for_each(|stream| stream.raise(gap));
        }
        for (watcher, revision) in news.concerned(&self.interests) {
            if let Some(stream) = self.streams.get_mut(&watcher) {
                stream.raise(revision);
            }
        }
        self.told = self.told.max(news.upto);
        let told = self.told;
        let woken = self.streams.iter_mut().filter(|(_, stream)| stream.asleep && stream.is_due(told));
        woken
            .map(|(watcher, stream)| {
                stream.asleep = false;
                *watcher
            })
            .collect()
    }

    /// A stream with one watch; its task is to take its first turn.
    pub fn open(
        &mut self,
        watcher: WatcherId,
        range: KeyRange,
        start: i64,
        store: &Store,
        with_previous: bool,
    ) {
        self.close(watcher);
        self.interests.insert(&range, watcher);
        let cursor = Cursor::new(start, store.revision());
        let stream =
            Stream { range, cursor, raised: None, with_previous, asleep: false, wants_progress: None };
        self.streams.insert(watcher, stream);
    }

    /// The client is gone.
    pub fn close(&mut self, watcher: WatcherId) {
        if let Some(stream) = self.streams.remove(&watcher) {
            self.interests.remove(&stream.range, watcher);
        }
    }

    /// The client wants to know how far the stream is. Whether its task is to be woken.
    pub fn want_progress(&mut self, watcher: WatcherId, revision: i64) -> bool {
        let Some(stream) = self.streams.get_mut(&watcher) else { return false };
        stream.wants_progress = Some(revision);
        std::mem::take(&mut stream.asleep)
    }

    /// One turn of a stream's task.
    pub fn turn(&mut self, watcher: WatcherId, store: &Store, limits: EventLimits) -> Turn {
        let mut turn = Turn::default();
        let Some(stream) = self.streams.get_mut(&watcher) else { return turn };
        let done = stream
            .deliver(&self.ring, store, &mut turn)
            .and_then(|()| stream.catch_up(store, limits, &mut turn));
        match done {
            Ok(()) => stream.tell_progress(self.told, &mut turn),
            Err(error) => {
                turn.ended = Some(error);
                self.close(watcher);
                return turn;
            }
        }
        turn.again = stream.raised.is_some() || !stream.cursor.is_in_step();
        stream.asleep = !turn.again;
        turn
    }

    /// Whether the stream has shown everything that a store at this revision holds.
    pub fn is_complete(&self, watcher: WatcherId, revision: i64) -> bool {
        self.streams.get(&watcher).is_some_and(|stream| {
            self.told == revision && stream.raised.is_none() && stream.cursor.is_in_step()
        })
    }
}

impl Stream {
    fn raise(&mut self, revision: i64) {
        self.raised = Some(self.raised.map_or(revision, |raised| raised.min(revision)));
    }

    fn is_due(&self, told: i64) -> bool {
        self.raised.is_some() || self.wants_progress.is_some_and(|wanted| wanted <= told)
    }

    /// Live events.
    fn deliver(&mut self, ring: &EventRing, store: &Store, turn: &mut Turn) -> Result<(), Error> {
        let Some(first) = self.raised.take() else { return Ok(()) };
        match ring.pull(first) {
            Pulled::Overrun => {
                turn.overrun = true;
                self.cursor.overrun(first);
            }
            Pulled::Events { batches, next } => {
                for events in batches.iter().flat_map(|batch| by_revision(&batch.events)) {
                    let concerned = events.iter().filter(|event| self.range.contains(&event.key_value.key));
                    let concerned: Vec<Event> = concerned.cloned().collect();
                    let Some(revision) = concerned.first().map(|event| event.revision.main) else { continue };
                    if self.cursor.takes(revision) {
                        self.show(concerned, store, turn)?;
                    }
                }
                self.raised = next;
            }
        }
        Ok(())
    }

    /// A piece of the history.
    fn catch_up(&mut self, store: &Store, limits: EventLimits, turn: &mut Turn) -> Result<(), Error> {
        match self.cursor.catch_up(store, &self.range, limits)? {
            Some(Piece { events, .. }) if !events.is_empty() => self.show(events, store, turn),
            _ => Ok(()),
        }
    }

    fn show(&self, events: Vec<Event>, store: &Store, turn: &mut Turn) -> Result<(), Error> {
        let with_previous = |event: Event| {
            let previous = if self.with_previous { store.previous_key_value(&event)? } else { None };
            Ok((event, previous))
        };
        turn.messages.push(events.into_iter().map(with_previous).collect::<Result<_, Error>>()?);
        Ok(())
    }

    fn tell_progress(&mut self, told: i64, turn: &mut Turn) {
        let may = self.raised.is_none() && self.cursor.is_in_step();
        if may && self.wants_progress.is_some_and(|wanted| wanted <= told) {
            self.wants_progress = None;
            turn.progress = Some(told);
        }
    }
}
