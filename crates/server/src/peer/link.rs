//! The one connection that carries the protocol's messages, from dialling to its end.
//!
//! Each connection has a reader (which is also the thread that dialled or accepted it) and a writer. A connection's end is
//! passed on before the next one's beginning: `turn` is held for as long as a connection lives.

use std::collections::VecDeque;
use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use duet_protocol::{ApplianceId, Entry, Input, Lsn};
use duet_storage::{LogReader, ReadError};
use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::net::SendFlags;

use super::board::PeerBoard;
use super::codec;
use super::copy::CopyReceiver;
use super::frame::{self, FrameError};
use super::hello::{self, Hello, HelloError, Mismatch, Purpose};
use super::outbox::{Outbox, Outgoing};
use crate::error::in_words;
use crate::fatal::Fate;
use crate::inbox::Inbox;
use crate::tail::Tail;

/// How long one attempt to connect may take. Beyond any round trip between two sites; a silent address is tried again.
const CONNECT: Duration = Duration::from_millis(500);

/// How long the other side may take for its whole hello: it is answered from memory.
const HANDSHAKE: Duration = Duration::from_secs(1);

/// Pause between attempts to connect. Short, as a restarted peer should be found at once; a refused attempt costs little.
const REDIAL: Duration = Duration::from_millis(50);

/// Pause after the peer was found to be the wrong one: only a person can change that.
const REDIAL_WRONG: Duration = Duration::from_secs(1);

/// A connection that brings nothing, or takes nothing, for this long is given up and made anew. Far above the protocol's own
/// time for a missing peer (0.3 s): this only gets rid of connections that died without a word.
const SILENCE: Duration = Duration::from_secs(2);

/// Read from the socket at once, in bytes.
const READ_BUFFER: usize = 256 << 10;

/// Written to the socket at once, in bytes, when several frames wait.
const WRITE_BUFFER: usize = 1 << 20;

/// Bytes of commands that the driver writes by itself at most, in one turn: more is left to the writer, so that copying it
/// does not keep the driver from its other work.
const DIRECT_BYTES: usize = 256 << 10;

/// Connections that may be in their handshake at the same time: strangers cannot take more threads than this.
const HANDSHAKES: usize = 16;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("cannot reach the peer at {address}: {}", in_words(reason))]
    Unreachable { address: String, reason: std::io::Error },
    #[error("the peer at {address}: {reason}")]
    Frame { address: String, reason: FrameError },
    #[error("the peer at {address}: {reason}")]
    Hello { address: String, reason: HelloError },
    #[error("the peer at {address}: {reason}")]
    Mismatch { address: String, reason: Mismatch },
}

impl LinkError {
    /// Whether only a person can change it.
    fn is_lasting(&self) -> bool {
        matches!(self, Self::Hello { .. } | Self::Mismatch { .. })
    }
}

/// Everything a connection needs.
pub(crate) struct Link {
    pub(crate) me: Hello,
    pub(crate) peer: String,
    pub(crate) board: Arc<PeerBoard>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) fate: Fate,
    pub(crate) tail: Arc<Tail>,
    pub(crate) log: LogReader,
    pub(crate) copies: CopyReceiver,
    pub(crate) current: Mutex<Option<Current>>,
    pub(crate) turn: Mutex<()>,
    pub(crate) handshakes: AtomicUsize,
    pub(crate) closing: AtomicBool,
}

/// The connection that is in use.
pub(crate) struct Current {
    outbox: Arc<Outbox>,
    stream: TcpStream,
    /// For what the driver writes by itself.
    buffer: Vec<u8>,
}

impl Current {
    /// Writes frames as far as the connection takes them at once, and leaves the rest to the writer.
    fn send(&mut self, frames: &mut Vec<Outgoing>) {
        let mut bytes = 0;
        let from_memory = frames.iter().all(|frame| {
            bytes += frame.bytes();
            !matches!(frame, Outgoing::AppendFromLog { .. })
        });
        if !from_memory || bytes > DIRECT_BYTES || !self.outbox.claim() {
            for frame in frames.drain(..) {
                let _ = self.outbox.push(frame);
            }
            return;
        }
        self.buffer.clear();
        for frame in frames.drain(..) {
            encode(&mut self.buffer, &frame);
        }
        let written =
            match rustix::net::send(&self.stream, &self.buffer, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(written) => written,
                Err(Errno::AGAIN | Errno::INTR) => 0,
                Err(error) => {
                    tracing::debug!("writing to the peer failed: {error}");
                    self.outbox.close();
                    let _ = self.stream.shutdown(Shutdown::Both);
                    self.buffer.len()
                }
            };
        self.outbox.release(&self.buffer[written..]);
    }
}

