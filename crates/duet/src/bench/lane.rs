//! One HTTP/2 connection that several clients of the load generator share.
//!
//! Straight onto h2, with gRPC's few bytes around each message written here: the client runs on the same cores as the
//! servers it measures, so what it costs is taken from them. Answers are checked for their status and decoded only where
//! somebody wants them. A broken connection is replaced; endpoints are taken in turn.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
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

/// A call of the etcd API.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rpc {
    /// Writes one key.
    Put,
    /// Reads one key or many.
    Range,
    /// Compares and writes.
    Txn,
    /// Opens a stream of events.
    Watch,
    /// Grants a lease.
    LeaseGrant,
    /// Forgets history.
    Compact,
    /// Another member of etcd is to lead.
    MoveLeader,
}

impl Rpc {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Put, "etcdserverpb.KV/Put"),
        (Self::Range, "etcdserverpb.KV/Range"),
        (Self::Txn, "etcdserverpb.KV/Txn"),
        (Self::Watch, "etcdserverpb.Watch/Watch"),
        (Self::LeaseGrant, "etcdserverpb.Lease/LeaseGrant"),
        (Self::Compact, "etcdserverpb.KV/Compact"),
        (Self::MoveLeader, "etcdserverpb.Maintenance/MoveLeader"),
    ];
}

/// Makes calls on a shared connection.
#[derive(Clone)]
pub struct Caller {
    sender: SendRequest<Bytes>,
    /// In the order of [`Rpc::ALL`].
    uris: Rc<[Uri]>,
}

impl Caller {
    /// A message there, the status of the answer back.
    ///
    /// # Errors
    /// The server's refusal, or `Unknown` when the connection failed.
    pub async fn call(&mut self, method: Rpc, message: &impl Message) -> Result<(), Status> {
        self.exchange(method, message, |_| {}).await
    }

    /// A message there, the answer back.
    ///
    /// # Errors
    /// As for `call`.
    pub async fn ask<T: Message + Default>(
        &mut self,
        method: Rpc,
        message: &impl Message,
    ) -> Result<T, Status> {
        let mut answer = BytesMut::new();
        self.exchange(method, message, |data| answer.extend_from_slice(data)).await?;
        if answer.len() < PREFIX_BYTES {
            return Err(Status::unknown("an answer without a message"));
        }
        T::decode(answer.split_off(PREFIX_BYTES).freeze()).map_err(|error| Status::unknown(error.to_string()))
    }

    /// Opens a stream with its first message.
    ///
    /// # Errors
    /// As for `call`.
    pub async fn open(&mut self, method: Rpc, first: &impl Message) -> Result<Stream, Status> {
        let (answer, mut requests) = self.begin(method).await?;
        requests.send_data(frame(first), false).map_err(|error| broken(&error))?;
        let (head, answers) = answer.await.map_err(|error| broken(&error))?.into_parts();
        if let Some(status) = Status::from_header_map(&head.headers) {
            outcome(status)?;
        }
        Ok(Stream { requests, answers, buffer: BytesMut::new() })
    }

    async fn begin(
        &mut self,
        method: Rpc,
    ) -> Result<(h2::client::ResponseFuture, SendStream<Bytes>), Status> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.uris[method as usize].clone())
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .body(())
            .map_err(|error| Status::unknown(error.to_string()))?;
        let mut ready = self.sender.clone().ready().await.map_err(|error| broken(&error))?;
        ready.send_request(request, false).map_err(|error| broken(&error))
    }

    async fn exchange(
        &mut self,
        method: Rpc,
        message: &impl Message,
        mut take: impl FnMut(&[u8]),
    ) -> Result<(), Status> {
        let (answer, mut requests) = self.begin(method).await?;
        requests.send_data(frame(message), true).map_err(|error| broken(&error))?;
        let (head, mut body) = answer.await.map_err(|error| broken(&error))?.into_parts();
        // A refusal without a message has its status in the head.
        if let Some(status) = Status::from_header_map(&head.headers) {
            return outcome(status);
        }
        while let Some(data) = body.data().await {
            let data = data.map_err(|error| broken(&error))?;
            take(&data);
            body.flow_control().release_capacity(data.len()).map_err(|error| broken(&error))?;
        }
        let trailers = body.trailers().await.map_err(|error| broken(&error))?;
        match trailers.as_ref().and_then(Status::from_header_map) {
            Some(status) => outcome(status),
            None => Err(Status::unknown("an answer without a status")),
        }
    }
}

/// A stream of messages in both directions.
pub struct Stream {
    requests: SendStream<Bytes>,
    answers: RecvStream,
    buffer: BytesMut,
}

