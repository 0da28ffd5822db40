//! The state machine: committed entries are applied to the store, writers answered, events told, checkpoints written.
//!
//! Two threads: *apply* follows the core's `Apply`, *checkpoint* writes what has changed to the state store now and then. The
//! position that goes with the state is taken under the same lock as the state, so a checkpoint never claims another one.

mod load;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use duet_mvcc::{Applied, Command, Event, RestoreError, Store};
use duet_protocol::{Entry, Input, Lsn, Position};
use duet_serving::AppliedBatch;
use duet_storage::{
    Batch, DataDir, Log, LogReader, ReadError, ReadySnapshot, RecoverError, StateError, StateSnapshot,
    StateStore,
};
use parking_lot::{Condvar, Mutex, RwLock};

use crate::clock;
use crate::error::{Remedy, StartError};
use crate::failpoint;
use crate::fatal::Fate;
use crate::handle::{EventSinkCell, PermitCell};
use crate::inbox::Inbox;
use crate::metrics::Metrics;
use crate::progress::Progress;
use crate::space::Space;
use crate::tail::Tail;
use crate::threads;
use crate::waiters::Waiters;
use load::load;

/// Entries applied under one hold of the store's lock: readers wait for about a millisecond at most.
const APPLY_ENTRIES: usize = 256;

/// Bytes of commands applied under one hold of the store's lock, for the same reason.
const APPLY_BYTES: usize = 1 << 20;

/// How often a changed state is written to the state store. Bounds the replay after a crash.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);

/// Bytes of changes after which a checkpoint is due at once. Larger ones cost more processor time, as their pages are in no
/// cache any more and their memory is fresh each time; smaller ones too, as the upper pages are written again each time.
const CHECKPOINT_BYTES: usize = 16 << 20;

/// Bytes of changes above which nothing is applied until a checkpoint has caught up: bounds memory.
const PENDING_BYTES: usize = 256 << 20;

/// Keys that one step of a compaction visits while nothing else is to be done: readers wait for well below a millisecond.
const COMPACT_KEYS: usize = 500;

/// Pause between two steps of a compaction, to leave the store's lock to readers.
const COMPACT_PAUSE: Duration = Duration::from_millis(1);

/// Longest pause between two looks whether a compaction's removal is complete.
const TIDY_PAUSE: Duration = Duration::from_millis(50);

/// Why the state machine does not go on. All are fatal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateFailure {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Log(#[from] ReadError),
    #[error(transparent)]
    Recover(#[from] RecoverError),
    #[error("the state cannot be loaded: {0}")]
    Restore(#[from] RestoreError),
    #[error(
        "the entry at LSN {lsn} is committed and cannot be understood ({reason}): run the version that wrote it"
    )]
    Command { lsn: Lsn, reason: String },
    #[error("the entry at LSN {lsn} could not be applied: {reason}")]
    Apply { lsn: Lsn, reason: String },
    #[error("the core asked to install a copy that ends at {wanted}, the one received ends at {found}")]
    WrongCopy { wanted: Position, found: Position },
}

impl StateFailure {
    /// What a person can do about it at a start.
    pub(crate) const fn remedy(&self) -> Remedy {
        match self {
            Self::Restore(_) | Self::State(StateError::Damaged { .. }) => Remedy::CopyFromPeer,
            _ => Remedy::CorrectTheCause,
        }
    }
}

/// The store, and everything that changes it.
pub(crate) struct Machine {
    pub(crate) store: Arc<RwLock<Store>>,
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) event_sink: Arc<EventSinkCell>,
    /// The store's revision, for those who must not wait for its lock.
    pub(crate) revision: Arc<AtomicI64>,
    /// The same of whether its users are on.
    pub(crate) users_are_on: Arc<AtomicBool>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) progress: Arc<Progress>,
    space: Arc<Space>,
    permit: Arc<PermitCell>,
    inbox: Arc<Inbox>,
    tail: Arc<Tail>,
    log: LogReader,
    data: Arc<DataDir>,
    state: StateStore,
    /// Where the store stands. Locked before `store`, and for as long as that is changed.
    applied: Mutex<Position>,
    /// Held while the state store is written.
    writing: Mutex<()>,
    wanted: Mutex<Wanted>,
    apply_wakes: Condvar,
    checkpoint_wakes: Condvar,
    /// Told after every checkpoint, and at the end.
    checkpoint_done: Condvar,
}

