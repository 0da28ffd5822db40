//! The HTTP interface of the witness server: what each request means and how each outcome is answered.
//!
//! `GET /v1/records/{cluster}` reads, `PUT` with `If-None-Match: *` creates, `PUT` with `If-Match: "version"`
//! is the compare-and-set; `ETag` is the version. A record is never deleted. `GET /health` and `GET /version`
//! are for people and monitoring. Every answer, errors too, carries the mark that clients insist on.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::Connections;
use super::store::{Condition, MAX_RECORDS, NoAnswer, Store, Written};
use crate::http_names::{MARK, MARK_VERSION, MAX_REQUEST_BYTES, RECORDS_PATH, REQUEST};
use crate::planted::Bug;
use crate::register::MAX_RECORD_BYTES;
use crate::{ClusterName, Version};

/// Longest time for one request, body and commit included: what takes longer has been given up by its client.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What the handlers share.
#[derive(Clone)]
pub(super) struct Shared {
    pub store: Store,
    pub connections: Arc<Connections>,
}

/// The whole interface.
pub(super) fn router(shared: Shared) -> Router {
    Router::new()
        .route(&format!("{RECORDS_PATH}{{cluster}}"), get(read).put(write))
        .route("/health", get(health))
        .route("/version", get(version))
        .fallback(async || text(StatusCode::NOT_IMPLEMENTED, "a Duet witness serves /v1/records/CLUSTER"))
        .layer(middleware::from_fn_with_state(shared.clone(), mark))
        .with_state(shared)
}

