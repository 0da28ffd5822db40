//! Clients that watch: at either appliance, from now, the past or the future on; cut off again and again, and resumed where
//! they were, here or there.

use std::hash::Hash;

use duet_checkers::{Watch, WatchEvent};
use duet_mvcc::{Error, EventLimits, KeyRange};
use duet_protocol::ApplianceId;
use duet_serving::AppliedBatch;

use super::clock::{MICRO, MILLI, SECOND, Time};
use super::event::Event;
use super::hub::{Turn, WatcherId};
use super::marks::Mark;
use super::random::Random;
use super::schedule::{Scheduled, Step};
use super::translate;
use super::workload;
use super::world::World;

/// One watching client.
#[derive(Debug)]
pub(crate) struct Watcher {
    range: KeyRange,
    /// Where it asks from; zero: from now on.
    start: i64,
    /// It was shown everything below; `None`: no watch of this range was ever established.
    resume: Option<i64>,
    /// Counts its attempts: what belongs to an earlier one is void.
    attempt: u64,
    /// Whose stream it has, and in which life.
    stream: Option<(ApplianceId, u64)>,
    /// Where the last stream was.
    last: Option<ApplianceId>,
    /// Its place among the recorded watches.
    record: Option<usize>,
    messages: u64,
    with_previous: bool,
    /// It reads slowly.
    slow: bool,
}

/// From a client to an appliance, and until a stream's task runs.
const WAY: (Time, Time) = (20 * MICRO, 500 * MICRO);
/// Until it tries again.
const RETRY: (Time, Time) = (10 * MILLI, 500 * MILLI);
/// Between two actions of a watcher that is cut off now and then.
const EVERY: (Time, Time) = (200 * MILLI, 8 * SECOND);
/// Between two turns for a client that reads slowly.
const SLOW: (Time, Time) = (10 * MILLI, 2 * SECOND);
/// From the store to the ring, and from the ring to the streams.
const TOLD: (Time, Time) = (MICRO, 200 * MICRO);
/// How far back or ahead of the history a watch begins at most.
const FAR: u64 = 100;
/// The checkers' number of the first watching client.
const FIRST_CLIENT: u32 = 100;

impl Watcher {
    pub fn new(with_previous: bool) -> Self {
        Self {
            range: KeyRange::all(),
            start: 0,
            resume: None,
            attempt: 0,
            stream: None,
            last: None,
            record: None,
            messages: 0,
            with_previous,
            slow: false,
        }
    }
}

impl World {
    pub(crate) fn on_watcher(&mut self, watcher: WatcherId) {
        if !self.faulting {
            return;
        }
        let plan = &mut self.watch_plan;
        let next = plan.spread(EVERY);
        let (target, dice) = (plan.pick(&ApplianceId::ALL), plan.bits());
        self.schedule(next, Event::WatcherActs { watcher });
        let step = Step::Watch { watcher, target, dice };
        self.schedule_so_far.push(Scheduled { at: self.now, step });
        self.watch(watcher, target, dice);
    }

    /// A watcher gives up what it has and begins anew: mostly it goes on where it was.
    pub(crate) fn watch(&mut self, watcher: WatcherId, target: ApplianceId, dice: u64) {
        let revision = self.oracle.reference.revision();
        let dice = &mut Random::new(dice);
        self.cut_off(watcher);
        let Some(client) = self.watchers.get_mut(watcher) else { return };
        client.slow = dice.chance(200);
        match client.resume {
            Some(next) if dice.chance(600) => client.start = next,
            _ => {
                client.range = workload::watched(dice);
                client.resume = None;
                let far = i64::try_from(dice.below(FAR)).expect("a small number");
                client.start = match dice.below(4) {
                    0 => 0,
                    1 => revision + far / 4,
                    _ => (revision - far).max(1),
                };
            }
        }
        self.connect(watcher, target, WAY);
    }

