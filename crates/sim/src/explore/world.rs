//! The world: two appliances, the witness, the network, what was promised, and how much may still go wrong.

use std::rc::Rc;

use duet_protocol::{
    Action, Agreement, ApplianceId, ClusterId, Conf, DiskId, Entry, Epoch, Lsn, Message, OwnState,
    PerAppliance, Position, WitnessRecord,
};

use super::coverage::Coverage;
use super::node::{
    CURRENT, NOW, Node, PRESENT, Stimulus, Surroundings, drive, is_primary, message_of_former_life,
    normal_message,
};
use super::oracle::{self, Facts, History};
use super::pool::{Pool, QuickMap};
use super::tamper::Tamper;

/// Messages kept in flight per direction, at most.
pub const MOST_MESSAGES: usize = 3;
const NONE: u32 = u32::MAX;

/// How much may happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Client writes.
    pub writes: u8,
    /// Crashes of a process.
    pub crashes: u8,
    /// Partings of a lone primary that may change its mind.
    pub softs: u8,
    /// Soft shutdowns and switchovers.
    pub leaves: u8,
    /// TAKEs and proposals.
    pub attempts: u8,
    /// Connections cut and made anew.
    pub reconnects: u8,
    /// Conditional writes that are applied late.
    pub late: u8,
    /// Reads of the witness whose answers are late.
    pub reads: u8,
    /// Notes left at the witness.
    pub notes: u8,
    /// Times the witness loses its record.
    pub losses: u8,
    /// A crash may leave an old checkpoint, too.
    pub checkpoints: bool,
    /// Messages kept in flight per direction.
    pub messages: u8,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            writes: 1,
            crashes: 1,
            softs: 1,
            leaves: 0,
            attempts: 2,
            reconnects: 0,
            late: 1,
            reads: 0,
            notes: 0,
            losses: 0,
            checkpoints: false,
            messages: 1,
        }
    }
}

impl std::hash::Hash for World {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let pair = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        state.write_u64(pair(self.nodes[0], self.nodes[1]));
        state.write_u64(pair(self.witness, self.history));
        for [one, two, three] in self.net {
            state.write_u64(pair(one, two));
            if three != NONE {
                state.write_u32(three);
            }
        }
        self.left.hash(state);
    }
}

impl std::hash::Hash for Bounds {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let most = [
            self.writes,
            self.crashes,
            self.softs,
            self.attempts,
            self.reconnects,
            self.late,
            self.reads,
            self.notes,
        ];
        state.write_u64(u64::from_le_bytes(most));
        state.write_u64(u64::from_le_bytes([
            self.losses,
            self.leaves,
            u8::from(self.checkpoints),
            0,
            0,
            0,
            0,
            0,
        ]));
    }
}

/// Where it starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// A is primary of {A, {A, B}}, B its secondary, the witness knows.
    Pair,
    /// A is primary of {A, {A}}, B follows and is not in sync yet.
    Solo,
    /// The same as the pair, both appliances down.
    Down,
    /// The witness holds {A, {A}}; both appliances are blank.
    First,
}

/// One state of everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct World {
    /// A and B.
    pub nodes: [u32; 2],
    /// The witness.
    pub witness: u32,
    /// What was promised.
    pub history: u32,
    /// Messages to A and to B; `u32::MAX` for none; sorted.
    pub net: [[u32; MOST_MESSAGES]; 2],
    /// What may still happen.
    pub left: Bounds,
}

/// The witness's register.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Witness {
    /// The record, of revision [`CURRENT`].
    pub record: u32,
    /// Conditional writes that may still be applied.
    pub pending: Vec<Pending>,
}

/// A conditional write under way.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Pending {
    /// Whose.
    pub from: u8,
    /// What is written.
    pub record: u32,
    /// It is still waited for.
    pub waiting: bool,
}

/// What became of a conditional write when it was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Applied and answered.
    Applied,
    /// Applied, the answer on its way.
    AnswerLate,
    /// Never applied and not answered.
    Lost,
    /// To be applied later, or never.
    Late,
    /// Refused and answered.
    Refused,
}

/// One transition, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// Which appliance.
    pub who: usize,
    /// What happened to it; none for the witness's own.
    pub stimulus: Option<Stimulus>,
    /// It crashed on the way.
    pub crashed: bool,
    /// What became of its conditional write.
    pub fate: Option<Fate>,
    /// A late conditional write is applied.
    pub applies: Option<u32>,
}

