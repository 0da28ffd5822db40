//! What befalls disks while their appliance is down, and the witness by itself: entries lost that were called durable, blank
//! disks in the place of old ones, `init`, an emptied witness, a witness's address that leads to another pair's record.

use duet_protocol::{Action, ApplianceId, Epoch, Lsn, OwnState, WitnessRecord, entitlement};

use super::explorer::{Explorer, Next};
use super::node::{Hurt, Node, Stimulus, is_primary};
use super::oracle::Facts;
use super::register::normalize;
use super::start::{CLUSTER, DISKS, SPARE_DISKS, first_record};
use super::world::{Bounds, Event, Pending, REGISTERS, Step, World, place_of};

impl Explorer {
    pub(super) fn at_witness(&mut self, world: &World, out: &mut Vec<Next>) {
        let left = world.left;
        let holds = self.record(world, 0).is_some();
        let foreign = self.witnesses.get(world.witness).foreign;
        for at in 0..REGISTERS {
            if left.losses > 0 && self.record(world, at).is_some() {
                let mut next = World { left: Bounds { losses: left.losses - 1, ..left }, ..*world };
                self.replace_record(&mut next, at, None);
                self.arrive(world, next, Step::at_witness(0, Event::Loses(u8::from(at == 1))), out);
            }
        }
        for who in 0..2 {
            self.mark_former(world, who, out);
        }
        if foreign {
            let next = self.readdressed(world, false);
            self.arrive(world, next, Step::at_witness(0, Event::Back), out);
        } else if left.foreigns > 0 {
            let mut next = self.readdressed(world, true);
            next.left.foreigns -= 1;
            self.arrive(world, next, Step::at_witness(0, Event::Foreign), out);
        }
        if left.inits > 0 && !holds && !foreign {
            self.init(world, out);
        }
    }

    /// A primary leaves its configuration with the former witness, so that whoever comes there knows. It decides nothing.
    fn mark_former(&mut self, world: &World, who: usize, out: &mut Vec<Next>) {
        let facts = self.facts(world.nodes[who]);
        let conf = facts.own.conf;
        let at = 1 - place_of(conf.witness());
        let leads = facts.seen.as_ref().is_some_and(|seen| is_primary(seen.role));
        let Some(former) = self.record(world, at).cloned() else { return };
        if !leads || conf.witness() <= former.conf.witness() || self.witnesses.get(world.witness).foreign {
            return;
        }
        let mark = WitnessRecord { conf, part: None, writer: conf.primary(), ..former };
        let record = self.records.intern(Some(mark)).0;
        let mut marked = *world;
        self.replace_record(&mut marked, at, Some(record));
        self.coverage.mark("former witness marked");
        self.arrive(world, marked, Step::at_witness(who, Event::Marks), out);
        if world.left.late > 0 {
            let left = Bounds { late: world.left.late - 1, ..world.left };
            let mut witness = self.witnesses.get(world.witness).clone();
            witness.pending.push(Pending { from: u8::from(who == 1), at, record, waiting: false });
            normalize(&mut witness);
            let later = World { left, witness: self.witnesses.intern(witness).0, ..*world };
            self.arrive(world, later, Step::at_witness(who, Event::MarksLate), out);
        }
    }

    fn readdressed(&mut self, world: &World, foreign: bool) -> World {
        let mut witness = self.witnesses.get(world.witness).clone();
        witness.foreign = foreign;
        World { witness: self.witnesses.intern(witness).0, ..*world }
    }

