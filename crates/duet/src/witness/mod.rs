//! `duet witness`: runs the witness server until a signal ends it, gives orders to one, or tests one.

mod check;
mod orders;
pub mod status;

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;

use duet_witness::server::{ServeError, WitnessServer, WitnessServerConfig};

use crate::cli::{WitnessArgs, WitnessCommand};
use crate::error::{Exit, Failure, without_numbers};
use crate::logging;
use crate::process::raise_open_files;
use crate::signals::StopRequests;

/// Runs `duet witness`.
pub async fn run(args: &WitnessArgs) -> Result<Exit, Failure> {
    match (&args.command, &args.data) {
        (Some(WitnessCommand::Status(args)), _) => status::run(args).await,
        (Some(order), _) => orders::run(order).await,
        (None, Some(data)) => serve(args, data).await,
        (None, None) => Err(Failure::usage("--data DIR is missing", "see: duet witness --help")),
    }
}

async fn serve(args: &WitnessArgs, data: &Path) -> Result<Exit, Failure> {
    let mut config = WitnessServerConfig::new(address(&args.listen)?, data);
    config.open = (config.open || args.open) && !args.closed;
    config.max_connections = args.max_connections;
    config.max_connections_per_address = args.max_connections_per_address;
    config.pair_requests_per_second = args.pair_requests;
    logging::start(args.log.log_format)?;
    raise_open_files();
    let mut stops = StopRequests::new()?;
    let server = WitnessServer::bind(config).map_err(|error| failure(&error))?;
    // A witness has nothing to hand over: every answer it gave is on its disk.
    let stop = async {
        stops.next().await;
    };
    server.run(stop).await.map_err(|error| failure(&error))?;
    Ok(Exit::Done)
}

fn address(text: &str) -> Result<SocketAddr, Failure> {
    text.to_socket_addrs().ok().and_then(|mut addresses| addresses.next()).ok_or_else(|| {
        Failure::usage(format!("--listen {text}: not an address"), "for example --listen 0.0.0.0:7900")
    })
}

fn failure(error: &ServeError) -> Failure {
    let remedy = match error {
        ServeError::PortInUse { .. } => "give another --listen ADDR, or stop the program that uses the port",
        ServeError::Listen { .. } => "give another --listen ADDR",
        ServeError::Directory { .. } => "give another --data DIR, or let this user write there",
        ServeError::Locked { .. } => "stop the other witness server, or give another --data DIR",
        ServeError::Occupied { .. } => "give an empty --data DIR, or move the file away",
        ServeError::NewerFormat { .. } => "install the newer Duet",
        ServeError::Damaged { .. } => "restore the file, or move it away: appliances refill an empty witness",
        ServeError::Disk { .. } => "check the disk and its free space, then start the witness again",
        _ => "try again",
    };
    Failure::new(without_numbers(&error.to_string()), remedy)
}
