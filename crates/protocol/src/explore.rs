//! What a search over all states of the core needs: a normal form in which equal situations are equal values, and a
//! view of what the safety promises speak of. No behaviour: nothing here is called by the core itself.
//!
//! The normal form drops what only policy, people and pacing read (when something was last sent, texts, tickets), and moves
//! time so that `now` is a given reading: what has run out has run out, whenever it did.

use alloc::string::String;

use crate::appliance::{Appliance, Peer};
use crate::establish::WitnessPort;
use crate::role::{Inquiry, Leader, Role};
use crate::{
    Agreement, Conf, DiskId, Heartbeat, Instant, Lsn, Position, ReadPermit, RoleName, WitnessRecord, limits,
};

/// What the safety promises speak of.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "a report of independent facts")]
pub struct Inspection {
    /// The volatile role.
    pub role: RoleName,
    /// What it has proposed.
    pub pending: Option<(Agreement, Conf)>,
    /// As primary: it needs nobody else for acknowledgements and reads.
    pub effective_solo: bool,
    /// Acknowledgements are held back for a rejoin.
    pub closing: bool,
    /// As primary: what the peer is known to hold.
    pub matched: Lsn,
    /// As primary: where its epoch began.
    pub base: Lsn,
    /// As primary: the secondary has acknowledged something in this configuration.
    pub follows: bool,
    /// Appended.
    pub last: Position,
    /// Durable.
    pub flushed: Lsn,
    /// Committed.
    pub committed: Lsn,
    /// Applied.
    pub applied: Lsn,
    /// Linearizable reads are answered now.
    pub serves_reads: bool,
    /// The lease of a primary runs now.
    pub lease_runs: bool,
    /// The promise not to begin runs now.
    pub promise_runs: bool,
    /// A soft shutdown or switchover is under way.
    pub leaving: bool,
    /// The soft shutdown is to end the process.
    pub stopping: bool,
    /// The log contradicts the primary's (P6).
    pub diverged: bool,
    /// The own disk is known to have lost writes.
    pub damaged: bool,
    /// A copy is being installed.
    pub installing: bool,
    /// A request to the witness is under way.
    pub asking: bool,
    /// The own state is being saved.
    pub saving: bool,
    /// Everything that BEGIN ALONE asks for but the promise.
    pub may_begin_alone: bool,
}

impl Appliance {
    /// The view of the safety promises.
    pub fn inspect(&self) -> Inspection {
        let status = self.status();
        let primary = match &self.role {
            Role::Primary(primary) => Some(primary),
            _ => None,
        };
        let follower = match &self.role {
            Role::Follower(follower) => Some(follower),
            _ => None,
        };
        let own = &self.own;
        Inspection {
            role: status.role,
            pending: self.role.pending().map(|pending| (pending.agreement, pending.conf())),
            effective_solo: primary.is_some() && self.effective_solo(),
            closing: primary.is_some_and(|primary| primary.closing.is_some()),
            matched: primary.map_or(Lsn::ZERO, |primary| primary.matched),
            base: primary.map_or(Lsn::ZERO, |primary| primary.base),
            follows: primary.is_some_and(|primary| primary.follows),
            last: self.log.last(),
            flushed: self.flushed,
            committed: self.committed,
            applied: self.applied,
            serves_reads: status.serves_reads,
            lease_runs: primary.is_some_and(|primary| primary.lease_until > self.now),
            promise_runs: self.promise_until > self.now,
            leaving: self.leaving.is_some(),
            stopping: self.leaving.as_ref().is_some_and(|leaving| leaving.stop),
            diverged: follower.is_some_and(|follower| follower.diverged.is_some()),
            damaged: self.is_damaged(),
            installing: follower.is_some_and(|follower| follower.installing.is_some()),
            asking: self.witness.request.is_some(),
            saving: self.after_save.is_some(),
            may_begin_alone: follower.is_some()
                && own.conf.is_solo()
                && self.is_me(&own.conf)
                && !own.has_parted()
                && own.tent.is_none()
                && !self.is_damaged(),
        }
    }

    /// The disk the peer has named.
    pub const fn peer_disk(&self) -> Option<DiskId> {
        self.peer.disk
    }

