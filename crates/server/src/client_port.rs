//! The one port that clients use: gRPC over HTTP/2, and health, status and orders over plain HTTP.
//!
//! Which protocol a connection speaks is seen from its first bytes. At shutdown streams are ended with an error that makes
//! etcd's clients go to the other appliance, requests that are under way are answered, and what is not done after
//! `DRAIN` is cut.

pub(crate) mod authority;
mod direct;
mod gathering;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::response::Response;
use axum::{Extension, Router, middleware};
use duet_etcd_api::etcdserverpb::auth_server::AuthServer;
use duet_etcd_api::etcdserverpb::cluster_server::ClusterServer;
use duet_etcd_api::etcdserverpb::kv_server::KvServer;
use duet_etcd_api::etcdserverpb::lease_server::LeaseServer;
use duet_etcd_api::etcdserverpb::maintenance_server::MaintenanceServer;
use duet_etcd_api::etcdserverpb::watch_server::WatchServer;
use duet_etcd_api::healthpb::health_server::HealthServer;
use duet_etcd_api::v3electionpb::election_server::ElectionServer;
use duet_etcd_api::v3lockpb::lock_server::LockServer;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::service::Routes;

use crate::auth::AuthOptions;
use crate::auto_compaction;
use crate::client_limits::ClientLimits;
use crate::grpc::auth::AuthService;
use crate::grpc::cluster::ClusterService;
use crate::grpc::election::ElectionService;
use crate::grpc::gate::{gate, is_grpc};
use crate::grpc::health::HealthService;
use crate::grpc::kv::KvService;
use crate::grpc::lease::LeaseService;
use crate::grpc::lock::LockService;
use crate::grpc::maintenance::MaintenanceService;
use crate::grpc::watch::WatchService;
use crate::grpc::{Api, Stopping, reflection};
use crate::handle::Handle;
use crate::http::{gateway, health, metrics, plain};
use crate::lease_clock::LeaseClock;
use crate::watch_hub::WatchHub;

use authority::Lenient;
use direct::{Call, Reply};
use gathering::Gathering;

/// How long requests under way may take once the appliance has stopped.
const DRAIN: Duration = Duration::from_secs(2);

/// Window of one stream in bytes. The default of 64 KiB would limit large messages to one window a round trip.
const STREAM_WINDOW: u32 = 1 << 20;

/// Window of one connection in bytes: several streams at full speed.
const CONNECTION_WINDOW: u32 = 8 << 20;

/// How long an HTTP/1 client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause after the system refused a new connection (too many open files): another try at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// etcd's default for progress notifications to quiet watchers.
const PROGRESS_INTERVAL: Duration = Duration::from_mins(10);

/// What may be chosen. The default is right for all but tests.
#[derive(Clone, Debug)]
pub struct ClientPortOptions {
    /// Time between progress notifications to quiet watchers that asked for them.
    pub watch_progress_interval: Duration,
    /// How users log in.
    pub auth: AuthOptions,
    /// What clients may do.
    pub limits: ClientLimits,
}

impl Default for ClientPortOptions {
    fn default() -> ClientPortOptions {
        ClientPortOptions {
            watch_progress_interval: PROGRESS_INTERVAL,
            auth: AuthOptions::default(),
            limits: ClientLimits::default(),
        }
    }
}

/// Serves clients until `stop`, then drains. `admin` has no fallback of its own.
pub async fn serve(
    listener: TcpListener,
    handle: Handle,
    admin: Router,
    options: ClientPortOptions,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    let (stopping, stopped) = watch::channel(false);
    let hub = WatchHub::new(handle.clone());
    let leases = LeaseClock::new(handle.clone());
    let stopped = Stopping::new(stopped);
    let auto_compaction = options.limits.auto_compaction;
    let api = Api::new(handle.clone(), hub.clone(), leases.clone(), stopped.clone(), options);
    // Ended with this set when the port is closed.
    let mut background = JoinSet::new();
    background.spawn(hub.run());
    background.spawn(leases.run());
    if let Some(rule) = auto_compaction {
        background.spawn(auto_compaction::run(rule, handle));
    }

    let kv = KvService::new(api.clone());
    let grpc = grpc_routes(&api);
    let plain = plain_routes(&api, &grpc, admin);
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, from)) => {
                    let plain = plain.clone().layer(Extension(ConnectInfo(from)));
                    let front = Front {
                        kv: kv.clone(),
                        grpc: TowerToHyperService::new(grpc.clone()),
                        plain: TowerToHyperService::new(plain),
                    };
                    connections.spawn(connection(socket, from, front, stopped.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "a client's connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = &mut stop => break,
        }
    }
    drop(listener);
    stopping.send_replace(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::info!(cut = connections.len(), "clients' connections did not end in time");
    }
}

/// The gRPC services, behind the gate.
fn grpc_routes(api: &Api) -> Router {
    // The gate has refused larger messages already, in gRPC-Go's words; answers have no limit, as at etcd.
    macro_rules! unlimited {
        ($server:ident, $service:ident) => {
            $server::new($service::new(api.clone()))
                .max_decoding_message_size(api.limits().max_message_bytes())
                .max_encoding_message_size(usize::MAX)
        };
    }
    Routes::new(unlimited!(KvServer, KvService))
        .add_service(unlimited!(WatchServer, WatchService))
        .add_service(unlimited!(LeaseServer, LeaseService))
        .add_service(unlimited!(ClusterServer, ClusterService))
        .add_service(unlimited!(MaintenanceServer, MaintenanceService))
        .add_service(unlimited!(AuthServer, AuthService))
        .add_service(unlimited!(LockServer, LockService))
        .add_service(unlimited!(ElectionServer, ElectionService))
        .add_service(unlimited!(HealthServer, HealthService))
        .add_service(reflection::present())
        .add_service(reflection::former())
        .into_axum_router()
        .layer(middleware::from_fn_with_state(api.clone(), gate))
}

/// What is answered over plain HTTP. Orders are not for web pages.
fn plain_routes(api: &Api, grpc: &Router, admin: Router) -> Router {
    health::routes(api.clone())
        .merge(gateway::routes(grpc, api.limits().max_message_bytes()))
        .merge(metrics::routes(api.clone()))
        .fallback(plain::not_found)
        .layer(middleware::from_fn(plain::cross_origin))
        .merge(admin)
}

/// Everything that is answered on a connection.
struct Front {
    kv: KvService,
    grpc: TowerToHyperService<Router>,
    plain: TowerToHyperService<Router>,
}

impl hyper::service::Service<Request<Incoming>> for Front {
    type Response = Response<Reply>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Reply>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if let Some(call) = Call::of(&request) {
            return Box::pin(call.answer(self.kv.clone(), request));
        }
        let is_call = request.version() == http::Version::HTTP_2 && is_grpc(request.headers());
        let response = if is_call { self.grpc.call(request) } else { self.plain.call(request) };
        Box::pin(async move { Ok(response.await?.map(Reply::Long)) })
    }
}

/// Serves one connection to its end.
async fn connection(socket: TcpStream, from: SocketAddr, front: Front, mut stopped: Stopping) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%from, %error, "a client's connection keeps its small packets back");
    }
    let limits = front.kv.api().limits().clone();
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(limits.max_concurrent_streams)
        .keep_alive_interval(limits.keepalive_interval)
        .keep_alive_timeout(limits.keepalive_timeout);
    let mut served =
        pin!(builder.serve_connection(TokioIo::new(Lenient::new(Gathering::new(socket))), front));
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = stopped.begun() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%from, %error, "a client's connection ended");
    }
}
