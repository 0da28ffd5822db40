//! The world: two machines, the connection between them, the witness, clients, and one queue of events in simulated time.
//! Nothing in it is left to chance but what its seeded generator draws, so the same seed gives the same run.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use duet_mvcc::{EmptySource, Store};
use duet_protocol::{
    ApplianceId, ClusterId, Conf, DiskId, Epoch, Input, Lsn, Message, OwnState, PerAppliance, Position,
    RoleName, WitnessRecord,
};

use super::clients::{Client, Operation};
use super::clock::{Clock, MILLI, SECOND, Time};
use super::digest::Fold;
use super::disk::SimDisk;
use super::kept::Kept;
use super::link::{Link, Packet};
use super::machine::{Machine, OperationId, Process};
use super::marks::Marks;
use super::options::{Fault, Options};
use super::oracle::{Oracle, Verdict};
use super::random::Random;
use super::schedule::{Scheduled, Step};
use super::state::{self, Rows};
use super::storage;
use super::witness::{Answer, Fate, Request, Witness};

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Event {
    Tick { id: ApplianceId, life: u64 },
    Resume { id: ApplianceId, life: u64 },
    Start { id: ApplianceId },
    Saved { id: ApplianceId, life: u64 },
    JobsDone { id: ApplianceId, life: u64 },
    Applied { id: ApplianceId, life: u64 },
    CheckpointDue { id: ApplianceId, life: u64 },
    CheckpointDone { id: ApplianceId, life: u64 },
    CopyStored { id: ApplianceId, life: u64 },
    Dial,
    Connected { id: ApplianceId, connection: u64 },
    Disconnected { id: ApplianceId, connection: u64 },
    Deliver { to: ApplianceId, connection: Option<u64>, packet: Box<Packet> },
    CopySent { id: ApplianceId, life: u64, connection: u64 },
    Cut { from: ApplianceId },
    Uncut { from: ApplianceId },
    WitnessArrival(Box<Request>),
    WitnessAnswer { to: ApplianceId, life: u64, ticket: u64, answer: Box<Answer> },
    WitnessBack { id: Option<ApplianceId> },
    WitnessQuick,
    DiskQuick { id: ApplianceId },
    DiskBack { id: ApplianceId },
    DiskFreed { id: ApplianceId },
    ClientActs { client: usize },
    ClientArrives { id: ApplianceId, operations: Vec<OperationId>, read: bool },
    ReadChecked { id: ApplianceId, life: u64, operation: OperationId, begun: Time, floor: Lsn, lsn: Lsn },
    ClientGivesUp { client: usize, turn: u64 },
    Fault,
    Step(Step),
}

/// A test may have messages lost: false means lost.
pub type MessageFilter = Box<dyn FnMut(ApplianceId, &Message) -> bool>;
/// A test may decide what becomes of a request to the witness.
pub type WitnessFilter = Box<dyn FnMut(&Request) -> Fate>;

/// An appliance became primary.
#[derive(Clone, Copy, Debug)]
pub struct Promotion {
    /// When.
    pub at: Time,
    /// Who.
    pub id: ApplianceId,
    /// Under which epoch.
    pub epoch: Epoch,
}

