//! All that is known while exploring, and the transitions: what may come next.

use std::rc::Rc;

use duet_protocol::{Action, Agreement, ApplianceId, Lsn, Message, WitnessId, WitnessRecord};

use super::coverage::Coverage;
use super::drive::{Surroundings, drive};
use super::node::{Node, Op, Stimulus, is_primary, message_of_former_life, normal_message};
use super::oracle::{self, Facts, History};
use super::pool::{Pool, QuickMap};
use super::start::{FOREIGN_CLUSTER, first_record};
use super::tamper::Tamper;
use super::world::{Bounds, MOST_MESSAGES, NONE, REGISTERS, Step, Witness, World, place_of, posted, tidy};

/// A transition's result: the state, or the violated promise.
pub type Next = (World, Step, Result<(), u32>);

/// What the oracle judges: the history, the appliances, the registers' records.
type Judged = (u32, [u32; 2], [u32; REGISTERS]);

/// A conditional write, its record by number.
#[derive(Clone, Copy)]
pub(super) struct Cas {
    pub at: usize,
    pub expected: u64,
    pub record: u32,
}

pub(super) struct Cached {
    node: u32,
    sends: Box<[u32]>,
    write: Option<Cas>,
    crashed: bool,
    cut: Option<Lsn>,
    violation: Option<u32>,
}

/// The pools, and what was computed before.
pub struct Explorer {
    /// What may happen in all.
    pub bounds: Bounds,
    /// The broken rule, if any.
    pub tamper: Option<Tamper>,
    /// Messages that can do nothing any more are kept all the same.
    pub keeps_all: bool,
    /// All appliance states.
    pub nodes: Pool<Node>,
    /// All messages.
    pub messages: Pool<Message>,
    /// All records; none for an empty witness.
    pub records: Pool<Option<WitnessRecord>>,
    /// All states of the witness.
    pub witnesses: Pool<Witness>,
    /// All histories.
    pub histories: Pool<History>,
    /// Violations in words.
    pub violations: Pool<String>,
    /// What was reached.
    pub coverage: Coverage,
    pub(super) facts: Vec<Facts>,
    foreign: u32,
    driven: QuickMap<(u32, Stimulus), Rc<[Cached]>>,
    moves: QuickMap<u32, Rc<[Stimulus]>>,
    asks: QuickMap<(u32, u32), Rc<[Action]>>,
    pub(super) message_confs: QuickMap<u32, Rc<[oracle::Mark]>>,
    aged: QuickMap<u32, u32>,
    former: QuickMap<u32, u32>,
    pub(super) judged: QuickMap<Judged, Result<u32, u32>>,
}

const ACTIONS: [Action; 8] = [
    Action::BeginAlone,
    Action::BeginElect,
    Action::Cancel,
    Action::Resend,
    Action::Heartbeat,
    Action::Close,
    Action::SendFirm,
    Action::Refill,
];
const AGREEMENTS: [Agreement; 5] =
    [Agreement::Leave, Agreement::Rejoin, Agreement::Handover, Agreement::ColdSolo, Agreement::ColdPair];

impl Explorer {
    /// An explorer that has seen nothing yet.
    pub fn new(bounds: Bounds, tamper: Option<Tamper>) -> Self {
        assert!(
            usize::from(bounds.messages) <= MOST_MESSAGES,
            "at most three messages are kept per direction"
        );
        let mut records = Pool::default();
        let foreign = records.intern(Some(first_record(FOREIGN_CLUSTER, ApplianceId::B))).0;
        Self {
            bounds,
            tamper,
            keeps_all: false,
            foreign,
            nodes: Pool::default(),
            messages: Pool::default(),
            records,
            witnesses: Pool::default(),
            histories: Pool::default(),
            violations: Pool::default(),
            coverage: Coverage::default(),
            facts: Vec::new(),
            driven: QuickMap::default(),
            aged: QuickMap::default(),
            former: QuickMap::default(),
            judged: QuickMap::default(),
            moves: QuickMap::default(),
            asks: QuickMap::default(),
            message_confs: QuickMap::default(),
        }
    }

