//! The appliance: all volatile and durable state of the core, and its one door.
//!
//! A step is: handle what happened by the rules (establish, agreement, replication, ...), then let the duties act (when
//! to try what: policy, never needed for safety), then check the local invariants. The rules hold whatever the duties
//! do; the explorer calls them at any time through [`Appliance::attempt`].

use alloc::string::String;
use alloc::vec::Vec;

use crate::establish::WitnessPort;
use crate::log_index::{LogIndex, RecoveredLog};
use crate::message::Firm;
use crate::planted::Bug;
use crate::role::{Agreement, Follower, Role};
use crate::shutdown::Leaving;
use crate::status::{PeerStatus, RoleName, Status};
use crate::{
    ApplianceId, Conf, DiskId, Effect, Epoch, Input, Instant, Lsn, Message, OwnState, Position, ReadPermit,
    WitnessId, WitnessRecord, limits,
};

/// One appliance of a pair. See the crate's documentation for the contract.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Appliance {
    pub(crate) me: ApplianceId,
    pub(crate) disk: DiskId,
    pub(crate) life: u64,
    /// The latest time passed to `step`.
    pub(crate) now: Instant,
    pub(crate) own: OwnState,
    pub(crate) log: LogIndex,
    /// Raised by every truncation and reset of the log; flushes of older ones are void.
    pub(crate) generation: u64,
    pub(crate) flushed: Lsn,
    /// When the log last grew on disk, or had no need to.
    pub(crate) grew: Instant,
    pub(crate) committed: Lsn,
    pub(crate) applied: Lsn,
    pub(crate) checkpointed: Lsn,
    pub(crate) role: Role,
    /// Until then this appliance has promised not to begin as primary.
    pub(crate) promise_until: Instant,
    pub(crate) peer: Peer,
    pub(crate) witness: WitnessPort,
    pub(crate) leaving: Option<Leaving>,
    /// The witness that it is to agree upon with the peer, and since when.
    pub(crate) moving: Option<(WitnessId, Instant)>,
    pub(crate) permit: ReadPermit,
    /// What follows once the own state is durable.
    pub(crate) after_save: Option<AfterSave>,
    /// Why it waits, from the decision table.
    pub(crate) waiting: Option<String>,
    /// The earliest time at which a duty may be due.
    pub(crate) wake: Instant,
    /// Entries kept in the log below the checkpoint.
    pub(crate) retained: u64,
}

/// What is known of the peer, whatever the roles.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Peer {
    pub connected: bool,
    pub disconnected_since: Option<Instant>,
    pub heard: Option<Instant>,
    pub disk: Option<DiskId>,
    pub position: Option<Position>,
    /// Its last `Firm`, while it is not primary.
    pub firm: Option<Firm>,
    /// When it last said that it is shutting down; it says so again and again.
    pub leaving: Option<Instant>,
    /// When this appliance last sent a `Firm`.
    pub told: Option<Instant>,
}

/// What a durable write of the own state was made for (the ◆ of docs/protocol.md).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum AfterSave {
    /// Nothing hangs on it.
    Nothing,
    /// A configuration was adopted: now handle the message that told of it.
    Redo(Message),
    /// Epoch or parting is remembered: now ask the witness.
    CompareAndSet { expected: u64, record: WitnessRecord },
    /// The epoch is remembered: now propose.
    Propose,
    /// The tent is stored: now say so.
    Stored(Conf),
    /// A configuration of which this appliance is primary is in force: begin.
    Begin,
    /// The same, by a promotion that may still be bound by a promise.
    BeginOrElect,
    /// The primary's configuration has changed and it goes on.
    GoOn,
    /// The peer has agreed to take over: tell it that it may begin.
    HandedOver,
}

