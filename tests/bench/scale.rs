//! `duet bench scale`.

use crate::command::{bench, files, processes_with};

#[test]
fn growth_and_costs_are_measured_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    let (data, report) = (dir.path().join("data"), dir.path().join("report"));
    let run = bench(&[
        "scale",
        "--keys=200",
        "--seconds=0.3",
        "--rate=200",
        "--settle=0.1",
        "--away=0.3",
        "--connections=20",
        "--watches=250",
        "--leases=100",
        "--json",
        "--dir",
        data.to_str().unwrap(),
        "--report",
        report.to_str().unwrap(),
    ]);
    let json = run.json();
    let size = &json["sizes"][0];
    assert_eq!((size["keys"].as_u64(), &size["system"]), (Some(200), &"Duet pair".into()));
    for measured in
        ["puts", "gets", "compaction_seconds", "start_seconds", "memory_after_start", "rejoin", "copy"]
    {
        assert!(!size[measured].is_null(), "{measured}: {size:#}");
    }
    assert!(size["memory"]["anonymous"].as_u64().unwrap() > 0, "{size:#}");
    assert!(size["disk_bytes"].as_u64().unwrap() > 200 * 256, "{size:#}");
    assert!(size["rejoin"]["missed"].as_u64().unwrap() > 0, "{size:#}");
    assert_eq!(size["copy"]["stored_bytes"].as_u64(), Some(200 * (20 + 256)), "{size:#}");
    let held: Vec<(&str, u64)> = json["costs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cost| (cost["of"].as_str().unwrap(), cost["number"].as_u64().unwrap()))
        .collect();
    assert_eq!(held, [("client", 20), ("watch", 250), ("lease", 100)]);

    let names = files(&report);
    assert_eq!(
        names,
        ["growth-get.svg", "growth-put.svg", "memory.svg", "report.json", "report.md", "start.svg"]
    );
    let markdown = std::fs::read_to_string(report.join("report.md")).unwrap();
    for line in ["| | 200 keys, Duet pair |", "| full copy, s |", "| watch (250 held) | Duet pair |"] {
        assert!(markdown.contains(line), "{line}: {markdown}");
    }
    assert!(files(&data).is_empty());
    assert_eq!(processes_with(&data), 0);
}
