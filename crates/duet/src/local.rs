//! A whole pair on this machine: a witness server and two appliances as real processes in one directory.
//!
//! For the demo, the bench and the tests. Every process is a [`Running`]: dropping the [`Pair`] ends them all.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use duet_protocol::{ApplianceId, PerAppliance};
use duet_server::StatusReport;

use crate::error::{Failure, io_words};
use crate::process::{Launcher, Program, Running, free_port, last_lines};
use crate::status::{PairView, Seen, ask};

/// An appliance or a witness stands within a second here; a busy machine gets more.
const START_LIMIT: Duration = Duration::from_secs(20);
/// `duet init` writes two small records.
const INIT_LIMIT: Duration = Duration::from_secs(20);
/// How long an appliance may take to tell its status.
const STATUS_DEADLINE: Duration = Duration::from_secs(1);
/// How often a wait looks again.
const POLL: Duration = Duration::from_millis(5);
/// The pair's name.
pub const CLUSTER: &str = "demo";

/// A pair and its witness.
pub struct Pair {
    launcher: Launcher,
    dir: PathBuf,
    ports: PerAppliance<Ports>,
    reached: PerAppliance<Reached>,
    /// Further lines of both configuration files.
    extra: String,
    witness_port: u16,
    witness: Option<Running>,
    appliances: PerAppliance<Option<Running>>,
    /// Their disks can be made to stand still.
    stalls: bool,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    client: u16,
    peer: u16,
}

/// The ports through which an appliance and the others reach each other: their own, or those of lines in between.
#[derive(Clone, Copy, Debug)]
pub struct Reached {
    /// Its clients reach it here, and the other appliance when that passes requests on.
    pub client: u16,
    /// It reaches the other appliance here.
    pub peer: u16,
    /// It reaches the witness here.
    pub witness: u16,
}

impl Pair {
    /// Chooses ports and writes `a.toml` and `b.toml` into `dir`; starts nothing.
    pub fn lay_out(launcher: Launcher, dir: &Path) -> Result<Self, Failure> {
        let ports = || -> Result<Ports, Failure> { Ok(Ports { client: free_port()?, peer: free_port()? }) };
        let (ports, witness) = (PerAppliance { a: ports()?, b: ports()? }, free_port()?);
        let reached = |own: Ports, peer: Ports| Reached { client: own.client, peer: peer.peer, witness };
        let pair = Self {
            launcher,
            dir: dir.to_owned(),
            ports,
            reached: PerAppliance { a: reached(ports.a, ports.b), b: reached(ports.b, ports.a) },
            extra: String::new(),
            witness_port: witness,
            witness: None,
            appliances: PerAppliance { a: None, b: None },
            stalls: false,
        };
        std::fs::create_dir_all(dir).map_err(|error| unusable(dir, &error))?;
        pair.write_configs()?;
        Ok(pair)
    }

    fn write_configs(&self) -> Result<(), Failure> {
        for appliance in ApplianceId::ALL {
            let path = self.config_path(appliance);
            std::fs::write(&path, self.config_text(appliance)).map_err(|error| unusable(&path, &error))?;
        }
        Ok(())
    }

    /// Where an appliance is reached, and reaches the others.
    pub fn reached(&self, appliance: ApplianceId) -> Reached {
        *self.reached.get(appliance)
    }

    /// Lets them reach each other through lines, from the next starts on.
    pub fn reach_through(&mut self, reached: PerAppliance<Reached>) -> Result<(), Failure> {
        self.reached = reached;
        self.write_configs()
    }

    fn config_text(&self, appliance: ApplianceId) -> String {
        let (own, reached) = (self.ports.get(appliance), self.reached.get(appliance));
        format!(
            "cluster = \"{CLUSTER}\"\nappliance = \"{appliance}\"\ndata = {:?}\nclient_listen = \"127.0.0.1:{}\"\n\
             client_url = \"http://127.0.0.1:{}\"\npeer_listen = \"127.0.0.1:{}\"\npeer = \"127.0.0.1:{}\"\n\
             witness = \"http://127.0.0.1:{}\"\n{}",
            self.data_dir(appliance).display().to_string(),
            own.client,
            reached.client,
            own.peer,
            reached.peer,
            reached.witness,
            self.extra
        )
    }

