//! An etcd cluster on this machine, to measure beside Duet.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use duet_etcd_api::etcdserverpb::maintenance_client::MaintenanceClient;
use duet_etcd_api::etcdserverpb::{StatusRequest, StatusResponse};
use tonic::transport::Endpoint;

use crate::error::{Failure, io_words};
use crate::process::{Launcher, Program, Running, free_port};

/// Three members agree on a leader within two election timeouts of a second each; a busy machine gets more.
const START_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
/// How long a member may take to tell its status.
const STATUS_DEADLINE: Duration = Duration::from_secs(2);

/// A running cluster. Dropping it ends it.
pub struct EtcdCluster {
    launcher: Launcher,
    programs: Vec<Program>,
    members: Vec<Running>,
    urls: Vec<String>,
}

impl EtcdCluster {
    /// Starts `number` members with fresh data below `dir`, and waits for a leader. Durability and timing are etcd's
    /// defaults.
    pub async fn start(launcher: &Launcher, etcd: &Path, dir: &Path, number: usize) -> Result<Self, Failure> {
        Self::start_with(launcher, etcd, dir, number, &[]).await
    }

    /// The same with further flags.
    pub async fn start_with(
        launcher: &Launcher,
        etcd: &Path,
        dir: &Path,
        number: usize,
        flags: &[&str],
    ) -> Result<Self, Failure> {
        std::fs::create_dir_all(dir).map_err(|error| {
            Failure::new(format!("{}: {}", dir.display(), io_words(&error)), "give another --dir DIR")
        })?;
        let mut ports = Vec::new();
        for _ in 0..number {
            ports.push((free_port()?, free_port()?));
        }
        let peers: Vec<String> =
            ports.iter().enumerate().map(|(i, (_, peer))| format!("m{i}=http://127.0.0.1:{peer}")).collect();
        let launcher = launcher.clone();
        let mut cluster = Self { launcher, programs: Vec::new(), members: Vec::new(), urls: Vec::new() };
        for (index, (client, peer)) in ports.iter().enumerate() {
            let mut program = member(etcd, dir, index, *client, *peer, &peers.join(","));
            program.args.extend(flags.iter().map(Into::into));
            cluster.members.push(cluster.launcher.start(&program)?);
            cluster.programs.push(program);
            cluster.urls.push(format!("http://127.0.0.1:{client}"));
        }
        let start = Instant::now();
        while leader(&cluster.urls).await.is_none() {
            let ended =
                cluster.members.iter_mut().find_map(|member| member.ended().is_some().then_some(member));
            if let Some(member) = ended {
                return Err(member.failure("did not start"));
            }
            if start.elapsed() > START_LIMIT {
                return Err(cluster.members[0].failure("has no leader"));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(cluster)
    }

    /// Client addresses of all members.
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// The process of a member.
    pub fn member(&mut self, index: usize) -> Option<&mut Running> {
        self.members.get_mut(index)
    }

    /// Starts a member again, with its data; does not wait for it.
    pub fn restart(&mut self, index: usize) -> Result<(), Failure> {
        self.members[index] = self.launcher.start(&self.programs[index])?;
        Ok(())
    }

    /// The number of the member that leads.
    pub async fn leader_index(&self) -> Result<usize, Failure> {
        let leader = leader(&self.urls).await;
        let index = leader.and_then(|leader| self.urls.iter().position(|url| *url == leader));
        index.ok_or_else(|| Failure::new("etcd has no leader", "see the logs with --dir DIR"))
    }

    /// The identity of a member.
    pub async fn id(&self, index: usize) -> Result<u64, Failure> {
        let id = status(&self.urls[index]).await.and_then(|status| Some(status.header?.member_id));
        id.ok_or_else(|| Failure::new(format!("member {index} of etcd does not answer"), "see --dir DIR"))
    }

    /// Whether all members are there, follow one leader, and have applied the same.
    pub async fn is_whole(&self) -> bool {
        let mut seen = Vec::new();
        for url in &self.urls {
            match status(url).await {
                Some(status) if status.leader != 0 => seen.push((status.leader, status.raft_applied_index)),
                _ => return false,
            }
        }
        seen.windows(2).all(|pair| pair[0] == pair[1])
    }

    /// Process ids of all members.
    pub fn pids(&self) -> Vec<u32> {
        self.members.iter().map(Running::pid).collect()
    }
}

fn member(etcd: &Path, dir: &Path, index: usize, client: u16, peer: u16, cluster: &str) -> Program {
    let name = format!("m{index}");
    let client = format!("http://127.0.0.1:{client}");
    let peer = format!("http://127.0.0.1:{peer}");
    let data: PathBuf = dir.join(&name);
    let mut args: Vec<std::ffi::OsString> = vec!["--name".into(), name.clone().into()];
    args.extend(["--data-dir".into(), data.into()]);
    for (flag, value) in [
        ("--listen-client-urls", client.as_str()),
        ("--advertise-client-urls", &client),
        ("--listen-peer-urls", &peer),
        ("--initial-advertise-peer-urls", &peer),
        ("--initial-cluster", cluster),
        ("--initial-cluster-state", "new"),
        ("--logger", "zap"),
        ("--log-level", "error"),
    ] {
        args.extend([flag.into(), value.into()]);
    }
    Program {
        name: format!("etcd {name}"),
        path: etcd.to_owned(),
        args,
        env: Vec::new(),
        log: dir.join(format!("{name}.log")),
    }
}

/// The address of the leader (of a Duet pair: the primary), once a member says that it leads.
pub async fn leader(urls: &[String]) -> Option<String> {
    for url in urls {
        if leads(url).await == Some(true) {
            return Some(url.clone());
        }
    }
    None
}

async fn status(url: &str) -> Option<StatusResponse> {
    let endpoint = Endpoint::from_shared(url.to_owned()).ok()?.timeout(STATUS_DEADLINE);
    let channel = endpoint.connect_timeout(STATUS_DEADLINE).connect().await.ok()?;
    Some(MaintenanceClient::new(channel).status(StatusRequest {}).await.ok()?.into_inner())
}

async fn leads(url: &str) -> Option<bool> {
    let answer = status(url).await?;
    let member = answer.header?.member_id;
    Some(answer.leader != 0 && answer.leader == member)
}

/// What helps without an etcd.
const REMEDY: &str =
    "give --etcd PATH; to do without: --systems duet (compare), leave --etcd out (failover, scale)";

/// "3.4.23", as the program itself says.
pub fn version(etcd: &Path) -> Result<String, Failure> {
    let output = std::process::Command::new(etcd).arg("--version").output().map_err(|error| {
        Failure::usage(format!("cannot run {}: {}", etcd.display(), io_words(&error)), REMEDY)
    })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.lines().find_map(|line| line.strip_prefix("etcd Version:"));
    version
        .map(|version| version.trim().to_owned())
        .ok_or_else(|| Failure::usage(format!("{} is not etcd", etcd.display()), REMEDY))
}
