//! A running system to which something happens, and which is made whole again.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use duet_etcd_api::etcdserverpb::MoveLeaderRequest;
use duet_protocol::{ApplianceId, PerAppliance};

use super::super::args::FailureKind;
use super::super::etcd::EtcdCluster;
use super::super::lane::{Lane, Rpc};
use super::super::load::deadline;
use super::super::systems::SETTLE;
use crate::error::{Failure, io_words};
use crate::http;
use crate::line::{Line, Proxy};
use crate::local::{Pair, Reached, in_sync};
use crate::order::SWITCHOVER_PATH;
use crate::process::Launcher;

/// A soft shutdown, and the way back to a whole system, take moments; a busy machine gets more.
const LIMIT: Duration = Duration::from_secs(30);
/// Long beside any time after which somebody is missed.
pub const HOG_TIME: Duration = Duration::from_secs(3);
/// What disks are known for: a cache that is flushed, a snapshot that is taken, a controller that tries again.
const STALL_TIME: Duration = Duration::from_secs(1);
/// A server gets a third of a core at most.
const HOGS_PER_CORE: usize = 2;
const POLL: Duration = Duration::from_millis(10);
/// An order is accepted at once, or not at all.
const ORDER_DEADLINE: Duration = Duration::from_secs(5);

/// A system to which something happens.
pub enum Scene {
    /// A pair; its lines, if they are to be cut.
    Duet {
        /// The processes.
        pair: Box<Pair>,
        /// What each appliance has to the outside.
        lines: Option<PerAppliance<Lines>>,
    },
    /// An etcd of three members.
    Etcd(EtcdCluster),
}

/// What one appliance has to the outside.
pub struct Lines {
    /// From its clients, and from the other appliance when that passes requests on.
    clients: Proxy,
    /// To the other appliance.
    peer: Proxy,
    /// To the witness.
    witness: Proxy,
}

/// To whom something happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Struck {
    /// An appliance.
    Appliance(ApplianceId),
    /// A member of etcd, by its number.
    Member(usize),
}

impl Scene {
    /// A new pair to which this can happen, both in sync.
    pub async fn pair(launcher: &Launcher, dir: &Path, kind: FailureKind) -> Result<Self, Failure> {
        let mut pair = Pair::lay_out(launcher.clone(), dir)?;
        let mut lines = None;
        if kind.stalls() {
            pair.allow_stalls();
        }
        if kind == FailureKind::Cut {
            let both = PerAppliance {
                a: lines_of(&pair, ApplianceId::A).await?,
                b: lines_of(&pair, ApplianceId::B).await?,
            };
            let reached = |lines: &Lines| Reached {
                client: lines.clients.port(),
                peer: lines.peer.port(),
                witness: lines.witness.port(),
            };
            pair.reach_through(PerAppliance { a: reached(&both.a), b: reached(&both.b) })?;
            lines = Some(both);
        }
        pair.start_new().await?;
        Ok(Self::Duet { pair: Box::new(pair), lines })
    }

    /// A new etcd of three members.
    pub async fn etcd(launcher: &Launcher, etcd: &Path, dir: &Path) -> Result<Self, Failure> {
        Ok(Self::Etcd(EtcdCluster::start(launcher, etcd, dir, 3).await?))
    }

    /// Where clients reach it.
    pub fn urls(&self) -> Vec<String> {
        match self {
            Self::Duet { lines: Some(lines), .. } => {
                [&lines.a, &lines.b].map(|lines| format!("http://127.0.0.1:{}", lines.clients.port())).into()
            }
            Self::Duet { pair, .. } => ApplianceId::ALL.map(|appliance| pair.client_url(appliance)).into(),
            Self::Etcd(cluster) => cluster.urls().to_vec(),
        }
    }

