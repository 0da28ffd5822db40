//! `duet witness`: the witness server. One process serves very many pairs over plain HTTP/1.1.
//!
//! [`WitnessServer::bind`] takes everything that can be refused - the data directory, the address - before
//! anything is served; [`WitnessServer::run`] then serves until told to stop. `accept` takes
//! connections, `routes` is the interface, `store` the durable part, `limits` says how much of everything. A disk that fails ends the server with [`ServeError::Disk`], and the process has
//! to end with it.

mod about;
mod accept;
mod admin;
mod connections;
mod error;
mod limits;
mod meter;
mod orders;
mod pairs;
mod registrar;
mod routes;
pub mod status;
mod store;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use accept::accept;
use connections::Connections;
pub use error::ServeError;
use limits::{CONTENTS_KIB, STOP_TIMEOUT};
pub use limits::{MAX_CONNECTIONS, MAX_CONNECTIONS_PER_ADDRESS, PAIR_REQUESTS_PER_SECOND};
use meter::Meter;
pub use orders::{AdminError, Administrator};
pub use pairs::PairSeen;
use pairs::Pairs;
use registrar::Registrar;
pub use registrar::{Order, OrderError};
use routes::Shared;
#[cfg(feature = "fuzzing")]
pub(crate) use routes::parse_condition;
pub use store::{BackupError, BackupWriter, Contents, check_backup, restore};
use store::{Store, WriterEnd};

/// What a witness server needs to know.
#[derive(Clone, Debug)]
pub struct WitnessServerConfig {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the records are kept; made if it is missing. Not for anything else, and not on one of the
    /// appliances it serves.
    pub data_dir: PathBuf,
    /// Whether pairs that are not registered are served: whoever reaches the server may make and change their records.
    pub open: bool,
    /// Connections at the same time, [`MAX_CONNECTIONS`] as a rule; each takes 13 KiB and a file descriptor.
    pub max_connections: usize,
    /// Connections from one address, [`MAX_CONNECTIONS_PER_ADDRESS`] as a rule.
    pub max_connections_per_address: usize,
    /// Requests that a registered pair may make in a second, [`PAIR_REQUESTS_PER_SECOND`] as a rule.
    pub pair_requests_per_second: u32,
}

impl WitnessServerConfig {
    /// With every limit as it is by default; open to everybody on loopback only.
    pub fn new(listen: SocketAddr, data_dir: impl Into<PathBuf>) -> Self {
        Self {
            listen,
            data_dir: data_dir.into(),
            open: listen.ip().is_loopback(),
            max_connections: MAX_CONNECTIONS,
            max_connections_per_address: MAX_CONNECTIONS_PER_ADDRESS,
            pair_requests_per_second: PAIR_REQUESTS_PER_SECOND,
        }
    }
}

/// Serves until `shutdown` ends: [`WitnessServer::bind`] and [`WitnessServer::run`] in one.
///
/// # Errors
/// See [`ServeError`].
pub async fn serve(
    config: WitnessServerConfig,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    WitnessServer::bind(config)?.run(shutdown).await
}

/// A witness server that listens already, and serves as soon as it is run.
pub struct WitnessServer {
    listener: TcpListener,
    address: SocketAddr,
    config: WitnessServerConfig,
    store: Store,
    pairs: Arc<Pairs>,
    meter: Arc<Meter>,
    orders: Option<UnixListener>,
    writer: WriterEnd,
}

impl WitnessServer {
    /// Opens the records and the port; within a runtime.
    ///
    /// # Errors
    /// Everything that a person has to correct; see [`ServeError`].
    pub fn bind(config: WitnessServerConfig) -> Result<Self, ServeError> {
        let listen = config.listen;
        let listener = accept::listen(listen).map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => ServeError::PortInUse { address: listen },
            _ => ServeError::Listen { address: listen, source },
        })?;
        let address =
            listener.local_addr().map_err(|source| ServeError::Listen { address: listen, source })?;
        let meter = Arc::new(Meter::new());
        let (store, writer) = Store::open(&config.data_dir, &meter)?;
        let pairs = Pairs::load(config.open, config.pair_requests_per_second, &store, &config.data_dir)?;
        let orders = admin_socket(&config.data_dir);
        Ok(Self { listener, address, config, store, pairs: Arc::new(pairs), meter, orders, writer })
    }

    /// Where it listens, with the real port.
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` ends, then lets requests under way finish and closes the file. Dropping the
    /// future is like a crash: nothing that was answered is lost.
    ///
    /// # Errors
    /// [`ServeError::Disk`]: the caller has to end the process.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        let Self { listener, address, config, store, pairs, meter, orders, mut writer } = self;
        let incarnation = store.incarnation().to_owned();
        tracing::info!(%address, %incarnation, open = pairs.is_open(), pairs = pairs.registered(), "witness serves");
        let connections = Connections::new(config.max_connections, config.max_connections_per_address);
        let connections = Arc::new(connections);
        let registrar = Arc::new(Registrar::new(store.clone(), Arc::clone(&pairs)));
        let router = routes::router(Shared {
            store,
            pairs,
            connections: Arc::clone(&connections),
            meter,
            contents: Arc::new(Semaphore::new(CONTENTS_KIB)),
        });
        let mut tasks = JoinSet::new();
        let outcome = tokio::select! {
            () = shutdown => None,
            ended = &mut writer => Some(ended),
            never = accept(&listener, &router, &connections, &mut tasks) => match never {},
            never = admin::serve(orders.as_ref(), registrar) => match never {},
        };
        drop(listener);
        drop(router);
        if outcome.is_none() {
            let finished = async { while tasks.join_next().await.is_some() {} };
            // Whoever is not done by now is cut off; its client counts that as Unknown.
            let _ = tokio::time::timeout(STOP_TIMEOUT, finished).await;
        }
        tasks.shutdown().await;
        let ended = match outcome {
            Some(ended) => ended,
            None => writer.await,
        };
        tracing::info!(%address, "witness stopped");
        ended.unwrap_or_else(|_| {
            Err(ServeError::Disk { directory: config.data_dir, message: "the writer thread panicked".into() })
        })
    }
}

/// The socket for orders. Without it the server serves all the same: orders can be given while it is stopped.
fn admin_socket(directory: &Path) -> Option<UnixListener> {
    let socket = admin::listen(directory);
    socket
        .inspect_err(|error| {
            tracing::warn!(%error, "no admin socket in {}: pairs can be registered only while the witness is stopped", directory.display());
        })
        .ok()
}
