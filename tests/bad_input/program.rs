//! Runs `duet` commands that should be refused, and says whether the refusal is clear.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use duet::process::{Launcher, Program, Running};
use duet_protocol::WitnessRecord;

use crate::harness::{A, B, Ledger, PATIENCE, Pair};

/// Signs of the inside that no person should see.
const INSIDE: [&str; 13] = [
    "panicked",
    "RUST_BACKTRACE",
    "(os error",
    "Os {",
    "Error(",
    "Err(",
    "Some(",
    "None)",
    "unwrap",
    "thread '",
    ".rs:",
    "assertion",
    "kind: ",
];

fn launcher() -> Launcher {
    static LAUNCHER: OnceLock<Launcher> = OnceLock::new();
    LAUNCHER.get_or_init(|| Launcher::new(env!("CARGO_BIN_EXE_duet")).unwrap()).clone()
}

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Said {
    command: String,
    pub code: Option<i32>,
    pub text: String,
}

impl Said {
    /// Of a process that has ended already.
    pub fn of(command: &str, code: Option<i32>, text: String) -> Self {
        Self { command: command.to_owned(), code, text }
    }

    /// It ended with this code, said in one line what happened and in one line what to do, and showed nothing of the inside.
    /// `parts` are in these two lines.
    #[track_caller]
    pub fn refuses(&self, code: i32, parts: &[&str]) {
        let Self { command, text, .. } = self;
        assert_eq!(self.code, Some(code), "exit code of {command}:\n{text}");
        // Threads that are still ending may log behind it.
        let lines: Vec<&str> = text.lines().filter(|line| !is_log(line)).collect();
        let errors: Vec<usize> = lines
            .iter()
            .enumerate()
            .filter(|(_, line)| line.starts_with("error: "))
            .map(|(index, _)| index)
            .collect();
        assert!(errors.len() == 1, "{command} should say one error:\n{text}");
        let message = &lines[errors[0]..];
        assert!(
            message.len() == 2,
            "{command} should say what happened in one line, and what to do in one:\n{text}"
        );
        let (what, remedy) = (message[0].trim_start_matches("error: "), message[1]);
        assert!(remedy.starts_with("       ") && !remedy.trim().is_empty(), "what to do is missing: {text}");
        for part in parts {
            let found = what.contains(part) || remedy.contains(part);
            assert!(found, "{command} should mention {part:?}:\n{text}");
        }
        self.shows_nothing_of_the_inside();
    }

    /// No panic, no debug form.
    #[track_caller]
    pub fn shows_nothing_of_the_inside(&self) {
        let Self { command, text, .. } = self;
        // What an appliance logs may be more technical; a panic is wrong there too.
        for line in text.lines().filter(|line| !is_log(line)) {
            for sign in INSIDE {
                assert!(!line.contains(sign), "{command} shows {sign:?}:\n{text}");
            }
        }
        assert!(!text.contains("panicked"), "{command} panicked:\n{text}");
    }
}

/// Lines of the log begin with the time.
fn is_log(line: &str) -> bool {
    line.starts_with("20")
}

/// Starts a command in `dir`, with what it says going to a file of its own there.
pub fn start(dir: &Path, args: &[&str]) -> Running {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let log = dir.join(format!("said-{}.log", NEXT.fetch_add(1, Ordering::Relaxed)));
    let program = Program {
        name: format!("duet {}", args.join(" ")),
        path: env!("CARGO_BIN_EXE_duet").into(),
        args: args.iter().map(Into::into).collect(),
        env: Vec::new(),
        log,
    };
    launcher().start(&program).unwrap()
}

/// Runs a command to its end.
pub async fn duet(dir: &Path, args: &[&str]) -> Said {
    let mut running = start(dir, args);
    let ended = running.wait(PATIENCE).await;
    let said = Said::of(running.name(), ended.and_then(|status| status.code()), running.output());
    assert!(ended.is_some(), "{} should end:\n{}", said.command, said.text);
    said
}

/// Runs a command with a configuration file to its end.
pub async fn with_config(dir: &Path, command: &str, config: &Path) -> Said {
    duet(dir, &[command, "--config", &config.display().to_string()]).await
}

/// Starts appliance A or B of a pair, which should refuse to.
pub async fn serve(pair: &Pair, appliance: duet_protocol::ApplianceId) -> Said {
    with_config(pair.dir(), "serve", &pair.config_path(appliance)).await
}

/// The record is still of the same pair: the same cluster, no other disks. A running pair may write its own record anew at any
/// time, so only this is what nobody else may change.
#[track_caller]
pub fn is_still_of(before: &WitnessRecord, now: &WitnessRecord) {
    assert_eq!(before.cluster, now.cluster, "another cluster's record");
    for appliance in [A, B] {
        let (before, now) = (before.conf.members().get(appliance), now.conf.members().get(appliance));
        assert!(now.is_none() || now == before, "{appliance} has another disk: {before:?}, {now:?}");
    }
}

/// The content of every file below `dir`, but for locks and sockets.
pub fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![dir.to_owned()];
    while let Some(next) = left.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if path.is_file() && !path.file_name().unwrap().eq_ignore_ascii_case("lock") {
                let name = path.strip_prefix(dir).unwrap().display().to_string();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Panics with the names of the files that differ.
#[track_caller]
pub fn unchanged(before: &BTreeMap<String, Vec<u8>>, after: &BTreeMap<String, Vec<u8>>) {
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed: Vec<_> = names.into_iter().filter(|name| before.get(*name) != after.get(*name)).collect();
    assert!(changed.is_empty(), "these files were changed: {changed:?}");
}

/// Both take a write and a read each, and are in sync with all of the ledger.
pub async fn still_serves(pair: &mut Pair, ledger: &mut Ledger) {
    for appliance in [A, B] {
        assert!(pair.is_running(appliance), "{appliance} has ended:\n{}", pair.log(appliance));
        pair.write(appliance, ledger, 1).await;
        pair.has_all(appliance, ledger).await;
    }
    pair.converges_with(ledger).await;
    for appliance in [A, B] {
        let log = pair.log(appliance);
        assert!(!log.contains("panicked"), "{appliance} panicked:\n{log}");
    }
}
