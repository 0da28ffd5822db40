//! The comparison as text, Markdown and JSON: ratios of medians, and the spread they come from.

use std::fmt::Write as _;

use serde::{Serialize, Serializer};

use super::floors::Floors;
use super::report::{Report, median, operation_name};
use crate::cli::{Operation, SystemName};
use crate::terminal::Paint;

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// How.
    pub setup: Setup,
    /// What the machine itself can do.
    pub floors: Floors,
    /// Every single measurement.
    pub samples: Vec<Sample>,
}

/// How it was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Setup {
    /// The command that repeats it.
    pub command: String,
    /// Duet's version.
    pub duet_version: String,
    /// Whether Duet is a release build.
    pub optimised: bool,
    /// etcd's version.
    pub etcd_version: Option<String>,
    /// Cores, kernel, other load.
    pub machine: String,
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

/// One measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Of which system.
    #[serde(serialize_with = "by_name")]
    pub system: SystemName,
    /// In which round.
    pub round: usize,
    /// CPU of all server processes together for each operation, microseconds.
    pub server_cpu_us_per_op: f64,
    /// Resident memory of all server processes together after it, MiB.
    pub resident_mib: u64,
    /// What the client saw.
    pub report: Report,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks for this form
fn by_name<S: Serializer>(system: &SystemName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name(*system))
}

/// What people call a system.
pub const fn name(system: SystemName) -> &'static str {
    match system {
        SystemName::Duet => "Duet pair",
        SystemName::Etcd3 => "etcd, 3 members",
        SystemName::Etcd1 => "etcd, 1 member",
    }
}

/// The figures of one system under one load.
struct Row {
    operation: Operation,
    clients: usize,
    system: SystemName,
    rate: Spread,
    p50: Spread,
    p99: Spread,
    cpu: Spread,
    resident: Spread,
    errors: u64,
}

/// The median of some rounds, and their extremes.
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
}

fn rows(comparison: &Comparison) -> Vec<Row> {
    let mut keys: Vec<(Operation, usize, SystemName)> = comparison
        .samples
        .iter()
        .map(|sample| (operation_of(sample), sample.report.clients, sample.system))
        .collect();
    keys.sort_unstable();
    keys.dedup();
    let row = |(operation, clients, system)| {
        let of = |figure: fn(&Sample) -> f64| {
            let numbers: Vec<f64> = same(comparison, operation, clients, system).map(figure).collect();
            Spread::of(&numbers)
        };
        Row {
            operation,
            clients,
            system,
            rate: of(|sample| sample.report.ops_per_second),
            p50: of(|sample| sample.report.latency_ms.p50),
            p99: of(|sample| sample.report.latency_ms.p99),
            cpu: of(|sample| sample.server_cpu_us_per_op),
            resident: of(|sample| super::report::count(sample.resident_mib)),
            errors: same(comparison, operation, clients, system)
                .map(|sample| sample.report.errors.values().sum::<u64>())
                .sum(),
        }
    };
    keys.into_iter().map(row).collect()
}

fn operation_of(sample: &Sample) -> Operation {
    if sample.report.operation == operation_name(Operation::Get) { Operation::Get } else { Operation::Put }
}

fn same(
    comparison: &Comparison,
    operation: Operation,
    clients: usize,
    system: SystemName,
) -> impl Iterator<Item = &Sample> {
    comparison.samples.iter().filter(move |sample| {
        operation_of(sample) == operation && sample.report.clients == clients && sample.system == system
    })
}

/// Duet's rate divided by this row's, when both were measured.
fn ratio(rows: &[Row], row: &Row) -> Option<f64> {
    let duet = rows.iter().find(|other| {
        other.system == SystemName::Duet && other.operation == row.operation && other.clients == row.clients
    })?;
    (row.system != SystemName::Duet && row.rate.median > 0.0).then(|| duet.rate.median / row.rate.median)
}

