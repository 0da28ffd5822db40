//! Carries out a command line.

use crate::bench::args::{BenchCommand, Operation};
use crate::cli::{ApplianceArgs, Cli, Command, EndpointArgs, VersionArgs};
use crate::error::{Exit, Failure};
use crate::terminal::print;
use crate::{appliance, bench, demo, order, process, status, witness};

/// Where an appliance serves clients unless it is told otherwise: etcd's port.
const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:2379";

/// Carries out what was asked for and tells how the process ends.
pub fn run(cli: Cli) -> Result<Exit, Failure> {
    match cli.command {
        Command::Demo(args) => block_on(demo::run(&args)),
        Command::Init(args) => block_on(appliance::init(&args)),
        Command::Serve(args) => to_its_end(serving_runtime()?, appliance::serve(&args)),
        Command::Witness(args) => block_on(witness::run(&args)),
        Command::Status(args) => {
            let (endpoints, configured) = (endpoints(&args.endpoints)?, configured(&args.endpoints)?);
            block_on(status::run(&endpoints, configured.as_ref(), args.json, args.watch))
        }
        Command::Stop(args) => {
            let endpoints = endpoints(&args.endpoints)?;
            block_on(order::stop(&args, &endpoints))
        }
        Command::Switchover(args) => {
            let endpoints = endpoints(&args.endpoints)?;
            block_on(order::switchover(&args, &endpoints))
        }
        Command::Bench(BenchCommand::Put(args)) => block_on(bench::run_load(Operation::Put, &args)),
        Command::Bench(BenchCommand::Get(args)) => block_on(bench::run_load(Operation::Get, &args)),
        Command::Bench(BenchCommand::Compare(args)) => block_on(bench::compare::run(&args)),
        Command::Bench(BenchCommand::Failover(args)) => block_on(bench::failover::run(&args)),
        Command::Bench(BenchCommand::Scale(args)) => block_on(bench::scale::run(&args)),
        Command::Bench(BenchCommand::Witness(args)) => block_on(bench::witness::run(&args)),
        Command::Version(args) => Ok(version(&args)),
        Command::Warden => {
            process::run_warden(std::io::stdin().lock());
            Ok(Exit::Done)
        }
    }
}

/// A small runtime for commands that mostly wait.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| no_runtime(&e))?;
    runtime.block_on(work)
}

/// Runs an appliance. When its end is known nothing is waited for any more: a thread that hangs in a call to the system must not
/// keep an appliance that has ended from being started again.
fn to_its_end<T>(runtime: tokio::runtime::Runtime, work: impl Future<Output = T>) -> T {
    let end = runtime.block_on(work);
    runtime.shutdown_background();
    end
}

/// The runtime of an appliance's network side.
fn serving_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(appliance::network_threads())
        .thread_name("duet-network")
        .enable_all()
        .build()
        .map_err(|error| no_runtime(&error))
}

fn no_runtime(error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot start: {error}"), "is a limit on threads or open files too low?")
}

/// Whom to ask: flags, a configuration file, or this machine's usual port.
fn endpoints(args: &EndpointArgs) -> Result<Vec<String>, Failure> {
    if let Some(path) = &args.config {
        let args = ApplianceArgs { config: Some(path.clone()), ..ApplianceArgs::default() };
        return Ok(vec![appliance::config(&args)?.client_url]);
    }
    let given =
        if args.endpoints.is_empty() { vec![DEFAULT_ENDPOINT.to_owned()] } else { args.endpoints.clone() };
    for endpoint in &given {
        crate::http::authority(endpoint).map_err(|error| {
            Failure::usage(
                format!("--endpoint {endpoint}: {error}"),
                "for example --endpoint http://127.0.0.1:2379",
            )
        })?;
    }
    if given.len() > 2 {
        return Err(Failure::usage("a pair has two appliances", "give --endpoint once or twice"));
    }
    Ok(given)
}

/// What a configuration file tells, if one is given.
fn configured(args: &EndpointArgs) -> Result<Option<status::Configured>, Failure> {
    let Some(path) = &args.config else { return Ok(None) };
    let args = ApplianceArgs { config: Some(path.clone()), ..ApplianceArgs::default() };
    let config = appliance::config(&args)?;
    Ok(Some(status::Configured {
        appliance: config.appliance.to_string(),
        cluster: config.cluster,
        location: config.witness.to_string(),
        access: config.witness_access,
    }))
}

fn version(args: &VersionArgs) -> Exit {
    let version = env!("CARGO_PKG_VERSION");
    if args.json {
        print(&format!("{{\"duet\":\"{version}\",\"etcd_api\":\"{ETCD_API}\"}}\n"));
    } else {
        print(&format!("duet {version} (etcd v3 API, level {ETCD_API})\n"));
    }
    Exit::Done
}

/// The release of etcd whose API is served.
const ETCD_API: &str = "3.5";

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn an_end_waits_for_nobody_who_hangs() {
        let began = Instant::now();
        let end = to_its_end(serving_runtime().unwrap(), async {
            drop(tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_mins(1))));
            7
        });
        assert_eq!(end, 7);
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}
