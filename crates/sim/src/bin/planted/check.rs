//! The checkers, in the order in which they try: the quick ones first.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::child::{self, Ended};
use crate::{own, suites};

/// No checker may take longer for one bug. In processor time, so that a busy machine changes nothing.
const CPU_LIMIT: Duration = Duration::from_mins(10);

/// The same proptest cases each time, and no time spent on making the failing one smaller.
const PROPTEST: [(&str, &str); 2] = [("PROPTEST_RNG_SEED", "1"), ("PROPTEST_MAX_SHRINK_ITERS", "0")];

/// One checker.
pub struct Check {
    /// `package/target` and what to run of it for tests, else what [`own`] knows it by.
    pub name: String,
    /// The crates whose bugs it may catch.
    crates: &'static [&'static str],
    program: PathBuf,
    arguments: Vec<String>,
    /// Where tests expect to be run.
    directory: Option<PathBuf>,
    /// What it says without a bug, once it was asked.
    unplanted: OnceLock<Result<Run, String>>,
}

/// What a checker says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Nothing is wrong.
    Passed,
    /// What is wrong, in a sentence.
    Caught(String),
    /// It has said nothing: it hung, died, or could not be run.
    Failed(String),
}

impl Verdict {
    /// For people.
    pub fn words(&self) -> String {
        match self {
            Self::Passed => "passes".into(),
            Self::Caught(what) => format!("finds: {what}"),
            Self::Failed(why) => format!("says nothing: {why}"),
        }
    }
}

/// How often a checker may try to pass without a bug: some tests need a machine that is not too busy.
const TRIES: usize = 3;

/// One run of a checker.
#[derive(Clone)]
pub struct Run {
    pub verdict: Verdict,
    pub cpu: Duration,
}

/// All of them; builds the tests first.
pub fn all() -> Result<Vec<Check>, String> {
    // First: the build may put another in its place, and then it has no path any more.
    let itself = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let executables = suites::build()?;
    let suite = |(name, crates): &(&str, &'static [&'static str])| {
        let found = executables.iter().find(|executable| executable.name == suites::target(name));
        let executable = found.ok_or_else(|| format!("there are no tests {name}"))?;
        Ok::<_, String>(Check {
            name: (*name).to_owned(),
            crates,
            program: executable.path.clone(),
            arguments: name.split(' ').skip(1).chain(["--test-threads=1"]).map(str::to_owned).collect(),
            directory: Some(executable.directory.clone()),
            unplanted: OnceLock::new(),
        })
    };
    let own = |(name, crates): &(&str, &'static [&'static str])| Check {
        name: (*name).to_owned(),
        crates,
        program: itself.clone(),
        arguments: vec!["check".into(), (*name).to_owned()],
        directory: None,
        unplanted: OnceLock::new(),
    };
    let mut checks = suites::QUICK.iter().map(suite).collect::<Result<Vec<_>, _>>()?;
    checks.extend(own::QUICK.iter().map(own));
    checks.extend(suites::SLOW.iter().map(suite).collect::<Result<Vec<_>, _>>()?);
    checks.extend(own::LONG.iter().map(own));
    Ok(checks)
}

impl Check {
    /// Whether it may catch a bug of this crate.
    pub fn is_for(&self, of: &str) -> bool {
        self.crates.contains(&of)
    }

    /// Runs it without a bug, once for all. A checker that does not pass then catches nothing.
    pub fn unplanted(&self) -> Result<Run, String> {
        let try_to_pass = || {
            let mut run = self.run(None)?;
            for _ in 1..TRIES {
                if run.verdict != Verdict::Passed {
                    run = self.run(None)?;
                }
            }
            Ok(run)
        };
        self.unplanted.get_or_init(try_to_pass).clone()
    }

    /// Runs it with a bug planted, or with none. Tests end at the first one that fails, which must fail again when it is
    /// alone: a busy machine fells no test twice. If it does not, it has said nothing, and the others are asked without it.
    pub fn run(&self, bug: Option<&str>) -> Result<Run, String> {
        let (mut cpu, mut silent) = (Duration::ZERO, Vec::new());
        loop {
            let all = self.execute(bug, None, &silent)?;
            cpu += all.cpu;
            let Some(test) = all.output.lines().find_map(suites::failed) else {
                let passed = verdict(&all) == Verdict::Passed && !silent.is_empty();
                let why = || Verdict::Failed(format!("{} failed, but not alone", silent.join(", ")));
                return Ok(Run { verdict: if passed { why() } else { verdict(&all) }, cpu });
            };
            let alone = self.execute(bug, Some(test), &[])?;
            cpu += alone.cpu;
            let verdict = verdict(&alone);
            if verdict != Verdict::Passed {
                return Ok(Run { verdict, cpu });
            }
            silent.push(test.to_owned());
        }
    }

    /// Runs all tests but those that are left out, up to the first that fails; or one alone.
    fn execute(&self, bug: Option<&str>, alone: Option<&str>, without: &[String]) -> Result<Ended, String> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).envs(PROPTEST);
        command.args(without.iter().flat_map(|test| ["--skip", test]));
        command.args(alone.iter().flat_map(|test| ["--exact", test]));
        command.env(duet_planted::VARIABLE, OsStr::new(bug.unwrap_or_default()));
        command.env("RUST_BACKTRACE", "0");
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        let is_enough =
            if alone.is_none() { |line: &str| suites::failed(line).is_some() } else { |_: &str| false };
        child::run(command, CPU_LIMIT, is_enough)
    }
}

fn verdict(Ended { code, output, .. }: &Ended) -> Verdict {
    match code {
        Ok(0) => Verdict::Passed,
        Ok(own::CAUGHT) => said(own::sentence(output), output),
        Ok(suites::FAILED) => said(suites::sentence(output), output),
        Ok(code) => Verdict::Failed(format!("it ended with {code}: {}", last_line(output))),
        Err(why) => Verdict::Failed(why.clone()),
    }
}

fn said(sentence: Option<String>, output: &str) -> Verdict {
    let silent = || Verdict::Failed(format!("it failed without a sentence: {}", last_line(output)));
    sentence.map_or_else(silent, Verdict::Caught)
}

fn last_line(output: &str) -> &str {
    output.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no output")
}
