//! What must hold in every state: S1-S4, G2-G5, and those of P1-P11 that can be seen from outside.
//!
//! The core asserts its local invariants itself; a panic or a halt is a violation like any other.

use duet_protocol::entitlement::Entitlement;
use duet_protocol::explore::Inspection;
use duet_protocol::{
    Appliance, ApplianceId, Conf, DiskId, Epoch, LogIndex, Lsn, Message, OwnState, Position, RecoveredLog,
    RoleName, Stamp, WitnessRecord,
};

use super::node::{Hurt, Node, is_primary};
use super::pool::quick_hash;
use super::start::DISKS;
use super::world::{REGISTERS, place_of};

/// What the registers hold.
pub type Records<'a> = [Option<&'a WitnessRecord>; REGISTERS];

/// What was promised to clients so far.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct History {
    /// Every write acknowledged, or readable on a primary, in order.
    pub acknowledged: Vec<Position>,
    /// The newest configuration that ever was in force.
    pub newest: Conf,
}

/// What the oracle reads of an appliance, computed once.
pub struct Facts {
    /// Which appliance.
    pub appliance: ApplianceId,
    /// Its durable own state.
    pub own: OwnState,
    /// The core's view, while it runs.
    pub seen: Option<Inspection>,
    /// The log as the process knows it; the disk's while it is down.
    pub log: Vec<Position>,
    /// Every log a crash may leave.
    pub recoverable: Vec<Vec<Position>>,
    /// The configurations it holds or has proposed.
    pub confs: Vec<Mark>,
    /// As far as it knows, the peer's disk.
    pub peer_disk: Option<DiskId>,
    /// Its disk has lost entries that it had called durable.
    pub hurt: Option<Hurt>,
    /// Its disk is the one that was given to it first.
    pub original: bool,
    index: LogIndex,
}

impl Facts {
    /// The facts of a node.
    pub fn of(node: &Node) -> Self {
        let positions =
            |ops| node.log_after(ops).iter().map(duet_protocol::Entry::position).collect::<Vec<_>>();
        let entries = node.log();
        let stamps = entries.iter().map(|entry| Stamp { epoch: entry.epoch, digest: entry.digest, bytes: 1 });
        let seen = node.core.as_ref().map(Appliance::inspect);
        let pending = seen.as_ref().and_then(|seen| seen.pending).map(|(_, conf)| conf);
        Self {
            confs: [Some(node.own.conf), node.own.tent, pending].iter().flatten().map(mark).collect(),
            appliance: node.own.appliance,
            own: node.own.clone(),
            seen,
            log: entries.iter().map(duet_protocol::Entry::position).collect(),
            recoverable: (0..=node.ops.len()).map(positions).collect(),
            peer_disk: node.core.as_ref().and_then(Appliance::peer_disk),
            hurt: node.hurt,
            original: node.own.disk == *DISKS.get(node.own.appliance),
            index: LogIndex::new(RecoveredLog { base: Position::EMPTY, stamps: stamps.collect() }),
        }
    }

    fn primary(&self) -> Option<&Inspection> {
        self.seen.as_ref().filter(|seen| is_primary(seen.role))
    }

    /// Whether it answers linearizable reads now.
    pub fn serves(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.serves_reads)
    }

    /// What is known of the log's entries.
    pub const fn index(&self) -> &LogIndex {
        &self.index
    }

    /// Whether it may ask the witness to be primary alone: the one it asks, or the one it counts on until an agreement on
    /// another is known to be in force.
    pub fn entitled(&self, records: Records) -> bool {
        [self.own.witness(), self.own.conf.witness()].into_iter().any(|witness| {
            let judge = |record| Entitlement::judge(&self.own, &self.index, witness, record).may();
            records[place_of(witness)].is_some_and(judge)
        })
    }

    /// Whether it may begin with neither witness nor peer.
    pub fn may_begin_alone(&self) -> bool {
        let conf = &self.own.conf;
        conf.is_solo()
            && conf.has(self.appliance, self.own.disk)
            && !self.own.has_parted()
            && self.own.tent.is_none()
    }
}

fn holds(log: &[Position], acknowledged: &[Position]) -> bool {
    log.len() >= acknowledged.len() && log[..acknowledged.len()] == *acknowledged
}

fn place(lsn: Lsn) -> usize {
    usize::try_from(lsn.0).unwrap_or(usize::MAX)
}

