//! A client's program as a child process, and what happens to the pair while it runs.
//!
//! A line `> EVENT` from the program asks for an event and waits for the line `done`; `> end` says that everything it
//! expected was so. Its other lines are told when it fails.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use duet::bench::etcd::EtcdCluster;
use duet::process::Launcher;
use duet_protocol::ApplianceId;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::harness::{A, B, Pair, Witness};

/// How long a program may be silent: longer than its own patience.
const SILENCE: Duration = Duration::from_mins(2);

/// A client's program, by what runs it.
pub enum Program {
    /// A script beside this file, run by the Python of this environment.
    Python(&'static str, &'static str),
    /// A script beside this file, run by Node.
    Node(&'static str),
    /// Built by `tests/foreign_clients/install`: the path in the clients' directory.
    Built(&'static str),
}

impl Program {
    const fn name(&self) -> &'static str {
        match self {
            Self::Python(_, name) | Self::Node(name) | Self::Built(name) => name,
        }
    }

    /// What starts it, if it is installed.
    fn command(&self) -> Option<Command> {
        let script =
            |name| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/foreign_clients").join(name);
        Some(match self {
            Self::Python(environment, name) => {
                let mut command = Command::new(installed(&format!("{environment}/bin/python"))?);
                command.arg(script(name));
                command
            }
            Self::Node(name) => {
                let packages = installed("node/node_modules")?;
                let mut command = Command::new("node");
                command.env("NODE_PATH", packages).arg(script(name));
                command
            }
            Self::Built(path) => Command::new(installed(path)?),
        })
    }
}

/// Who serves the program.
enum Served {
    Pair(Box<Pair>),
    Etcd(EtcdCluster),
}

impl Served {
    fn endpoints(&self) -> Vec<String> {
        let urls: Vec<String> = match self {
            Self::Pair(pair) => [A, B].map(|appliance| pair.client_url(appliance)).into(),
            Self::Etcd(etcd) => etcd.urls().to_vec(),
        };
        // As these clients want them: HOST:PORT.
        urls.iter().map(|url| url.trim_start_matches("http://").to_owned()).collect()
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Pair(_) => "Duet",
            Self::Etcd(_) => "etcd",
        }
    }

    async fn diagnosis(&self) -> String {
        match self {
            Self::Pair(pair) => pair.diagnosis().await,
            Self::Etcd(_) => String::new(),
        }
    }

    /// Lets it happen. A real etcd is only there to confirm what the program expects: nothing happens to it.
    async fn let_happen(&mut self, event: &str) {
        let Self::Pair(pair) = self else { return };
        let primary = pair.until_any_primary().await;
        match event {
            "switchover" => {
                pair.until_paired().await;
                pair.order(primary, "switchover").await.unwrap();
                pair.until_primary(primary.peer()).await;
            }
            "crash" => {
                pair.until_paired().await;
                pair.crash(primary).await;
                pair.until_primary(primary.peer()).await;
            }
            "stop" => {
                pair.until_paired().await;
                pair.soft_stop(primary).await;
                pair.until_primary(primary.peer()).await;
            }
            "revive" => {
                for appliance in ApplianceId::ALL {
                    pair.revive(appliance).await;
                }
                pair.until_paired().await;
            }
            _ => panic!("the program asks for an unknown event: {event}"),
        }
    }
}

/// Where `tests/foreign_clients/install` put the clients.
fn clients() -> PathBuf {
    let given = std::env::var_os("DUET_TEST_CLIENTS").map(PathBuf::from);
    given.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/clients"))
}

/// A path in the clients' directory, if it is there; a word, or with `DUET_TEST_REQUIRE_CLIENTS` a failure, if not.
fn installed(what: &str) -> Option<PathBuf> {
    let path = clients().join(what);
    if path.exists() {
        return Some(path);
    }
    let required = std::env::var_os("DUET_TEST_REQUIRE_CLIENTS").is_some();
    assert!(!required, "{} is not there: run tests/foreign_clients/install", path.display());
    println!("skipped: {} is not there (tests/foreign_clients/install)", path.display());
    None
}

/// Runs a program at a pair, and at a real etcd where there is one.
pub fn run(program: &Program) {
    crate::harness::run(async {
        let (Some(at_pair), Some(at_etcd)) = (program.command(), program.command()) else { return };
        let pair = Pair::start(Witness::Server).await;
        let directory = pair.dir().to_owned();
        attend(program, at_pair, Served::Pair(Box::new(pair))).await;
        if let Some(etcd) = etcd(&directory).await {
            attend(program, at_etcd, Served::Etcd(etcd)).await;
        }
    });
}

/// A fresh etcd of one member, if its server is installed.
async fn etcd(beside: &Path) -> Option<EtcdCluster> {
    if std::process::Command::new("etcd").arg("--version").output().is_err() {
        println!("not compared with etcd: its server is not installed");
        return None;
    }
    let launcher = Launcher::new(env!("CARGO_BIN_EXE_duet")).unwrap();
    let directory = beside.with_extension("etcd");
    Some(EtcdCluster::start(&launcher, "etcd".as_ref(), &directory, 1).await.unwrap())
}

/// Starts the program and does what it asks for, to its end.
async fn attend(program: &Program, mut command: Command, mut served: Served) {
    command.arg(served.endpoints().join(","));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut errors = child.stderr.take().unwrap();
    let complaint = tokio::spawn(async move {
        let mut text = String::new();
        errors.read_to_string(&mut text).await.map(|_| text)
    });
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut said, mut has_ended) = (Vec::new(), false);
    while let Some(line) = timeout(SILENCE, lines.next_line()).await.expect("the program goes on").unwrap() {
        match line.strip_prefix("> ") {
            Some("end") => has_ended = true,
            Some(event) => {
                served.let_happen(event).await;
                input.write_all(b"done\n").await.unwrap();
            }
            None => {}
        }
        said.push(line);
    }
    let status = timeout(SILENCE, child.wait()).await.expect("the program ends").unwrap();
    let complaint = complaint.await.unwrap().unwrap_or_default();
    assert!(
        status.success() && has_ended,
        "{} at {}: {status}\n{}\n{complaint}\n{}",
        program.name(),
        served.name(),
        said.join("\n"),
        served.diagnosis().await,
    );
}
