//! Agreements between the two appliances, without the witness (protocol sections 3 and 11): PROP, STORED, FIRM.
//!
//! The responder stores first, as a tent; the coordinator's own store puts the configuration in force. Only the
//! coordinator's `pend` makes a STORED count (P11), so it may drop it at any time.

use alloc::vec::Vec;

use crate::appliance::{AfterSave, Appliance};
use crate::message::{Firm, Proposal};
use crate::planted::Bug;
use crate::role::{Agreement, Pending, Primary, Role};
use crate::{Conf, DiskId, Effect, Epoch, Message, PerAppliance};

impl Appliance {
    /// PROPOSE: remembers the epoch, then asks the peer.
    pub(crate) fn propose(&mut self, agreement: Agreement, fx: &mut Vec<Effect>) -> bool {
        let Some(conf) = self.proposable(agreement) else { return false };
        let position = if agreement == Agreement::ColdPair { self.durable_position() } else { None };
        let proposal = Proposal { conf, base: self.own.conf, position };
        let pending = Pending { agreement, proposal, since: self.now, sent: self.now };
        if let Role::Primary(primary) = &mut self.role
            && agreement == Agreement::Handover
        {
            primary.offering = true;
            if !Bug::ServesWhileOffering.planted() {
                primary.lease_until = crate::Instant::default();
            }
        }
        let Some(slot) = self.role.pending_mut() else { return false };
        *slot = Some(pending);
        self.own.max_epoch = conf.epoch();
        if Bug::ProposesBeforeSaving.planted() {
            return self.resend(fx);
        }
        self.save(AfterSave::Propose, fx);
        true
    }

    /// What would be proposed, if the guard of this kind holds.
    fn proposable(&self, agreement: Agreement) -> Option<Conf> {
        if self.role.pending().is_some() {
            return None;
        }
        let epoch = self.fresh_epoch(self.own.conf.epoch());
        let conf = &self.own.conf;
        let last = self.log.last_lsn();
        match (&self.role, agreement) {
            (Role::Primary(_), Agreement::Leave) => conf.is_pair().then(|| self.alone_at(epoch)),
            // Everything acknowledged or readable is on the secondary, and from now on must be (traps 12 and 13).
            (Role::Primary(primary), Agreement::Rejoin) => {
                // Of a pair it renews the agreement: an empty witness may be refilled then, and what was dropped is superseded.
                let wanted = conf.is_solo() || self.witness.absent.is_some() || primary.stray_move;
                let ready = wanted && self.may_pair(primary);
                ready.then(|| self.pair_with(epoch, self.peer.disk?)).flatten()
            }
            (Role::Primary(primary), Agreement::Move(to)) => {
                let disk = (*conf.members().get(self.me.peer()))?;
                let ready = conf.is_pair() && to > conf.witness() && self.may_pair(primary);
                ready.then(|| self.pair_with(epoch, disk)).flatten().map(|conf| conf.at(to))
            }
            (Role::Primary(primary), Agreement::Handover) => {
                let disk = (*conf.members().get(self.me.peer()))?;
                let equal = primary.matched == last || Bug::HandsOverBehind.planted();
                let ready = conf.is_pair() && equal && self.flushed == last;
                ready.then(|| Conf::solo(epoch, self.me.peer(), disk).at(conf.witness()))
            }
            (Role::Follower(follower), Agreement::ColdSolo | Agreement::ColdPair) => {
                if !self.is_me(conf) || follower.installing.is_some() || self.is_damaged() {
                    return None;
                }
                if agreement == Agreement::ColdSolo {
                    return Some(self.alone_at(epoch));
                }
                self.durable_position()?;
                self.pair_with(epoch, self.peer.disk?)
            }
            _ => None,
        }
    }

    fn may_pair(&self, primary: &Primary) -> bool {
        let holds_all = primary.matched >= self.committed || Bug::RejoinsBehind.planted();
        !primary.offering && primary.follows && holds_all
    }

    fn alone_at(&self, epoch: Epoch) -> Conf {
        Conf::solo(epoch, self.me, self.disk).at(self.own.conf.witness())
    }

    fn pair_with(&self, epoch: Epoch, peer: DiskId) -> Option<Conf> {
        if peer == self.disk {
            return None;
        }
        let mut disks = PerAppliance { a: self.disk, b: self.disk };
        *disks.get_mut(self.me.peer()) = peer;
        Some(Conf::pair(epoch, self.me, disks).at(self.own.conf.witness()))
    }

    /// Sends the pending proposal (again).
    pub(crate) fn resend(&mut self, fx: &mut Vec<Effect>) -> bool {
        let now = self.now;
        let Some(Some(pending)) = self.role.pending_mut() else { return false };
        pending.sent = now;
        fx.push(Effect::Send(Message::Propose(pending.proposal)));
        true
    }

    /// CANCEL: what the responder holds of it is a dead tent.
    pub(crate) fn cancel(&mut self, fx: &mut Vec<Effect>) -> bool {
        let mut had = self.drop_pending();
        if let Role::Primary(primary) = &mut self.role {
            primary.offering = false;
            had |= primary.closing.take().is_some();
            self.commit(fx);
        }
        had
    }

    /// The proposal counts no more.
    pub(crate) fn drop_pending(&mut self) -> bool {
        let Some(dropped) = self.role.pending_mut().and_then(Option::take) else { return false };
        if let (Role::Primary(primary), Agreement::Move(_)) = (&mut self.role, dropped.agreement) {
            primary.stray_move = !Bug::StrayMoveForgotten.planted();
        }
        true
    }

