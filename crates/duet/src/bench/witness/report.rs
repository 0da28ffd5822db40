//! What the measurement of a witness server gives, for a terminal, machines and docs.

use std::fmt::Write as _;
use std::time::Duration;

use duet_witness::server::status::{DiskSeen, WitnessStatus};
use serde::Serialize;

use super::super::output::{Conditions, Document, json};
use super::super::proc_stat::Memory;
use super::super::report::{Latency, Recorder, count};
use super::subject::Subject;
use crate::error::{Exit, Failure};

/// The server at one moment.
pub struct Moment {
    status: WitnessStatus,
    cpu: Duration,
    /// Its memory.
    pub memory: Memory,
}

impl Moment {
    /// As it is now.
    pub async fn of(subject: &Subject) -> Result<Self, Failure> {
        let status = subject.status().await?;
        Ok(Self { status, cpu: subject.cpu(), memory: Memory::of(&[subject.pid()]) })
    }
}

/// What the server did between two moments.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Work {
    /// Its CPU time.
    pub cpu_seconds: f64,
    /// Flushes of its file.
    pub syncs: u64,
    /// Bytes written to its file.
    pub disk_bytes: u64,
    /// Commits.
    pub commits: u64,
    /// Connections that were taken.
    pub accepted: u64,
    /// Connections at the end.
    pub connections: u64,
}

impl Work {
    fn between(before: &Moment, after: &Moment) -> Self {
        let of = |field: &dyn Fn(&DiskSeen) -> u64| field(&after.status.disk) - field(&before.status.disk);
        Self {
            cpu_seconds: after.cpu.saturating_sub(before.cpu).as_secs_f64(),
            syncs: of(&|disk| disk.syncs),
            disk_bytes: of(&|disk| disk.bytes),
            commits: of(&|disk| disk.commits),
            accepted: after.status.connections.accepted - before.status.connections.accepted,
            connections: after.status.connections.open,
        }
    }
}

/// Steady state, as it was recorded.
pub struct Steady {
    /// How long.
    pub time: Duration,
    /// The looks.
    pub recorder: Recorder,
    /// Before.
    pub before: Moment,
    /// After.
    pub after: Moment,
}

/// The region that came back, as it was recorded.
pub struct Burst {
    /// Until the last answer.
    pub time: Duration,
    /// Requests that an appliance would have given up before they were answered.
    pub late: u64,
    /// The pairs, each from the beginning of all to the answer to its compare-and-set.
    pub recorder: Recorder,
    /// The single requests.
    pub requests: Recorder,
    /// Before.
    pub before: Moment,
    /// After.
    pub after: Moment,
}

/// Everything.
pub struct Measured {
    /// Under which conditions.
    pub conditions: Conditions,
    /// Pairs.
    pub pairs: usize,
    /// How often each looks.
    pub interval_seconds: f64,
    /// Whether the server had one core only.
    pub pinned: bool,
    /// Bytes of its file.
    pub file_bytes: u64,
    /// From the start of the process to the first answer.
    pub start_seconds: f64,
    /// The same after SIGKILL.
    pub start_after_kill_seconds: f64,
    /// Memory after the start.
    pub memory_started: Memory,
    /// Memory in steady state.
    pub memory_steady: Memory,
    /// Memory during the burst.
    pub memory_burst: Memory,
    /// Memory after the start that followed SIGKILL.
    pub memory_restarted: Memory,
    /// Steady state.
    pub steady: Steady,
    /// The burst.
    pub burst: Burst,
    /// Answered writes that were not there after SIGKILL.
    pub lost: u64,
}

/// The form for machines.
#[derive(Serialize)]
struct Json<'a> {
    conditions: &'a Conditions,
    pairs: usize,
    interval_seconds: f64,
    pinned: bool,
    file_bytes: u64,
    start_seconds: f64,
    start_after_kill_seconds: f64,
    memory_started: Memory,
    memory_steady: Memory,
    memory_burst: Memory,
    memory_restarted: Memory,
    steady: Part<'a>,
    burst: Part<'a>,
    burst_requests: Latency,
    burst_late: u64,
    lost: u64,
}

#[derive(Serialize)]
struct Part<'a> {
    seconds: f64,
    answered: u64,
    errors: &'a std::collections::BTreeMap<String, u64>,
    latency: Latency,
    work: Work,
}

impl<'a> Part<'a> {
    fn of(time: Duration, recorder: &'a Recorder, before: &Moment, after: &Moment) -> Self {
        Self {
            seconds: time.as_secs_f64(),
            answered: recorder.successes(),
            errors: recorder.errors(),
            latency: recorder.latency(),
            work: Work::between(before, after),
        }
    }
}