    pub(super) fn intern(&mut self, node: Node) -> u32 {
        let (number, new) = self.nodes.intern(node);
        if new {
            self.facts.push(Facts::of(self.nodes.get(number)));
        }
        number
    }

    /// What the oracle reads of an appliance state.
    pub fn facts(&self, node: u32) -> &Facts {
        &self.facts[node as usize]
    }

    /// The register that an appliance asks.
    pub(super) fn asked_by(&self, world: &World, who: usize) -> usize {
        place_of(self.facts(world.nodes[who]).own.witness())
    }

    /// The record this appliance finds when it asks the witness.
    pub(super) fn shown(&self, world: &World, who: usize) -> u32 {
        let witness = self.witnesses.get(world.witness);
        let at = self.asked_by(world, who);
        if witness.foreign && at == 0 { self.foreign } else { witness.records[at] }
    }

    /// The record a register holds.
    pub fn record(&self, world: &World, at: usize) -> Option<&WitnessRecord> {
        self.records.get(self.witnesses.get(world.witness).records[at]).as_ref()
    }

    /// The messages on their way to an appliance.
    pub fn inbox(world: &World, to: usize) -> impl Iterator<Item = u32> {
        world.net[to].into_iter().filter(|&message| message != NONE)
    }

    /// Every state that may come next.
    pub fn successors(&mut self, world: &World, out: &mut Vec<Next>) {
        for who in 0..2 {
            self.successors_of(world, who, out);
        }
        self.jump(world, out);
        for place in 0..self.witnesses.get(world.witness).pending.len() {
            self.apply_late(world, place, out);
        }
        self.at_witness(world, out);
        out.retain(|(next, ..)| next != world);
    }

    pub(super) fn successors_of(&mut self, world: &World, who: usize, out: &mut Vec<Next>) {
        let node = world.nodes[who];
        let Some(seen) = self.facts(node).seen.clone() else {
            self.while_down(world, who, out);
            return self.restart(world, who, out);
        };
        let left = world.left;
        let record = self.shown(world, who);
        for message in Self::inbox(world, who) {
            self.happen(world, who, Stimulus::Message(message), left, out);
        }
        for &stimulus in self.moves(node).iter() {
            self.happen(world, who, stimulus, left, out);
        }
        for &action in self.asks(node, record).iter() {
            let mut less = left;
            let spends = match action {
                Action::Take => Some(&mut less.attempts),
                Action::Part if !seen.leaving => Some(&mut less.softs),
                Action::Note => Some(&mut less.notes),
                _ => None,
            };
            if let Some(bound) = spends {
                let Some(fewer) = bound.checked_sub(1) else { continue };
                *bound = fewer;
            }
            self.happen(world, who, Stimulus::Attempt(action, record), less, out);
            if less.reads > 0 && self.record(world, self.asked_by(world, who)).is_some() {
                less.reads -= 1;
                self.happen(world, who, Stimulus::AttemptSlowly(action, record), less, out);
            }
        }
        if left.attempts > 0 {
            let less = Bounds { attempts: left.attempts - 1, ..left };
            for agreement in AGREEMENTS {
                self.happen(world, who, Stimulus::Attempt(Action::Propose(agreement), NONE), less, out);
            }
        }
        if let Some(fewer) = left.moves.checked_sub(1) {
            let less = Bounds { moves: fewer, ..left };
            let next = WitnessId(self.facts(node).own.conf.witness().0 + 1);
            let action = Action::Propose(Agreement::Move(next));
            self.happen(world, who, Stimulus::Attempt(action, NONE), less, out);
        }
        if left.writes > 0 && is_primary(seen.role) {
            let less = Bounds { writes: left.writes - 1, ..left };
            self.happen(world, who, Stimulus::Write(self.bounds.writes - left.writes), less, out);
        }
        if left.crashes > 0 {
            self.happen(world, who, Stimulus::Crash, left, out);
        }
        if seen.stopping {
            self.happen(world, who, Stimulus::Stop, left, out);
        }
        if left.reconnects > 0 {
            let less = Bounds { reconnects: left.reconnects - 1, ..left };
            self.happen(world, who, Stimulus::Reconnect, less, out);
        }
        if left.leaves > 0 && !seen.leaving {
            let less = Bounds { leaves: left.leaves - 1, ..left };
            self.happen(world, who, Stimulus::Shutdown, less, out);
            self.happen(world, who, Stimulus::Switchover, less, out);
        }
        if seen.asking {
            self.happen(world, who, Stimulus::Silence, left, out);
            if self.nodes.get(node).answer.is_some() {
                self.happen(world, who, Stimulus::Answer, left, out);
            }
        }
    }

