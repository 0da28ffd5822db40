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
                Verdict::Caught(sentence) => match check.unplanted()?.verdict {
                    Verdict::Passed => row.caught.push((check.name.clone(), sentence)),
                    other => {
                        row.failed.push((check.name.clone(), format!("without a bug it {}", other.words())));
                    }
                },
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
    let mut groups = BTreeMap::<&str, Vec<&Row>>::new();
    for row in rows {
        groups.entry(row.name.split('.').next().unwrap_or_default()).or_default().push(row);
    }
    println!(
        "\n| bugs in | planted | caught | first by | CPU seconds, median | most |\n|---|---|---|---|---|---|"
    );
    for (group, rows) in groups {
        let caught: Vec<&Row> = rows.iter().copied().filter(|row| row.is_caught()).collect();
        let mut kinds = BTreeMap::<&str, usize>::new();
        for (by, _) in caught.iter().filter_map(|row| row.caught.first()) {
            *kinds.entry(kind(by)).or_default() += 1;
        }
        let kinds: Vec<String> = kinds.into_iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        let mut seconds: Vec<f64> = caught.iter().map(|row| row.cpu.as_secs_f64()).collect();
        seconds.sort_unstable_by(f64::total_cmp);
        let median = seconds.get(seconds.len() / 2).copied().unwrap_or_default();
        let most = seconds.last().copied().unwrap_or_default();
        let (planted, caught, kinds) = (rows.len(), caught.len(), kinds.join(", "));
        println!("| `{group}` | {planted} | {caught} | {kinds} | {median:.1} | {most:.1} |");
    }
}

/// What kind of checker has this name.
fn kind(by: &str) -> &'static str {
    let kinds = [("explore", "exploration"), ("simulate", "simulation"), ("duet-sim/", "scenarios")];
    kinds.iter().find(|(start, _)| by.starts_with(start)).map_or("its tests", |(_, kind)| kind)
}
