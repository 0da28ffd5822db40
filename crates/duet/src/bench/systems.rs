//! The systems that are measured, as real processes on this machine.

use std::path::Path;
use std::time::Duration;

use duet_protocol::ApplianceId;

use super::args::SystemName;
use super::etcd::{EtcdCluster, leader};
use crate::error::Failure;
use crate::local::Pair;
use crate::process::Launcher;

/// Rest after a start: elections, first checkpoints and page cache settle.
pub const SETTLE: Duration = Duration::from_millis(500);

/// Data may grow to this, at all systems: both have a default of 2 GiB, which a long run fills. The most etcd advises.
const QUOTA_BYTES: u64 = 8 << 30;

/// A running system under measurement. Dropping it ends its processes.
pub enum System {
    /// A pair and its witness.
    Duet(Box<Pair>),
    /// An etcd.
    Etcd(EtcdCluster),
}

impl System {
    /// Starts one with fresh data below `dir`; it serves when this returns.
    pub async fn start(
        name: SystemName,
        launcher: &Launcher,
        etcd: &Path,
        dir: &Path,
    ) -> Result<Self, Failure> {
        let system = match name {
            SystemName::Duet => {
                let mut pair = Pair::lay_out(launcher.clone(), dir)?;
                pair.configure(&format!("quota_backend_bytes = {QUOTA_BYTES}"))?;
                pair.start_new().await?;
                Self::Duet(Box::new(pair))
            }
            SystemName::Etcd3 | SystemName::Etcd1 => {
                let members = if name == SystemName::Etcd3 { 3 } else { 1 };
                let quota = format!("--quota-backend-bytes={QUOTA_BYTES}");
                Self::Etcd(EtcdCluster::start_with(launcher, etcd, dir, members, &[&quota]).await?)
            }
        };
        tokio::time::sleep(SETTLE).await;
        Ok(system)
    }

    /// Of all its processes.
    pub fn pids(&self) -> Vec<u32> {
        match self {
            Self::Duet(pair) => pair.pids(),
            Self::Etcd(cluster) => cluster.pids(),
        }
    }

    /// Where clients reach it.
    pub fn urls(&self) -> Vec<String> {
        match self {
            Self::Duet(pair) => ApplianceId::ALL.map(|appliance| pair.client_url(appliance)).into(),
            Self::Etcd(cluster) => cluster.urls().to_vec(),
        }
    }

    /// Where clients reach its leader or primary.
    pub async fn leader(&self) -> Result<String, Failure> {
        let leader = leader(&self.urls()).await;
        leader.ok_or_else(|| Failure::new("nobody leads", "see the logs with --dir DIR"))
    }
}
