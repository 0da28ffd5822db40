//! Transactions: what they are and what they must do to a given state.

use std::collections::BTreeMap;
use std::fmt;

use crate::KeyValue;

/// Which keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Keys {
    /// One.
    One(String),
    /// All that begin with this; the empty prefix is all there are.
    Prefix(String),
    /// From the first on, up to the second and without it.
    Range(String, String),
}

impl Keys {
    /// Whether `key` is one of them.
    pub fn has(&self, key: &str) -> bool {
        match self {
            Self::One(one) => one == key,
            Self::Prefix(prefix) => key.starts_with(prefix.as_str()),
            Self::Range(from, to) => (from.as_str()..to.as_str()).contains(&key),
        }
    }

    /// The name that stands for them: the first that may be one of them.
    pub(crate) fn start(&self) -> &str {
        let (Self::One(start) | Self::Prefix(start) | Self::Range(start, _)) = self;
        start
    }
}

/// All conditions hold: the steps of `then`, else those of `otherwise`; in either case at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Txn {
    /// None: they hold.
    pub conditions: Vec<Condition>,
    /// In this order.
    pub then: Vec<Step>,
    /// In this order.
    pub otherwise: Vec<Step>,
}

/// Something about a key that must be so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Condition {
    /// The key; one that is not there has revisions and version zero, and no value.
    pub key: String,
    /// What must be so.
    pub compare: Compare,
}

/// What of a key is compared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Compare {
    /// It has this value.
    Value(String),
    /// It was written so often since it was created.
    Version(i64),
    /// It was created at this revision; zero: it is not there.
    CreateRevision(i64),
    /// It was written at this revision.
    ModRevision(i64),
    /// It lives by this lease; zero: by none, or it is not there.
    Lease(i64),
    /// This of it is above that.
    Above(Number, i64),
    /// This of it is below that.
    Below(Number, i64),
}

/// A number that belongs to a key; zero where the key is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Number {
    /// How often it was written since it was created.
    Version,
    /// The revision at which it was created.
    CreateRevision,
    /// The revision at which it was written.
    ModRevision,
    /// The lease it lives by.
    Lease,
}

impl Number {
    pub(crate) fn of(self, found: Option<&KeyValue>) -> i64 {
        found.map_or(0, |found| match self {
            Self::Version => found.version,
            Self::CreateRevision => found.create_revision,
            Self::ModRevision => found.mod_revision,
            Self::Lease => found.lease,
        })
    }
}

/// One step of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Reads.
    Get(Keys),
    /// Sets a key.
    Put {
        /// The key.
        key: String,
        /// What it holds from now on.
        value: String,
        /// The lease it lives by; zero: none.
        lease: i64,
    },
    /// Deletes.
    Delete(Keys),
}

/// What a step answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StepAnswer {
    /// What was found, in the order of the keys.
    Got(Vec<(String, KeyValue)>),
    /// It is set.
    Put,
    /// So many were deleted.
    Deleted(i64),
}

impl StepAnswer {
    pub(crate) const fn has_written(&self) -> bool {
        match self {
            Self::Got(_) => false,
            Self::Put => true,
            Self::Deleted(count) => *count > 0,
        }
    }
}

impl Txn {
    /// A put.
    pub fn put(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self::of(Step::Put { key: key.into(), value: value.into(), lease: 0 })
    }

    /// A read of one key.
    pub fn get(key: impl Into<String>) -> Self {
        Self::of(Step::Get(Keys::One(key.into())))
    }

    /// A delete of one key.
    pub fn delete(key: impl Into<String>) -> Self {
        Self::of(Step::Delete(Keys::One(key.into())))
    }

    /// A single step without conditions.
    pub fn of(step: Step) -> Self {
        Self { then: vec![step], ..Self::default() }
    }

    /// Everything it may ever do.
    pub(crate) fn steps(&self) -> impl Iterator<Item = &Step> {
        self.then.iter().chain(&self.otherwise)
    }
}

/// The keys of one moment, as far as a transaction looks at them.
pub(crate) trait State {
    /// What the key holds.
    fn get(&self, key: &str) -> Option<KeyValue>;
    /// Each of several keys that is there, in order, with what it holds.
    fn several(&self, keys: &Keys) -> Vec<(String, KeyValue)>;
}

/// What a transaction does to a state and answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Done {
    pub(crate) succeeded: bool,
    pub(crate) answers: Vec<StepAnswer>,
    /// Each key that is changed, in the order of the changes; `None`: deleted.
    pub(crate) effects: Vec<(String, Option<KeyValue>)>,
}

/// Carries out `txn` on `state`; its changes get `revision`.
pub(crate) fn carry_out(txn: &Txn, state: &impl State, revision: i64) -> Done {
    let succeeded = txn.conditions.iter().all(|condition| holds(condition, state));
    let mut view = View { state, changed: BTreeMap::new(), effects: Vec::new() };
    let steps = if succeeded { &txn.then } else { &txn.otherwise };
    let answers = steps.iter().map(|step| view.take(step, revision)).collect();
    Done { succeeded, answers, effects: view.effects }
}

