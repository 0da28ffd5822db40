//! Arriving in a state: what can do nothing any more is forgotten, and the oracle looks at it.

use duet_protocol::{Lsn, Message, Position};

use super::explorer::{Explorer, Next};
use super::node::{NOW, PRESENT, is_copy, is_primary};
use super::oracle::{self, Facts, History, Records};
use super::register::normalize;
use super::world::{NONE, Pending, Step, World, tidy};

impl Explorer {
    pub(super) fn arrive(&mut self, from: &World, mut next: World, step: Step, out: &mut Vec<Next>) {
        self.settle_waiting(&mut next);
        // A blank disk forgets what made them dead.
        if self.tamper.is_none() && !self.keeps_all && next.left.blanks == 0 {
            self.drop_dead(&mut next);
        }
        if next == *from {
            return;
        }
        let result = self.judge(&mut next);
        out.push((next, step, result));
    }

    /// Messages that can never again do more than a rule tried by itself would do take no room.
    pub(super) fn drop_dead(&self, world: &mut World) {
        for (to, inbox) in world.net.iter_mut().enumerate() {
            let receiver = &self.facts[world.nodes[to] as usize];
            let mut dropped = false;
            for slot in inbox.iter_mut().filter(|slot| **slot != NONE) {
                if is_dead(self.messages.get(*slot), receiver) {
                    *slot = NONE;
                    dropped = true;
                }
            }
            if dropped {
                tidy(inbox);
            }
        }
    }

    /// A write nobody waits for any more is not waited for.
    pub(super) fn settle_waiting(&mut self, world: &mut World) {
        let witness = self.witnesses.get(world.witness);
        let idle = |pending: &Pending| {
            let node = self.nodes.get(world.nodes[usize::from(pending.from)]);
            pending.waiting && (node.asked.is_none() || node.answer.is_some())
        };
        if !witness.pending.iter().any(idle) {
            return;
        }
        let mut settled = witness.clone();
        for pending in &mut settled.pending {
            if idle(pending) {
                pending.waiting = false;
            }
        }
        normalize(&mut settled);
        world.witness = self.witnesses.intern(settled).0;
    }

    pub(super) fn judge(&mut self, next: &mut World) -> Result<(), u32> {
        let records = self.witnesses.get(next.witness).records;
        let key = (next.history, next.nodes, records);
        let judged = if let Some(&known) = self.judged.get(&key) {
            known
        } else {
            let facts = next.nodes.map(|node| &self.facts[node as usize]);
            let held = records.map(|record| self.records.get(record).as_ref());
            let fresh = judge(self.histories.get(next.history), facts, held);
            let fresh = match fresh {
                Ok(history) => Ok(self.histories.intern(history).0),
                Err(violation) => Err(self.violations.intern(violation).0),
            };
            self.judged.insert(key, fresh);
            fresh
        };
        next.history = judged?;
        self.check_confs(next)
    }

    pub(super) fn check_confs(&mut self, world: &World) -> Result<(), u32> {
        let mut confs = [(0, 0); 32];
        let mut count = 0;
        let mut add = |marks: &[oracle::Mark]| {
            for mark in marks {
                if count < confs.len() {
                    confs[count] = *mark;
                    count += 1;
                }
            }
        };
        for node in world.nodes {
            add(&self.facts[node as usize].confs);
        }
        let witness = self.witnesses.get(world.witness);
        let records = witness.pending.iter().map(|pending| pending.record).chain(witness.records);
        for record in records {
            if let Some(record) = self.records.get(record) {
                add(&[oracle::mark(&record.conf)]);
            }
        }
        for to in 0..2 {
            for message in Self::inbox(world, to) {
                let messages = &self.messages;
                let marks = self
                    .message_confs
                    .entry(message)
                    .or_insert_with(|| oracle::confs_of(messages.get(message)).into());
                add(marks);
            }
        }
        oracle::check_confs(&confs[..count]).map_err(|violation| self.violations.intern(violation).0)
    }
}

/// The whole oracle on one state: the history with what was newly promised.
fn judge(history: &History, facts: [&Facts; 2], records: Records) -> Result<History, String> {
    let history = history.extended(facts, records)?;
    let [a, b] = facts;
    oracle::check_one(a, &history)?;
    oracle::check_one(b, &history)?;
    oracle::check_both(a, b)?;
    oracle::check_alone(a, b, records)?;
    oracle::check_alone(b, a, records)?;
    for record in records.into_iter().flatten() {
        oracle::check_record(record, facts)?;
    }
    Ok(history)
}

/// Whether a message is of no consequence, now and for ever, or of none that trying `SendFirm` or `Heartbeat` has not too:
/// configurations and the highest epoch known never fall, and former lives do not come back.
fn is_dead(message: &Message, receiver: &Facts) -> bool {
    let own = &receiver.own;
    let seen = receiver.seen.as_ref();
    match message {
        Message::Append { header, entries } => {
            let older = header.conf.epoch() < own.conf.epoch();
            let late = header.heartbeat.sent < NOW;
            let follows = header.conf == own.conf && own.tent.is_none();
            let held = |position: &Position| position.lsn == Lsn::ZERO || receiver.log.contains(position);
            let all_held = held(&header.previous) && entries.iter().all(|entry| held(&entry.position()));
            let told = seen.is_some_and(|seen| header.committed <= seen.committed);
            let beyond =
                receiver.log.iter().any(|own| own.lsn > header.base && own.epoch < header.conf.epoch());
            older || (late && !is_copy(message) && follows && all_held && told && !beyond)
        }
        Message::Acknowledge(answer) => {
            let primary = seen.filter(|seen| is_primary(seen.role));
            let nothing_new = primary.is_some_and(|primary| {
                primary.follows
                    && answer.matched <= primary.matched
                    && answer.retry_from.is_none()
                    && answer.heartbeat.sent < NOW
            });
            let older = answer.epoch < own.conf.epoch() || answer.heartbeat.life != PRESENT;
            older || primary.is_none() || nothing_new
        }
        Message::Propose(proposal) => {
            proposal.conf.epoch() <= own.max_epoch && own.tent != Some(proposal.conf)
        }
        // It was proposed before it was stored, and nothing is proposed twice.
        Message::Stored(conf) => {
            seen.and_then(|seen| seen.pending).is_none_or(|(_, pending)| pending != *conf)
        }
        Message::Firm(firm) => {
            firm.conf.epoch() <= own.conf.epoch()
                && firm.max_epoch <= own.max_epoch
                && (receiver.peer_disk == Some(firm.disk) || receiver.seen.is_none())
        }
        Message::Leave => true,
        Message::AskReadIndex(_) | Message::ReadIndex(_) => false,
    }
}