/// What the two threads are to do.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools)] // four independent wishes
struct Wanted {
    apply_to: Lsn,
    compacting: bool,
    checkpoint_now: bool,
    checkpoint_running: bool,
    closed: bool,
}

/// What a machine is made of.
pub(crate) struct MachineParts {
    pub(crate) space: Arc<Space>,
    pub(crate) permit: Arc<PermitCell>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) tail: Arc<Tail>,
    pub(crate) log: LogReader,
    pub(crate) data: Arc<DataDir>,
    pub(crate) state: StateStore,
}

impl Machine {
    /// How many of the log's newest entries lie in `bytes` of it.
    pub(crate) fn entries_within(&self, bytes: u64) -> u64 {
        self.log.entries_within(bytes)
    }

    /// Loads the state.
    pub(crate) fn new(parts: MachineParts) -> Result<Self, StateFailure> {
        let MachineParts { space, permit, inbox, tail, log, data, state } = parts;
        let store = load(&state)?;
        space.note_all(&store, state.sizes()?);
        let applied = state.applied();
        let revision = Arc::new(AtomicI64::new(store.revision()));
        let users_are_on = Arc::new(AtomicBool::new(store.auth().is_enabled()));
        let progress = Arc::new(Progress::default());
        progress.reached(applied.lsn);
        Ok(Self {
            store: Arc::new(RwLock::new(store)),
            waiters: Arc::default(),
            event_sink: Arc::default(),
            revision,
            metrics: Arc::default(),
            users_are_on,
            progress,
            space,
            permit,
            inbox,
            tail,
            log,
            data,
            state,
            applied: Mutex::new(applied),
            writing: Mutex::default(),
            wanted: Mutex::new(Wanted { apply_to: applied.lsn, compacting: true, ..Wanted::default() }),
            apply_wakes: Condvar::new(),
            checkpoint_wakes: Condvar::new(),
            checkpoint_done: Condvar::new(),
        })
    }

    /// Starts the two threads.
    pub(crate) fn start(self: &Arc<Self>, fate: &Fate) -> Result<[JoinHandle<()>; 2], StartError> {
        let (apply, checkpoint) = (self.clone(), self.clone());
        Ok([
            fate.spawn("apply", move || apply.run_apply())?,
            fate.spawn("checkpoint", move || checkpoint.run_checkpoint())?,
        ])
    }

    /// Entries up to here are committed.
    pub(crate) fn apply_to(&self, upto: Lsn) {
        let mut wanted = self.wanted.lock();
        if upto > wanted.apply_to {
            wanted.apply_to = upto;
            drop(wanted);
            self.apply_wakes.notify_one();
        }
    }

    /// Ends the threads; what is committed is applied and a last checkpoint written before that.
    pub(crate) fn close(&self) {
        self.wanted.lock().closed = true;
        self.apply_wakes.notify_all();
        self.checkpoint_wakes.notify_all();
        self.checkpoint_done.notify_all();
    }

    // ---- the apply thread ----

    fn run_apply(&self) -> Result<(), StateFailure> {
        let mut done = self.applied.lock().lsn;
        let mut last = 0;
        loop {
            let mut wanted = self.wanted.lock();
            while wanted.apply_to <= done && !wanted.closed && !wanted.compacting {
                self.apply_wakes.wait(&mut wanted);
                threads::let_others_put_in(&mut wanted, last);
            }
            let (target, closed) = (wanted.apply_to, wanted.closed);
            drop(wanted);
            if target > done {
                let before = std::mem::replace(&mut done, self.apply_some(target)?);
                last = usize::try_from(done.0.saturating_sub(before.0)).unwrap_or(usize::MAX);
            } else if closed {
                return Ok(());
            } else {
                self.compact_some(done);
            }
        }
    }

