//! Writing: appends, acknowledgements, commitment (protocol section 4 and the handlers of section 11).
//!
//! Under {A, B} an entry is sent while it is being written here: such a configuration is never resumed after a crash, so no
//! other entry can ever take its (LSN, epoch). Under a solo configuration, which *is* resumed (BEGIN ALONE), only
//! durable entries are sent, or named as the one before (trap 24). An entry commits when it is durable wherever it must be.

use alloc::vec::Vec;

use bytes::Bytes;

use crate::appliance::Appliance;
use crate::message::{Acknowledge, AppendHeader, Heartbeat};
use crate::planted::Bug;
use crate::role::{Leader, Primary, Role};
use crate::{Effect, Entry, Epoch, Lsn, Message, Position, limits};

impl Appliance {
    // ---- the primary ----

    /// Becomes primary of the own configuration: solo, or a pair of equal logs (C2). The whole log counts as committed.
    pub(crate) fn begin(&mut self, fx: &mut Vec<Effect>) {
        assert!(self.own.conf.primary() == self.me && self.is_me(&self.own.conf), "P3");
        assert!(self.own.tent.is_none() && !self.own.has_parted(), "P3");
        assert!(!matches!(self.role, Role::Primary(_)), "a primary goes on, it does not begin");
        let last = self.log.last_lsn();
        self.role = Role::Primary(Primary {
            base: last,
            read_floor: last,
            offering: false,
            pending: None,
            stray_move: false,
            matched: Lsn::ZERO,
            next: last.next(),
            proved: crate::Instant::default(),
            rewound: self.now,
            lease_until: crate::Instant::default(),
            acknowledged: self.now,
            follows: false,
            sure: self.committed,
            peer_damaged: false,
            closing: None,
            copying: false,
            moved: self.now,
            promise: limits::PROMISE,
            beat: self.now,
            since: self.now,
        });
        self.waiting = None;
        if self.own.conf.is_pair() {
            assert!(self.flushed == last, "C2 needs a durable position");
            self.raise_committed(last, fx);
        }
        self.commit(fx);
        self.send_heartbeat(fx);
    }

    /// BEGIN ALONE: needs neither witness nor peer, and no new epoch.
    pub(crate) fn begin_alone(&mut self, fx: &mut Vec<Effect>) -> bool {
        let Role::Follower(follower) = &self.role else { return false };
        let conf = &self.own.conf;
        let may = conf.is_solo()
            && self.is_me(conf)
            && !self.own.has_parted()
            && self.own.tent.is_none()
            && (self.promise_until <= self.now || Bug::BeginsAloneDuringPromise.planted())
            && follower.installing.is_none()
            && !self.is_damaged();
        if may {
            self.begin(fx);
        }
        may
    }

    /// ELECT begins when its promise has run out.
    pub(crate) fn begin_elect(&mut self, fx: &mut Vec<Effect>) -> bool {
        let may = self.role == Role::Elect && self.promise_until <= self.now;
        if may {
            self.begin(fx);
        }
        may
    }

    /// The primary's configuration has changed and it stays primary: its log and committed LSN go on.
    pub(crate) fn go_on_under_new_conf(&mut self) {
        let (last, committed) = (self.log.last_lsn(), self.committed);
        if let Role::Primary(primary) = &mut self.role {
            primary.base = last;
            primary.sure = committed;
            primary.pending = None;
            primary.stray_move = false;
            primary.closing = None;
            primary.offering = false;
            primary.follows = false;
            primary.peer_damaged = false;
            primary.acknowledged = self.now;
            primary.since = self.now;
        }
    }

    pub(crate) fn on_commands(&mut self, commands: Vec<Bytes>, fx: &mut Vec<Effect>) {
        let count = commands.len() as u64;
        let takes_writes = matches!(&self.role, Role::Primary(primary) if !primary.offering)
            && !self.leaving.as_ref().is_some_and(|leaving| leaving.holds_writes);
        if !takes_writes || commands.is_empty() {
            fx.push(Effect::Refused { count });
            return;
        }
        let last = self.log.last_lsn();
        let first = last.next();
        if self.flushed == last {
            self.grew = self.now;
        }
        if let Role::Primary(primary) = &mut self.role
            && primary.matched == last
        {
            primary.moved = self.now;
        }
        let mut entries = Vec::with_capacity(commands.len());
        for command in commands {
            let entry = Entry::following(&self.log.last(), self.own.conf.epoch(), command);
            self.log.push(&entry);
            entries.push(entry);
        }
        fx.push(Effect::Append { generation: self.generation, entries });
        fx.push(Effect::Accepted { first, count });
        if Bug::AppendCountsAsFlushed.planted() {
            self.flushed = self.log.last_lsn();
        }
        self.send_entries(fx);
    }

