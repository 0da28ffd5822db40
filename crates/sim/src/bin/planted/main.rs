//! Tests the tests: runs every bug that can be planted in protocol, mvcc, storage, witness and serving against the checkers,
//! until one catches it. See docs/testing.md.
//!
//! Each check is a process of its own with `DUET_PLANTED` set: either tests, built once with the same feature, or this
//! program itself (exploration and simulation). A bug counts as caught only by a checker that says what is wrong; one that
//! hangs, dies or runs out of time has caught nothing, nor one that finds something wrong without a bug.

mod check;
mod child;
mod jobs;
mod own;
mod report;
mod suites;

use std::process::ExitCode;

use check::Verdict;
use report::Row;

const USAGE: &str =
    "usage: planted [--only NAME]... [--every N] [--jobs N] [--baseline] [--json] [--list] [--matrix]
  --only NAME  only the bugs whose name (crate.Name) contains NAME
  --every N    only every N-th bug: a sample
  --jobs N     as many at a time (as there are processors)
  --baseline   plant nothing, and see that every checker passes
  --matrix     let every checker try, not only until the first one catches the bug
  --json       print the result as JSON, for machines
  --list       print the bugs and what each breaks, and run nothing";

/// What is to be done.
#[derive(Default)]
enum Task {
    #[default]
    Plant,
    Baseline,
    List,
}

#[derive(Default)]
struct Options {
    task: Task,
    only: Vec<String>,
    every: usize,
    jobs: usize,
    json: bool,
    matrix: bool,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut options = Self { every: 1, jobs, ..Self::default() };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            let above_zero = |text: String| {
                let number = text.parse().ok().filter(|number| *number > 0);
                number.ok_or_else(|| format!("{word} needs a number above zero"))
            };
            match word.as_str() {
                "--only" => options.only.push(value()?),
                "--every" => options.every = above_zero(value()?)?,
                "--jobs" => options.jobs = above_zero(value()?)?,
                "--baseline" => options.task = Task::Baseline,
                "--json" => options.json = true,
                "--list" => options.task = Task::List,
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
            duet_serving::planted::BUGS.list(),
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

/// True: every bug is caught; or, if nothing is planted, every checker passes.
fn run(options: &Options) -> Result<bool, String> {
    let bugs = options.bugs();
    if bugs.is_empty() {
        return Err("no bug has such a name".into());
    }
    match options.task {
        Task::List => {
            for bug in &bugs {
                println!("{:<38} {}", bug.name, bug.what);
            }
            Ok(true)
        }
        Task::Baseline => baseline(&bugs, options),
        Task::Plant => plant(&bugs, options),
    }
}

/// Whether the checkers of these bugs pass without them.
fn baseline(bugs: &[Bug], options: &Options) -> Result<bool, String> {
    let checks = check::all()?;
    let needed: Vec<_> = checks.iter().filter(|check| bugs.iter().any(|bug| check.is_for(bug.of))).collect();
    let passed = jobs::each(&needed, options.jobs, |check| {
        let run = check.unplanted()?;
        println!("{:<38} {:>6.1} s  {}", check.name, run.cpu.as_secs_f64(), run.verdict.words());
        Ok(run.verdict == Verdict::Passed)
    })?;
    Ok(passed.into_iter().all(|passed| passed))
}

/// Whether every bug is caught.
fn plant(bugs: &[Bug], options: &Options) -> Result<bool, String> {
    let checks = check::all()?;
    let rows = jobs::each(bugs, options.jobs, |bug| {
        let row = Row::of(bug, &checks, options.matrix)?;
        if !options.json {
            println!("{row}");
        }
        Ok(row)
    })?;
    report::summary(&rows, options.json);
    Ok(rows.iter().all(Row::is_caught))
}
