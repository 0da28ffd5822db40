//! The world: two machines, the connection between them, the witness, clients, and one queue of events in simulated time.
//! Nothing in it is left to chance but what its seeded generator draws, so the same seed gives the same run.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use duet_mvcc::{EmptySource, Store};
use duet_protocol::{
    ApplianceId, ClusterId, Conf, DiskId, Epoch, Lsn, Message, OwnState, PerAppliance, Position,
    WitnessRecord,
};

use super::clients::Client;
use super::clock::{Clock, MILLI, SECOND, Time};
use super::digest::Fold;
use super::disk::SimDisk;
use super::event::Event;
use super::kept::Kept;
use super::leases::LeaseBook;
use super::link::Link;
use super::machine::{Machine, Process};
use super::marks::Marks;
use super::operation::Operation;
use super::options::{Fault, Options};
use super::oracle::{Oracle, Verdict};
use super::random::Random;
use super::recorder::Recorder;
use super::schedule::Scheduled;
use super::state::{self, Rows};
use super::storage;
use super::watchers::Watcher;
use super::witness::{Fate, REGISTERS, Request, Witness};

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
    pub(crate) sequence: u64,
    pub(crate) lives: u64,
    /// What chance does to the pair.
    pub(crate) random: Random,
    /// What is planned: faults and clients' requests have generators of their own, so that a schedule that is given instead
    /// leaves chance as it was.
    pub(crate) plan: Random,
    pub(crate) client_plan: Random,
    pub(crate) watch_plan: Random,
    /// What chance does to watches: to nothing else, for they disturb nobody.
    pub(crate) readers: Random,
    /// Faults and requests are drawn, not given.
    pub(crate) is_drawn: bool,
    /// What was done to the pair so far.
    pub schedule_so_far: Vec<Scheduled>,
    /// The mixture of this run.
    pub options: Options,
    pub(crate) machines: PerAppliance<Machine>,
    pub(crate) link: Link,
    pub(crate) witnesses: [Witness; REGISTERS],
    pub(crate) witness_late: bool,
    /// What is being handled is the answer to a read of the witness.
    pub(crate) reading: bool,
    pub(crate) oracle: Oracle,
    pub(crate) clients: Vec<Client>,
    pub(crate) operations: Vec<Operation>,
    pub(crate) watchers: Vec<Watcher>,
    /// Leases that were asked for, in order.
    pub(crate) granted: Vec<i64>,
    pub(crate) leases: LeaseBook,
    pub(crate) recorder: Recorder,
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
        let (rows, reference, past) = if options.history == 0 {
            (Rows::default(), Store::new(Arc::new(EmptySource)), Vec::new())
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
        // What was there before a key's change may have been compacted away: asked for only where nothing is.
        let watchers = (0..options.watchers).map(|_| Watcher::new(!options.compaction)).collect();
        let mut world = Self {
            now: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            lives: 0,
            random,
            plan: Random::new(seed ^ 0x00fa_0175),
            client_plan: Random::new(seed ^ 0xc11e_0175),
            watch_plan: Random::new(seed ^ 0x3a7c_0175),
            readers: Random::new(seed ^ 0x4ead_0175),
            is_drawn: true,
            schedule_so_far: Vec::new(),
            machines,
            link: Link::default(),
            witnesses: [Witness::new(Some(record)), Witness::new(None)],
            witness_late: false,
            reading: false,
            oracle: Oracle::new(base, conf, reference),
            clients,
            operations: Vec::new(),
            watchers,
            granted: Vec::new(),
            leases: LeaseBook::default(),
            recorder: Recorder::new(&past),
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

    pub(crate) fn process_of(&self, id: ApplianceId, life: u64) -> Option<&Process> {
        self.machines.get(id).process.as_ref().filter(|process| process.life == life)
    }

    pub(crate) fn process_of_mut(&mut self, id: ApplianceId, life: u64) -> Option<&mut Process> {
        self.machines.get_mut(id).process.as_mut().filter(|process| process.life == life)
    }

    pub(crate) fn life_of(&self, id: ApplianceId) -> Option<u64> {
        self.machines.get(id).process.as_ref().map(|process| process.life)
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
