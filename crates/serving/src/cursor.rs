//! How far one watch is.
//!
//! A watch is either in step (it takes live events) or behind (it reads the history in bounded pieces until it has caught up).
//! The next revision it is due only rises, so nothing is told twice; it rises over what was told or did not concern the watch,
//! so nothing is left out.

use duet_mvcc::{Error, Event, EventBatch, EventLimits, KeyRange, Store};

use crate::planted::Bug;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    /// The next revision the watch is due.
    next: i64,
    /// It takes live events; otherwise it reads the history.
    in_step: bool,
}

/// A piece of the history for a watch that is behind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Whole revisions, ascending; may be empty although more follow.
    pub events: Vec<Event>,
    /// Of the store when it was read.
    pub revision: i64,
}

impl Cursor {
    /// Of a watch that was asked for from `start` on (zero: from now on) when the store was at `revision`. Its range must have
    /// been registered for live events before that revision was read.
    pub fn new(start: i64, revision: i64) -> Self {
        let now = revision + i64::from(!Bug::NowIsIncluded.planted());
        let next = if start == 0 { now } else { start };
        Self { next, in_step: next > revision }
    }

    /// Whether it takes live events.
    pub const fn is_in_step(&self) -> bool {
        self.in_step
    }

    /// Live events from `first` on are not to be had any more; none below that concerned this watch.
    pub fn overrun(&mut self, first: i64) {
        if self.in_step && !Bug::OverrunIgnored.planted() {
            self.in_step = false;
            self.next =
                if Bug::OverrunGoesBack.planted() { first.min(self.next) } else { first.max(self.next) };
        }
    }

    /// Whether it takes the live events of this revision; then it is beyond them.
    pub fn takes(&mut self, revision: i64) -> bool {
        let takes = self.in_step && (revision >= self.next || Bug::LiveShownTwice.planted());
        if takes {
            self.next = revision + 1;
        }
        takes
    }

    /// The next piece of the history, or `None`: it is in step.
    ///
    /// # Errors
    /// What it is due has been compacted away, or cannot be read.
    pub fn catch_up(
        &mut self,
        store: &Store,
        range: &KeyRange,
        limits: EventLimits,
    ) -> Result<Option<Piece>, Error> {
        let revision = store.revision();
        self.in_step |= self.next > revision;
        if self.in_step {
            return Ok(None);
        }
        let EventBatch { events, next_revision } = store.events(range, self.next, limits)?;
        assert!(next_revision > self.next, "each piece of history leads on");
        self.next = next_revision;
        self.in_step = next_revision > revision || Bug::InStepTooEarly.planted();
        Ok(Some(Piece { events, revision }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use duet_mvcc::{Command, EmptySource, PutRequest};

    use super::*;

    fn store(puts: i64) -> Store {
        let mut store = Store::new(Arc::new(EmptySource));
        for _ in 0..puts {
            let put = PutRequest { key: Bytes::from_static(b"k"), ..PutRequest::default() };
            assert!(store.apply(&Command::Put(put)).result.is_ok());
        }
        store
    }

    fn revisions(piece: Option<Piece>) -> Vec<i64> {
        piece.into_iter().flat_map(|piece| piece.events).map(|event| event.revision.main).collect()
    }

    #[test]
    fn a_watch_from_now_on_takes_each_later_revision_once() {
        let mut cursor = Cursor::new(0, 5);
        assert!(cursor.is_in_step());
        assert_eq!([5, 6, 6, 7].map(|revision| cursor.takes(revision)), [false, true, false, true]);
    }

    #[test]
    fn a_watch_of_the_past_reads_the_history_and_then_is_in_step() {
        let (store, limits) = (store(4), EventLimits { max_events: 2, max_bytes: 1 << 20 });
        let mut cursor = Cursor::new(2, store.revision());
        assert!(!cursor.takes(6), "while it is behind it takes nothing live");
        let mut read =
            || revisions(cursor.catch_up(&store, &KeyRange::all(), limits).expect("a store in memory"));
        assert_eq!([read(), read(), read()], [vec![2, 3], vec![4, 5], vec![]]);
        assert!(cursor.is_in_step() && !cursor.takes(5) && cursor.takes(6));
    }

    #[test]
    fn a_watch_of_the_future_waits_for_it() {
        let mut cursor = Cursor::new(9, 5);
        assert_eq!([6, 8, 9].map(|revision| cursor.takes(revision)), [false, false, true]);
    }

    #[test]
    fn what_the_live_events_no_longer_hold_comes_from_the_history() {
        let store = store(6);
        let mut cursor = Cursor::new(0, 3);
        assert!(cursor.takes(4));
        cursor.overrun(6);
        let piece =
            cursor.catch_up(&store, &KeyRange::all(), EventLimits::default()).expect("a store in memory");
        assert_eq!(revisions(piece), [6, 7], "revision 5 did not concern it: the signal began at 6");
    }

    #[test]
    fn a_compacted_start_is_an_error() {
        let mut store = store(4);
        assert!(store.apply(&Command::Compact { revision: 4 }).result.is_ok());
        let mut cursor = Cursor::new(2, store.revision());
        let piece = cursor.catch_up(&store, &KeyRange::all(), EventLimits::default());
        assert_eq!(piece, Err(Error::Compacted { compacted_revision: 4 }));
    }
}