/// Bounds the time of a request, and marks its answer.
async fn mark(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let nonce = request.headers().get(REQUEST).filter(|nonce| nonce.len() <= MAX_REQUEST_BYTES).cloned();
    let answer = tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await;
    let mut response = answer.unwrap_or_else(|_| {
        text(
            StatusCode::SERVICE_UNAVAILABLE,
            "the witness did not finish in time; the write may still happen",
        )
    });
    let headers = response.headers_mut();
    headers.insert(MARK, HeaderValue::from_static(MARK_VERSION));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(nonce) = nonce {
        headers.insert(REQUEST, nonce);
    }
    if shared.connections.crowded() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn read(State(shared): State<Shared>, Path(cluster): Path<String>) -> Response {
    let cluster = match name(&cluster) {
        Ok(cluster) => cluster,
        Err(refusal) => return *refusal,
    };
    match shared.store.read(&cluster) {
        Ok(Ok(Some(stored))) => {
            let kind = (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            with_version(StatusCode::OK, &stored.version, ([kind], stored.bytes).into_response())
        }
        Ok(Ok(None)) => text(StatusCode::NOT_FOUND, format!("no record of cluster {cluster}")),
        Ok(Err(_)) if Bug::DamagedIsAbsent.planted() => text(StatusCode::NOT_FOUND, "no record"),
        Ok(Err(error)) => {
            tracing::error!(%cluster, "the stored record {error}");
            text(StatusCode::INTERNAL_SERVER_ERROR, format!("the stored record {error}"))
        }
        Err(error) => {
            tracing::error!(%cluster, %error, "cannot read a record");
            text(StatusCode::INTERNAL_SERVER_ERROR, format!("the witness cannot read: {error}"))
        }
    }
}

async fn write(
    State(shared): State<Shared>,
    Path(cluster): Path<String>,
    headers: HeaderMap,
    body: axum::body::Body,
) -> Response {
    let parsed = name(&cluster).and_then(|cluster| condition(&headers).map(|condition| (cluster, condition)));
    let (cluster, condition) = match parsed {
        Ok(parsed) => parsed,
        Err(refusal) => return *refusal,
    };
    let bytes = match collect(body).await {
        Ok(bytes) => bytes,
        Err(refusal) => return *refusal,
    };
    let created = condition == Condition::Absent;
    match shared.store.write(cluster, condition, bytes).await {
        Ok(Written::Swapped(version)) => {
            let status = if created { StatusCode::CREATED } else { StatusCode::OK };
            with_version(status, &version, text(status, "done"))
        }
        Ok(Written::Mismatch) => text(StatusCode::PRECONDITION_FAILED, "the record is another"),
        Ok(Written::Full) => {
            let message = format!("this witness holds {MAX_RECORDS} records already");
            text(StatusCode::INSUFFICIENT_STORAGE, message)
        }
        Ok(Written::Unusable(error)) => {
            text(StatusCode::INTERNAL_SERVER_ERROR, format!("the stored record {error}; nothing was written"))
        }
        Err(NoAnswer::Busy) => {
            text(StatusCode::SERVICE_UNAVAILABLE, "too many writes wait; nothing was written")
        }
        Err(NoAnswer::Stopped) => text(StatusCode::SERVICE_UNAVAILABLE, "the witness is stopping"),
    }
}

/// Whether reads work, and since when: another incarnation than before means that the witness was wiped.
async fn health(State(shared): State<Shared>) -> Response {
    match shared.store.count() {
        Ok(records) => {
            let (incarnation, connections) = (shared.store.incarnation(), shared.connections.count());
            let health = serde_json::json!({
                "healthy": true, "incarnation": incarnation, "records": records, "connections": connections,
            });
            axum::Json(health).into_response()
        }
        Err(error) => {
            let health = serde_json::json!({ "healthy": false, "reason": error.to_string() });
            (StatusCode::SERVICE_UNAVAILABLE, axum::Json(health)).into_response()
        }
    }
}

async fn version() -> Response {
    let version = serde_json::json!({ "duet": env!("CARGO_PKG_VERSION"), "interface": MARK_VERSION });
    axum::Json(version).into_response()
}

/// Boxed, as a response is large for the error of a `Result`.
type Refusal = Box<Response>;

fn name(cluster: &str) -> Result<ClusterName, Refusal> {
    cluster.parse().map_err(|error| Box::new(text(StatusCode::BAD_REQUEST, format!("{error}"))))
}

/// Exactly one of the two conditions, in the one form each that [`super`] describes.
fn condition(headers: &HeaderMap) -> Result<Condition, Refusal> {
    let refuse = || {
        Box::new(text(
            StatusCode::BAD_REQUEST,
            "a write needs either If-None-Match: * or one If-Match: \"version\"",
        ))
    };
    let one = |name| {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().map(Some).map_err(|_| refuse()),
            (None, _) => Ok(None),
            (Some(_), Some(_)) => Err(refuse()),
        }
    };
    match (one(IF_NONE_MATCH)?, one(IF_MATCH)?) {
        (Some("*"), None) => Ok(Condition::Absent),
        (None, Some(tag)) => {
            let version = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            let version = version.filter(|version| Version::is_drawn(version)).ok_or_else(refuse)?;
            Ok(Condition::Version(Version::new(version)))
        }
        (None, None) if Bug::UnconditionalTaken.planted() => Ok(Condition::Absent),
        _ => Err(refuse()),
    }
}

/// The condition of a write with these headers, if there is one, as the one header that stands for it.
#[cfg(feature = "fuzzing")]
pub(crate) fn parse_condition(headers: &HeaderMap) -> Option<(http::HeaderName, String)> {
    condition(headers).ok().map(|condition| match condition {
        Condition::Absent => (IF_NONE_MATCH, "*".to_owned()),
        Condition::Version(version) => (IF_MATCH, format!("\"{version}\"")),
    })
}

/// The body, of which never more than the limit is read.
async fn collect(body: axum::body::Body) -> Result<Bytes, Refusal> {
    match Limited::new(body, MAX_RECORD_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = format!("a record has at most {MAX_RECORD_BYTES} bytes");
            Err(Box::new(text(StatusCode::PAYLOAD_TOO_LARGE, message)))
        }
        Err(_) => Err(Box::new(text(StatusCode::BAD_REQUEST, "the body was cut off"))),
    }
}

fn with_version(status: StatusCode, version: &Version, mut response: Response) -> Response {
    match HeaderValue::try_from(format!("\"{version}\"")) {
        Ok(tag) => {
            response.headers_mut().insert(ETAG, tag);
            *response.status_mut() = status;
            response
        }
        // Not reachable, as only drawn versions are stored; an answer without ETag counts as no answer.
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the stored version is unusable"),
    }
}

fn text(status: StatusCode, message: impl Into<String>) -> Response {
    let mut message = message.into();
    message.push('\n');
    (status, message).into_response()
}