impl Measured {
    fn parts(&self) -> (Part<'_>, Part<'_>) {
        let Self { steady, burst, .. } = self;
        (
            Part::of(steady.time, &steady.recorder, &steady.before, &steady.after),
            Part::of(burst.time, &burst.recorder, &burst.before, &burst.after),
        )
    }

    fn rows(&self) -> Vec<(String, String)> {
        let (steady, burst) = self.parts();
        let mib = |bytes: u64| format!("{:.0} MiB", count(bytes) / count(1 << 20));
        let latency = |latency: &Latency| {
            format!("p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms", latency.p50, latency.p99, latency.max)
        };
        let row = |what: &str, value: String| (what.to_owned(), value);
        let mut rows = vec![
            row("pairs, each registered and with a record", self.pairs.to_string()),
            row("cores of the server", if self.pinned { "1".into() } else { "all".into() }),
            row("its file", mib(self.file_bytes)),
            row("start, to the first answer", format!("{:.2} s", self.start_seconds)),
            row("start after kill -9", format!("{:.2} s", self.start_after_kill_seconds)),
            row("memory after the start", mib(self.memory_started.resident)),
            row("highest memory until the end of steady state", mib(self.memory_steady.peak)),
            row("highest memory in the burst", mib(self.memory_burst.peak)),
            row(
                "steady state",
                format!(
                    "{} looks in {:.0} s (each pair every {:.0} s), {}",
                    steady.answered,
                    steady.seconds,
                    self.interval_seconds,
                    latency(&steady.latency)
                ),
            ),
            row(
                "its cost",
                format!(
                    "{:.1} % of a core, {} new connections, {} open at the end, {} syncs, {} bytes written",
                    100.0 * steady.work.cpu_seconds / steady.seconds.max(f64::EPSILON),
                    steady.work.accepted,
                    steady.work.connections,
                    steady.work.syncs,
                    steady.work.disk_bytes
                ),
            ),
            row(
                "compare-and-sets at once, each with a new connection and a look before",
                format!("{} in {:.2} s, {}", burst.answered, burst.seconds, latency(&burst.latency)),
            ),
            row(
                "their cost",
                format!(
                    "{:.2} s of CPU time, {} commits, {} syncs, {} written",
                    burst.work.cpu_seconds,
                    burst.work.commits,
                    burst.work.syncs,
                    mib(burst.work.disk_bytes)
                ),
            ),
            row("each of their requests alone", latency(&self.burst.requests.latency())),
            row(
                "requests answered later than an appliance waits (1 s), and asks again",
                self.burst.late.to_string(),
            ),
            row("answered and not there after kill -9", self.lost.to_string()),
        ];
        for (when, errors) in [("steady state", steady.errors), ("burst", burst.errors)] {
            rows.extend(
                errors
                    .iter()
                    .map(|(kind, number)| (format!("not answered, {when}"), format!("{number}: {kind}"))),
            );
        }
        rows
    }

    /// In all its forms.
    pub fn document(&self) -> Document {
        let (steady, burst) = self.parts();
        let json = json(&Json {
            conditions: &self.conditions,
            pairs: self.pairs,
            interval_seconds: self.interval_seconds,
            pinned: self.pinned,
            file_bytes: self.file_bytes,
            start_seconds: self.start_seconds,
            start_after_kill_seconds: self.start_after_kill_seconds,
            memory_started: self.memory_started,
            memory_steady: self.memory_steady,
            memory_burst: self.memory_burst,
            memory_restarted: self.memory_restarted,
            steady,
            burst,
            burst_requests: self.burst.requests.latency(),
            burst_late: self.burst.late,
            lost: self.lost,
        });
        let rows = self.rows();
        let width = rows.iter().map(|(what, _)| what.len()).max().unwrap_or(0);
        let mut text = self.conditions.in_words().join("\n") + "\n\n";
        let mut markdown = self.conditions.markdown() + "\n| | |\n|---|---|\n";
        for (what, value) in &rows {
            let _ = writeln!(text, "  {what:width$}  {value}");
            let _ = writeln!(markdown, "| {what} | {value} |");
        }
        Document { text, json, markdown, plots: Vec::new() }
    }

    /// Fails if the witness broke a promise; how fast it was decides nothing.
    pub fn verdict(&self) -> Result<Exit, Failure> {
        let (steady, burst) = self.parts();
        let broken = if self.lost > 0 {
            format!("{} answered writes were lost", self.lost)
        } else if steady.work.syncs + steady.work.disk_bytes > 0 {
            "the witness wrote to its disk in steady state".to_owned()
        } else if !steady.errors.is_empty() || !burst.errors.is_empty() {
            "requests were not answered".to_owned()
        } else {
            return Ok(Exit::Done);
        };
        Err(Failure::new(broken, "see the figures above; the log is kept with --dir DIR"))
    }
}