fn holds(condition: &Condition, state: &impl State) -> bool {
    let found = state.get(&condition.key);
    let number = |number: Number| number.of(found.as_ref());
    match &condition.compare {
        Compare::Value(value) => found.as_ref().is_some_and(|found| found.value == *value),
        Compare::Version(version) => number(Number::Version) == *version,
        Compare::CreateRevision(revision) => number(Number::CreateRevision) == *revision,
        Compare::ModRevision(revision) => number(Number::ModRevision) == *revision,
        Compare::Lease(lease) => number(Number::Lease) == *lease,
        Compare::Above(which, than) => number(*which) > *than,
        Compare::Below(which, than) => number(*which) < *than,
    }
}

/// The state with the changes made so far.
struct View<'a, S> {
    state: &'a S,
    changed: BTreeMap<String, Option<KeyValue>>,
    effects: Vec<(String, Option<KeyValue>)>,
}

impl<S: State> View<'_, S> {
    fn find(&self, keys: &Keys) -> Vec<(String, KeyValue)> {
        let before = match keys {
            Keys::One(key) => self.state.get(key).map(|found| (key.clone(), found)).into_iter().collect(),
            Keys::Prefix(_) | Keys::Range(..) => self.state.several(keys),
        };
        let mut found: BTreeMap<String, KeyValue> = before.into_iter().collect();
        for (key, now) in self.changed.iter().filter(|(key, _)| keys.has(key)) {
            match now {
                Some(now) => drop(found.insert(key.clone(), now.clone())),
                None => drop(found.remove(key)),
            }
        }
        found.into_iter().collect()
    }

    fn set(&mut self, key: &str, now: Option<KeyValue>) {
        self.changed.insert(key.to_owned(), now.clone());
        self.effects.push((key.to_owned(), now));
    }

    fn take(&mut self, step: &Step, revision: i64) -> StepAnswer {
        match step {
            Step::Get(keys) => StepAnswer::Got(self.find(keys)),
            Step::Put { key, value, lease } => {
                let before = self.find(&Keys::One(key.clone())).pop().map(|(_, before)| before);
                self.set(key, Some(KeyValue::after(before.as_ref(), value, *lease, revision)));
                StepAnswer::Put
            }
            Step::Delete(keys) => {
                let found = self.find(keys);
                for (key, _) in &found {
                    self.set(key, None);
                }
                StepAnswer::Deleted(i64::try_from(found.len()).unwrap_or(i64::MAX))
            }
        }
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(key) => f.write_str(key),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
            Self::Range(from, to) => write!(f, "{from}..{to}"),
        }
    }
}

impl fmt::Display for Txn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = |f: &mut fmt::Formatter<'_>, steps: &[Step]| {
            steps.iter().enumerate().try_for_each(|(index, step)| {
                let comma = if index == 0 { "" } else { ", " };
                write!(f, "{comma}{step}")
            })
        };
        if self.conditions.is_empty() {
            return all(f, &self.then);
        }
        f.write_str("if ")?;
        for (index, condition) in self.conditions.iter().enumerate() {
            let and = if index == 0 { "" } else { " and " };
            write!(f, "{and}{condition}")?;
        }
        f.write_str(" then {")?;
        all(f, &self.then)?;
        f.write_str("} else {")?;
        all(f, &self.otherwise)?;
        f.write_str("}")
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match &self.compare {
            Compare::Value(value) => write!(f, "{key} holds {value:?}"),
            Compare::Version(version) => write!(f, "{key} has version {version}"),
            Compare::CreateRevision(revision) => write!(f, "{key} was created at {revision}"),
            Compare::ModRevision(revision) => write!(f, "{key} was written at {revision}"),
            Compare::Lease(lease) => write!(f, "{key} lives by lease {lease}"),
            Compare::Above(number, than) => write!(f, "the {number} of {key} is above {than}"),
            Compare::Below(number, than) => write!(f, "the {number} of {key} is below {than}"),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "version",
            Self::CreateRevision => "create revision",
            Self::ModRevision => "mod revision",
            Self::Lease => "lease",
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get(keys) => write!(f, "get {keys}"),
            Self::Put { key, value, lease: 0 } => write!(f, "put {key} = {value:?}"),
            Self::Put { key, value, lease } => write!(f, "put {key} = {value:?} with lease {lease}"),
            Self::Delete(keys) => write!(f, "delete {keys}"),
        }
    }
}

impl fmt::Display for StepAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Got(found) if found.is_empty() => f.write_str("found nothing"),
            Self::Got(found) => {
                f.write_str("found ")?;
                found.iter().enumerate().try_for_each(|(index, (key, value))| {
                    let and = if index == 0 { "" } else { " and " };
                    write!(f, "{and}{key} = {value}")
                })
            }
            Self::Put => f.write_str("put"),
            Self::Deleted(count) => write!(f, "deleted {count}"),
        }
    }
}
