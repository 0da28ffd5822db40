//! Availability: from every situation reached, with nothing failing any more, a pair comes to serve; and an appliance that is
//! entitled comes to serve alone.
//!
//! A situation is what outlasts the messages on their way: both appliances and the witness's record. What becomes of it is
//! computed, with the duties acting, once for each.

use super::calm::{Calm, Company};
use super::drive::Surroundings;
use super::explorer::Explorer;
use super::pool::Pool;
use super::search::{Found, Search};
use super::world::{NONE, REGISTERS, World, place_of};

/// The situations met, each with the first state it was met in.
#[derive(Default)]
pub struct Situations {
    /// Whether they are collected.
    pub wanted: bool,
    met: Pool<[u32; 4]>,
    first: Vec<u32>,
}

impl Situations {
    /// Remembers the situation of a state.
    pub fn add(&mut self, world: &World, explorer: &Explorer, state: u32) {
        if !self.wanted {
            return;
        }
        let [first, second] = explorer.witnesses.get(world.witness).records;
        if self.met.intern([world.nodes[0], world.nodes[1], first, second]).1 {
            self.first.push(state);
        }
    }
}

/// What came of the search for ways out.
#[derive(Clone, Debug, Default)]
pub struct WaysOut {
    /// Different situations.
    pub situations: usize,
    /// Computations in which somebody was to come to serve, and did or not.
    pub expected: usize,
    /// Situations from which nobody does, the nearest first.
    pub stuck: Vec<Found>,
}

/// More of one kind tell nothing new.
const MOST_STUCK: usize = 3;

impl Search {
    /// From so many of the situations met, evenly spread.
    pub fn ways_out(&mut self, most: usize) -> WaysOut {
        let mut result = WaysOut { situations: self.situations.met.len(), ..WaysOut::default() };
        let mut known: Pool<[u32; 4]> = Pool::default();
        for number in (0..result.situations).step_by(result.situations.div_ceil(most.max(1)).max(1)) {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            let [a, b, first, second] = *self.situations.met.get(number);
            for company in Company::EVERY {
                let key = match company {
                    Company::All => [a, b, first, second],
                    Company::NoWitness => [a, b, NONE, NONE],
                    Company::WithWitness(who) => [[a, b][who], NONE, first, second],
                    Company::Alone(who) => [[a, b][who], NONE, NONE, NONE],
                };
                if !known.intern(key).1 {
                    continue;
                }
                let Some(outcome) = self.explorer.way_out(company, [a, b], [first, second]) else { continue };
                result.expected += 1;
                let complaint = match outcome {
                    Ok(true) => continue,
                    Ok(false) => format!("availability, {company:?}: nobody comes to serve"),
                    Err(violation) => format!("{violation} (while nothing fails any more, {company:?})"),
                };
                let path = self.path_to(self.situations.first[number as usize]);
                result.stuck.push(Found::new(&self.explorer, &path, &complaint));
                if result.stuck.len() >= MOST_STUCK {
                    return result;
                }
            }
        }
        result
    }
}

impl Explorer {
    /// Whether it comes to serve; none where nobody has to.
    fn way_out(
        &mut self,
        company: Company,
        nodes: [u32; 2],
        records: [u32; REGISTERS],
    ) -> Option<Result<bool, String>> {
        if !self.has_to_serve(company, nodes, records) {
            return None;
        }
        let around = Surroundings {
            record: None,
            message: None,
            checkpoints: false,
            trims: self.bounds.trims,
            crashes: false,
            duties: true,
            tamper: self.tamper,
        };
        let [a, b] = nodes.map(|node| self.nodes.get(node).clone());
        let records = records.map(|record| self.records.get(record).clone());
        Some(Calm::new(company, [a, b], records, &around, &mut self.coverage).comes_to_serve())
    }

    /// Who holds everything, and can prove it to those who are there, has to serve.
    fn has_to_serve(&self, company: Company, nodes: [u32; 2], records: [u32; REGISTERS]) -> bool {
        let records = records.map(|record| self.records.get(record).as_ref());
        let facts = nodes.map(|node| self.facts(node));
        let by_witness = |who: usize| match records[place_of(facts[who].own.witness())] {
            Some(record) => facts[who].entitled(records) && !facts[who].is_damaged(record),
            None => facts[who].may_begin_alone(),
        };
        let sound = facts.iter().all(|it| it.original && it.hurt.is_none());
        let begun = facts.iter().any(|it| !it.own.conf.is_none());
        match company {
            Company::All => by_witness(0) || by_witness(1) || (sound && begun),
            // One that has parted needs a peer that remembers (a disk that was never in sync does not).
            Company::NoWitness => {
                let alone = facts.iter().any(|it| it.may_begin_alone());
                sound && begun && (alone || facts.iter().all(|it| it.own.joined))
            }
            Company::WithWitness(who) => by_witness(who),
            Company::Alone(who) => facts[who].may_begin_alone() && facts[who].hurt.is_none(),
        }
    }
}
