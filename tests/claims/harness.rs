//! A pair on this machine as the tests need it: with either kind of witness, with lines that can be cut, and with words
//! for everything that can happen to an appliance.
//!
//! Every process is a [`Running`]: dropping the [`Pair`] kills them all, and a warden does if this process is killed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use duet::process::{Launcher, Program, Running, free_port};
use duet::status::ask;
use duet_protocol::{ApplianceId, PerAppliance, WitnessRecord};
use duet_server::StatusReport;
use duet_witness::{ReadOutcome, Register};
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::client::Client;
use crate::proxy::{Line, Proxy};
use crate::tap::Tap;

pub use duet_protocol::ApplianceId::{A, B};

/// Name of every pair here; they do not meet.
pub const CLUSTER: &str = "claims";
/// How long anything may take before a test gives up. Far above any time that is promised: a busy machine is no failure.
pub const PATIENCE: Duration = Duration::from_secs(40);
/// Between two looks of a wait.
const POLL: Duration = Duration::from_millis(10);
/// How long an appliance may take to tell its status.
const STATUS_DEADLINE: Duration = Duration::from_secs(1);
/// Pairs that run at the same time in this process: they mostly wait, so somewhat more than there are cores.
const PAIRS_AT_ONCE: usize = 4;
/// Lines of each log shown with a failure.
const LOG_LINES: usize = 40;

static SLOTS: Semaphore = Semaphore::const_new(PAIRS_AT_ONCE);

/// The kinds of witness that every claim is tried with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Witness {
    /// `duet witness`.
    Server,
    /// A directory on a shared file system.
    Directory,
}

/// Runs a test to its end on a runtime of its own.
pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(test);
    runtime.shutdown_background();
}

/// For each `async fn claim(witness: Witness)` two tests: `claim::with_witness_server` and `claim::with_witness_directory`.
macro_rules! with_both_witnesses {
    ($($claim:ident),+ $(,)?) => {$(
        mod $claim {
            use $crate::harness::{Witness, run};

            #[test]
            fn with_witness_server() {
                run(super::$claim(Witness::Server));
            }

            #[test]
            fn with_witness_directory() {
                run(super::$claim(Witness::Directory));
            }
        }
    )+};
}
pub(crate) use with_both_witnesses;

/// The binary under test (or that of `DUET_TEST_BINARY`), copied once: a build that goes on meanwhile does not change what
/// is tested.
fn launcher() -> Launcher {
    static LAUNCHER: OnceLock<Launcher> = OnceLock::new();
    let start = || {
        let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("duet-under-test");
        let new = copy.with_extension(std::process::id().to_string());
        let built = std::env::var_os("DUET_TEST_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_duet").into());
        std::fs::copy(built, &new).unwrap();
        std::fs::rename(&new, &copy).unwrap();
        // Opened by its inode, not its name: another run may put its own there.
        let mine = copy.with_extension(format!("run-{}", std::process::id()));
        std::fs::hard_link(&copy, &mine).unwrap();
        forget_older_runs(&mine);
        Launcher::new(mine).unwrap()
    };
    LAUNCHER.get_or_init(start).clone()
}

/// Removes the binaries of runs whose process is gone.
fn forget_older_runs(mine: &Path) {
    for entry in std::fs::read_dir(env!("CARGO_TARGET_TMPDIR")).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix("duet-under-test.run-") else { continue };
        if entry.path() != mine && !Path::new("/proc").join(pid).exists() {
            std::fs::remove_file(entry.path()).ok();
        }
    }
}

/// A port that no test process gives away twice, also while nothing listens on it: whoever uses it holds the UDP port of
/// the same number.
struct Port {
    number: u16,
    _reserved: std::net::UdpSocket,
}

impl Port {
    fn reserve() -> Self {
        loop {
            let number = free_port().unwrap();
            if let Ok(reserved) = std::net::UdpSocket::bind(("127.0.0.1", number)) {
                return Self { number, _reserved: reserved };
            }
        }
    }
}

struct Ports {
    client: Port,
    peer: Port,
}

/// What stands between an appliance and the rest of the world, if the test asked for it.
struct Lines {
    /// From this appliance to its peer.
    peer: Proxy,
    /// From this appliance to the witness server.
    witness: Option<Proxy>,
}

