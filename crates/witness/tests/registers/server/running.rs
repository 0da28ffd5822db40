//! Witness servers to be tested: in this process, or in one of their own that can be killed.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use duet_witness::Credential;
use duet_witness::client::ServerRegister;
use duet_witness::server::{ServeError, WitnessServer, WitnessServerConfig};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::outcomes::PATIENT;

/// Data directory of a [`Process`].
const DIRECTORY: &str = "DUET_WITNESS_TEST_SERVER";
/// What a [`Process`] prints before its address.
const SERVES: &str = "witness serves at ";

pub fn open(address: &str, cluster: &str, deadline: Duration) -> ServerRegister {
    open_with(address, cluster, Credential::None, deadline)
}

pub fn open_with(address: &str, cluster: &str, credential: Credential, deadline: Duration) -> ServerRegister {
    ServerRegister::new(address, cluster.parse().expect("a good name"), credential, deadline)
}

pub fn config(directory: &Path) -> WitnessServerConfig {
    let listen: SocketAddr = ([127, 0, 0, 1], 0).into();
    WitnessServerConfig::new(listen, directory)
}

/// A server in this process.
pub struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Running {
    pub async fn start(directory: &Path) -> Self {
        Self::start_with(config(directory)).await
    }

    pub async fn start_with(config: WitnessServerConfig) -> Self {
        let until = Instant::now() + PATIENT;
        let server = loop {
            match WitnessServer::bind(config.clone()) {
                Ok(server) => break server,
                // A dropped server's writer thread takes a moment to end.
                Err(ServeError::Locked { .. }) if Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => panic!("{error}"),
            }
        };
        let address = server.local_addr();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.run(async { drop(stopped.await) }));
        Self { address, stop, task }
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    pub async fn stop(self) {
        drop(self.stop);
        self.task.await.expect("no panic").expect("no error");
    }

    pub async fn drop_it(self) {
        self.task.abort();
        assert!(self.task.await.is_err());
    }
}

/// A server in a process of its own.
pub struct Process {
    pub address: String,
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Process {
    /// `limits` are shell commands that run first, to take something away from it.
    pub fn start(directory: &Path, limits: &str) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", &format!("{limits} exec \"$0\" --exact server::process --nocapture --quiet")])
            .arg(std::env::current_exe().expect("this program"))
            .env(DIRECTORY, directory)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a process");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut process = Self { address: String::new(), child, output };
        let mut line = String::new();
        while process.address.is_empty() {
            line.clear();
            assert!(process.output.read_line(&mut line).expect("readable") > 0, "the process serves");
            if let Some(at) = line.find(SERVES) {
                line[at + SERVES.len()..].trim().clone_into(&mut process.address);
            }
        }
        process
    }

    pub fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it has ended");
    }

    /// Waits for its end; whether it ended well, and what it printed.
    pub fn wait(mut self) -> (bool, String) {
        let mut output = String::new();
        self.output.read_to_string(&mut output).expect("text");
        (self.child.wait().expect("it has ended").success(), output)
    }
}

/// The other side of [`Process`].
pub async fn be_the_process() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let server = WitnessServer::bind(config(Path::new(&directory))).expect("it starts");
    println!("{SERVES}{}", server.local_addr());
    if let Err(error) = server.run(std::future::pending()).await {
        println!("{error}");
        std::process::exit(1);
    }
}
