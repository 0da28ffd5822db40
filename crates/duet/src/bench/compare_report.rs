//! The comparison as text, Markdown, JSON and plots: ratios of medians, and the spread they come from.

use std::fmt::Write as _;

use serde::Serialize;

use super::args::{Operation, SystemName};
use super::output::{Conditions, Document, json};
use super::report::{Report, count, median};
use super::svg::{Bar, Chart, Group, Series};
use crate::terminal::Paint;

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Where and with what.
    pub conditions: Conditions,
    /// How.
    pub setup: Setup,
    /// Every single measurement.
    pub samples: Vec<Sample>,
    /// What could not be measured, and why.
    pub not_measured: Vec<String>,
}

/// How it was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Setup {
    /// Rounds.
    pub rounds: usize,
    /// Seconds of one measurement.
    pub seconds: f64,
    /// Bytes in a value.
    pub value_size: usize,
    /// Different keys.
    pub keys: usize,
    /// Whether clients were spread over all members.
    pub spread: bool,
}

/// What was asked of a system. Those that are equal are compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Load {
    /// What is done.
    #[serde(serialize_with = "by_name")]
    pub operation: Operation,
    /// In an open loop: so many a second.
    pub rate: Option<u64>,
    /// In a closed loop: so many clients, or watchers.
    pub clients: usize,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks for this form
fn by_name<S: serde::Serializer>(operation: &Operation, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(operation.name())
}

impl Load {
    /// "put with 64 clients", "put at 1000 a second".
    pub fn in_words(self) -> String {
        let with = if self.rate.is_some() { "at" } else { "with" };
        format!("{} {with} {}", self.operation.name(), self.words())
    }

    /// Below a group of bars.
    fn words(self) -> String {
        let clients = self.clients;
        match (self.rate, self.operation, clients) {
            (Some(rate), ..) => format!("{rate} a second"),
            (None, Operation::Watch | Operation::WatchLag, _) => format!("{clients} watchers"),
            (None, _, 1) => "1 client".into(),
            (None, ..) => format!("{clients} clients"),
        }
    }

    /// In a table.
    fn clients_in_words(self) -> String {
        self.rate.map_or_else(|| self.clients.to_string(), |rate| format!("{rate}/s"))
    }
}

/// One measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Of which system.
    pub system: SystemName,
    /// In which round.
    pub round: usize,
    /// Under what.
    pub load: Load,
    /// CPU of all server processes together for each operation, microseconds.
    pub server_cpu_us_per_op: f64,
    /// Bytes written to the disk, by whomever, for each byte of a key or value that a client stored.
    pub written_per_stored_byte: Option<f64>,
    /// Anonymous memory of all server processes together after it, MiB.
    pub anonymous_mib: u64,
    /// Highest resident memory of all server processes together while it ran, MiB.
    pub peak_mib: u64,
    /// What the client saw.
    pub report: Report,
}

/// The figures of one system under one load.
struct Row {
    load: Load,
    system: SystemName,
    rate: Spread,
    p50: Spread,
    p99: Spread,
    max: Spread,
    cpu: Spread,
    peak: Spread,
    written: Option<Spread>,
    errors: u64,
}

/// The median of some rounds, and their extremes.
#[derive(Clone, Copy)]
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(numbers: &[f64]) -> Self {
        let fold = |start: f64, pick: fn(f64, f64) -> f64| numbers.iter().copied().fold(start, pick);
        Self {
            median: median(numbers),
            least: fold(f64::INFINITY, f64::min),
            most: fold(f64::NEG_INFINITY, f64::max),
        }
    }

    const fn bar(self) -> Bar {
        Bar { value: self.median, least: self.least, most: self.most }
    }
}

fn rows(samples: &[Sample]) -> Vec<Row> {
    let mut keys: Vec<(Load, SystemName)> =
        samples.iter().map(|sample| (sample.load, sample.system)).collect();
    keys.sort_unstable();
    keys.dedup();
    let row = |(load, system)| {
        let same: Vec<&Sample> =
            samples.iter().filter(|sample| sample.load == load && sample.system == system).collect();
        let of = |figure: fn(&Sample) -> f64| Spread::of(&same.iter().map(|s| figure(s)).collect::<Vec<_>>());
        let written: Vec<f64> = same.iter().filter_map(|sample| sample.written_per_stored_byte).collect();
        Row {
            load,
            system,
            rate: of(|sample| sample.report.ops_per_second),
            p50: of(|sample| sample.report.latency_ms.p50),
            p99: of(|sample| sample.report.latency_ms.p99),
            max: of(|sample| sample.report.latency_ms.max),
            cpu: of(|sample| sample.server_cpu_us_per_op),
            peak: of(|sample| count(sample.peak_mib)),
            written: (!written.is_empty()).then(|| Spread::of(&written)),
            errors: same.iter().map(|sample| sample.report.failures()).sum(),
        }
    };
    keys.into_iter().map(row).collect()
}

