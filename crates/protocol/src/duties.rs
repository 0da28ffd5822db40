//! When to try what. Policy only: any order and any timing is safe, because every rule guards itself.
//!
//! Runs after every input. What is not due yet sets the next deadline.

use alloc::vec::Vec;

use crate::appliance::{Action, Appliance};
use crate::decision::{self, Move};
use crate::planted::Bug;
use crate::role::{Agreement, Inquiry, Role};
use crate::{Duration, Effect, Instant, limits};

/// With nothing to do the core is still asked this often, so that no duty depends on a deadline being remembered.
const IDLE: Duration = Duration::from_secs(1);

impl Appliance {
    /// Whether `at` has come; if not, it bounds the next deadline.
    pub(crate) fn due(&mut self, at: Instant) -> bool {
        if at <= self.now {
            return true;
        }
        self.wake = self.wake.min(at);
        false
    }

    pub(crate) fn duties(&mut self, fx: &mut Vec<Effect>) {
        self.wake = self.now.after(IDLE);
        if let Some(request) = &self.witness.request {
            let deadline = request.since.after(limits::WITNESS_DEADLINE);
            if self.due(deadline) {
                self.expire_request();
            }
        }
        match self.role {
            Role::Stopped => return,
            Role::Primary(_) => self.duty_of_heartbeat(fx),
            Role::Elect => {
                let until = self.promise_until;
                if self.due(until) {
                    self.begin_elect(fx);
                }
            }
            Role::Follower(_) => self.duty_of_missing_primary(),
        }
        if self.after_save.is_none() && self.leaving.is_some() {
            self.duties_of_leaving(fx);
        } else if self.after_save.is_none() {
            match self.role {
                Role::Primary(_) => self.duties_of_primary(fx),
                Role::Follower(_) => self.duties_of_follower(fx),
                Role::Elect | Role::Stopped => {}
            }
        }
        if self.after_save.is_none() {
            self.duty_of_telling(fx);
        }
    }

    /// Begins a witness procedure unless the last one was too short a time ago. A look while the promise still runs does
    /// not count against the attempt that follows it: that would keep a killed primary's writers waiting.
    pub(crate) fn ask_paced(&mut self, action: Action, pace: Duration, fx: &mut Vec<Effect>) {
        if self.witness.request.is_some() {
            return;
        }
        let due = match self.witness.asked {
            None => true,
            Some((Action::Look, _)) if action == Action::Take => true,
            Some((_, asked)) => self.due(asked.after(pace)),
        };
        if due && !self.act(action, fx) {
            self.due(self.now.after(limits::HEARTBEAT));
        }
    }

    // ---- primary ----

    fn duty_of_heartbeat(&mut self, fx: &mut Vec<Effect>) {
        let Role::Primary(primary) = &self.role else { return };
        let next = primary.beat.after(limits::HEARTBEAT);
        if self.due(next) {
            self.adapt_promise();
            self.send_heartbeat(fx);
            self.due(self.now.after(limits::HEARTBEAT));
        }
    }

    /// Asks for a longer promise at once when answers take long, and for a shorter one little by little.
    fn adapt_promise(&mut self) {
        let Role::Primary(primary) = &mut self.role else { return };
        if primary.proved != Instant::default() {
            let wanted = limits::promise(primary.acknowledged.since(primary.proved));
            primary.promise = wanted.max(primary.promise / 16 * 15);
        }
    }

    /// Whether the secondary's disk has not taken for long what it was sent.
    fn secondary_is_stuck(&mut self) -> bool {
        let Role::Primary(primary) = &self.role else { return false };
        let stuck = primary.moved.after(limits::STUCK);
        primary.matched < self.log.last_lsn() && self.due(stuck)
    }

    /// A primary whose own disk is stuck while the secondary's is not is of no use to anybody, and cannot even hand over: that
    /// needs its disk. It ends, and the secondary finds it missing.
    fn gives_up(&mut self, fx: &mut Vec<Effect>) -> bool {
        let Role::Primary(primary) = &self.role else { return false };
        let succeeded = self.own.conf.is_pair() && self.peer.connected && primary.matched > self.flushed;
        let stuck = self.grew.after(limits::STUCK);
        let may = succeeded && self.due(stuck);
        if may {
            fx.push(Effect::GiveUp(
                "the disk has not finished a write for 3 s, and the secondary has everything",
            ));
        }
        may
    }

