//! `duet bench witness`.

use crate::command::{bench, files, processes_with};

/// The server's cache, connections of the burst and code; a pair adds next to nothing.
const MEMORY_BYTES: u64 = 128 << 20;

#[test]
fn many_pairs_are_served_without_a_write_in_steady_state_and_share_their_syncs_in_a_burst() {
    let dir = tempfile::tempdir().unwrap();
    let (data, report) = (dir.path().join("data"), dir.path().join("report"));
    let run = bench(&[
        "witness",
        "--pairs=2000",
        "--burst=500",
        "--interval=4",
        "--seconds=2",
        "--json",
        "--dir",
        data.to_str().unwrap(),
        "--report",
        report.to_str().unwrap(),
    ]);
    let json = run.json();
    let steady = &json["steady"];
    assert!(steady["answered"].as_u64().unwrap() > 100, "{steady:#}");
    assert_eq!(
        (&steady["work"]["syncs"], &steady["work"]["disk_bytes"]),
        (&0.into(), &0.into()),
        "{steady:#}"
    );
    let burst = &json["burst"];
    assert_eq!(burst["answered"], 500, "{burst:#}");
    assert!(burst["work"]["syncs"].as_u64().unwrap() < 250, "many writes share a sync: {burst:#}");
    assert_eq!(json["lost"], 0);
    for part in [steady, burst] {
        assert_eq!(part["errors"], serde_json::json!({}), "{part:#}");
    }
    for moment in ["memory_started", "memory_steady", "memory_burst", "memory_restarted"] {
        assert!(json[moment]["peak"].as_u64().unwrap() < MEMORY_BYTES, "{moment}: {}", json[moment]);
    }
    assert!(json["file_bytes"].as_u64().unwrap() > 2000 * 500, "{json:#}");

    assert_eq!(files(&report), ["report.json", "report.md"]);
    let markdown = std::fs::read_to_string(report.join("report.md")).unwrap();
    for line in [
        "| pairs, each registered and with a record | 2000 |",
        "| answered and not there after kill -9 | 0 |",
    ] {
        assert!(markdown.contains(line), "{line}: {markdown}");
    }
    assert_eq!(processes_with(&data), 0);
}

#[test]
fn a_burst_of_more_than_all_is_a_mistake() {
    let run = bench(&["witness", "--pairs=10", "--burst=11"]);
    assert_eq!(run.code, Some(2));
    assert!(run.err.contains("--burst"), "{}", run.err);
}
