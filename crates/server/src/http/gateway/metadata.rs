//! HTTP headers that go along with a call, as etcd's gateway passes them on: the token, what begins with
//! `Grpc-Metadata-`, and the time limit.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header};
use tokio::time::Instant;
use tonic::Status;

use super::refusal::Refusal;
use crate::grpc::call::parse_timeout;

/// What follows is the name of a call's metadata.
const PREFIX: &str = "grpc-metadata-";

/// The time limit of a call.
const TIMEOUT: &str = "grpc-timeout";

/// See the module.
pub(super) struct Metadata {
    headers: HeaderMap,
    limit: Option<Duration>,
}

impl Metadata {
    /// What goes along of a request's headers.
    pub(super) fn of(headers: &HeaderMap) -> Result<Metadata, Refusal> {
        let mut kept = HeaderMap::new();
        let limit = match headers.get(TIMEOUT) {
            None => None,
            Some(value) => {
                let limit = value.to_str().ok().and_then(parse_timeout);
                let limit = limit.ok_or_else(|| {
                    let value = String::from_utf8_lossy(value.as_bytes());
                    Refusal::of_call(Status::invalid_argument(format!("invalid grpc-timeout: {value}")))
                })?;
                kept.insert(TIMEOUT, value.clone());
                Some(limit)
            }
        };
        for (name, value) in headers {
            if name == header::AUTHORIZATION {
                kept.append(name, value.clone());
            } else if let Some(name) = name.as_str().strip_prefix(PREFIX)
                && !is_reserved(name)
                && let Ok(name) = HeaderName::try_from(name)
            {
                kept.append(name, value.clone());
            }
        }
        kept.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        kept.insert(header::TE, HeaderValue::from_static("trailers"));
        Ok(Metadata { headers: kept, limit })
    }

    /// When the client wants to wait no more.
    pub(super) fn deadline(&self) -> Option<Instant> {
        Some(Instant::now() + self.limit?)
    }

    /// The gRPC request that these go along with.
    pub(super) fn request(self, path: &'static str, body: Body) -> Request<Body> {
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static(path);
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = self.headers;
        request
    }
}

/// Names that gRPC and the two appliances keep for themselves.
fn is_reserved(name: &str) -> bool {
    name.starts_with("grpc-")
        || name.starts_with("duet-")
        || matches!(name, "content-type" | "content-length" | "user-agent" | "te" | "host" | "connection")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(pairs: &[(&'static str, &'static str)]) -> Result<Metadata, Refusal> {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        Metadata::of(&pairs.collect())
    }

    #[test]
    fn the_token_and_named_metadata_go_along_and_nothing_else() {
        let kept = kept(&[
            ("authorization", "token"),
            ("cookie", "no"),
            ("grpc-metadata-hasleader", "true"),
            ("grpc-metadata-grpc-encoding", "gzip"),
            ("grpc-metadata-content-type", "text/plain"),
            ("grpc-metadata-duet-forwarded", "1"),
            ("grpc-metadata-", "x"),
            ("grpc-timeout", "3S"),
        ]);
        let request = kept.ok().unwrap().request("/a.B/C", Body::empty());
        let mut names: Vec<&str> = request.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["authorization", "content-type", "grpc-timeout", "hasleader", "te"]);
        assert_eq!(request.headers()["content-type"], "application/grpc");
    }

    #[test]
    fn a_time_limit_is_kept_or_refused() {
        assert!(kept(&[]).ok().unwrap().deadline().is_none());
        let deadline = kept(&[("grpc-timeout", "1S")]).ok().unwrap().deadline().unwrap();
        assert!(deadline <= Instant::now() + Duration::from_secs(1));
        let refusal = kept(&[("grpc-timeout", "zzz")]).err().unwrap();
        assert_eq!(refusal.status().message(), "invalid grpc-timeout: zzz");
        // The longest that can be said is no point in time; it is as good as none.
        assert!(kept(&[("grpc-timeout", "99999999H")]).is_ok());
    }
}