    fn duties_of_primary(&mut self, fx: &mut Vec<Effect>) {
        if self.gives_up(fx) {
            return;
        }
        if self.own.conf.is_pair() {
            self.duties_to_secondary(fx);
        } else {
            self.duty_of_rejoin(fx);
        }
        if self.after_save.is_none() {
            self.duty_of_witness(fx);
        }
    }

    /// {A, B}: the secondary may leave, or be missing.
    fn duties_to_secondary(&mut self, fx: &mut Vec<Effect>) {
        let Role::Primary(primary) = &self.role else { return };
        let damaged = primary.peer_damaged;
        let silent = primary.acknowledged.after(limits::SECONDARY_MISS);
        let cut = self.peer.disconnected_since.filter(|_| !self.peer.connected);
        let missing = damaged
            || self.due(silent)
            || cut.is_some_and(|since| self.due(since.after(limits::LOST)))
            || self.secondary_is_stuck();
        // Without a record there is nothing to take: a damaged secondary that is there is let go by agreement.
        let by_agreement = damaged && self.peer.connected && self.witness.absent.is_some();
        if missing && !by_agreement {
            self.ask_paced(Action::Take, limits::WITNESS_RETRY, fx);
        } else if by_agreement
            || self.peer_is_leaving()
            || self.role.pending().is_some_and(|pending| pending.agreement == Agreement::Leave)
        {
            self.let_peer_go(fx); // once proposed it is seen through: the peer may hold the tent
        } else if self.role.pending().is_some() {
            self.press_rejoin(fx);
        } else if let Some(to) = self.wanted_witness() {
            self.propose(Agreement::Move(to), fx);
        } else if self.has_stray_move() || (self.witness.absent.is_some() && !self.may_refill()) {
            self.propose(Agreement::Rejoin, fx);
        }
    }

    fn has_stray_move(&self) -> bool {
        matches!(&self.role, Role::Primary(primary) if primary.stray_move)
    }

    /// Repeats the proposal of a pair; takes it back when the peer does not answer.
    fn press_rejoin(&mut self, fx: &mut Vec<Effect>) {
        let Some(&pending) = self.role.pending() else { return };
        let patience = match pending.agreement {
            Agreement::Move(_) => limits::MOVE,
            _ => limits::MISS,
        };
        if !self.peer.connected || self.peer_is_leaving() || self.due(pending.since.after(patience)) {
            self.cancel(fx);
        } else if self.due(pending.sent.after(limits::PROPOSAL_RETRY)) {
            self.resend(fx);
            self.due(self.now.after(limits::PROPOSAL_RETRY));
        }
    }

    /// L: agreed with the peer, or by the witness when that is quicker. Never cancelled: the peer may hold the tent.
    pub(crate) fn let_peer_go(&mut self, fx: &mut Vec<Effect>) {
        match self.role.pending().copied() {
            Some(pending) if pending.agreement != Agreement::Leave => {
                self.cancel(fx);
            }
            None => {
                self.propose(Agreement::Leave, fx);
            }
            Some(pending) if Bug::LeaveCancelled.planted() && self.due(pending.since.after(limits::MISS)) => {
                self.cancel(fx);
            }
            // The peer knows of a higher epoch and will not agree to this one any more.
            Some(pending) if self.own.max_epoch > pending.conf().epoch() => {
                self.cancel(fx);
                self.propose(Agreement::Leave, fx);
            }
            Some(pending) => {
                if self.due(pending.sent.after(limits::PROPOSAL_RETRY)) {
                    self.resend(fx);
                    self.due(self.now.after(limits::PROPOSAL_RETRY));
                }
                if self.due(pending.since.after(limits::MISS)) {
                    self.ask_paced(Action::Take, limits::WITNESS_RETRY, fx);
                }
            }
        }
    }

    /// Whether a connected secondary is so near that a round trip lets it in.
    pub(crate) fn gap_is_small(&self) -> bool {
        let Role::Primary(primary) = &self.role else { return false };
        primary.follows
            && !primary.copying
            && self.log.last_lsn().0 - primary.matched.0 <= limits::REJOIN_GAP_ENTRIES
            && self.peer.disk.is_some_and(|disk| disk != self.disk)
    }

