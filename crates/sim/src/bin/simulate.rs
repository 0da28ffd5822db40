//! Runs seeds of the simulation and reports. A failure prints the one command that replays it.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use duet_sim::simulate::{Marks, SECOND, Time, run, run_traced};

struct Arguments {
    seeds: u64,
    seed: Option<u64>,
    seconds: u64,
    minutes: Option<u64>,
    trace: bool,
    keep_going: bool,
}

const USAGE: &str =
    "usage: simulate [--seeds N] [--seed K] [--minutes M] [--seconds S] [--trace] [--keep-going]
  --seeds N      how many seeds to run (default 1000), from --seed on
  --seed K       the first seed (default 0); without --seeds only this one
  --minutes M    stop after M minutes of real time, whatever --seeds says
  --seconds S    simulated seconds under faults per run (default 40)
  --trace        print the last events of a single seed
  --keep-going   do not stop at the first failure";

fn parse() -> Result<Arguments, String> {
    let mut arguments =
        Arguments { seeds: 0, seed: None, seconds: 40, minutes: None, trace: false, keep_going: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let text = words.next().ok_or(format!("{word} needs a number"))?;
            text.parse::<u64>().map_err(|_| format!("{word}: {text} is not a number"))
        };
        match word.as_str() {
            "--seeds" => arguments.seeds = number()?,
            "--seed" => arguments.seed = Some(number()?),
            "--minutes" => arguments.minutes = Some(number()?),
            "--seconds" => arguments.seconds = number()?,
            "--trace" => arguments.trace = true,
            "--keep-going" => arguments.keep_going = true,
            _ => return Err(format!("{word} is unknown")),
        }
    }
    if arguments.seeds == 0 {
        let endless = arguments.minutes.is_some();
        arguments.seeds = if endless {
            u64::MAX
        } else if arguments.seed.is_some() {
            1
        } else {
            1000
        };
    }
    Ok(arguments)
}

fn main() -> ExitCode {
    let arguments = match parse() {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let safety: Time = arguments.seconds * SECOND;
    let first = arguments.seed.unwrap_or(0);
    if arguments.seeds == 1 {
        return one(first, safety, arguments.trace);
    }
    many(&arguments, first, safety)
}

fn one(seed: u64, safety: Time, trace: bool) -> ExitCode {
    let outcome = run_traced(seed, safety);
    if trace || outcome.failure.is_some() {
        for line in &outcome.trace {
            println!("{line}");
        }
    }
    println!(
        "seed {seed}: digest {:016x}, {} writes, {} promotions",
        outcome.digest, outcome.written, outcome.promotions
    );
    match outcome.failure {
        None => ExitCode::SUCCESS,
        Some(failure) => {
            println!("FAILURE: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn many(arguments: &Arguments, first: u64, safety: Time) -> ExitCode {
    let begun = Instant::now();
    std::panic::set_hook(Box::new(|_| {}));
    let (mut runs, mut simulated, mut written, mut promotions, mut failures) = (0_u64, 0_u128, 0, 0, 0_u64);
    let mut marks = Marks::default();
    let mut faults = BTreeMap::new();
    for seed in (first..).take(usize::try_from(arguments.seeds).unwrap_or(usize::MAX)) {
        if arguments.minutes.is_some_and(|minutes| begun.elapsed().as_secs() >= minutes * 60) {
            break;
        }
        let outcome = run(seed, safety);
        runs += 1;
        simulated += u128::from(outcome.simulated);
        written += outcome.written;
        promotions += outcome.promotions;
        marks.add(&outcome.marks);
        for (fault, count) in outcome.faults {
            *faults.entry(fault).or_insert(0) += count;
        }
        if let Some(failure) = outcome.failure {
            failures += 1;
            println!("FAILURE of seed {seed}: {failure}");
            println!(
                "  replay: cargo run --release -p duet-sim --bin simulate -- --seed {seed} --seconds {}",
                arguments.seconds
            );
            if !arguments.keep_going {
                break;
            }
        }
    }
    let real = begun.elapsed();
    println!("runs {runs}, failures {failures}");
    println!(
        "simulated {} s in {:.1} s: {:.0} times real time",
        simulated / u128::from(SECOND),
        real.as_secs_f64(),
        ratio(simulated, real)
    );
    println!("writes acknowledged {written}, promotions {promotions}");
    println!(
        "faults injected: {}",
        faults
            .iter()
            .map(|(fault, count): (_, &u64)| format!("{fault:?} {count}"))
            .collect::<Vec<_>>()
            .join(", ")
    );
    for mark in marks.missing() {
        println!("never reached: {}", mark.words());
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn ratio(simulated: u128, real: std::time::Duration) -> f64 {
    simulated as f64 / real.as_nanos().max(1) as f64
}