    /// The rules and events that cost nothing and change something.
    pub(super) fn moves(&mut self, node: u32) -> Rc<[Stimulus]> {
        if let Some(known) = self.moves.get(&node) {
            return Rc::clone(known);
        }
        let ops = self.nodes.get(node).ops.iter().take_while(|op| !matches!(op, Op::Install(_))).count();
        let ops = u8::try_from(ops).unwrap_or(u8::MAX);
        let mut moves: Vec<_> = ACTIONS.iter().map(|&action| Stimulus::Attempt(action, NONE)).collect();
        moves.extend((1..=ops).map(Stimulus::Flush));
        moves.push(Stimulus::Installed);
        if self.bounds.trims {
            moves.push(Stimulus::Checkpoint);
        }
        moves.retain(|&stimulus| !self.driven(node, stimulus).is_empty());
        let moves: Rc<[Stimulus]> = moves.into();
        self.moves.insert(node, Rc::clone(&moves));
        moves
    }

    /// The procedures at the witness that change something, given its record.
    pub(super) fn asks(&mut self, node: u32, record: u32) -> Rc<[Action]> {
        if let Some(known) = self.asks.get(&(node, record)) {
            return Rc::clone(known);
        }
        let mut asks = vec![Action::Look, Action::Sync, Action::Note, Action::Part, Action::Take];
        asks.retain(|&action| !self.driven(node, Stimulus::Attempt(action, record)).is_empty());
        let asks: Rc<[Action]> = asks.into();
        self.asks.insert((node, record), Rc::clone(&asks));
        asks
    }

    pub(super) fn driven(&mut self, node: u32, stimulus: Stimulus) -> Rc<[Cached]> {
        if let Some(known) = self.driven.get(&(node, stimulus)) {
            return Rc::clone(known);
        }
        let record = match stimulus {
            Stimulus::Attempt(_, record) | Stimulus::AttemptSlowly(_, record) if record != NONE => {
                self.records.get(record).clone()
            }
            _ => None,
        };
        let message = match stimulus {
            Stimulus::Message(message) => Some(self.messages.get(message).clone()),
            _ => None,
        };
        let around = Surroundings {
            record: record.as_ref(),
            message: message.as_ref(),
            checkpoints: self.bounds.checkpoints,
            trims: self.bounds.trims,
            crashes: self.bounds.crashes > 0,
            duties: false,
            tamper: self.tamper,
        };
        let outcomes = drive(self.nodes.get(node), stimulus, &around, &mut self.coverage);
        let cached: Rc<[Cached]> = outcomes
            .into_iter()
            .map(|outcome| Cached {
                node: self.intern(outcome.node),
                sends: outcome
                    .sends
                    .iter()
                    .map(|message| self.messages.intern(normal_message(message, false)).0)
                    .collect(),
                write: outcome.write.map(|write| Cas {
                    at: write.at,
                    expected: write.expected,
                    record: self.records.intern(Some(write.record)).0,
                }),
                crashed: outcome.crashed,
                cut: outcome.cut,
                violation: outcome.violation.map(|violation| self.violations.intern(violation).0),
            })
            .collect();
        self.driven.insert((node, stimulus), Rc::clone(&cached));
        cached
    }

    pub(super) fn happen(
        &mut self,
        world: &World,
        who: usize,
        stimulus: Stimulus,
        left: Bounds,
        out: &mut Vec<Next>,
    ) {
        self.happen_as(world, &World { left, ..*world }, stimulus, Step::of(who, stimulus), out);
    }

