//! `duet bench compare`: a Duet pair, a 3-member etcd and a 1-member etcd on this machine, one after the other with fresh
//! data, the same client, the same load, round after round; medians and spread of all rounds.
//!
//! One system runs at a time, so none pays for another's heartbeats. All write to the same disk and share the cores with
//! the client: ratios mean something, absolute figures little.

use std::path::Path;
use std::time::Duration;

use super::args::{CompareArgs, Operation, SystemName};
use super::compare_report::{Comparison, Load, Sample, Setup};
use super::etcd;
use super::load::{self, Plan, default_connections};
use super::output::{Base, Conditions};
use super::proc_stat::{Memory, cpu_time, disk_written, reset_peaks};
use super::report::{Report, count};
use super::schedule::Window;
use super::systems::System;
use super::watch_load::{self, WatchPlan};
use crate::error::{Exit, Failure};
use crate::process::{Launcher, raise_open_files};
use crate::signals::StopRequests;
use crate::terminal::Progress;

/// A request without an answer for so long is an error.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Clients of the fill before reads, and the most that an open loop has under way.
const FILL_CLIENTS: usize = 64;
const OPEN_LOOP_CLIENTS: usize = 256;
/// Bytes in a mebibyte.
const MIB: u64 = 1 << 20;

/// Runs `duet bench compare`; Ctrl-C ends it and every process it started.
pub async fn run(args: &CompareArgs) -> Result<Exit, Failure> {
    raise_open_files();
    let mut stops = StopRequests::new()?;
    let comparison = tokio::select! {
        comparison = compare(args) => comparison?,
        _ = stops.next() => return Err(Failure::interrupted()),
    };
    comparison.document().deliver(&args.output)?;
    Ok(Exit::Done)
}

async fn compare(args: &CompareArgs) -> Result<Comparison, Failure> {
    let wants_etcd = args.systems.iter().any(|system| *system != SystemName::Duet);
    let etcd_version = if wants_etcd { Some(etcd::version(&args.etcd)?) } else { None };
    let base = Base::of(&args.output)?;
    let launcher = Launcher::of_this_program()?;
    let mut progress = Progress::new();
    progress.say("probing disk and loopback ...");
    let conditions = Conditions::probe(base.path(), etcd_version).await?;
    let mut results = Results::default();
    for round in 1..=args.rounds {
        for system in in_turn(&args.systems, round) {
            let dir = base.path().join(format!("{system:?}-{round}").to_lowercase());
            let mut note = |what: &str| {
                progress.say(&format!("round {round} of {}: {}: {what}", args.rounds, system.words()));
            };
            note("starting");
            let running = System::start(system, &launcher, &args.etcd, &dir).await?;
            let subject = Subject { args, system, round, running: &running, dir: &dir };
            subject.measure_all(&mut results, &mut note).await?;
            drop(running);
            std::fs::remove_dir_all(&dir).ok();
        }
    }
    let setup = Setup {
        rounds: args.rounds,
        seconds: args.seconds.as_secs_f64(),
        value_size: args.value_size,
        keys: args.keys,
        spread: args.spread,
    };
    if results.samples.is_empty() {
        let what = "nothing could be measured";
        return Err(
            Failure::new(what, "see the logs with --dir DIR").with_details(results.not_measured.join("\n"))
        );
    }
    Ok(Comparison { conditions, setup, samples: results.samples, not_measured: results.not_measured })
}

/// The order changes from round to round: whoever comes after another finds the disk as that one left it.
fn in_turn(systems: &[SystemName], round: usize) -> Vec<SystemName> {
    let mut order = systems.to_vec();
    let by = round.saturating_sub(1) % order.len().max(1);
    order.rotate_left(by);
    order
}

/// Everything that is asked of each system, in this order.
fn loads(args: &CompareArgs) -> Vec<Load> {
    let of = |operation: Operation| {
        let closed = |clients: usize| Load { operation, rate: None, clients };
        let open = |rate: u64| Load { operation, rate: Some(rate), clients: 0 };
        match operation {
            Operation::Watch => vec![closed(args.watchers)],
            Operation::WatchLag => vec![closed(args.lag_watchers)],
            Operation::Range => args.clients.iter().copied().map(closed).collect(),
            _ => {
                let open = args.rate.iter().copied().map(open);
                args.clients.iter().copied().map(closed).chain(open).collect()
            }
        }
    };
    args.ops.iter().copied().flat_map(of).collect()
}

/// What has been measured so far.
#[derive(Default)]
struct Results {
    samples: Vec<Sample>,
    not_measured: Vec<String>,
}

/// A running system in one round.
struct Subject<'a> {
    args: &'a CompareArgs,
    system: SystemName,
    round: usize,
    running: &'a System,
    /// Where its data is.
    dir: &'a Path,
}