impl History {
    /// Adds what an appliance has acknowledged, and what the three hold of configurations.
    pub fn extended(&self, facts: [&Facts; 2], records: Records) -> Result<Self, String> {
        let mut next = self.clone();
        for it in facts {
            let Some(primary) = it.primary() else { continue };
            let committed = it.log.get(..place(primary.committed)).unwrap_or(&it.log);
            let common = committed.len().min(next.acknowledged.len());
            if committed[..common] != next.acknowledged[..common] {
                return Err(format!("S1: {} commits another history than was acknowledged", it.appliance));
            }
            next.acknowledged.extend_from_slice(&committed[common..]);
        }
        let held = facts.map(|it| [Some(it.own.conf), it.own.tent]);
        let at_witnesses = records.map(|record| record.map(|record| record.conf));
        for conf in held.iter().flatten().flatten().chain(at_witnesses.iter().flatten()) {
            let its_witness = at_witnesses[place_of(conf.witness())];
            let copies = held.iter().filter(|confs| confs.contains(&Some(*conf))).count()
                + usize::from(its_witness == Some(*conf));
            // A witness that has lost its record was one of the two: what an appliance knows to be in force has to do.
            let known = its_witness.is_none() && facts.iter().any(|it| it.own.conf == *conf);
            if (copies >= 2 || known) && conf.epoch() > next.newest.epoch() {
                next.newest = *conf;
            }
        }
        Ok(next)
    }
}

/// What must hold of one appliance.
pub fn check_one(it: &Facts, history: &History) -> Result<(), String> {
    let name = it.appliance;
    let acknowledged = &history.acknowledged;
    if let Some(seen) = &it.seen {
        if seen.diverged {
            return Err(format!("P6: {name} sees another history under the same epoch"));
        }
        if seen.damaged && it.hurt.is_none() && it.original {
            return Err(format!("section 10: {name} takes a sound disk for a damaged one"));
        }
        let committed = it.log.get(..place(seen.committed)).ok_or("the committed LSN is beyond the log")?;
        if !holds(acknowledged, committed) {
            return Err(format!("S1: {name} holds as committed what was never acknowledged"));
        }
        if seen.serves_reads && !holds(&it.log, acknowledged) {
            return Err(format!("S1, S2: {name} serves without an acknowledged write"));
        }
        if seen.serves_reads && place(seen.applied) < acknowledged.len() {
            return Err(format!("S2: {name} serves reads of a state older than an acknowledged write"));
        }
        if let Some(core_log) =
            (seen.last.lsn != it.log.last().map_or(Lsn::ZERO, |last| last.lsn)).then_some(seen.last)
        {
            return Err(format!("the log's index ends at {core_log}, the log elsewhere"));
        }
    }
    check_hurt(it, history)?;
    let pardoned = it.hurt.is_some_and(|hurt| history.newest.epoch() <= hurt.known);
    if !pardoned
        && history.newest.has(name, it.own.disk)
        && !it.recoverable.iter().all(|log| holds(log, acknowledged))
    {
        return Err(format!("S4: {name} is in sync by {} and lacks an acknowledged write", history.newest));
    }
    Ok(())
}

/// G13: an appliance whose disk has lost writes is not primary before it holds them again.
fn check_hurt(it: &Facts, history: &History) -> Result<(), String> {
    let Some(hurt) = it.hurt else { return Ok(()) };
    let owed = &history.acknowledged[..hurt.acknowledged];
    let leads = it.seen.as_ref().is_some_and(|seen| is_primary(seen.role) || seen.role == RoleName::Elect);
    if leads && !holds(&it.log, owed) {
        return Err(format!("G13: {} is primary, its disk has lost acknowledged writes", it.appliance));
    }
    Ok(())
}

/// P7, and more: nobody ever truncates an acknowledged entry it holds.
pub fn check_cut(before: &Facts, last: Lsn, history: &History) -> Result<(), String> {
    let acknowledged = history.acknowledged.get(place(last)..).unwrap_or(&[]);
    let lost = before.log.iter().find(|entry| acknowledged.contains(entry));
    match lost {
        Some(lost) => Err(format!("P7: {} truncates an acknowledged entry, {lost}", before.appliance)),
        None => Ok(()),
    }
}

