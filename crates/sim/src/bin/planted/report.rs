//! Who caught what, and how fast.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::Bug;
use crate::check::{Check, Verdict};

/// What became of one bug.
pub struct Row {
    name: String,
    what: &'static str,
    /// The checkers that caught it, with their sentence; the first one first.
    caught: Vec<(String, String)>,
    /// Checkers that said nothing and did not pass either.
    failed: Vec<(String, String)>,
    /// Processor time until it was caught, or of all checkers if it was not.
    cpu: Duration,
}

impl Row {
    /// Plants the bug and lets the checkers of its crate try, one after the other.
    pub fn of(bug: &Bug, checks: &[Check], all: bool) -> Result<Self, String> {
        let (name, what, cpu) = (bug.name.clone(), bug.what, Duration::ZERO);
        let mut row = Self { name, what, caught: Vec::new(), failed: Vec::new(), cpu };
        for check in checks.iter().filter(|check| check.is_for(bug.of)) {
            let run = check.run(Some(&bug.name))?;
            if row.caught.is_empty() {
                row.cpu += run.cpu;
            }
            match run.verdict {
                Verdict::Passed => {}
                Verdict::Caught(sentence) => row.caught.push((check.name.clone(), sentence)),
                Verdict::Failed(why) => row.failed.push((check.name.clone(), why)),
            }
            if !row.caught.is_empty() && !all {
                break;
            }
        }
        Ok(row)
    }

    /// Whether anybody caught it.
    pub fn is_caught(&self) -> bool {
        !self.caught.is_empty()
    }

    fn as_json(&self) -> serde_json::Value {
        let pairs = |pairs: &[(String, String)]| -> serde_json::Value {
            pairs.iter().map(|(by, says)| serde_json::json!({ "by": by, "says": says })).collect()
        };
        serde_json::json!({
            "bug": self.name, "breaks": self.what, "seconds": self.cpu.as_secs_f64(),
            "caught": pairs(&self.caught), "failed": pairs(&self.failed),
        })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.cpu.as_secs_f64();
        match self.caught.split_first() {
            None => write!(f, "{:<38} {seconds:>6.1} s  NOT CAUGHT: {}", self.name, self.what)?,
            Some(((by, sentence), others)) => {
                write!(f, "{:<38} {seconds:>6.1} s  {by}: {sentence}", self.name)?;
                for (by, _) in others {
                    write!(f, "; {by}")?;
                }
            }
        }
        for (by, why) in &self.failed {
            write!(f, "\n{:<38} {:>6}    {by} says nothing: {why}", "", "")?;
        }
        Ok(())
    }
}

/// The end of it all.
pub fn summary(rows: &[Row], json: bool) {
    if json {
        let rows: serde_json::Value = rows.iter().map(Row::as_json).collect();
        println!("{rows:#}");
        return;
    }
    let mut catches = BTreeMap::<&str, usize>::new();
    for (by, _) in rows.iter().filter_map(|row| row.caught.first()) {
        *catches.entry(by).or_default() += 1;
    }
    println!("\nfirst to catch:");
    for (by, count) in catches {
        println!("{count:>5}  {by}");
    }
    let slowest = rows.iter().filter(|row| row.is_caught()).max_by_key(|row| row.cpu);
    if let Some(slowest) = slowest {
        println!("slowest catch: {} after {:.1} s", slowest.name, slowest.cpu.as_secs_f64());
    }
    let caught = rows.iter().filter(|row| row.is_caught()).count();
    println!("{caught} of {} bugs caught", rows.len());
}
