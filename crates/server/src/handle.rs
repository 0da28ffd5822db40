//! The one door from the client API to the machine room: propose a write, ask whether reads may be answered, watch the role.
//!
//! Keeps S2 on this side of the core: a read is answered only if the permit is in force *after* the state was read.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use duet_mvcc::{Actor, Applied, Command, Store};
use duet_protocol::{ApplianceId, ClusterId, DiskId, Epoch, Input, Instant, Lsn, ReadPermit, RoleName};
use duet_serving::AppliedBatch;
use parking_lot::RwLock;
use tokio::sync::{oneshot, watch};

use crate::clock;
use crate::error::{NotPrimary, WriteError};
use crate::inbox::{Inbox, PendingWrite};
use crate::metrics::Metrics;
use crate::progress::Progress;
use crate::secondary_reads::SecondaryReads;
use crate::space::Space;
use crate::state::Machine;
use crate::status_report::StatusReport;
use crate::waiters::Waiters;

/// A running appliance, as its client API sees it. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) identity: Identity,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) store: Arc<RwLock<Store>>,
    pub(crate) permit: Arc<PermitCell>,
    pub(crate) view: watch::Sender<View>,
    pub(crate) event_sink: Arc<EventSinkCell>,
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) metrics: Arc<Metrics>,
    /// Whether the store's users are on, for those who need not wait for its lock.
    pub(crate) users_are_on: Arc<AtomicBool>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) reads: Arc<SecondaryReads>,
    pub(crate) space: Arc<Space>,
    /// Weak: whoever holds a handle must not keep the data directory locked.
    pub(crate) machine: Weak<Machine>,
}

/// What never changes while an appliance runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Name of the pair, chosen by the operator.
    pub cluster_name: String,
    /// Identity of the pair.
    pub cluster_id: ClusterId,
    /// Which appliance this is.
    pub appliance: ApplianceId,
    /// Identity of its data directory.
    pub disk: DiskId,
    /// Where its clients reach it.
    pub client_url: String,
}

/// Who does what, as far as this appliance knows. A new one is published with every change.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct View {
    /// What this appliance is doing.
    pub role: RoleName,
    /// Whether it takes writes.
    pub is_primary: bool,
    /// Who is primary, as far as known and believed alive.
    pub primary: Option<ApplianceId>,
    /// Where the primary's clients reach it.
    pub primary_client_url: Option<String>,
    /// The newest configuration known; etcd's raft term.
    pub epoch: Epoch,
    /// Identity of the pair.
    pub cluster_id: u64,
    /// This appliance, in etcd's terms.
    pub my_member_id: u64,
    /// Both appliances, in etcd's terms.
    pub member_ids: duet_protocol::PerAppliance<u64>,
    /// Where the peer's clients reach it; known once it was connected.
    pub peer_client_url: Option<String>,
    /// Whether there is a connection to the peer.
    pub peer_connected: bool,
    /// Whether every acknowledged write is on both.
    pub both_in_sync: bool,
    /// Whether a soft shutdown is under way here.
    pub leaving: bool,
    /// How often this appliance has become primary since it started: what a primary keeps in memory begins anew with each.
    pub promotions: u64,
}

impl View {
    /// Whether anybody takes writes, as far as this appliance knows.
    pub const fn has_primary(&self) -> bool {
        self.is_primary || self.primary.is_some()
    }

    /// Whether this appliance follows a primary and holds every acknowledged write.
    pub const fn is_secondary_in_sync(&self) -> bool {
        matches!(self.role, RoleName::Secondary) && self.both_in_sync
    }
}

/// Called for every batch, in order, on the thread that applies: it must be quick and must not block.
pub type EventSink = Box<dyn Fn(Arc<AppliedBatch>) + Send + Sync>;

/// Holder of the one event sink.
pub(crate) type EventSinkCell = RwLock<Option<EventSink>>;

impl Handle {
    /// Proposes one write here. Only the primary takes it. It returns once the write is committed and applied here.
    ///
    /// Dropping the future does not take the write back. The events of `Applied` go to the event sink: they are empty here.
    ///
    /// # Errors
    /// [`WriteError`] says whether the write may be tried elsewhere.
    pub async fn write(&self, command: Command) -> Result<Applied, WriteError> {
        let (answer, answered) = oneshot::channel();
        let wake = self.inner.inbox.propose(PendingWrite { command: command.encode(), answer })?;
        if wake.is_some() {
            // Everybody who is ready has a turn before the driver is woken. Should this be cancelled, it wakes it all the same.
            tokio::task::yield_now().await;
        }
        drop(wake);
        let outcome = answered.await.unwrap_or(Err(WriteError::Unknown));
        if outcome.is_err() {
            self.inner.metrics.failed_writes.add(1);
        }
        outcome
    }

