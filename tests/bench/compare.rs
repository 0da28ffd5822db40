//! `duet bench compare`.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::command::{bench, command, files, processes_with};

/// Enough for a start on a busy machine.
const LIMIT: Duration = Duration::from_mins(1);

#[test]
fn every_operation_is_measured_and_reported_in_every_form() {
    let dir = tempfile::tempdir().unwrap();
    let (data, report) = (dir.path().join("data"), dir.path().join("report"));
    let run = bench(&[
        "compare",
        "--systems=duet",
        "--ops=put,get,serializable,txn,mixed,range,watch,watch-lag",
        "--clients=4",
        "--rate=200",
        "--watchers=3",
        "--lag-watchers=5",
        "--keys=50",
        "--rounds=1",
        "--seconds=0.3",
        "--warmup=0",
        "--json",
        "--dir",
        data.to_str().unwrap(),
        "--report",
        report.to_str().unwrap(),
    ]);
    let json = run.json();
    let samples = json["samples"].as_array().unwrap();
    // Six operations in a closed loop, all but ranges in an open one, too, and two that are watched.
    assert_eq!(samples.len(), 6 + 5 + 2, "{json:#}");
    for sample in samples {
        assert_eq!(sample["system"], "Duet pair");
        assert!(sample["report"]["operations"].as_u64().unwrap() > 0, "{sample:#}");
        assert!(sample["report"]["errors"].as_object().unwrap().is_empty(), "{sample:#}");
        assert!(sample["peak_mib"].as_u64().unwrap() > 0, "{sample:#}");
        let reads = ["get", "serializable", "range"].contains(&sample["load"]["operation"].as_str().unwrap());
        assert_eq!(sample["written_per_stored_byte"].is_null(), reads, "{sample:#}");
    }
    assert!(json["conditions"]["floors"]["fsync_ms"]["p50"].as_f64().unwrap() > 0.0);

    let names = files(&report);
    for name in ["report.md", "report.json", "put.svg", "put-cpu.svg", "put-latency.svg", "watch-lag.svg"] {
        assert!(names.iter().any(|known| known == name), "{name} of {names:?}");
    }
    let markdown = std::fs::read_to_string(report.join("report.md")).unwrap();
    assert!(markdown.contains("![Writes: throughput](put.svg)"), "{markdown}");
    assert!(markdown.contains("| watch-lag | 5 | Duet pair |"), "{markdown}");
    assert!(files(&data).is_empty(), "data of a round is removed after it");
    assert_eq!(processes_with(&data), 0);
}

#[test]
fn without_etcd_it_says_how_to_go_on_without() {
    let run = bench(&["compare", "--etcd=/no/such/etcd"]);
    assert_eq!(run.code, Some(2));
    for part in ["/no/such/etcd", "--etcd PATH", "--systems duet"] {
        assert!(run.err.contains(part), "{part}: {}", run.err);
    }
}

#[test]
fn an_interrupt_ends_every_process_and_removes_the_data() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = command(&["compare", "--systems=duet", "--ops=put", "--clients=1", "--seconds=60"])
        .env("TMPDIR", dir.path())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while processes_with(dir.path()) < 3 {
        assert!(start.elapsed() < LIMIT, "a witness and two appliances start");
        std::thread::sleep(Duration::from_millis(10));
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(processes_with(dir.path()), 0);
    assert!(files(dir.path()).is_empty(), "{:?}", files(dir.path()));
}
