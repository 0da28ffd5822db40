//! The real `etcdctl`, where it is installed. With `DUET_TEST_REQUIRE_ETCDCTL` in the environment a missing one is a
//! failure, else a word.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use tokio::sync::OnceCell;

use super::harness::PATIENCE;

/// etcdctl with its endpoints.
pub struct Etcdctl {
    endpoints: String,
}

impl Etcdctl {
    /// `None`, with a word, where it is not installed.
    pub async fn find(endpoints: &[String]) -> Option<Self> {
        static INSTALLED: OnceCell<bool> = OnceCell::const_new();
        let installed = INSTALLED.get_or_init(async || {
            let found = Command::new("etcdctl").arg("version").env("ETCDCTL_API", "3").output().await;
            found.is_ok_and(|output| output.status.success())
        });
        if *installed.await {
            return Some(Self { endpoints: endpoints.join(",") });
        }
        assert!(std::env::var_os("DUET_TEST_REQUIRE_ETCDCTL").is_none(), "etcdctl is not installed");
        println!("skipped: etcdctl is not installed");
        None
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").arg("--endpoints").arg(&self.endpoints).args(args).kill_on_drop(true);
        command
    }

    /// Runs a command; what it printed, or what it complained of.
    pub async fn run(&self, args: &[&str]) -> Result<String, String> {
        self.run_with_input(args, "").await
    }

    /// The same with something to read.
    pub async fn run_with_input(&self, args: &[&str], input: &str) -> Result<String, String> {
        use tokio::io::AsyncWriteExt;
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.ok();
        drop(stdin);
        let output =
            tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("etcdctl ends").unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(out.into_owned()) } else { Err(format!("{args:?}: {out}{err}")) }
    }

    /// A command that goes on, such as a watch.
    pub fn start(&self, args: &[&str]) -> Ongoing {
        let mut command = self.command(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Ongoing { _child: child, lines }
    }
}

/// An etcdctl that goes on; dropping it kills it.
pub struct Ongoing {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Ongoing {
    /// Waits for a line.
    pub async fn until_line(&mut self, wanted: &str) {
        let found = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                if line == wanted {
                    return;
                }
            }
            panic!("etcdctl ended without the line {wanted}");
        };
        tokio::time::timeout(PATIENCE, found)
            .await
            .unwrap_or_else(|_| panic!("etcdctl does not print {wanted}"));
    }
}
