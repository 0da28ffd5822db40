//! Runs seeds of the simulation and reports. A failure is saved to a file and prints the commands that replay and shorten it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use duet_sim::simulate::{
    Fault, Marks, Outcome, Record, SECOND, Time, replay_traced, run, run_traced, shrink,
};

const USAGE: &str = "usage: simulate [--seeds N] [--seed K] [--minutes M] [--seconds S] [--trace] [--keep-going] [--table]
       simulate replay FILE [--from T] [--to T]
       simulate shrink FILE | --seed K [--seconds S] [--tries N]

  --seeds N      how many seeds to run (default 1000), from --seed on
  --seed K       the first seed (default 0); without --seeds only this one
  --minutes M    stop after M minutes of real time, whatever --seeds says
  --seconds S    simulated seconds under faults per run (default 40)
  --trace        print the last events of a single seed
  --keep-going   do not stop at the first failure
  --table        print the fault table as in docs/testing.md

  replay FILE    has a recorded run again and prints every event with what it changes; --from and --to are seconds
  shrink         leaves out parts of a failing run's schedule as long as it fails in the same way; at most N runs (400)";

/// Where records of failures go.
const FAILURES: &str = "target/simulation";

struct Arguments {
    words: Vec<String>,
    numbers: BTreeMap<&'static str, f64>,
    flags: Vec<&'static str>,
}

const NUMBERS: [&str; 7] = ["--seeds", "--seed", "--minutes", "--seconds", "--from", "--to", "--tries"];
const FLAGS: [&str; 3] = ["--trace", "--keep-going", "--table"];

impl Arguments {
    fn parse() -> Result<Self, String> {
        let mut arguments = Self { words: Vec::new(), numbers: BTreeMap::new(), flags: Vec::new() };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            if let Some(name) = NUMBERS.iter().find(|name| **name == word) {
                let text = words.next().ok_or(format!("{word} needs a number"))?;
                let number = text.parse::<f64>().map_err(|_| format!("{word}: {text} is not a number"))?;
                arguments.numbers.insert(name, number);
            } else if let Some(flag) = FLAGS.iter().find(|flag| **flag == word) {
                arguments.flags.push(flag);
            } else if word.starts_with('-') {
                return Err(format!("{word} is unknown"));
            } else {
                arguments.words.push(word);
            }
        }
        Ok(arguments)
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "people give small whole numbers"
    )]
    fn number(&self, name: &str) -> Option<u64> {
        self.numbers.get(name).map(|number| *number as u64)
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    fn safety(&self) -> Time {
        self.number("--seconds").unwrap_or(40) * SECOND
    }
}

fn main() -> ExitCode {
    let done = Arguments::parse().and_then(|arguments| {
        let words: Vec<&str> = arguments.words.iter().map(String::as_str).collect();
        match words.as_slice() {
            [] => {
                match (arguments.number("--seed"), arguments.number("--seeds"), arguments.number("--minutes"))
                {
                    (Some(seed), None, None) => Ok(one(seed, &arguments)),
                    _ => Ok(many(&arguments)),
                }
            }
            ["replay", file] => Ok(again(&read(file)?, &arguments)),
            ["shrink"] => {
                let seed = arguments.number("--seed").ok_or("shrink needs a file or --seed")?;
                shorten(&run(seed, arguments.safety()).record, &arguments)
            }
            ["shrink", file] => shorten(&read(file)?, &arguments),
            _ => Err(format!("{} is unknown", words.join(" "))),
        }
    });
    done.unwrap_or_else(|why| {
        eprintln!("{why}\n{USAGE}");
        ExitCode::from(2)
    })
}

fn read(file: &str) -> Result<Record, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    Record::from_text(&text).map_err(|why| format!("{file}: {why}"))
}

