//! Who may answer linearizable reads: the primary by its permit, the secondary by a read index that the primary gives it
//! (docs/protocol.md, "Reading").

use alloc::vec::Vec;

use crate::appliance::Appliance;
use crate::message::{ReadIndex, ReadQuestion};
use crate::planted::Bug;
use crate::role::Role;
use crate::{Effect, Message, ReadPermit};

impl Appliance {
    /// The permit that follows from the present state.
    fn permit_now(&self) -> ReadPermit {
        let Role::Primary(primary) = &self.role else { return ReadPermit::No };
        let held = self.leaving.as_ref().is_some_and(|leaving| leaving.holds_writes);
        let offering = (primary.offering || held) && !Bug::ServesWhileOffering.planted();
        if offering || (self.applied < primary.read_floor && !Bug::ReadsBeforeApplied.planted()) {
            return ReadPermit::No;
        }
        if self.effective_solo() || Bug::ReadsWithoutLease.planted() {
            ReadPermit::Yes
        } else if primary.lease_until > self.now {
            ReadPermit::Until(primary.lease_until)
        } else {
            ReadPermit::No
        }
    }

    /// Before a durable write: what it takes away is taken at once, what it will entitle to is granted once it is done.
    pub(crate) fn narrow_permit(&mut self, fx: &mut Vec<Effect>) {
        let rank = |permit: ReadPermit| match permit {
            ReadPermit::No => 0,
            ReadPermit::Until(_) => 1,
            ReadPermit::Yes => 2,
        };
        if rank(self.permit_now()) <= rank(self.permit) {
            self.update_permit(fx);
        }
    }

    /// Tells the readers when the permit has changed.
    pub(crate) fn update_permit(&mut self, fx: &mut Vec<Effect>) {
        let permit = self.permit_now();
        if permit != self.permit {
            self.permit = permit;
            fx.push(Effect::ReadPermit(permit));
        }
    }

    // ---- reads at the secondary ----

    /// A question that gets no answer is forgotten: who waits asks again.
    pub(crate) fn ask_read_index(&mut self, number: u64, fx: &mut Vec<Effect>) {
        if matches!(&self.role, Role::Follower(follower) if follower.leader.is_some()) {
            let question = ReadQuestion { life: self.life, number };
            fx.push(Effect::Send(Message::AskReadIndex(question)));
        }
    }

    /// The peer asks. Answered with what is applied here, and only while a read could be answered here: then whatever was
    /// acknowledged before the question was sent, by whomever, is in that.
    pub(crate) fn on_read_question(&mut self, question: ReadQuestion, fx: &mut Vec<Effect>) {
        if self.permit_now() != ReadPermit::No || Bug::ReadIndexWithoutPermit.planted() {
            let (epoch, lsn) = (self.own.conf.epoch(), self.applied);
            fx.push(Effect::Send(Message::ReadIndex(ReadIndex { question, epoch, lsn })));
        }
    }

    /// The primary's answer also says that so much is committed.
    pub(crate) fn on_read_index(&mut self, answer: ReadIndex, fx: &mut Vec<Effect>) {
        let ReadIndex { question, epoch, lsn } = answer;
        let own = question.life == self.life || Bug::FormerLifeReads.planted();
        if !own || epoch != self.own.conf.epoch() {
            return;
        }
        let committed = self.committed;
        let Role::Follower(follower) = &mut self.role else { return };
        let sound = follower.installing.is_none() && follower.diverged.is_none();
        let Some(leader) = follower.leader.as_mut().filter(|_| sound) else { return };
        // All that may be applied here has to be the primary's history, known to be so.
        if leader.proved < committed && !Bug::ReadsUnproved.planted() {
            return;
        }
        leader.committed = leader.committed.max(lsn);
        self.follow_committed(fx);
        fx.push(Effect::ReadIndex { number: question.number, lsn });
    }
}