/// A frame whose content is in memory, to the end of the buffer.
fn encode(buffer: &mut Vec<u8>, frame: &Outgoing) {
    match frame {
        Outgoing::Message(message) => frame::write(buffer, |body| codec::write_message(body, message)),
        Outgoing::Append { header, entries } => {
            frame::write(buffer, |body| codec::write_append(body, header, entries));
        }
        Outgoing::Rest(rest) => buffer.extend_from_slice(rest),
        Outgoing::AppendFromLog { .. } => unreachable!("read from the log by the connection's writer"),
    }
}

impl Link {
    /// For the driver: may be lost, never waits. Takes all of `frames`.
    pub(crate) fn send(&self, frames: &mut Vec<Outgoing>) {
        if frames.is_empty() {
            return;
        }
        match &mut *self.current.lock() {
            Some(current) => current.send(frames),
            None => frames.clear(),
        }
    }

    /// Whether everything that was sent has left this process.
    pub(crate) fn is_idle(&self) -> bool {
        self.current.lock().as_ref().is_none_or(|current| current.outbox.is_idle())
    }

    /// Ends the connection and everything that would make a new one.
    pub(crate) fn close(&self, listening_on: SocketAddr) {
        self.closing.store(true, Ordering::SeqCst);
        self.end_current();
        self.copies.close();
        // Wakes the listener, so that it sees that it is over.
        let _ = TcpStream::connect_timeout(&listening_on, CONNECT);
    }