/// A rule of the protocol that an appliance may try at any time; the rule's own guard decides.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// Read the witness and learn from it.
    Look,
    /// TAKE: ask the witness to make me primary alone.
    Take,
    /// PART: leave my position at the witness and stop being primary.
    Part,
    /// SYNC: bring the witness up to date.
    Sync,
    /// NOTE: leave a note at the witness.
    Note,
    /// Fill an empty witness.
    Refill,
    /// BEGIN ALONE.
    BeginAlone,
    /// ELECT becomes primary when its promise has run out.
    BeginElect,
    /// Propose an agreement.
    Propose(Agreement),
    /// Give up a proposal.
    Cancel,
    /// Send the pending proposal again.
    Resend,
    /// Send an append without entries, and what is due to be sent.
    Heartbeat,
    /// Hold back acknowledgements so that a nearly equal secondary can be let in (first half of a rejoin).
    Close,
    /// Send what I know.
    SendFirm,
}

impl Appliance {
    /// An appliance after a start of its process. `life` differs for every start; `applied` is what the state machine's
    /// checkpoint holds, all of it committed.
    pub fn recover(life: u64, mut own: OwnState, log: RecoveredLog, applied: Lsn, now: Instant) -> Self {
        own.note_membership();
        let presumed = if Bug::NoPromiseAtStart.planted() {
            crate::Duration::ZERO
        } else if Bug::ShortPromiseAtStart.planted() {
            limits::PROMISE
        } else {
            limits::PROMISE_MAX
        };
        let log = LogIndex::new(log);
        assert!(applied <= log.last_lsn(), "the state is never ahead of the log");
        assert!(applied >= log.base().lsn, "the log reaches back to the checkpoint");
        assert!(log.last().epoch <= own.conf.epoch(), "P5: no entry is newer than the configuration");
        let appliance = Self {
            me: own.appliance,
            disk: own.disk,
            life,
            now,
            flushed: log.last_lsn(),
            witness: WitnessPort::new(own.witness()),
            own,
            log,
            generation: 0,
            grew: now,
            committed: applied,
            applied,
            checkpointed: applied,
            role: Role::follower(now),
            promise_until: now.after(presumed),
            peer: Peer::default(),
            leaving: None,
            moving: None,
            permit: ReadPermit::No,
            after_save: None,
            waiting: None,
            wake: now,
            retained: limits::RETAIN_ENTRIES,
        };
        appliance.check_invariants();
        appliance
    }

    /// This appliance's former life was over at `time`, before it was recovered: whatever that one promised, it promised
    /// earlier. To be said at once after [`Self::recover`].
    pub fn former_life_ended(&mut self, time: Instant) {
        self.promise_until = self.promise_until.min(time.after(limits::PROMISE_MAX));
    }

    /// Keeps another number of entries below the checkpoint than [`limits::RETAIN_ENTRIES`].
    pub const fn retain(&mut self, entries: u64) {
        self.retained = entries;
    }

    /// Something happened at `now`: appends to `effects` what is to be done. `now` never goes back.
    pub fn step(&mut self, now: Instant, input: Input, effects: &mut Vec<Effect>) {
        self.forgive_lateness(now);
        self.handle(now, input, effects);
        if self.after_save.is_none() {
            self.duties(effects);
        }
        self.finish(effects);
    }

    /// An appliance that was itself held up (a starved or suspended machine) could not have heard its peer: that time does not
    /// count as the peer's silence. Policy only; promises and leases run on.
    fn forgive_lateness(&mut self, now: Instant) {
        let late = now.since(self.wake);
        if late < limits::LATE {
            return;
        }
        let forgive = |heard: Instant| heard.after(late).min(now);
        self.peer.heard = self.peer.heard.map(forgive);
        match &mut self.role {
            Role::Primary(primary) => {
                primary.acknowledged = forgive(primary.acknowledged);
                primary.moved = forgive(primary.moved);
                self.grew = forgive(self.grew);
            }
            Role::Follower(Follower { leader: Some(leader), .. }) => leader.heard = forgive(leader.heard),
            _ => {}
        }
    }

