//! Explores the pair protocol: `explore [--writes N] [--crashes N] [--softs N] [--leaves N] [--attempts N] [--late N] [--reconnects N]
//! [--reads N] [--notes N] [--losses N] [--foreigns N] [--inits N] [--damages N] [--blanks N] [--messages N] [--empty | --first | --solo | --down] [--checkpoints] [--trims] [--keep-all] [--tamper NAME] [--seconds N] [--states N] [--all N] [--walks N --seed N] [--ways-out N]`, or `explore quick`, `explore deep` (the lists in campaign.rs, two searches at a time; `--seconds` and
//! `--states` bound each, `--ways-out` the situations tried).

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use duet_sim::explore::{Bounds, Campaign, DEEP, Limits, QUICK, Report, Search, Start, Tamper};

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

fn options() -> Result<Options, String> {
    let mut options = Options {
        bounds: Bounds::default(),
        start: Start::Pair,
        limits: Limits { progress: true, ..Limits::default() },
        walks: 0,
        seed: 1,
        ways_out: 0,
        tamper: None,
        keeps_all: false,
        campaigns: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--first" {
            options.start = Start::First;
            continue;
        }
        if word == "quick" || word == "deep" {
            options.campaigns = Some(if word == "deep" { DEEP } else { QUICK });
            options.limits.progress = false;
            continue;
        }
        if word == "--empty" {
            options.start = Start::Empty;
            continue;
        }
        if word == "--solo" {
            options.start = Start::Solo;
            continue;
        }
        if word == "--down" {
            options.start = Start::Down;
            continue;
        }
        if word == "--trims" {
            options.bounds.trims = true;
            continue;
        }
        if word == "--checkpoints" {
            options.bounds.checkpoints = true;
            continue;
        }
        if word == "--keep-all" {
            options.keeps_all = true;
            continue;
        }
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        if word == "--tamper" {
            let known = Tamper::ALL.into_iter().find(|tamper| format!("{tamper:?}") == value);
            options.tamper = Some(known.ok_or_else(|| format!("unknown: {value}"))?);
            continue;
        }
        let number: u64 = value.parse().map_err(|_| format!("{word} needs a number, not {value}"))?;
        let small = u8::try_from(number);
        let bounds = &mut options.bounds;
        let bound = match word.as_str() {
            "--writes" => Some(&mut bounds.writes),
            "--crashes" => Some(&mut bounds.crashes),
            "--softs" => Some(&mut bounds.softs),
            "--attempts" => Some(&mut bounds.attempts),
            "--late" => Some(&mut bounds.late),
            "--reconnects" => Some(&mut bounds.reconnects),
            "--reads" => Some(&mut bounds.reads),
            "--notes" => Some(&mut bounds.notes),
            "--leaves" => Some(&mut bounds.leaves),
            "--losses" => Some(&mut bounds.losses),
            "--foreigns" => Some(&mut bounds.foreigns),
            "--inits" => Some(&mut bounds.inits),
            "--damages" => Some(&mut bounds.damages),
            "--blanks" => Some(&mut bounds.blanks),
            "--messages" => Some(&mut bounds.messages),
            _ => None,
        };
        if let Some(bound) = bound {
            *bound = small.map_err(|_| format!("{word} is too large"))?;
            continue;
        }
        let size = usize::try_from(number).map_err(|_| format!("{word} is too large"))?;
        match word.as_str() {
            "--seconds" => options.limits.time = Duration::from_secs(number),
            "--states" => options.limits.states = size,
            "--all" => options.limits.violations = size,
            "--walks" => options.walks = number,
            "--seed" => options.seed = number,
            "--ways-out" => options.ways_out = size,
            _ => return Err(format!("unknown option: {word}")),
        }
    }
    Ok(options)
}

/// Peak memory in MiB, where the system tells.
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

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    if let Some(list) = options.campaigns {
        return campaigns(list, &options.limits, options.ways_out.max(1_000));
    }
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