    fn cut_off(&mut self, watcher: WatcherId) {
        let Some(client) = self.watchers.get_mut(watcher) else { return };
        client.attempt += 1;
        if let Some((id, life)) = client.stream.take()
            && let Some(process) = self.process_of_mut(id, life)
        {
            process.hub.close(watcher);
        }
    }

    fn connect(&mut self, watcher: WatcherId, target: ApplianceId, way: (Time, Time)) {
        let way = self.readers.within(way);
        let attempt = self.watchers[watcher].attempt;
        self.schedule(way, Event::WatchArrives { watcher, attempt, id: target });
    }

    /// The request for a watch arrives.
    pub(crate) fn on_watch_arrival(&mut self, watcher: WatcherId, attempt: u64, id: ApplianceId) {
        let client = &mut self.watchers[watcher];
        if client.attempt != attempt {
            return;
        }
        let process = self.machines.get_mut(id).process.as_mut().filter(|process| !process.frozen);
        let Some(process) = process else {
            return self.connect(watcher, id.peer(), RETRY);
        };
        let (store, life) = (&process.state.store, process.life);
        let revision = store.revision();
        process.hub.open(watcher, client.range.clone(), client.start, store, client.with_previous);
        let from = if client.start == 0 { revision + 1 } else { client.start };
        let moved = client.last.is_some_and(|last| last != id) && client.resume == Some(from);
        client.stream = Some((id, life));
        client.last = Some(id);
        client.record = Some(self.recorder.watches.len());
        client.start = from;
        client.resume = Some(from);
        self.recorder.watches.push(Watch {
            client: FIRST_CLIENT + u32::try_from(watcher).expect("few watchers"),
            appliance: id,
            keys: translate::keys(&client.range),
            from,
            with_previous: client.with_previous,
            events: Vec::new(),
            complete_to: 0,
        });
        let ahead = from > revision + 1;
        self.note(|| {
            format!("watcher {watcher} watches at {id} from revision {from}, {id} is at {revision}")
        });
        if moved {
            self.marks.reach(Mark::WatchMoved);
        }
        if ahead {
            self.marks.reach(Mark::WatchAhead);
        }
        self.schedule(0, Event::StreamTurn { watcher, id, life });
    }

    /// What was applied is told to the watches, a little later.
    pub(crate) fn tell_watches(&mut self, id: ApplianceId, batch: AppliedBatch) {
        let after = self.readers.within(TOLD);
        let Some(process) = &mut self.machines.get_mut(id).process else { return };
        process.untold.push_back(batch);
        if process.untold.len() == 1 {
            let life = process.life;
            self.schedule(after, Event::Told { id, life });
        }
    }

    pub(crate) fn on_told(&mut self, id: ApplianceId, life: u64) {
        if self.is_held(id, life, Event::Told { id, life }) {
            return;
        }
        let Some(process) = self.process_of_mut(id, life) else { return };
        for batch in std::mem::take(&mut process.untold) {
            process.hub.push(batch);
        }
        for watcher in process.hub.dispatch() {
            let after = self.turn_time(watcher);
            self.schedule(after, Event::StreamTurn { watcher, id, life });
        }
    }

    fn turn_time(&mut self, watcher: WatcherId) -> Time {
        let slow = self.watchers.get(watcher).is_some_and(|client| client.slow);
        if slow { self.readers.spread(SLOW) } else { self.readers.within(TOLD) }
    }

    /// One turn of the task that serves a stream.
    pub(crate) fn on_stream_turn(&mut self, watcher: WatcherId, id: ApplianceId, life: u64) {
        if self.is_held(id, life, Event::StreamTurn { watcher, id, life }) {
            return;
        }
        if self.watchers.get(watcher).is_none_or(|client| client.stream != Some((id, life))) {
            return;
        }
        let limits = EventLimits { max_events: self.options.watch_piece, max_bytes: 1 << 20 };
        let Some(process) = self.process_of_mut(id, life) else { return };
        let turn = process.hub.turn(watcher, &process.state.store, limits);
        let again = turn.again;
        self.show(watcher, turn);
        if again {
            let after = self.turn_time(watcher);
            self.schedule(after, Event::StreamTurn { watcher, id, life });
        } else if self.readers.chance(100) {
            self.ask_progress(watcher, id, life);
        }
    }

