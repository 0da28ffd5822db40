//! `duet bench compare`: a Duet pair, a 3-member etcd and a 1-member etcd on this machine, one after the other with fresh
//! data, the same client, the same load, round after round; medians and spread of all rounds.
//!
//! One system runs at a time, so none pays for another's heartbeats. All write to the same disk and share the cores with
//! the client: ratios mean something, absolute figures little.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::compare_report::{Comparison, Sample, Setup};
use super::etcd::{self, EtcdCluster, leader};
use super::load::{self, Plan, default_connections};
use super::proc_stat::{cpu_time, resident_bytes};
use super::report::{Report, count, operation_name};
use super::{compare_report, floors};
use crate::cli::{CompareArgs, SystemName};
use crate::error::{Exit, Failure, io_words};
use crate::local::Pair;
use crate::process::Launcher;
use crate::signals::StopRequests;
use crate::terminal::{Paint, Progress, print};

/// A request without an answer for so long is an error.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Rest after a start: elections, first checkpoints and page cache settle.
const SETTLE: Duration = Duration::from_millis(500);

/// A running system under measurement. Dropping it ends its processes.
enum System {
    Duet(Box<Pair>),
    Etcd(EtcdCluster),
}

impl System {
    async fn start(name: SystemName, launcher: &Launcher, etcd: &Path, dir: &Path) -> Result<Self, Failure> {
        match name {
            SystemName::Duet => {
                let mut pair = Pair::lay_out(launcher.clone(), dir)?;
                pair.start_new().await?;
                Ok(Self::Duet(Box::new(pair)))
            }
            SystemName::Etcd3 => Ok(Self::Etcd(EtcdCluster::start(launcher, etcd, dir, 3).await?)),
            SystemName::Etcd1 => Ok(Self::Etcd(EtcdCluster::start(launcher, etcd, dir, 1).await?)),
        }
    }

    fn pids(&self) -> Vec<u32> {
        match self {
            Self::Duet(pair) => pair.pids(),
            Self::Etcd(cluster) => cluster.pids(),
        }
    }

    fn urls(&self) -> Vec<String> {
        match self {
            Self::Duet(pair) => {
                duet_protocol::ApplianceId::ALL.map(|appliance| pair.client_url(appliance)).into()
            }
            Self::Etcd(cluster) => cluster.urls().to_vec(),
        }
    }
}

/// What the machine is.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    cores: usize,
    kernel: String,
    load_average_before: String,
}

fn machine() -> Machine {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let load = read("/proc/loadavg");
    Machine {
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        kernel: read("/proc/sys/kernel/osrelease"),
        load_average_before: load.split_whitespace().take(3).collect::<Vec<_>>().join(" "),
    }
}

impl Machine {
    /// One line.
    pub fn in_words(&self) -> String {
        format!(
            "{} cores, Linux {}, load average before: {}",
            self.cores, self.kernel, self.load_average_before
        )
    }
}

/// Runs `duet bench compare`; Ctrl-C ends it and every process it started.
pub async fn run(args: &CompareArgs) -> Result<Exit, Failure> {
    let mut stops = StopRequests::new()?;
    let comparison = tokio::select! {
        comparison = compare(args) => comparison?,
        _ = stops.next() => return Err(Failure::interrupted()),
    };
    if let Some(path) = &args.markdown {
        std::fs::write(path, compare_report::markdown(&comparison)).map_err(|error| {
            Failure::new(format!("{}: {}", path.display(), io_words(&error)), "give another --markdown FILE")
        })?;
    }
    if args.json {
        print(&(serde_json::to_string_pretty(&comparison).unwrap_or_default() + "\n"));
    } else {
        print(&compare_report::text(&comparison, Paint::stdout()));
    }
    Ok(Exit::Done)
}