impl Stream {
    /// Sends a further message.
    ///
    /// # Errors
    /// `Unknown` when the connection failed.
    pub fn send(&mut self, message: &impl Message) -> Result<(), Status> {
        self.requests.send_data(frame(message), false).map_err(|error| broken(&error))
    }

    /// The next message.
    ///
    /// # Errors
    /// The status with which the server ended the stream, or `Unknown` when the connection failed.
    pub async fn next<T: Message + Default>(&mut self) -> Result<T, Status> {
        loop {
            if let Some(message) = unframe(&mut self.buffer) {
                return T::decode(message).map_err(|error| Status::unknown(error.to_string()));
            }
            let Some(data) = self.answers.data().await else { break };
            let data = data.map_err(|error| broken(&error))?;
            self.buffer.extend_from_slice(&data);
            self.answers.flow_control().release_capacity(data.len()).map_err(|error| broken(&error))?;
        }
        let trailers = self.answers.trailers().await.map_err(|error| broken(&error))?;
        let status = trailers.as_ref().and_then(Status::from_header_map);
        Err(status.unwrap_or_else(|| Status::unknown("the stream was closed")))
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

/// The first message of what was received, once it is there as a whole.
fn unframe(buffer: &mut BytesMut) -> Option<Bytes> {
    let length = buffer.get(1..PREFIX_BYTES)?.try_into().map(u32::from_be_bytes).ok()?;
    let end = PREFIX_BYTES + usize::try_from(length).ok()?;
    if buffer.len() < end {
        return None;
    }
    let mut message = buffer.split_to(end);
    message.advance(PREFIX_BYTES);
    Some(message.freeze())
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
    caller: Caller,
    /// Driven by a task that ends with the connection.
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
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

    /// The present connection, or a new one.
    pub async fn caller(&self) -> Result<Caller, String> {
        if let Some(caller) = self.present() {
            return Ok(caller);
        }
        let _one_at_a_time = self.connecting.lock().await;
        if let Some(caller) = self.present() {
            return Ok(caller);
        }
        let endpoint = &self.endpoints[self.next.get() % self.endpoints.len()];
        self.next.set(self.next.get() + 1);
        let fresh = tokio::time::timeout(CONNECT_DEADLINE, connect(endpoint)).await;
        let fresh =
            fresh.unwrap_or_else(|_| Err(format!("cannot connect to {endpoint}: no answer in time")))?;
        *self.current.borrow_mut() = Some(fresh);
        self.present().ok_or_else(|| format!("the connection to {endpoint} was closed at once"))
    }

    /// Gives the present connection up: the next call goes to the next endpoint.
    pub fn turn_away(&self) {
        self.current.borrow_mut().take();
    }

    fn present(&self) -> Option<Caller> {
        let current = self.current.borrow();
        let connection = current.as_ref().filter(|connection| !connection.driver.is_finished())?;
        Some(connection.caller.clone())
    }
}

async fn connect(endpoint: &str) -> Result<Connection, String> {
    let failed = |reason: &str| format!("cannot connect to {endpoint}: {reason}");
    let address = authority(endpoint).map_err(|error| failed(&error.to_string()))?;
    let uri = |(_, path): &(Rpc, &str)| {
        format!("http://{address}/{path}").parse::<Uri>().map_err(|_| failed("not an address"))
    };
    let uris: Rc<[Uri]> = Rpc::ALL.iter().map(uri).collect::<Result<_, _>>()?;
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
    Ok(Connection { caller: Caller { sender, uris }, driver })
}

#[cfg(test)]
mod tests {
    use duet_etcd_api::etcdserverpb::PutRequest;

    use super::*;

    #[test]
    fn methods_are_found_by_their_place() {
        for (index, (method, _)) in Rpc::ALL.iter().enumerate() {
            assert_eq!(*method as usize, index);
        }
    }

    #[test]
    fn messages_are_cut_from_whatever_pieces_arrive() {
        let sent: Vec<PutRequest> = [0, 1, 300]
            .map(|length| PutRequest { key: Bytes::from(vec![7; length]), ..Default::default() })
            .into();
        let bytes: Vec<u8> = sent.iter().flat_map(|message| frame(message).to_vec()).collect();
        for piece in [1, 2, 7, 64, bytes.len()] {
            let (mut buffer, mut received) = (BytesMut::new(), Vec::new());
            for part in bytes.chunks(piece) {
                buffer.extend_from_slice(part);
                while let Some(message) = unframe(&mut buffer) {
                    received.push(PutRequest::decode(message).unwrap());
                }
            }
            assert_eq!(received, sent, "in pieces of {piece}");
        }
    }
}