    fn ask_progress(&mut self, watcher: WatcherId, id: ApplianceId, life: u64) {
        let Some(process) = self.process_of_mut(id, life) else { return };
        let revision = process.state.store.revision();
        if process.hub.want_progress(watcher, revision) {
            let after = self.turn_time(watcher);
            self.schedule(after, Event::StreamTurn { watcher, id, life });
        }
    }

    /// What a stream sends reaches its client.
    fn show(&mut self, watcher: WatcherId, turn: Turn) {
        let (now, records) = (self.now, self.is_recorded());
        let client = &mut self.watchers[watcher];
        let Some((id, _)) = client.stream else { return };
        let Some(record) = client.record.and_then(|index| self.recorder.watches.get_mut(index)) else {
            return;
        };
        for message in turn.messages {
            client.messages += 1;
            for (event, previous) in message {
                (now, watcher, event.revision.main, event.revision.sub).hash(&mut self.events);
                client.resume = Some(event.revision.main + 1);
                let previous = previous.as_ref().map(translate::key_value);
                let change = translate::change(&event);
                if records {
                    record.events.push(WatchEvent { at: now, message: client.messages, change, previous });
                }
            }
        }
        if let Some(upto) = turn.progress {
            record.complete_to = record.complete_to.max(upto);
            client.resume = client.resume.max(Some(upto + 1));
            self.marks.reach(Mark::WatchProgress);
        }
        if turn.overrun {
            self.marks.reach(Mark::WatchOverrun);
        }
        match turn.ended {
            None => {}
            Some(Error::Compacted { compacted_revision }) => {
                let client = &mut self.watchers[watcher];
                (client.stream, client.resume) = (None, None);
                client.start = compacted_revision;
                self.marks.reach(Mark::WatchCompacted);
                self.connect(watcher, id, RETRY);
            }
            Some(error) if self.machines.get(id).suspect => self.fail(id, &error.to_string()),
            Some(error) => self.violate(format!("data: {id} cannot read its history: {error}")),
        }
    }

    /// A process is gone, and all its streams with it: their clients look for another one.
    pub(crate) fn streams_broken(&mut self, id: ApplianceId, life: u64) {
        for watcher in 0..self.watchers.len() {
            let client = &mut self.watchers[watcher];
            if client.stream == Some((id, life)) {
                client.stream = None;
                client.attempt += 1;
                client.start = client.resume.unwrap_or(client.start);
                let target = if self.readers.chance(500) { id } else { id.peer() };
                self.connect(watcher, target, RETRY);
            }
        }
    }

    /// Nobody reads slowly any more.
    pub(crate) fn hurry_watchers(&mut self) {
        self.watchers.iter_mut().for_each(|client| client.slow = false);
    }

    /// In the end everybody who watches has seen everything.
    pub(crate) fn check_watchers(&mut self) {
        for watcher in 0..self.watchers.len() {
            let client = &self.watchers[watcher];
            if client.attempt == 0 {
                continue; // it never asked
            }
            let complete = client.stream.and_then(|(id, life)| {
                let process = self.process_of(id, life)?;
                let revision = process.state.store.revision();
                process.hub.is_complete(watcher, revision).then_some(revision)
            });
            let record = client.record.and_then(|index| self.recorder.watches.get_mut(index));
            if let (Some(revision), Some(record)) = (complete, record) {
                record.complete_to = revision;
            } else {
                let report = format!("{client:?}");
                self.violate(format!("liveness: watcher {watcher} has not caught up: {report}"));
            }
        }
    }
}