    /// Applies some entries up to `target`; where the store stands then.
    fn apply_some(&self, target: Lsn) -> Result<Lsn, StateFailure> {
        let mut applied = self.applied.lock();
        if target <= applied.lsn {
            return Ok(applied.lsn); // a copy was installed meanwhile
        }
        let entries = self.entries(applied.lsn.next(), target)?;
        let commands = decode(&entries)?;
        let outcome = {
            let mut store = self.store.write();
            // Dropped before the lock: should applying break, no reader may take what it left for the state.
            let bar = BarOnPanic(&self.permit);
            let mut outcome = Vec::with_capacity(commands.len());
            for (entry, command) in entries.iter().zip(&commands) {
                let result = store.apply(command);
                if let Err(error) = &result.result
                    && error.is_fatal()
                {
                    self.permit.bar();
                    return Err(StateFailure::Apply { lsn: entry.lsn, reason: error.to_string() });
                }
                outcome.push((entry.lsn, result));
            }
            drop(bar);
            if commands
                .iter()
                .any(|command| matches!(command, Command::RaiseAlarm(_) | Command::ClearAlarm(_)))
            {
                self.space.note_alarms(&store);
            }
            self.revision.store(store.revision(), Ordering::SeqCst);
            self.users_are_on.store(store.auth().is_enabled(), Ordering::SeqCst);
            outcome
        };
        if let Some(last) = entries.last() {
            *applied = last.position();
        }
        let lsn = applied.lsn;
        // Before the lock goes: no checkpoint of this may be reported earlier. And before anybody is told: what comes to the
        // core because of that must find it there.
        self.inbox.event(Input::Applied(lsn));
        self.progress.reached(lsn);
        drop(applied);
        self.tell(outcome);
        self.look_at_pending(
            commands.iter().any(|command| matches!(command.inner(), Command::Compact { .. })),
        );
        Ok(lsn)
    }

    fn entries(&self, first: Lsn, last: Lsn) -> Result<Vec<Entry>, StateFailure> {
        if let Some(entries) = self.tail.run(first, last, APPLY_ENTRIES, APPLY_BYTES) {
            return Ok(entries);
        }
        let mut entries = self.log.read(first, APPLY_BYTES)?;
        entries.retain(|entry| entry.lsn <= last);
        entries.truncate(APPLY_ENTRIES);
        assert!(
            entries.first().is_some_and(|entry| entry.lsn == first),
            "the log answers what was asked for"
        );
        Ok(entries)
    }

    /// Answers writers and tells watchers.
    fn tell(&self, mut outcome: Vec<(Lsn, Applied)>) {
        let revision = outcome.last().map_or(0, |(_, applied)| applied.revision);
        let events: Vec<Event> =
            outcome.iter_mut().flat_map(|(_, applied)| std::mem::take(&mut applied.events)).collect();
        self.waiters.answer(outcome.into_iter());
        if !events.is_empty() {
            self.emit(AppliedBatch { events, revision, restored: false });
        }
    }

    fn emit(&self, batch: AppliedBatch) {
        if let Some(sink) = &*self.event_sink.read() {
            sink(Arc::new(batch));
        }
    }

    /// Asks for a checkpoint when much has changed; waits for it when far too much has.
    fn look_at_pending(&self, compaction_began: bool) {
        let pending = {
            let store = self.store.read();
            self.space.note_pending(&store);
            store.statistics().pending_bytes
        };
        let mut wanted = self.wanted.lock();
        wanted.compacting |= compaction_began;
        if pending < CHECKPOINT_BYTES {
            return;
        }
        wanted.checkpoint_now = true;
        self.checkpoint_wakes.notify_one();
        if pending < PENDING_BYTES {
            return;
        }
        while (wanted.checkpoint_now || wanted.checkpoint_running) && !wanted.closed {
            self.apply_wakes.wait(&mut wanted);
        }
    }

    fn compact_some(&self, done: Lsn) {
        let _applied = self.applied.lock();
        let more = self.store.write().compact_step(COMPACT_KEYS);
        let mut wanted = self.wanted.lock();
        wanted.compacting = more;
        if more && wanted.apply_to <= done && !wanted.closed {
            let _ = self.apply_wakes.wait_for(&mut wanted, COMPACT_PAUSE);
        }
    }

    // ---- the checkpoint thread ----

    fn run_checkpoint(&self) -> Result<(), StateFailure> {
        loop {
            let deadline = clock::now().after(CHECKPOINT_INTERVAL);
            let mut wanted = self.wanted.lock();
            while !wanted.checkpoint_now && !wanted.closed && !clock::until(deadline).is_zero() {
                let _ = self.checkpoint_wakes.wait_for(&mut wanted, clock::until(deadline));
            }
            let closed = wanted.closed;
            wanted.checkpoint_now = false;
            wanted.checkpoint_running = true;
            drop(wanted);
            let result = self.checkpoint();
            self.wanted.lock().checkpoint_running = false;
            self.apply_wakes.notify_all();
            self.checkpoint_done.notify_all();
            result?;
            if closed {
                return Ok(());
            }
        }
    }

