//! One HTTP/2 connection that several clients of the load generator share.
//!
//! Straight onto h2, with gRPC's few bytes around each message written here: the client runs on the same cores as the
//! servers it measures, so what it costs is taken from them. Answers are checked for their status and not decoded. A
//! broken connection is replaced; endpoints are taken in turn.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{Method, Request, Uri, header};
use prost::Message;
use tokio::net::TcpStream;
use tonic::{Code, Status};

use crate::error::io_words;
use crate::http::authority;

/// Windows large enough that flow control never limits a measurement.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// A connection on one machine or network stands within a moment, or not at all.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// gRPC's prefix of a message: a flag and its length, in bytes.
const PREFIX_BYTES: usize = 5;

/// A KV client on a shared connection.
pub struct Kv {
    sender: SendRequest<Bytes>,
    put: Uri,
    range: Uri,
}

impl Kv {
    /// Writes one key.
    ///
    /// # Errors
    /// The server's refusal, or `Unknown` when the connection failed.
    pub async fn put(&mut self, request: &impl Message) -> Result<(), Status> {
        call(&mut self.sender, self.put.clone(), request).await
    }

    /// Reads one key.
    ///
    /// # Errors
    /// As for `put`.
    pub async fn range(&mut self, request: &impl Message) -> Result<(), Status> {
        call(&mut self.sender, self.range.clone(), request).await
    }
}

/// One call: a message there, the status of the answer back.
async fn call(sender: &mut SendRequest<Bytes>, uri: Uri, message: &impl Message) -> Result<(), Status> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(())
        .map_err(|error| Status::unknown(error.to_string()))?;
    let mut ready = sender.clone().ready().await.map_err(|error| broken(&error))?;
    let (answer, mut body) = ready.send_request(request, false).map_err(|error| broken(&error))?;
    body.send_data(frame(message), true).map_err(|error| broken(&error))?;
    let (head, mut body) = answer.await.map_err(|error| broken(&error))?.into_parts();
    // A refusal without a message has its status in the head.
    if let Some(status) = Status::from_header_map(&head.headers) {
        return outcome(status);
    }
    while let Some(data) = body.data().await {
        let length = data.map_err(|error| broken(&error))?.len();
        body.flow_control().release_capacity(length).map_err(|error| broken(&error))?;
    }
    let trailers = body.trailers().await.map_err(|error| broken(&error))?;
    match trailers.as_ref().and_then(Status::from_header_map) {
        Some(status) => outcome(status),
        None => Err(Status::unknown("an answer without a status")),
    }
}

fn outcome(status: Status) -> Result<(), Status> {
    if status.code() == Code::Ok { Ok(()) } else { Err(status) }
}

fn broken(error: &h2::Error) -> Status {
    Status::unknown(error.to_string())
}

/// A message with its prefix.
fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    message.encode_raw(&mut frame);
    frame.freeze()
}

/// A connection that is made when it is needed, and made again when it broke.
pub struct Lane {
    endpoints: Vec<String>,
    next: Cell<usize>,
    current: RefCell<Option<Connection>>,
    connecting: tokio::sync::Mutex<()>,
}

/// A connection in use.
struct Connection {
    sender: SendRequest<Bytes>,
    put: Uri,
    range: Uri,
    /// Driven by a task that ends with the connection.
    driver: tokio::task::JoinHandle<()>,
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
        let Connection { sender, put, range, .. } =
            current.as_ref().filter(|connection| !connection.driver.is_finished())?;
        Some(Kv { sender: sender.clone(), put: put.clone(), range: range.clone() })
    }
}

async fn connect(endpoint: &str) -> Result<Connection, String> {
    let failed = |reason: &str| format!("cannot connect to {endpoint}: {reason}");
    let address = authority(endpoint).map_err(|error| failed(&error.to_string()))?;
    let method = |name| {
        let uri = format!("http://{address}/etcdserverpb.KV/{name}").parse::<Uri>();
        uri.map_err(|_| failed("not an address"))
    };
    let (put, range) = (method("Put")?, method("Range")?);
    let stream = TcpStream::connect(&address).await.map_err(|error| failed(&io_words(&error)))?;
    stream.set_nodelay(true).map_err(|error| failed(&io_words(&error)))?;
    let (sender, connection) = h2::client::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake(stream)
        .await
        .map_err(|_| failed("what answers there does not speak HTTP/2"))?;
    let driver = tokio::spawn(async move {
        // Its end shows in the requests that fail, and in that this task is finished.
        connection.await.ok();
    });
    Ok(Connection { sender, put, range, driver })
}
