//! The register at a witness server, over one kept-alive HTTP/1.1 connection.
//!
//! An answer is definite only if it is marked as a Duet witness's, repeats this request's nonce, and has
//! exactly the status and headers of a definite answer; everything else is `Unknown`. No write is ever sent
//! twice: a second try that finds the first one's work would be told `Mismatch`. The caller reads, and
//! decides.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, ETAG, HOST, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use crate::http_names::{MARK, MARK_VERSION, RECORDS_PATH, REQUEST};
use crate::planted::Bug;
use crate::register::{MAX_RECORD_BYTES, draw_nonce, too_large};
use crate::{
    BoxFuture, ClusterName, Credential, ReadOutcome, Reason, Register, Token, Version, WriteOutcome,
};

/// Bytes of a refusal's text that are shown to people.
const MAX_SHOWN_BYTES: usize = 200;

/// The record of one pair at a witness server.
pub struct ServerRegister {
    address: String,
    cluster: ClusterName,
    credential: Credential,
    deadline: Duration,
    /// The connection while no call uses it. A second call at the same time opens one of its own.
    idle: Mutex<Option<Connection>>,
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A whole answer of a Duet witness to this very request.
struct Answer {
    status: StatusCode,
    version: Option<Version>,
    body: Bytes,
}

impl ServerRegister {
    /// The record of `cluster` at `address` (`host:port`), which the token of `credential` opens; every call ends within
    /// `deadline`. Connects later.
    pub fn new(
        address: impl Into<String>,
        cluster: ClusterName,
        credential: Credential,
        deadline: Duration,
    ) -> Self {
        Self { address: address.into(), cluster, credential, deadline, idle: Mutex::new(None) }
    }

    /// One request and its answer, or why there is none.
    async fn call(
        &self,
        method: Method,
        condition: Option<Condition>,
        body: Bytes,
    ) -> Result<Answer, Reason> {
        let exchange = self.exchange(method, condition, body);
        tokio::time::timeout(self.deadline, exchange).await.unwrap_or_else(|_| {
            Err(self.reason(&format!(
                "did not answer within {} ms: check the network and the witness's disk",
                self.deadline.as_millis()
            )))
        })
    }

    async fn exchange(
        &self,
        method: Method,
        condition: Option<Condition>,
        body: Bytes,
    ) -> Result<Answer, Reason> {
        let nonce = format!("{:032x}", draw_nonce()?);
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{RECORDS_PATH}{}", self.cluster))
            .header(HOST, &self.address)
            .header(REQUEST, &nonce);
        request = match condition {
            None => request,
            Some(Condition::Absent) => request.header(IF_NONE_MATCH, "*"),
            Some(Condition::Version(version)) => request.header(IF_MATCH, format!("\"{version}\"")),
        };
        let mut request = request
            .body(Full::new(body))
            .map_err(|error| self.reason(&format!("cannot be asked: {error}")))?;
        if let Some(token) = self.credential.token().await? {
            request.headers_mut().insert(AUTHORIZATION, bearer(&token));
        }

        let cut = |error: &dyn std::error::Error| self.reason(&format!("broke off the connection: {error}"));
        let mut connection = self.connection().await?;
        let response = match connection.sender.try_send_request(request).await {
            Ok(response) => response,
            // The kept connection had ended, and nothing of the request has left: sending it now is sending it once.
            Err(mut error) if error.message().is_some() => {
                let request = error.take_message().ok_or_else(|| cut(error.error()))?;
                connection = self.connect().await?;
                connection.sender.send_request(request).await.map_err(|error| cut(&error))?
            }
            Err(error) => return Err(cut(error.error())),
        };
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_RECORD_BYTES).collect().await.map_err(|error| cut(&*error))?;
        self.check(&head.headers, &nonce)?;
        // Only a connection that has served a whole exchange is used again, and none that the server is closing.
        if head.headers.get(CONNECTION).is_none_or(|word| word != "close") {
            *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
        }
        Ok(Answer { status: head.status, version: version(&head.headers), body: body.to_bytes() })
    }