/// Two appliances and a witness.
pub struct Pair {
    witness: Witness,
    dir: PathBuf,
    ports: PerAppliance<Ports>,
    witness_port: Port,
    witness_process: Option<Running>,
    witness_generation: u32,
    appliances: PerAppliance<Option<Running>>,
    environment: PerAppliance<Vec<(String, String)>>,
    /// Further lines of the configuration files.
    extra: String,
    lines: Option<PerAppliance<Lines>>,
    tap: Option<Tap>,
    clients: PerAppliance<Client>,
    _temporary: TempDir,
    _slot: SemaphorePermit<'static>,
}

impl Pair {
    /// Ports, directories and configuration files; nothing runs yet but the witness.
    pub async fn lay_out(witness: Witness) -> Self {
        let slot = SLOTS.acquire().await.unwrap();
        let temporary = TempDir::with_prefix("duet-claims-").unwrap();
        let dir = temporary.path().canonicalize().unwrap();
        let ports = || Ports { client: Port::reserve(), peer: Port::reserve() };
        let ports = PerAppliance { a: ports(), b: ports() };
        let client = |ports: &Ports| Client::new(&format!("http://127.0.0.1:{}", ports.client.number));
        let mut pair = Self {
            witness,
            clients: PerAppliance { a: client(&ports.a), b: client(&ports.b) },
            ports,
            witness_port: Port::reserve(),
            witness_process: None,
            witness_generation: 0,
            appliances: PerAppliance { a: None, b: None },
            environment: PerAppliance { a: Vec::new(), b: Vec::new() },
            extra: String::new(),
            lines: None,
            tap: None,
            dir,
            _temporary: temporary,
            _slot: slot,
        };
        for appliance in ApplianceId::ALL {
            let link = pair.witness_link(appliance);
            if witness == Witness::Directory {
                std::os::unix::fs::symlink(pair.witness_data(), link).unwrap();
            }
            pair.write_config(appliance);
        }
        pair.start_witness().await;
        pair
    }

    /// The same with lines that can be cut.
    pub async fn lay_out_with_lines(witness: Witness) -> Self {
        let mut pair = Self::lay_out(witness).await;
        let lines = async |appliance: ApplianceId| Lines {
            peer: Proxy::start(pair.ports.get(appliance.peer()).peer.number).await,
            witness: match witness {
                Witness::Server => Some(Proxy::start(pair.witness_port.number).await),
                Witness::Directory => None,
            },
        };
        let lines = PerAppliance { a: lines(A).await, b: lines(B).await };
        pair.lines = Some(lines);
        pair.write_configs();
        pair
    }

    /// A witness, a new pair, both in sync, A primary.
    pub async fn start(witness: Witness) -> Self {
        let mut pair = Self::lay_out(witness).await;
        pair.start_new().await;
        pair
    }

    /// The same with lines that can be cut.
    pub async fn start_with_lines(witness: Witness) -> Self {
        let mut pair = Self::lay_out_with_lines(witness).await;
        pair.start_new().await;
        pair
    }

    /// Makes the pair and starts both, A as primary.
    pub async fn start_new(&mut self) {
        self.init(A).await;
        self.start_appliance(A).await;
        self.until_primary(A).await;
        self.start_appliance(B).await;
        self.until_in_sync().await;
    }

    // ---- configuration ----

    fn write_config(&self, appliance: ApplianceId) {
        std::fs::write(self.config_path(appliance), self.config_text(appliance)).unwrap();
    }

    fn write_configs(&self) {
        for appliance in ApplianceId::ALL {
            self.write_config(appliance);
        }
    }

    /// The text of an appliance's configuration file.
    pub fn config_text(&self, appliance: ApplianceId) -> String {
        let own = self.ports.get(appliance);
        let lines = self.lines.as_ref().map(|lines| lines.get(appliance));
        let peer = lines.map_or(self.ports.get(appliance.peer()).peer.number, |lines| lines.peer.port());
        let witness = match self.witness {
            Witness::Directory => format!("dir:{}", self.witness_link(appliance).display()),
            Witness::Server => {
                let proxy = lines.and_then(|lines| lines.witness.as_ref().map(Proxy::port));
                let tap = self.tap.as_ref().map(Tap::port);
                format!("http://127.0.0.1:{}", tap.or(proxy).unwrap_or(self.witness_port.number))
            }
        };
        format!(
            "cluster = \"{CLUSTER}\"\nappliance = \"{appliance}\"\ndata = \"{}\"\nclient_listen = \"127.0.0.1:{}\"\n\
             peer_listen = \"127.0.0.1:{}\"\npeer = \"127.0.0.1:{peer}\"\nwitness = \"{witness}\"\n{}",
            self.data(appliance).display(),
            own.client.number,
            own.peer.number,
            self.extra,
        )
    }

