//! A whole copy of the state, for a peer that the log alone cannot bring up to date: blank, or away for too long.
//!
//! The primary dials a connection of its own for it, so that heartbeats and appends never wait behind it; TCP's flow control
//! bounds what is in memory. The copy is installed only when the core says so.

use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use duet_protocol::{DiskId, Epoch, Input, Position};
use duet_storage::{DataDir, ReadySnapshot, SnapshotBuilder, StateError, StateStore};
use parking_lot::Mutex;

use super::codec::{self, CopyFrame};
use super::fields::Malformed;
use super::frame::{self, FrameError};
use super::hello::{Hello, Purpose};
use super::link::{LinkError, dial};
use crate::failpoint;
use crate::fatal::Fate;
use crate::inbox::Inbox;

/// Bytes of rows in one frame: large enough to keep disk and network busy, small enough to be of no weight in memory.
const CHUNK_BYTES: usize = 512 << 10;

/// How long the receiver may take to make the whole copy durable after its last row.
const READY: Duration = Duration::from_mins(2);

/// How long a receiver may be busy with writing what it has, before it takes more.
const STALL: Duration = Duration::from_secs(30);

/// Pause after a copy that failed, before the core hears of it and tries again.
const RETRY: Duration = Duration::from_secs(1);

/// Why a copy was not sent or not taken. Another one is tried.
#[derive(Debug, thiserror::Error)]
enum CopyError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the connection failed: {0}")]
    Connection(#[from] std::io::Error),
    #[error("a row of {0} bytes is too large to be sent")]
    RowTooLarge(usize),
    #[error("the copy is not complete: {rows} rows of {expected} arrived")]
    Incomplete { rows: u64, expected: u64 },
    #[error("it came out of turn")]
    OutOfTurn,
    #[error("it is not needed any more")]
    Superseded,
    /// Fatal, unlike the others.
    #[error(transparent)]
    Storage(#[from] StateError),
}

/// Sends copies, one at a time.
pub(crate) struct CopySender {
    pub(crate) me: Hello,
    pub(crate) peer: String,
    pub(crate) state: StateStore,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) fate: Fate,
    /// Set when the copy that is being sent is not wanted any more.
    pub(crate) superseded: Mutex<Arc<AtomicBool>>,
}

impl CopySender {
    /// Begins to send a copy; `SnapshotSendEnded` follows.
    pub(crate) fn start(self: &Arc<Self>, epoch: Epoch) {
        let superseded = Arc::new(AtomicBool::new(false));
        std::mem::replace(&mut *self.superseded.lock(), superseded.clone()).store(true, Ordering::SeqCst);
        let sender = self.clone();
        let run = move || {
            tracing::info!("sending a whole copy of the state to the peer");
            match sender.send(epoch, &superseded) {
                Ok(rows) => tracing::info!("the peer has the whole copy, {rows} rows"),
                Err(CopyError::Storage(error)) => return Err(error),
                Err(error) => {
                    tracing::warn!("the copy to the peer was not completed: {error}");
                    std::thread::sleep(RETRY);
                }
            }
            if !superseded.load(Ordering::SeqCst) {
                sender.inbox.event(Input::SnapshotSendEnded);
            }
            Ok(())
        };
        if let Err(error) = self.fate.spawn("copy-out", run) {
            tracing::warn!("{error}");
            self.inbox.event(Input::SnapshotSendEnded);
        }
    }