    /// `init` on A: its data directory is locked by nobody and was never in use.
    fn init(&mut self, world: &World, out: &mut Vec<Next>) {
        let node = self.nodes.get(world.nodes[0]);
        let unused = node.own.conf.is_none() && node.own.max_epoch == Epoch::ZERO;
        if node.core.is_some() || !unused {
            return;
        }
        let mut record = first_record(CLUSTER, ApplianceId::A);
        record.conf = duet_protocol::Conf::solo(record.conf.epoch(), ApplianceId::A, node.own.disk);
        let record = self.records.intern(Some(record)).0;
        let left = Bounds { inits: world.left.inits - 1, ..world.left };
        let mut made = World { left, ..*world };
        self.replace_record(&mut made, 0, Some(record));
        self.arrive(world, made, Step::at_witness(0, Event::Init), out);
        if left.late > 0 {
            let left = Bounds { late: left.late - 1, ..left };
            let mut witness = self.witnesses.get(world.witness).clone();
            witness.pending.push(Pending { from: 0, at: 0, record, waiting: false });
            normalize(&mut witness);
            let later = World { left, witness: self.witnesses.intern(witness).0, ..*world };
            self.arrive(world, later, Step::at_witness(0, Event::InitLate), out);
        }
    }

    /// What befalls the disk of an appliance that is down.
    pub(super) fn while_down(&mut self, world: &World, who: usize, out: &mut Vec<Next>) {
        let left = world.left;
        if left.blanks > 0 {
            let appliance = ApplianceId::ALL[who];
            let spare = *SPARE_DISKS.get(appliance);
            if self.facts(world.nodes[who]).own.disk == *DISKS.get(appliance) {
                let blank = Node::down(OwnState::blank(CLUSTER, appliance, spare), Vec::new(), Lsn::ZERO);
                let mut next = World { left: Bounds { blanks: left.blanks - 1, ..left }, ..*world };
                next.nodes[who] = self.intern(blank);
                self.coverage.mark("disk replaced");
                self.arrive(world, next, Step::of(who, Stimulus::Replace), out);
            }
        }
        if left.damages == 0 || self.witnesses.get(world.witness).foreign {
            return;
        }
        let Some(record) = self.record(world, self.asked_by(world, who)).cloned() else { return };
        let node = self.nodes.get(world.nodes[who]).clone();
        let history = self.histories.get(world.history);
        let known = history.newest.epoch().max(node.own.max_epoch);
        let hurt = Hurt { acknowledged: history.acknowledged.len(), known };
        for kept in 0..node.disk.len() {
            let lsn = Lsn(kept as u64);
            let mut damaged = Node { hurt: Some(hurt), ..node.clone() };
            damaged.disk.truncate(kept);
            damaged.checkpoint = damaged.checkpoint.min(lsn);
            if lsn < damaged.base || !Facts::of(&damaged).is_damaged(&record) {
                continue;
            }
            let mut next = World { left: Bounds { damages: left.damages - 1, ..left }, ..*world };
            next.nodes[who] = self.intern(damaged);
            self.coverage.mark("disk lost durable entries");
            let kept = u8::try_from(kept).unwrap_or(u8::MAX);
            self.arrive(world, next, Step::of(who, Stimulus::Damage(kept)), out);
        }
    }

    /// The process starts. One whose disk has lost writes hears the witness before anything else: who hears nobody that knows
    /// cannot know (docs/protocol.md, *Limits of the proof*).
    pub(super) fn restart(&mut self, world: &World, who: usize, out: &mut Vec<Next>) {
        let step = Step::of(who, Stimulus::Restart);
        if self.nodes.get(world.nodes[who]).hurt.is_none() {
            return self.happen_as(world, world, Stimulus::Restart, step, out);
        }
        let record = self.shown(world, who);
        let held = self.record(world, self.asked_by(world, who));
        let told = held.is_some_and(|record| self.facts(world.nodes[who]).is_damaged(record));
        if !told || self.witnesses.get(world.witness).foreign {
            return; // nothing is proved about a disk of which nobody can tell
        }
        let mut started = Vec::new();
        self.happen_as(world, world, Stimulus::Restart, step, &mut started);
        for (next, step, result) in started {
            match result {
                Ok(()) => self.happen_as(world, &next, Stimulus::Attempt(Action::Look, record), step, out),
                Err(_) => out.push((next, step, result)),
            }
        }
    }
}

impl Facts {
    /// Whether the witness's record tells that this disk has lost writes.
    pub fn is_damaged(&self, record: &duet_protocol::WitnessRecord) -> bool {
        entitlement::is_damaged(&self.own, self.index(), record)
    }
}
