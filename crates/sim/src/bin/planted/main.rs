//! Tests the tests: runs every bug that can be planted in protocol, mvcc, storage and witness against the checkers, until
//! one catches it. See docs/testing.md.
//!
//! Each check is a process of its own with `DUET_PLANTED` set: either tests, built once with the same feature, or this
//! program itself (exploration and simulation). A bug counts as caught only by a checker that says what is wrong; one that
//! hangs, dies or runs out of time has caught nothing.

mod check;
mod child;
mod own;
mod report;
mod suites;

use std::process::ExitCode;

use check::{Check, Verdict};
use report::Row;

const USAGE: &str = "usage: planted [--only NAME]... [--every N] [--json] [--list] [--matrix]
  --only NAME  only the bugs whose name (crate.Name) contains NAME
  --every N    only every N-th bug: a sample
  --matrix     let every checker try, not only until the first one catches the bug
  --json       print the result as JSON, for machines
  --list       print the bugs and what each breaks, and run nothing";

#[derive(Default)]
struct Options {
    only: Vec<String>,
    every: usize,
    json: bool,
    list: bool,
    matrix: bool,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { every: 1, ..Self::default() };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--only" => options.only.push(value()?),
                "--every" => {
                    options.every = value()?
                        .parse()
                        .ok()
                        .filter(|every| *every > 0)
                        .ok_or("--every needs a number above zero")?;
                }
                "--json" => options.json = true,
                "--list" => options.list = true,
                "--matrix" => options.matrix = true,
                _ => return Err(format!("{word} is unknown")),
            }
        }
        Ok(options)
    }

    /// The bugs to be run.
    fn bugs(&self) -> Vec<Bug> {
        let wanted =
            |bug: &Bug| self.only.is_empty() || self.only.iter().any(|part| bug.name.contains(part.as_str()));
        Bug::all().into_iter().filter(wanted).step_by(self.every).collect()
    }
}

/// A bug that can be planted.
struct Bug {
    of: &'static str,
    /// `crate.Name`.
    name: String,
    /// What it breaks.
    what: &'static str,
}

impl Bug {
    fn all() -> Vec<Self> {
        let crates = [
            duet_protocol::planted::BUGS.list(),
            duet_mvcc::planted::BUGS.list(),
            duet_storage::planted::BUGS.list(),
            duet_witness::planted::BUGS.list(),
        ];
        let of_crate = |(of, bugs): (&'static str, &'static [duet_planted::Named])| {
            bugs.iter().map(move |(name, what)| Self { of, name: format!("{of}.{name}"), what: what.trim() })
        };
        crates.into_iter().flat_map(of_crate).collect()
    }
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    if words.next_if(|word| word == "check").is_some() {
        return own::run(words.next().as_deref().unwrap_or_default());
    }
    match Options::parse(words).and_then(|options| run(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// True: without a bug every checker passes, and every bug is caught.
fn run(options: &Options) -> Result<bool, String> {
    let bugs = options.bugs();
    if options.list {
        for bug in &bugs {
            println!("{:<38} {}", bug.name, bug.what);
        }
        return Ok(true);
    }
    if bugs.is_empty() {
        return Err("no bug has such a name".into());
    }
    let checks = check::all()?;
    let needed = |check: &&Check| bugs.iter().any(|bug| check.is_for(bug.of));
    if !sound_without_a_bug(checks.iter().filter(needed), options.json)? {
        return Ok(false);
    }
    let mut rows = Vec::new();
    for bug in &bugs {
        let row = Row::of(bug, &checks, options.matrix)?;
        if !options.json {
            println!("{row}");
        }
        rows.push(row);
    }
    report::summary(&rows, options.json);
    Ok(rows.iter().all(Row::is_caught))
}

/// How often a checker may try to pass without a bug: some tests need a machine that is not too busy.
const TRIES: usize = 3;

/// A checker that fails by itself catches nothing.
fn sound_without_a_bug<'a>(checks: impl Iterator<Item = &'a Check>, quiet: bool) -> Result<bool, String> {
    let mut sound = true;
    for check in checks {
        let mut run = check.run(None)?;
        for _ in 1..TRIES {
            if run.verdict != Verdict::Passed {
                run = check.run(None)?;
            }
        }
        if !quiet {
            println!("{:<38} {:>6.1} s  {}", check.name, run.cpu.as_secs_f64(), run.verdict.words());
        }
        sound &= run.verdict == Verdict::Passed;
    }
    if !sound {
        eprintln!("Not every checker passes without a planted bug: nothing can be said.");
    }
    Ok(sound)
}
