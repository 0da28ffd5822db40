//! What a witness server says of itself: totals only. It names no pair, as everybody who reaches the port may ask.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::meter::{Outcome, Seen};
use super::routes::Shared;

/// How long ago a pair may have asked to count as connected: three of its slow looks.
const ALIVE_SECONDS: u32 = 3 * 60;

/// The state of a witness server.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct WitnessStatus {
    /// Version of Duet.
    pub version: String,
    /// Random name of the data: another one means that the witness was emptied.
    pub incarnation: String,
    /// Whether pairs that are not registered are served.
    pub open: bool,
    /// Seconds since it was started.
    pub up_seconds: u64,
    /// Pairs with a token.
    pub pairs: u64,
    /// Pairs that asked within the last three minutes.
    pub pairs_alive: u64,
    /// Records held.
    pub records: u64,
    /// Requests for records, by how they were answered.
    pub answers: BTreeMap<String, u64>,
    /// Connections.
    pub connections: ConnectionsSeen,
    /// The disk.
    pub disk: DiskSeen,
    /// Resident memory in bytes, where the system tells it.
    pub memory_bytes: Option<u64>,
}

/// Connections of a witness server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConnectionsSeen {
    /// Now.
    pub open: u64,
    /// Most at a time.
    pub max: u64,
    /// Taken since the start.
    pub accepted: u64,
    /// Refused since the start, as their address had too many.
    pub refused: u64,
    /// How often idle ones were closed to make room.
    pub shed: u64,
}

/// What a witness server's data file did since the start.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DiskSeen {
    /// Writes that wait for their commit now.
    pub waiting: u64,
    /// Writes that were committed.
    pub writes: u64,
    /// Commits, each of many writes.
    pub commits: u64,
    /// Flushes.
    pub syncs: u64,
    /// How long they took, all together.
    pub sync_seconds: f64,
    /// Bound in seconds, and how many flushes took no longer.
    pub syncs_at_most: Vec<(f64, u64)>,
    /// Bytes written.
    pub bytes: u64,
}