    /// Writes that were taken here and not yet answered.
    pub(crate) fn pending_writes(&self) -> usize {
        self.inner.inbox.waiting_writes() + self.inner.waiters.count()
    }

    /// For how long the read permit will do without news: `Duration::MAX` if for ever, `None` if there is none.
    pub(crate) fn read_permit_left(&self) -> Option<Duration> {
        self.inner.permit.left()
    }

    /// What is counted.
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.inner.metrics
    }

    /// Proposes a write of the appliance's own, which no user asked for.
    ///
    /// # Errors
    /// As [`Handle::write`].
    pub async fn write_own(&self, command: Command) -> Result<Applied, WriteError> {
        if self.users_are_on() {
            let command = Box::new(command);
            self.write(Command::As { actor: Actor::Appliance, command }).await
        } else {
            self.write(command).await
        }
    }

    /// Whether every request must come from a user, as far as this appliance has applied.
    pub fn users_are_on(&self) -> bool {
        self.inner.users_are_on.load(Ordering::SeqCst)
    }

    /// Whether linearizable reads may be answered from the local store.
    ///
    /// Usage: `let guard = handle.read_permit()?; let answer = handle.store().read().range(..); guard.still_valid()?;`
    ///
    /// # Errors
    /// Somebody else may be primary.
    pub fn read_permit(&self) -> Result<ReadGuard, NotPrimary> {
        let revocations = self.inner.permit.revocations.load(Ordering::SeqCst);
        let guard = ReadGuard { permit: self.inner.permit.clone(), revocations };
        guard.still_valid()?;
        Ok(guard)
    }

    /// The applied state. Hold its lock for short times only: writes wait for it.
    pub fn store(&self) -> &RwLock<Store> {
        &self.inner.store
    }

    /// Up to where the state is applied, for an answer to somebody at the peer who wants to find it there: the peer is
    /// told at once that it is committed.
    pub(crate) fn announce(&self) -> Lsn {
        let applied = self.inner.progress.applied();
        if self.inner.progress.is_news(applied) {
            self.inner.inbox.announce();
        }
        applied
    }

    /// Returns once the state is applied up to there.
    pub(crate) async fn until_applied(&self, lsn: Lsn) {
        self.inner.progress.until(lsn).await;
    }

    /// Returns once the state here holds whatever was acknowledged by anybody before this was called: a secondary in sync may
    /// then answer a linearizable read from it. It waits for as long as the primary does not answer.
    pub(crate) async fn until_readable(&self) {
        let lsn = self.inner.reads.index(&self.inner.inbox).await;
        self.until_applied(lsn).await;
    }

    /// How much the state takes, and may take.
    pub(crate) fn space(&self) -> &Space {
        &self.inner.space
    }

    /// The state machine, while it runs.
    pub(crate) fn machine(&self) -> Option<Arc<Machine>> {
        self.inner.machine.upgrade()
    }

    /// Who does what; changes with every change of roles.
    pub fn view(&self) -> watch::Receiver<View> {
        self.inner.view.subscribe()
    }

    /// What never changes while this appliance runs.
    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// Registers the one consumer of events; a second call replaces the first.
    pub fn set_event_sink(&self, sink: EventSink) {
        *self.inner.event_sink.write() = Some(sink);
    }

    /// What a person may know.
    ///
    /// # Errors
    /// Nobody is there to answer any more.
    pub async fn status(&self) -> Result<StatusReport, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.inner.inbox.ask_status(answer);
        answered.await.map_err(|_| Stopped)
    }

    /// An appliance without a machine room.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        let identity = Identity {
            cluster_name: "test".to_owned(),
            cluster_id: ClusterId(7),
            appliance: ApplianceId::A,
            disk: DiskId(1),
            client_url: "http://127.0.0.1:1".to_owned(),
        };
        let inner = Inner {
            view: watch::Sender::new(crate::publisher::Publisher::first_view(&identity)),
            identity,
            inbox: Arc::default(),
            store: Arc::new(RwLock::new(Store::new(Arc::new(duet_mvcc::EmptySource)))),
            permit: Arc::default(),
            event_sink: Arc::default(),
            waiters: Arc::default(),
            metrics: Arc::default(),
            users_are_on: Arc::default(),
            progress: Arc::default(),
            reads: Arc::default(),
            space: Arc::default(),
            machine: Weak::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Begins a soft shutdown. `Server::wait` returns when it is complete.
    pub fn shutdown(&self) {
        self.inner.inbox.event(Input::Shutdown);
    }

    /// Hands over to the peer and goes on as its secondary.
    pub fn switchover(&self) {
        self.inner.inbox.event(Input::Switchover);
    }
}

