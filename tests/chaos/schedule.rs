//! What goes wrong and when: storms of a few seconds, drawn from the seed. In a storm each of the two appliances, of the
//! three lines and the witness suffers at most one fault; after it everything is healed.

use std::fmt;
use std::time::Duration;

use duet_protocol::ApplianceId::{self, A, B};
use duet_server::failpoint::DISK_CHANGE;

use crate::proxy::{Line, Way};
use crate::random::Random;

/// Everything in a storm begins and ends within this many milliseconds.
const STORM: u64 = 3500;
/// Faults of one storm.
const FAULTS: [u64; 6] = [1, 1, 2, 2, 3, 4];
/// Durable steps at which an appliance is killed; those of serving, of which every storm reaches some.
const STEPS: [&str; 8] = [
    "own_state.save.before",
    "own_state.save.after",
    "log.append.before",
    "log.append.after",
    "log.sync.before",
    "log.sync.after",
    "witness.request.before",
    "witness.request.after",
];

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// `kill -9`.
    Kill(ApplianceId),
    /// Both, at one moment.
    KillBoth,
    /// It kills itself at a durable step, when it comes there for the nth time.
    CrashAt(ApplianceId, &'static str, u64),
    /// The power fails at a durable step or change of its disk, when it comes there for the nth time. What was not synced
    /// meets its fate, by the dice of a seed.
    PowerCut(ApplianceId, &'static str, u64, u64),
    /// Of both, at their next changes of the disk.
    PowerCutBoth(u64),
    /// There is no space on its disk, then there is again.
    DiskFull(ApplianceId),
    /// SIGSTOP, later SIGCONT.
    Pause(ApplianceId),
    /// SIGTERM; started again later.
    SoftStop(ApplianceId),
    /// Both, at one moment.
    SoftStopBoth,
    /// The primary, if it is this one, hands over.
    Switchover(ApplianceId),
    /// Every fsync of the log takes so many milliseconds longer.
    SlowSync(ApplianceId, u64),
    /// The line between the appliances.
    PeerLine(Line),
    /// What one appliance sends to the other.
    PeerWay(ApplianceId, Line),
    /// All connections between the appliances are closed once.
    PeerReset,
    /// The line between an appliance and the witness.
    WitnessLine(ApplianceId, Line),
    /// One direction of it. `Back`: a request is carried out and its answer lost.
    WitnessWay(ApplianceId, Way, Line),
    /// The witness is killed.
    WitnessKill,
    /// The witness does not answer.
    WitnessPause,
    /// The witness comes back empty.
    WitnessWipe,
}

impl Fault {
    /// What it befalls; a storm leaves each alone or gives it one fault.
    pub const fn target(self) -> Target {
        match self {
            Self::Kill(id)
            | Self::CrashAt(id, ..)
            | Self::PowerCut(id, ..)
            | Self::DiskFull(id)
            | Self::Pause(id)
            | Self::SoftStop(id)
            | Self::Switchover(id)
            | Self::SlowSync(id, _) => Target::Appliance(id),
            Self::KillBoth | Self::PowerCutBoth(_) | Self::SoftStopBoth => Target::Both,
            Self::PeerLine(_) | Self::PeerWay(..) | Self::PeerReset => Target::PeerLine,
            Self::WitnessLine(id, _) | Self::WitnessWay(id, ..) => Target::WitnessLine(id),
            Self::WitnessKill | Self::WitnessPause | Self::WitnessWipe => Target::Witness,
        }
    }
}

impl Fault {
    /// What it is called in a table.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Kill(_) => "process killed",
            Self::KillBoth => "both killed at once",
            Self::CrashAt(..) => "killed at a durable step",
            Self::PowerCut(..) => "power cut",
            Self::PowerCutBoth(_) => "power cut on both at once",
            Self::DiskFull(_) => "disk full",
            Self::Pause(_) => "process paused",
            Self::SoftStop(_) => "soft shutdown",
            Self::SoftStopBoth => "soft shutdown of both at once",
            Self::Switchover(_) => "switchover",
            Self::SlowSync(..) => "slow fsync",
            Self::PeerLine(_) => "line A-B cut, silent or slow",
            Self::PeerWay(..) => "line A-B silent one way",
            Self::PeerReset => "connections A-B reset",
            Self::WitnessLine(..) => "line to the witness cut or silent",
            Self::WitnessWay(..) => "line to the witness silent one way",
            Self::WitnessKill => "witness killed",
            Self::WitnessPause => "witness paused",
            Self::WitnessWipe => "witness emptied",
        }
    }
}

/// What a fault befalls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    Appliance(ApplianceId),
    Both,
    PeerLine,
    WitnessLine(ApplianceId),
    Witness,
}