/// By how much Duet is better than this row, when both were measured: at a given rate, and for the lag of events, by
/// latency; else by operations a second.
fn ratio(rows: &[Row], row: &Row) -> Option<f64> {
    let duet = rows.iter().find(|other| other.system == SystemName::Duet && other.load == row.load)?;
    let (duet, other) = match row.load {
        Load { rate: Some(_), .. } | Load { operation: Operation::WatchLag, .. } => {
            (row.p99.median, duet.p99.median)
        }
        _ => (duet.rate.median, row.rate.median),
    };
    (row.system != SystemName::Duet && other > 0.0).then(|| duet / other)
}

fn ratio_in_words(rows: &[Row], row: &Row) -> String {
    let by_latency = row.load.rate.is_some() || row.load.operation == Operation::WatchLag;
    let what = if by_latency { " (p99)" } else { "" };
    ratio(rows, row).map_or_else(String::new, |ratio| format!("{ratio:.2} ×{what}"))
}

impl Comparison {
    /// All its forms.
    pub fn document(&self) -> Document {
        let rows = rows(&self.samples);
        let plots: Vec<(String, Chart)> = charts(&rows);
        let mut markdown =
            format!("# Duet beside etcd\n\n{}\n{}\n", self.conditions.markdown(), self.setup.words());
        for (name, chart) in &plots {
            writeln!(markdown, "![{}]({name}.svg)\n", chart.title).ok();
        }
        markdown.push_str(&table(&rows));
        for missing in &self.not_measured {
            write!(markdown, "\nNot measured: {missing}.\n").ok();
        }
        Document {
            text: self.text(&rows, Paint::stdout()),
            json: json(self),
            markdown,
            plots: plots.into_iter().map(|(name, chart)| (name, chart.svg())).collect(),
        }
    }

    fn text(&self, rows: &[Row], paint: Paint) -> String {
        let mut text = self.conditions.in_words().join("\n");
        write!(text, "\n{}\n", self.setup.words()).ok();
        let head = format!(
            "{:<13}{:>8}  {:<16}{:>9}{:>17}{:>9}{:>9}{:>10}{:>10}{:>9}{:>14}",
            "",
            "clients",
            "system",
            "ops/s",
            "min - max",
            "p50 ms",
            "p99 ms",
            "CPU µs/op",
            "peak MiB",
            "disk B/B",
            "Duet better"
        );
        writeln!(text, "{}", paint.dim(head)).ok();
        let mut last = None;
        for row in rows {
            if last.is_some_and(|last| last != row.load) {
                text.push('\n');
            }
            last = Some(row.load);
            let spread = format!("{:.0} - {:.0}", row.rate.least, row.rate.most);
            let written = row.written.map_or_else(String::new, |written| format!("{:.1}", written.median));
            let ratio = format!("{:>14}", ratio_in_words(rows, row));
            writeln!(
                text,
                "{:<13}{:>8}  {:<16}{:>9.0}{spread:>17}{:>9.3}{:>9.3}{:>10.1}{:>10.0}{written:>9}{}",
                row.load.operation.name(),
                row.load.clients_in_words(),
                row.system.words(),
                row.rate.median,
                row.p50.median,
                row.p99.median,
                row.cpu.median,
                row.peak.median,
                paint.bold(ratio)
            )
            .ok();
            if row.errors > 0 {
                writeln!(text, "{:23}{}", "", paint.red(format!("{} errors, see --json", row.errors))).ok();
            }
        }
        for missing in &self.not_measured {
            writeln!(text, "\n{} {missing}", paint.red("not measured:")).ok();
        }
        text
    }
}

impl Setup {
    fn words(&self) -> String {
        let clients = if self.spread { "spread over all members" } else { "at the leader or primary" };
        format!(
            "Rounds of {} s: {}, values of {} bytes, {} keys, clients {clients}; medians. \
             Operations of watch and watch-lag are events, their latency the time from the write to the event.\n",
            self.seconds, self.rounds, self.value_size, self.keys
        )
    }
}

fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| op | clients | system | ops/s (median) | min - max | p50 ms | p99 ms | max ms | server CPU µs/op | peak RSS MiB | disk bytes per stored byte | Duet is better by | errors |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let written = row.written.map_or_else(String::new, |written| format!("{:.1}", written.median));
        writeln!(
            text,
            "| {} | {} | {} | {:.0} | {:.0} - {:.0} | {:.3} | {:.3} | {:.1} | {:.1} | {:.0} | {written} | {} | {} |",
            row.load.operation.name(),
            row.load.clients_in_words(),
            row.system.words(),
            row.rate.median,
            row.rate.least,
            row.rate.most,
            row.p50.median,
            row.p99.median,
            row.max.median,
            row.cpu.median,
            row.peak.median,
            ratio_in_words(rows, row),
            row.errors
        )
        .ok();
    }
    text
}

