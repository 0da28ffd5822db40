//! Soft shutdown and switchover (protocol sections 8 and 16).
//!
//! A primary with a live secondary hands over, then stops; one that is alone parts; a secondary asks to be let go. Each
//! leaves its LSN at the witness before it stops (R3). Everything here is policy: the rules it calls guard themselves.

use alloc::vec::Vec;

use crate::appliance::{Action, Appliance};
use crate::planted::Bug;
use crate::role::{Agreement, Role};
use crate::{Effect, Instant, Message, limits};

/// A soft shutdown (or a switchover) under way.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not states of one machine")]
pub(crate) struct Leaving {
    /// Whether the process is to stop in the end; false for a switchover.
    pub stop: bool,
    pub since: Instant,
    /// Whether it was primary when it began.
    pub was_primary: bool,
    /// As primary it takes no more writes and serves no more reads.
    pub holds_writes: bool,
    /// The LSN is at the witness.
    pub noted: bool,
    /// It has parted in the course of this shutdown; the witness may not know yet.
    pub parted: bool,
    /// When it began to wait for nothing but the witness.
    pub witness_since: Option<Instant>,
    /// The handover is in force; the peer may not know yet.
    pub handed_over: bool,
}

impl Appliance {
    pub(crate) fn begin_leaving(&mut self, stop: bool) {
        let was_primary = matches!(self.role, Role::Primary(_) | Role::Elect);
        if let Some(leaving) = &mut self.leaving {
            leaving.stop |= stop;
            return;
        }
        let can_hand_over = was_primary && self.own.conf.is_pair();
        if !stop && !can_hand_over {
            return;
        }
        self.leaving = Some(Leaving {
            stop,
            since: self.now,
            was_primary,
            holds_writes: was_primary,
            noted: Bug::NoteSkipped.planted(),
            parted: false,
            witness_since: None,
            handed_over: false,
        });
    }

    pub(crate) fn on_handed_over(&mut self) {
        if let Some(leaving) = &mut self.leaving {
            leaving.handed_over = true;
        }
    }

    /// The witness has the LSN.
    pub(crate) fn on_left(&mut self) {
        if let Some(leaving) = &mut self.leaving {
            leaving.noted = true;
        }
    }

    /// What a leaving appliance does next.
    pub(crate) fn duties_of_leaving(&mut self, fx: &mut Vec<Effect>) {
        let Some(leaving) = self.leaving.clone() else { return };
        if leaving.stop && self.due(leaving.since.after(limits::SHUTDOWN)) {
            return self.stop("The soft shutdown took too long: it stops without more.", fx);
        }
        let given_up =
            !leaving.stop && (!self.own.conf.is_pair() || self.due(leaving.since.after(limits::HANDOVER)));
        match &self.role {
            Role::Primary(_) if given_up => {
                self.cancel(fx);
                self.leaving = None;
                fx.push(Effect::Explain(
                    "The switchover was given up: the peer did not take over in time.".into(),
                ));
            }
            Role::Primary(_) if self.own.conf.is_pair() => self.leave_as_paired_primary(&leaving, fx),
            Role::Primary(_) => self.leave_as_solo_primary(&leaving, fx),
            // Switched over (or deposed meanwhile): an ordinary follower, which tells its peer what is in force.
            Role::Follower(_) if !leaving.stop => self.leaving = None,
            Role::Follower(_) if leaving.handed_over => self.leave_after_handover(&leaving, fx),
            Role::Follower(_) => self.leave_as_follower(&leaving, fx),
            Role::Elect | Role::Stopped => {}
        }
    }

    fn leave_as_paired_primary(&mut self, leaving: &Leaving, fx: &mut Vec<Effect>) {
        let Role::Primary(primary) = &self.role else { return };
        let offering = primary.offering;
        let answers = self.peer.connected && !self.peer_is_silent(limits::MISS);
        let in_time = !self.due(leaving.since.after(limits::HANDOVER));
        if self.peer_is_leaving() && answers && in_time {
            // Both leave: this one goes last, alone.
            if offering {
                self.cancel(fx);
            }
            if self.after_save.is_none() {
                self.let_peer_go(fx);
            }
        } else if answers && in_time {
            if offering {
                self.press_handover(fx);
            } else {
                self.propose(Agreement::Handover, fx);
            }
            if self.after_save.is_none() && leaving.stop && !leaving.noted && self.is_offering() {
                self.ask_paced(Action::Note, limits::WITNESS_RETRY, fx);
            }
        } else {
            if offering {
                self.cancel(fx);
            }
            self.alone_by_witness_or_stop(leaving, fx);
        }
    }

    fn is_offering(&self) -> bool {
        matches!(&self.role, Role::Primary(primary) if primary.offering)
    }