/// What must hold of both together.
pub fn check_both(a: &Facts, b: &Facts) -> Result<(), String> {
    if a.serves() && b.serves() {
        return Err("G2: both serve linearizable reads".into());
    }
    if a.primary().is_some() && b.primary().is_some() && a.own.conf.epoch() == b.own.conf.epoch() {
        return Err("G3: both are primary in the same epoch".into());
    }
    for (x, y) in [(a, b), (b, a)] {
        let leased = x.primary().is_some_and(|primary| primary.lease_runs);
        if leased && y.seen.as_ref().is_some_and(|seen| !seen.promise_runs) {
            return Err(format!(
                "G5: {} holds a lease and {}'s promise has run out",
                x.appliance, y.appliance
            ));
        }
    }
    for (one, other) in a.log.iter().zip(&b.log) {
        if one.epoch == other.epoch && one != other {
            return Err(format!("S3, P6: two entries at LSN {} have epoch {}", one.lsn, one.epoch));
        }
    }
    Ok(())
}

/// What must hold of an appliance, its peer and the witnesses' records.
pub fn check_alone(x: &Facts, peer: &Facts, records: Records) -> Result<(), String> {
    let alone = x.primary().is_some_and(|primary| primary.effective_solo && primary.pending.is_none());
    if !alone {
        return Ok(());
    }
    if peer.entitled(records) {
        return Err(format!("G4: {} serves alone and {} may ask the witness", x.appliance, peer.appliance));
    }
    if peer.may_begin_alone() {
        return Err(format!("G4: {} serves alone and {} may begin alone", x.appliance, peer.appliance));
    }
    Ok(())
}

/// P8.
pub fn check_record(record: &WitnessRecord, facts: [&Facts; 2]) -> Result<(), String> {
    if record.part.is_none() {
        return Ok(());
    }
    let primary = record.conf.primary();
    let own = facts.iter().find(|it| it.appliance == primary).map(|it| &it.own);
    let replaced = own.is_some_and(|own| !record.conf.has(primary, own.disk));
    let parted =
        own.is_some_and(|own| own.parted == record.conf.epoch() || own.conf.epoch() > record.conf.epoch());
    if !record.conf.is_solo() || !(parted || replaced) {
        return Err(format!("P8: the witness holds a position, {primary} has not parted"));
    }
    Ok(())
}

/// A configuration in short: its epoch, and a hash of all of it.
pub type Mark = (u64, u64);

/// A configuration in short.
pub fn mark(conf: &Conf) -> Mark {
    (conf.epoch().0, quick_hash(conf))
}

/// P4: configurations of one epoch are one.
pub fn check_confs(confs: &[Mark]) -> Result<(), String> {
    for (place, (epoch, hash)) in confs.iter().enumerate() {
        if confs[..place].iter().any(|(other, its)| other == epoch && its != hash) {
            return Err(format!("P4: two configurations of epoch {epoch}"));
        }
    }
    Ok(())
}

/// The configurations a message names.
pub fn confs_of(message: &Message) -> Vec<Mark> {
    match message {
        Message::Append { header, .. } => vec![mark(&header.conf)],
        Message::Propose(proposal) => vec![mark(&proposal.conf), mark(&proposal.base)],
        Message::Stored(conf) => vec![mark(conf)],
        Message::Firm(firm) => vec![mark(&firm.conf)],
        Message::Acknowledge(_) | Message::Leave | Message::AskReadIndex(_) | Message::ReadIndex(_) => {
            Vec::new()
        }
    }
}

/// P9, P12 and section 16: a write to the witness is a TAKE, a PART, a SYNC or a NOTE, and nothing else.
pub fn check_write(
    writer: &Facts,
    at: usize,
    read: &WitnessRecord,
    next: &WitnessRecord,
) -> Result<(), String> {
    let own = &writer.own;
    let me = writer.appliance;
    let here = place_of(next.conf.witness()) == at;
    let position = writer.log.last().copied().unwrap_or_default();
    let take = next.conf.epoch() > read.conf.epoch()
        && next.conf.epoch() == own.max_epoch
        && here
        && next.conf == Conf::solo(next.conf.epoch(), me, own.disk).at(next.conf.witness())
        && next.part.is_none();
    let current = here && next.conf == own.conf && next.conf.epoch() >= read.conf.epoch();
    let part = current && next.conf.is_solo() && own.has_parted() && next.part == Some(position);
    let sync = current && next.part.is_none() && next.conf.primary() == me && next.conf.epoch() > Epoch::ZERO;
    let note = next.conf == read.conf && next.part == read.part;
    let floors = next.floor.a >= read.floor.a && next.floor.b >= read.floor.b;
    if !(take || part || sync || note) || !floors || next.revision != read.revision + 1 {
        return Err(format!("P9: {me} writes {} over {}", next.conf, read.conf));
    }
    Ok(())
}
