//! A line between two processes of this machine that can be cut, in both directions or in one, slowed down and reset: for
//! the bench and the tests.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The state of a line, or of one direction of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line {
    /// Everything passes.
    Open,
    /// Connections are closed; new ones are closed at once.
    Cut,
    /// Connections stay, nothing passes. What was sent meanwhile passes late when the line is opened again.
    Silent,
    /// Everything passes, each piece so much later.
    Slow(Duration),
}

/// Directions of a line, as seen from the one who connects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// From the one who connects.
    There,
    /// To the one who connects.
    Back,
}

/// Both directions.
#[derive(Clone, Copy, Debug)]
struct Ways {
    there: Line,
    back: Line,
    /// Connections made before the last reset are closed.
    resets: u64,
}

impl Ways {
    const fn of(self, way: Way) -> Line {
        match way {
            Way::There => self.there,
            Way::Back => self.back,
        }
    }

    fn is_either(self, line: Line) -> bool {
        self.there == line || self.back == line
    }
}

/// A line to one port.
pub struct Proxy {
    port: u16,
    ways: Arc<watch::Sender<Ways>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// A line to `target` on this machine.
    ///
    /// # Errors
    /// When no port can be listened on.
    pub async fn start(target: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let open = Ways { there: Line::Open, back: Line::Open, resets: 0 };
        let ways = Arc::new(watch::Sender::new(open));
        let state = ways.clone();
        let accepting = tokio::spawn(async move {
            loop {
                let Ok((inside, _)) = listener.accept().await else { continue };
                tokio::spawn(pass(inside, target, state.subscribe()));
            }
        });
        Ok(Self { port, ways, accepting })
    }

    /// Where to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes the line, for connections that are there as well.
    pub fn set(&self, line: Line) {
        self.ways.send_modify(|ways| (ways.there, ways.back) = (line, line));
    }

    /// Changes one direction.
    pub fn set_way(&self, way: Way, line: Line) {
        self.ways.send_modify(|ways| match way {
            Way::There => ways.there = line,
            Way::Back => ways.back = line,
        });
    }

    /// Closes the connections there are; new ones may be made at once.
    pub fn reset(&self) {
        self.ways.send_modify(|ways| ways.resets += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.set(Line::Cut);
    }
}

async fn pass(inside: TcpStream, target: u16, mut ways: watch::Receiver<Ways>) {
    // Where one direction is silent no connection comes about: it takes a packet each way.
    let clear = ways.wait_for(|ways| !ways.is_either(Line::Silent)).await.map(|ways| *ways);
    let Ok(clear) = clear else { return };
    if clear.is_either(Line::Cut) {
        return;
    }
    let Ok(outside) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    inside.set_nodelay(true).ok();
    outside.set_nodelay(true).ok();
    let (from_inside, to_inside) = inside.into_split();
    let (from_outside, to_outside) = outside.into_split();
    let mut closing = ways.clone();
    // When one direction ends the other is dropped with it: a cut closes both.
    tokio::select! {
        () = copy(from_inside, to_outside, Way::There, ways.clone()) => {}
        () = copy(from_outside, to_inside, Way::Back, ways) => {}
        _ = closing.wait_for(|now| now.is_either(Line::Cut) || now.resets != clear.resets) => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: Way, mut ways: watch::Receiver<Ways>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
        let line = ways.wait_for(|ways| ways.of(way) != Line::Silent).await.map(|ways| ways.of(way));
        match line {
            Ok(Line::Open) => {}
            Ok(Line::Slow(delay)) => tokio::time::sleep(delay).await,
            _ => return,
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