    pub(super) fn happen_as(
        &mut self,
        from: &World,
        world: &World,
        stimulus: Stimulus,
        step: Step,
        out: &mut Vec<Next>,
    ) {
        let who = step.who;
        let node = world.nodes[who];
        let outcomes = self.driven(node, stimulus);
        for cached in outcomes.iter() {
            let soft = stimulus == Stimulus::Stop;
            if cached.crashed && !soft && world.left.crashes == 0 {
                continue;
            }
            let mut next = *world;
            next.nodes[who] = cached.node;
            let mut step = step;
            step.crashed |= cached.crashed;
            let (crashed, mut violation, write) = (cached.crashed, cached.violation, cached.write);
            if let Some(last) = cached.cut
                && let Err(lost) =
                    oracle::check_cut(self.facts(node), last, self.histories.get(world.history))
            {
                violation = Some(self.violations.intern(lost).0);
            }
            let sends = &cached.sends;
            if crashed {
                next.left.crashes -= u8::from(!soft);
                self.forget_waiting(&mut next, who);
            }
            if let Some(violation) = violation {
                out.push((next, step, Err(violation)));
                continue;
            }
            if stimulus == Stimulus::Restart {
                self.begin_new_life(&mut next, who);
            }
            let to = 1 - who;
            if sends.is_empty() && write.is_none() {
                self.arrive(from, next, step, out);
                continue;
            }
            let mut worlds = vec![next];
            for &message in sends {
                worlds = worlds.iter().flat_map(|it| posted(it, to, message, self.bounds.messages)).collect();
            }
            for next in worlds {
                match write {
                    Some(write) => self.write(from, &next, write, step, out),
                    None => self.arrive(from, next, step, out),
                }
            }
        }
    }

    /// The process has started again: what its former life said and heard is of a former life now.
    pub(super) fn begin_new_life(&mut self, world: &mut World, who: usize) {
        let peer = 1 - who;
        world.nodes[peer] = self.only(world.nodes[peer], Stimulus::PeerRestarted);
        let mut net = world.net;
        for (to, inbox) in net.iter_mut().enumerate() {
            for slot in inbox.iter_mut().filter(|slot| **slot != NONE) {
                let of_this_life = match self.messages.get(*slot) {
                    Message::Append { .. } => to == peer,
                    Message::Acknowledge(_) => to == who,
                    _ => false,
                };
                if of_this_life {
                    *slot = self.former(*slot);
                }
            }
            tidy(inbox);
        }
        world.net = net;
    }

    pub(super) fn former(&mut self, message: u32) -> u32 {
        if let Some(&known) = self.former.get(&message) {
            return known;
        }
        let moved = message_of_former_life(self.messages.get(message));
        let number = self.messages.intern(moved).0;
        self.former.insert(message, number);
        number
    }

    pub(super) fn aged(&mut self, message: u32) -> u32 {
        if let Some(&known) = self.aged.get(&message) {
            return known;
        }
        let moved = normal_message(self.messages.get(message), true);
        let number = self.messages.intern(moved).0;
        self.aged.insert(message, number);
        number
    }

    /// A stimulus with one outcome, or none.
    pub(super) fn only(&mut self, node: u32, stimulus: Stimulus) -> u32 {
        let outcomes = self.driven(node, stimulus);
        assert!(outcomes.len() <= 1, "bookkeeping has one outcome");
        outcomes.first().map_or(node, |outcome| outcome.node)
    }

    pub(super) fn jump(&mut self, world: &World, out: &mut Vec<Next>) {
        let mut next = *world;
        for who in 0..2 {
            let outcomes = self.driven(world.nodes[who], Stimulus::Jump);
            if let Some(violation) = outcomes.iter().find_map(|outcome| outcome.violation) {
                out.push((*world, Step::of(who, Stimulus::Jump), Err(violation)));
                return;
            }
            next.nodes[who] = outcomes.first().map_or(world.nodes[who], |outcome| outcome.node);
            for place in 0..MOST_MESSAGES {
                let message = next.net[who][place];
                if message != NONE {
                    next.net[who][place] = self.aged(message);
                }
            }
            tidy(&mut next.net[who]);
        }
        self.arrive(world, next, Step::of(0, Stimulus::Jump), out);
    }
}
