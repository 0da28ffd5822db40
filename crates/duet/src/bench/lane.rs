//! One HTTP/2 connection that several clients of the load generator share.
//!
//! Straight onto hyper: no buffering task and no balancer between a request and its connection, so that the client costs
//! as little as it can beside the servers it measures. A broken connection is replaced; endpoints are taken in turn.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use duet_etcd_api::etcdserverpb::kv_client::KvClient;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tonic::body::Body;
use tonic::codegen::Service;

use crate::error::io_words;
use crate::http::authority;

/// Windows large enough that flow control never limits a measurement.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// A connection on one machine or network stands within a moment, or not at all.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);

/// A KV client on a shared connection.
pub type Kv = KvClient<Wire>;

/// hyper's sender as the service that tonic's generated clients want.
#[derive(Clone)]
pub struct Wire(SendRequest<Body>);

impl Service<Request<Body>> for Wire {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// A connection that is made when it is needed, and made again when it broke.
pub struct Lane {
    endpoints: Vec<String>,
    next: Cell<usize>,
    current: RefCell<Option<(SendRequest<Body>, Uri)>>,
    connecting: tokio::sync::Mutex<()>,
}

impl Lane {
    /// Begins with the endpoint number `first`.
    pub fn new(endpoints: Vec<String>, first: usize) -> Self {
        assert!(!endpoints.is_empty(), "a lane leads somewhere");
        Self {
            endpoints,
            next: Cell::new(first),
            current: RefCell::new(None),
            connecting: tokio::sync::Mutex::new(()),
        }
    }

    /// A client on the present connection, or on a new one.
    pub async fn kv(&self) -> Result<Kv, String> {
        if let Some(kv) = self.present() {
            return Ok(kv);
        }
        let _one_at_a_time = self.connecting.lock().await;
        if let Some(kv) = self.present() {
            return Ok(kv);
        }
        let endpoint = &self.endpoints[self.next.get() % self.endpoints.len()];
        self.next.set(self.next.get() + 1);
        let fresh = tokio::time::timeout(CONNECT_DEADLINE, connect(endpoint)).await;
        let fresh =
            fresh.unwrap_or_else(|_| Err(format!("cannot connect to {endpoint}: no answer in time")))?;
        *self.current.borrow_mut() = Some(fresh);
        self.present().ok_or_else(|| format!("the connection to {endpoint} was closed at once"))
    }

    fn present(&self) -> Option<Kv> {
        let current = self.current.borrow();
        let (sender, origin) = current.as_ref().filter(|(sender, _)| !sender.is_closed())?;
        Some(KvClient::with_origin(Wire(sender.clone()), origin.clone()))
    }
}

async fn connect(endpoint: &str) -> Result<(SendRequest<Body>, Uri), String> {
    let failed = |reason: &str| format!("cannot connect to {endpoint}: {reason}");
    let address = authority(endpoint).map_err(|error| failed(&error.to_string()))?;
    let origin: Uri = format!("http://{address}").parse().map_err(|_| failed("not an address"))?;
    let stream = TcpStream::connect(&address).await.map_err(|error| failed(&io_words(&error)))?;
    stream.set_nodelay(true).map_err(|error| failed(&io_words(&error)))?;
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_| failed("what answers there does not speak HTTP/2"))?;
    tokio::spawn(async move {
        // Its end shows in the requests that fail, and in `is_closed`.
        connection.await.ok();
    });
    Ok((sender, origin))
}
