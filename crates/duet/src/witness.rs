//! `duet witness`: runs the witness server until a signal ends it.

use std::net::{SocketAddr, ToSocketAddrs};

use duet_witness::server::{ServeError, WitnessServer, WitnessServerConfig};

use crate::cli::WitnessArgs;
use crate::error::{Exit, Failure, without_numbers};
use crate::logging;
use crate::signals::StopRequests;

/// Runs `duet witness`.
pub async fn run(args: &WitnessArgs) -> Result<Exit, Failure> {
    let listen = address(&args.listen)?;
    logging::start(args.log.log_format)?;
    let mut stops = StopRequests::new()?;
    let config = WitnessServerConfig { listen, data_dir: args.data.clone() };
    let server = WitnessServer::bind(config).await.map_err(|error| failure(&error))?;
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
        ServeError::NewerFormat { .. } => "install the newer Duet",
        ServeError::Damaged { .. } => "restore the file, or move it away: appliances refill an empty witness",
        ServeError::Disk { .. } => "check the disk and its free space, then start the witness again",
        _ => "try again",
    };
    Failure::new(without_numbers(&error.to_string()), remedy)
}
