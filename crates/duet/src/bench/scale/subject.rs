//! The system that grows: a pair, or a single etcd; what its one copy of the data takes, and its end and new start.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use duet_etcd_api::etcdserverpb::{CompactionRequest, RangeRequest, RangeResponse};
use duet_protocol::ApplianceId;

use super::super::args::{Operation, SystemName};
use super::super::lane::{Lane, Rpc};
use super::super::load::{Plan, deadline, default_connections, on_a_thread};
use super::super::proc_stat::Memory;
use super::super::systems::System;
use crate::error::Failure;
use crate::local::Pair;
use crate::process::Launcher;

/// A request without an answer for so long is an error.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Service comes back long before, at any size measured here.
const LIMIT: Duration = Duration::from_mins(5);
/// How often it is looked whether it is back: short beside the times reported.
const POLL: Duration = Duration::from_millis(2);
/// An attempt to read from a server that starts.
const ATTEMPT: Duration = Duration::from_millis(250);
/// Any key: that there is an answer matters, not which.
const KEY: &[u8] = b"duet-bench";
/// A block, as the file system counts them.
const BLOCK: u64 = 512;

/// A system that grows.
pub struct Subject {
    /// Which.
    pub name: SystemName,
    system: System,
    dir: PathBuf,
    value_size: usize,
}

impl Subject {
    /// A new one below `dir`.
    pub async fn start(
        name: SystemName,
        launcher: &Launcher,
        etcd: &Path,
        dir: &Path,
        value_size: usize,
    ) -> Result<Self, Failure> {
        let system = System::start(name, launcher, etcd, dir).await?;
        Ok(Self { name, system, dir: dir.to_owned(), value_size })
    }

    /// The pair, if it is one.
    pub fn pair(&mut self) -> Option<&mut Pair> {
        match &mut self.system {
            System::Duet(pair) => Some(pair),
            System::Etcd(_) => None,
        }
    }

    /// Where its primary or leader is.
    pub async fn leader(&self) -> Result<String, Failure> {
        self.system.leader().await
    }

    /// A load at its primary or leader.
    pub async fn plan(
        &self,
        operation: Operation,
        clients: usize,
        keys: usize,
        seconds: Duration,
    ) -> Result<Plan, Failure> {
        Ok(Plan {
            operation,
            endpoints: vec![self.leader().await?],
            clients,
            connections: default_connections(clients),
            value_size: self.value_size,
            keys,
            seconds,
            warmup: Duration::ZERO,
            rate: None,
            timeout: TIMEOUT,
            fill: false,
        })
    }

    /// Memory of the process with one copy: the primary's, or the only member's.
    pub fn memory(&self) -> Memory {
        Memory::of(self.system.pids().get(..1).unwrap_or_default())
    }

    /// Memory of the process with the other copy.
    pub fn other_memory(&self) -> Option<Memory> {
        match &self.system {
            System::Duet(pair) => Some(Memory::of(pair.pids().get(1..2)?)),
            System::Etcd(_) => None,
        }
    }

    /// Where one copy is.
    pub fn copy_dir(&self) -> PathBuf {
        self.dir.join(match self.name {
            SystemName::Duet => "a",
            SystemName::Etcd3 | SystemName::Etcd1 => "m0",
        })
    }

    /// Kills what holds data, all at once, starts it again, and gives the time from then to the first answer to a
    /// linearizable read.
    pub async fn crash_and_start(&mut self) -> Result<Duration, Failure> {
        let urls = self.system.urls();
        let start = match &mut self.system {
            System::Duet(pair) => {
                for appliance in ApplianceId::ALL {
                    pair.crash(appliance);
                }
                let start = Instant::now();
                for appliance in ApplianceId::ALL {
                    pair.launch(appliance)?;
                }
                start
            }
            System::Etcd(cluster) => {
                if let Some(member) = cluster.member(0) {
                    member.kill();
                    member.wait(LIMIT).await;
                }
                let start = Instant::now();
                cluster.restart(0)?;
                start
            }
        };
        let served = on_a_thread(async move || first_answer(urls, start).await).await?;
        self.until_whole().await?;
        Ok(served)
    }

    /// Waits until a pair is in sync.
    pub async fn until_whole(&mut self) -> Result<(), Failure> {
        let Some(pair) = self.pair() else { return Ok(()) };
        let start = Instant::now();
        while !both_in_sync(pair).await {
            if start.elapsed() > LIMIT {
                return Err(pair.failure(ApplianceId::B, "is not in sync with A"));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Compacts all history; gives the time until it is done on the disk, too.
    pub async fn compact(&self) -> Result<Duration, Failure> {
        let compacted = async {
            let lane = Lane::new(vec![self.leader().await.map_err(|failure| failure.what)?], 0);
            let mut caller = lane.caller().await?;
            let read = RangeRequest { key: Bytes::from_static(KEY), ..Default::default() };
            let answer: RangeResponse = deadline(TIMEOUT, caller.ask(Rpc::Range, &read)).await?;
            let revision = answer.header.map_or(0, |header| header.revision);
            let start = Instant::now();
            let request = CompactionRequest { revision, physical: true };
            deadline(LIMIT, caller.call(Rpc::Compact, &request)).await?;
            Ok::<_, String>(start.elapsed())
        };
        compacted.await.map_err(|reason| Failure::new(format!("compaction failed: {reason}"), "try again"))
    }
}

/// Whether both appliances of a pair hold everything that is acknowledged, while writes go on.
pub async fn both_in_sync(pair: &Pair) -> bool {
    let view = pair.look().await;
    let both = view.primary().is_some_and(|primary| {
        primary.serving && primary.conf.as_ref().is_some_and(|conf| conf.in_sync.len() == 2)
    });
    both && view.reports().any(|report| report.role == "secondary")
}

/// The time from `start` until any of them answers a linearizable read.
async fn first_answer(urls: Vec<String>, start: Instant) -> Result<Duration, Failure> {
    let request = RangeRequest { key: Bytes::from_static(KEY), ..Default::default() };
    let lane = Lane::new(urls, 0);
    while start.elapsed() < LIMIT {
        let attempt = async {
            let mut caller = lane.caller().await?;
            deadline(ATTEMPT, caller.ask::<RangeResponse>(Rpc::Range, &request)).await
        };
        if attempt.await.is_ok() {
            return Ok(start.elapsed());
        }
        lane.turn_away();
        tokio::time::sleep(POLL).await;
    }
    Err(Failure::new(format!("no answer within {} s after a start", LIMIT.as_secs()), "see --dir DIR"))
}

/// Bytes that the files below a directory take on the disk.
pub fn disk_bytes(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let each = entries.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => disk_bytes(&entry.path()),
        Ok(meta) => meta.blocks() * BLOCK,
        Err(_) => 0,
    });
    each.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_at_any_depth_are_counted_by_what_they_take() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/b/c"), vec![1; 100_000]).unwrap();
        let sparse = std::fs::File::create(dir.path().join("sparse")).unwrap();
        sparse.set_len(1 << 30).unwrap();
        for file in ["a/b/c", "sparse"] {
            std::fs::File::open(dir.path().join(file)).unwrap().sync_all().unwrap();
        }
        let bytes = disk_bytes(dir.path());
        assert!((100_000..1 << 20).contains(&bytes), "{bytes}");
        assert_eq!(disk_bytes(Path::new("/no/such/directory")), 0);
    }
}