impl WitnessStatus {
    pub(super) fn of(shared: &Shared) -> Result<Self, redb::Error> {
        let Shared { store, pairs, connections, meter, .. } = shared;
        let (accepted, refused, shed) = connections.totals();
        let Seen { count, sum_seconds, at_most } = meter.syncs.seen();
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            incarnation: store.incarnation().to_owned(),
            open: pairs.is_open(),
            up_seconds: meter.started.elapsed().as_secs(),
            pairs: pairs.registered() as u64,
            pairs_alive: pairs.seen_within(ALIVE_SECONDS) as u64,
            records: store.count()?,
            answers: Outcome::ALL.map(|outcome| (outcome.name().to_owned(), meter.counted(outcome))).into(),
            connections: ConnectionsSeen {
                open: connections.count() as u64,
                max: connections.max() as u64,
                accepted,
                refused,
                shed,
            },
            disk: DiskSeen {
                waiting: store.waiting() as u64,
                writes: meter.writes.load(Ordering::Relaxed),
                commits: meter.commits.load(Ordering::Relaxed),
                syncs: count,
                sync_seconds: sum_seconds,
                syncs_at_most: at_most,
                bytes: meter.bytes_written.load(Ordering::Relaxed),
            },
            memory_bytes: resident_bytes(),
        })
    }

    /// What a person wants to know, line by line.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let answers = self.answers.iter().filter(|(_, count)| **count > 0);
        let answers: Vec<_> = answers.map(|(name, count)| format!("{name} {count}")).collect();
        let mean = if self.disk.syncs == 0 { 0.0 } else { self.disk.sync_seconds / to_f64(self.disk.syncs) };
        let serves = if self.open { "everybody" } else { "registered pairs" };
        let ConnectionsSeen { open, max, refused, shed, .. } = &self.connections;
        vec![
            ("version", self.version.clone()),
            ("running for", format!("{} s", self.up_seconds)),
            ("serves", serves.to_owned()),
            ("pairs", format!("{} registered, {} asked within 3 minutes", self.pairs, self.pairs_alive)),
            ("records", self.records.to_string()),
            ("answers", if answers.is_empty() { "none yet".to_owned() } else { answers.join(", ") }),
            ("connections", format!("{open} of {max}; {refused} refused, {shed} times room was made")),
            (
                "disk",
                format!(
                    "{} writes in {} commits, {} syncs of {:.2} ms on average; {} writes wait",
                    self.disk.writes,
                    self.disk.commits,
                    self.disk.syncs,
                    mean * 1e3,
                    self.disk.waiting
                ),
            ),
            (
                "memory",
                self.memory_bytes
                    .map_or_else(|| "unknown".to_owned(), |bytes| format!("{} MiB", bytes / (1 << 20))),
            ),
            ("incarnation", self.incarnation.clone()),
        ]
    }

    /// In Prometheus's text format.
    pub(super) fn metrics(&self) -> String {
        let mut text = String::new();
        let mut metric = |name: &str, kind: &str, lines: &[(String, String)]| {
            let _ = writeln!(text, "# TYPE duet_witness_{name} {kind}");
            for (labels, value) in lines {
                let _ = writeln!(text, "duet_witness_{name}{labels} {value}");
            }
        };
        let one = |value: u64| [(String::new(), value.to_string())];
        let answers: Vec<_> = self
            .answers
            .iter()
            .map(|(name, count)| (format!("{{outcome=\"{name}\"}}"), count.to_string()))
            .collect();
        metric("answers_total", "counter", &answers);
        metric("pairs", "gauge", &one(self.pairs));
        metric("pairs_alive", "gauge", &one(self.pairs_alive));
        metric("records", "gauge", &one(self.records));
        metric("open", "gauge", &one(u64::from(self.open)));
        metric("connections", "gauge", &one(self.connections.open));
        metric("connections_max", "gauge", &one(self.connections.max));
        metric("connections_accepted_total", "counter", &one(self.connections.accepted));
        metric("connections_refused_total", "counter", &one(self.connections.refused));
        metric("connections_shed_total", "counter", &one(self.connections.shed));
        metric("writes_waiting", "gauge", &one(self.disk.waiting));
        metric("writes_total", "counter", &one(self.disk.writes));
        metric("commits_total", "counter", &one(self.disk.commits));
        metric("disk_written_bytes_total", "counter", &one(self.disk.bytes));
        metric("up_seconds", "gauge", &one(self.up_seconds));
        let _ = writeln!(text, "# TYPE duet_witness_sync_seconds histogram");
        for (bound, count) in &self.disk.syncs_at_most {
            let _ = writeln!(text, "duet_witness_sync_seconds_bucket{{le=\"{bound}\"}} {count}");
        }
        let (syncs, seconds) = (self.disk.syncs, self.disk.sync_seconds);
        let _ = writeln!(text, "duet_witness_sync_seconds_bucket{{le=\"+Inf\"}} {syncs}");
        let _ = writeln!(text, "duet_witness_sync_seconds_sum {seconds}");
        let _ = writeln!(text, "duet_witness_sync_seconds_count {syncs}");
        if let Some(bytes) = self.memory_bytes {
            let _ = writeln!(text, "# TYPE process_resident_memory_bytes gauge");
            let _ = writeln!(text, "process_resident_memory_bytes {bytes}");
        }
        text
    }

    /// As a page that needs nothing else.
    pub(super) fn page(&self) -> String {
        let mut rows = String::new();
        for (name, value) in self.facts() {
            let _ = writeln!(rows, "<tr><th>{name}</th><td>{value}</td></tr>");
        }
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>Duet witness</title>\n\
             <style>body{{font:16px/1.5 sans-serif;margin:2em}}\
             th{{text-align:left;padding-right:2em;vertical-align:top}}</style>\n\
             <h1>Duet witness</h1>\n<table>\n{rows}</table>\n\
             <p>For machines: <a href=\"/status\">status</a>, <a href=\"/metrics\">metrics</a>. \
             The pairs are listed by <code>duet witness list</code> on its own machine.</p>\n</html>\n"
        )
    }
}

#[expect(clippy::cast_precision_loss, reason = "a mean for people")]
fn to_f64(count: u64) -> f64 {
    count as f64
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
