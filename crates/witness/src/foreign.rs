//! The register in a store that is not Duet's: all reasoning about what its answers mean, once for all of them.
//!
//! A store can read one object and write it under a condition. What it says is used as follows:
//!
//! | answer | means |
//! |---|---|
//! | the write was done | [`WriteOutcome::Swapped`] |
//! | the condition does not hold | nothing yet: the object is read, and its [lineage](crate::lineage) tells whether this very write was done, or can never be |
//! | anything else, or silence | [`WriteOutcome::Unknown`] |
//!
//! A write stays conditional all the while, so one that comes late or twice changes nothing once another was done.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::lineage::{Descended, Fate, Lineage, descendant};
use crate::planted::Bug;
use crate::register::too_large;
use crate::{BoxFuture, ClusterName, ReadOutcome, Reason, Register, Version, WriteOutcome};

/// One object in a store that others made. Calls are bounded in time by who calls.
pub(crate) trait Store: Send + Sync {
    /// The object as it is now, never an older one; `None` only if the store itself says that there is none.
    fn get(&self) -> BoxFuture<'_, Result<Option<Object>, Reason>>;

    /// Writes the object if the condition holds.
    fn put<'a>(
        &'a self,
        condition: &'a Condition,
        version: &'a Version,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<Put, Reason>>;

    /// Why there was no answer within this time, and what to check.
    fn silence(&self, waited: Duration) -> Reason;

    /// Kind and address, for people.
    fn describe(&self) -> String;
}

/// An object as read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Object {
    /// What the store compares.
    pub tag: String,
    pub bytes: Bytes,
}

/// When a write is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Condition {
    /// There is no object.
    Absent,
    /// The object has this tag.
    Tag(String),
}

/// What a store says to a write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Put {
    /// Done and durable; the object has this tag now.
    Done { tag: String },
    /// The condition does not hold.
    Refused,
}

/// The record of one pair in a foreign store.
pub(crate) struct ForeignRegister<S> {
    store: S,
    cluster: ClusterName,
    deadline: Duration,
    /// The record as it was last read or written here: a write needs its tag and its lineage.
    known: Mutex<Option<Known>>,
}

#[derive(Clone)]
struct Known {
    version: Version,
    lineage: Lineage,
    tag: String,
}

impl<S: Store> ForeignRegister<S> {
    pub fn new(store: S, cluster: ClusterName, deadline: Duration) -> Self {
        Self { store, cluster, deadline, known: Mutex::new(None) }
    }

    /// The record as it is now.
    async fn look(&self) -> Result<Option<(Known, Descended)>, Reason> {
        let Some(object) = self.store.get().await? else { return Ok(None) };
        let record = Descended::decode(&self.cluster, &object.bytes)
            .map_err(|error| Reason::new(format!("the record in the {} {error}", self.store.describe())))?;
        let known =
            Known { version: record.version().clone(), lineage: record.lineage.clone(), tag: object.tag };
        self.remember(known.clone());
        Ok(Some((known, record)))
    }

