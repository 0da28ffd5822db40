//! Clients that write, read and compare, each one thing after the other, at one appliance and the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use duet_checkers::{
    Answer, Compare, Condition, Keys, Number, Operation, Outcome, Request, Step, StepAnswer, Txn,
};
use duet_protocol::ApplianceId::{A, B};

use crate::calls;
use crate::client::Client;
use crate::random::Random;
use crate::recorder::Recorder;

/// Registers are read and written one at a time, so that an order can be searched for each.
pub const REGISTERS: &str = "r/";
const REGISTER_COUNT: u64 = 4;
const KEY_COUNT: u64 = 6;
/// Between two requests of a client, in milliseconds.
const PAUSE: std::ops::Range<u64> = 2..30;
/// After a request without an answer.
const RETRY: Duration = Duration::from_millis(30);
/// Times to live, in seconds.
const TTLS: [i64; 3] = [1, 2, 3];
/// Between two renewals, in milliseconds: some come too late.
const RENEWALS: std::ops::Range<u64> = 100..1500;

/// Between two compactions, in milliseconds.
const COMPACTIONS: std::ops::Range<u64> = 1000..4000;
/// A compaction leaves up to this many revisions below what the scribe has seen.
const KEPT: u64 = 300;
/// Reads of the past go back up to this many revisions: some of those are compacted.
const PAST: u64 = 500;

/// One client and where it asks.
pub struct Session {
    number: u32,
    clients: [Client; 2],
    turn: usize,
    random: Random,
    recorder: Arc<Recorder>,
    stop: Arc<AtomicBool>,
    written: u64,
}