    /// When `Input::Tick` is due at the latest.
    pub const fn next_deadline(&self) -> Instant {
        self.wake
    }

    /// Like [`Self::step`] without the duties: only the rules, for exploration.
    pub fn step_rules(&mut self, now: Instant, input: Input, effects: &mut Vec<Effect>) {
        self.handle(now, input, effects);
        self.finish(effects);
    }

    /// Tries one rule, for exploration. False: its guard does not hold, nothing has happened.
    pub fn attempt(&mut self, now: Instant, action: Action, effects: &mut Vec<Effect>) -> bool {
        assert!(self.after_save.is_none(), "the own state is being saved");
        self.now = self.now.max(now);
        let done = self.act(action, effects);
        self.finish(effects);
        done
    }

    pub(crate) fn act(&mut self, action: Action, fx: &mut Vec<Effect>) -> bool {
        match action {
            Action::Look | Action::Take | Action::Part | Action::Sync | Action::Note => {
                self.ask_witness(action, fx)
            }
            Action::Refill => self.refill(fx),
            Action::BeginAlone => self.begin_alone(fx),
            Action::BeginElect => self.begin_elect(fx),
            Action::Propose(agreement) => self.propose(agreement, fx),
            Action::Cancel => self.cancel(fx),
            Action::Resend => self.resend(fx),
            Action::Heartbeat => self.send_heartbeat(fx),
            Action::Close => self.close(),
            Action::SendFirm => self.send_firm(fx),
        }
    }

    fn handle(&mut self, now: Instant, input: Input, fx: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        assert!(
            self.after_save.is_none() || input == Input::StateSaved,
            "while the own state is being saved nothing else comes in"
        );
        match input {
            Input::Tick => {}
            Input::Message(message) => self.on_message(message, fx),
            Input::PeerConnected => self.on_connected(fx),
            Input::PeerDisconnected => self.on_disconnected(),
            Input::Propose(commands) => self.on_commands(commands, fx),
            Input::Flushed { generation, lsn } => self.on_flushed(generation, lsn, fx),
            Input::Applied(lsn) => {
                assert!(lsn <= self.committed, "only committed entries are applied");
                self.applied = self.applied.max(lsn);
            }
            Input::Checkpointed(lsn) => self.on_checkpointed(lsn, fx),
            Input::StateSaved => self.on_saved(fx),
            Input::WitnessRead { ticket, outcome } => self.on_witness_read(ticket, outcome, fx),
            Input::WitnessWritten { ticket, outcome } => self.on_witness_written(ticket, outcome, fx),
            Input::SnapshotReceived { epoch, position } => self.on_snapshot(epoch, position, fx),
            Input::SnapshotInstalled(position) => self.on_installed(position, fx),
            Input::SnapshotSendEnded => {
                if let Role::Primary(primary) = &mut self.role {
                    primary.copying = false;
                    primary.rewound = self.now; // answers from before the copy do not ask for another
                }
            }
            Input::Announce => {
                self.act(Action::Heartbeat, fx);
            }
            Input::AskReadIndex(number) => self.ask_read_index(number, fx),
            Input::Shutdown => self.begin_leaving(true),
            Input::Switchover => self.begin_leaving(false),
            Input::MoveWitness(to) => self.begin_moving(to),
        }
    }

    fn on_message(&mut self, message: Message, fx: &mut Vec<Effect>) {
        if self.role == Role::Stopped {
            return;
        }
        self.peer.heard = Some(self.now);
        match message {
            Message::Append { header, entries } => self.on_append(header, entries, fx),
            Message::Acknowledge(acknowledge) => self.on_acknowledge(acknowledge, fx),
            Message::Propose(proposal) => self.on_proposal(proposal, fx),
            Message::Stored(conf) => self.on_stored(conf, fx),
            Message::Firm(firm) => self.on_firm(firm, fx),
            Message::Leave => self.peer.leaving = Some(self.now),
            Message::AskReadIndex(question) => self.on_read_question(question, fx),
            Message::ReadIndex(answer) => self.on_read_index(answer, fx),
        }
    }

