//! What a run is made of. Every run draws another mixture from its seed (swarm testing): some faults are left out
//! altogether, so that the others can go deep.

use super::clock::{MICRO, MILLI, MOST_DRIFT, SECOND, Time};
use super::random::Random;

macro_rules! faults {
    ($($name:ident = $words:literal,)*) => {
        /// Every kind of fault that can be injected at random.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[allow(missing_docs, reason = "the words are below")]
        pub enum Fault { $($name,)* }

        impl Fault {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// What it is, for people.
            pub const fn words(self) -> &'static str {
                match self { $(Self::$name => $words,)* }
            }
        }
    };
}

faults! {
    Crash = "process killed",
    PowerCut = "power cut",
    BothCrash = "power cut on both at once",
    SoftStop = "soft shutdown",
    BothStop = "soft shutdown of both at once",
    Switchover = "switchover",
    CutBothWays = "link cut both ways",
    CutOneWay = "link cut one way",
    ConnectionReset = "connection reset",
    Freeze = "process frozen",
    DriverStall = "driver stalled, readers go on",
    WitnessDown = "witness down",
    WitnessUnreachable = "witness unreachable for one",
    WitnessLate = "witness requests late, lost or unanswered",
    WitnessWiped = "witness record lost",
    SlowDisk = "slow fsync",
    DiskLost = "disk replaced by a blank one, or its last writes lost",
    ClockRate = "clock rates change",
    Flapping = "flapping link",
    FailingSync = "failing fsync",
    DiskFull = "disk full",
    DroppedWrite = "log: dropped write",
    TornWrite = "log: torn write that was acknowledged",
    MisdirectedWrite = "log: misdirected write",
    FlippedBit = "log: flipped bit",
    StateDropped = "state store: dropped write",
    StateTorn = "state store: torn write that was acknowledged",
    StateMisdirected = "state store: misdirected write",
    StateFlipped = "state store: flipped bit",
    WitnessMoved = "another witness",
    WitnessSetBack = "witness set back to an old copy while both hold the newest configuration",
}

impl Fault {
    /// The fault of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|fault| format!("{fault:?}") == name)
    }
}

/// How the two appliances' messages are mistreated beyond what an ordered connection allows, in parts per thousand.
#[derive(Clone, Copy, Debug)]
pub struct Lossy {
    /// Lost.
    pub lost: u64,
    /// Delivered twice.
    pub doubled: u64,
    /// Delivered late, past other messages, restarts and new connections.
    pub late: u64,
    /// How late.
    pub delay: (Time, Time),
}

/// The mixture of one run. Ranges are drawn from anew each time.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many clients write and read.
    pub clients: usize,
    /// Writes among their operations, in parts per thousand.
    pub writes: u64,
    /// A client's pause between two operations.
    pub think: (Time, Time),
    /// Commands in one write request.
    pub batch: (u64, u64),
    /// One way between the appliances.
    pub latency: (Time, Time),
    /// The log's fsync.
    pub fsync: (Time, Time),
    /// Making the own state durable.
    pub save: (Time, Time),
    /// The state machine applies what is committed.
    pub apply: (Time, Time),
    /// Between two checkpoints.
    pub checkpoint: (Time, Time),
    /// One way to the witness.
    pub witness_latency: (Time, Time),
    /// After this long without an answer the driver reports `Unknown`; `None`: never, the core has to notice.
    pub witness_deadline: Option<Time>,
    /// Until an appliance notices that a dead or cut connection is gone.
    pub detection: (Time, Time),
    /// Each clock's error in parts per million.
    pub drift: (i64, i64),
    /// Messages are mistreated.
    pub lossy: Option<Lossy>,
    /// Between two faults.
    pub fault_every: (Time, Time),
    /// The faults of this run.
    pub faults: Vec<Fault>,
    /// How long a fault lasts.
    pub fault_lasts: (Time, Time),
    /// LSN of the history both appliances begin with, trimmed away: a blank disk needs a full copy.
    pub history: u64,
    /// Size of the log's segments in bytes.
    pub segment_bytes: u64,
    /// Entries that the log keeps below its checkpoint; `None`: as many as the product does.
    pub retain: Option<u64>,
    /// Durable entries that are kept in memory.
    pub tail: usize,
    /// Clients grant, use and renew leases.
    pub leases: bool,
    /// Clients compact the history.
    pub compaction: bool,
    /// How many clients watch.
    pub watchers: usize,
    /// Batches of recent events that are kept for watches.
    pub ring: usize,
    /// Events of the history that a watch reads at once.
    pub watch_piece: usize,
    /// How long the safety phase lasts.
    pub safety: Time,
}

