//! `duet witness`: the witness server. One process serves very many pairs over plain HTTP/1.1.
//!
//! [`WitnessServer::bind`] takes everything that can be refused - the data directory, the address - before
//! anything is served; [`WitnessServer::run`] then serves until told to stop. `routes` is the interface,
//! `store` the durable part. A disk that fails ends the server with [`ServeError::Disk`], and the process has
//! to end with it.

mod routes;
mod store;
mod trial;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::Reason;
use routes::Shared;
#[cfg(feature = "fuzzing")]
pub(crate) use routes::parse_condition;
use store::Store;

/// Connections at the same time; more wait in the kernel's queue. 13 KiB each, as measured: 104 MiB when
/// full.
const MAX_CONNECTIONS: usize = 8 * 1024;
/// From this many connections on each is closed after its answer, so that more pairs than connections can be
/// served in turn.
const CROWDED_CONNECTIONS: usize = MAX_CONNECTIONS / 4 * 3;
/// How long a connection may be silent, or take to send a request's head. Appliances ask every 5 s.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
/// Bytes of buffer for one connection: the least that hyper allows, and enough for any head and most records.
const CONNECTION_BUFFER_BYTES: usize = 8 * 1024;
/// How long requests under way may take to finish when the server stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a connection that is to close goes on: one that was just opened gets its first request answered.
const CLOSE_GRACE: Duration = Duration::from_millis(50);
/// Pause after a failed accept (as a rule: out of file descriptors), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a witness server needs to know.
#[derive(Clone, Debug)]
pub struct WitnessServerConfig {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the records are kept; made if it is missing. Not for anything else, and not on one of the
    /// appliances it serves.
    pub data_dir: PathBuf,
}

/// Why a witness server does not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Choose another port, or stop the program that uses it.
    #[error("port {} on {} is in use by another program", address.port(), address.ip())]
    PortInUse {
        /// Where it was to listen.
        address: SocketAddr,
    },
    /// Correct the address.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where it was to listen.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// Correct the path, or allow this user to write there.
    #[error("cannot use the data directory {}: {source}", directory.display())]
    Directory {
        /// The directory, or the file in it.
        directory: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Stop the other witness server.
    #[error("the data directory {} is used by another witness server", directory.display())]
    Locked {
        /// The directory.
        directory: PathBuf,
    },
    /// Upgrade this program.
    #[error("{} has format {found}, this program knows {known}: it was written by a newer Duet", file.display())]
    NewerFormat {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that this program opens.
        known: u32,
    },
    /// Check the disk; then either restore the file, or move it away: the pairs will refill an empty witness.
    #[error("{} is damaged ({message}): check the disk; nothing was changed", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// End the process, check disk and free space, start again: what a failed flush has left on disk is not
    /// known.
    #[error("the disk of {} failed ({message}): the witness must stop", directory.display())]
    Disk {
        /// The data directory.
        directory: PathBuf,
        /// What failed.
        message: String,
    },
    /// The operating system is out of something.
    #[error("cannot start the witness's writer thread: {source}")]
    Thread {
        /// What the operating system says.
        source: io::Error,
    },
    /// The operating system has no random numbers.
    #[error("{reason}")]
    Randomness {
        /// What it says.
        reason: Reason,
    },
}

/// Serves until `shutdown` ends: [`WitnessServer::bind`] and [`WitnessServer::run`] in one.
///
/// # Errors
/// See [`ServeError`].
pub async fn serve(
    config: WitnessServerConfig,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    WitnessServer::bind(config).await?.run(shutdown).await
}

/// A witness server that listens already, and serves as soon as it is run.
pub struct WitnessServer {
    listener: TcpListener,
    address: SocketAddr,
    data_dir: PathBuf,
    store: Store,
    writer: oneshot::Receiver<Result<(), ServeError>>,
}

impl WitnessServer {
    /// Opens the records and the port.
    ///
    /// # Errors
    /// Everything that a person has to correct; see [`ServeError`].
    pub async fn bind(config: WitnessServerConfig) -> Result<Self, ServeError> {
        let WitnessServerConfig { listen, data_dir } = config;
        let listener = TcpListener::bind(listen).await.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => ServeError::PortInUse { address: listen },
            _ => ServeError::Listen { address: listen, source },
        })?;
        let address =
            listener.local_addr().map_err(|source| ServeError::Listen { address: listen, source })?;
        let (store, writer) = Store::open(&data_dir)?;
        Ok(Self { listener, address, data_dir, store, writer })
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
        let Self { listener, address, data_dir, store, mut writer } = self;
        let incarnation = store.incarnation().to_owned();
        tracing::info!(%address, %incarnation, "witness serves");
        let connections = Arc::new(Connections::default());
        let router = routes::router(Shared { store, connections: Arc::clone(&connections) });
        let mut tasks = JoinSet::new();
        let outcome = tokio::select! {
            () = shutdown => None,
            ended = &mut writer => Some(ended),
            never = accept(&listener, &router, &connections, &mut tasks) => match never {},
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
            Err(ServeError::Disk { directory: data_dir, message: "the writer thread panicked".into() })
        })
    }
}

/// How many connections there are.
#[derive(Default)]
struct Connections(AtomicUsize);

impl Connections {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn crowded(&self) -> bool {
        self.count() >= CROWDED_CONNECTIONS
    }
}

/// One of the [`Connections`], until dropped.
struct Counted(Arc<Connections>);

impl Counted {
    fn new(connections: &Arc<Connections>) -> Self {
        connections.0.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(connections))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes connections for ever. When this future is dropped, connections end after the request that they
/// serve.
async fn accept(
    listener: &TcpListener,
    router: &Router,
    connections: &Arc<Connections>,
    tasks: &mut JoinSet<()>,
) -> Infallible {
    let (mut open, mut closing) = watch::channel(());
    loop {
        // Reaps what has ended, and waits for an end when there are too many.
        while tasks.try_join_next().is_some() {}
        if tasks.len() >= MAX_CONNECTIONS {
            tasks.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                let counted = Counted::new(connections);
                let (router, closing) = (router.clone(), closing.clone());
                tasks.spawn(async move {
                    serve_connection(stream, router, closing).await;
                    drop(counted);
                });
            }
            Err(error) => {
                // As a rule there are no file descriptors left: makes room by closing whatever is idle.
                tracing::warn!(%error, connections = tasks.len(), "the witness cannot take a connection");
                drop(open);
                (open, closing) = watch::channel(());
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one connection until its client is done with it, or `closing` loses its sender.
async fn serve_connection(stream: TcpStream, router: Router, mut closing: watch::Receiver<()>) {
    // Answers are single small segments; a socket without this option would hold them back.
    let _ = stream.set_nodelay(true);
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE_TIMEOUT)
        .max_buf_size(CONNECTION_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let closed = async {
        let _ = closing.changed().await;
        tokio::time::sleep(CLOSE_GRACE).await;
    };
    // Errors are the client's (a reset, a malformed request, silence): nothing to be done about them here.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = closed => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
