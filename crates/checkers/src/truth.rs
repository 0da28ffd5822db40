//! The one true history of the data, made of its changes: what each key held at each revision. Making it checks that
//! revisions are dense and that every number in a key's content follows from the changes before.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

use crate::history::{Change, ChangeKind};
use crate::txn::{Keys, State};
use crate::violation::Violation;

/// Revision of a new store.
const FIRST_REVISION: i64 = 1;

/// What a key holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct KeyValue {
    /// The value.
    pub value: String,
    /// Revision at which the key came to be.
    pub create_revision: i64,
    /// Revision at which it was written last.
    pub mod_revision: i64,
    /// How often it was written since it came to be.
    pub version: i64,
    /// The lease it lives by; zero: none.
    pub lease: i64,
}

impl KeyValue {
    /// What a key that held `before` holds after a put at `revision`.
    #[must_use]
    pub fn after(before: Option<&Self>, value: &str, lease: i64, revision: i64) -> Self {
        Self {
            value: value.to_owned(),
            create_revision: before.map_or(revision, |before| before.create_revision),
            mod_revision: revision,
            version: before.map_or(1, |before| before.version + 1),
            lease,
        }
    }
}

impl fmt::Display for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} (written at {}", self.value, self.mod_revision)?;
        if self.create_revision != self.mod_revision {
            write!(f, ", created at {}, version {}", self.create_revision, self.version)?;
        }
        if self.lease != 0 {
            write!(f, ", lease {}", self.lease)?;
        }
        f.write_str(")")
    }
}

/// The history of the data.
#[derive(Clone, Debug)]
pub struct Truth {
    /// What each key held from which revision on; `None`: nothing.
    keys: BTreeMap<String, Vec<(i64, Option<KeyValue>)>>,
    /// The changes of each revision, in order, from the one after [`FIRST_REVISION`] on.
    revisions: Vec<Vec<Change>>,
}

impl Truth {
    /// The history that these changes make, in their order.
    ///
    /// # Errors
    ///
    /// A revision is missing or out of order, or the content of a key contradicts the changes before it.
    pub fn of(changes: &[Change]) -> Result<Self, Violation> {
        let mut truth = Self { keys: BTreeMap::new(), revisions: Vec::new() };
        for change in changes {
            truth.add(change)?;
        }
        Ok(truth)
    }

    fn add(&mut self, change: &Change) -> Result<(), Violation> {
        let last = self.revision();
        let revision = change.revision;
        if revision != last + 1 && (revision != last || last == FIRST_REVISION) {
            return Err(Violation::new("dense revisions", format!("{change} comes after revision {last}")));
        }
        let before = self.at(&change.key, revision);
        if self.changes_at(revision).iter().any(|other| other.key == change.key) {
            return Err(Violation::new(
                "one change a revision",
                format!("{change} is its second change there"),
            ));
        }
        let now = match &change.kind {
            ChangeKind::Put(now) => {
                let expected = KeyValue::after(before, &now.value, now.lease, revision);
                if *now != expected {
                    let sentence = format!("{change} should be {expected} by the changes before");
                    return Err(Violation::new("content follows from the changes", sentence));
                }
                Some(now.clone())
            }
            ChangeKind::Delete if before.is_none() => {
                let sentence = format!("{change} was not there");
                return Err(Violation::new("content follows from the changes", sentence));
            }
            ChangeKind::Delete => None,
        };
        self.keys.entry(change.key.clone()).or_default().push((revision, now));
        if revision == last {
            if let Some(same) = self.revisions.last_mut() {
                same.push(change.clone());
            }
        } else {
            self.revisions.push(vec![change.clone()]);
        }
        Ok(())
    }

    /// The last revision.
    pub fn revision(&self) -> i64 {
        FIRST_REVISION + i64::try_from(self.revisions.len()).unwrap_or(i64::MAX - FIRST_REVISION)
    }

    /// What a key held at a revision.
    pub fn at(&self, key: &str, revision: i64) -> Option<&KeyValue> {
        let versions = self.keys.get(key)?;
        let later = versions.partition_point(|(from, _)| *from <= revision);
        versions.get(later.checked_sub(1)?)?.1.as_ref()
    }

    /// The changes of one revision, in order.
    pub fn changes_at(&self, revision: i64) -> &[Change] {
        let index = usize::try_from(revision - FIRST_REVISION - 1).ok();
        index.and_then(|index| self.revisions.get(index)).map_or(&[], Vec::as_slice)
    }

    /// Every revision that changed something, with its changes.
    pub fn revisions(&self) -> impl Iterator<Item = (i64, &[Change])> {
        (FIRST_REVISION + 1..).zip(self.revisions.iter().map(Vec::as_slice))
    }

    /// The keys that live by a lease at a revision.
    pub(crate) fn attached(&self, lease: i64, revision: i64) -> Vec<&str> {
        let lives = |key: &str| self.at(key, revision).is_some_and(|held| held.lease == lease);
        self.keys.keys().map(String::as_str).filter(|key| lives(key)).collect()
    }

    /// All keys of one moment.
    pub(crate) const fn moment(&self, revision: i64) -> Moment<'_> {
        Moment { truth: self, revision }
    }
}

/// The state at a revision.
pub(crate) struct Moment<'a> {
    truth: &'a Truth,
    revision: i64,
}

impl State for Moment<'_> {
    fn get(&self, key: &str) -> Option<KeyValue> {
        self.truth.at(key, self.revision).cloned()
    }

    fn several(&self, keys: &Keys) -> Vec<(String, KeyValue)> {
        let from = (Bound::Included(keys.start()), Bound::Unbounded);
        let names = self.truth.keys.range::<str, _>(from).map(|(key, _)| key);
        names
            .take_while(|key| keys.has(key))
            .filter_map(|key| Some((key.clone(), self.truth.at(key, self.revision)?.clone())))
            .collect()
    }
}
