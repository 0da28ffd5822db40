//! Pauses as text, Markdown, JSON and a plot.

use std::fmt::Write as _;

use serde::Serialize;

use super::super::args::{FailureKind, SystemName};
use super::super::output::{Conditions, Document, json};
use super::super::report::{median, percentile};
use super::super::svg::{Bar, Chart, Group, Series};
use crate::terminal::Paint;

/// Everything that happened.
#[derive(Clone, Debug, Serialize)]
pub struct Failovers {
    /// Where and with what.
    pub conditions: Conditions,
    /// Writes a second.
    pub rate: u64,
    /// How often each happened.
    pub times: usize,
    /// One by one.
    pub events: Vec<Event>,
}

/// Something that happened once.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// What.
    #[serde(serialize_with = "by_name")]
    pub kind: FailureKind,
    /// To whom.
    pub system: SystemName,
    /// For which time.
    pub time: usize,
    /// Writers.
    pub writers: usize,
    /// The longest time between two writes that succeeded, around and after it.
    pub gap_ms: f64,
    /// The same in the half second before: what comes without any reason.
    pub gap_before_ms: f64,
    /// Writes that were acknowledged, before and after.
    pub acknowledged: u64,
    /// Requests that failed.
    pub failed: u64,
    /// By kind.
    pub failures: std::collections::BTreeMap<String, u64>,
    /// Whether another one is primary or leader afterwards.
    pub new_leader: bool,
    /// Acknowledged writes that are not there afterwards.
    pub lost: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks for this form
fn by_name<S: serde::Serializer>(kind: &FailureKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.name())
}

/// All times that one thing happened to one system.
struct Row {
    kind: FailureKind,
    system: SystemName,
    gaps: Vec<f64>,
    before: Vec<f64>,
    failed: u64,
    acknowledged: u64,
    new_leaders: usize,
    lost: u64,
}

fn rows(events: &[Event]) -> Vec<Row> {
    let mut keys: Vec<(FailureKind, SystemName)> =
        events.iter().map(|event| (event.kind, event.system)).collect();
    keys.sort_unstable();
    keys.dedup();
    let row = |(kind, system)| {
        let same: Vec<&Event> =
            events.iter().filter(|event| event.kind == kind && event.system == system).collect();
        Row {
            kind,
            system,
            gaps: same.iter().map(|event| event.gap_ms).collect(),
            before: same.iter().map(|event| event.gap_before_ms).collect(),
            failed: same.iter().map(|event| event.failed).sum(),
            acknowledged: same.iter().map(|event| event.acknowledged).sum(),
            new_leaders: same.iter().filter(|event| event.new_leader).count(),
            lost: same.iter().map(|event| event.lost).sum(),
        }
    };
    keys.into_iter().map(row).collect()
}

impl Row {
    fn least(&self) -> f64 {
        percentile(&self.gaps, 0.0)
    }

    fn most(&self) -> f64 {
        percentile(&self.gaps, 1.0)
    }
}

impl Failovers {
    /// All its forms.
    pub fn document(&self) -> Document {
        let rows = rows(&self.events);
        let chart = chart(&rows);
        let mut markdown =
            format!("# Pauses\n\n{}\n{}\n\n", self.conditions.markdown(), self.setup_in_words());
        write!(markdown, "![{}](failover.svg)\n\n", chart.title).ok();
        markdown.push_str(&table(&rows));
        Document {
            text: self.text(&rows, Paint::stdout()),
            json: json(self),
            markdown,
            plots: vec![("failover".into(), chart.svg())],
        }
    }

    fn setup_in_words(&self) -> String {
        format!(
            "{} writes/s in an open loop, {} times each; the gap is the longest time between two writes that \
             succeeded, \"before\" the same without any reason, the longest of all times.",
            self.rate, self.times
        )
    }

