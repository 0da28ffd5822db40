//! The record of a run in a file: enough to have it again, to step through it, and to shorten it.

use std::fmt::Write;

use super::clock::Time;
use super::schedule::Scheduled;

const FIRST_LINE: &str = "duet simulation record, format 1";

/// A run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// From which everything but the schedule is drawn: latencies, what a crash leaves, the mixture of options.
    pub seed: u64,
    /// How long the safety phase lasts.
    pub safety: Time,
    /// How it failed.
    pub failure: Option<String>,
    /// What was done to the pair, in the order of time.
    pub schedule: Vec<Scheduled>,
}

impl Record {
    /// The text of the file.
    pub fn to_text(&self) -> String {
        let mut text = format!("{FIRST_LINE}\nseed {}\nsafety {}\n", self.seed, self.safety);
        if let Some(failure) = &self.failure {
            let line = failure.replace('\n', " ");
            let _ = writeln!(text, "failure {line}");
        }
        for step in &self.schedule {
            let _ = writeln!(text, "{step}");
        }
        text
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_text(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        if lines.next() != Some(FIRST_LINE) {
            return Err(format!("it does not begin with \"{FIRST_LINE}\""));
        }
        let mut record = Self { seed: 0, safety: 0, failure: None, schedule: Vec::new() };
        for line in lines {
            let number = |text: &str| text.parse::<u64>().map_err(|_| format!("no number: {line}"));
            match line.split_once(' ') {
                Some(("seed", seed)) => record.seed = number(seed)?,
                Some(("safety", safety)) => record.safety = number(safety)?,
                Some(("failure", words)) => record.failure = Some(words.to_owned()),
                _ => record.schedule.push(line.parse()?),
            }
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use duet_protocol::ApplianceId;

    use super::*;
    use crate::simulate::options::Fault;
    use crate::simulate::schedule::Step;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let fault = |fault| Step::Fault { fault, id: ApplianceId::B, lasts: 5, dice: u64::MAX };
        let steps = Fault::ALL.iter().copied().map(fault).chain([
            Step::Write { target: ApplianceId::A, count: 3, way: 7, dice: 9 },
            Step::Read { target: ApplianceId::B, way: 1, dice: 2 },
            Step::Watch { watcher: 2, target: ApplianceId::A, dice: 3 },
        ]);
        let schedule = steps.zip(10..).map(|(step, at)| Scheduled { at, step }).collect();
        let failure = Some("S4: two words".to_owned());
        let record = Record { seed: 7, safety: 8, failure, schedule };
        assert_eq!(Record::from_text(&record.to_text()), Ok(record));
        assert!(Record::from_text("something else").is_err());
        assert!(Record::from_text(&format!("{FIRST_LINE}\n12 fault Crash C 1 2")).is_err());
    }
}