    fn remember(&self, known: Known) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
    }

    fn known(&self, version: &Version) -> Option<Known> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        known.filter(|known| known.version == *version)
    }

    async fn write(&self, expected: Option<&Version>, bytes: Bytes) -> Result<WriteOutcome, Reason> {
        if let Some(reason) = too_large(bytes.len()) {
            return Err(reason);
        }
        let replaces = match expected {
            None => None,
            Some(expected) => match self.known(expected) {
                Some(known) => Some(known),
                // Nothing was sent when it turns out to be another: certainly not done.
                None => match self.look().await? {
                    Some((known, _)) if known.version == *expected => Some(known),
                    _ => return Ok(WriteOutcome::Mismatch),
                },
            },
        };
        let mine = Version::draw()?;
        let parent = replaces.as_ref().map(|known| (&known.version, &known.lineage));
        let record = descendant(&mine, parent, bytes);
        let condition = replaces.map_or(Condition::Absent, |known| Condition::Tag(known.tag));
        let object = Bytes::from(record.encode(&self.cluster));
        match self.store.put(&condition, &mine, object).await? {
            Put::Done { tag } => {
                self.remember(Known { version: mine.clone(), lineage: record.lineage, tag });
                Ok(WriteOutcome::Swapped(mine))
            }
            Put::Refused if Bug::RefusalBelieved.planted() => Ok(WriteOutcome::Mismatch),
            Put::Refused => self.settle(expected, mine).await,
        }
    }

    /// What became of a write that was refused: it may have been refused because it had been done before.
    async fn settle(&self, expected: Option<&Version>, mine: Version) -> Result<WriteOutcome, Reason> {
        let unclear = |what: &str| Reason::new(format!("the {} {what}", self.store.describe()));
        let fate = match (self.look().await?, expected) {
            // Removed by somebody: whatever was done is gone with it, and what is gone is never replaced.
            (None, Some(_)) => Fate::NotDone,
            (None, None) => return Err(unclear("refuses to create the record, and has none")),
            (Some((_, now)), None) => now.fate_of_create(&mine),
            (Some((_, now)), Some(expected)) => now.fate_of_replacement(expected, &mine),
        };
        match fate {
            Fate::Done => Ok(WriteOutcome::Swapped(mine)),
            Fate::NotDone => Ok(WriteOutcome::Mismatch),
            Fate::Open => Err(unclear("refuses to replace the record, which is still the one that was read")),
            Fate::Forgotten => Err(unclear("holds a record that was replaced many times meanwhile")),
        }
    }

    async fn within_deadline<T>(&self, work: impl Future<Output = Result<T, Reason>>) -> Result<T, Reason> {
        tokio::time::timeout(self.deadline, work)
            .await
            .unwrap_or_else(|_| Err(self.store.silence(self.deadline)))
    }
}