    pub(crate) fn on_flushed(&mut self, generation: u64, lsn: Lsn, fx: &mut Vec<Effect>) {
        if generation != self.generation && !Bug::StaleFlushCounts.planted() {
            return;
        }
        assert!(lsn <= self.log.last_lsn(), "nothing is durable that was not appended");
        self.flushed = self.flushed.max(lsn);
        self.grew = self.now;
        match &self.role {
            Role::Primary(_) => {
                self.commit(fx);
                self.send_entries(fx);
            }
            Role::Follower(_) => {
                self.follow_committed(fx);
                self.acknowledge(None, fx);
            }
            Role::Elect | Role::Stopped => {}
        }
    }

    /// Sends entries that were not sent yet, as far as the window allows.
    pub(crate) fn send_entries(&mut self, fx: &mut Vec<Effect>) {
        if !self.peer.connected {
            return;
        }
        let overlaps = self.own.conf.is_pair() || Bug::SoloSendsUndurable.planted();
        let sendable = if overlaps { self.log.last_lsn() } else { self.flushed };
        loop {
            let Role::Primary(primary) = &self.role else { return };
            let first = primary.next;
            let blocked = primary.copying || !primary.follows;
            if first > sendable || blocked || self.log.at(first.previous()).is_none() {
                return;
            }
            let window =
                self.log.run(primary.matched.next(), sendable, limits::WINDOW_ENTRIES, limits::WINDOW_BYTES);
            if window < first {
                return;
            }
            let last = self.log.run(first, window, limits::WINDOW_ENTRIES, limits::APPEND_BYTES);
            let Some(header) = self.header(first.previous()) else { return };
            if let Role::Primary(primary) = &mut self.role {
                primary.next = last.next();
            }
            fx.push(Effect::SendAppend { header, first, last });
        }
    }

    /// An append without entries: shows the peer who is primary, and asks for its promise.
    pub(crate) fn send_heartbeat(&mut self, fx: &mut Vec<Effect>) -> bool {
        let Role::Primary(primary) = &mut self.role else { return false };
        primary.beat = self.now;
        let base = self.log.base().lsn;
        // Under a solo configuration, which is resumed after a crash, nothing is named that a crash may take back (trap 24).
        let overlaps = self.own.conf.is_pair() || Bug::SoloNamesUndurable.planted();
        let named = if overlaps { self.log.last_lsn() } else { self.flushed };
        let previous = primary.next.previous().clamp(base, named.max(base));
        let Some(header) = self.header(previous) else { return false };
        fx.push(Effect::SendAppend { header, first: previous.next(), last: previous });
        true
    }

    fn header(&self, previous: Lsn) -> Option<AppendHeader> {
        let Role::Primary(primary) = &self.role else { return None };
        Some(AppendHeader {
            conf: self.own.conf,
            base: primary.base,
            previous: self.log.at(previous)?,
            committed: if Bug::TellsUnapplied.planted() { self.committed } else { self.applied },
            last: self.log.last_lsn(),
            heartbeat: Heartbeat { life: self.life, sent: self.now, promise: primary.promise },
            disk: self.disk,
        })
    }

