//! A whole copy of the state, for a peer that the log alone cannot bring up to date: blank, or away for too long.
//!
//! The primary dials a connection of its own for it, so that heartbeats and appends never wait behind it; TCP's flow control
//! bounds what is in memory. The copy is installed only when the core says so.

use std::io::{BufReader, Write};
use std::net::{Shutdown, TcpStream};
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

/// Largest record of the state machine that is sent with a copy, in bytes: tens of millions of leases.
const META_BYTES: usize = 512 << 20;

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
    #[error("the state machine's record of {0} bytes is too large to be sent")]
    MetaTooLarge(usize),
    #[error("the copy is not complete: {rows} rows of {expected} arrived")]
    Incomplete { rows: u64, expected: u64 },
    #[error("the copy is not complete: a part of the state machine's record is missing")]
    IncompleteRecord,
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
        let (position, meta) = (snapshot.position(), snapshot.meta());
        for frame in last_frames(epoch, position, rows, meta)? {
            buffer.clear();
            frame::write(&mut buffer, |body| codec::write_copy(body, &frame));
            stream.write_all(&buffer)?;
        }
        match codec::read_copy(frame::read(&mut stream)?)? {
            CopyFrame::Ready => Ok(rows),
            CopyFrame::Rows(_) | CopyFrame::Meta(_) | CopyFrame::End { .. } => Err(CopyError::OutOfTurn),
        }
    }
}

/// What follows the rows: the state machine's record in parts, and the end.
fn last_frames(
    epoch: Epoch,
    position: Position,
    rows: u64,
    meta: Option<Bytes>,
) -> Result<Vec<CopyFrame>, CopyError> {
    let length = meta.as_ref().map(Bytes::len);
    if let Some(length) = length.filter(|length| *length > META_BYTES) {
        return Err(CopyError::MetaTooLarge(length));
    }
    let meta = meta.unwrap_or_default();
    let parts = (0..meta.len()).step_by(CHUNK_BYTES);
    let mut frames: Vec<CopyFrame> =
        parts.map(|from| CopyFrame::Meta(meta.slice(from..meta.len().min(from + CHUNK_BYTES)))).collect();
    frames.push(CopyFrame::End { epoch, position, rows, meta: length.map(|length| length as u64) });
    Ok(frames)
}

/// A complete copy that waits to be installed or dropped.
pub(crate) struct ReceivedCopy {
    pub(crate) ready: ReadySnapshot,
    /// To be kept until nobody needs the copy's file any more.
    pub(crate) place: CopyPlace,
}

/// The one place in the data directory where a copy arrives. Who holds this, uses it.
pub(crate) struct CopyPlace(Arc<AtomicBool>);

impl CopyPlace {
    fn take(taken: &Arc<AtomicBool>) -> Option<Self> {
        (!taken.swap(true, Ordering::SeqCst)).then(|| Self(taken.clone()))
    }
}

