//! The HTTP interface of the witness server for appliances: what each request means and how each outcome is answered.
//!
//! `GET /v1/records/{cluster}` reads, `PUT` with `If-None-Match: *` creates, `PUT` with `If-Match: "version"`
//! is the compare-and-set; `ETag` is the version, `Authorization: Bearer` the pair's token. No request removes a record.
//! What people and monitoring may ask is in `about`. Every answer, errors too, carries the mark that clients insist on.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::about;
use super::connections::Connections;
use super::limits::{MAX_RECORDS, REQUEST_TIMEOUT};
use super::meter::{Meter, Outcome};
use super::pairs::{Pairs, Refused};
use super::store::{Condition, NoAnswer, Store, Written};
use crate::http_names::{MARK, MARK_VERSION, MAX_REQUEST_BYTES, RECORDS_PATH, REQUEST};
use crate::planted::Bug;
use crate::register::MAX_RECORD_BYTES;
use crate::token::Fingerprint;
use crate::{ClusterName, Version};

/// What the handlers share.
#[derive(Clone)]
pub(super) struct Shared {
    pub store: Store,
    pub pairs: Arc<Pairs>,
    pub connections: Arc<Connections>,
    pub meter: Arc<Meter>,
    /// Kibibytes of contents that may still be received.
    pub contents: Arc<Semaphore>,
}

/// The whole interface.
pub(super) fn router(shared: Shared) -> Router {
    Router::new()
        .route(&format!("{RECORDS_PATH}{{cluster}}"), get(read).put(write))
        .merge(about::routes())
        .fallback(async || text(StatusCode::NOT_IMPLEMENTED, "a Duet witness serves /v1/records/CLUSTER"))
        .layer(middleware::from_fn_with_state(shared.clone(), mark))
        .with_state(shared)
}

