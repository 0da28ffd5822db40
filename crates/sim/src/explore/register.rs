//! The witnesses' registers: conditional writes that are applied at once, late or never, answered or not.

use super::explorer::{Cas, Explorer, Next};
use super::node::{CURRENT, Stimulus};
use super::oracle;
use super::tamper::Tamper;
use super::world::{Event, Fate, Pending, Step, Witness, World};

impl Explorer {
    pub(super) fn forget_waiting(&mut self, world: &mut World, who: usize) {
        let mut witness = self.witnesses.get(world.witness).clone();
        for pending in witness.pending.iter_mut().filter(|pending| usize::from(pending.from) == who) {
            pending.waiting = false;
        }
        normalize(&mut witness);
        world.witness = self.witnesses.intern(witness).0;
    }

    /// A register's record is another one now: conditional writes that expected the old one can never be applied.
    pub(super) fn replace_record(&mut self, world: &mut World, at: usize, record: Option<u32>) {
        let record = match record {
            Some(record) => {
                let Some(mut value) = self.records.get(record).clone() else { return };
                value.revision = CURRENT;
                Some(value)
            }
            None => None,
        };
        let record = self.records.intern(record).0;
        let mut witness = self.witnesses.get(world.witness).clone();
        witness.records[at] = record;
        if self.tamper != Some(Tamper::UnconditionalWrite) {
            for pending in witness.pending.extract_if(.., |pending| pending.at == at) {
                if pending.waiting {
                    let who = usize::from(pending.from);
                    world.nodes[who] = self.only(world.nodes[who], Stimulus::AnswerSent(false));
                }
            }
        }
        world.witness = self.witnesses.intern(witness).0;
        for who in 0..2 {
            let moved = Stimulus::RecordMoved(u8::from(at == 1));
            world.nodes[who] = self.only(world.nodes[who], moved);
        }
    }

    pub(super) fn write(
        &mut self,
        from: &World,
        world: &World,
        Cas { at, expected, record }: Cas,
        step: Step,
        out: &mut Vec<Next>,
    ) {
        let who = step.who;
        if self.witnesses.get(world.witness).foreign && at == 0 {
            self.happen_as(from, world, Stimulus::Silence, Step { fate: Some(Fate::Lost), ..step }, out);
            let step = Step { fate: Some(Fate::Refused), ..step };
            return self.happen_as(from, world, Stimulus::Written(false), step, out);
        }
        let held = self.record(world, at).cloned();
        let Some(next) = self.records.get(record).clone() else { return };
        let fits = match &held {
            Some(held) => expected == held.revision,
            None => expected == 0,
        } || self.tamper == Some(Tamper::UnconditionalWrite);
        if let Some(held) = held.filter(|_| fits && self.tamper.is_none())
            && let Err(violation) = oracle::check_write(self.facts(world.nodes[who]), at, &held, &next)
        {
            let violation = self.violations.intern(violation).0;
            out.push((*world, step, Err(violation)));
            return;
        }
        self.happen_as(from, world, Stimulus::Silence, Step { fate: Some(Fate::Lost), ..step }, out);
        if !fits {
            let step = Step { fate: Some(Fate::Refused), ..step };
            return self.happen_as(from, world, Stimulus::Written(false), step, out);
        }
        let mut applied = *world;
        self.apply(&mut applied, at, record);
        self.happen_as(
            from,
            &applied,
            Stimulus::Written(true),
            Step { fate: Some(Fate::Applied), ..step },
            out,
        );
        let mut silent = applied;
        silent.nodes[who] = self.only(silent.nodes[who], Stimulus::AnswerSent(true));
        self.arrive(from, silent, Step { fate: Some(Fate::AnswerLate), ..step }, out);
        if world.left.late > 0 {
            let mut later = *world;
            later.left.late -= 1;
            let mut witness = self.witnesses.get(later.witness).clone();
            witness.pending.push(Pending { from: u8::from(who == 1), at, record, waiting: true });
            normalize(&mut witness);
            later.witness = self.witnesses.intern(witness).0;
            self.arrive(from, later, Step { fate: Some(Fate::Late), ..step }, out);
        }
    }

    pub(super) fn apply(&mut self, world: &mut World, at: usize, record: u32) {
        let old_part = self.record(world, at).and_then(|old| old.part);
        let mut record = record;
        if self.tamper == Some(Tamper::PartKept)
            && let Some(mut value) = self.records.get(record).clone()
            && value.part.is_none()
        {
            value.part = old_part;
            record = self.records.intern(Some(value)).0;
        }
        self.replace_record(world, at, Some(record));
    }

    pub(super) fn apply_late(&mut self, world: &World, place: usize, out: &mut Vec<Next>) {
        let mut witness = self.witnesses.get(world.witness).clone();
        let pending = witness.pending.remove(place);
        let who = usize::from(pending.from);
        let mut next = *world;
        next.witness = self.witnesses.intern(witness).0;
        self.apply(&mut next, pending.at, pending.record);
        if pending.waiting && self.facts(next.nodes[who]).seen.as_ref().is_some_and(|seen| seen.asking) {
            next.nodes[who] = self.only(next.nodes[who], Stimulus::AnswerSent(true));
        }
        let step = Step::at_witness(who, Event::Applies(pending.record));
        self.arrive(world, next, step, out);
    }
}

/// In order, each once.
pub fn normalize(witness: &mut Witness) {
    witness.pending.sort_by_key(|pending| (pending.from, pending.at, pending.record, pending.waiting));
    witness.pending.dedup();
}