    fn on_connected(&mut self, fx: &mut Vec<Effect>) {
        self.peer = Peer { connected: true, heard: Some(self.now), ..Peer::default() };
        match &mut self.role {
            Role::Primary(primary) => {
                // What the peer holds is proved anew, so that a disk that lost writes is seen (P10).
                if !Bug::MatchKeptOverReconnect.planted() {
                    primary.matched = crate::Lsn::ZERO;
                }
                primary.sure = self.committed;
                primary.follows = false;
                primary.next = self.log.last_lsn().next();
                primary.rewound = self.now;
                primary.copying = false;
                self.send_heartbeat(fx);
            }
            Role::Follower(_) | Role::Elect => {
                self.send_firm(fx);
            }
            Role::Stopped => {}
        }
    }

    fn on_disconnected(&mut self) {
        self.peer.connected = false;
        self.peer.firm = None;
        self.peer.disconnected_since.get_or_insert(self.now);
    }

    /// Makes the own state durable, then does what hangs on it. Always the last effect of a step.
    pub(crate) fn save(&mut self, after: AfterSave, fx: &mut Vec<Effect>) {
        assert!(self.after_save.is_none(), "one durable write at a time");
        self.narrow_permit(fx);
        self.own.note_membership();
        self.follow_witness();
        self.after_save = Some(after);
        fx.push(Effect::SaveState(self.own.clone()));
    }

    fn on_saved(&mut self, fx: &mut Vec<Effect>) {
        let Some(after) = self.after_save.take() else {
            return;
        };
        match after {
            AfterSave::Nothing => {}
            AfterSave::GoOn => {
                if Bug::RejoinCommitsAll.planted() {
                    self.raise_committed(self.flushed, fx);
                }
                self.commit(fx);
                self.send_heartbeat(fx); // the peer learns at once what is in force
            }
            AfterSave::Redo(message) => self.on_message(message, fx),
            AfterSave::CompareAndSet { expected, record } => self.compare_and_set(expected, record, fx),
            AfterSave::Propose => {
                self.resend(fx);
                let proposed = self.role.pending().map(crate::role::Pending::conf);
                if let Some(conf) = proposed.filter(|_| Bug::ActsBeforeStored.planted()) {
                    self.on_stored(conf, fx);
                }
            }
            AfterSave::Stored(conf) => {
                fx.push(Effect::Send(Message::Stored(conf)));
                if Bug::ActsBeforeTold.planted() && self.is_me(&conf) && conf.is_solo() {
                    self.store_conf(conf);
                    self.save(AfterSave::Begin, fx);
                }
            }
            AfterSave::Begin => self.begin(fx),
            AfterSave::BeginOrElect => {
                if self.promise_until > self.now && !Bug::BeginsDuringPromise.planted() {
                    self.role = Role::Elect;
                } else {
                    self.begin(fx);
                }
            }
            AfterSave::HandedOver => {
                self.send_firm(fx);
            }
        }
    }

    /// End of every step: the read permit follows the state, and the invariants hold.
    fn finish(&mut self, fx: &mut Vec<Effect>) {
        if self.after_save.is_none() {
            self.update_permit(fx);
        }
        self.check_invariants();
        assert!(
            self.after_save.is_none() || matches!(fx.last(), Some(Effect::SaveState(_))),
            "a durable write is the last effect of its step"
        );
    }

    pub(crate) fn is_me(&self, conf: &Conf) -> bool {
        conf.has(self.me, self.disk)
    }

    /// conf.in_sync ∪ pend.in_sync is the primary alone: acknowledgements and reads need nobody else.
    pub(crate) fn effective_solo(&self) -> bool {
        let counted_in = |pending: &crate::role::Pending| !pending.conf().is_solo();
        self.own.conf.is_solo()
            && (!self.role.pending().is_some_and(counted_in) || Bug::RejoinNotCountedIn.planted())
    }