/// A transition's result: the state, or the violated promise.
pub type Next = (World, Step, Result<(), u32>);

struct Cached {
    node: u32,
    sends: Box<[u32]>,
    write: Option<(u64, u32)>,
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
    facts: Vec<Facts>,
    driven: QuickMap<(u32, Stimulus), Rc<[Cached]>>,
    moves: QuickMap<u32, Rc<[Stimulus]>>,
    asks: QuickMap<(u32, u32), Rc<[Action]>>,
    message_confs: QuickMap<u32, Rc<[oracle::Mark]>>,
    aged: QuickMap<u32, u32>,
    former: QuickMap<u32, u32>,
    judged: QuickMap<(u32, [u32; 2], u32), Result<u32, u32>>,
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

/// The disk of each appliance.
pub const DISKS: PerAppliance<DiskId> = PerAppliance { a: DiskId(0xA), b: DiskId(0xB) };
const CLUSTER: ClusterId = ClusterId(7);

impl Explorer {
    /// An explorer that has seen nothing yet.
    pub fn new(bounds: Bounds, tamper: Option<Tamper>) -> Self {
        assert!(
            usize::from(bounds.messages) <= MOST_MESSAGES,
            "at most three messages are kept per direction"
        );
        Self {
            bounds,
            tamper,
            keeps_all: false,
            nodes: Pool::default(),
            messages: Pool::default(),
            records: Pool::default(),
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

    /// The first state.
    pub fn start(&mut self, start: Start) -> World {
        if matches!(start, Start::Pair | Start::Solo) {
            return self.begun(start);
        }
        let conf = match start {
            Start::Down | Start::Pair | Start::Solo => Conf::pair(Epoch(1), ApplianceId::A, DISKS),
            Start::First => Conf::solo(Epoch(1), ApplianceId::A, DISKS.a),
        };
        let record = WitnessRecord {
            cluster: CLUSTER,
            revision: CURRENT,
            writer: ApplianceId::A,
            conf,
            part: None,
            floor: PerAppliance::default(),
            left: PerAppliance::default(),
        };
        let nodes = ApplianceId::ALL.map(|appliance| {
            let mut own = OwnState::blank(CLUSTER, appliance, *DISKS.get(appliance));
            if start != Start::First {
                own.conf = conf;
                own.max_epoch = conf.epoch();
            }
            self.intern(Node::down(own, Vec::<Entry>::new(), Lsn::ZERO))
        });
        let record = self.records.intern(Some(record)).0;
        let witness = self.witnesses.intern(Witness { record, pending: Vec::new() }).0;
        let newest = if start == Start::First { Conf::NONE } else { conf };
        let history = self.histories.intern(History { acknowledged: Vec::new(), newest }).0;
        World { nodes, witness, history, net: [[NONE; MOST_MESSAGES]; 2], left: self.bounds }
    }

    /// From the first start on, nothing failing on the way.
    fn begun(&mut self, start: Start) -> World {
        let mut world = self.start(Start::First);
        let record = self.witnesses.get(world.witness).record;
        let (a, b) = (0, 1);
        world = self.go(&world, a, Stimulus::Restart);
        world = self.go(&world, b, Stimulus::Restart);
        world = self.go(&world, a, Stimulus::Jump);
        world = self.go(&world, b, Stimulus::Jump);
        world = self.go(&world, a, Stimulus::Attempt(Action::Look, record));
        world = self.go(&world, a, Stimulus::Attempt(Action::BeginAlone, NONE));
        world = self.hear_all(&world, b);
        world = self.hear_all(&world, a);
        if start == Start::Pair {
            world = self.go(&world, a, Stimulus::Attempt(Action::Propose(Agreement::Rejoin), NONE));
            world = self.hear_all(&world, b);
            world = self.hear_all(&world, a);
            world = self.hear_all(&world, b);
            world = self.hear_all(&world, a);
            world = self.go(&world, a, Stimulus::Attempt(Action::Sync, record));
        }
        World { net: [[NONE; MOST_MESSAGES]; 2], left: self.bounds, ..world }
    }

    /// The outcome of a stimulus with which nothing goes wrong.
    fn go(&mut self, world: &World, who: usize, stimulus: Stimulus) -> World {
        let mut out = Vec::new();
        let open = World {
            left: Bounds { messages: self.bounds.messages, crashes: 0, late: 0, ..self.bounds },
            ..*world
        };
        let kept = std::mem::replace(&mut self.bounds.messages, 3);
        self.happen(&open, who, stimulus, open.left, &mut out);
        self.bounds.messages = kept;
        out.retain(|(_, step, result)| result.is_ok() && matches!(step.fate, None | Some(Fate::Applied)));
        out.first().map_or(open, |(next, ..)| *next)
    }

    fn hear_all(&mut self, world: &World, who: usize) -> World {
        let messages: Vec<_> = Self::inbox(world, who).collect();
        let mut next = World { ..*world };
        next.net[who] = [NONE; MOST_MESSAGES];
        for message in messages {
            next = self.go(&next, who, Stimulus::Message(message));
        }
        next
    }

    fn intern(&mut self, node: Node) -> u32 {
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

    /// The record the witness holds.
    pub fn record(&self, world: &World) -> Option<&WitnessRecord> {
        self.records.get(self.witnesses.get(world.witness).record).as_ref()
    }

    /// The messages on their way to an appliance.
    pub fn inbox(world: &World, to: usize) -> impl Iterator<Item = u32> {
        world.net[to].into_iter().filter(|&message| message != NONE)
    }

    // ---- transitions ----

    /// Every state that may come next.
    pub fn successors(&mut self, world: &World, out: &mut Vec<Next>) {
        for who in 0..2 {
            self.successors_of(world, who, out);
        }
        self.jump(world, out);
        for place in 0..self.witnesses.get(world.witness).pending.len() {
            self.apply_late(world, place, out);
        }
        if world.left.losses > 0 && self.record(world).is_some() {
            let mut next = *world;
            next.left.losses -= 1;
            self.replace_record(&mut next, None);
            let step = Step { who: 0, stimulus: None, crashed: false, fate: None, applies: None };
            self.arrive(world, next, step, out);
        }
        out.retain(|(next, ..)| next != world);
    }

    fn successors_of(&mut self, world: &World, who: usize, out: &mut Vec<Next>) {
        let node = world.nodes[who];
        let Some(seen) = self.facts(node).seen.clone() else {
            return self.happen(world, who, Stimulus::Restart, world.left, out);
        };
        let left = world.left;
        let record = self.witnesses.get(world.witness).record;
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
            if less.reads > 0 && self.record(world).is_some() {
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
    fn moves(&mut self, node: u32) -> Rc<[Stimulus]> {
        if let Some(known) = self.moves.get(&node) {
            return Rc::clone(known);
        }
        let ops = u8::try_from(self.nodes.get(node).ops.len()).unwrap_or(u8::MAX);
        let mut moves: Vec<_> = ACTIONS.iter().map(|&action| Stimulus::Attempt(action, NONE)).collect();
        moves.extend((1..=ops).map(Stimulus::Flush));
        moves.retain(|&stimulus| !self.driven(node, stimulus).is_empty());
        let moves: Rc<[Stimulus]> = moves.into();
        self.moves.insert(node, Rc::clone(&moves));
        moves
    }

    /// The procedures at the witness that change something, given its record.
    fn asks(&mut self, node: u32, record: u32) -> Rc<[Action]> {
        if let Some(known) = self.asks.get(&(node, record)) {
            return Rc::clone(known);
        }
        let mut asks = vec![Action::Look, Action::Sync, Action::Note, Action::Part, Action::Take];
        asks.retain(|&action| !self.driven(node, Stimulus::Attempt(action, record)).is_empty());
        let asks: Rc<[Action]> = asks.into();
        self.asks.insert((node, record), Rc::clone(&asks));
        asks
    }

    fn driven(&mut self, node: u32, stimulus: Stimulus) -> Rc<[Cached]> {
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
            crashes: self.bounds.crashes > 0,
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
                write: outcome
                    .write
                    .map(|(expected, record)| (expected, self.records.intern(Some(record)).0)),
                crashed: outcome.crashed,
                cut: outcome.cut,
                violation: outcome.violation.map(|violation| self.violations.intern(violation).0),
            })
            .collect();
        self.driven.insert((node, stimulus), Rc::clone(&cached));
        cached
    }

    fn happen(&mut self, world: &World, who: usize, stimulus: Stimulus, left: Bounds, out: &mut Vec<Next>) {
        let step = Step { who, stimulus: Some(stimulus), crashed: false, fate: None, applies: None };
        self.happen_as(world, &World { left, ..*world }, stimulus, step, out);
    }

    fn happen_as(
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
                    Some((expected, record)) => self.write(from, &next, expected, record, step, out),
                    None => self.arrive(from, next, step, out),
                }
            }
        }
    }