    /// Lets the disks stand still on demand, from the next starts on: while there is a file at [`Self::stall_file`].
    pub const fn allow_stalls(&mut self) {
        self.stalls = true;
    }

    /// While it is there an appliance's disk stands still, if that was allowed.
    pub fn stall_file(&self, appliance: ApplianceId) -> PathBuf {
        self.dir.join(format!("{}.stall", letter(appliance)))
    }

    /// Where everything is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The configuration file of an appliance.
    pub fn config_path(&self, appliance: ApplianceId) -> PathBuf {
        self.dir.join(format!("{}.toml", letter(appliance)))
    }

    /// Adds a line to both configuration files, for the next starts.
    pub fn configure(&mut self, line: &str) -> Result<(), Failure> {
        self.extra.push_str(line);
        self.extra.push('\n');
        self.write_configs()
    }

    /// The data of an appliance.
    pub fn data_dir(&self, appliance: ApplianceId) -> PathBuf {
        self.dir.join(letter(appliance))
    }

    /// Where an appliance serves clients.
    pub fn client_url(&self, appliance: ApplianceId) -> String {
        format!("http://127.0.0.1:{}", self.ports.get(appliance).client)
    }

    /// Where the witness is.
    pub fn witness_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.witness_port)
    }

    fn program(&self, name: &str, log: &str, args: &[&str]) -> Program {
        Program {
            name: name.into(),
            path: self.launcher.duet().to_owned(),
            args: args.iter().map(Into::into).collect(),
            env: Vec::new(),
            log: self.dir.join(log),
        }
    }

    /// Starts the witness and waits until it listens.
    pub async fn start_witness(&mut self) -> Result<(), Failure> {
        let listen = format!("127.0.0.1:{}", self.witness_port);
        let data = self.dir.join("witness").display().to_string();
        let program =
            self.program("the witness", "witness.log", &["witness", "--listen", &listen, "--data", &data]);
        let mut running = self.launcher.start(&program)?;
        let start = Instant::now();
        while tokio::net::TcpStream::connect(&listen).await.is_err() {
            if running.ended().is_some() || start.elapsed() > START_LIMIT {
                return Err(running.failure("did not start"));
            }
            tokio::time::sleep(POLL).await;
        }
        self.witness = Some(running);
        Ok(())
    }

    /// Makes the pair, with `appliance` as its first member.
    pub async fn init(&self, appliance: ApplianceId) -> Result<(), Failure> {
        let config = self.config_path(appliance).display().to_string();
        let program = self.program("duet init", "init.log", &["init", "--config", &config]);
        let mut running = self.launcher.start(&program)?;
        match running.wait(INIT_LIMIT).await {
            Some(status) if status.success() => Ok(()),
            _ => Err(running.failure("failed")),
        }
    }

    /// Starts an appliance and does not wait for it.
    pub fn launch(&mut self, appliance: ApplianceId) -> Result<(), Failure> {
        let config = self.config_path(appliance).display().to_string();
        let log = format!("{}.log", letter(appliance));
        let mut program =
            self.program(&format!("appliance {appliance}"), &log, &["serve", "--config", &config]);
        if self.stalls {
            program.args.extend(["--stall-file".into(), self.stall_file(appliance).into()]);
        }
        *self.appliances.get_mut(appliance) = Some(self.launcher.start(&program)?);
        Ok(())
    }

    /// Starts an appliance and waits until it tells its status.
    pub async fn start(&mut self, appliance: ApplianceId) -> Result<(), Failure> {
        self.launch(appliance)?;
        let start = Instant::now();
        while ask(&self.client_url(appliance), STATUS_DEADLINE).await.is_err() {
            let ended = self.appliance(appliance).is_none_or(|running| running.ended().is_some());
            if ended || start.elapsed() > START_LIMIT {
                let failure = self.failure(appliance, "did not start");
                self.crash(appliance);
                return Err(failure);
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Starts all three as a new pair with `A` as its first member, and waits until both are in sync.
    pub async fn start_new(&mut self) -> Result<(), Failure> {
        self.start_witness().await?;
        self.init(ApplianceId::A).await?;
        self.start(ApplianceId::A).await?;
        self.start(ApplianceId::B).await?;
        let start = Instant::now();
        while !in_sync(&self.look().await) {
            if start.elapsed() > START_LIMIT {
                return Err(self.failure(ApplianceId::B, "is not in sync with A"));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// The process of an appliance, while it was not stopped.
    pub fn appliance(&mut self, appliance: ApplianceId) -> Option<&mut Running> {
        self.appliances.get_mut(appliance).as_mut()
    }

    /// The process of the witness.
    pub fn witness(&mut self) -> Option<&mut Running> {
        self.witness.as_mut()
    }

    /// Waits for a process that was told to stop; anything but a clean end is a failure.
    pub async fn wait_stopped(&mut self, appliance: ApplianceId, limit: Duration) -> Result<(), Failure> {
        let Some(mut running) = self.appliances.get_mut(appliance).take() else { return Ok(()) };
        match running.wait(limit).await {
            Some(status) if status.success() => Ok(()),
            Some(_) => Err(running.failure("did not shut down cleanly")),
            None => Err(running.failure(&format!("did not shut down within {} s", limit.as_secs()))),
        }
    }

    /// Kills an appliance with SIGKILL and waits for its end.
    pub fn crash(&mut self, appliance: ApplianceId) {
        if let Some(running) = self.appliances.get_mut(appliance).take() {
            drop(running);
        }
    }

    /// What an appliance tells of itself.
    pub async fn status(&self, appliance: ApplianceId) -> Result<StatusReport, String> {
        ask(&self.client_url(appliance), STATUS_DEADLINE).await
    }

    /// What both tell.
    pub async fn look(&self) -> PairView {
        let see = async |appliance: ApplianceId| {
            let url = self.client_url(appliance);
            match ask(&url, STATUS_DEADLINE).await {
                Ok(report) => Seen::Up(Box::new(report)),
                Err(reason) => Seen::Down { appliance: Some(appliance.to_string()), url: Some(url), reason },
            }
        };
        let (first, second) = tokio::join!(see(ApplianceId::A), see(ApplianceId::B));
        PairView { first, second, record: None }
    }

    /// A failure of an appliance, with the end of its log.
    pub fn failure(&mut self, appliance: ApplianceId, what: &str) -> Failure {
        if let Some(running) = self.appliance(appliance) {
            return running.failure(what);
        }
        let log = self.dir.join(format!("{}.log", letter(appliance)));
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let what = format!("appliance {appliance} {what} (it does not run)");
        Failure::new(what, format!("its log: {}", log.display())).with_details(last_lines(&text))
    }

    /// Process ids: appliances and, last, the witness.
    pub fn pids(&self) -> Vec<u32> {
        [&self.appliances.a, &self.appliances.b, &self.witness]
            .into_iter()
            .flatten()
            .map(Running::pid)
            .collect()
    }

    /// Ends everything softly: the secondary first, so that nothing has to be handed over.
    pub async fn stop_softly(&mut self, limit: Duration) -> Result<(), Failure> {
        let primary = self.look().await.primary().map(|report| report.appliance.clone());
        let last = if primary.as_deref() == Some("B") { ApplianceId::B } else { ApplianceId::A };
        for appliance in [last.peer(), last] {
            let Some(running) = self.appliance(appliance) else { continue };
            // One that somebody else has ended before is not stopped here, and its end is not judged here.
            if running.ended().is_none() {
                running.terminate();
                self.wait_stopped(appliance, limit).await?;
            }
        }
        if let Some(mut witness) = self.witness.take() {
            witness.terminate();
            witness.wait(limit).await;
        }
        Ok(())
    }
}

/// Whether one is primary and the other a secondary in sync, with everything.
pub fn in_sync(view: &PairView) -> bool {
    let Some(primary) = view.primary() else { return false };
    let both = primary.conf.as_ref().is_some_and(|conf| conf.in_sync.len() == 2);
    let secondary = view.reports().find(|report| report.appliance != primary.appliance);
    let same = |other: &StatusReport| {
        other.role == "secondary" && other.conf == primary.conf && other.lsn == primary.lsn
    };
    both && primary.serving && secondary.is_some_and(same)
}

/// "a" or "b", for names of files.
fn letter(appliance: ApplianceId) -> String {
    appliance.to_string().to_lowercase()
}

fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{}: {}", path.display(), io_words(error)), "give another --dir DIR")
}