    /// The least epoch of the own parity above everything known.
    pub(crate) fn fresh_epoch(&self, seen: Epoch) -> Epoch {
        let known = if Bug::EpochUsedTwice.planted() { self.own.conf.epoch() } else { self.own.max_epoch };
        self.me.fresh_epoch(known.max(seen))
    }

    /// Whether a received copy is being installed: no right is exercised meanwhile; what was won is taken up afterwards.
    pub(crate) fn is_installing(&self) -> bool {
        matches!(&self.role, Role::Follower(follower) if follower.installing.is_some())
    }

    /// The log's last position, if all of it is durable.
    pub(crate) fn durable_position(&self) -> Option<Position> {
        (self.flushed == self.log.last_lsn()).then(|| self.log.last())
    }

    /// Fails what was not acknowledged as unknown and stops being primary or elect (protocol: `step_down`).
    pub(crate) fn step_down(&mut self, fx: &mut Vec<Effect>) {
        if matches!(self.role, Role::Primary(_)) {
            fx.push(Effect::Abandon { above: self.committed });
        }
        let kept = self.role.pending().copied().filter(|_| Bug::ProposalOutlivesRole.planted());
        if !matches!(self.role, Role::Follower(_) | Role::Stopped) {
            self.role = Role::follower(self.now);
        }
        if let Role::Follower(follower) = &mut self.role {
            follower.pending = kept;
            follower.leader = None;
            follower.diverged = None;
        }
        self.narrow_permit(fx);
    }

    /// Whether the peer is shutting down. A stray hint of a former life wears off.
    pub(crate) fn peer_is_leaving(&self) -> bool {
        self.peer
            .leaving
            .is_some_and(|said| self.now.since(said) < limits::MISS || Bug::StrayLeaveBelieved.planted())
    }

    /// Whether the peer answers as of now.
    pub(crate) fn peer_is_silent(&self, longer_than: crate::Duration) -> bool {
        self.peer.heard.is_none_or(|heard| self.now.since(heard) >= longer_than)
    }

    /// What a person may know.
    pub fn status(&self) -> Status {
        let role = match &self.role {
            Role::Follower(follower) if follower.leader.is_some() => RoleName::Secondary,
            Role::Follower(_) => RoleName::Starting,
            Role::Elect => RoleName::Elect,
            Role::Primary(primary) if primary.offering => RoleName::Offering,
            Role::Primary(_) => RoleName::Primary,
            Role::Stopped => RoleName::Stopped,
        };
        let mut peer = PeerStatus {
            connected: self.peer.connected,
            heard: self.peer.heard,
            position: self.peer.position,
            disk: self.peer.disk,
            leaving: self.peer_is_leaving(),
            ..PeerStatus::default()
        };
        match &self.role {
            Role::Primary(primary) => {
                peer.matched = primary.matched;
                peer.copying = primary.copying;
            }
            Role::Follower(Follower { leader: Some(leader), .. }) => peer.last = leader.last,
            _ => {}
        }
        Status {
            appliance: self.me,
            role,
            own: self.own.clone(),
            pending: self.role.pending().map(crate::role::Pending::conf),
            last: self.log.last(),
            flushed: self.flushed,
            committed: self.committed,
            applied: self.applied,
            serves_reads: match self.permit {
                ReadPermit::No => false,
                ReadPermit::Until(until) => self.now < until,
                ReadPermit::Yes => true,
            },
            leaving: self.leaving.is_some(),
            damaged: self.is_damaged(),
            peer,
            witness: self.witness.last.clone(),
            witness_reachable: self.witness.reachable,
            witness_set_back: self.witness.set_back,
            moving: self.moving.map(|(to, _)| to),
            waiting: self.waiting.clone(),
        }
    }
}
