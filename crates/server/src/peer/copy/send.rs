//! Sending copies.

use std::io::Write;
use std::net::TcpStream;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use duet_protocol::{Epoch, Input, Instant, Position};
use duet_storage::StateStore;
use parking_lot::Mutex;

use super::{CHUNK_BYTES, CopyError, CopyProgress, META_BYTES, STALL};
use crate::clock;
use crate::fatal::Fate;
use crate::inbox::Inbox;
use crate::peer::codec::{self, CopyFrame};
use crate::peer::frame;
use crate::peer::hello::{Hello, Purpose};
use crate::peer::link::dial;
use crate::threads;

/// How long the receiver may take to make the whole copy durable after its last row.
const READY: Duration = Duration::from_mins(2);

/// Pause after a copy that failed, before the core hears of it and tries again.
const RETRY: Duration = Duration::from_secs(1);

/// Sends copies, one at a time.
pub(crate) struct CopySender {
    pub(crate) me: Hello,
    pub(crate) peer: String,
    pub(crate) state: StateStore,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) fate: Fate,
    /// Set when the copy that is being sent is not wanted any more.
    pub(crate) superseded: Mutex<Arc<AtomicBool>>,
    pub(crate) progress: Arc<CopyProgress>,
    /// Bytes a second at most; `None`: as fast as it goes.
    pub(crate) rate: Option<NonZeroU64>,
}

impl CopySender {
    /// Begins to send a copy; `SnapshotSendEnded` follows.
    pub(crate) fn start(self: &Arc<Self>, epoch: Epoch) {
        let superseded = Arc::new(AtomicBool::new(false));
        std::mem::replace(&mut *self.superseded.lock(), superseded.clone()).store(true, Ordering::SeqCst);
        let sender = self.clone();
        let run = move || {
            threads::give_way();
            tracing::info!("sending a whole copy of the state to the peer");
            let sent = sender.send(epoch, &superseded);
            if !superseded.load(Ordering::SeqCst) {
                sender.progress.end();
            }
            match sent {
                Ok(rows) => tracing::info!("the peer has the whole copy, {rows} rows were sent"),
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
        let (mut stream, _) = dial(&self.peer, &Hello { purpose: Purpose::Copy, ..self.me.clone() })?;
        stream.set_write_timeout(Some(STALL))?;
        stream.set_read_timeout(Some(READY))?;
        self.send_on(&mut stream, epoch, superseded)
    }

    /// The same, greeted already. How many rows were sent.
    pub(super) fn send_on(
        &self,
        stream: &mut TcpStream,
        epoch: Epoch,
        superseded: &AtomicBool,
    ) -> Result<u64, CopyError> {
        let CopyFrame::Have(mark) = codec::read_copy(frame::read(stream)?)? else {
            return Err(CopyError::OutOfTurn);
        };
        let mut snapshot = self.state.snapshot()?;
        let goes_on = match mark {
            Some(mark) => snapshot.resume(&mark)?,
            None => false,
        };
        if goes_on {
            tracing::info!("the peer has {} rows of it already", snapshot.rows_read());
        }
        let mut buffer = Vec::new();
        send(stream, &mut buffer, &CopyFrame::Begin { goes_on })?;
        let skipped = snapshot.bytes_read();
        self.progress.begin(skipped, snapshot.bytes());
        let began = clock::now();
        let mut rows = 0_u64;
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
            send(stream, &mut buffer, &CopyFrame::Rows(chunk))?;
            self.progress.advance(snapshot.bytes_read());
            self.keep_to_rate(began, snapshot.bytes_read() - skipped);
        }
        let (position, meta) = (snapshot.position(), snapshot.meta());
        for frame in last_frames(epoch, position, snapshot.rows_read(), meta)? {
            send(stream, &mut buffer, &frame)?;
        }
        match codec::read_copy(frame::read(stream)?)? {
            CopyFrame::Ready => Ok(rows),
            _ => Err(CopyError::OutOfTurn),
        }
    }

    /// Waits until so many bytes may have left since then.
    fn keep_to_rate(&self, began: Instant, bytes: u64) {
        if let Some(rate) = self.rate {
            let due = u128::from(bytes) * 1_000_000 / u128::from(rate.get());
            let due = Duration::from_micros(u64::try_from(due).unwrap_or(u64::MAX));
            std::thread::sleep(clock::until(began.after(due)));
        }
    }
}

/// Sends one frame; `buffer` is only there to be used again.
pub(super) fn send(
    stream: &mut impl Write,
    buffer: &mut Vec<u8>,
    copy_frame: &CopyFrame,
) -> std::io::Result<()> {
    buffer.clear();
    frame::write(buffer, |body| codec::write_copy(body, copy_frame));
    stream.write_all(buffer)
}

/// What follows the rows: the state machine's record in parts, and the end.
pub(super) fn last_frames(
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