/// Bounds the time of a request, and marks its answer.
async fn mark(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let nonce = request.headers().get(REQUEST).filter(|nonce| nonce.len() <= MAX_REQUEST_BYTES).cloned();
    let answer = tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await;
    let mut response = answer.unwrap_or_else(|_| {
        shared.meter.count(Outcome::Failed);
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

async fn read(State(shared): State<Shared>, Path(cluster): Path<String>, headers: HeaderMap) -> Response {
    let (outcome, response) = try_read(&shared, &cluster, &headers).unwrap_or_else(|refusal| *refusal);
    shared.meter.count(outcome);
    response
}

fn try_read(shared: &Shared, cluster: &str, headers: &HeaderMap) -> Result<Answer, Refusal> {
    let cluster = name(cluster)?;
    admit(&shared.pairs, &cluster, presented(headers))?;
    Ok(match shared.store.read(&cluster) {
        Ok(Ok(Some(stored))) => {
            let kind = (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            let response =
                with_version(StatusCode::OK, &stored.version, ([kind], stored.bytes).into_response());
            (Outcome::Record, response)
        }
        Ok(Ok(None)) => {
            (Outcome::Absent, text(StatusCode::NOT_FOUND, format!("no record of cluster {cluster}")))
        }
        Ok(Err(_)) if Bug::DamagedIsAbsent.planted() => {
            (Outcome::Absent, text(StatusCode::NOT_FOUND, "no record"))
        }
        Ok(Err(error)) => {
            tracing::error!(%cluster, "the stored record {error}");
            let message = format!("the stored record {error}");
            (Outcome::Damaged, text(StatusCode::INTERNAL_SERVER_ERROR, message))
        }
        Err(error) => {
            tracing::error!(%cluster, %error, "cannot read a record");
            let message = format!("the witness cannot read: {error}");
            (Outcome::Failed, text(StatusCode::INTERNAL_SERVER_ERROR, message))
        }
    })
}

async fn write(
    State(shared): State<Shared>,
    Path(cluster): Path<String>,
    headers: HeaderMap,
    body: axum::body::Body,
) -> Response {
    let answer = try_write(&shared, &cluster, &headers, body).await;
    let (outcome, response) = answer.unwrap_or_else(|refusal| *refusal);
    shared.meter.count(outcome);
    response
}

async fn try_write(
    shared: &Shared,
    cluster: &str,
    headers: &HeaderMap,
    body: axum::body::Body,
) -> Result<Answer, Refusal> {
    let cluster = name(cluster)?;
    let presented = presented(headers);
    admit(&shared.pairs, &cluster, presented)?;
    let condition = condition(headers)?;
    // Held until the write is answered.
    let _room = room(shared, headers)?;
    let bytes = collect(body).await?;
    // Its token may have been ended while the content came in.
    if !shared.pairs.still_admits(&cluster, presented) && !Bug::TokenCheckedTooEarly.planted() {
        return Err(refuse(Refused::WrongToken, shared.pairs.rate()));
    }
    let created = condition == Condition::Absent;
    Ok(match shared.store.write(cluster.clone(), condition, bytes).await {
        Ok(Written::Swapped(version)) => {
            shared.pairs.note_write(&cluster);
            let (outcome, status) = if created {
                (Outcome::Created, StatusCode::CREATED)
            } else {
                (Outcome::Swapped, StatusCode::OK)
            };
            (outcome, with_version(status, &version, text(status, "done")))
        }
        Ok(Written::Mismatch) => {
            (Outcome::Mismatch, text(StatusCode::PRECONDITION_FAILED, "the record is another"))
        }
        Ok(Written::Full) => {
            let message = format!("this witness holds {MAX_RECORDS} records already");
            (Outcome::Full, text(StatusCode::INSUFFICIENT_STORAGE, message))
        }
        Ok(Written::Unusable(error)) => {
            let message = format!("the stored record {error}; nothing was written");
            (Outcome::Damaged, text(StatusCode::INTERNAL_SERVER_ERROR, message))
        }
        Err(NoAnswer::Busy) => *busy(),
        Err(NoAnswer::Stopped) => {
            (Outcome::Failed, text(StatusCode::SERVICE_UNAVAILABLE, "the witness is stopping"))
        }
    })
}

/// How a request is counted and answered.
type Answer = (Outcome, Response);

/// Boxed, as a response is large for the error of a `Result`.
type Refusal = Box<Answer>;

fn malformed(status: StatusCode, message: impl Into<String>) -> Refusal {
    Box::new((Outcome::Malformed, text(status, message)))
}

fn busy() -> Refusal {
    let message = "too many writes wait; nothing was written";
    Box::new((Outcome::Busy, text(StatusCode::SERVICE_UNAVAILABLE, message)))
}

fn name(cluster: &str) -> Result<ClusterName, Refusal> {
    cluster.parse().map_err(|error| malformed(StatusCode::BAD_REQUEST, format!("{error}")))
}

/// The fingerprint of what was presented as a token, whatever it is.
fn presented(headers: &HeaderMap) -> Option<Fingerprint> {
    headers.get(AUTHORIZATION)?.as_bytes().strip_prefix(b"Bearer ").map(Fingerprint::of)
}

fn admit(pairs: &Pairs, cluster: &ClusterName, presented: Option<Fingerprint>) -> Result<(), Refusal> {
    pairs.admit(cluster, presented).map_err(|refused| refuse(refused, pairs.rate()))
}

/// A stranger does not learn whether a name is registered.
fn refuse(refused: Refused, rate: u32) -> Refusal {
    let (outcome, status, message) = match refused {
        Refused::NoToken => (
            Outcome::Refused,
            StatusCode::UNAUTHORIZED,
            "a token is needed here, and none was sent".to_owned(),
        ),
        Refused::WrongToken => {
            let message = "no pair of this name has this token".to_owned();
            (Outcome::Refused, StatusCode::UNAUTHORIZED, message)
        }
        Refused::TooOften => {
            let message = format!("this pair asks more than {rate} times a second");
            (Outcome::Limited, StatusCode::TOO_MANY_REQUESTS, message)
        }
    };
    Box::new((outcome, text(status, message)))
}

/// Exactly one of the two conditions, in the one form each that [`super`] describes.
fn condition(headers: &HeaderMap) -> Result<Condition, Refusal> {
    let refuse = || {
        malformed(
            StatusCode::BAD_REQUEST,
            "a write needs either If-None-Match: * or one If-Match: \"version\"",
        )
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

/// Memory for a content of the length that is announced, or of the longest.
fn room(shared: &Shared, headers: &HeaderMap) -> Result<OwnedSemaphorePermit, Refusal> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let bytes = announced.unwrap_or(MAX_RECORD_BYTES).min(MAX_RECORD_BYTES);
    let kibibytes = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX);
    Arc::clone(&shared.contents).try_acquire_many_owned(kibibytes).map_err(|_| busy())
}

/// The body, of which never more than the limit is read.
async fn collect(body: axum::body::Body) -> Result<Bytes, Refusal> {
    match Limited::new(body, MAX_RECORD_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = format!("a record has at most {MAX_RECORD_BYTES} bytes");
            Err(malformed(StatusCode::PAYLOAD_TOO_LARGE, message))
        }
        Err(_) => Err(malformed(StatusCode::BAD_REQUEST, "the body was cut off")),
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

pub(super) fn text(status: StatusCode, message: impl Into<String>) -> Response {
    let mut message = message.into();
    message.push('\n');
    (status, message).into_response()
}