    fn end_current(&self) {
        if let Some(current) = &*self.current.lock() {
            current.outbox.close();
            let _ = current.stream.shutdown(Shutdown::Both);
        }
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst) || self.fate.has_ended()
    }

    /// Body of the listening thread.
    pub(crate) fn listen(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            let accepted = listener.accept();
            if self.is_closing() {
                return;
            }
            let (stream, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!("cannot accept a connection of the peer: {error}");
                    std::thread::sleep(REDIAL);
                    continue;
                }
            };
            if self.handshakes.fetch_add(1, Ordering::SeqCst) >= HANDSHAKES {
                self.handshakes.fetch_sub(1, Ordering::SeqCst);
                continue;
            }
            let link = self.clone();
            let accept = move || {
                let greeted = link.welcome(&stream, from);
                link.handshakes.fetch_sub(1, Ordering::SeqCst);
                match greeted {
                    Ok(theirs) => link.serve(&stream, &theirs),
                    Err(error) => link.report(&error),
                }
            };
            if let Err(error) = self.fate.spawn_plain("peer-in", accept) {
                self.handshakes.fetch_sub(1, Ordering::SeqCst);
                tracing::warn!("{error}");
            }
        }
    }

    /// Body of the dialling thread; A's only.
    pub(crate) fn dial_for_ever(self: &Arc<Self>) {
        assert!(self.me.appliance == ApplianceId::A, "A dials, B listens");
        while !self.is_closing() {
            let pause = match dial(&self.peer, &self.me) {
                Ok((stream, theirs)) => {
                    self.serve(&stream, &theirs);
                    REDIAL
                }
                Err(error) => {
                    self.report(&error);
                    if error.is_lasting() { REDIAL_WRONG } else { REDIAL }
                }
            };
            std::thread::sleep(pause);
        }
    }

    fn report(&self, error: &LinkError) {
        // Somebody who connects and leaves, or a stranger, is no news while the peer is there.
        if self.current.lock().is_none() && self.board.failed(error.to_string()) {
            tracing::warn!("{error}");
        }
    }

    /// Answers a caller's hello.
    fn welcome(&self, stream: &TcpStream, from: SocketAddr) -> Result<Hello, LinkError> {
        let address = from.to_string();
        let theirs = read_hello(stream, &address)?;
        let mut answer = Vec::new();
        let checked = self.me.check(&theirs);
        match &checked {
            Ok(()) => {
                let me = Hello { purpose: theirs.purpose, ..self.me.clone() };
                frame::write(&mut answer, |body| me.write(body));
            }
            Err(mismatch) => {
                frame::write(&mut answer, |body| hello::write_refusal(body, &mismatch.to_string()));
            }
        }
        let mut stream = stream;
        let written = stream.write_all(&answer);
        checked.map_err(|reason| LinkError::Mismatch { address: address.clone(), reason })?;
        written.map_err(|reason| LinkError::Unreachable { address, reason })?;
        Ok(theirs)
    }

    /// Works a greeted connection until it ends.
    fn serve(self: &Arc<Self>, stream: &TcpStream, theirs: &Hello) {
        match theirs.purpose {
            Purpose::Identify => {}
            Purpose::Copy => self.copies.receive(stream, theirs.disk, &self.inbox, &self.fate),
            Purpose::Messages => self.converse(stream, theirs),
        }
    }

    fn converse(self: &Arc<Self>, stream: &TcpStream, theirs: &Hello) {
        // A newer connection means that the peer has given up the older one.
        self.end_current();
        let _turn = self.turn.lock();
        let (Ok(writing), Ok(handle)) = (stream.try_clone(), stream.try_clone()) else {
            tracing::warn!("the connection to the peer cannot be used: too many open files");
            return;
        };
        let outbox = Arc::new(Outbox::default());
        let writer = {
            let (link, outbox) = (self.clone(), outbox.clone());
            match self.fate.spawn_plain("peer-out", move || link.write(&writing, &outbox)) {
                Ok(writer) => writer,
                Err(error) => {
                    tracing::warn!("{error}");
                    return;
                }
            }
        };
        *self.current.lock() = Some(Current { outbox: outbox.clone(), stream: handle, buffer: Vec::new() });
        self.board.connected(theirs.client_url.clone());
        tracing::info!("connected to appliance {}", theirs.appliance);
        self.inbox.event(Input::PeerConnected);
        let end = self.read(stream);
        *self.current.lock() = None;
        outbox.close();
        let _ = stream.shutdown(Shutdown::Both);
        let _ = writer.join();
        self.board.failed(format!("the connection to appliance {} was lost: {end}", theirs.appliance));
        tracing::info!("the connection to appliance {} was lost: {end}", theirs.appliance);
        self.inbox.event(Input::PeerDisconnected);
    }

    /// Passes on what arrives, until the connection ends; why it did.
    fn read(&self, stream: &TcpStream) -> String {
        let mut source = BufReader::with_capacity(READ_BUFFER, stream);
        if self.is_closing() {
            return "this appliance is stopping".to_owned();
        }
        loop {
            let body = match frame::read(&mut source) {
                Ok(body) => body,
                Err(error) => return error.to_string(),
            };
            match codec::read_message(body) {
                Ok(message) => {
                    if !self.inbox.message(Input::Message(message)) {
                        return "this appliance is stopping".to_owned();
                    }
                }
                Err(error) => return error.to_string(),
            }
        }
    }

    /// Writes what is put into the outbox, until that or the connection ends.
    fn write(&self, mut stream: &TcpStream, outbox: &Outbox) {
        let mut buffer = Vec::with_capacity(WRITE_BUFFER);
        while let Some(mut frames) = outbox.take() {
            while !frames.is_empty() {
                buffer.clear();
                self.gather(&mut buffer, &mut frames);
                if let Err(error) = stream.write_all(&buffer) {
                    tracing::debug!("writing to the peer failed: {error}");
                    outbox.close();
                    let _ = stream.shutdown(Shutdown::Both);
                    return;
                }
            }
        }
    }

    /// Moves frames into the buffer until it has enough.
    fn gather(&self, buffer: &mut Vec<u8>, frames: &mut VecDeque<Outgoing>) {
        while buffer.len() < WRITE_BUFFER {
            match frames.pop_front() {
                None => return,
                Some(Outgoing::AppendFromLog { header, first, last, generation }) => {
                    if let Some(entries) = self.read_log(first, last, generation) {
                        encode(buffer, &Outgoing::Append { header, entries });
                    }
                }
                Some(frame) => encode(buffer, &frame),
            }
        }
    }

    /// Entries that are not in memory any more; `None` when the log does not hold them (any more).
    fn read_log(&self, first: Lsn, last: Lsn, generation: u64) -> Option<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut next = first;
        while next <= last && self.tail.generation() == generation {
            match self.log.read(next, frame::FRAME_BYTES) {
                Ok(read) if read.is_empty() => return None,
                Ok(read) => {
                    entries.extend(read.into_iter().take_while(|entry| entry.lsn <= last));
                    next = entries.last()?.lsn.next();
                }
                Err(ReadError::Trimmed { .. } | ReadError::Beyond { .. }) => return None,
                Err(error @ (ReadError::Damaged(_) | ReadError::Failed(_))) => {
                    self.fate.fatal(error.to_string());
                    return None;
                }
            }
        }
        (self.tail.generation() == generation).then_some(entries)
    }
}

