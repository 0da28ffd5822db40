//! How the story is told: numbered steps, one or two plain lines each, and the visible facts.

use std::time::Duration;

use duet_server::StatusReport;

use crate::status::{PairView, Record, Seen, lsn_name};
use crate::terminal::{Paint, print};

/// A person needs a moment to read a step; a script does not.
const READING_TIME: Duration = Duration::from_millis(1500);

/// Tells the story on standard output.
pub struct Narrator {
    paint: Paint,
    step: u32,
    unhurried: bool,
}

impl Narrator {
    /// Unhurried for people, quick for scripts.
    pub fn new(unhurried: bool) -> Self {
        Self { paint: Paint::stdout(), step: 0, unhurried: unhurried && Paint::stdout().is_on() }
    }

    /// Begins a step.
    pub async fn step(&mut self, title: &str) {
        if self.unhurried && self.step > 0 {
            tokio::time::sleep(READING_TIME).await;
        }
        self.step += 1;
        print(&format!("\n{:>2}  {}\n", self.step, self.paint.bold(title)));
    }

    /// How many steps there were.
    pub const fn steps(&self) -> u32 {
        self.step
    }

    /// Something that was checked and held.
    pub fn held(&self, text: &str) {
        print(&format!("    {} {text}\n", self.paint.green("ok")));
    }

    /// The facts of the moment.
    pub fn facts(&self, view: &PairView, record: Option<&Record>) {
        for (letter, seen) in [("A", &view.first), ("B", &view.second)] {
            let line = match seen {
                Seen::Up(report) => appliance_line(report),
                Seen::Down { .. } => "down".into(),
            };
            print(&format!("    {}  {}\n", self.paint.cyan(letter), line));
        }
        let record = record.map_or_else(|| "no record".into(), Record::in_words);
        print(&format!("    {}  {}\n", self.paint.cyan("W"), self.paint.dim(record)));
    }
}

fn appliance_line(report: &StatusReport) -> String {
    format!("{:<10} {} {}", report.role, lsn_name(&report.appliance), report.lsn)
}