impl Drop for CopyPlace {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// Takes copies, one at a time, and keeps a complete one until the core decides about it.
pub(crate) struct CopyReceiver {
    data: Arc<DataDir>,
    place_taken: Arc<AtomicBool>,
    received: Mutex<Option<ReceivedCopy>>,
    /// The connection that a copy arrives on.
    current: Mutex<Option<TcpStream>>,
    closed: AtomicBool,
}

impl CopyReceiver {
    pub(crate) fn new(data: Arc<DataDir>) -> Self {
        Self {
            data,
            place_taken: Arc::default(),
            received: Mutex::default(),
            current: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// The complete copy, to be installed or dropped.
    pub(crate) fn take(&self) -> Option<ReceivedCopy> {
        self.received.lock().take()
    }

    /// Takes nothing more, and gives up what is arriving.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        if let Some(stream) = &*self.current.lock() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Works a connection that brings a copy.
    pub(crate) fn receive(&self, stream: &TcpStream, from: DiskId, inbox: &Inbox, fate: &Fate) {
        let Some(place) = CopyPlace::take(&self.place_taken) else {
            tracing::info!("a copy of the peer is refused: another one is being taken");
            return;
        };
        tracing::info!("receiving a whole copy of the state from disk {from}");
        *self.current.lock() = stream.try_clone().ok();
        let result = self.take_all(stream, place, inbox, fate);
        *self.current.lock() = None;
        match result {
            Ok(position) => tracing::info!("the whole copy has arrived, it ends at {position}"),
            Err(CopyError::Storage(error)) => fate.fatal(error.to_string()),
            Err(error) => tracing::warn!("the copy from the peer was not completed: {error}"),
        }
    }

    fn take_all(
        &self,
        mut stream: &TcpStream,
        place: CopyPlace,
        inbox: &Inbox,
        fate: &Fate,
    ) -> Result<Position, CopyError> {
        stream.set_read_timeout(Some(STALL))?;
        failpoint::reach("snapshot.receive.before");
        let mut builder = self.data.receive_snapshot()?;
        let mut source = BufReader::with_capacity(CHUNK_BYTES, stream);
        let mut rows = 0_u64;
        let mut record = Vec::new();
        let (epoch, position, meta) = loop {
            if self.closed.load(Ordering::SeqCst) || fate.has_ended() {
                return Err(CopyError::Superseded);
            }
            match codec::read_copy(frame::read(&mut source)?)? {
                CopyFrame::Rows(chunk) => {
                    rows += chunk.len() as u64;
                    put(&mut builder, &chunk)?;
                }
                CopyFrame::Meta(part) => {
                    if record.len() + part.len() > META_BYTES {
                        return Err(CopyError::MetaTooLarge(record.len() + part.len()));
                    }
                    record.extend_from_slice(&part);
                }
                CopyFrame::End { epoch, position, rows: expected, meta } => {
                    if rows != expected {
                        return Err(CopyError::Incomplete { rows, expected });
                    }
                    if record.len() as u64 != meta.unwrap_or(0) {
                        return Err(CopyError::IncompleteRecord);
                    }
                    break (epoch, position, meta.map(|_| Bytes::from(record)));
                }
                CopyFrame::Ready => return Err(CopyError::OutOfTurn),
            }
        };
        let ready = builder.finish(position, meta)?;
        failpoint::reach("snapshot.receive.after");
        *self.received.lock() = Some(ReceivedCopy { ready, place });
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use duet_protocol::{ApplianceId, ClusterId, Lsn, OwnState};
    use duet_storage::{LogOptions, RealDisk, RecoverOptions};

    use super::*;

    const POSITION: Position = Position { lsn: Lsn(7), ..Position::EMPTY };

    fn receiver(folder: &std::path::Path) -> (Arc<DataDir>, Arc<CopyReceiver>) {
        let own = OwnState::blank(ClusterId(1), ApplianceId::B, DiskId(2));
        let data = Arc::new(DataDir::create(Arc::new(RealDisk), &folder.join("data"), &own).unwrap());
        (data.clone(), Arc::new(CopyReceiver::new(data)))
    }

    /// Begins to receive on a thread; the sender's end, and what is told to the core.
    fn begin(receiver: &Arc<CopyReceiver>) -> (TcpStream, Arc<Inbox>, std::thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let inbox = Arc::<Inbox>::default();
        let (receiver, told) = (receiver.clone(), inbox.clone());
        let fate = Fate::new(Arc::default(), Arc::default());
        let thread = std::thread::spawn(move || receiver.receive(&stream, DiskId(1), &told, &fate));
        (sender, inbox, thread)
    }

    fn send_all(sender: &mut TcpStream, frames: Vec<CopyFrame>) {
        for copy_frame in frames {
            let mut buffer = Vec::new();
            frame::write(&mut buffer, |body| codec::write_copy(body, &copy_frame));
            sender.write_all(&buffer).unwrap();
        }
    }

    #[test]
    fn a_record_larger_than_a_frame_arrives_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (data, receiver) = receiver(folder.path());
        let meta: Vec<u8> = (0..=250).cycle().take(frame::FRAME_BYTES + 1_000).collect();
        let meta = Bytes::from(meta);
        let (mut sender, inbox, thread) = begin(&receiver);
        send_all(&mut sender, last_frames(Epoch(1), POSITION, 0, Some(meta.clone())).unwrap());
        thread.join().unwrap();
        let told = inbox.take(Duration::ZERO, false).inputs;
        assert_eq!(told, [Input::SnapshotReceived { epoch: Epoch(1), position: POSITION }]);
        let options = RecoverOptions { log: LogOptions::default(), cache_bytes: 1 << 20 };
        let ready = receiver.take().unwrap().ready;
        let parts = data.install_over_damage(ready, options).unwrap();
        assert_eq!(parts.store.meta(), Some(meta));
    }

    #[test]
    fn a_part_of_the_record_that_is_missing_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let (_, receiver) = receiver(folder.path());
        let (mut sender, inbox, thread) = begin(&receiver);
        let mut frames =
            last_frames(Epoch(1), POSITION, 0, Some(Bytes::from(vec![1; CHUNK_BYTES + 1]))).unwrap();
        frames.remove(1);
        send_all(&mut sender, frames);
        thread.join().unwrap();
        assert!(inbox.take(Duration::ZERO, false).inputs.is_empty() && receiver.take().is_none());
    }

    #[test]
    fn no_copy_arrives_over_one_that_is_still_needed() {
        let folder = tempfile::tempdir().unwrap();
        let (_, receiver) = receiver(folder.path());
        let (mut sender, _, thread) = begin(&receiver);
        send_all(&mut sender, last_frames(Epoch(1), POSITION, 0, None).unwrap());
        thread.join().unwrap();
        let copy = receiver.take().unwrap();
        // The core has taken it, and it is not installed yet.
        let (_sender, inbox, thread) = begin(&receiver);
        thread.join().unwrap();
        assert!(inbox.take(Duration::ZERO, false).inputs.is_empty(), "refused at once");
        drop(copy);
        let (mut sender, inbox, thread) = begin(&receiver);
        send_all(&mut sender, last_frames(Epoch(2), POSITION, 0, None).unwrap());
        thread.join().unwrap();
        assert_eq!(inbox.take(Duration::ZERO, false).inputs.len(), 1);
    }

    #[test]
    fn a_stop_does_not_wait_for_a_copy() {
        let folder = tempfile::tempdir().unwrap();
        let (_, receiver) = receiver(folder.path());
        let (_sender, _, thread) = begin(&receiver);
        while receiver.current.lock().is_none() {
            std::thread::yield_now();
        }
        let began = std::time::Instant::now();
        receiver.close();
        thread.join().unwrap();
        assert!(began.elapsed() < STALL / 2);
        let (_sender, _, thread) = begin(&receiver);
        thread.join().unwrap();
        assert!(began.elapsed() < STALL / 2, "nothing more is taken");
    }
}
