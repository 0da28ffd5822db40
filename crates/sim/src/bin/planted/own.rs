//! The checkers that this program is itself: exploration and simulation, each for a given processor time.

use std::process::ExitCode;
use std::time::Duration;

use duet_sim::explore::{Bounds, Limits, Report, Search, Start};
use duet_sim::simulate::{SECOND, run as simulate};
use rustix::time::{ClockId, clock_gettime};

/// What a check ends with that has found something.
pub const CAUGHT: i32 = 3;

/// Before the sentence about it.
const FOUND: &str = "found: ";

/// The quick ones in the order in which they try, with the crates whose bugs they may catch.
pub const QUICK: &[(&str, &[&str])] = &[
    ("explore equal", PROTOCOL),
    ("explore small", PROTOCOL),
    ("explore agreements", PROTOCOL),
    ("explore notes", PROTOCOL),
    ("explore first and down", PROTOCOL),
    ("explore old appends", PROTOCOL),
    ("explore disks", PROTOCOL),
    ("explore another witness", PROTOCOL),
];

/// The others.
pub const LONG: &[(&str, &[&str])] = &[
    ("explore walks", PROTOCOL),
    ("simulate", SIMULATED),
    ("explore deep walks", PROTOCOL),
    ("simulate long", SIMULATED),
];

const PROTOCOL: &[&str] = &["protocol"];
const SIMULATED: &[&str] = &["protocol", "mvcc", "storage", "serving"];

/// Runs one of them in this process.
pub fn run(name: &str) -> ExitCode {
    std::panic::set_hook(Box::new(|_| {})); // a violated assertion is reported by the checkers
    match check(name) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            println!("{FOUND}{}", sentence.lines().next().unwrap_or_default());
            ExitCode::from(u8::try_from(CAUGHT).unwrap_or(u8::MAX))
        }
    }
}

/// The sentence of a check that has found something.
pub fn sentence(output: &str) -> Option<String> {
    output.lines().find_map(|line| line.strip_prefix(FOUND)).map(str::to_owned)
}

fn check(name: &str) -> Result<(), String> {
    let few = Bounds { writes: 1, softs: 0, attempts: 1, late: 0, ..Bounds::default() };
    let calm = Bounds { crashes: 0, attempts: 2, ..few };
    match name {
        "explore small" => explore(few, &[Start::Pair], 200_000),
        "explore agreements" => {
            let bounds = Bounds { writes: 0, late: 1, messages: 2, ..calm };
            explore(bounds, &[Start::Pair, Start::Down], 100_000)
        }
        "explore notes" => {
            let bounds = Bounds { leaves: 1, notes: 1, losses: 1, ..few };
            explore(bounds, &[Start::Solo, Start::Pair], 100_000)
        }
        "explore equal" => {
            explore(Bounds { writes: 2, softs: 1, messages: 0, ..calm }, &[Start::Pair], 200_000)
        }
        "explore first and down" => {
            explore(Bounds { crashes: 1, ..calm }, &[Start::First, Start::Down], 100_000)
        }
        "explore disks" => {
            let bounds = Bounds { writes: 1, crashes: 1, attempts: 1, messages: 1, ..Bounds::NONE };
            explore(Bounds { damages: 1, ..bounds }, &[Start::Pair, Start::Solo], 100_000)?;
            explore(Bounds { blanks: 1, foreigns: 1, ..bounds }, &[Start::Pair, Start::Down], 100_000)
        }
        "explore another witness" => {
            let bounds = Bounds { crashes: 1, attempts: 1, moves: 1, messages: 1, ..Bounds::NONE };
            explore(bounds, &[Start::Pair], 200_000)
        }
        "explore old appends" => explore(Bounds { writes: 2, messages: 2, ..few }, &[Start::Pair], 100_000),
        "explore walks" => {
            let bounds = Bounds { writes: 2, crashes: 2, attempts: 4, messages: 2, ..Bounds::default() };
            walk(bounds, Duration::from_secs(20))
        }
        "explore deep walks" => {
            let bounds = Bounds {
                writes: 3,
                crashes: 3,
                softs: 2,
                leaves: 1,
                attempts: 6,
                reconnects: 1,
                late: 2,
                reads: 1,
                notes: 1,
                losses: 1,
                blanks: 1,
                damages: 1,
                foreigns: 1,
                moves: 2,
                checkpoints: true,
                trims: true,
                messages: 2,
                ..Bounds::NONE
            };
            walk(bounds, Duration::from_mins(1))
        }
        "simulate" => seeds(0..240, Duration::from_secs(20), |_| true),
        // Of seeds that no test has seen before only a broken promise counts: some worlds cannot converge.
        "simulate long" => {
            seeds(1000..u64::MAX, Duration::from_mins(2), |failure| !failure.starts_with("liveness"))
        }
        _ => Err(format!("{name}: there is no such check")),
    }
}

/// An exploration that delivers every message. The explorer otherwise forgets those that a sound core would ignore: with a
/// broken rule they may be the very ones that do harm.
fn search(bounds: Bounds) -> Search {
    let mut search = Search::new(bounds, None);
    search.explorer.keeps_all = true;
    search
}

/// Processor time of this process: what a busy machine does not change.
fn used() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn judge(report: &Report) -> Result<(), String> {
    match report.found.first() {
        None => Ok(()),
        Some(found) => {
            Err(format!("{} ({} steps)", found.violation.lines().next().unwrap_or_default(), found.steps))
        }
    }
}

/// Breadth first, up to a number of states.
fn explore(bounds: Bounds, starts: &[Start], states: usize) -> Result<(), String> {
    for start in starts {
        judge(&search(bounds).run(*start, &Limits { states, ..Limits::default() }))?;
    }
    Ok(())
}

/// Random walks from every start.
fn walk(bounds: Bounds, limit: Duration) -> Result<(), String> {
    let mut search = search(bounds);
    let starts = [Start::Pair, Start::Pair, Start::Solo, Start::Down, Start::First];
    for (seed, start) in (1..).zip(starts.into_iter().cycle()) {
        if used() > limit {
            return Ok(());
        }
        judge(&search.walk(start, seed, 100, 300, &Limits::default()))?;
    }
    Ok(())
}

/// Seeds of the simulation, and which failures count.
fn seeds(seeds: std::ops::Range<u64>, limit: Duration, counts: fn(&str) -> bool) -> Result<(), String> {
    for seed in seeds {
        if used() > limit {
            return Ok(());
        }
        if let Some(failure) = simulate(seed, 20 * SECOND).failure.filter(|failure| counts(failure)) {
            return Err(format!("{} (seed {seed})", failure.lines().next().unwrap_or_default()));
        }
    }
    Ok(())
}
