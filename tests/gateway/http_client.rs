//! An HTTP/1.1 client: one connection for each request, whole answers or line by line.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::harness::PATIENCE;

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

/// `host:port` of a URL.
pub fn authority(url: &str) -> &str {
    url.strip_prefix("http://").unwrap()
}

async fn begin(
    url: &str,
    method: Method,
    path: &str,
    headers: &[(&'static str, &str)],
    body: &str,
) -> Result<http::Response<Incoming>, String> {
    let exchange = async {
        let stream = TcpStream::connect(authority(url)).await.map_err(|error| error.to_string())?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", authority(url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
        sender.send_request(request).await.map_err(|error| error.to_string())
    };
    tokio::time::timeout(PATIENCE, exchange).await.map_err(|_| format!("{path}: no answer"))?
}

/// Any request; the error says that the connection failed.
pub async fn request(
    url: &str,
    method: Method,
    path: &str,
    headers: &[(&'static str, &str)],
    body: &str,
) -> Result<Answer, String> {
    let answer = begin(url, method, path, headers, body).await?;
    let (head, body) = answer.into_parts();
    let body = tokio::time::timeout(PATIENCE, body.collect()).await.map_err(|_| format!("{path}: no end"))?;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
}

/// A POST.
pub async fn post(url: &str, path: &str, body: &str) -> Answer {
    request(url, Method::POST, path, &[], body).await.unwrap()
}

/// A GET.
pub async fn get(url: &str, path: &str) -> Answer {
    request(url, Method::GET, path, &[], "").await.unwrap()
}

/// An answer that comes line by line.
pub struct Lines {
    pub status: u16,
    body: Incoming,
    buffer: BytesMut,
}

impl Lines {
    /// A POST that is answered by a stream.
    pub async fn post(url: &str, path: &str, body: &str) -> Result<Lines, String> {
        let answer = begin(url, Method::POST, path, &[], body).await?;
        Ok(Lines { status: answer.status().as_u16(), body: answer.into_body(), buffer: BytesMut::new() })
    }

    /// The next line; `None` at the end, however it comes.
    pub async fn next(&mut self) -> Option<String> {
        self.next_within(PATIENCE).await.expect("a line in time")
    }

    /// The same; an error if there is no line in time.
    pub async fn next_within(&mut self, limit: Duration) -> Result<Option<String>, String> {
        let line = async {
            loop {
                if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                    let line = self.buffer.split_to(end + 1);
                    return Some(String::from_utf8(line[..end].to_vec()).unwrap());
                }
                match self.body.frame().await {
                    Some(Ok(frame)) => self.buffer.extend_from_slice(frame.data_ref()?),
                    Some(Err(_)) | None => return None,
                }
            }
        };
        tokio::time::timeout(limit, line).await.map_err(|_| "no line".to_owned())
    }
}