/// Two charts for each operation: how many a second (or how late), and what one costs the servers.
fn charts(rows: &[Row]) -> Vec<(String, Chart)> {
    let mut operations: Vec<Operation> = rows.iter().map(|row| row.load.operation).collect();
    operations.dedup();
    let mut systems: Vec<SystemName> = rows.iter().map(|row| row.system).collect();
    systems.sort_unstable();
    systems.dedup();
    let series: Vec<Series> =
        systems.iter().map(|system| Series { name: system.words(), colour: system.colour() }).collect();
    let chart = |operation: Operation, title: &str, unit: &str, open: bool, figure: fn(&Row) -> Spread| {
        let of_loop = |row: &&Row| row.load.operation == operation && row.load.rate.is_some() == open;
        let mut loads: Vec<Load> = rows.iter().filter(of_loop).map(|row| row.load).collect();
        loads.dedup();
        let bar = |load: Load, system: SystemName| {
            let row = rows.iter().find(|row| row.load == load && row.system == system)?;
            Some(figure(row).bar())
        };
        let group = |load: &Load| Group {
            label: load.words(),
            bars: systems.iter().map(|system| bar(*load, *system)).collect(),
        };
        let groups: Vec<Group> = loads.iter().map(group).collect();
        let title = format!("{}: {title}", operation.title());
        Chart { title, unit: unit.into(), series: series.clone(), groups }
    };
    let mut charts = Vec::new();
    for operation in operations {
        let name = operation.name();
        let (title, unit, figure): (_, _, fn(&Row) -> Spread) = match operation {
            Operation::WatchLag => ("lag", "ms from write to event, p99; lower is better", |row| row.p99),
            Operation::Watch => ("throughput", "events a second", |row| row.rate),
            _ => ("throughput", "a second", |row| row.rate),
        };
        let unit = format!("{unit}; medians, lines from the lowest to the highest round");
        charts.push((name.to_owned(), chart(operation, title, &unit, false, figure)));
        let unit = "µs of processor time of all servers together; lower is better";
        charts.push((format!("{name}-cpu"), chart(operation, "what one costs", unit, false, |row| row.cpu)));
        let unit = "ms, p99, open loop; lower is better";
        charts.push((format!("{name}-latency"), chart(operation, "latency", unit, true, |row| row.p99)));
    }
    charts.retain(|(_, chart)| !chart.groups.is_empty());
    charts
}

#[cfg(test)]
mod tests {
    use super::super::report::Latency;
    use super::*;

    fn sample(system: SystemName, load: Load, ops_per_second: f64) -> Sample {
        let report = Report {
            operation: load.operation.name(),
            clients: load.clients,
            connections: 1,
            value_size: 256,
            keys: 10,
            rate: load.rate,
            seconds: 1.0,
            operations: 100,
            ops_per_second,
            latency_ms: Latency { p99: 1_000.0 / ops_per_second, ..Latency::default() },
            errors: std::iter::once(("lost".to_owned(), 2)).collect(),
            not_begun: 1,
            longest_gap_ms: 0.0,
            stored_bytes: 0,
            client_cpu_us_per_op: 1.0,
        };
        Sample {
            system,
            round: 1,
            load,
            server_cpu_us_per_op: 10.0,
            written_per_stored_byte: Some(2.5),
            anonymous_mib: 1,
            peak_mib: 2,
            report,
        }
    }

    const PUT: Load = Load { operation: Operation::Put, rate: None, clients: 64 };
    const OPEN: Load = Load { operation: Operation::Put, rate: Some(1_000), clients: 0 };

    #[test]
    fn medians_and_ratios_are_of_equal_loads() {
        let samples: Vec<Sample> = [
            (SystemName::Etcd3, PUT, 100.0),
            (SystemName::Duet, PUT, 300.0),
            (SystemName::Duet, PUT, 500.0),
            (SystemName::Duet, PUT, 420.0),
            (SystemName::Etcd3, OPEN, 10.0),
            (SystemName::Duet, OPEN, 20.0),
        ]
        .map(|(system, load, rate)| sample(system, load, rate))
        .into();
        let rows = rows(&samples);
        let shown: Vec<_> =
            rows.iter().map(|row| (row.system, row.load, ratio_in_words(&rows, row))).collect();
        let wanted = [
            (SystemName::Duet, PUT, String::new()),
            (SystemName::Etcd3, PUT, "4.20 ×".into()),
            (SystemName::Duet, OPEN, String::new()),
            (SystemName::Etcd3, OPEN, "2.00 × (p99)".into()),
        ];
        assert_eq!(shown, wanted);
        assert_eq!((rows[0].rate.least, rows[0].rate.most), (300.0, 500.0));
        assert_eq!(rows[0].errors, 9, "errors and what never began, of all rounds");
    }

    #[test]
    fn each_operation_has_its_charts_and_no_chart_is_empty() {
        let samples = [sample(SystemName::Duet, PUT, 1.0), sample(SystemName::Etcd1, OPEN, 1.0)];
        let names: Vec<String> = charts(&rows(&samples)).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["put", "put-cpu", "put-latency"]);
        let closed = [sample(SystemName::Duet, PUT, 1.0)];
        assert_eq!(charts(&rows(&closed)).len(), 2);
    }
}