impl Subject<'_> {
    /// Measures everything. What cannot be measured is told in the report and does not end the others.
    async fn measure_all(&self, results: &mut Results, note: &mut impl FnMut(&str)) -> Result<(), Failure> {
        if self.args.ops.iter().any(|operation| operation.needs_keys()) {
            note("writing the keys to read");
            load::fill_with(self.plan(Operation::Put, FILL_CLIENTS, None).await?).await?;
        }
        for load in loads(self.args) {
            note(&load.in_words());
            let sample = match load.operation {
                Operation::Watch => self.watch(load, None).await,
                Operation::WatchLag => self.watch_lag(load, note).await,
                _ => self.measure(load).await,
            };
            match sample {
                Ok(sample) => results.samples.push(sample),
                Err(failure) => results.not_measured.push(format!(
                    "round {}: {}: {}: {}",
                    self.round,
                    self.system.words(),
                    load.in_words(),
                    failure.what
                )),
            }
        }
        Ok(())
    }

    /// The lag at half the highest rate.
    async fn watch_lag(&self, load: Load, note: &mut impl FnMut(&str)) -> Result<Sample, Failure> {
        let most = self.watch(load, None).await?;
        let millis = u64::try_from(self.args.seconds.as_millis()).unwrap_or(u64::MAX).max(1);
        let half = most.report.operations * 500 / millis;
        note(&format!("{}, {half} writes/s", load.in_words()));
        self.watch(load, Some(half.max(1))).await
    }

    async fn endpoints(&self) -> Result<Vec<String>, Failure> {
        if self.args.spread { Ok(self.running.urls()) } else { Ok(vec![self.running.leader().await?]) }
    }

    async fn plan(&self, operation: Operation, clients: usize, rate: Option<u64>) -> Result<Plan, Failure> {
        let endpoints = self.endpoints().await?;
        Ok(Plan {
            operation,
            connections: default_connections(clients).max(endpoints.len()).min(clients),
            endpoints,
            clients,
            value_size: self.args.value_size,
            keys: self.args.keys,
            seconds: self.args.seconds,
            warmup: self.args.warmup,
            rate,
            timeout: TIMEOUT,
            fill: false,
        })
    }

    async fn measure(&self, load: Load) -> Result<Sample, Failure> {
        let clients = if load.rate.is_some() { OPEN_LOOP_CLIENTS } else { load.clients };
        let plan = self.plan(load.operation, clients, load.rate).await?;
        let window = Window::default();
        let work = load::run_in(plan, window.clone());
        self.observe(load, window, work).await
    }

    async fn watch(&self, load: Load, rate: Option<u64>) -> Result<Sample, Failure> {
        let plan = WatchPlan {
            operation: load.operation,
            endpoints: self.endpoints().await?,
            watchers: load.clients,
            value_size: self.args.value_size,
            seconds: self.args.seconds,
            warmup: self.args.warmup,
            rate,
            timeout: TIMEOUT,
        };
        let window = Window::default();
        let work = watch_load::run(plan, window.clone());
        self.observe(load, window, work).await
    }

    /// What the servers consume while some work is measured. Taken over the measured seconds only.
    async fn observe(
        &self,
        load: Load,
        window: Window,
        work: impl Future<Output = Result<Report, Failure>>,
    ) -> Result<Sample, Failure> {
        let pids = self.running.pids();
        reset_peaks(&pids);
        let consumed = async {
            window.opened().await;
            let cpu = || pids.iter().map(|pid| cpu_time(*pid)).sum::<Duration>();
            let (cpu_before, disk_before) = (cpu(), disk_written(self.dir));
            tokio::time::sleep(self.args.seconds).await;
            let disk =
                disk_written(self.dir).zip(disk_before).map(|(now, before)| now.saturating_sub(before));
            (cpu().saturating_sub(cpu_before), disk)
        };
        let (report, (cpu, disk)) = tokio::join!(work, consumed);
        let report = report?;
        let memory = Memory::of(&pids);
        let stored = report.stored_bytes;
        Ok(Sample {
            system: self.system,
            round: self.round,
            load,
            server_cpu_us_per_op: cpu.as_secs_f64() * 1e6 / count(report.operations.max(1)),
            written_per_stored_byte: disk
                .filter(|_| stored > 0)
                .map(|written| count(written) / count(stored)),
            anonymous_mib: memory.anonymous / MIB,
            peak_mib: memory.peak / MIB,
            report,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_system_is_first_once() {
        let systems = [SystemName::Duet, SystemName::Etcd3, SystemName::Etcd1];
        let firsts: Vec<_> = (1..=3).map(|round| in_turn(&systems, round)[0]).collect();
        assert_eq!(firsts, systems);
        assert_eq!(in_turn(&[], 2), []);
    }
}