impl Options {
    /// A quiet, fast world without faults: the ground for scenarios.
    pub fn quiet() -> Self {
        Self {
            clients: 0,
            writes: 700,
            think: (2 * MILLI, 10 * MILLI),
            batch: (1, 1),
            latency: (100 * MICRO, 300 * MICRO),
            fsync: (500 * MICRO, 2 * MILLI),
            save: (500 * MICRO, 2 * MILLI),
            apply: (10 * MICRO, 100 * MICRO),
            checkpoint: (SECOND, 5 * SECOND),
            witness_latency: (MILLI, 5 * MILLI),
            witness_deadline: Some(SECOND),
            detection: (200 * MICRO, MILLI),
            drift: (0, 0),
            lossy: None,
            fault_every: (SECOND, SECOND),
            faults: Vec::new(),
            fault_lasts: (SECOND, SECOND),
            history: 0,
            segment_bytes: 256 << 10,
            retain: None,
            tail: 64,
            leases: false,
            compaction: true,
            watchers: 0,
            ring: 64,
            watch_piece: 1000,
            safety: 0,
        }
    }

    /// The mixture of a seed.
    pub fn draw(random: &mut Random, safety: Time) -> Self {
        let mut options = Self::quiet();
        options.clients = usize::try_from(random.within((1, 4))).expect("a few clients");
        options.writes = random.pick(&[200, 500, 800, 950]);
        options.think =
            random.pick(&[(20 * MILLI, 200 * MILLI), (10 * MILLI, 400 * MILLI), (100 * MILLI, SECOND)]);
        options.batch = random.pick(&[(1, 1), (1, 3), (1, 10)]);
        if random.chance(50) {
            // Mostly there is little to do, for the sake of speed; a log and a pipeline that are busy are another world.
            options.think = random.pick(&[(MICRO, 2 * MILLI), (MILLI, 30 * MILLI)]);
            options.batch = random.pick(&[(1, 3), (1, 40)]);
        }
        options.latency = random.pick(&[
            (50 * MICRO, 200 * MICRO),
            (200 * MICRO, 3 * MILLI),
            (MILLI, 30 * MILLI),
            (10 * MILLI, 40 * MILLI),
        ]);
        options.fsync = random.pick(&[(50 * MICRO, 200 * MICRO), (MILLI, 12 * MILLI), (MILLI, 90 * MILLI)]);
        options.save = random.pick(&[(50 * MICRO, 200 * MICRO), (MILLI, 12 * MILLI), (MILLI, 90 * MILLI)]);
        options.apply = random.pick(&[(MICRO, 50 * MICRO), (MILLI, 30 * MILLI)]);
        options.checkpoint = random.pick(&[(100 * MILLI, SECOND), (SECOND, 10 * SECOND)]);
        options.witness_latency = random.pick(&[
            (100 * MICRO, MILLI),
            (MILLI, 40 * MILLI),
            (20 * MILLI, 300 * MILLI),
            (100 * MILLI, 900 * MILLI),
        ]);
        options.witness_deadline = random.pick(&[Some(SECOND), Some(2 * SECOND), None]);
        options.detection =
            random.pick(&[(100 * MICRO, MILLI), (MILLI, 300 * MILLI), (300 * MILLI, 5 * SECOND)]);
        options.drift = if random.chance(600) { (-MOST_DRIFT, MOST_DRIFT) } else { (-100, 100) };
        if random.chance(250) {
            options.lossy = Some(Lossy {
                lost: random.pick(&[0, 20, 200]),
                doubled: random.pick(&[0, 20, 200]),
                late: random.pick(&[5, 50, 300]),
                delay: random.pick(&[(MILLI, 100 * MILLI), (10 * MILLI, 5 * SECOND)]),
            });
        }
        options.fault_every = random.pick(&[
            (MILLI, 300 * MILLI),
            (10 * MILLI, 2 * SECOND),
            (100 * MILLI, 5 * SECOND),
            (SECOND, 20 * SECOND),
        ]);
        options.fault_lasts =
            random.pick(&[(MILLI, 500 * MILLI), (10 * MILLI, 5 * SECOND), (100 * MILLI, 20 * SECOND)]);
        let share = random.pick(&[150, 350, 600, 1000]);
        for fault in Fault::ALL.iter().copied() {
            if random.chance(share) {
                options.faults.push(fault);
            }
        }
        if options.faults.is_empty() {
            options.faults.push(Fault::Crash);
        }
        options.history = random.pick(&[0, 0, 1000]);
        options.segment_bytes = random.pick(&[16 << 10, 64 << 10, 256 << 10]);
        options.retain = Some(random.pick(&[20, 200, 1000]));
        options.tail = random.pick(&[2, 20, 400]);
        options.leases = random.chance(700);
        options.compaction = random.chance(700);
        options.watchers = usize::try_from(random.within((0, 3))).expect("a few watchers");
        options.ring = random.pick(&[1, 4, 64, 8192]);
        options.watch_piece = random.pick(&[1, 7, 1000]);
        options.safety = safety;
        options
    }
}