    pub(crate) fn on_acknowledge(&mut self, answer: Acknowledge, fx: &mut Vec<Effect>) {
        let epoch = self.own.conf.epoch();
        let last = self.log.last_lsn();
        let is_pair = self.own.conf.is_pair();
        let named = *self.own.conf.members().get(self.me.peer());
        let base = self.log.base().lsn;
        let Role::Primary(primary) = &mut self.role else { return };
        let former = answer.heartbeat.life != self.life && !Bug::FormerLifeAnswers.planted();
        let stranger = is_pair && named != Some(answer.disk) && !Bug::OtherDiskAnswers.planted();
        if answer.epoch != epoch || former || stranger {
            return;
        }
        assert!(answer.matched <= last, "the secondary never holds more than the primary sent");
        if self.peer.disk != Some(answer.disk) && !Bug::OtherDiskInherits.planted() {
            primary.matched = Lsn::ZERO; // another disk: what the former one held says nothing
        }
        self.peer.disk = Some(answer.disk);
        self.peer.firm = None;
        if answer.matched > primary.matched || answer.matched == last {
            primary.moved = self.now;
        }
        primary.matched = primary.matched.max(answer.matched);
        primary.acknowledged = self.now;
        primary.follows = true;
        if !primary.offering || Bug::ServesWhileOffering.planted() {
            let Heartbeat { sent, promise, .. } = answer.heartbeat;
            let from = if Bug::LeaseFromReceipt.planted() { self.now } else { sent };
            let promise = if Bug::LeaseBeyondPromise.planted() { limits::PROMISE_MAX } else { promise };
            primary.lease_until = primary.lease_until.max(from.after(limits::lease(promise)));
        }
        let mut copy = false;
        if let Some(retry) = answer.retry_from {
            // One that was overtaken by a newer answer says nothing any more.
            let current = answer.heartbeat.sent > primary.proved && answer.heartbeat.sent >= primary.rewound;
            if (current || Bug::OvertakenAnswerCounts.planted()) && retry <= last.next() {
                primary.matched = primary.matched.min(retry.previous());
                // P10: a secondary in sync that lacks what it held before has lost it.
                primary.peer_damaged |= is_pair && retry <= primary.sure && !Bug::PeerDamageUnseen.planted();
                copy = retry.previous() < base && !primary.copying;
                primary.next = retry.max(base.next());
                primary.rewound = self.now;
                primary.copying |= copy;
            }
        } else {
            primary.proved = primary.proved.max(answer.heartbeat.sent);
            primary.next = primary.next.max(primary.matched.next());
        }
        self.peer.position = self.log.at(answer.matched).or(self.peer.position);
        if copy {
            fx.push(Effect::SendSnapshot { epoch });
        }
        self.commit(fx);
        self.send_entries(fx);
    }

    /// Raises `committed` as far as the configuration allows and has it applied.
    pub(crate) fn commit(&mut self, fx: &mut Vec<Effect>) {
        let Role::Primary(primary) = &self.role else { return };
        let both = self.flushed.min(primary.matched);
        let closing = primary.closing.is_some() && !Bug::ClosingCommits.planted();
        let alone = (self.effective_solo() && !closing) || Bug::PairCommitsAlone.planted();
        let target = if alone { self.flushed } else { both };
        self.raise_committed(target, fx);
    }

    pub(crate) fn raise_committed(&mut self, target: Lsn, fx: &mut Vec<Effect>) {
        assert!(target <= self.flushed, "nothing is committed before it is durable here");
        if target > self.committed {
            self.committed = target;
            fx.push(Effect::Apply { upto: target });
        }
    }

    /// First half of a rejoin: from now on acknowledgements wait for the secondary, so that it can catch up with a busy
    /// primary. Undone by `cancel`.
    pub(crate) fn close(&mut self) -> bool {
        let solo = self.own.conf.is_solo();
        let Role::Primary(primary) = &mut self.role else { return false };
        let may = solo && primary.pending.is_none() && primary.closing.is_none() && !primary.offering;
        if may {
            primary.closing = Some(self.now);
        }
        may
    }

    // ---- the secondary ----

    pub(crate) fn on_append(&mut self, header: AppendHeader, entries: Vec<Entry>, fx: &mut Vec<Effect>) {
        let revived = Bug::OldAppendTaken.planted() && header.conf.epoch() < self.own.conf.epoch();
        let header = if revived { AppendHeader { conf: self.own.conf, ..header } } else { header };
        if header.conf.epoch() < self.own.conf.epoch() {
            self.send_firm(fx); // the sender is deposed
            return;
        }
        if header.conf.epoch() > self.own.conf.epoch() {
            let message = Message::Append { header, entries };
            return self.adopt_from_peer(header.conf, message, fx);
        }
        if header.conf != self.own.conf {
            fx.push(Effect::Halt("P4: two configurations have the same epoch"));
            return;
        }
        if header.conf.primary() == self.me || !matches!(self.role, Role::Follower(_)) {
            return; // an append under my own configuration cannot be the peer's: an echo of a former life
        }
        self.peer.disk = Some(header.disk);
        self.peer.firm = None;
        self.peer.leaving = None;
        self.cut_dead_tail(&header, fx);
        if !Bug::PromiseNotGiven.planted() {
            self.promise_until = self.promise_until.max(self.now.after(header.heartbeat.promise));
        }
        self.hear_leader(&header);
        if self.is_installing() {
            return;
        }
        let Some(retry) = self.lacks(&header.previous, fx) else {
            return self.take_entries(&header, entries, fx);
        };
        self.acknowledge(Some(retry), fx);
    }

