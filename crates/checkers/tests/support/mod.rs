//! A store that does one thing after the other, and writes down what clients saw of it: every history it writes is good.
//! A test then changes what was seen.

#![allow(dead_code, reason = "each test target uses a part")]

use std::collections::BTreeMap;

use duet_checkers::{
    Answer, Change, ChangeKind, Compare, History, KeyValue, Keys, Number, Operation, Outcome, Report,
    Request, Step, StepAnswer, Time, Txn, Violation, Watch, WatchEvent,
};
use duet_protocol::ApplianceId::{A, B};
use duet_protocol::{ApplianceId, Digest, Epoch, Lsn};

pub const SECOND: Time = 1_000_000_000;

/// When an operation was asked and answered, and by whom.
#[derive(Clone, Copy)]
pub struct When {
    pub client: u32,
    pub from: Time,
    pub to: Time,
}

/// Of client 0.
pub const fn during(from: Time, to: Time) -> When {
    When { client: 0, from, to }
}

/// The store and what was seen of it.
#[derive(Clone, Default)]
pub struct Story {
    pub history: History,
    data: BTreeMap<String, KeyValue>,
    /// State after each revision, from revision 1 on.
    states: Vec<BTreeMap<String, KeyValue>>,
    lsn: u64,
}

impl Story {
    pub fn new() -> Self {
        Self { states: vec![BTreeMap::new()], ..Self::default() }
    }

    pub fn revision(&self) -> i64 {
        i64::try_from(self.states.len()).unwrap()
    }

    pub fn state_at(&self, revision: i64) -> &BTreeMap<String, KeyValue> {
        &self.states[usize::try_from(revision - 1).unwrap()]
    }

    /// Asked, done and answered; the operation's index.
    pub fn ask(&mut self, when: When, request: Request) -> usize {
        let answer = self.carry_out(&request);
        self.record(when, request, Outcome::Acknowledged { at: when.to, answer })
    }

    /// Asked and done, and nobody was told.
    pub fn ask_unheard(&mut self, when: When, request: Request) -> usize {
        self.carry_out(&request);
        self.record(when, request, Outcome::Unknown)
    }

    /// Asked and never done; the client was told that, or nothing.
    pub fn ask_in_vain(&mut self, when: When, request: Request, told: bool) -> usize {
        let outcome = if told { Outcome::Failed { at: when.to } } else { Outcome::Unknown };
        self.record(when, request, outcome)
    }

    pub fn put(&mut self, when: When, key: &str, value: &str) -> usize {
        self.ask(when, Request::Txn(Txn::put(key, value)))
    }

    pub fn delete(&mut self, when: When, key: &str) -> usize {
        self.ask(when, Request::Txn(Txn::delete(key)))
    }

    pub fn get(&mut self, when: When, key: &str) -> usize {
        self.ask(when, Request::Txn(Txn::get(key)))
    }

    /// A read of an old state.
    pub fn get_old(&mut self, when: When, key: &str, revision: i64) -> usize {
        let found = self.state_at(revision).get(key).map(|held| (key.to_owned(), held.clone()));
        let steps = vec![StepAnswer::Got(found.into_iter().collect())];
        let answer = Answer::Txn { revision, succeeded: true, steps };
        let request = Request::Serializable(Txn::get(key));
        self.record(when, request, Outcome::Acknowledged { at: when.to, answer })
    }

    fn record(&mut self, when: When, request: Request, outcome: Outcome) -> usize {
        let appliance = if when.client.is_multiple_of(2) { A } else { B };
        let operation = Operation { client: when.client, appliance, request, invoked: when.from, outcome };
        self.history.operations.push(operation);
        self.history.operations.len() - 1
    }

    fn carry_out(&mut self, request: &Request) -> Answer {
        match request {
            Request::Txn(txn) => self.transact(txn),
            Request::Serializable(_) => unreachable!("see get_old"),
            Request::Past { keys, revision } => {
                let held = self.state_at(*revision).iter().filter(|(key, _)| keys.has(key));
                let found = held.map(|(key, held)| (key.clone(), held.clone())).collect();
                let steps = vec![StepAnswer::Got(found)];
                Answer::Txn { revision: self.revision(), succeeded: true, steps }
            }
            Request::Compact { .. } => Answer::Compacted { revision: self.revision() },
            Request::Grant { ttl, .. } => Answer::Lease { revision: self.revision(), ttl: Some(*ttl) },
            Request::KeepAlive { .. } => Answer::Lease { revision: self.revision(), ttl: Some(1) },
            Request::Revoke { lease } => {
                self.end_lease(*lease);
                Answer::Lease { revision: self.revision(), ttl: None }
            }
        }
    }

    /// The lease ends and takes its keys along.
    pub fn end_lease(&mut self, lease: i64) {
        let held = |(key, held): (&String, &KeyValue)| (held.lease == lease).then(|| key.clone());
        let keys: Vec<String> = self.data.iter().filter_map(held).collect();
        self.change(keys.into_iter().map(|key| (key, None)).collect());
    }