/// The world of one run.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct World {
    /// World time.
    pub now: Time,
    pub(crate) queue: BTreeMap<(Time, u64), Event>,
    sequence: u64,
    pub(crate) lives: u64,
    /// What chance does to the pair.
    pub(crate) random: Random,
    /// What is planned: faults and clients' requests have generators of their own, so that a schedule that is given instead
    /// leaves chance as it was.
    pub(crate) plan: Random,
    pub(crate) client_plan: Random,
    /// Faults and requests are drawn, not given.
    pub(crate) is_drawn: bool,
    /// What was done to the pair so far.
    pub schedule_so_far: Vec<Scheduled>,
    /// The mixture of this run.
    pub options: Options,
    pub(crate) machines: PerAppliance<Machine>,
    pub(crate) link: Link,
    pub(crate) witness: Witness,
    pub(crate) witness_late: bool,
    /// What is being handled is the answer to a read of the witness.
    pub(crate) reading: bool,
    pub(crate) oracle: Oracle,
    pub(crate) clients: Vec<Client>,
    pub(crate) operations: Vec<Operation>,
    /// Rare paths reached.
    pub marks: Marks,
    /// Faults injected.
    pub faults: BTreeMap<Fault, u64>,
    pub(crate) faulting: bool,
    pub(crate) healed_at: Time,
    /// Every promotion so far.
    pub promotions: Vec<Promotion>,
    /// When each write was acknowledged.
    pub acknowledgements: Vec<Time>,
    pub(crate) events: Fold,
    trace: Option<VecDeque<String>>,
    trace_lines: usize,
    /// The first breach of a promise.
    pub violation: Option<String>,
    pub(crate) message_filter: Option<MessageFilter>,
    pub(crate) witness_filter: Option<WitnessFilter>,
    pub(crate) restarts: bool,
    /// Its disk lies: S4 cannot hold for it until it is repaired.
    pub(crate) excused: Option<ApplianceId>,
    steps: (Time, u64),
}

pub(crate) const CLUSTER: ClusterId = ClusterId(0xd0e7);
const TRACE_LINES: usize = 20_000;

impl World {
    /// A pair in {A, {A, B}}, A primary, as after an agreement, with both processes down.
    pub fn new(seed: u64, options: Options) -> Self {
        let mut random = Random::new(seed);
        let disks = PerAppliance { a: DiskId(0xa), b: DiskId(0xb) };
        let conf = Conf::pair(Epoch(1), ApplianceId::A, disks);
        let base = if options.history == 0 {
            Position::EMPTY
        } else {
            Position { epoch: Epoch(1), lsn: Lsn(options.history), digest: duet_protocol::Digest([7; 16]) }
        };
        let (rows, past) = if options.history == 0 {
            (Rows::default(), Store::new(Arc::new(EmptySource)))
        } else {
            state::history(options.history)
        };
        let mut machine = |id: ApplianceId| {
            let mut own = OwnState::blank(CLUSTER, id, *disks.get(id));
            own.conf = conf;
            own.max_epoch = conf.epoch();
            own.joined = true;
            let drift = draw_drift(&mut random, options.drift);
            let disk = SimDisk::default();
            storage::make(&disk, &own, base, &rows, storage::options(options.segment_bytes));
            Machine {
                clock: Clock::new(0, random.within((0, 100 * SECOND)), drift),
                disk,
                kept: Kept::new(own, base),
                process: None,
                slow_disk: None,
                held_down: false,
                waits_for_peer: false,
                refuses: false,
                suspect: false,
                last_written: base.lsn,
            }
        };
        let machines = PerAppliance { a: machine(ApplianceId::A), b: machine(ApplianceId::B) };
        let record = WitnessRecord {
            cluster: CLUSTER,
            revision: 1,
            writer: ApplianceId::A,
            conf,
            part: None,
            floor: PerAppliance { a: base.lsn, b: base.lsn },
            left: PerAppliance::default(),
        };
        let clients = (0..options.clients).map(|_| Client::default()).collect();
        let mut world = Self {
            now: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            lives: 0,
            random,
            plan: Random::new(seed ^ 0x00fa_0175),
            client_plan: Random::new(seed ^ 0xc11e_0175),
            is_drawn: true,
            schedule_so_far: Vec::new(),
            machines,
            link: Link::default(),
            witness: Witness::new(Some(record)),
            witness_late: false,
            reading: false,
            oracle: Oracle::new(base, conf, past),
            clients,
            operations: Vec::new(),
            marks: Marks::default(),
            faults: BTreeMap::new(),
            faulting: false,
            healed_at: 0,
            promotions: Vec::new(),
            acknowledgements: Vec::new(),
            events: Fold::default(),
            trace: None,
            trace_lines: TRACE_LINES,
            violation: None,
            message_filter: None,
            witness_filter: None,
            restarts: false,
            excused: None,
            steps: (0, 0),
            options,
        };
        world.schedule(MILLI, Event::Dial);
        for client in 0..world.clients.len() {
            world.schedule(MILLI, Event::ClientActs { client });
        }
        world
    }

