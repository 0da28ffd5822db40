//! A line between two processes that a test can cut.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The state of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line {
    /// Everything passes.
    Open,
    /// Connections are closed; new ones are closed at once.
    Cut,
    /// Connections stay, nothing passes. What was sent meanwhile passes late when the line is opened again.
    Silent,
}

/// A line to one port.
pub struct Proxy {
    port: u16,
    line: Arc<watch::Sender<Line>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// A line to `target` on this machine.
    pub async fn start(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let line = Arc::new(watch::Sender::new(Line::Open));
        let state = line.clone();
        let accepting = tokio::spawn(async move {
            loop {
                let Ok((inside, _)) = listener.accept().await else { continue };
                tokio::spawn(pass(inside, target, state.subscribe()));
            }
        });
        Self { port, line, accepting }
    }

    /// Where to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes the line, for connections that are there as well.
    pub fn set(&self, line: Line) {
        self.line.send_replace(line);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.line.send_replace(Line::Cut);
    }
}

async fn pass(inside: TcpStream, target: u16, mut line: watch::Receiver<Line>) {
    if line.wait_for(|line| *line != Line::Silent).await.is_ok_and(|line| *line == Line::Cut) {
        return;
    }
    let Ok(outside) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    inside.set_nodelay(true).ok();
    outside.set_nodelay(true).ok();
    let (from_inside, to_inside) = inside.into_split();
    let (from_outside, to_outside) = outside.into_split();
    // When one direction ends the other is dropped with it: a cut closes both.
    tokio::select! {
        () = copy(from_inside, to_outside, line.clone()) => {}
        () = copy(from_outside, to_inside, line) => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut line: watch::Receiver<Line>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = tokio::select! {
            read = from.read(&mut buffer) => match read {
                Ok(length) if length > 0 => length,
                _ => return,
            },
            cut = line.wait_for(|line| *line == Line::Cut) => {
                drop(cut);
                return;
            }
        };
        match line.wait_for(|line| *line != Line::Silent).await {
            Ok(line) if *line == Line::Open => {}
            _ => return,
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