    /// The idle connection if it still stands, or a new one.
    async fn connection(&self) -> Result<Connection, Reason> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut connection) = idle
            && connection.sender.ready().await.is_ok()
        {
            return Ok(connection);
        }
        self.connect().await
    }

    /// A new connection.
    async fn connect(&self) -> Result<Connection, Reason> {
        let stream = TcpStream::connect(&self.address).await.map_err(|error| {
            let hint = match error.kind() {
                std::io::ErrorKind::ConnectionRefused => ": does a Duet witness run there, on this port?",
                std::io::ErrorKind::HostUnreachable | std::io::ErrorKind::NetworkUnreachable => {
                    ": check address, routes and firewall"
                }
                _ => ": check the address",
            };
            self.reason(&format!("cannot be reached ({error}){hint}"))
        })?;
        // Requests are single small segments; a socket without this option may hold them back.
        let _ = stream.set_nodelay(true);
        let (sender, driver) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.reason(&format!("broke off the connection: {error}")))?;
        // Its errors come out of the request as well.
        let task = tokio::spawn(async move { drop(driver.await) }).abort_handle();
        Ok(Connection { sender, task })
    }

    /// Whether a Duet witness answers this very request.
    fn check(&self, headers: &HeaderMap, nonce: &str) -> Result<(), Reason> {
        match headers.get(MARK).map(HeaderValue::as_bytes) {
            Some(mark) if mark == MARK_VERSION.as_bytes() => {}
            Some(_) => {
                return Err(self.reason("speaks another version of the interface: upgrade the older side"));
            }
            None if Bug::StrangerBelieved.planted() => return Ok(()),
            None => return Err(self.reason("is no Duet witness (or a proxy answered): check the address")),
        }
        let echoed = headers.get(REQUEST).is_some_and(|echo| echo.as_bytes() == nonce.as_bytes());
        if !echoed && !Bug::EchoUnchecked.planted() {
            return Err(self.reason("sent the answer to another request: is there a cache in between?"));
        }
        Ok(())
    }

    async fn write(&self, condition: Condition, bytes: Bytes) -> WriteOutcome {
        if let Some(reason) = too_large(bytes.len()) {
            return WriteOutcome::Unknown(reason);
        }
        let done = match condition {
            Condition::Absent => StatusCode::CREATED,
            Condition::Version(_) => StatusCode::OK,
        };
        match self.call(Method::PUT, Some(condition), bytes).await {
            Ok(Answer { status, version: Some(version), .. }) if status == done => {
                WriteOutcome::Swapped(version)
            }
            Ok(Answer { status: StatusCode::PRECONDITION_FAILED, .. }) => WriteOutcome::Mismatch,
            Ok(_) if Bug::UnexpectedIsMismatch.planted() => WriteOutcome::Mismatch,
            Err(_) if Bug::SilenceIsMismatch.planted() => WriteOutcome::Mismatch,
            Ok(answer) => WriteOutcome::Unknown(self.unexpected(&answer)),
            Err(reason) => WriteOutcome::Unknown(reason),
        }
    }

    fn unexpected(&self, answer: &Answer) -> Reason {
        if answer.status == StatusCode::UNAUTHORIZED {
            return self.refused(answer);
        }
        let shown = &answer.body[..answer.body.len().min(MAX_SHOWN_BYTES)];
        let shown = String::from_utf8_lossy(shown);
        self.reason(&format!("answered {}: {:?}", answer.status, shown.trim_end()))
    }

    fn refused(&self, answer: &Answer) -> Reason {
        let said = String::from_utf8_lossy(&answer.body[..answer.body.len().min(MAX_SHOWN_BYTES)]);
        let said = said.trim_end();
        let cluster = &self.cluster;
        if matches!(self.credential, Credential::None) {
            return self.reason(&format!(
                "refuses this pair, which sent no token ({said}): register it with `duet witness add {cluster}` and set \
                 witness_token_file"
            ));
        }
        self.reason(&format!(
            "refuses this pair's token ({said}): is {cluster} registered there, and is this its newest token?"
        ))
    }

    fn reason(&self, what: &str) -> Reason {
        Reason::new(format!("the witness at {} {what}", self.address))
    }
}

/// When a write is to be done.
enum Condition {
    Absent,
    Version(Version),
}

impl Register for ServerRegister {
    fn read(&self) -> BoxFuture<'_, ReadOutcome> {
        Box::pin(async {
            match self.call(Method::GET, None, Bytes::new()).await {
                Ok(Answer { status: StatusCode::OK, version: Some(version), body: bytes }) => {
                    ReadOutcome::Record { version, bytes }
                }
                Ok(Answer { status: StatusCode::NOT_FOUND, .. }) => ReadOutcome::Absent,
                Ok(_) if Bug::ErrorIsAbsent.planted() => ReadOutcome::Absent,
                Ok(answer) => ReadOutcome::Unknown(self.unexpected(&answer)),
                Err(reason) => ReadOutcome::Unknown(reason),
            }
        })
    }

    fn create(&self, bytes: Bytes) -> BoxFuture<'_, WriteOutcome> {
        Box::pin(self.write(Condition::Absent, bytes))
    }

    fn compare_and_set(&self, expected: &Version, bytes: Bytes) -> BoxFuture<'_, WriteOutcome> {
        Box::pin(self.write(Condition::Version(expected.clone()), bytes))
    }

    fn describe(&self) -> String {
        format!("witness server at {}, cluster {}", self.address, self.cluster)
    }
}

/// The header that carries a token; it is left out of what is logged.
fn bearer(token: &Token) -> HeaderValue {
    // A token has no character that a header may not have.
    let value = HeaderValue::try_from(format!("Bearer {}", token.reveal()));
    let mut value = value.unwrap_or(HeaderValue::from_static("Bearer"));
    value.set_sensitive(true);
    value
}

/// The version in a strong `ETag` of the form that witness servers give.
fn version(headers: &HeaderMap) -> Option<Version> {
    let tag = headers.get(ETAG)?.to_str().ok()?;
    let version = tag.strip_prefix('"')?.strip_suffix('"')?;
    Version::is_drawn(version).then(|| Version::new(version))
}
