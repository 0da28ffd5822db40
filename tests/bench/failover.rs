//! `duet bench failover`.

use crate::command::{bench, files, processes_with};

#[test]
fn pauses_are_measured_and_nothing_acknowledged_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (data, report) = (dir.path().join("data"), dir.path().join("report"));
    let run = bench(&[
        "failover",
        "--kind=kill,cut",
        "--times=1",
        "--rate=200",
        "--json",
        "--dir",
        data.to_str().unwrap(),
        "--report",
        report.to_str().unwrap(),
    ]);
    let json = run.json();
    let events = json["events"].as_array().unwrap();
    let kinds: Vec<&str> = events.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["kill", "cut"]);
    for event in events {
        assert_eq!((&event["system"], event["lost"].as_u64()), (&"Duet pair".into(), Some(0)), "{event:#}");
        assert!(event["acknowledged"].as_u64().unwrap() > 0, "{event:#}");
        // A promise of the old primary has to run out first: no pause at all would mean that nothing happened.
        assert!(event["gap_ms"].as_f64().unwrap() > 10.0, "{event:#}");
    }
    assert_eq!(files(&report), ["failover.svg", "report.json", "report.md"]);
    let markdown = std::fs::read_to_string(report.join("report.md")).unwrap();
    assert!(markdown.contains("| primary cut off | Duet pair | 1 |"), "{markdown}");
    assert!(files(&data).is_empty());
    assert_eq!(processes_with(&data), 0);
}

#[test]
fn a_disk_that_stands_still_for_a_second_costs_a_second_and_no_role() {
    let run = bench(&["failover", "--kind=stall,stall-secondary", "--times=1", "--rate=200", "--json"]);
    let json = run.json();
    for event in json["events"].as_array().unwrap() {
        assert_eq!((event["lost"].as_u64(), &event["new_leader"]), (Some(0), &false.into()), "{event:#}");
        assert_eq!(event["failed"].as_u64(), Some(0), "{event:#}");
        assert!(event["gap_ms"].as_f64().unwrap() > 900.0, "nothing happened: {event:#}");
    }
}

#[test]
fn without_etcd_it_says_how_to_go_on_without() {
    let run = bench(&["failover", "--etcd", "/no/such/etcd"]);
    assert_eq!(run.code, Some(2));
    for part in ["/no/such/etcd", "--etcd PATH", "leave --etcd out"] {
        assert!(run.err.contains(part), "{part}: {}", run.err);
    }
}