    pub(crate) fn on_proposal(&mut self, proposal: Proposal, fx: &mut Vec<Effect>) {
        let Proposal { conf, base, position } = proposal;
        if self.own.tent == Some(conf) && matches!(self.role, Role::Follower(_)) {
            fx.push(Effect::Send(Message::Stored(conf))); // said again: the answer was lost
            return;
        }
        let Role::Follower(follower) = &self.role else { return self.refuse(fx) };
        let used = if Bug::UsedEpochAgreed.planted() { self.own.conf.epoch() } else { self.own.max_epoch };
        let outdated = base.epoch() < self.own.conf.epoch() && !Bug::BaseUnchecked.planted();
        if conf.epoch() <= used || outdated {
            return self.refuse(fx);
        }
        if base.epoch() > self.own.conf.epoch() {
            return self.adopt_from_peer(base, Message::Propose(proposal), fx);
        }
        let stopping = self.leaving.as_ref().is_some_and(|leaving| leaving.stop);
        let unfit =
            stopping || follower.installing.is_some() || follower.diverged.is_some() || self.is_damaged();
        // Two of {A, B, witness} stored what is in force. A blank disk in the place of an old one is none of them: what that
        // one had stored is not known any more. To be let in by a primary that is alone it need not vouch (trap 21).
        let lets_in = conf.is_pair() && position.is_none();
        let vouches = Bug::BlankVouches.planted()
            || if base.is_pair() { self.is_me(&base) } else { lets_in || self.own.joined };
        let names_other_disk = conf.members().get(self.me).is_some() && !self.is_me(&conf);
        let other_position =
            position.is_some() && position != self.durable_position() && !Bug::UnequalColdPair.planted();
        let other_base = self.own.conf != base && !Bug::BaseUnchecked.planted();
        // Only a pair moves, to a witness that is not a former one.
        let moves = conf.witness() != base.witness();
        let astray = moves && !(base.is_pair() && conf.is_pair() && conf.witness() > base.witness());
        if other_base
            || astray
            || !vouches
            || other_position
            || names_other_disk
            || (self.is_me(&conf) && unfit)
        {
            return self.refuse(fx);
        }
        if Bug::AgreedIsConf.planted() {
            self.store_conf(conf);
        } else {
            self.own.tent = Some(conf);
        }
        self.own.max_epoch = self.own.max_epoch.max(conf.epoch());
        self.drop_pending();
        self.save(AfterSave::Stored(conf), fx);
    }

    fn refuse(&mut self, fx: &mut Vec<Effect>) {
        if matches!(self.role, Role::Primary(_)) {
            self.send_heartbeat(fx);
        } else {
            self.send_firm(fx);
        }
    }

    pub(crate) fn on_stored(&mut self, conf: Conf, fx: &mut Vec<Effect>) {
        let Some(&pending) = self.role.pending() else { return };
        if pending.conf() != conf && !Bug::AnyStoredCounts.planted() {
            return;
        }
        // In force from here on.
        self.own.tent = None;
        self.store_conf(pending.conf());
        if pending.agreement == Agreement::Handover {
            self.step_down(fx);
            self.on_handed_over();
            return self.save(AfterSave::HandedOver, fx);
        }
        if let Some(slot) = self.role.pending_mut() {
            *slot = None;
        }
        match &self.role {
            Role::Primary(_) => {
                self.go_on_under_new_conf();
                self.save(AfterSave::GoOn, fx);
            }
            _ => self.save(AfterSave::Begin, fx),
        }
    }

    pub(crate) fn on_firm(&mut self, firm: Firm, fx: &mut Vec<Effect>) {
        self.peer.firm = Some(firm);
        self.peer.disk = Some(firm.disk);
        self.peer.position = Some(firm.position);
        self.peer.leaving = firm.leaving.then_some(self.now);
        let higher = firm.max_epoch > self.own.max_epoch;
        self.own.max_epoch = self.own.max_epoch.max(firm.max_epoch);
        if firm.conf.epoch() <= self.own.conf.epoch() {
            if higher {
                self.save(AfterSave::Nothing, fx);
            }
            return;
        }
        let mine = firm.conf.primary() == self.me && self.is_me(&firm.conf);
        if mine && matches!(self.role, Role::Primary(_)) {
            // My own TAKE, its reply was lost.
            if !self.won(firm.conf, fx) && higher {
                self.save(AfterSave::Nothing, fx);
            }
            return;
        }
        self.own.tent = None;
        self.store_conf(firm.conf);
        self.step_down(fx);
        // Handed over: the peer is not primary any more, the promise to it is void.
        let handed_over = mine && firm.conf.is_solo() && !self.is_installing();
        let after = if handed_over { AfterSave::Begin } else { AfterSave::Nothing };
        self.save(after, fx);
    }

    /// Adopts a configuration the peer has in force, then handles the message that told of it.
    pub(crate) fn adopt_from_peer(&mut self, conf: Conf, message: Message, fx: &mut Vec<Effect>) {
        self.own.tent = None;
        self.store_conf(conf);
        self.step_down(fx);
        self.save(AfterSave::Redo(message), fx);
    }

    /// Tells the peer what is in force here. A primary tells by its appends.
    pub(crate) fn send_firm(&mut self, fx: &mut Vec<Effect>) -> bool {
        if matches!(self.role, Role::Primary(_) | Role::Stopped) {
            return false;
        }
        self.peer.told = Some(self.now);
        fx.push(Effect::Send(Message::Firm(Firm {
            conf: self.own.conf,
            max_epoch: self.own.max_epoch,
            position: self.log.last(),
            disk: self.disk,
            leaving: self.leaving.as_ref().is_some_and(|leaving| leaving.stop),
            damaged: self.is_damaged(),
            joined: self.own.joined,
        })));
        true
    }
}