    /// Solo: lets the secondary in once it has everything; takes it back when it does not answer.
    pub(crate) fn duty_of_rejoin(&mut self, fx: &mut Vec<Effect>) {
        let near = self.gap_is_small()
            && self.peer.connected
            && !self.peer_is_leaving()
            && !self.secondary_is_stuck();
        let Role::Primary(primary) = &self.role else { return };
        let closing = primary.closing;
        let behind = primary.matched < self.committed;
        if self.role.pending().is_some() {
            self.press_rejoin(fx);
        } else if let Some(since) = closing {
            if !near || self.due(since.after(limits::MISS)) {
                self.cancel(fx);
            } else if !behind {
                self.propose(Agreement::Rejoin, fx);
            }
        } else if near {
            self.close();
            if behind {
                self.due(self.now.after(limits::MISS));
            } else {
                self.propose(Agreement::Rejoin, fx);
            }
        }
    }

    /// Steady state: a slow look at the witness; brings it up to date, clears late notes, refills it when it is empty.
    fn duty_of_witness(&mut self, fx: &mut Vec<Effect>) {
        let Role::Primary(primary) = &self.role else { return };
        // A peer that handed over in order to stop leaves its note until it is gone (section 16).
        let grace = primary.since.after(limits::NOTE_GRACE);
        let settled = !self.peer.connected || !self.peer_is_leaving() || self.due(grace);
        let outdated = self.witness.last.as_ref().is_none_or(|(record, _)| self.needs_sync(record));
        if self.may_refill() && !self.witness.set_back {
            self.ask_paced(Action::Refill, limits::WITNESS_RETRY, fx);
        } else if outdated && settled {
            self.ask_paced(Action::Sync, limits::WITNESS_RETRY, fx);
        } else {
            let pace = if self.witness.reachable { limits::WITNESS_INTERVAL } else { limits::WITNESS_AGAIN };
            self.ask_paced(Action::Look, pace, fx);
        }
    }

    // ---- follower ----

    /// Forgets a primary that is missing, so that the search for one begins.
    fn duty_of_missing_primary(&mut self) {
        let connected = self.peer.connected;
        let Role::Follower(follower) = &self.role else { return };
        let Some(leader) = follower.leader else { return };
        let missing = leader.heard.after(limits::MISS);
        if self.due(missing) || !connected {
            let Role::Follower(follower) = &mut self.role else { return };
            follower.leader = None;
            follower.since = self.now;
            follower.inquiry = Inquiry::Unasked;
            self.witness.asked = None;
        }
    }

    fn duties_of_follower(&mut self, fx: &mut Vec<Effect>) {
        if let Some(pending) = self.role.pending().copied() {
            if !self.peer.connected || self.due(pending.since.after(limits::MISS)) {
                self.cancel(fx);
            } else if self.due(pending.sent.after(limits::PROPOSAL_RETRY)) {
                self.resend(fx);
                self.due(self.now.after(limits::PROPOSAL_RETRY));
            }
            return;
        }
        let situation = self.situation();
        let decision = decision::decide(&situation);
        self.waiting = (decision.then == Move::Wait).then(|| self.explain(decision));
        match decision.then {
            Move::Follow => {}
            Move::Wait => {
                self.due(self.promise_until);
                if let Role::Follower(follower) = &self.role {
                    self.due(follower.since.after(limits::COLD_START_COURTESY + Duration::from_millis(1)));
                }
                self.ask_paced(Action::Look, limits::WITNESS_WAIT, fx);
            }
            Move::Take => self.ask_paced(Action::Take, limits::WITNESS_RETRY, fx),
            Move::BeginAlone => {
                self.begin_alone(fx);
            }
            Move::ColdPair => {
                self.propose(Agreement::ColdPair, fx);
            }
            Move::ColdSolo => {
                self.propose(Agreement::ColdSolo, fx);
            }
        }
    }

    // ---- both ----

    /// An appliance that is not primary tells an idle peer where it stands.
    fn duty_of_telling(&mut self, fx: &mut Vec<Effect>) {
        // One that takes no entries does not answer appends either: it says that it is there.
        let answers = matches!(&self.role, Role::Follower(follower)
            if follower.leader.is_some() && follower.installing.is_none() && follower.diverged.is_none());
        if self.peer.connected && !answers {
            self.tell_paced(fx);
        }
    }

    pub(crate) fn tell_paced(&mut self, fx: &mut Vec<Effect>) {
        if self.peer.told.is_none_or(|told| self.due(told.after(limits::FIRM_INTERVAL))) {
            self.send_firm(fx);
            self.due(self.now.after(limits::FIRM_INTERVAL));
        }
    }
}