    fn transact(&mut self, txn: &Txn) -> Answer {
        let succeeded = txn.conditions.iter().all(|condition| {
            let held = self.data.get(&condition.key);
            match &condition.compare {
                Compare::Value(value) => held.is_some_and(|held| held.value == *value),
                Compare::Version(number) => held.map_or(0, |held| held.version) == *number,
                Compare::CreateRevision(number) => held.map_or(0, |held| held.create_revision) == *number,
                Compare::ModRevision(number) => held.map_or(0, |held| held.mod_revision) == *number,
                Compare::Lease(number) => held.map_or(0, |held| held.lease) == *number,
                Compare::Above(of, number) => number_of(*of, held) > *number,
                Compare::Below(of, number) => number_of(*of, held) < *number,
            }
        });
        let next = self.revision() + 1;
        let mut changes = Vec::new();
        let mut now = self.data.clone();
        let mut steps = Vec::new();
        for step in if succeeded { &txn.then } else { &txn.otherwise } {
            let of = |keys: &Keys, now: &BTreeMap<String, KeyValue>| -> Vec<(String, KeyValue)> {
                now.iter()
                    .filter(|(key, _)| keys.has(key))
                    .map(|(key, held)| (key.clone(), held.clone()))
                    .collect()
            };
            match step {
                Step::Get(keys) => steps.push(StepAnswer::Got(of(keys, &now))),
                Step::Put { key, value, lease } => {
                    let mut held = KeyValue {
                        value: value.clone(),
                        create_revision: next,
                        mod_revision: next,
                        version: 1,
                        lease: *lease,
                    };
                    if let Some(before) = now.get(key) {
                        held.create_revision = before.create_revision;
                        held.version = before.version + 1;
                    }
                    now.insert(key.clone(), held.clone());
                    changes.push((key.clone(), Some(held)));
                    steps.push(StepAnswer::Put);
                }
                Step::Delete(keys) => {
                    let found = of(keys, &now);
                    for (key, _) in &found {
                        now.remove(key);
                        changes.push((key.clone(), None));
                    }
                    steps.push(StepAnswer::Deleted(i64::try_from(found.len()).unwrap()));
                }
            }
        }
        self.change(changes);
        Answer::Txn { revision: self.revision(), succeeded, steps }
    }

    fn change(&mut self, changes: Vec<(String, Option<KeyValue>)>) {
        self.lsn += 1;
        if changes.is_empty() {
            return;
        }
        let revision = self.revision() + 1;
        for (key, now) in changes {
            match &now {
                Some(now) => drop(self.data.insert(key.clone(), now.clone())),
                None => drop(self.data.remove(&key)),
            }
            let kind = now.map_or(ChangeKind::Delete, ChangeKind::Put);
            self.history.changes.push(Change { revision, key, kind });
        }
        self.states.push(self.data.clone());
    }

    /// An appliance tells its state.
    pub fn report(&mut self, appliance: ApplianceId, at: Time) {
        let digest = Digest([u8::try_from(self.lsn % 251).unwrap(); 16]);
        let hash = duet_checkers::DataHash {
            revision: self.revision(),
            compacted: 0,
            hash: u32::try_from(self.revision()).unwrap(),
        };
        self.history.reports.push(Report {
            appliance,
            at,
            last: Some((Lsn(self.lsn), Epoch(1), digest)),
            applied: Some((Lsn(self.lsn), self.revision())),
            hash: Some(hash),
        });
    }

    /// Somebody watched `keys` from a revision on, and was shown everything up to now, at `at`.
    pub fn watch(&mut self, keys: Keys, from: i64, at: Time) -> usize {
        let mut events = Vec::new();
        for change in &self.history.changes {
            if change.revision >= from && keys.has(&change.key) {
                let message = u64::try_from(change.revision).unwrap();
                let previous = self.state_at(change.revision - 1).get(&change.key).cloned();
                events.push(WatchEvent { at, message, change: change.clone(), previous });
            }
        }
        let complete_to = self.revision();
        let watch = Watch { client: 9, appliance: B, keys, from, with_previous: true, events, complete_to };
        self.history.watches.push(watch);
        self.history.watches.len() - 1
    }

    pub fn is_good(&self) {
        let found = duet_checkers::check(&self.history);
        assert!(found.is_empty(), "a good history is refused: {found:?}");
    }

    /// What is wrong, which must be one thing, of this promise and with these words.
    pub fn is_bad(&self, promise: &str, words: &[&str]) {
        let found = duet_checkers::check(&self.history);
        is_refused(&found, promise, words);
    }
}

pub fn is_refused(found: &[Violation], promise: &str, words: &[&str]) {
    let Some(violation) = found.iter().find(|violation| violation.promise == promise) else {
        panic!("\"{promise}\" is not among {found:?}");
    };
    for word in words {
        assert!(violation.sentence.contains(word), "\"{word}\" is not in: {violation}");
    }
}

fn number_of(number: Number, held: Option<&KeyValue>) -> i64 {
    let Some(held) = held else { return 0 };
    match number {
        Number::Version => held.version,
        Number::CreateRevision => held.create_revision,
        Number::ModRevision => held.mod_revision,
        Number::Lease => held.lease,
    }
}