    /// Tail rule: entries of an older epoch above the primary's base are dead.
    fn cut_dead_tail(&mut self, header: &AppendHeader, fx: &mut Vec<Effect>) {
        let dead = self.log.at(header.base.next()).is_some_and(|entry| entry.epoch < header.conf.epoch());
        if dead && header.base >= self.log.base().lsn && !Bug::DeadTailKept.planted() {
            self.truncate(header.base, fx);
        }
    }

    fn hear_leader(&mut self, header: &AppendHeader) {
        let now = self.now;
        self.waiting = None;
        let Role::Follower(follower) = &mut self.role else { return };
        follower.pending = None;
        let before = follower.leader;
        // Messages may come out of order: the newest heartbeat of this life counts.
        let newer = before.is_none_or(|leader| {
            leader.heartbeat.life != header.heartbeat.life || leader.heartbeat.sent <= header.heartbeat.sent
        });
        follower.leader = Some(Leader {
            heard: now,
            heartbeat: before.filter(|_| !newer).map_or(header.heartbeat, |leader| leader.heartbeat),
            proved: before.map_or(Lsn::ZERO, |leader| leader.proved),
            committed: before.map_or(Lsn::ZERO, |leader| leader.committed).max(header.committed),
            last: header.last,
        });
    }

    /// Whether the entry before the append's first is missing or another here: then where to send from again.
    fn lacks(&mut self, previous: &Position, fx: &mut Vec<Effect>) -> Option<Lsn> {
        if previous.lsn < self.log.base().lsn {
            return None; // trimmed here: committed, so the same
        }
        let last = self.log.last_lsn();
        let Some(own) = self.log.at(previous.lsn) else { return Some(last.next()) };
        if Bug::PreviousUnchecked.planted() {
            return None;
        }
        if own.epoch != previous.epoch {
            if previous.lsn <= self.committed {
                self.diverge(previous.lsn, fx);
                return None;
            }
            // Not from further back than it may differ (P7).
            return Some(self.log.first_of_epoch_at(previous.lsn).max(self.committed.next()));
        }
        if own.digest != previous.digest {
            self.diverge(previous.lsn, fx);
            return None;
        }
        None
    }

    /// P6 or P7 does not hold between the two logs: one of them is not of this pair's history. Nothing is taken any more.
    fn diverge(&mut self, lsn: Lsn, fx: &mut Vec<Effect>) {
        let Role::Follower(follower) = &mut self.role else { return };
        if follower.diverged.is_none() {
            follower.diverged = Some(lsn);
            fx.push(Effect::Explain(alloc::format!(
                "The entry at LSN {lsn} contradicts the primary's history: this data is not this pair's, or was changed. \
                 Nothing is copied over it."
            )));
        }
    }

    fn take_entries(&mut self, header: &AppendHeader, entries: Vec<Entry>, fx: &mut Vec<Effect>) {
        if matches!(&self.role, Role::Follower(follower) if follower.diverged.is_some()) {
            return;
        }
        let mut previous = header.previous;
        let mut fresh = Vec::new();
        for entry in entries {
            if !entry.follows(&previous) || entry.epoch > header.conf.epoch() {
                return; // damaged on the way: as good as lost
            }
            previous = entry.position();
            if !fresh.is_empty() || !self.holds(&entry, fx) {
                fresh.push(entry);
            }
        }
        if let Some(entry) = fresh.first()
            && !entry.follows(&self.log.last())
        {
            self.diverge(entry.lsn, fx);
        }
        if matches!(&self.role, Role::Follower(follower) if follower.diverged.is_some()) {
            return;
        }
        for entry in &fresh {
            self.log.push(entry);
        }
        let nothing_new = fresh.is_empty();
        if Bug::CutsToMessage.planted() && nothing_new && self.log.last_lsn() > previous.lsn {
            self.truncate(previous.lsn, fx);
        }
        if !nothing_new {
            fx.push(Effect::Append { generation: self.generation, entries: fresh });
        }
        if let Role::Follower(follower) = &mut self.role
            && let Some(leader) = &mut follower.leader
        {
            leader.proved = leader.proved.max(previous.lsn);
        }
        self.follow_committed(fx);
        if nothing_new {
            self.acknowledge(None, fx);
        }
    }

    /// Whether the log holds this very entry. One of another epoch in its place is truncated away, with all after it.
    fn holds(&mut self, entry: &Entry, fx: &mut Vec<Effect>) -> bool {
        if entry.lsn <= self.log.base().lsn {
            return true;
        }
        match self.log.at(entry.lsn) {
            None => false,
            Some(own) if own.epoch == entry.epoch => {
                if own.digest != entry.digest {
                    self.diverge(entry.lsn, fx);
                }
                true
            }
            Some(_) => {
                self.truncate(entry.lsn.previous(), fx);
                false
            }
        }
    }