impl<S: Store> Register for ForeignRegister<S> {
    fn read(&self) -> BoxFuture<'_, ReadOutcome> {
        Box::pin(async {
            match self.within_deadline(self.look()).await {
                Ok(Some((_, record))) => {
                    ReadOutcome::Record { version: record.stored.version, bytes: record.stored.bytes }
                }
                Ok(None) => ReadOutcome::Absent,
                Err(reason) => ReadOutcome::Unknown(reason),
            }
        })
    }

    fn create(&self, bytes: Bytes) -> BoxFuture<'_, WriteOutcome> {
        Box::pin(async {
            self.within_deadline(self.write(None, bytes)).await.unwrap_or_else(WriteOutcome::Unknown)
        })
    }

    fn compare_and_set(&self, expected: &Version, bytes: Bytes) -> BoxFuture<'_, WriteOutcome> {
        let expected = expected.clone();
        Box::pin(async move {
            self.within_deadline(self.write(Some(&expected), bytes))
                .await
                .unwrap_or_else(WriteOutcome::Unknown)
        })
    }

    fn describe(&self) -> String {
        format!("{}, cluster {}", self.store.describe(), self.cluster)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// What stands between the writer and the store.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    enum Way {
        Straight,
        /// Every write is sent twice, and the second answer is the one that comes back.
        Twice,
        /// The same, and another appliance replaces the record in between.
        TwiceAndOvertaken,
        /// The same, and so many others replace it that the record has forgotten this one.
        TwiceAndForgotten,
        /// The store refuses every write.
        Refuses,
        /// The answer never comes.
        Silent,
    }

    struct InMemory {
        object: Arc<Mutex<Option<Object>>>,
        way: Way,
        tags: AtomicU64,
    }

    impl InMemory {
        fn register(object: &Arc<Mutex<Option<Object>>>, way: Way) -> ForeignRegister<Self> {
            let store = Self { object: Arc::clone(object), way, tags: AtomicU64::new(0) };
            ForeignRegister::new(store, "pair".parse().unwrap(), Duration::from_millis(200))
        }

        fn put_now(&self, condition: &Condition, bytes: Bytes) -> Put {
            let mut object = self.object.lock().unwrap();
            let holds = match condition {
                Condition::Absent => object.is_none(),
                Condition::Tag(tag) => object.as_ref().is_some_and(|object| object.tag == *tag),
            };
            if !holds || self.way == Way::Refuses {
                return Put::Refused;
            }
            // As S3 does: equal contents have equal tags. The number tells stores apart that do not.
            let tag = format!("{:08x}-{}", crc32c::crc32c(&bytes), self.tags.load(Ordering::Relaxed));
            *object = Some(Object { tag: tag.clone(), bytes });
            Put::Done { tag }
        }
    }

    impl Store for InMemory {
        fn get(&self) -> BoxFuture<'_, Result<Option<Object>, Reason>> {
            Box::pin(async { Ok(self.object.lock().unwrap().clone()) })
        }

        fn put<'a>(
            &'a self,
            condition: &'a Condition,
            _: &'a Version,
            bytes: Bytes,
        ) -> BoxFuture<'a, Result<Put, Reason>> {
            Box::pin(async move {
                let first = self.put_now(condition, bytes.clone());
                let others = match self.way {
                    Way::Straight | Way::Refuses => return Ok(first),
                    Way::Silent => std::future::pending().await,
                    Way::Twice => 0,
                    Way::TwiceAndOvertaken => 2,
                    Way::TwiceAndForgotten => 40,
                };
                let other = Self::register(&self.object, Way::Straight);
                for number in 0..others {
                    let ReadOutcome::Record { version, .. } = other.read().await else { panic!("a record") };
                    let bytes = Bytes::from(format!("other {number}"));
                    let done = other.compare_and_set(&version, bytes).await;
                    assert!(matches!(done, WriteOutcome::Swapped(_)), "{done:?}");
                }
                Ok(self.put_now(condition, bytes))
            })
        }

        fn silence(&self, waited: Duration) -> Reason {
            Reason::new(format!("no answer within {} ms", waited.as_millis()))
        }

        fn describe(&self) -> String {
            "store in memory".into()
        }
    }

    fn content(object: &Mutex<Option<Object>>) -> Descended {
        let object = object.lock().unwrap().clone().expect("an object");
        Descended::decode(&"pair".parse().unwrap(), &object.bytes).unwrap()
    }

    #[tokio::test]
    async fn a_write_that_was_sent_twice_is_done_and_never_a_mismatch() {
        for way in [Way::Twice, Way::TwiceAndOvertaken] {
            let object = Arc::default();
            let register = InMemory::register(&object, way);
            let created = register.create(Bytes::from_static(b"1")).await;
            let WriteOutcome::Swapped(first) = created else { panic!("{way:?}: {created:?}") };
            assert_eq!(content(&object).fate_of_create(&first), Fate::Done);
            let ReadOutcome::Record { version, .. } = register.read().await else { panic!("a record") };
            assert_eq!(version == first, way == Way::Twice);
            let swapped = register.compare_and_set(&version, Bytes::from_static(b"2")).await;
            let WriteOutcome::Swapped(second) = swapped else { panic!("{way:?}: {swapped:?}") };
            assert!(content(&object).fate_of_replacement(&version, &second) == Fate::Done);
        }
    }

    #[tokio::test]
    async fn what_the_record_has_forgotten_is_unknown() {
        let object = Arc::default();
        let straight = InMemory::register(&object, Way::Straight);
        let created = straight.create(Bytes::from_static(b"1")).await;
        let WriteOutcome::Swapped(version) = created else { panic!("{created:?}") };
        let register = InMemory::register(&object, Way::TwiceAndForgotten);
        let outcome = register.compare_and_set(&version, Bytes::from_static(b"2")).await;
        assert!(matches!(outcome, WriteOutcome::Unknown(_)), "{outcome:?}");
    }

    #[tokio::test]
    async fn a_refusal_that_contradicts_the_record_is_unknown() {
        let object = Arc::default();
        let refuses = InMemory::register(&object, Way::Refuses);
        let outcome = refuses.create(Bytes::new()).await;
        assert!(matches!(outcome, WriteOutcome::Unknown(_)), "{outcome:?}");
        let created = InMemory::register(&object, Way::Straight).create(Bytes::new()).await;
        let WriteOutcome::Swapped(version) = created else { panic!("{created:?}") };
        let outcome = refuses.compare_and_set(&version, Bytes::new()).await;
        assert!(matches!(outcome, WriteOutcome::Unknown(_)), "{outcome:?}");
        assert_eq!(refuses.create(Bytes::new()).await, WriteOutcome::Mismatch, "there is one, as it says");
    }

    #[tokio::test]
    async fn silence_is_unknown_within_the_deadline() {
        let object = Arc::default();
        let register = InMemory::register(&object, Way::Silent);
        let outcome = register.create(Bytes::new()).await;
        assert_eq!(outcome, WriteOutcome::Unknown(Reason::new("no answer within 200 ms")));
        assert!(matches!(register.read().await, ReadOutcome::Record { .. }), "it was done all the same");
    }
}
