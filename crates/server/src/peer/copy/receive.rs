//! Receiving copies.

use std::io::{BufReader, Read};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use duet_protocol::{DiskId, Epoch, Input, Position};
use duet_storage::{DataDir, ReadySnapshot, SnapshotBuilder, StateError};
use parking_lot::Mutex;

use super::send::send;
use super::{CHUNK_BYTES, CopyError, META_BYTES, STALL};
use crate::failpoint;
use crate::fatal::Fate;
use crate::inbox::Inbox;
use crate::peer::codec::{self, CopyFrame};
use crate::peer::frame;
use crate::threads;

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

/// A copy of which some rows have arrived.
struct Arriving {
    builder: SnapshotBuilder,
    rows: u64,
    /// Whose rows they are: those of another disk are never continued.
    from: DiskId,
    place: CopyPlace,
}

impl Arriving {
    fn put(&mut self, chunk: &[(Bytes, Bytes)]) -> Result<(), StateError> {
        self.rows += chunk.len() as u64;
        self.builder.put_chunk(chunk.iter().map(|(key, value)| (key.as_ref(), value.as_ref())))
    }
}

/// The end of a copy, as it was sent.
struct End {
    epoch: Epoch,
    position: Position,
    meta: Option<Bytes>,
}

/// Takes copies, one at a time, and keeps a complete one until the core decides about it.
pub(crate) struct CopyReceiver {
    data: Arc<DataDir>,
    place_taken: Arc<AtomicBool>,
    /// One that was interrupted, to be continued by the next. Its file stays until then or until a restart, which forgets it.
    interrupted: Mutex<Option<Arriving>>,
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
            interrupted: Mutex::default(),
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

    /// Whether a copy is arriving now.
    #[cfg(test)]
    pub(super) fn is_busy(&self) -> bool {
        self.current.lock().is_some()
    }

    /// Works a connection that brings a copy.
    pub(crate) fn receive(&self, stream: &TcpStream, from: DiskId, inbox: &Inbox, fate: &Fate) {
        let arriving = match self.begin(from) {
            Ok(Some(arriving)) => arriving,
            Ok(None) => {
                tracing::info!("a copy of the peer is refused: another one is being taken");
                return;
            }
            Err(error) => return fate.fatal(error.to_string()),
        };
        tracing::info!("receiving a whole copy of the state from disk {from}");
        threads::give_way();
        *self.current.lock() = stream.try_clone().ok();
        let result = self.take_all(stream, arriving, inbox, fate);
        *self.current.lock() = None;
        match result {
            Ok(position) => tracing::info!("the whole copy has arrived, it ends at {position}"),
            Err(CopyError::Storage(error)) => fate.fatal(error.to_string()),
            Err(error) => tracing::warn!("the copy from the peer was not completed: {error}"),
        }
    }

    /// The interrupted copy or a new one; `None` while another one needs the place.
    fn begin(&self, from: DiskId) -> Result<Option<Arriving>, StateError> {
        if let Some(arriving) = self.interrupted.lock().take()
            && arriving.from == from
        {
            return Ok(Some(arriving));
        }
        let Some(place) = CopyPlace::take(&self.place_taken) else { return Ok(None) };
        failpoint::reach("snapshot.receive.before");
        let builder = self.data.receive_snapshot()?;
        Ok(Some(Arriving { builder, rows: 0, from, place }))
    }

    fn take_all(
        &self,
        mut stream: &TcpStream,
        mut arriving: Arriving,
        inbox: &Inbox,
        fate: &Fate,
    ) -> Result<Position, CopyError> {
        let end = match self.take_rows(stream, &mut arriving, fate) {
            Ok(end) => end,
            Err(error) => {
                let is_cut = matches!(error, CopyError::Frame(_) | CopyError::Connection(_));
                if is_cut && !self.closed.load(Ordering::SeqCst) {
                    *self.interrupted.lock() = Some(arriving);
                }
                return Err(error);
            }
        };
        let Arriving { builder, place, .. } = arriving;
        let End { epoch, position, meta } = end;
        let ready = builder.finish(position, meta)?;
        failpoint::reach("snapshot.receive.after");
        *self.received.lock() = Some(ReceivedCopy { ready, place });
        inbox.event(Input::SnapshotReceived { epoch, position });
        send(&mut stream, &mut Vec::new(), &CopyFrame::Ready)?;
        Ok(position)
    }

    fn take_rows(
        &self,
        mut stream: &TcpStream,
        arriving: &mut Arriving,
        fate: &Fate,
    ) -> Result<End, CopyError> {
        stream.set_read_timeout(Some(STALL))?;
        send(&mut stream, &mut Vec::new(), &CopyFrame::Have(arriving.builder.mark()))?;
        let mut source = BufReader::with_capacity(CHUNK_BYTES, stream);
        let CopyFrame::Begin { goes_on } = self.next(&mut source, fate)? else {
            return Err(CopyError::OutOfTurn);
        };
        if !goes_on && arriving.rows > 0 {
            arriving.builder = self.data.receive_snapshot()?;
            arriving.rows = 0;
        }
        let mut record = Vec::new();
        loop {
            match self.next(&mut source, fate)? {
                CopyFrame::Rows(chunk) => arriving.put(&chunk)?,
                CopyFrame::Meta(part) => {
                    if record.len() + part.len() > META_BYTES {
                        return Err(CopyError::MetaTooLarge(record.len() + part.len()));
                    }
                    record.extend_from_slice(&part);
                }
                CopyFrame::End { epoch, position, rows: expected, meta } => {
                    if arriving.rows != expected {
                        return Err(CopyError::Incomplete { rows: arriving.rows, expected });
                    }
                    if record.len() as u64 != meta.unwrap_or(0) {
                        return Err(CopyError::IncompleteRecord);
                    }
                    return Ok(End { epoch, position, meta: meta.map(|_| Bytes::from(record)) });
                }
                CopyFrame::Ready | CopyFrame::Have(_) | CopyFrame::Begin { .. } => {
                    return Err(CopyError::OutOfTurn);
                }
            }
        }
    }

    fn next(&self, source: &mut impl Read, fate: &Fate) -> Result<CopyFrame, CopyError> {
        if self.closed.load(Ordering::SeqCst) || fate.has_ended() {
            return Err(CopyError::Superseded);
        }
        Ok(codec::read_copy(frame::read(source)?)?)
    }
}
