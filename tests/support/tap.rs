//! A tap on the line to the witness server: it knows every content the witness has accepted, in order, and can hold back the
//! answer to one of them. While an answer is held the record is at the witness, and whoever wrote it waits.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use duet_protocol::WitnessRecord;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Which contents are held.
type Wanted = Box<dyn Fn(&WitnessRecord) -> bool + Send + Sync>;

/// The tap. Clones are the same tap.
#[derive(Clone)]
pub struct Tap {
    inner: Arc<Inner>,
}

struct Inner {
    port: u16,
    target: u16,
    cluster: String,
    state: watch::Sender<State>,
}

#[derive(Default)]
struct State {
    accepted: Vec<WitnessRecord>,
    wanted: Option<Wanted>,
    held: Option<WitnessRecord>,
}

impl Tap {
    /// A tap in front of the witness server on `target`.
    pub async fn start(target: u16, cluster: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let inner = Inner { port, target, cluster: cluster.to_owned(), state: watch::Sender::default() };
        let tap = Self { inner: Arc::new(inner) };
        let accepting = tap.clone();
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let tap = accepting.clone();
                tokio::spawn(async move { tap.pass(stream).await });
            }
        });
        tap
    }

    /// Where to connect to.
    pub fn port(&self) -> u16 {
        self.inner.port
    }

    /// Every content that the witness has accepted, in order.
    pub fn accepted(&self) -> Vec<WitnessRecord> {
        self.inner.state.borrow().accepted.clone()
    }

    /// Holds back the answer to the first write of such a content.
    pub fn hold(&self, wanted: impl Fn(&WitnessRecord) -> bool + Send + Sync + 'static) {
        self.inner.state.send_modify(|state| state.wanted = Some(Box::new(wanted)));
    }

    /// The content whose answer is held now.
    pub fn held(&self) -> Option<WitnessRecord> {
        self.inner.state.borrow().held.clone()
    }

    /// Lets the answer go.
    pub fn release(&self) {
        self.inner.state.send_modify(|state| state.held = None);
    }

    /// One connection: request, answer, request, answer.
    async fn pass(&self, mut inside: TcpStream) -> Option<()> {
        let mut outside = TcpStream::connect(("127.0.0.1", self.inner.target)).await.ok()?;
        let (mut from_inside, mut from_outside) = (BytesMut::new(), BytesMut::new());
        loop {
            let request = message(&mut inside, &mut from_inside).await?;
            outside.write_all(&request.all).await.ok()?;
            let answer = message(&mut outside, &mut from_outside).await?;
            let done = ["HTTP/1.1 200", "HTTP/1.1 201"].iter().any(|line| answer.head.starts_with(line));
            if request.head.starts_with("PUT ") && done {
                self.accept(&request.body).await;
            }
            inside.write_all(&answer.all).await.ok()?;
        }
    }

    async fn accept(&self, body: &[u8]) {
        let name = self.inner.cluster.parse().unwrap();
        let record = duet_witness::record::decode(&name, None, body).expect("the witness accepted a record");
        let mut holds = false;
        self.inner.state.send_modify(|state| {
            state.accepted.push(record.clone());
            holds = state.wanted.as_ref().is_some_and(|wanted| wanted(&record));
            if holds {
                state.wanted = None;
                state.held = Some(record);
            }
        });
        if holds {
            let mut state = self.inner.state.subscribe();
            state.wait_for(|state| state.held.is_none()).await.ok();
        }
    }
}

struct Message {
    all: Bytes,
    head: String,
    body: Bytes,
}

/// Reads one HTTP/1.1 message, whose length is always told by Content-Length here.
async fn message(from: &mut (impl AsyncRead + Unpin), buffer: &mut BytesMut) -> Option<Message> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
            });
            let body = end + 4;
            let whole = body + length.unwrap_or(0);
            if buffer.len() >= whole {
                let all = buffer.split_to(whole).freeze();
                return Some(Message { head, body: all.slice(body..), all });
            }
        }
        if from.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}
