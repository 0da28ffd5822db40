//! The witness server under measurement: the real one, in a process of its own, on one core.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use duet_witness::server::status::WitnessStatus;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::super::proc_stat::{Memory, cpu_time, reset_peaks};
use crate::error::Failure;
use crate::http;
use crate::process::{Launcher, Program, Running, free_port};
use crate::witness::status;

/// A start reads the whole file once.
const START_LIMIT: Duration = Duration::from_mins(2);
/// How often it is looked whether it serves: short beside the times reported.
const POLL: Duration = Duration::from_millis(2);
/// An attempt to reach a server that starts.
const ATTEMPT: Duration = Duration::from_millis(250);

/// A running witness server; dropping it ends it.
pub struct Subject {
    launcher: Launcher,
    dir: PathBuf,
    port: u16,
    running: Running,
    start: Duration,
    pinned: bool,
}

impl Subject {
    /// Starts a server on data that is there, and waits until it serves.
    pub async fn start(launcher: Launcher, dir: &Path) -> Result<Self, Failure> {
        let port = free_port()?;
        let (running, start, pinned) = start(&launcher, dir, port).await?;
        Ok(Self { launcher, dir: dir.to_owned(), port, running, start, pinned })
    }

    /// Kills it with SIGKILL and starts it again.
    pub async fn kill_and_start(&mut self) -> Result<(), Failure> {
        self.running.kill();
        self.running.wait(START_LIMIT).await;
        (self.running, self.start, self.pinned) = start(&self.launcher, &self.dir, self.port).await?;
        Ok(())
    }

    /// From the start of the process to the first answer.
    pub const fn start_seconds(&self) -> f64 {
        self.start.as_secs_f64()
    }

    /// Whether it has one core only.
    pub const fn pinned(&self) -> bool {
        self.pinned
    }

    /// Where it serves.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// What it counts.
    pub async fn status(&self) -> Result<WitnessStatus, Failure> {
        status::ask(&format!("http://{}", self.address())).await
    }

    /// Its CPU time until now.
    pub fn cpu(&self) -> Duration {
        cpu_time(self.pid())
    }

    /// Its memory; the peak begins anew.
    pub fn memory(&self) -> Memory {
        let memory = Memory::of(&[self.pid()]);
        reset_peaks(&[self.pid()]);
        memory
    }

    /// Bytes of its file.
    pub fn file_bytes(&self) -> u64 {
        std::fs::metadata(self.dir.join("witness.redb")).map_or(0, |file| file.len())
    }
}

async fn start(launcher: &Launcher, dir: &Path, port: u16) -> Result<(Running, Duration, bool), Failure> {
    let args = ["witness", "--closed", "--listen", &format!("127.0.0.1:{port}"), "--data"];
    let program = Program {
        name: "the witness".into(),
        path: launcher.duet().to_owned(),
        args: args.into_iter().map(Into::into).chain([dir.as_os_str().to_owned()]).collect(),
        env: Vec::new(),
        log: dir.with_extension("log"),
    };
    let begin = Instant::now();
    let (running, pinned) = on_one_core(|| launcher.start(&program));
    let mut running = running?;
    let url = format!("http://127.0.0.1:{port}");
    while http::get(&url, "/healthz", ATTEMPT).await.is_err() {
        if running.ended().is_some() || begin.elapsed() > START_LIMIT {
            return Err(running.failure("does not serve"));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok((running, begin.elapsed(), pinned))
}

/// Does something on the last core that this thread may use; a process started meanwhile stays there.
fn on_one_core<T>(act: impl FnOnce() -> T) -> (T, bool) {
    let Ok(all) = sched_getaffinity(None) else { return (act(), false) };
    let Some(last) = (0..CpuSet::MAX_CPU).rev().find(|core| all.is_set(*core)) else { return (act(), false) };
    let mut one = CpuSet::new();
    one.set(last);
    let pinned = sched_setaffinity(None, &one).is_ok();
    let done = act();
    // It was allowed until now.
    sched_setaffinity(None, &all).ok();
    (done, pinned)
}