    /// The process has started again: what its former life said and heard is of a former life now.
    fn begin_new_life(&mut self, world: &mut World, who: usize) {
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

    fn former(&mut self, message: u32) -> u32 {
        if let Some(&known) = self.former.get(&message) {
            return known;
        }
        let moved = message_of_former_life(self.messages.get(message));
        let number = self.messages.intern(moved).0;
        self.former.insert(message, number);
        number
    }

    fn aged(&mut self, message: u32) -> u32 {
        if let Some(&known) = self.aged.get(&message) {
            return known;
        }
        let moved = normal_message(self.messages.get(message), true);
        let number = self.messages.intern(moved).0;
        self.aged.insert(message, number);
        number
    }

    /// A stimulus with one outcome, or none.
    fn only(&mut self, node: u32, stimulus: Stimulus) -> u32 {
        let outcomes = self.driven(node, stimulus);
        assert!(outcomes.len() <= 1, "bookkeeping has one outcome");
        outcomes.first().map_or(node, |outcome| outcome.node)
    }

    fn jump(&mut self, world: &World, out: &mut Vec<Next>) {
        let mut next = *world;
        for who in 0..2 {
            let outcomes = self.driven(world.nodes[who], Stimulus::Jump);
            if let Some(violation) = outcomes.iter().find_map(|outcome| outcome.violation) {
                let step =
                    Step { who, stimulus: Some(Stimulus::Jump), crashed: false, fate: None, applies: None };
                out.push((*world, step, Err(violation)));
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
        let step = Step { who: 0, stimulus: Some(Stimulus::Jump), crashed: false, fate: None, applies: None };
        self.arrive(world, next, step, out);
    }

    // ---- the witness ----

    fn forget_waiting(&mut self, world: &mut World, who: usize) {
        let mut witness = self.witnesses.get(world.witness).clone();
        for pending in witness.pending.iter_mut().filter(|pending| usize::from(pending.from) == who) {
            pending.waiting = false;
        }
        normalize(&mut witness);
        world.witness = self.witnesses.intern(witness).0;
    }

    /// The witness's record is another one now: conditional writes that expected the old one can never be applied.
    fn replace_record(&mut self, world: &mut World, record: Option<u32>) {
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
        witness.record = record;
        if self.tamper != Some(Tamper::UnconditionalWrite) {
            for pending in std::mem::take(&mut witness.pending) {
                if pending.waiting {
                    let who = usize::from(pending.from);
                    world.nodes[who] = self.only(world.nodes[who], Stimulus::AnswerSent(false));
                }
            }
        }
        world.witness = self.witnesses.intern(witness).0;
        for who in 0..2 {
            world.nodes[who] = self.only(world.nodes[who], Stimulus::RecordMoved);
        }
    }

    fn write(
        &mut self,
        from: &World,
        world: &World,
        expected: u64,
        record: u32,
        step: Step,
        out: &mut Vec<Next>,
    ) {
        let who = step.who;
        let held = self.record(world).cloned();
        let Some(next) = self.records.get(record).clone() else { return };
        let fits = match &held {
            Some(held) => expected == held.revision,
            None => expected == 0,
        } || self.tamper == Some(Tamper::UnconditionalWrite);
        if let Some(held) = held.filter(|_| fits && self.tamper.is_none())
            && let Err(violation) = oracle::check_write(self.facts(world.nodes[who]), &held, &next)
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
        self.apply(&mut applied, record);
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
            witness.pending.push(Pending { from: u8::from(who == 1), record, waiting: true });
            normalize(&mut witness);
            later.witness = self.witnesses.intern(witness).0;
            self.arrive(from, later, Step { fate: Some(Fate::Late), ..step }, out);
        }
    }

    fn apply(&mut self, world: &mut World, record: u32) {
        let old_part = self.record(world).and_then(|old| old.part);
        let mut record = record;
        if self.tamper == Some(Tamper::PartKept)
            && let Some(mut value) = self.records.get(record).clone()
            && value.part.is_none()
        {
            value.part = old_part;
            record = self.records.intern(Some(value)).0;
        }
        self.replace_record(world, Some(record));
    }

    fn apply_late(&mut self, world: &World, place: usize, out: &mut Vec<Next>) {
        let mut witness = self.witnesses.get(world.witness).clone();
        let pending = witness.pending.remove(place);
        let who = usize::from(pending.from);
        let mut next = *world;
        next.witness = self.witnesses.intern(witness).0;
        self.apply(&mut next, pending.record);
        if pending.waiting && self.facts(next.nodes[who]).seen.as_ref().is_some_and(|seen| seen.asking) {
            next.nodes[who] = self.only(next.nodes[who], Stimulus::AnswerSent(true));
        }
        let step = Step { who, stimulus: None, crashed: false, fate: None, applies: Some(pending.record) };
        self.arrive(world, next, step, out);
    }

    // ---- the oracle ----

    fn arrive(&mut self, from: &World, mut next: World, step: Step, out: &mut Vec<Next>) {
        self.settle_waiting(&mut next);
        if self.tamper.is_none() && !self.keeps_all {
            self.drop_dead(&mut next);
        }
        if next == *from {
            return;
        }
        let result = self.judge(&mut next);
        out.push((next, step, result));
    }

    /// Messages that can never again do more than a rule tried by itself would do take no room.
    fn drop_dead(&self, world: &mut World) {
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
    fn settle_waiting(&mut self, world: &mut World) {
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

    fn judge(&mut self, next: &mut World) -> Result<(), u32> {
        let record = self.witnesses.get(next.witness).record;
        let key = (next.history, next.nodes, record);
        let judged = if let Some(&known) = self.judged.get(&key) {
            known
        } else {
            let facts = next.nodes.map(|node| &self.facts[node as usize]);
            let fresh = judge(self.histories.get(next.history), facts, self.records.get(record).as_ref());
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

    fn check_confs(&mut self, world: &World) -> Result<(), u32> {
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
        let records = witness.pending.iter().map(|pending| pending.record).chain([witness.record]);
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

    /// Whether an appliance serves.
    pub fn serves(&self, world: &World) -> bool {
        world.nodes.iter().any(|&node| self.facts(node).serves())
    }

    /// The same with all messages lost and other bounds: the start of a search for a way out.
    pub fn calm(&mut self, world: &World, left: Bounds) -> World {
        let mut calm = World { net: [[NONE; MOST_MESSAGES]; 2], left, ..*world };
        let mut witness = self.witnesses.get(calm.witness).clone();
        witness.pending.clear();
        calm.witness = self.witnesses.intern(witness).0;
        calm
    }
}

/// The whole oracle on one state: the history with what was newly promised.
fn judge(history: &History, facts: [&Facts; 2], record: Option<&WitnessRecord>) -> Result<History, String> {
    let history = history.extended(facts, record)?;
    let [a, b] = facts;
    oracle::check_one(a, &history)?;
    oracle::check_one(b, &history)?;
    oracle::check_both(a, b)?;
    if let Some(record) = record {
        oracle::check_alone(a, b, record)?;
        oracle::check_alone(b, a, record)?;
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
            older || (late && follows && all_held && told && !beyond)
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
                && (receiver.peer_disk.is_some() || receiver.seen.is_none())
        }
        Message::Leave => true,
    }
}

fn normalize(witness: &mut Witness) {
    witness.pending.sort_by_key(|pending| (pending.from, pending.record, pending.waiting));
    witness.pending.dedup();
}

fn tidy(inbox: &mut [u32; MOST_MESSAGES]) {
    inbox.sort_unstable();
    for place in 1..MOST_MESSAGES {
        if inbox[place] == inbox[place - 1] {
            inbox[place] = NONE;
        }
    }
    inbox.sort_unstable();
}

/// The message is kept, beside or instead of another, or lost.
fn posted(world: &World, to: usize, message: u32, most: u8) -> Vec<World> {
    let inbox = &world.net[to];
    if inbox.contains(&message) {
        return vec![*world];
    }
    let most = usize::from(most);
    let kept = inbox.iter().filter(|&&slot| slot != NONE).count();
    let put = |place: usize| {
        let mut next = *world;
        next.net[to][place] = message;
        tidy(&mut next.net[to]);
        next
    };
    if kept < most {
        return vec![put(kept)];
    }
    let mut worlds = vec![*world];
    worlds.extend((0..most).map(put));
    worlds
}
