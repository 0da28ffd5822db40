//! `duet witness check`: tests a witness before it is relied on, and says what came of it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use duet_witness::check::{self, Latency, PROBE, Report, Verdict};
use duet_witness::register::DEFAULT_DEADLINE;
use duet_witness::{Access, ClusterName, Credential, ReadOutcome, Register, WitnessUrl, directory};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::cli::CheckArgs;
use crate::error::{Exit, Failure, without_numbers};
use crate::terminal::print;

/// Runs `duet witness check`.
pub async fn run(args: &CheckArgs) -> Result<Exit, Failure> {
    let url: WitnessUrl = args
        .url
        .parse()
        .map_err(|error| Failure::usage(format!("{error}"), "see: duet witness check --help"))?;
    let cluster = args.cluster.as_deref().map(str::parse::<ClusterName>).transpose();
    let cluster =
        cluster.map_err(|error| Failure::usage(format!("--cluster: {error}"), "correct the name"))?;
    let tested = match &url {
        WitnessUrl::Directory { path } => WitnessUrl::Directory { path: part_of(path).await? },
        other => other.clone(),
    };
    let access = Access { credential: args.token_file.clone().map_or(Credential::None, Credential::File) };
    let probe: ClusterName = PROBE
        .parse()
        .map_err(|error| Failure::new(format!("the test's own name is wrong: {error}"), "report this"))?;
    let report = check::run(&|| -> Arc<dyn Register> {
        tested.register(probe.clone(), &access, check::DEADLINE).into()
    })
    .await;
    let found = match cluster {
        Some(cluster) => Some(pair_record(&url, cluster, &access).await),
        None => None,
    };
    if args.json {
        print(&format!("{}\n", as_json(&url, &report, found.as_ref())));
    } else {
        print(&as_text(&report, found.as_ref()));
    }
    Ok(match (&report.verdict, &found) {
        (Verdict::Unfit(_), _) => Exit::Failed,
        (Verdict::Untested(_), _) | (_, Some(Err(_))) => Exit::Unreachable,
        (Verdict::Fit, _) => Exit::Done,
    })
}

/// A part of a witness directory for the test: `duet init` marks the directory itself, and nobody else does.
async fn part_of(directory: &Path) -> Result<PathBuf, Failure> {
    let part = directory.join(PROBE);
    let (done, outcome) = oneshot::channel();
    let prepared = part.clone();
    // A thread of its own: one that hangs in a dead file system is left behind.
    std::thread::spawn(move || {
        let made = match std::fs::create_dir(&prepared) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error.to_string()),
            _ => directory::prepare(&prepared).map_err(|error| error.to_string()),
        };
        // Nobody waits any longer if it took too long.
        let _ = done.send(made);
    });
    let place = directory.display();
    match tokio::time::timeout(check::DEADLINE, outcome).await {
        Ok(Ok(Ok(()))) => Ok(part),
        Ok(Ok(Err(told))) => Err(Failure::unreachable(
            format!("cannot write in {place}: {}", without_numbers(&told)),
            "mount the share, and let this user read and write there",
        )),
        _ => Err(Failure::unreachable(format!("{place} does not answer"), "is the file system's server up?")),
    }
}

/// What the pair's own record is; it is only read.
async fn pair_record(url: &WitnessUrl, cluster: ClusterName, access: &Access) -> Result<String, String> {
    match url.register(cluster.clone(), access, check::DEADLINE).read().await {
        ReadOutcome::Record { bytes, .. } => {
            let record = duet_witness::record::decode(&cluster, None, &bytes);
            let record = record.map_err(|error| error.to_string())?;
            Ok(format!("there, of pair {}, revision {}", record.cluster, record.revision))
        }
        ReadOutcome::Absent => Ok("not there yet: duet init makes it".to_owned()),
        ReadOutcome::Unknown(reason) => Err(without_numbers(&reason.to_string())),
    }
}

fn as_text(report: &Report, found: Option<&Result<String, String>>) -> String {
    let mut text = String::new();
    let mut line = |name: &str, what: &str| {
        writeln!(text, "{name:<10} {what}").ok();
    };
    line("witness", &report.witness);
    if report.verdict == Verdict::Fit {
        line(
            "compares",
            &format!(
                "a stale version and a second creation are refused; {} racing writes counted",
                report.raced
            ),
        );
    }
    for (name, latency) in [("reads", report.read), ("writes", report.write)] {
        if let Some(latency) = latency {
            line(name, &in_words(&latency));
        }
    }
    if let Some(found) = found {
        line("record", found.as_ref().unwrap_or_else(|told| told));
    }
    line("verdict", &verdict(report));
    text
}

fn in_words(latency: &Latency) -> String {
    let slow = if latency.is_too_slow() {
        format!(": too slow at times, a pair waits {} ms for an answer", DEFAULT_DEADLINE.as_millis())
    } else {
        String::new()
    };
    format!("median {}, slowest {}{slow}", milliseconds(latency.median), milliseconds(latency.max))
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}

fn verdict(report: &Report) -> String {
    match &report.verdict {
        Verdict::Fit => "it can be a witness".to_owned(),
        Verdict::Unfit(told) => format!("NO WITNESS: {told}"),
        Verdict::Untested(reason) => format!("not known: {}", without_numbers(&reason.to_string())),
    }
}

fn as_json(url: &WitnessUrl, report: &Report, found: Option<&Result<String, String>>) -> Value {
    let latency = |latency: Option<Latency>| {
        latency.map(|latency| {
            json!({
                "median_ms": latency.median.as_secs_f64() * 1_000.0,
                "max_ms": latency.max.as_secs_f64() * 1_000.0,
            })
        })
    };
    let (fit, why) = match &report.verdict {
        Verdict::Fit => (Value::Bool(true), Value::Null),
        Verdict::Unfit(told) => (Value::Bool(false), json!(told)),
        Verdict::Untested(reason) => (Value::Null, json!(without_numbers(&reason.to_string()))),
    };
    json!({
        "url": url.to_string(),
        "witness": report.witness,
        "fit": fit,
        "why": why,
        "read": latency(report.read),
        "write": latency(report.write),
        "raced": report.raced,
        "record": found.map(|found| match found {
            Ok(told) => json!({"known": true, "what": told}),
            Err(told) => json!({"known": false, "what": told}),
        }),
    })
}