impl Session {
    pub fn new(
        number: u32,
        urls: &[String; 2],
        random: Random,
        recorder: &Arc<Recorder>,
        stop: &Arc<AtomicBool>,
    ) -> Self {
        let clients = [Client::new(&urls[0]), Client::new(&urls[1])];
        let turn = usize::from(!number.is_multiple_of(2));
        Self { number, clients, turn, random, recorder: recorder.clone(), stop: stop.clone(), written: 0 }
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::SeqCst)
    }

    /// Reads, writes, compares.
    pub async fn use_keys(mut self) {
        let mut seen = Seen::default();
        while self.goes_on() {
            let request = self.draw(&seen);
            let outcome = self.ask(request.clone()).await;
            seen.learn(&request, &outcome);
            self.pause().await;
        }
    }

    /// Takes leases, hangs keys on them, renews them for a while, gives them back or forgets them.
    pub async fn use_leases(mut self) {
        let mut lease = i64::from(self.number) * 1_000_000;
        while self.goes_on() {
            lease += 1;
            let ttl = self.random.pick(&TTLS);
            if !is_done(&self.ask(Request::Grant { lease, ttl }).await) {
                continue;
            }
            for key in 0..self.random.within(1..3) {
                let (key, value) = (format!("lease/{lease}/{key}"), self.value());
                self.ask(Request::Txn(Txn::of(Step::Put { key, value, lease }))).await;
            }
            for _ in 0..self.random.within(0..5) {
                tokio::time::sleep(Duration::from_millis(self.random.within(RENEWALS))).await;
                self.ask(Request::KeepAlive { lease }).await;
            }
            if self.random.percent(40) {
                self.ask(Request::Revoke { lease }).await;
            }
        }
    }

    /// Compacts, never beyond what the scribe has seen.
    pub async fn compact(mut self, seen: tokio::sync::watch::Receiver<i64>) {
        while self.goes_on() {
            tokio::time::sleep(Duration::from_millis(self.random.within(COMPACTIONS))).await;
            let kept = i64::try_from(self.random.within(0..KEPT)).expect("a small number");
            let revision = *seen.borrow() - kept;
            if revision > 1 {
                self.ask(Request::Compact { revision }).await;
            }
        }
    }

    async fn pause(&mut self) {
        if self.random.percent(3) {
            self.turn = 1 - self.turn;
        }
        tokio::time::sleep(Duration::from_millis(self.random.within(PAUSE))).await;
    }

    async fn ask(&mut self, request: Request) -> Outcome {
        let invoked = self.recorder.now();
        let outcome = calls::ask(&self.clients[self.turn], &request, || self.recorder.now()).await;
        let appliance = [A, B][self.turn];
        let (client, done) = (self.number, outcome.clone());
        self.recorder.operation(Operation { client, appliance, request, invoked, outcome });
        if !is_done(&done) {
            self.turn = 1 - self.turn;
            tokio::time::sleep(RETRY).await;
        }
        done
    }

    fn value(&mut self) -> String {
        self.written += 1;
        format!("{}.{}", self.number, self.written)
    }

    fn draw(&mut self, seen: &Seen) -> Request {
        let register = format!("{REGISTERS}{}", self.random.within(0..REGISTER_COUNT));
        let key = format!("k/{}", self.random.within(0..KEY_COUNT));
        let either = if self.random.percent(50) { &register } else { &key };
        match self.random.within(0..100) {
            0..30 => Request::Txn(Txn::put(either, self.value())),
            30..50 => Request::Txn(Txn::get(either)),
            50..60 => Request::Serializable(Txn::get(either)),
            60..68 => Request::Txn(Txn::delete(either)),
            68..80 => Request::Txn(self.exchange(&register, seen)),
            80..85 => Request::Txn(self.move_pair()),
            85..88 => Request::Txn(self.swap(seen)),
            88..91 => Request::Txn(self.create(&key)),
            91 => Request::Txn(self.trim(seen)),
            92 => Request::Serializable(Txn::of(Step::Get(Keys::Prefix("k/".into())))),
            93..95 => Request::Txn(Txn::of(Step::Get(Keys::Prefix("k/".into())))),
            95..98 => self.read_past(either, seen),
            98 => Request::Txn(self.replace_all()),
            _ => Request::Txn(Txn::of(Step::Delete(Keys::Prefix("k/".into())))),
        }
    }

    /// Replaces what was seen last, if it is still there.
    fn exchange(&mut self, register: &str, seen: &Seen) -> Txn {
        let compare = match seen.of(register) {
            Some((value, _)) if self.random.percent(50) => Compare::Value(value.clone()),
            Some((_, revision)) => Compare::ModRevision(*revision),
            None => Compare::Version(0),
        };
        let (key, value) = (register.to_owned(), self.value());
        Txn {
            conditions: vec![Condition { key: key.clone(), compare }],
            then: vec![Step::Put { key: key.clone(), value, lease: 0 }],
            otherwise: vec![Step::Get(Keys::One(key))],
        }
    }

    /// Two keys at one moment: written, or one deleted and the other written.
    fn move_pair(&mut self) -> Txn {
        let first = self.random.within(0..KEY_COUNT);
        let second = (first + 1) % KEY_COUNT;
        let value = self.value();
        let put = |number: u64| Step::Put { key: format!("k/{number}"), value: value.clone(), lease: 0 };
        let gone = Step::Delete(Keys::One(format!("k/{first}")));
        let begin = if self.random.percent(50) { put(first) } else { gone };
        Txn { then: vec![begin, put(second), Step::Get(Keys::Prefix("k/".into()))], ..Txn::default() }
    }

    /// Exchanges what two keys hold if both are as they were seen, else reads both.
    fn swap(&mut self, seen: &Seen) -> Txn {
        let first = self.random.within(0..KEY_COUNT);
        let keys = [format!("k/{first}"), format!("k/{}", (first + 1) % KEY_COUNT)];
        let [one, other] = [&keys[0], &keys[1]].map(|key| seen.of(key));
        let put = |key: &String, held: Option<&(String, i64)>| match held {
            Some((value, _)) => Step::Put { key: key.clone(), value: value.clone(), lease: 0 },
            None => Step::Delete(Keys::One(key.clone())),
        };
        let revision = |held: Option<&(String, i64)>| held.map_or(0, |(_, revision)| *revision);
        let condition = |key: &String, held| Condition {
            key: key.clone(),
            compare: Compare::ModRevision(revision(held)),
        };
        Txn {
            conditions: vec![condition(&keys[0], one), condition(&keys[1], other)],
            then: vec![put(&keys[0], other), put(&keys[1], one)],
            otherwise: keys.into_iter().map(|key| Step::Get(Keys::One(key))).collect(),
        }
    }

    /// Deletes a whole range and says how often that was done, at one moment.
    fn replace_all(&mut self) -> Txn {
        let (key, value) = ("sweeps".to_owned(), self.value());
        let gone = Step::Delete(Keys::Prefix("k/".into()));
        Txn { then: vec![gone, Step::Put { key, value, lease: 0 }], ..Txn::default() }
    }

    /// Deletes some keys in a row if one of them is as old as what was seen, and not leased.
    fn trim(&mut self, seen: &Seen) -> Txn {
        let first = self.random.within(0..KEY_COUNT);
        let (from, to) = (format!("k/{first}"), format!("k/{}", first + 1 + self.random.within(0..3)));
        let condition = |compare| Condition { key: from.clone(), compare };
        Txn {
            conditions: vec![
                condition(Compare::Below(Number::ModRevision, seen.revision + 1)),
                condition(Compare::Above(Number::Version, 0)),
                condition(Compare::Lease(0)),
            ],
            then: vec![Step::Delete(Keys::Range(from.clone(), to))],
            otherwise: vec![Step::Get(Keys::One(from))],
        }
    }

    /// One key or many, some revisions ago.
    fn read_past(&mut self, key: &str, seen: &Seen) -> Request {
        let back = i64::try_from(self.random.within(0..PAST)).expect("a small number");
        let keys = if self.random.percent(50) { Keys::One(key.into()) } else { Keys::Prefix("k/".into()) };
        Request::Past { keys, revision: (seen.revision - back).max(1) }
    }

    /// Puts a key that is not there, else reads it.
    fn create(&mut self, key: &str) -> Txn {
        let value = self.value();
        Txn {
            conditions: vec![Condition { key: key.into(), compare: Compare::CreateRevision(0) }],
            then: vec![Step::Put { key: key.into(), value, lease: 0 }],
            otherwise: vec![Step::Get(Keys::One(key.into()))],
        }
    }
}

const fn is_done(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Acknowledged { .. })
}

/// What a client knows: of single keys value and revision, and the last revision.
#[derive(Default)]
struct Seen {
    keys: std::collections::BTreeMap<String, (String, i64)>,
    revision: i64,
}

impl Seen {
    fn of(&self, key: &str) -> Option<&(String, i64)> {
        self.keys.get(key)
    }

    fn learn(&mut self, request: &Request, outcome: &Outcome) {
        let Outcome::Acknowledged { answer: Answer::Txn { revision, succeeded, steps }, .. } = outcome else {
            return;
        };
        let Request::Txn(txn) = request else { return };
        self.revision = self.revision.max(*revision);
        let asked = if *succeeded { &txn.then } else { &txn.otherwise };
        for (step, answer) in asked.iter().zip(steps) {
            match (step, answer) {
                (Step::Put { key, value, .. }, _) => {
                    drop(self.keys.insert(key.clone(), (value.clone(), *revision)));
                }
                (Step::Get(Keys::One(key)), StepAnswer::Got(found)) => {
                    self.keys.remove(key);
                    let found = found
                        .iter()
                        .map(|(key, held)| (key.clone(), (held.value.clone(), held.mod_revision)));
                    self.keys.extend(found);
                }
                _ => {}
            }
        }
    }
}
