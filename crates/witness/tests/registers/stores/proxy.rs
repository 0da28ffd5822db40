//! A proxy between a register and its witness that can be told to make trouble.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use duet_witness::conformance::Trouble;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The register's deadline is 1 s.
const LATE: Duration = Duration::from_millis(1_500);
const SLOW: Duration = Duration::from_secs(2);

/// A running proxy; the trouble concerns what comes from now on, on every connection.
#[derive(Clone)]
pub struct Proxy {
    pub port: u16,
    trouble: Arc<Mutex<Option<Trouble>>>,
}

impl Proxy {
    /// Before the witness at this port of this machine.
    pub async fn start(witness: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let proxy = Self { port, trouble: Arc::default() };
        let passing = proxy.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(passing.clone().pass(client, witness));
            }
        });
        proxy
    }

    pub fn make(&self, trouble: Trouble) {
        *self.trouble.lock().unwrap() = Some(trouble);
    }

    fn trouble(&self) -> Option<Trouble> {
        *self.trouble.lock().unwrap()
    }

    async fn pass(self, client: TcpStream, witness: u16) {
        let Ok(server) = TcpStream::connect(("127.0.0.1", witness)).await else { return };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let requests = tokio::spawn(self.clone().pump(from_client, to_server, Way::Request));
        self.pump(from_server, to_client, Way::Answer).await;
        // What was sent before the witness closed the connection has been passed on.
        requests.abort();
    }

    async fn pump(self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, way: Way) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            match (self.trouble(), way) {
                (Some(Trouble::ReplyLost), Way::Answer) => return,
                (Some(Trouble::Late), Way::Request) => tokio::time::sleep(LATE).await,
                (Some(Trouble::Slow), Way::Answer) => tokio::time::sleep(SLOW).await,
                _ => {}
            }
            if to.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Request,
    Answer,
}