fn save(record: &Record, name: &str) -> Result<PathBuf, String> {
    let path = Path::new(FAILURES).join(name);
    std::fs::create_dir_all(FAILURES)
        .and_then(|()| std::fs::write(&path, record.to_text()))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

/// Prints how to go on with a failure, after saving its record.
fn tell(outcome: &Outcome, failure: &str) {
    let seed = outcome.record.seed;
    println!("FAILURE of seed {seed}: {failure}");
    let command = "cargo run --release -p duet-sim --bin simulate --";
    match save(&outcome.record, &format!("seed-{seed}.record")) {
        Ok(path) => {
            println!("  replay: {command} replay {}", path.display());
            println!("  shrink: {command} shrink {}", path.display());
        }
        Err(why) => {
            println!("  (not saved: {why})");
            println!("  replay: {command} --seed {seed} --seconds {}", outcome.record.safety / SECOND);
        }
    }
}

fn one(seed: u64, arguments: &Arguments) -> ExitCode {
    let outcome = run_traced(seed, arguments.safety());
    if arguments.has("--trace") {
        for line in &outcome.trace {
            println!("{line}");
        }
    }
    println!(
        "seed {seed}: digest {:016x}, {} writes, {} promotions",
        outcome.digest, outcome.written, outcome.promotions
    );
    match &outcome.failure {
        None => ExitCode::SUCCESS,
        Some(failure) => {
            tell(&outcome, failure);
            ExitCode::FAILURE
        }
    }
}

/// Steps through a recorded run.
fn again(record: &Record, arguments: &Arguments) -> ExitCode {
    let outcome = replay_traced(record);
    let from = arguments.numbers.get("--from").copied().unwrap_or(0.0);
    let to = arguments.numbers.get("--to").copied().unwrap_or(f64::INFINITY);
    for line in &outcome.trace {
        let at: f64 = line.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
        if at >= from && at <= to {
            println!("{line}");
        }
    }
    println!("digest {:016x}, {} steps of the schedule", outcome.digest, record.schedule.len());
    match &outcome.failure {
        None => {
            println!("it does not fail");
            ExitCode::SUCCESS
        }
        Some(failure) => {
            println!("FAILURE: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn shorten(record: &Record, arguments: &Arguments) -> Result<ExitCode, String> {
    let tries = usize::try_from(arguments.number("--tries").unwrap_or(400)).unwrap_or(usize::MAX);
    std::panic::set_hook(Box::new(|_| {}));
    let shorter = shrink(record, tries, |shorter| println!("{} steps", shorter.schedule.len()));
    let Some(shorter) = shorter else {
        println!("it does not fail");
        return Ok(ExitCode::SUCCESS);
    };
    let path = save(&shorter, &format!("seed-{}-short.record", shorter.seed))?;
    println!("{} steps of {} are left:", shorter.schedule.len(), record.schedule.len());
    for step in shorter.schedule.iter().take(60) {
        println!("  {step}");
    }
    println!("FAILURE: {}", shorter.failure.as_deref().unwrap_or(""));
    println!("  replay: cargo run --release -p duet-sim --bin simulate -- replay {}", path.display());
    Ok(ExitCode::FAILURE)
}

/// What many runs have come to.
#[derive(Default)]
struct Sum {
    runs: u64,
    failures: u64,
    simulated: u128,
    written: usize,
    promotions: usize,
    marks: Marks,
    /// For each fault: how often it was injected, and in how many runs.
    faults: BTreeMap<Fault, (u64, u64)>,
}

impl Sum {
    fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        self.failures += u64::from(outcome.failure.is_some());
        self.simulated += u128::from(outcome.simulated);
        self.written += outcome.written;
        self.promotions += outcome.promotions;
        self.marks.add(&outcome.marks);
        for (fault, count) in &outcome.faults {
            let sum = self.faults.entry(*fault).or_default();
            sum.0 += count;
            sum.1 += 1;
        }
    }

    fn print(&self, real: std::time::Duration, table: bool) {
        println!("runs {}, failures {}", self.runs, self.failures);
        println!(
            "simulated {} s in {:.1} s: {:.0} times real time",
            self.simulated / u128::from(SECOND),
            real.as_secs_f64(),
            ratio(self.simulated, real)
        );
        println!("writes acknowledged {}, promotions {}", self.written, self.promotions);
        if table {
            println!("\n| fault | injected | runs |\n|---|---|---|");
            for (fault, (count, runs)) in &self.faults {
                println!("| {} | {count} | {runs} |", fault.words());
            }
            println!();
        }
        for fault in Fault::ALL.iter().filter(|fault| !self.faults.contains_key(fault)) {
            println!("never injected: {}", fault.words());
        }
        for mark in self.marks.missing() {
            println!("never reached: {}", mark.words());
        }
    }
}

fn many(arguments: &Arguments) -> ExitCode {
    let begun = Instant::now();
    let minutes = arguments.number("--minutes");
    let seeds = arguments.number("--seeds").unwrap_or(if minutes.is_some() { u64::MAX } else { 1000 });
    std::panic::set_hook(Box::new(|_| {}));
    let mut sum = Sum::default();
    let first = arguments.number("--seed").unwrap_or(0);
    for seed in (first..).take(usize::try_from(seeds).unwrap_or(usize::MAX)) {
        if minutes.is_some_and(|minutes| begun.elapsed().as_secs() >= minutes * 60) {
            break;
        }
        let outcome = run(seed, arguments.safety());
        sum.add(&outcome);
        if let Some(failure) = &outcome.failure {
            tell(&outcome, failure);
            if !arguments.has("--keep-going") {
                break;
            }
        }
    }
    sum.print(begun.elapsed(), arguments.has("--table"));
    if sum.failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn ratio(simulated: u128, real: std::time::Duration) -> f64 {
    simulated as f64 / real.as_nanos().max(1) as f64
}