fn ratio_in_words(rows: &[Row], row: &Row) -> String {
    ratio(rows, row).map_or_else(String::new, |ratio| format!("{ratio:.2} ×"))
}

fn floors_in_words(floors: &Floors) -> String {
    format!(
        "fsync of 4 KiB p50 {:.3} ms, p99 {:.3} ms; loopback round trip from idle p50 {:.3} ms, p99 {:.3} ms",
        floors.fsync_ms.p50, floors.fsync_ms.p99, floors.round_trip_ms.p50, floors.round_trip_ms.p99
    )
}

fn setup_in_words(setup: &Setup) -> String {
    let build = if setup.optimised { "release build" } else { "DEBUG BUILD: not for comparison" };
    let etcd = setup.etcd_version.as_deref().unwrap_or("not measured");
    let clients = if setup.spread { "spread over all members" } else { "at the leader or primary" };
    format!(
        "Duet {} ({build}), etcd {etcd}; rounds of {} s: {}, values of {} bytes, {} keys, clients {clients}",
        setup.duet_version, setup.seconds, setup.rounds, setup.value_size, setup.keys
    )
}

/// For a terminal.
pub fn text(comparison: &Comparison, paint: Paint) -> String {
    let rows = rows(comparison);
    let mut text = String::new();
    writeln!(text, "{}", setup_in_words(&comparison.setup)).ok();
    writeln!(text, "{}", comparison.setup.machine).ok();
    writeln!(text, "{}\n", floors_in_words(&comparison.floors)).ok();
    let head = format!(
        "{:<5}{:>8}  {:<16}{:>10}{:>19}{:>10}{:>10}{:>10}{:>9}{:>14}",
        "",
        "clients",
        "system",
        "ops/s",
        "min - max",
        "p50 ms",
        "p99 ms",
        "CPU µs/op",
        "RSS MiB",
        "Duet against"
    );
    writeln!(text, "{}", paint.dim(head)).ok();
    let mut last = None;
    for row in &rows {
        if last.is_some_and(|last| last != (row.operation, row.clients)) {
            text.push('\n');
        }
        last = Some((row.operation, row.clients));
        let spread = format!("{:.0} - {:.0}", row.rate.least, row.rate.most);
        let ratio = format!("{:>14}", ratio_in_words(&rows, row));
        writeln!(
            text,
            "{:<5}{:>8}  {:<16}{:>10.0}{spread:>19}{:>10.3}{:>10.3}{:>10.1}{:>9.0}{}",
            operation_name(row.operation),
            row.clients,
            name(row.system),
            row.rate.median,
            row.p50.median,
            row.p99.median,
            row.cpu.median,
            row.resident.median,
            paint.bold(ratio)
        )
        .ok();
        if row.errors > 0 {
            writeln!(text, "{:15}{}", "", paint.red(format!("{} errors, see --json", row.errors))).ok();
        }
    }
    text
}

/// For docs.
pub fn markdown(comparison: &Comparison) -> String {
    let rows = rows(comparison);
    let mut text = format!(
        "{}.\n{}.\n{}.\nCommand: `{}`\n\n",
        setup_in_words(&comparison.setup),
        comparison.setup.machine,
        floors_in_words(&comparison.floors),
        comparison.setup.command
    );
    text.push_str("| op | clients | system | ops/s (median) | min - max | p50 ms | p99 ms | server CPU µs/op | RSS MiB | Duet is faster by | errors |\n");
    text.push_str("|---|---|---|---|---|---|---|---|---|---|---|\n");
    for row in &rows {
        writeln!(
            text,
            "| {} | {} | {} | {:.0} | {:.0} - {:.0} | {:.3} | {:.3} | {:.1} | {:.0} | {} | {} |",
            operation_name(row.operation),
            row.clients,
            name(row.system),
            row.rate.median,
            row.rate.least,
            row.rate.most,
            row.p50.median,
            row.p99.median,
            row.cpu.median,
            row.resident.median,
            ratio_in_words(&rows, row),
            row.errors
        )
        .ok();
    }
    text
}