    fn send(&self, epoch: Epoch, superseded: &AtomicBool) -> Result<u64, CopyError> {
        let mut snapshot = self.state.snapshot()?;
        let (mut stream, _) = dial(&self.peer, &Hello { purpose: Purpose::Copy, ..self.me.clone() })?;
        stream.set_write_timeout(Some(STALL))?;
        stream.set_read_timeout(Some(READY))?;
        let mut rows = 0_u64;
        let mut buffer = Vec::new();
        loop {
            if superseded.load(Ordering::SeqCst) || self.fate.has_ended() {
                return Err(CopyError::Superseded);
            }
            let chunk = snapshot.next_chunk(CHUNK_BYTES)?;
            if chunk.is_empty() {
                break;
            }
            rows += chunk.len() as u64;
            let bytes: usize = chunk.iter().map(|(key, value)| key.len() + value.len() + 8).sum();
            if bytes + 16 > frame::FRAME_BYTES {
                return Err(CopyError::RowTooLarge(bytes));
            }
            buffer.clear();
            frame::write(&mut buffer, |body| codec::write_copy(body, &CopyFrame::Rows(chunk)));
            stream.write_all(&buffer)?;
        }
        buffer.clear();
        let (position, meta) = (snapshot.position(), snapshot.meta());
        let end = CopyFrame::End { epoch, position, rows, meta };
        frame::write(&mut buffer, |body| codec::write_copy(body, &end));
        stream.write_all(&buffer)?;
        match codec::read_copy(frame::read(&mut stream)?)? {
            CopyFrame::Ready => Ok(rows),
            CopyFrame::Rows(_) | CopyFrame::End { .. } => Err(CopyError::OutOfTurn),
        }
    }
}

/// Takes copies, one at a time, and keeps a complete one until the core decides about it.
pub(crate) struct CopyReceiver {
    data: Arc<DataDir>,
    receiving: AtomicBool,
    received: Mutex<Option<ReadySnapshot>>,
}

impl CopyReceiver {
    pub(crate) fn new(data: Arc<DataDir>) -> Self {
        Self { data, receiving: AtomicBool::new(false), received: Mutex::new(None) }
    }

    /// The complete copy, to be installed or dropped.
    pub(crate) fn take(&self) -> Option<ReadySnapshot> {
        self.received.lock().take()
    }

    /// Works a connection that brings a copy.
    pub(crate) fn receive(&self, stream: &TcpStream, from: DiskId, inbox: &Inbox, fate: &Fate) {
        if self.received.lock().is_some() || self.receiving.swap(true, Ordering::SeqCst) {
            tracing::info!("a copy of the peer is refused: another one is being taken");
            return;
        }
        tracing::info!("receiving a whole copy of the state from disk {from}");
        let result = self.take_all(stream, inbox);
        self.receiving.store(false, Ordering::SeqCst);
        match result {
            Ok(position) => tracing::info!("the whole copy has arrived, it ends at {position}"),
            Err(CopyError::Storage(error)) => fate.fatal(error.to_string()),
            Err(error) => tracing::warn!("the copy from the peer was not completed: {error}"),
        }
    }

    fn take_all(&self, mut stream: &TcpStream, inbox: &Inbox) -> Result<Position, CopyError> {
        stream.set_read_timeout(Some(STALL))?;
        failpoint::reach("snapshot.receive.before");
        let mut builder = self.data.receive_snapshot()?;
        let mut source = BufReader::with_capacity(CHUNK_BYTES, stream);
        let mut rows = 0_u64;
        let (epoch, position, meta) = loop {
            match codec::read_copy(frame::read(&mut source)?)? {
                CopyFrame::Rows(chunk) => {
                    rows += chunk.len() as u64;
                    put(&mut builder, &chunk)?;
                }
                CopyFrame::End { epoch, position, rows: expected, meta } => {
                    if rows != expected {
                        return Err(CopyError::Incomplete { rows, expected });
                    }
                    break (epoch, position, meta);
                }
                CopyFrame::Ready => return Err(CopyError::OutOfTurn),
            }
        };
        let ready = builder.finish(position, meta)?;
        failpoint::reach("snapshot.receive.after");
        *self.received.lock() = Some(ready);
        inbox.event(Input::SnapshotReceived { epoch, position });
        let mut answer = Vec::new();
        frame::write(&mut answer, |body| codec::write_copy(body, &CopyFrame::Ready));
        stream.write_all(&answer)?;
        Ok(position)
    }
}

fn put(builder: &mut SnapshotBuilder, chunk: &[(Bytes, Bytes)]) -> Result<(), StateError> {
    builder.put_chunk(chunk.iter().map(|(key, value)| (key.as_ref(), value.as_ref())))
}
