//! Stores that run on this machine for the tests, each in a process that ends with the test.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;

/// Python and Node start within seconds; a busy machine gets more.
const START_LIMIT: Duration = Duration::from_mins(2);

/// A path in the directory where `tests/witness_stores/install` put the stores; a word, or with
/// `DUET_TEST_REQUIRE_STORES` a failure, if it is not there.
pub fn installed(what: &str) -> Option<PathBuf> {
    let given = std::env::var_os("DUET_TEST_STORES").map(PathBuf::from);
    let stores =
        given.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/witness-stores"));
    let path = stores.join(what);
    if path.exists() {
        return Some(path);
    }
    skipped(&format!("{} is not there (tests/witness_stores/install)", path.display()));
    None
}

/// A program of the system.
pub fn program(name: &str) -> Option<PathBuf> {
    if Command::new(name).arg("--version").output().is_ok() {
        return Some(name.into());
    }
    skipped(&format!("{name} is not installed"));
    None
}

fn skipped(why: &str) {
    assert!(std::env::var_os("DUET_TEST_REQUIRE_STORES").is_none(), "{why}");
    println!("SKIPPED: {why}");
    eprintln!("SKIPPED: {why}");
}

/// A port that is free now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// A process that listens at a port.
pub struct Component {
    child: Child,
}

impl Component {
    /// Starts it and waits until it listens.
    pub async fn start(command: &mut Command, port: u16) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut component = Self { child: child.expect("it can be started") };
        let start = Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            let ended = component.child.try_wait().expect("a process");
            assert!(ended.is_none(), "{command:?} ended: {ended:?}");
            assert!(start.elapsed() < START_LIMIT, "{command:?} does not listen");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        component
    }
}

impl Drop for Component {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One HTTP request and its answer.
pub async fn http(
    method: Method,
    port: u16,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (StatusCode, String) {
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    let (mut sender, driver) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a connection");
    let task = tokio::spawn(driver);
    let mut request = Request::builder().method(method).uri(path).header("host", format!("127.0.0.1:{port}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).expect("a request");
    let response = sender.send_request(request).await.expect("an answer");
    let status = response.status();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    task.abort();
    (status, String::from_utf8_lossy(&body).into_owned())
}