    /// Keeps the last events for people.
    pub fn record_trace(&mut self) {
        self.trace = Some(VecDeque::new());
    }

    /// Keeps all events, and what each changes in the appliances.
    pub fn record_everything(&mut self) {
        self.trace = Some(VecDeque::new());
        self.trace_lines = usize::MAX;
    }

    /// Whether changes of the appliances are told too.
    pub(crate) const fn tells_changes(&self) -> bool {
        self.trace_lines == usize::MAX
    }

    /// The given schedule is done instead of one that is drawn.
    pub(crate) fn follow(&mut self, schedule: &[Scheduled]) {
        self.is_drawn = false;
        self.clients.clear();
        for Scheduled { at, step } in schedule {
            self.schedule_at(*at, Event::Step(*step));
        }
    }

    /// The last events.
    pub fn trace(&self) -> Vec<String> {
        self.trace.iter().flatten().cloned().collect()
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            if trace.len() >= self.trace_lines {
                trace.pop_front();
            }
            let now = self.now;
            trace.push_back(format!("{:>5}.{:06} {}", now / SECOND, now % SECOND / 1000, line()));
        }
    }

    pub(crate) fn require(&mut self, verdict: Verdict) {
        if let Err(breach) = verdict {
            self.violate(breach);
        }
    }

    pub(crate) fn violate(&mut self, breach: String) {
        self.note(|| format!("VIOLATION: {breach}"));
        self.violation.get_or_insert(breach);
    }

    pub(crate) fn schedule(&mut self, after: Time, event: Event) {
        self.schedule_at(self.now + after, event);
    }

    pub(crate) fn schedule_at(&mut self, at: Time, event: Event) {
        self.sequence += 1;
        self.queue.insert((at.max(self.now), self.sequence), event);
    }

    /// The next event happens. False: a promise was broken, or nothing is left to happen.
    pub fn advance(&mut self) -> bool {
        if self.violation.is_some() {
            return false;
        }
        let Some(((at, _), event)) = self.queue.pop_first() else { return false };
        assert!(at >= self.now, "time does not go back");
        self.now = at;
        self.happen(event);
        self.check_stored();
        true
    }

    /// Everything happens that is due within `time`.
    pub fn run_for(&mut self, time: Time) {
        let end = self.now + time;
        while self.violation.is_none() && self.queue.first_key_value().is_some_and(|((at, _), _)| *at <= end)
        {
            self.advance();
        }
        self.now = self.now.max(end);
    }

    /// Runs until `reached`, at most for `time`. Whether it was reached.
    pub fn run_until(&mut self, time: Time, mut reached: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + time;
        while !reached(self) {
            if self.queue.first_key_value().is_none_or(|((at, _), _)| *at > end) || !self.advance() {
                return false;
            }
        }
        true
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick { id, life } => {
                let now = self.now;
                let due = self.process_of(id, life).is_some_and(|process| process.tick_at == Some(now));
                if due {
                    self.input(id, Input::Tick);
                }
            }
            Event::Resume { id, life } => self.on_resume(id, life),
            Event::Start { id } => self.start(id),
            Event::Saved { id, life } => self.on_saved(id, life),
            Event::JobsDone { id, life } => self.on_jobs_done(id, life),
            Event::Applied { id, life } => self.on_applied(id, life),
            Event::CheckpointDue { id, life } => self.on_checkpoint_due(id, life),
            Event::CheckpointDone { id, life } => self.on_checkpoint_done(id, life),
            Event::CopyStored { id, life } => self.on_copy_stored(id, life),
            Event::Dial => self.on_dial(),
            Event::Connected { id, connection } => self.on_connected(id, connection),
            Event::Disconnected { id, connection } => self.on_disconnected(id, connection),
            Event::Deliver { to, connection, packet } => self.on_delivery(to, connection, *packet),
            Event::CopySent { id, life, connection } => self.on_copy_sent(id, life, connection),
            Event::Cut { from } => {
                if self.faulting {
                    self.cut(from, false);
                }
            }
            Event::Uncut { from } => self.uncut(from),
            Event::WitnessArrival(request) => self.on_witness_arrival(&request),
            Event::WitnessAnswer { to, life, ticket, answer } => {
                self.on_witness_answer(to, life, ticket, *answer);
            }
            Event::WitnessBack { id } => self.witness_back(id),
            Event::WitnessQuick => self.witness_late = false,
            Event::DiskQuick { id } => self.machines.get_mut(id).slow_disk = None,
            Event::DiskBack { id } => self.on_disk_back(id),
            Event::DiskFreed { id } => self.on_disk_freed(id),
            Event::ClientActs { client } => self.on_client(client),
            Event::ClientArrives { id, operations, read } => self.on_client_arrival(id, operations, read),
            Event::ReadChecked { id, life, operation, begun, floor, lsn } => {
                self.on_read_checked(id, life, operation, (begun, floor, lsn));
            }
            Event::ClientGivesUp { client, turn } => self.on_client_gives_up(client, turn),
            Event::Fault => self.on_fault(),
            Event::Step(step) => self.perform(step),
        }
    }

    pub(crate) fn process_of(&self, id: ApplianceId, life: u64) -> Option<&Process> {
        self.machines.get(id).process.as_ref().filter(|process| process.life == life)
    }

    pub(crate) fn process_of_mut(&mut self, id: ApplianceId, life: u64) -> Option<&mut Process> {
        self.machines.get_mut(id).process.as_mut().filter(|process| process.life == life)
    }

    pub(crate) fn life_of(&self, id: ApplianceId) -> Option<u64> {
        self.machines.get(id).process.as_ref().map(|process| process.life)
    }

    // ---- what is done to a machine ----

    /// SIGTERM.
    pub fn soft_stop(&mut self, id: ApplianceId) {
        let now = self.now;
        if let Some(process) = &mut self.machines.get_mut(id).process {
            process.leaving_since.get_or_insert((now, process.status.committed));
            self.note(|| format!("{id} is told to stop"));
            self.input(id, Input::Shutdown);
        }
    }

    /// The role is to go to the peer.
    pub fn switchover(&mut self, id: ApplianceId) {
        self.note(|| format!("{id} is told to hand over"));
        self.input(id, Input::Switchover);
    }

    /// The driver handles nothing for `time`; with `frozen` the readers stand still as well.
    pub fn pause(&mut self, id: ApplianceId, time: Time, frozen: bool) {
        let until = self.now + time;
        let Some(process) = &mut self.machines.get_mut(id).process else { return };
        if process.stalled_until.is_some_and(|other| other >= until) {
            return;
        }
        process.stalled_until = Some(until);
        process.frozen = frozen;
        let life = process.life;
        self.note(|| format!("{id} is paused for {} ms", time / MILLI));
        self.schedule_at(until, Event::Resume { id, life });
    }

    fn on_resume(&mut self, id: ApplianceId, life: u64) {
        let now = self.now;
        let Some(process) = self.process_of_mut(id, life) else { return };
        if process.stalled_until == Some(now) {
            process.stalled_until = None;
            process.frozen = false;
            self.input(id, Input::Tick);
        }
    }

    /// Its fsyncs take this long, for a while.
    pub fn slow_disk(&mut self, id: ApplianceId, fsync: (Time, Time), lasts: Time) {
        self.machines.get_mut(id).slow_disk = Some(fsync);
        self.schedule(lasts, Event::DiskQuick { id });
    }

    pub(crate) fn retune_clocks(&mut self) {
        for id in ApplianceId::ALL {
            let drift = draw_drift(&mut self.random, self.options.drift);
            let now = self.now;
            self.machines.get_mut(id).clock.retune(now, drift);
            self.reschedule_tick(id);
        }
    }

    // ---- what a test may see ----

    /// The role of an appliance, while it runs.
    pub fn role(&self, id: ApplianceId) -> Option<RoleName> {
        self.machines.get(id).role()
    }

    /// The core's report, while it runs.
    pub fn status(&self, id: ApplianceId) -> Option<&duet_protocol::Status> {
        self.machines.get(id).process.as_ref().map(|process| &process.status)
    }

    /// What is durable of the own state.
    pub fn own(&self, id: ApplianceId) -> &OwnState {
        &self.machines.get(id).kept.own
    }

    /// Where the log ends.
    pub fn position(&self, id: ApplianceId) -> Position {
        self.machines.get(id).position()
    }

    /// The record at the witness.
    pub fn record(&self) -> Option<&WitnessRecord> {
        self.witness.record.as_ref()
    }

    /// Every record the witness ever held, and since when.
    pub fn records(&self) -> &[(Time, WitnessRecord)] {
        &self.witness.history
    }

    /// Whether the appliance answers reads now.
    pub fn answers_reads(&self, id: ApplianceId) -> bool {
        self.machines.get(id).permit_holds(self.now)
    }

    /// Everything up to here was acknowledged.
    pub fn acknowledged(&self) -> Lsn {
        self.oracle.acknowledged
    }

    /// The newest configuration that ever was in force.
    pub fn newest(&self) -> Conf {
        self.oracle.newest
    }

    /// From now on a message for which `filter` says false is lost.
    pub fn filter_messages(&mut self, filter: impl FnMut(ApplianceId, &Message) -> bool + 'static) {
        self.message_filter = Some(Box::new(filter));
    }

    /// From now on `filter` decides what becomes of a request to the witness.
    pub fn filter_witness(&mut self, filter: impl FnMut(&Request) -> Fate + 'static) {
        self.witness_filter = Some(Box::new(filter));
    }

    /// Nothing is filtered any more.
    pub fn unfilter(&mut self) {
        self.message_filter = None;
        self.witness_filter = None;
    }

    /// Both processes run, one is primary, the other follows, and the witness knows.
    pub fn start_both(&mut self) {
        for id in ApplianceId::ALL {
            self.start(id);
        }
        assert!(self.run_until(10 * SECOND, Self::has_converged), "{}", self.report());
        self.run_for(SECOND);
    }

    /// The digest of everything that happened so far.
    pub fn digest(&self) -> u64 {
        self.events.value()
    }

    /// Who is primary and takes writes; the one with the higher epoch if a deposed one does not know yet.
    pub fn primary(&self) -> Option<ApplianceId> {
        ApplianceId::ALL
            .into_iter()
            .filter(|id| self.role(*id) == Some(RoleName::Primary))
            .max_by_key(|id| self.status(*id).map(|status| status.own.conf.epoch()))
    }

    /// The longest time without an acknowledgement between `from` and `to`.
    pub fn longest_pause(&self, from: Time, to: Time) -> Time {
        let inside = self.acknowledgements.iter().copied().filter(|at| (from..=to).contains(at));
        let mut before = from;
        let mut longest = 0;
        for at in inside.chain([to]) {
            longest = longest.max(at - before);
            before = at;
        }
        longest
    }

    /// A core that asks to be woken again and again at one moment would burn a processor.
    pub(crate) fn count_step(&mut self) {
        let slot = self.now / (100 * MILLI);
        if self.steps.0 != slot {
            self.steps = (slot, 0);
        }
        self.steps.1 += 1;
        if self.steps.1 > 50_000 {
            self.violate("the cores spin: 50000 steps within 100 ms".into());
        }
    }
}

pub(crate) fn draw_drift(random: &mut Random, range: (i64, i64)) -> i64 {
    let span = u64::try_from(range.1 - range.0).expect("a range goes upwards");
    range.0 + i64::try_from(random.within((0, span))).expect("a small number")
}
