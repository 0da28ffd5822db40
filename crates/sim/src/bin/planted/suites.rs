//! The tests that serve as checkers: built once, with the same feature as this program.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a test executable ends with when a test has failed.
pub const FAILED: i32 = 101;

/// The tests by package, target and what to run of it, and the crates whose bugs they may catch; the quick ones first.
pub const QUICK: &[(&str, &[&str])] = &[
    ("duet-protocol/entitlement", &["protocol"]),
    ("duet-protocol/history", &["protocol"]),
    ("duet-protocol/decision_table", &["protocol"]),
    ("duet-protocol/regressions", &["protocol"]),
    ("duet-mvcc/duet_mvcc", &["mvcc"]),
    ("duet-mvcc/observations_keys", &["mvcc"]),
    ("duet-mvcc/observations_txn", &["mvcc"]),
    ("duet-mvcc/observations_history", &["mvcc"]),
    ("duet-mvcc/auth", &["mvcc"]),
    ("duet-mvcc/restore", &["mvcc"]),
    ("duet-mvcc/model", &["mvcc"]),
    ("duet-storage/duet_storage --skip log::tests", &["storage"]),
    ("duet-storage/duet_storage log::tests::plain", &["storage"]),
    ("duet-storage/duet_storage log::tests", &["storage"]),
    ("duet-witness/duet_witness", &["witness"]),
    ("duet-serving/duet_serving", &["serving"]),
    ("duet-witness/registers", &["witness"]),
];

/// The slow ones.
pub const SLOW: &[(&str, &[&str])] = &[
    ("duet-sim/scenario_table", &["protocol"]),
    ("duet-sim/field", &["protocol"]),
    ("duet-sim/scenarios", &["protocol"]),
];

const PACKAGES: [&str; 6] =
    ["duet-protocol", "duet-mvcc", "duet-storage", "duet-witness", "duet-serving", "duet-sim"];

/// A test executable.
pub struct Executable {
    /// `package/target`.
    pub name: String,
    pub path: PathBuf,
    /// The package's directory, where its tests are run.
    pub directory: PathBuf,
}

/// Builds them.
pub fn build() -> Result<Vec<Executable>, String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "--no-run", "--message-format=json-render-diagnostics"]);
    cargo.args(["--features", "duet-sim/planted"]);
    cargo.args(PACKAGES.iter().flat_map(|package| ["-p", package]));
    // Only these targets: building takes longer than a sample of bugs.
    let targets = QUICK.iter().chain(SLOW).filter_map(|(name, _)| target(name).split_once('/'));
    let tests = targets.filter(|(_, target)| !target.starts_with("duet_"));
    cargo.arg("--lib").args(tests.flat_map(|(_, target)| ["--test", target]));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).stderr(Stdio::inherit());
    let output = cargo.output().map_err(|error| format!("cannot run cargo: {error}"))?;
    if !output.status.success() {
        return Err("the tests do not build".into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(executable).collect())
}

/// `package/target` of a name in the lists above.
pub fn target(name: &str) -> &str {
    name.split(' ').next().unwrap_or(name)
}

/// Reads one of cargo's messages, if it is about a test executable.
fn executable(line: &str) -> Option<Executable> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    if message["profile"]["test"] != true {
        return None;
    }
    let path = PathBuf::from(message["executable"].as_str()?);
    let directory = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
    let package = directory.file_name()?.to_str()?;
    let target = message["target"]["name"].as_str()?;
    Some(Executable { name: format!("duet-{package}/{target}"), path, directory })
}

/// The name of a test, in the line that says that it has failed.
pub fn failed(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

/// What the first test that failed says: its name, and the message of its panic.
pub fn sentence(output: &str) -> Option<String> {
    let (_, told) = output.split_once("\nfailures:\n")?;
    let mut lines = told.lines();
    let test = lines.find_map(|line| line.strip_prefix("---- ")?.strip_suffix(" stdout ----"))?;
    lines.find(|line| line.contains("panicked at "))?;
    let message = lines.find(|line| !line.trim().is_empty())?;
    Some(format!("{test}: {}", message.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failed_test_is_told_with_its_message() {
        let output = "\nrunning 2 tests\ntest a ... ok\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\n\n\
                      thread 'b' (7) panicked at src/lib.rs:3:5:\nit is wrong\nleft: 1\nnote: run with `RUST_BACKTRACE=1`\n\n\n\
                      failures:\n    b\n\ntest result: FAILED. 1 passed; 1 failed\n";
        assert_eq!(sentence(output).as_deref(), Some("b: it is wrong"));
        assert_eq!(output.lines().find_map(failed), Some("b"));
        assert_eq!(sentence("thread 'main' panicked at src/main.rs:1:1:\nno tests here\n"), None);
    }

    #[test]
    fn the_present_bugs_have_distinct_names_and_say_what_they_break() {
        let bugs = crate::Bug::all();
        let names: std::collections::BTreeSet<&str> = bugs.iter().map(|bug| bug.name.as_str()).collect();
        assert_eq!(names.len(), bugs.len());
        assert!(bugs.len() >= 60 && bugs.iter().all(|bug| bug.what.ends_with('.')));
    }
}