    /// Waits until it is whole: both in sync, all members there.
    pub async fn until_whole(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        loop {
            let whole = match self {
                Self::Duet { pair, .. } => in_sync(&pair.look().await),
                Self::Etcd(cluster) => cluster.is_whole().await,
            };
            if whole {
                tokio::time::sleep(SETTLE).await;
                return Ok(());
            }
            if start.elapsed() > LIMIT {
                return Err(match self {
                    Self::Duet { pair, .. } => pair.failure(ApplianceId::B, "is not in sync with the other"),
                    Self::Etcd(_) => {
                        Failure::new("not all members of etcd came back", "see the logs with --dir DIR")
                    }
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Whom it will strike.
    pub async fn aim(&self, kind: FailureKind) -> Result<Struck, Failure> {
        match self {
            Self::Duet { pair, .. } => {
                let view = pair.look().await;
                let primary = view.primary().map(|report| report.appliance.as_str());
                let primary = if primary == Some("B") { ApplianceId::B } else { ApplianceId::A };
                let other = kind.is_of_secondary();
                Ok(Struck::Appliance(if other { primary.peer() } else { primary }))
            }
            Self::Etcd(cluster) => {
                let leader = cluster.leader_index().await?;
                let other = kind.is_of_secondary();
                Ok(Struck::Member(if other { (leader + 1) % cluster.urls().len() } else { leader }))
            }
        }
    }

    /// Lets it happen.
    pub async fn strike(&mut self, kind: FailureKind, whom: Struck) -> Result<(), Failure> {
        match (&mut *self, kind) {
            (Self::Duet { pair, .. }, FailureKind::Switchover) => {
                let Struck::Appliance(primary) = whom else { return Err(nobody()) };
                let url = pair.client_url(primary);
                let order = http::post(&url, SWITCHOVER_PATH, ORDER_DEADLINE).await;
                return order
                    .map(|_| ())
                    .map_err(|error| pair.failure(primary, &format!("does not hand over: {error}")));
            }
            (Self::Etcd(cluster), FailureKind::Switchover) => return move_leader(cluster, whom).await,
            (_, FailureKind::Hog) => {
                hog();
                return Ok(());
            }
            (Self::Duet { pair, .. }, FailureKind::Stall | FailureKind::StallSecondary) => {
                let Struck::Appliance(appliance) = whom else { return Err(nobody()) };
                return stall(pair.stall_file(appliance));
            }
            (Self::Duet { lines, .. }, FailureKind::Cut) => {
                return cut(lines.as_ref(), whom, Line::Silent);
            }
            _ => {}
        }
        let process = match (self, whom) {
            (Self::Duet { pair, .. }, Struck::Appliance(appliance)) => pair.appliance(appliance),
            (Self::Etcd(cluster), Struck::Member(index)) => cluster.member(index),
            _ => None,
        };
        let process = process.ok_or_else(nobody)?;
        match kind {
            FailureKind::Pause => process.pause(),
            FailureKind::SoftStop => process.terminate(),
            _ => process.kill(),
        }
        Ok(())
    }

    /// Takes back what happened, as far as it has to be: starts what ended, resumes what was paused, mends what was cut.
    pub async fn mend(&mut self, kind: FailureKind, whom: Struck) -> Result<(), Failure> {
        match (self, kind) {
            (
                _,
                FailureKind::Switchover | FailureKind::Hog | FailureKind::Stall | FailureKind::StallSecondary,
            ) => Ok(()),
            (Self::Duet { lines, .. }, FailureKind::Cut) => cut(lines.as_ref(), whom, Line::Open),
            (Self::Duet { pair, .. }, _) => {
                let Struck::Appliance(appliance) = whom else { return Err(nobody()) };
                if kind == FailureKind::Pause {
                    pair.appliance(appliance).ok_or_else(nobody)?.resume();
                    return Ok(());
                }
                if kind == FailureKind::SoftStop {
                    pair.wait_stopped(appliance, LIMIT).await?;
                } else {
                    pair.crash(appliance);
                }
                pair.start(appliance).await
            }
            (Self::Etcd(cluster), _) => {
                let Struck::Member(index) = whom else { return Err(nobody()) };
                let process = cluster.member(index).ok_or_else(nobody)?;
                if kind == FailureKind::Pause {
                    process.resume();
                    return Ok(());
                }
                if process.wait(LIMIT).await.is_none() {
                    return Err(process.failure("did not end"));
                }
                cluster.restart(index)
            }
        }
    }
}

/// Keeps every core busy for a while, at the priority of the servers.
fn hog() {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let end = Instant::now() + HOG_TIME;
    for _ in 0..cores * HOGS_PER_CORE {
        std::thread::spawn(move || {
            while Instant::now() < end {
                std::hint::spin_loop();
            }
        });
    }
}

/// Lets a disk stand still for a while.
fn stall(file: PathBuf) -> Result<(), Failure> {
    std::fs::write(&file, "").map_err(|error| {
        Failure::new(format!("{}: {}", file.display(), io_words(&error)), "give another --dir DIR")
    })?;
    std::thread::spawn(move || {
        std::thread::sleep(STALL_TIME);
        std::fs::remove_file(&file).ok();
    });
    Ok(())
}

fn nobody() -> Failure {
    Failure::new("there is nobody to whom that could happen", "please report it")
}

async fn lines_of(pair: &Pair, appliance: ApplianceId) -> Result<Lines, Failure> {
    let ports = pair.reached(appliance);
    let line = async |target: u16| {
        let proxy = Proxy::start(target).await;
        proxy.map_err(|error| Failure::new(format!("a line: {}", io_words(&error)), "try again"))
    };
    Ok(Lines {
        clients: line(ports.client).await?,
        peer: line(ports.peer).await?,
        witness: line(ports.witness).await?,
    })
}

/// Lets everything that an appliance has to the outside fall silent, or opens it again.
fn cut(lines: Option<&PerAppliance<Lines>>, whom: Struck, state: Line) -> Result<(), Failure> {
    let (Some(lines), Struck::Appliance(appliance)) = (lines, whom) else { return Err(nobody()) };
    let (own, other) = (lines.get(appliance), lines.get(appliance.peer()));
    for line in [&own.clients, &own.peer, &own.witness, &other.peer] {
        line.set(state);
    }
    Ok(())
}

async fn move_leader(cluster: &EtcdCluster, whom: Struck) -> Result<(), Failure> {
    let Struck::Member(leader) = whom else { return Err(nobody()) };
    let failed =
        |reason: String| Failure::new(format!("etcd does not move its leader: {reason}"), "try again");
    let target_id = cluster.id((leader + 1) % cluster.urls().len()).await?;
    let lane = Lane::new(vec![cluster.urls()[leader].clone()], 0);
    let mut caller = lane.caller().await.map_err(failed)?;
    let request = MoveLeaderRequest { target_id };
    deadline(ORDER_DEADLINE, caller.call(Rpc::MoveLeader, &request)).await.map_err(failed)
}