/// Connects to the peer and says hello.
pub(crate) fn dial(peer: &str, me: &Hello) -> Result<(TcpStream, Hello), LinkError> {
    let address = || peer.to_owned();
    let unreachable = |reason| LinkError::Unreachable { address: address(), reason };
    let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
    let mut connected = None;
    for candidate in peer.to_socket_addrs().map_err(unreachable)? {
        match TcpStream::connect_timeout(&candidate, CONNECT) {
            Ok(stream) => {
                connected = Some(stream);
                break;
            }
            Err(error) => last = error,
        }
    }
    let Some(mut stream) = connected else {
        return Err(unreachable(last));
    };
    let mut greeting = Vec::new();
    frame::write(&mut greeting, |body| me.write(body));
    stream.write_all(&greeting).map_err(unreachable)?;
    let theirs = read_hello(&stream, peer)?;
    me.check(&theirs).map_err(|reason| LinkError::Mismatch { address: address(), reason })?;
    Ok((stream, Hello { purpose: me.purpose, ..theirs }))
}

/// Reads from a stream until a deadline, however slowly bytes come.
struct Until<'a> {
    stream: &'a TcpStream,
    deadline: Instant,
}

impl Read for Until<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut stream = self.stream;
        stream.read(buffer)
    }
}

/// Sets the connection's times and reads the other side's hello.
fn read_hello(stream: &TcpStream, address: &str) -> Result<Hello, LinkError> {
    let unreachable = |reason| LinkError::Unreachable { address: address.to_owned(), reason };
    stream.set_nodelay(true).map_err(unreachable)?;
    stream.set_write_timeout(Some(SILENCE)).map_err(unreachable)?;
    let mut source = Until { stream, deadline: Instant::now() + HANDSHAKE };
    let body = frame::read_within(&mut source, hello::HELLO_BYTES)
        .map_err(|reason| LinkError::Frame { address: address.to_owned(), reason })?;
    stream.set_read_timeout(Some(SILENCE)).map_err(unreachable)?;
    Hello::read(&body).map_err(|reason| LinkError::Hello { address: address.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_that_never_ends_is_given_up_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut dripping = TcpStream::connect(address).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let began = Instant::now();
        let reader = std::thread::spawn(move || read_hello(&stream, "stranger").unwrap_err());
        let header = [&200_u32.to_le_bytes()[..], &[0; 4]].concat();
        for byte in header.iter().chain(std::iter::repeat_n(&0, 200)) {
            if reader.is_finished() || dripping.write_all(&[*byte]).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let error = reader.join().unwrap();
        assert!(matches!(error, LinkError::Frame { reason: FrameError::Silent, .. }), "{error}");
        assert!(began.elapsed() < 3 * HANDSHAKE, "{:?}", began.elapsed());
    }

    #[test]
    fn a_greeting_that_is_announced_too_large_is_refused_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut boasting = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        boasting.write_all(&(frame::FRAME_BYTES as u64).to_le_bytes()).unwrap();
        let error = read_hello(&stream, "stranger").unwrap_err();
        assert!(matches!(error, LinkError::Frame { reason: FrameError::TooLarge { .. }, .. }), "{error}");
    }
}