    /// Repeats the offer; after a refusal makes a new one with a higher epoch.
    fn press_handover(&mut self, fx: &mut Vec<Effect>) {
        let Some(&pending) = self.role.pending() else { return };
        let refused = self.peer.firm.is_some_and(|firm| firm.max_epoch >= pending.conf().epoch())
            && self.due(pending.sent.after(limits::PROPOSAL_RETRY));
        if refused && self.due(pending.since.after(limits::MISS)) {
            self.cancel(fx);
        } else if self.due(pending.sent.after(limits::PROPOSAL_RETRY)) {
            self.resend(fx);
        }
    }

    /// The peer does not answer: get rid of it by the witness, then part.
    fn alone_by_witness_or_stop(&mut self, leaving: &Leaving, fx: &mut Vec<Effect>) {
        if !self.wait_for_witness(leaving) {
            return self.stop("Neither the peer nor the witness answers: it stops as it is.", fx);
        }
        self.ask_paced(Action::Take, limits::WITNESS_RETRY, fx);
    }

    /// Starts the clock of waiting for the witness alone; false when it has waited long enough.
    fn wait_for_witness(&mut self, leaving: &Leaving) -> bool {
        let since = leaving.witness_since.unwrap_or(self.now);
        if let Some(leaving) = &mut self.leaving {
            leaving.witness_since = Some(since);
        }
        !self.due(since.after(limits::SHUTDOWN_WITNESS))
    }

    fn leave_as_solo_primary(&mut self, leaving: &Leaving, fx: &mut Vec<Effect>) {
        let in_time = !self.due(leaving.since.after(limits::HANDOVER));
        let answers = self.peer.connected && !self.peer_is_silent(limits::MISS) && !self.peer_is_leaving();
        if answers && in_time && self.gap_is_small() {
            return self.duty_of_rejoin(fx); // so close: let it in, then hand over
        }
        self.cancel(fx);
        if self.durable_position().is_none() {
            return; // the last writes are on their way to the disk
        }
        if !self.wait_for_witness(leaving) {
            // It has not parted: it can begin alone later, without anybody.
            return self.stop("The witness does not answer: it stops without leaving its LSN there.", fx);
        }
        self.ask_paced(Action::Part, limits::WITNESS_RETRY, fx);
    }

    fn leave_after_handover(&mut self, leaving: &Leaving, fx: &mut Vec<Effect>) {
        let followed = matches!(&self.role, Role::Follower(follower) if follower.leader.is_some());
        if followed {
            self.hint_at_leaving(fx);
        } else if self.peer.connected {
            self.tell_paced(fx);
        }
        let waits_for_peer =
            !followed && self.peer.connected && !self.due(leaving.since.after(limits::SHUTDOWN / 2));
        let waits_for_witness = !leaving.noted && (waits_for_peer || self.wait_for_witness(leaving));
        if waits_for_witness {
            self.ask_paced(Action::Note, limits::WITNESS_RETRY, fx);
        }
        if !waits_for_peer && !waits_for_witness {
            self.stop_noted(leaving.noted, fx);
        }
    }

    fn leave_as_follower(&mut self, leaving: &Leaving, fx: &mut Vec<Effect>) {
        if leaving.parted && self.own.has_parted() {
            if leaving.noted || !self.wait_for_witness(leaving) {
                return self.stop_noted(leaving.noted, fx);
            }
            self.ask_paced(Action::Part, limits::WITNESS_RETRY, fx);
            return;
        }
        let member = self.is_me(&self.own.conf) && self.own.tent.is_none_or(|tent| self.is_me(&tent));
        let led = matches!(&self.role, Role::Follower(follower) if follower.leader.is_some());
        if led {
            self.hint_at_leaving(fx);
        }
        if member && led && !self.due(leaving.since.after(limits::HANDOVER)) {
            return;
        }
        let nothing_to_note = self.own.conf.is_none();
        if nothing_to_note || leaving.noted || !self.wait_for_witness(leaving) {
            return self.stop_noted(leaving.noted || nothing_to_note, fx);
        }
        self.ask_paced(Action::Note, limits::WITNESS_RETRY, fx);
    }

    fn hint_at_leaving(&mut self, fx: &mut Vec<Effect>) {
        if self.peer.told.is_none_or(|told| self.due(told.after(limits::PROPOSAL_RETRY))) {
            self.peer.told = Some(self.now);
            fx.push(Effect::Send(Message::Leave));
            self.due(self.now.after(limits::PROPOSAL_RETRY));
        }
    }

    fn stop_noted(&mut self, noted: bool, fx: &mut Vec<Effect>) {
        let why = if noted {
            "Its LSN is at the witness: it stops."
        } else {
            "The witness does not answer: it stops without leaving its LSN there."
        };
        self.stop(why, fx);
    }

    fn stop(&mut self, why: &str, fx: &mut Vec<Effect>) {
        if self.role == Role::Stopped {
            return;
        }
        self.step_down(fx);
        self.role = Role::Stopped;
        if !Bug::StoppedWins.planted() {
            self.witness.request = None; // what is still under way at the witness is settled after the next start
        }
        fx.push(Effect::Explain(why.into()));
        fx.push(Effect::Stop);
    }
}