    fn truncate(&mut self, last: Lsn, fx: &mut Vec<Effect>) {
        assert!(matches!(self.role, Role::Follower(_)), "P7: a primary never truncates");
        if last < self.committed {
            return self.diverge(last.next(), fx); // P7: what was committed here is never truncated
        }
        self.log.truncate(last);
        self.generation += 1;
        self.flushed = self.flushed.min(last);
        if let Role::Follower(follower) = &mut self.role
            && let Some(leader) = &mut follower.leader
        {
            leader.proved = leader.proved.min(last);
        }
        fx.push(Effect::Truncate { generation: self.generation, last });
    }

    /// Applies what the primary has committed, as far as it is durable and proved equal here.
    pub(crate) fn follow_committed(&mut self, fx: &mut Vec<Effect>) {
        let Role::Follower(follower) = &self.role else { return };
        let Some(leader) = follower.leader else { return };
        let proved = if Bug::AppliesUnproved.planted() { self.flushed } else { leader.proved };
        self.raise_committed(leader.committed.min(proved).min(self.flushed), fx);
    }

    /// Answers the newest append, and with it renews the promise not to begin as primary.
    fn acknowledge(&mut self, retry_from: Option<Lsn>, fx: &mut Vec<Effect>) {
        let Role::Follower(follower) = &self.role else { return };
        let Some(leader) = follower.leader else { return };
        if follower.installing.is_some() || follower.diverged.is_some() {
            return;
        }
        fx.push(Effect::Send(Message::Acknowledge(Acknowledge {
            epoch: self.own.conf.epoch(),
            matched: if Bug::AcknowledgesBeforeFlush.planted() {
                leader.proved
            } else {
                leader.proved.min(self.flushed)
            },
            heartbeat: leader.heartbeat,
            retry_from,
            disk: self.disk,
        })));
    }

    // ---- copies and trimming ----

    pub(crate) fn on_snapshot(&mut self, epoch: Epoch, position: Position, fx: &mut Vec<Effect>) {
        // Never over entries this log shares with the primary's: they may have been acknowledged.
        let dead =
            self.log.at(position.lsn).is_some_and(|own| own != position && position.lsn > self.committed);
        let lacking = position.lsn > self.log.last_lsn() || Bug::CopyOverShared.planted();
        let wanted = epoch == self.own.conf.epoch() && (lacking || dead);
        match &mut self.role {
            Role::Follower(follower)
                if wanted && follower.installing.is_none() && follower.leader.is_some() =>
            {
                follower.installing = Some(position);
                self.generation += 1;
                fx.push(Effect::InstallSnapshot { generation: self.generation, position });
            }
            _ => fx.push(Effect::DropSnapshot),
        }
    }

    pub(crate) fn on_installed(&mut self, position: Position, fx: &mut Vec<Effect>) {
        let Role::Follower(follower) = &mut self.role else {
            assert!(self.role == Role::Stopped, "no right is exercised while a copy is installed");
            return;
        };
        assert!(follower.installing.take() == Some(position), "the copy that was to be installed");
        if let Some(leader) = &mut follower.leader {
            leader.proved = position.lsn;
        }
        self.log.reset(position);
        self.flushed = position.lsn;
        self.committed = position.lsn;
        self.applied = position.lsn;
        self.checkpointed = position.lsn;
        self.acknowledge(None, fx);
    }

    /// The log below a durable checkpoint may go, but for what a peer that was away for a short time will want.
    pub(crate) fn on_checkpointed(&mut self, lsn: Lsn, fx: &mut Vec<Effect>) {
        if lsn > self.committed {
            return; // of a copy whose installation is not reported yet
        }
        self.applied = self.applied.max(lsn); // the report of that may come later
        self.checkpointed = self.checkpointed.max(lsn);
        let bound = if Bug::TrimsPastCheckpoint.planted() { self.committed } else { self.checkpointed };
        let upto = Lsn(bound.0.min(self.log.last_lsn().0.saturating_sub(self.retained)));
        // What is written while a copy is on its way must still be there when it has arrived.
        let copying = matches!(&self.role, Role::Primary(primary) if primary.copying && !Bug::TrimsDuringCopy.planted());
        if copying || upto <= self.log.base().lsn {
            return;
        }
        self.log.trim(upto);
        if let Role::Primary(primary) = &mut self.role {
            primary.next = primary.next.max(upto.next()); // a secondary that lacks more will ask, and be given a copy
        }
        fx.push(Effect::Trim { upto });
    }
}