    /// Adds a line to both configuration files, for the next starts.
    pub fn configure(&mut self, line: &str) {
        self.extra.push_str(line);
        self.extra.push('\n');
        self.write_configs();
    }

    /// The configuration file.
    pub fn config_path(&self, appliance: ApplianceId) -> PathBuf {
        self.dir.join(format!("{}.toml", letter(appliance)))
    }

    /// The data directory.
    pub fn data(&self, appliance: ApplianceId) -> PathBuf {
        self.dir.join(letter(appliance))
    }

    /// Where files of the test may go.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where clients reach an appliance.
    pub fn client_url(&self, appliance: ApplianceId) -> String {
        format!("http://127.0.0.1:{}", self.ports.get(appliance).client.number)
    }

    /// The etcd client of an appliance.
    pub fn client(&self, appliance: ApplianceId) -> &Client {
        self.clients.get(appliance)
    }

    /// Environment of the next start of an appliance.
    pub fn set_environment(&mut self, appliance: ApplianceId, name: &str, value: &str) {
        let environment = self.environment.get_mut(appliance);
        environment.retain(|(known, _)| known != name);
        environment.push((name.to_owned(), value.to_owned()));
    }

    /// The next start has none.
    pub fn clear_environment(&mut self, appliance: ApplianceId) {
        self.environment.get_mut(appliance).clear();
    }

    /// The file that arms an appliance's failpoints; it has to be named in the environment of its start.
    fn failpoint_file(&self, appliance: ApplianceId) -> PathBuf {
        self.dir.join(format!("failpoint-{}", letter(appliance)))
    }

    /// Lets `arm` and `disarm` work, from the next start on.
    pub fn make_armable(&mut self) {
        for appliance in ApplianceId::ALL {
            let file = self.failpoint_file(appliance).display().to_string();
            self.set_environment(appliance, "DUET_FAILPOINT_FILE", &file);
        }
    }