    fn text(&self, rows: &[Row], paint: Paint) -> String {
        let mut text = self.conditions.in_words().join("\n");
        write!(text, "\n{}\n\n", self.setup_in_words()).ok();
        let head = format!(
            "{:<17}{:<17}{:>6}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>13}{:>12}{:>6}",
            "",
            "",
            "times",
            "min ms",
            "median",
            "p99",
            "max",
            "before",
            "failed",
            "acknowledged",
            "new primary",
            "lost"
        );
        writeln!(text, "{}", paint.dim(head)).ok();
        for row in rows {
            let lost = format!("{:>6}", row.lost);
            writeln!(
                text,
                "{:<17}{:<17}{:>6}{:>9.1}{}{:>9.1}{:>9.1}{:>9.1}{:>9}{:>13}{:>12}{}",
                row.kind.name(),
                row.system.words(),
                row.gaps.len(),
                row.least(),
                paint.bold(format!("{:>9.1}", median(&row.gaps))),
                percentile(&row.gaps, 0.99),
                row.most(),
                percentile(&row.before, 1.0),
                row.failed,
                row.acknowledged,
                row.new_leaders,
                if row.lost > 0 { paint.red(lost) } else { lost }
            )
            .ok();
        }
        text
    }
}

fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| what happens | to | times | gap ms: min | median | p99 | max | before | failed requests | acknowledged writes | new primary | lost |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        writeln!(
            text,
            "| {} | {} | {} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {} | {} | {} | {} |",
            row.kind.words(row.system),
            row.system.words(),
            row.gaps.len(),
            row.least(),
            median(&row.gaps),
            percentile(&row.gaps, 0.99),
            row.most(),
            percentile(&row.before, 1.0),
            row.failed,
            row.acknowledged,
            row.new_leaders,
            row.lost
        )
        .ok();
    }
    text
}

fn chart(rows: &[Row]) -> Chart {
    let mut kinds: Vec<FailureKind> = rows.iter().map(|row| row.kind).collect();
    kinds.dedup();
    let mut systems: Vec<SystemName> = rows.iter().map(|row| row.system).collect();
    systems.sort_unstable();
    systems.dedup();
    let bar = |kind: FailureKind, system: SystemName| {
        let row = rows.iter().find(|row| row.kind == kind && row.system == system)?;
        Some(Bar { value: median(&row.gaps), least: row.least(), most: row.most() })
    };
    let groups = kinds.iter().map(|kind| Group {
        label: kind.name().into(),
        bars: systems.iter().map(|system| bar(*kind, *system)).collect(),
    });
    Chart {
        title: "Pause of writes".into(),
        unit: "ms, median, lines from the shortest to the longest; lower is better".into(),
        series: systems
            .iter()
            .map(|system| Series { name: system.words(), colour: system.colour() })
            .collect(),
        groups: groups.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: FailureKind, system: SystemName, gap_ms: f64, lost: u64) -> Event {
        let failures = std::iter::once(("unavailable".to_owned(), 3)).collect();
        Event {
            kind,
            system,
            time: 1,
            writers: 8,
            gap_ms,
            gap_before_ms: 2.0,
            acknowledged: 100,
            failed: 3,
            failures,
            new_leader: true,
            lost,
        }
    }

    #[test]
    fn rows_join_the_times_of_one_kind_and_system() {
        let events = [
            event(FailureKind::Kill, SystemName::Duet, 90.0, 0),
            event(FailureKind::Kill, SystemName::Etcd3, 1_200.0, 0),
            event(FailureKind::Kill, SystemName::Duet, 110.0, 1),
            event(FailureKind::Pause, SystemName::Duet, 100.0, 0),
        ];
        let rows = rows(&events);
        assert_eq!(rows.len(), 3);
        let first = &rows[0];
        assert_eq!((first.kind, first.system), (FailureKind::Kill, SystemName::Duet));
        assert_eq!((first.least(), median(&first.gaps), first.most()), (90.0, 100.0, 110.0));
        assert_eq!((first.failed, first.acknowledged, first.lost), (6, 200, 1));
        assert!(
            table(&rows).contains("| 90.0 | 100.0 | 110.0 | 110.0 | 2.0 | 6 | 200 | 2 | 1 |"),
            "{}",
            table(&rows)
        );
        let groups: Vec<usize> =
            chart(&rows).groups.iter().map(|group| group.bars.iter().flatten().count()).collect();
        assert_eq!(groups, [2, 1], "what was not measured has no bar");
    }
}