    /// Writes what has changed since the last checkpoint, if anything has.
    pub(crate) fn checkpoint(&self) -> Result<(), StateFailure> {
        let _writing = self.writing.lock();
        let (checkpoint, position) = {
            let applied = self.applied.lock();
            let pending = self.store.read().statistics();
            let unchanged = applied.lsn == self.state.applied().lsn && pending.pending_deletes == 0;
            if unchanged {
                return Ok(());
            }
            (self.store.write().begin_checkpoint(), *applied)
        };
        let batch = Batch {
            puts: checkpoint.puts.iter().map(|(key, value)| (key.to_key(), value.clone())).collect(),
            deletes: checkpoint.deletes.iter().map(|revision| revision.to_key()).collect(),
            meta: Some(checkpoint.meta),
            applied: position,
        };
        failpoint::reach("checkpoint.commit.before");
        let began = clock::now();
        threads::aside(|| self.state.commit(&batch))?;
        self.metrics.checkpoint.record(clock::now().since(began));
        failpoint::reach("checkpoint.commit.after");
        let sizes = self.state.sizes()?;
        {
            let mut store = self.store.write();
            store.finish_checkpoint();
            self.space.note_all(&store, sizes);
        }
        self.inbox.event(Input::Checkpointed(position.lsn));
        Ok(())
    }

    /// The state store with all that is applied now, frozen: for as long as it is held, and beside all that goes on.
    pub(crate) fn freeze(&self) -> Result<StateSnapshot, StateError> {
        let applied = self.applied.lock().lsn;
        let mut wanted = self.wanted.lock();
        while self.state.applied().lsn < applied && !wanted.closed {
            wanted.checkpoint_now = true;
            self.checkpoint_wakes.notify_one();
            self.checkpoint_done.wait(&mut wanted);
        }
        drop(wanted);
        self.state.snapshot()
    }

    /// Waits until what was compacted is gone from the state store too, so that its space is free; at most `limit`.
    pub(crate) fn tidy(&self, limit: Duration) {
        let deadline = clock::now().after(limit);
        let mut wanted = self.wanted.lock();
        while !wanted.closed && !clock::until(deadline).is_zero() {
            let removing = wanted.compacting || self.store.read().statistics().pending_deletes > 0;
            if !removing {
                return;
            }
            wanted.checkpoint_now = true;
            self.checkpoint_wakes.notify_one();
            let _ = self.checkpoint_done.wait_for(&mut wanted, TIDY_PAUSE);
        }
    }

    // ---- installing a copy; on the log's thread ----

    /// Replaces state and log by a received copy, and tells the core.
    pub(crate) fn install(
        &self,
        copy: ReadySnapshot,
        position: Position,
        log: &mut Log,
    ) -> Result<(), StateFailure> {
        if copy.position() != position {
            return Err(StateFailure::WrongCopy { wanted: position, found: copy.position() });
        }
        let _writing = self.writing.lock();
        let mut applied = self.applied.lock();
        failpoint::reach("snapshot.install.before");
        self.data.install(copy, &self.state, log)?;
        failpoint::reach("snapshot.install.after");
        let loaded = load(&self.state)?;
        let revision = loaded.revision();
        {
            let mut store = self.store.write();
            self.users_are_on.store(loaded.auth().is_enabled(), Ordering::SeqCst);
            *store = loaded;
            self.space.note_all(&store, self.state.sizes()?);
        }
        self.revision.store(revision, Ordering::SeqCst);
        *applied = position;
        self.progress.reached(position.lsn);
        // Their entries will never be applied one by one here.
        self.waiters.abandon(Lsn::ZERO);
        // Before the locks go: nothing that comes after the copy may be reported earlier.
        self.inbox.event(Input::SnapshotInstalled(position));
        drop(applied);
        let mut wanted = self.wanted.lock();
        wanted.apply_to = wanted.apply_to.max(position.lsn);
        wanted.compacting = true;
        drop(wanted);
        self.apply_wakes.notify_all();
        tracing::info!("the copy is installed: this appliance is now at {position}");
        self.emit(AppliedBatch { events: Vec::new(), revision, restored: true });
        Ok(())
    }
}

/// Takes the read permit away when the thread panics while it holds the store.
struct BarOnPanic<'a>(&'a PermitCell);

impl Drop for BarOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.bar();
        }
    }
}

fn decode(entries: &[Entry]) -> Result<Vec<Command>, StateFailure> {
    entries
        .iter()
        .map(|entry| {
            Command::decode(&entry.command)
                .map_err(|error| StateFailure::Command { lsn: entry.lsn, reason: error.to_string() })
        })
        .collect()
}

#[cfg(test)]
mod tests;
