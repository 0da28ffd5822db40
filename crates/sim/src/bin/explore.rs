//! Explores the pair protocol: one search within given bounds, or a list of campaigns. See `explore --help`.

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use duet_sim::explore::{Bounds, Campaign, DEEP, Limits, QUICK, Report, Search, Start, Tamper};

const HELP: &str = "\
Explores every state of a small world around the real protocol core.

explore quick            the searches of every change, two at a time
explore deep             the long ones
explore [BOUND N]...     one search within these bounds (one write and one crash if none is given)

Bounds, how often each may happen at most (7 is the largest):
  --writes       client writes                    --crashes     crashes of a process
  --attempts     TAKEs and proposals (2)          --softs       partings of a lone primary
  --leaves       soft shutdowns, switchovers      --notes       notes left at the witness
  --late         witness writes applied late      --reads       witness answers that are late
  --reconnects   connections made anew            --losses      the witness loses its record
  --foreigns     another pair's record is found   --inits       runs of `duet init`
  --damages      disks that lost durable entries  --blanks      disks replaced by blank ones
  --moves        proposals of another witness
  --messages     messages in flight, a direction (1, at most 3)
  --checkpoints  a crash may leave an old checkpoint (no number)
  --trims        logs are trimmed at a checkpoint (no number)

Where it starts: a pair in sync, or
  --solo   A alone, B follows     --down    a pair, both down
  --empty  before `duet init`     --first   after it, both blank

Limits:
  --seconds N, --states N   stop there (then not every state was visited)
  --all N                   stop after N kinds of violations (1)
  --ways-out N              from N situations, is there a way to service?
  --walks N [--seed N]      random walks instead of the search
  --tamper NAME             break a rule, to see that it is caught
  --keep-all                keep messages that can do nothing any more
";

struct Options {
    bounds: Bounds,
    start: Start,
    limits: Limits,
    walks: u64,
    seed: u64,
    ways_out: usize,
    tamper: Option<Tamper>,
    keeps_all: bool,
    campaigns: Option<&'static [Campaign]>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bounds: Bounds { writes: 1, crashes: 1, attempts: 2, ..Bounds::NONE },
            start: Start::Pair,
            limits: Limits { progress: true, ..Limits::default() },
            walks: 0,
            seed: 1,
            ways_out: 0,
            tamper: None,
            keeps_all: false,
            campaigns: None,
        }
    }
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        while let Some(word) = words.next() {
            if options.take_flag(&word) {
                continue;
            }
            let value =
                words.next().ok_or_else(|| format!("{word}: unknown, or it needs a value; see --help"))?;
            if word == "--tamper" {
                let known = Tamper::ALL.into_iter().find(|tamper| format!("{tamper:?}") == value);
                options.tamper = Some(known.ok_or_else(|| {
                    let names: Vec<_> = Tamper::ALL.iter().map(|tamper| format!("{tamper:?}")).collect();
                    format!("--tamper {value}: unknown; there are {}", names.join(", "))
                })?);
                continue;
            }
            let number: u64 = value.parse().map_err(|_| format!("{word} needs a number, not {value}"))?;
            options.take_number(&word, number)?;
        }
        Ok(options)
    }

    /// Takes a word that stands alone.
    fn take_flag(&mut self, word: &str) -> bool {
        match word {
            "quick" => self.campaigns = Some(QUICK),
            "deep" => self.campaigns = Some(DEEP),
            "--first" => self.start = Start::First,
            "--empty" => self.start = Start::Empty,
            "--solo" => self.start = Start::Solo,
            "--down" => self.start = Start::Down,
            "--trims" => self.bounds.trims = true,
            "--checkpoints" => self.bounds.checkpoints = true,
            "--keep-all" => self.keeps_all = true,
            _ => return false,
        }
        true
    }

    fn take_number(&mut self, word: &str, number: u64) -> Result<(), String> {
        let bounds = &mut self.bounds;
        let (bound, most) = match word {
            "--writes" => (&mut bounds.writes, 7),
            "--crashes" => (&mut bounds.crashes, 7),
            "--softs" => (&mut bounds.softs, 7),
            "--attempts" => (&mut bounds.attempts, 7),
            "--late" => (&mut bounds.late, 7),
            "--reconnects" => (&mut bounds.reconnects, 7),
            "--reads" => (&mut bounds.reads, 7),
            "--notes" => (&mut bounds.notes, 7),
            "--leaves" => (&mut bounds.leaves, 7),
            "--losses" => (&mut bounds.losses, 7),
            "--foreigns" => (&mut bounds.foreigns, 7),
            "--inits" => (&mut bounds.inits, 7),
            "--damages" => (&mut bounds.damages, 7),
            "--blanks" => (&mut bounds.blanks, 7),
            "--moves" => (&mut bounds.moves, 7),
            "--messages" => (&mut bounds.messages, 3),
            _ => return self.take_limit(word, number),
        };
        *bound = u8::try_from(number)
            .ok()
            .filter(|&number| number <= most)
            .ok_or_else(|| format!("{word} {number}: at most {most}"))?;
        Ok(())
    }

    fn take_limit(&mut self, word: &str, number: u64) -> Result<(), String> {
        let size = usize::try_from(number).map_err(|_| format!("{word} {number}: too large"))?;
        match word {
            "--seconds" => self.limits.time = Duration::from_secs(number),
            "--states" => self.limits.states = size,
            "--all" => self.limits.violations = size,
            "--walks" => self.walks = number,
            "--seed" => self.seed = number,
            "--ways-out" => self.ways_out = size,
            _ => return Err(format!("{word}: unknown; see --help")),
        }
        Ok(())
    }
}