    /// Arms failpoints, at this moment; `text` is what `DUET_FAILPOINT` takes.
    pub fn arm(&self, appliance: ApplianceId, text: &str) {
        let file = self.failpoint_file(appliance);
        let new = file.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, file).unwrap();
    }

    /// Disarms them.
    pub fn disarm(&self, appliance: ApplianceId) {
        std::fs::remove_file(self.failpoint_file(appliance)).ok();
    }

    // ---- witness ----

    fn witness_data(&self) -> PathBuf {
        self.dir.join("witness")
    }

    /// What an appliance's configuration names as the witness directory: a symbolic link, the test's way to "unmount" it.
    fn witness_link(&self, appliance: ApplianceId) -> PathBuf {
        self.dir.join(format!("witness-as-{}-sees-it", letter(appliance)))
    }

    fn witness_url(&self) -> String {
        match self.witness {
            Witness::Server => format!("http://127.0.0.1:{}", self.witness_port.number),
            Witness::Directory => format!("dir:{}", self.witness_data().display()),
        }
    }

    /// Puts a tap on the witness server, for both appliances; before the pair is started.
    pub async fn tap_witness(&mut self) -> Tap {
        assert_eq!(self.witness, Witness::Server, "a directory has no line to tap");
        let tap = Tap::start(self.witness_port.number, CLUSTER).await;
        self.tap = Some(tap.clone());
        self.write_configs();
        tap
    }

    /// Starts the witness, or mounts it again.
    pub async fn start_witness(&mut self) {
        match self.witness {
            Witness::Server => {
                let listen = format!("127.0.0.1:{}", self.witness_port.number);
                let data = self.witness_data().display().to_string();
                let program = self.program(
                    "the witness",
                    "witness.log",
                    &["witness", "--listen", &listen, "--data", &data],
                );
                let mut running = launcher().start(&program).unwrap();
                let start = Instant::now();
                while tokio::net::TcpStream::connect(&listen).await.is_err() {
                    let ended = running.ended().is_some();
                    assert!(
                        !ended && start.elapsed() < PATIENCE,
                        "the witness does not start: {}",
                        running.output()
                    );
                    tokio::time::sleep(POLL).await;
                }
                self.witness_process = Some(running);
            }
            Witness::Directory => {
                let (away, here) = (self.dir.join("witness-away"), self.witness_data());
                if away.exists() {
                    std::fs::rename(away, here).unwrap();
                } else {
                    std::fs::create_dir_all(&here).unwrap();
                    duet_witness::directory::prepare(&here).unwrap();
                }
            }
        }
    }

    /// Kills the witness server, or unmounts the directory.
    pub fn stop_witness(&mut self) {
        match self.witness {
            Witness::Server => drop(self.witness_process.take()),
            Witness::Directory => {
                std::fs::rename(self.witness_data(), self.dir.join("witness-away")).unwrap();
            }
        }
    }

    /// Loses everything the stopped witness held.
    pub fn wipe_witness(&mut self) {
        self.witness_generation += 1;
        let lost = self.dir.join(format!("witness-lost-{}", self.witness_generation));
        let from = match self.witness {
            Witness::Server => self.witness_data(),
            Witness::Directory => self.dir.join("witness-away"),
        };
        std::fs::rename(from, lost).unwrap();
    }

    /// Copies what the stopped witness holds.
    pub fn save_witness(&self, into: &Path) {
        let from = match self.witness {
            Witness::Server => self.witness_data(),
            Witness::Directory => self.dir.join("witness-away"),
        };
        copy_dir(&from, into);
    }

    /// The stopped witness holds what was saved before.
    pub fn restore_witness(&mut self, from: &Path) {
        self.wipe_witness();
        let to = match self.witness {
            Witness::Server => self.witness_data(),
            Witness::Directory => self.dir.join("witness-away"),
        };
        copy_dir(from, &to);
    }

    /// The record as any outsider can read it; `None` if there is none, an error if the witness does not answer.
    pub async fn try_record(&self) -> Result<Option<WitnessRecord>, String> {
        let register: Box<dyn Register> = duet_witness::open(&self.witness_url(), CLUSTER).unwrap();
        match register.read().await {
            ReadOutcome::Record { bytes, .. } => {
                let name = CLUSTER.parse().unwrap();
                duet_witness::record::decode(&name, None, &bytes).map(Some).map_err(|error| error.to_string())
            }
            ReadOutcome::Absent => Ok(None),
            ReadOutcome::Unknown(reason) => Err(reason.to_string()),
        }
    }

    /// The record.
    pub async fn record(&self) -> WitnessRecord {
        self.try_record().await.unwrap().expect("the witness holds a record")
    }

    /// Waits for a content of the record.
    pub async fn until_record(&self, what: &str, holds: impl Fn(&WitnessRecord) -> bool) -> WitnessRecord {
        let probe = async || self.try_record().await.ok().flatten().filter(&holds);
        self.until(&format!("the witness holds {what}"), probe).await
    }

    // ---- lines ----

    /// What an appliance has to the outside: its line to the peer (both directions) and to the witness.
    pub fn set_peer_lines(&self, line: Line) {
        let lines = self.lines.as_ref().expect("a pair with lines");
        lines.a.peer.set(line);
        lines.b.peer.set(line);
    }

    /// Connects or cuts one appliance and the witness.
    pub fn set_witness_line(&self, appliance: ApplianceId, line: Line) {
        let lines = self.lines.as_ref().expect("a pair with lines").get(appliance);
        if let Some(proxy) = &lines.witness {
            proxy.set(line);
            return;
        }
        let link = self.witness_link(appliance);
        std::fs::remove_file(&link).unwrap();
        let to = if line == Line::Open { self.witness_data() } else { self.dir.join("unmounted") };
        std::os::unix::fs::symlink(to, link).unwrap();
    }

    // ---- appliances ----

    fn program(&self, name: &str, log: &str, args: &[&str]) -> Program {
        Program {
            name: name.into(),
            path: launcher().duet().to_owned(),
            args: args.iter().map(Into::into).collect(),
            env: Vec::new(),
            log: self.dir.join(log),
        }
    }

    /// `duet init`, to its end.
    pub async fn try_init(
        &self,
        appliance: ApplianceId,
        environment: &[(&str, &str)],
    ) -> (ExitStatus, String) {
        let config = self.config_path(appliance).display().to_string();
        let mut program = self.program("duet init", "init.log", &["init", "--config", &config]);
        program.env = environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let mut running = launcher().start(&program).unwrap();
        let status = running.wait(PATIENCE).await.expect("duet init ends");
        (status, running.output())
    }

    /// Makes the pair.
    pub async fn init(&self, appliance: ApplianceId) {
        let (status, output) = self.try_init(appliance, &[]).await;
        assert!(status.success(), "duet init: {status}: {output}");
    }

    /// Starts an appliance's process, and waits for nothing.
    pub fn launch(&mut self, appliance: ApplianceId) {
        assert!(self.appliances.get(appliance).is_none(), "{appliance} runs already");
        let config = self.config_path(appliance).display().to_string();
        let log = format!("{}.log", letter(appliance));
        let mut program =
            self.program(&format!("appliance {appliance}"), &log, &["serve", "--config", &config]);
        let environment = self.environment.get(appliance);
        program.env = environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
        *self.appliances.get_mut(appliance) = Some(launcher().start(&program).unwrap());
    }

    /// Starts an appliance and waits until it tells its status.
    pub async fn start_appliance(&mut self, appliance: ApplianceId) {
        self.launch(appliance);
        let probe = async || self.try_status(appliance).await.ok();
        self.until(&format!("{appliance} tells its status"), probe).await;
    }

    /// Starts both at once.
    pub async fn start_both(&mut self) {
        self.launch(A);
        self.launch(B);
        for appliance in ApplianceId::ALL {
            let probe = async || self.try_status(appliance).await.ok();
            self.until(&format!("{appliance} tells its status"), probe).await;
        }
    }

    /// The process.
    pub fn process(&mut self, appliance: ApplianceId) -> &mut Running {
        self.appliances.get_mut(appliance).as_mut().expect("the appliance was started")
    }

    /// Whether the process was started and has not ended.
    pub fn is_running(&mut self, appliance: ApplianceId) -> bool {
        self.appliances.get_mut(appliance).as_mut().is_some_and(|running| running.ended().is_none())
    }

    /// SIGTERM; the shutdown goes on by itself.
    pub fn begin_soft_stop(&mut self, appliance: ApplianceId) {
        self.process(appliance).terminate();
    }

    /// Waits for the end of a soft shutdown, which must be a clean one.
    pub async fn soft_stop_ends(&mut self, appliance: ApplianceId) {
        let status = self.ends(appliance).await;
        assert!(status.success(), "{appliance} did not stop cleanly: {status}\n{}", self.log(appliance));
    }

    /// A soft shutdown.
    pub async fn soft_stop(&mut self, appliance: ApplianceId) {
        self.begin_soft_stop(appliance);
        self.soft_stop_ends(appliance).await;
    }

    /// Starts an appliance that does not run (any more).
    pub async fn revive(&mut self, appliance: ApplianceId) {
        if !self.is_running(appliance) {
            *self.appliances.get_mut(appliance) = None;
            self.start_appliance(appliance).await;
        }
    }

    /// Waits for the end of a process, however it comes.
    pub async fn ends(&mut self, appliance: ApplianceId) -> ExitStatus {
        let ended = self.process(appliance).wait(PATIENCE).await;
        let Some(status) = ended else {
            let diagnosis = self.diagnosis().await;
            panic!("{appliance} does not end\n{diagnosis}");
        };
        *self.appliances.get_mut(appliance) = None;
        status
    }

    /// SIGKILL, and the end of the process.
    pub async fn crash(&mut self, appliance: ApplianceId) {
        self.process(appliance).kill();
        self.ends(appliance).await;
    }

    /// Gives an order that only this machine may give.
    pub async fn order(&self, appliance: ApplianceId, order: &str) -> Result<(), String> {
        let path = format!("/duet/v1/{order}");
        let answer = duet::http::post(&self.client_url(appliance), &path, STATUS_DEADLINE * 5).await;
        answer.map(|_| ()).map_err(|error| error.to_string())
    }

    /// What an appliance logged since it was started the last time; all of it if it does not run.
    pub fn log(&self, appliance: ApplianceId) -> String {
        match self.appliances.get(appliance) {
            Some(running) => running.output(),
            None => std::fs::read_to_string(self.dir.join(format!("{}.log", letter(appliance))))
                .unwrap_or_default(),
        }
    }

    // ---- what can be seen ----

    /// What an appliance tells.
    pub async fn try_status(&self, appliance: ApplianceId) -> Result<StatusReport, String> {
        ask(&self.client_url(appliance), STATUS_DEADLINE).await
    }

    /// What an appliance tells, which must be running.
    pub async fn status(&self, appliance: ApplianceId) -> StatusReport {
        let probe = async || self.try_status(appliance).await.ok();
        self.until(&format!("{appliance} tells its status"), probe).await
    }

    /// Polls until `probe` gives something.
    pub async fn until<T>(&self, what: &str, probe: impl AsyncFn() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            if start.elapsed() > PATIENCE {
                let diagnosis = self.diagnosis().await;
                panic!("waited in vain for {} s: {what}\n{diagnosis}", PATIENCE.as_secs());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits for something that an appliance tells.
    pub async fn until_status(
        &self,
        appliance: ApplianceId,
        what: &str,
        holds: impl Fn(&StatusReport) -> bool,
    ) -> StatusReport {
        let probe = async || self.try_status(appliance).await.ok().filter(&holds);
        self.until(&format!("{appliance}: {what}"), probe).await
    }

    /// Waits until an appliance is primary and serves.
    pub async fn until_primary(&self, appliance: ApplianceId) -> StatusReport {
        self.until_status(appliance, "is primary and serves", |status| {
            status.role == "primary" && status.serving
        })
        .await
    }

    /// Waits until an appliance says why it waits; `words` are in the sentence.
    pub async fn until_waiting(&self, appliance: ApplianceId, words: &[&str]) -> String {
        let says = |status: &StatusReport| {
            let sentence = status.waiting.as_deref().unwrap_or_default();
            !status.serving && status.role != "primary" && words.iter().all(|word| sentence.contains(word))
        };
        let what = format!("waits, and says so with the words {words:?}");
        self.until_status(appliance, &what, says).await.waiting.unwrap()
    }

    /// Waits until both are in sync and have applied the same history; gives the primary's and the secondary's status.
    pub async fn until_in_sync(&self) -> (StatusReport, StatusReport) {
        let probe = async || {
            let (a, b) = tokio::join!(self.try_status(A), self.try_status(B));
            let (a, b) = (a.ok()?, b.ok()?);
            let (primary, secondary) = if a.role == "primary" { (a, b) } else { (b, a) };
            let both = primary.conf.as_ref().is_some_and(|conf| conf.in_sync == ["A", "B"]);
            let roles = primary.role == "primary" && primary.serving && secondary.role == "secondary";
            let same = primary.conf == secondary.conf
                && (primary.lsn, primary.epoch, &primary.digest)
                    == (secondary.lsn, secondary.epoch, &secondary.digest);
            let applied = primary.applied == primary.lsn && secondary.applied == secondary.lsn;
            (both && roles && same && applied).then_some((primary, secondary))
        };
        self.until("both are in sync with the same history", probe).await
    }

    /// The primary, if it has the other in sync. Unlike `until_in_sync` it may be written to meanwhile.
    pub async fn paired(&self) -> Option<ApplianceId> {
        let (a, b) = tokio::join!(self.try_status(A), self.try_status(B));
        let (a, b) = (a.ok()?, b.ok()?);
        let in_sync =
            |status: &StatusReport| status.conf.as_ref().is_some_and(|conf| conf.in_sync == ["A", "B"]);
        let roles = |primary: &StatusReport, other: &StatusReport| {
            primary.role == "primary"
                && primary.serving
                && other.role == "secondary"
                && primary.conf == other.conf
        };
        if !in_sync(&a) {
            return None;
        }
        if roles(&a, &b) { Some(A) } else { roles(&b, &a).then_some(B) }
    }

    /// Waits until one is primary and has the other in sync; gives the primary.
    pub async fn until_paired(&self) -> ApplianceId {
        self.until("one is primary and has the other in sync", async || self.paired().await).await
    }

    /// Waits for the next checkpoint of an appliance that was written to; behind it the log is trimmed.
    pub async fn until_checkpoint(&self, appliance: ApplianceId) {
        let file = self.data(appliance).join("data.redb");
        let written = || std::fs::metadata(&file).and_then(|meta| meta.modified()).unwrap();
        let before = written();
        self.until(&format!("{appliance} writes a checkpoint"), async || (written() > before).then_some(()))
            .await;
    }

    /// Whoever is primary now.
    pub async fn until_any_primary(&self) -> ApplianceId {
        let probe = async || {
            for appliance in ApplianceId::ALL {
                if self
                    .try_status(appliance)
                    .await
                    .is_ok_and(|status| status.role == "primary" && status.serving)
                {
                    return Some(appliance);
                }
            }
            None
        };
        self.until("one of the two is primary and serves", probe).await
    }

    /// Everything there is to see, for a failure.
    pub async fn diagnosis(&self) -> String {
        let mut text = String::new();
        for appliance in ApplianceId::ALL {
            match self.try_status(appliance).await {
                Ok(status) => {
                    let json = serde_json::to_string(&status).unwrap_or_default();
                    writeln!(text, "--- {appliance}: {json}").unwrap();
                }
                Err(reason) => writeln!(text, "--- {appliance}: {reason}").unwrap(),
            }
        }
        writeln!(text, "--- witness: {:?}", self.try_record().await).unwrap();
        for name in ["a.log", "b.log", "witness.log"] {
            let log = std::fs::read_to_string(self.dir.join(name)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            writeln!(text, "--- end of {name}").unwrap();
            for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
                writeln!(text, "{line}").unwrap();
            }
        }
        text
    }

    /// An appliance that is up refuses a linearizable read and a write, so that etcd's clients try elsewhere.
    pub async fn serves_nothing(&self, appliance: ApplianceId) {
        let client = self.client(appliance);
        let (read, write) = tokio::join!(
            client.get_within("ledger/000001", PATIENCE),
            client.put_within("refused", "by an appliance that waits", PATIENCE)
        );
        let (read, write) = (read.expect_err("a linearizable read"), write.expect_err("a write"));
        for refusal in [read, write] {
            assert_eq!(refusal.code(), tonic::Code::Unavailable, "{refusal:?}");
        }
        let status = self.status(appliance).await;
        assert!(!status.serving && status.role != "primary", "{status:?}");
    }

    // ---- data ----

    /// `count` acknowledged writes at `appliance`, each with a key of its own, remembered in `ledger`.
    pub async fn write(&self, appliance: ApplianceId, ledger: &mut Ledger, count: u64) {
        for _ in 0..count {
            let (key, value) = ledger.next();
            let probe = async || self.client(appliance).put(&key, &value).await.ok();
            self.until(&format!("{appliance} acknowledges a write"), probe).await;
            ledger.acknowledged.push((key, value));
        }
    }

    /// Everything in the ledger can be read at `appliance`, linearizably.
    pub async fn has_all(&self, appliance: ApplianceId, ledger: &Ledger) {
        let probe = async || self.client(appliance).everything().await.ok();
        let found = self.until(&format!("{appliance} answers a linearizable read"), probe).await;
        for (key, value) in &ledger.acknowledged {
            assert_eq!(
                found.get(key),
                Some(value),
                "{appliance} lacks an acknowledged write, or has another value"
            );
        }
    }

    /// Waits for the pair to be in sync, then compares the data: both hold the same, and all of the ledger.
    pub async fn converges_with(&self, ledger: &Ledger) {
        let (primary, _) = self.until_in_sync().await;
        let (a, b) = (self.client(A).everything_here().await, self.client(B).everything_here().await);
        assert_eq!(a.unwrap(), b.unwrap(), "the data of both");
        let primary = if primary.appliance == "A" { A } else { B };
        self.has_all(primary, ledger).await;
    }
}

/// Acknowledged writes, to be found again.
#[derive(Default)]
pub struct Ledger {
    next: u64,
    pub acknowledged: Vec<(String, String)>,
}

impl Ledger {
    fn next(&mut self) -> (String, String) {
        self.next += 1;
        (format!("ledger/{:06}", self.next), format!("value {}", self.next))
    }
}

/// "a" or "b".
pub fn letter(appliance: ApplianceId) -> String {
    appliance.to_string().to_lowercase()
}

/// Copies a directory with all below it.
pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