    /// The normal form: `now` becomes `now`, this life `life`, the log's generation `generation` (the number of
    /// truncations whose flush was not reported yet).
    #[must_use]
    pub fn normalized(&self, now: Instant, life: u64, generation: u64) -> Self {
        assert!(self.after_save.is_none(), "the own state is being saved");
        let past = self.now;
        let running = |at: Instant| if at > past { now.after(at.since(past)) } else { Instant::default() };
        let mut it = self.clone();
        it.now = now;
        it.life = life;
        it.generation = generation;
        it.promise_until = running(self.promise_until);
        it.permit = match self.permit {
            ReadPermit::Until(until) if until <= past => ReadPermit::No,
            ReadPermit::Until(until) => ReadPermit::Until(running(until)),
            permit => permit,
        };
        it.peer = Peer { connected: self.peer.connected, disk: self.peer.disk, ..Peer::default() };
        it.waiting = None::<String>;
        it.wake = Instant::default();
        match &mut it.role {
            Role::Follower(follower) => {
                follower.since = Instant::default();
                follower.inquiry = Inquiry::default();
                if let Some(leader) = &mut follower.leader {
                    *leader = Leader {
                        heard: Instant::default(),
                        heartbeat: leader.heartbeat.moved(past, now),
                        last: Lsn::ZERO,
                        ..*leader
                    };
                }
            }
            Role::Primary(primary) => {
                primary.rewound = Instant::default();
                primary.lease_until = running(primary.lease_until);
                primary.acknowledged = Instant::default();
                primary.proved = Instant::default();
                primary.sure = Lsn::ZERO;
                primary.peer_damaged = false;
                primary.closing = primary.closing.map(|_| Instant::default());
                primary.beat = Instant::default();
                primary.since = Instant::default();
            }
            Role::Elect | Role::Stopped => {}
        }
        if let Some(Some(pending)) = it.role.pending_mut() {
            pending.since = Instant::default();
            pending.sent = Instant::default();
        }
        if let Some(leaving) = &mut it.leaving {
            leaving.since = Instant::default();
            leaving.witness_since = None;
        }
        // Tickets count from zero again whenever none is in use.
        it.witness.asked = None;
        it.witness.reachable = true;
        it.witness.last = self.witness.last.as_ref().and_then(|(record, _)| self.judged(record));
        if let Some(request) = &mut it.witness.request {
            request.since = Instant::default();
        } else {
            let mut port = WitnessPort::new(it.witness.id);
            port.absent = it.witness.absent;
            port.last = it.witness.last.take();
            port.reachable = true;
            it.witness = port;
        }
        it
    }

    /// What rules read of a record that was read before: whether this disk has lost writes. None if it says nothing of that,
    /// now or later (committed entries are never truncated, and the configuration's epoch never falls).
    fn judged(&self, record: &WitnessRecord) -> Option<(WitnessRecord, Instant)> {
        let floor = *record.floor.get(self.me) > self.committed;
        let part = record.part.is_some()
            && record.conf.is_solo()
            && self.is_me(&record.conf)
            && self.own.conf.epoch() <= record.conf.epoch();
        let kept = WitnessRecord {
            revision: 0,
            writer: crate::ApplianceId::A,
            left: crate::PerAppliance::default(),
            ..record.clone()
        };
        (floor || part).then_some((kept, Instant::default()))
    }

    /// The same after a restart of the peer: whatever it was told under the peer's former lives is now of life `former`.
    #[must_use]
    pub fn with_peer_restarted(&self, former: u64) -> Self {
        let mut it = self.clone();
        if let Role::Follower(follower) = &mut it.role
            && let Some(leader) = &mut follower.leader
        {
            leader.heartbeat.life = former;
        }
        it
    }
}

impl Heartbeat {
    /// The same, with time moved so that `past` becomes `now`: sent now, or (all the same when) before.
    #[must_use]
    pub fn moved(self, past: Instant, now: Instant) -> Self {
        let sent = if self.sent >= past { now } else { Instant(now.0.saturating_sub(LONG_AGO)) };
        Self { sent, ..self }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a fraction of a second")]
/// T at the most, in nanoseconds: an appliance's answer to what was sent that long ago gives no lease any more.
const LONG_AGO: u64 = limits::PROMISE_MAX.as_nanos() as u64;
