//! How much the store takes, and how much it may take.
//!
//! Measured is the content of the state: keys and values with all history that is not compacted, and what the last
//! checkpoint does not hold yet. Not the file: the engine uses freed pages again, so what compaction frees can be
//! written anew without more ado. Kept in a few numbers so that a write need not ask anybody.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use duet_mvcc::{AlarmKind, Command, Store};
use duet_storage::StateSizes;

/// The quota when none is chosen: etcd's, 2 GiB.
pub const DEFAULT_QUOTA_BYTES: u64 = 2 << 30;

/// Above this quota the appliance says a word at its start, as etcd does: all keys are in memory, and a full copy takes long.
pub const LARGE_QUOTA_BYTES: u64 = 8 << 30;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Space {
    /// `None`: as much as there is.
    quota: Option<u64>,
    /// Content of the state store.
    stored: AtomicU64,
    /// Content that goes there with the next checkpoint.
    pending: AtomicU64,
    /// Length of the state store's file.
    file: AtomicU64,
    /// An alarm says that the store is full.
    full: AtomicBool,
    /// An alarm says that the copies differ.
    corrupt: AtomicBool,
    /// The alarm is being raised.
    raising: AtomicBool,
}

impl Space {
    pub(crate) fn new(quota: Option<u64>) -> Space {
        Space { quota, ..Space::default() }
    }

    /// Takes over what the store has in memory only. To be called under the store's lock.
    pub(crate) fn note_pending(&self, store: &Store) {
        self.pending.store(store.statistics().pending_row_bytes as u64, Ordering::Relaxed);
    }

    /// Takes over which alarms there are. To be called under the lock under which they changed.
    pub(crate) fn note_alarms(&self, store: &Store) {
        let is_raised = |kind| store.alarms().any(|alarm| alarm.kind == kind);
        self.full.store(is_raised(AlarmKind::NoSpace), Ordering::SeqCst);
        self.corrupt.store(is_raised(AlarmKind::Corrupt), Ordering::SeqCst);
    }

    /// Takes over everything, after a checkpoint or a copy. To be called under the store's lock.
    pub(crate) fn note_all(&self, store: &Store, sizes: StateSizes) {
        self.stored.store(sizes.content, Ordering::Relaxed);
        self.file.store(sizes.file, Ordering::Relaxed);
        self.note_pending(store);
        self.note_alarms(store);
    }

    /// Most bytes that the content may have; `None`: as many as there are.
    pub(crate) fn quota(&self) -> Option<u64> {
        self.quota
    }

    /// Content of the state, in bytes.
    pub(crate) fn used(&self) -> u64 {
        self.stored.load(Ordering::Relaxed) + self.pending.load(Ordering::Relaxed)
    }

    /// What the state takes on disk, in bytes; what is not there yet is counted already.
    pub(crate) fn on_disk(&self) -> u64 {
        self.file.load(Ordering::Relaxed).max(self.used())
    }

    /// Whether there is no room for a command.
    pub(crate) fn has_no_room_for(&self, command: &Command) -> bool {
        let bytes = command.quota_bytes();
        bytes > 0 && (self.is_full() || self.quota.is_some_and(|quota| self.used() + bytes > quota))
    }

    /// Whether an alarm says that the store is full.
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::SeqCst)
    }

    /// Whether an alarm says that the copies differ.
    pub(crate) fn is_corrupt(&self) -> bool {
        self.corrupt.load(Ordering::SeqCst)
    }

    /// For whoever raises the alarm; `None` while somebody else does.
    pub(crate) fn raising(&self) -> Option<Raising<'_>> {
        (!self.raising.swap(true, Ordering::SeqCst)).then_some(Raising(self))
    }
}

/// Ends however the raising ends.
pub(crate) struct Raising<'a>(&'a Space);

impl Drop for Raising<'_> {
    fn drop(&mut self) {
        self.0.raising.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use duet_mvcc::{Alarm, EmptySource, PutRequest};

    use super::*;

    fn put(value: usize) -> Command {
        let (key, value) = (Bytes::from_static(b"k"), Bytes::from(vec![0; value]));
        Command::Put(PutRequest { key, value, ..PutRequest::default() })
    }

    #[test]
    fn the_quota_counts_what_is_stored_and_what_will_be() {
        let mut store = Store::new(Arc::new(EmptySource));
        let space = Space::new(Some(2_000));
        assert!(!space.has_no_room_for(&put(1_000)));
        store.apply(&put(500));
        space.note_all(&store, StateSizes { content: 900, file: 4_096 });
        assert!((1_400..1_500).contains(&space.used()), "{}", space.used());
        assert_eq!(space.on_disk(), 4_096);
        assert!(space.has_no_room_for(&put(500)) && !space.has_no_room_for(&put(200)));
        assert!(!space.has_no_room_for(&Command::Compact { revision: 2 }));
        assert!(!Space::new(None).has_no_room_for(&put(1 << 20)), "off");
    }

    #[test]
    fn an_alarm_leaves_no_room_whatever_the_quota_says() {
        let mut store = Store::new(Arc::new(EmptySource));
        let space = Space::default();
        let alarm = Alarm { kind: AlarmKind::NoSpace, member: 1 };
        store.apply(&Command::RaiseAlarm(alarm));
        space.note_alarms(&store);
        assert!(space.has_no_room_for(&put(0)) && !space.is_corrupt());
        store.apply(&Command::ClearAlarm(alarm));
        space.note_alarms(&store);
        assert!(!space.has_no_room_for(&put(0)));
    }

    #[test]
    fn one_raises_the_alarm_at_a_time() {
        let space = Space::default();
        let raising = space.raising();
        assert!(raising.is_some() && space.raising().is_none());
        drop(raising);
        assert!(space.raising().is_some());
    }
}