/// Peak memory, where the system tells.
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("unknown");
    peak.trim().to_string()
}

/// The campaigns of a list, two at a time; prints a row for each.
fn campaigns(list: &'static [Campaign], limits: &Limits, ways_out: usize) -> ExitCode {
    println!(
        "| campaign | states | depth | seconds | states/s | ways out | found |\n|---|---|---|---|---|---|---|"
    );
    let limits = &Limits { progress: false, ..*limits };
    let next = AtomicUsize::new(0);
    let found = AtomicUsize::new(0);
    let work = || {
        while let Some(campaign) = list.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = campaign.run(limits, ways_out);
            println!("{}", campaign.row(&outcome));
            for violation in outcome.found() {
                found.fetch_add(1, Ordering::Relaxed);
                println!("\n{}: VIOLATION in {} steps:\n{}", campaign.name, violation.steps, violation.text);
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    println!("memory {}", memory());
    if found.into_inner() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One search, or walks; prints what was met.
fn search(options: &Options) -> ExitCode {
    println!("start: {:?}; bounds: {:?}; broken rule: {:?}", options.start, options.bounds, options.tamper);
    let mut search = Search::new(options.bounds, options.tamper);
    search.explorer.keeps_all = options.keeps_all;
    search.situations.wanted = options.ways_out > 0;
    let mut report: Report = if options.walks > 0 {
        search.walk(options.start, options.seed, options.walks, 400, &options.limits)
    } else {
        search.run(options.start, &options.limits)
    };
    println!(
        "{} states{}, {} transitions, depth {}, {:.1} s, memory {}, {} appliance states, {} messages, {} witness states",
        report.states,
        if report.complete { " (all)" } else { "" },
        report.transitions,
        report.depth,
        report.time.as_secs_f64(),
        memory(),
        search.explorer.nodes.len(),
        search.explorer.messages.len(),
        search.explorer.witnesses.len(),
    );
    if options.ways_out > 0 && options.walks == 0 {
        let began = std::time::Instant::now();
        let found = search.ways_out(options.ways_out);
        println!(
            "availability: {} situations, {} computations, {} stuck, {:.1} s",
            found.situations,
            found.expected,
            found.stuck.len(),
            began.elapsed().as_secs_f64()
        );
        report.found.extend(found.stuck);
    }
    println!("reached:");
    for (what, count) in search.explorer.coverage.all() {
        println!("  {count:>9}  {what}");
    }
    for found in &report.found {
        println!("\nVIOLATION in {} steps:\n{}", found.steps, found.text);
    }
    if report.found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--help" || word == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match Options::parse(words.into_iter()) {
        Ok(Options { campaigns: Some(list), limits, ways_out, .. }) => {
            campaigns(list, &limits, ways_out.max(1_000))
        }
        Ok(options) => search(&options),
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}
