//! `etcdctl` as a child process: commands that end, and watches that go on.

use std::path::Path;
use std::process::Stdio;
use std::sync::OnceLock;

use duet::process::{Launcher, Program, Running};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::harness::{A, B, PATIENCE, Pair};

/// Whether etcdctl is there; a word, or with `DUET_TEST_REQUIRE_ETCDCTL` a failure, if it is not.
pub fn is_installed() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    let found = *FOUND.get_or_init(|| {
        let version = std::process::Command::new("etcdctl").arg("version").env("ETCDCTL_API", "3").output();
        version.is_ok_and(|output| output.status.success())
    });
    if !found {
        let required = std::env::var_os("DUET_TEST_REQUIRE_ETCDCTL").is_some();
        assert!(!required, "etcdctl is not installed, and DUET_TEST_REQUIRE_ETCDCTL is set");
        println!("skipped: etcdctl is not installed");
    }
    found
}

/// Starts what must not outlive this process.
pub fn launcher() -> Launcher {
    static LAUNCHER: OnceLock<Launcher> = OnceLock::new();
    LAUNCHER.get_or_init(|| Launcher::new(env!("CARGO_BIN_EXE_duet")).unwrap()).clone()
}

/// What a command printed and how it ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    /// Without the client library's own log lines.
    pub err: String,
}

impl Said {
    /// What it printed, if it succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.code == 0, "etcdctl failed: {self:?}");
        self.out
    }

    /// What it complained of.
    #[track_caller]
    pub fn error(self) -> String {
        assert!(self.code != 0, "etcdctl should have failed: {self:?}");
        self.err
    }
}

/// etcdctl with its endpoints.
#[derive(Clone, Debug)]
pub struct Etcdctl {
    endpoints: String,
    /// What every command begins with besides.
    flags: Vec<String>,
}

impl Etcdctl {
    pub fn new<T: AsRef<str>>(endpoints: &[T]) -> Self {
        let endpoints: Vec<&str> = endpoints.iter().map(AsRef::as_ref).collect();
        Self { endpoints: endpoints.join(","), flags: Vec::new() }
    }

    /// The same as a user, "name:password".
    pub fn by(&self, user: &str) -> Self {
        Self { flags: vec![format!("--user={user}")], ..self.clone() }
    }

    /// At both appliances; it chooses, and changes over when the one is gone.
    pub fn at_both(pair: &Pair) -> Self {
        Self::new(&[pair.client_url(A), pair.client_url(B)])
    }

    /// Runs a command to its end.
    pub async fn run(&self, args: &[&str]) -> Said {
        self.run_with_input(args, "").await
    }

    /// The same with something to read.
    pub async fn run_with_input(&self, args: &[&str], input: &str) -> Said {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").arg("--endpoints").arg(&self.endpoints);
        command.args(&self.flags).args(args).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // It need not read what it is given.
        stdin.write_all(input.as_bytes()).await.ok();
        drop(stdin);
        let ended = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
        let output = ended.unwrap_or_else(|_| panic!("etcdctl {args:?} does not end")).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let own: Vec<String> =
            text(&output.stderr).lines().filter(|line| !is_log(line)).map(str::to_owned).collect();
        Said { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: own.join("\n") }
    }

    /// Starts a command that goes on; `log` is a file for its output.
    pub fn start(&self, log: &Path, args: &[&str]) -> Ongoing {
        let mut all = vec!["--endpoints".into(), self.endpoints.clone().into()];
        all.extend(self.flags.iter().map(Into::into));
        all.extend(args.iter().map(Into::into));
        let program = Program {
            name: format!("etcdctl {}", args.join(" ")),
            path: "etcdctl".into(),
            args: all,
            env: vec![("ETCDCTL_API".into(), "3".into())],
            log: log.to_owned(),
        };
        Ongoing { running: launcher().start(&program).unwrap() }
    }
}

/// Lines that the client library logs about its retries.
fn is_log(line: &str) -> bool {
    line.starts_with("{\"level\":")
}

/// An etcdctl that goes on; dropping it kills it.
pub struct Ongoing {
    running: Running,
}

impl Ongoing {
    /// What it printed until now, whole lines only.
    pub fn lines(&self) -> Vec<String> {
        let output = self.running.output();
        let whole = output.rfind('\n').map_or("", |end| &output[..end]);
        whole.lines().filter(|line| !is_log(line)).map(str::to_owned).collect()
    }

    /// Everything that it printed until it ended by itself.
    pub async fn ended(&mut self, limit: std::time::Duration) -> Vec<String> {
        let ended = self.running.wait(limit).await;
        assert!(ended.is_some(), "{} does not end: {}", self.running.name(), self.running.output());
        self.lines()
    }

    /// SIGTERM, after which it takes back what it holds, and its end.
    pub async fn stop(&mut self) {
        self.running.terminate();
        let ended = self.running.wait(PATIENCE).await;
        assert!(ended.is_some(), "{} does not end: {}", self.running.name(), self.running.output());
    }

    /// Waits until its lines are as wanted.
    pub async fn until(&mut self, pair: &Pair, what: &str, holds: impl Fn(&[String]) -> bool) -> Vec<String> {
        let start = std::time::Instant::now();
        loop {
            let lines = self.lines();
            if holds(&lines) {
                return lines;
            }
            let late = start.elapsed() > PATIENCE;
            if late || self.running.ended().is_some() {
                let end = if late { "prints in vain" } else { "has ended" };
                let shown = self.running.output();
                panic!("{} {end}: {what}\n{shown}\n{}", self.running.name(), pair.diagnosis().await);
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}