impl Target {
    fn is_disjoint(self, other: Self) -> bool {
        let covers = |one: Self, other: Self| one == Self::Both && matches!(other, Self::Appliance(_));
        self != other && !covers(self, other) && !covers(other, self)
    }
}

/// A fault and its time, from the beginning of its storm.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub fault: Fault,
    pub begin: Duration,
    pub end: Duration,
}

/// What goes wrong together.
#[derive(Clone, Debug)]
pub struct Storm {
    pub events: Vec<Event>,
    /// The next one comes only when both are in sync again; else very soon.
    pub then_calm: bool,
}

/// The next storm.
pub fn storm(random: &mut Random) -> Storm {
    let count = random.pick(&FAULTS);
    let mut events: Vec<Event> = Vec::new();
    for _ in 0..count {
        let fault = fault(random);
        if events.iter().all(|event| event.fault.target().is_disjoint(fault.target())) {
            let begin = random.within(0..STORM / 2);
            let end = random.within(begin + 50..STORM);
            events.push(Event {
                fault,
                begin: Duration::from_millis(begin),
                end: Duration::from_millis(end),
            });
        }
    }
    Storm { events, then_calm: random.percent(75) }
}

fn fault(random: &mut Random) -> Fault {
    let id = random.pick(&[A, B]);
    match random.within(0..27) {
        0 | 1 => Fault::Kill(id),
        2 => Fault::KillBoth,
        3 | 4 => Fault::CrashAt(id, random.pick(&STEPS), random.within(1..4)),
        5 | 6 => Fault::Pause(id),
        7 | 8 => Fault::SoftStop(id),
        9 => Fault::SoftStopBoth,
        10 => Fault::Switchover(id),
        11 => Fault::SlowSync(id, random.pick(&[20, 100, 400])),
        12 => Fault::PeerLine(random.pick(&[Line::Cut, Line::Silent, Line::Slow(Duration::from_millis(30))])),
        13 | 14 => Fault::PeerWay(id, Line::Silent),
        15 => Fault::PeerReset,
        16 => Fault::WitnessLine(id, random.pick(&[Line::Cut, Line::Silent])),
        17 => Fault::WitnessWay(id, random.pick(&[Way::There, Way::Back]), Line::Silent),
        18 => random.pick(&[Fault::WitnessKill, Fault::WitnessPause]),
        19 => Fault::WitnessWipe,
        20 | 21 => {
            let (changes, step, times) = (random.within(1..200), random.pick(&STEPS), random.within(1..4));
            // Most often in the middle of a change.
            let (step, times) = if random.percent(70) { (DISK_CHANGE, changes) } else { (step, times) };
            Fault::PowerCut(id, step, times, random.within(0..1_000_000))
        }
        22 => Fault::PowerCut(id, DISK_CHANGE, 1, random.within(0..1_000_000)),
        23 | 24 => Fault::PowerCutBoth(random.within(0..1_000_000)),
        _ => Fault::DiskFull(id),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |line: &Line| match line {
            Line::Open => "open",
            Line::Cut => "cut",
            Line::Silent => "silent",
            Line::Slow(_) => "slow",
        };
        match self {
            Self::Kill(id) => write!(f, "{id} is killed"),
            Self::KillBoth => f.write_str("both are killed"),
            Self::CrashAt(id, step, times) => write!(f, "{id} crashes at {step}, time {times}"),
            Self::PowerCut(id, step, times, seed) => {
                write!(f, "the power of {id} fails at {step}, time {times}, dice {seed}")
            }
            Self::PowerCutBoth(seed) => write!(f, "the power of both fails, dice {seed}"),
            Self::DiskFull(id) => write!(f, "the disk of {id} is full"),
            Self::Pause(id) => write!(f, "{id} is paused"),
            Self::SoftStop(id) => write!(f, "{id} is stopped softly"),
            Self::SoftStopBoth => f.write_str("both are stopped softly"),
            Self::Switchover(id) => write!(f, "{id} is to hand over"),
            Self::SlowSync(id, time) => write!(f, "each fsync of {id} takes {time} ms more"),
            Self::PeerLine(state) => write!(f, "the line A-B is {}", line(state)),
            Self::PeerWay(from, state) => write!(f, "the way {from} to {} is {}", from.peer(), line(state)),
            Self::PeerReset => f.write_str("the connections A-B are reset"),
            Self::WitnessLine(id, state) => write!(f, "the line {id}-witness is {}", line(state)),
            Self::WitnessWay(id, Way::There, state) => {
                write!(f, "the way {id} to witness is {}", line(state))
            }
            Self::WitnessWay(id, Way::Back, state) => write!(f, "the way witness to {id} is {}", line(state)),
            Self::WitnessKill => f.write_str("the witness is killed"),
            Self::WitnessPause => f.write_str("the witness is paused"),
            Self::WitnessWipe => f.write_str("the witness is emptied"),
        }
    }
}