async fn compare(args: &CompareArgs) -> Result<Comparison, Failure> {
    let wants_etcd = args.systems.iter().any(|system| *system != SystemName::Duet);
    let etcd_version = if wants_etcd { Some(etcd::version(&args.etcd)?) } else { None };
    let machine = machine();
    let base = base_dir(args)?;
    let launcher = Launcher::of_this_program()?;
    let mut progress = Progress::new();
    progress.say("probing disk and loopback ...");
    let path = base.path().to_owned();
    let floors = tokio::task::spawn_blocking(move || floors::probe(&path)).await;
    let floors = floors.map_err(|_| Failure::new("probing broke off", "try again"))??;
    let mut samples = Vec::new();
    for round in 1..=args.rounds {
        for system in in_turn(&args.systems, round) {
            let dir = base.path().join(format!("{system:?}-{round}").to_lowercase());
            let mut note = |what: &str| {
                progress.say(&format!(
                    "round {round} of {}: {}: {what}",
                    args.rounds,
                    compare_report::name(system)
                ));
            };
            note("starting");
            let running = System::start(system, &launcher, &args.etcd, &dir).await?;
            tokio::time::sleep(SETTLE).await;
            measure_all(args, system, &running, round, &mut samples, &mut note).await?;
            drop(running);
            std::fs::remove_dir_all(&dir).ok();
        }
    }
    Ok(Comparison {
        setup: Setup {
            command: command_line(),
            duet_version: env!("CARGO_PKG_VERSION").into(),
            optimised: !cfg!(debug_assertions),
            etcd_version,
            machine: machine.in_words(),
            rounds: args.rounds,
            seconds: args.seconds.as_secs_f64(),
            value_size: args.value_size,
            keys: args.keys,
            spread: args.spread,
        },
        floors,
        samples,
    })
}

/// The order changes from round to round: whoever comes after another finds the disk as that one left it.
fn in_turn(systems: &[SystemName], round: usize) -> Vec<SystemName> {
    let mut order = systems.to_vec();
    let by = round.saturating_sub(1) % order.len().max(1);
    order.rotate_left(by);
    order
}

async fn measure_all(
    args: &CompareArgs,
    system: SystemName,
    running: &System,
    round: usize,
    samples: &mut Vec<Sample>,
    note: &mut impl FnMut(&str),
) -> Result<(), Failure> {
    for operation in &args.ops {
        for clients in &args.clients {
            note(&format!("{} with {clients} clients", operation_name(*operation)));
            let urls = running.urls();
            let endpoints = if args.spread {
                urls
            } else {
                vec![leader(&urls).await.ok_or_else(|| {
                    Failure::new(
                        format!("{} has no leader", compare_report::name(system)),
                        "see its logs with --dir DIR",
                    )
                })?]
            };
            let plan = Plan {
                operation: *operation,
                connections: default_connections(*clients).max(endpoints.len()).min(*clients),
                endpoints,
                clients: *clients,
                value_size: args.value_size,
                keys: args.keys,
                seconds: args.seconds,
                warmup: args.warmup,
                rate: None,
                timeout: TIMEOUT,
                serializable: false,
            };
            samples.push(measure(plan, system, running, round).await?);
        }
    }
    Ok(())
}

async fn measure(plan: Plan, system: SystemName, running: &System, round: usize) -> Result<Sample, Failure> {
    let pids = running.pids();
    let total = |pids: &[u32]| pids.iter().map(|pid| cpu_time(*pid)).sum::<Duration>();
    // CPU is taken over the measured seconds only: the fill for reads and the warm-up come before.
    let (window, seconds) = (load::Window::default(), plan.seconds);
    let cpu = async {
        window.opened().await;
        let before = total(&pids);
        tokio::time::sleep(seconds).await;
        total(&pids).saturating_sub(before)
    };
    let (report, cpu) = tokio::join!(load::run_in(plan, window.clone()), cpu);
    let report: Report = report?;
    let server_cpu_us_per_op = cpu.as_secs_f64() * 1e6 / count(report.operations.max(1));
    let resident_mib = pids.iter().map(|pid| resident_bytes(*pid)).sum::<u64>() >> 20;
    Ok(Sample { system, round, server_cpu_us_per_op, resident_mib, report })
}

/// Where the data goes.
enum Base {
    Temporary(tempfile::TempDir),
    Given(PathBuf),
}

impl Base {
    fn path(&self) -> &Path {
        match self {
            Self::Temporary(dir) => dir.path(),
            Self::Given(path) => path,
        }
    }
}

fn base_dir(args: &CompareArgs) -> Result<Base, Failure> {
    let failed = |place: &str, error: &std::io::Error| {
        Failure::new(format!("{place}: {}", io_words(error)), "give another --dir DIR")
    };
    if let Some(dir) = &args.dir {
        std::fs::create_dir_all(dir).map_err(|error| failed(&dir.display().to_string(), &error))?;
        return Ok(Base::Given(dir.clone()));
    }
    let dir = tempfile::Builder::new().prefix("duet-bench-").tempdir();
    dir.map(Base::Temporary).map_err(|error| failed("the temporary directory", &error))
}

fn command_line() -> String {
    let args: Vec<String> = std::env::args().skip(1).collect();
    format!("duet {}", args.join(" "))
}
