//! A small HTTP client for JSON documents: what `status`, `stop`, `switchover` and the demo ask appliances with.
//!
//! One connection for each request and a deadline for the whole of it: an appliance that hangs is told from one that
//! is down, and neither holds up the other.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::error::io_words;

/// A status document is a few kilobytes; more than this is no status document.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Why there is no answer. Each text completes "http://...: ".
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HttpError {
    /// Not a URL this client can use.
    #[error("not an address of the form http://HOST:PORT")]
    BadUrl,
    /// No connection.
    #[error("{0}")]
    Connect(String),
    /// The connection broke before the answer was complete.
    #[error("the connection was closed before it answered")]
    Broken,
    /// The deadline passed.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// It answered with an error.
    #[error("{text} (HTTP {code})")]
    Refused {
        /// HTTP's number.
        code: u16,
        /// First line of the answer.
        text: String,
    },
}

/// Asks for a document.
pub async fn get(url: &str, path: &str, deadline: Duration) -> Result<Bytes, HttpError> {
    request(Method::GET, url, path, deadline).await
}

/// Gives an order.
pub async fn post(url: &str, path: &str, deadline: Duration) -> Result<Bytes, HttpError> {
    request(Method::POST, url, path, deadline).await
}

async fn request(method: Method, url: &str, path: &str, deadline: Duration) -> Result<Bytes, HttpError> {
    tokio::time::timeout(deadline, exchange(method, url, path))
        .await
        .unwrap_or(Err(HttpError::Timeout(deadline)))
}

async fn exchange(method: Method, url: &str, path: &str) -> Result<Bytes, HttpError> {
    let authority = authority(url)?;
    let stream =
        TcpStream::connect(&authority).await.map_err(|error| HttpError::Connect(io_words(&error)))?;
    stream.set_nodelay(true).ok();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|_| HttpError::Broken)?;
    let driver = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, &authority)
        .header(header::CONTENT_LENGTH, 0)
        .body(Full::new(Bytes::new()))
        .map_err(|_| HttpError::BadUrl)?;
    let answer = sender.send_request(request).await.map_err(|_| HttpError::Broken)?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
    driver.abort();
    let body = body.map_err(|_| HttpError::Broken)?.to_bytes();
    if status.is_success() {
        return Ok(body);
    }
    let text = String::from_utf8_lossy(&body);
    let first = text.lines().next().unwrap_or_default().trim();
    let text = if first.is_empty() { "it refused without a reason" } else { first };
    Err(HttpError::Refused { code: status.as_u16(), text: text.to_owned() })
}

/// Host and port of a plain HTTP URL; a bare `host:port` will do.
pub fn authority(url: &str) -> Result<String, HttpError> {
    let full = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let uri: Uri = full.parse().map_err(|_| HttpError::BadUrl)?;
    let plain = uri.scheme_str() == Some("http");
    let bare = matches!(uri.path(), "" | "/");
    match (uri.host(), uri.port_u16()) {
        (Some(host), Some(port)) if plain && bare && !host.is_empty() => Ok(format!("{host}:{port}")),
        _ => Err(HttpError::BadUrl),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for good in ["http://127.0.0.1:2379", "127.0.0.1:2379", "http://localhost:2379/"] {
            assert!(authority(good).is_ok(), "{good}");
        }
        for bad in
            ["", "http://", "https://127.0.0.1:2379", "http://127.0.0.1", "http://h:1/path", "http://a b:1"]
        {
            assert_eq!(authority(bad), Err(HttpError::BadUrl), "{bad}");
        }
    }
}