/// The machine room has stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("this appliance has stopped")]
pub struct Stopped;

/// Proof that linearizable reads were allowed when it was made; to be asked again after the state was read.
pub struct ReadGuard {
    permit: Arc<PermitCell>,
    revocations: u64,
}

impl ReadGuard {
    /// Whether what was read since the guard was made may be answered.
    ///
    /// # Errors
    /// It may not: somebody else may have become primary meanwhile.
    pub fn still_valid(&self) -> Result<(), NotPrimary> {
        let barred = self.permit.barred.load(Ordering::SeqCst);
        let allowed = match self.permit.until.load(Ordering::SeqCst) {
            PERMIT_NO => false,
            PERMIT_YES => true,
            until => clock::now() < Instant(until),
        };
        let unbroken = self.permit.revocations.load(Ordering::SeqCst) == self.revocations;
        if allowed && unbroken && !barred { Ok(()) } else { Err(NotPrimary) }
    }
}

/// The core's read permit, shared with all readers.
#[derive(Debug, Default)]
pub(crate) struct PermitCell {
    /// `PERMIT_NO`, `PERMIT_YES`, or the clock reading below which reads may be answered.
    until: AtomicU64,
    /// How often the permit was taken away: a guard made before that is void even if the permit has come back.
    revocations: AtomicU64,
    /// The machine room has ended: nothing is allowed any more, whatever else is said.
    barred: AtomicBool,
}

const PERMIT_NO: u64 = 0;
const PERMIT_YES: u64 = u64::MAX;

impl PermitCell {
    /// No permit is in force from now on.
    pub(crate) fn bar(&self) {
        self.barred.store(true, Ordering::SeqCst);
    }

    /// See [`Handle::read_permit_left`].
    fn left(&self) -> Option<Duration> {
        let until = self.until.load(Ordering::SeqCst);
        if until == PERMIT_NO || self.barred.load(Ordering::SeqCst) {
            return None;
        }
        Some(if until == PERMIT_YES { Duration::MAX } else { clock::until(Instant(until)) })
    }

    /// In force for every reader when this returns.
    pub(crate) fn set(&self, permit: ReadPermit) {
        let until = match permit {
            ReadPermit::No => PERMIT_NO,
            ReadPermit::Yes => PERMIT_YES,
            ReadPermit::Until(instant) => instant.0.min(PERMIT_YES - 1),
        };
        if until == PERMIT_NO {
            self.revocations.fetch_add(1, Ordering::SeqCst);
        }
        self.until.store(until, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(cell: &Arc<PermitCell>) -> ReadGuard {
        ReadGuard { permit: cell.clone(), revocations: cell.revocations.load(Ordering::SeqCst) }
    }

    #[test]
    fn a_permit_is_judged_when_the_guard_is_asked_again() {
        let cell = Arc::new(PermitCell::default());
        assert_eq!(guard(&cell).still_valid(), Err(NotPrimary));
        cell.set(ReadPermit::Yes);
        let held = guard(&cell);
        assert_eq!(held.still_valid(), Ok(()));
        cell.set(ReadPermit::Until(clock::now().after(Duration::from_mins(1))));
        assert_eq!(held.still_valid(), Ok(()));
        cell.set(ReadPermit::Until(Instant(1)));
        assert_eq!(held.still_valid(), Err(NotPrimary), "the lease has run out");
    }

    #[test]
    fn a_permit_that_was_away_in_between_does_not_count() {
        let cell = Arc::new(PermitCell::default());
        cell.set(ReadPermit::Yes);
        let held = guard(&cell);
        cell.set(ReadPermit::No);
        cell.set(ReadPermit::Yes);
        assert_eq!(held.still_valid(), Err(NotPrimary));
        assert_eq!(guard(&cell).still_valid(), Ok(()));
    }
}
