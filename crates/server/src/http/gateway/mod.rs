//! etcd's JSON gateway: the gRPC methods as POST of JSON under `/v3/`, with the answers of etcd 3.5 byte for byte.
//!
//! One piece of code for all methods: the JSON becomes a gRPC message, which goes to the same services through the same
//! gate as a message from the network, so limits, forwarding, tokens and errors are those of gRPC. What comes back
//! becomes JSON as it comes: of a stream there is never more in memory than one message each way, and the next one is
//! asked for when the client has taken the last.

mod documents;
mod metadata;
mod paths;
mod refusal;
mod reply;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use bytes::{BufMut, Bytes, BytesMut};
use duet_etcd_api::json::from_json;
use duet_etcd_api::schema::{self, Schema};
use futures_util::{Stream, stream};
use tokio::time::Instant;
use tonic::Status;
use tonic::codegen::Service;

use super::plain;
use crate::grpc::errors::DEADLINE_EXCEEDED;
use crate::grpc::gate::{PREFIX_BYTES, check_message};

use documents::{Documents, NoDocument};
use metadata::Metadata;
use refusal::Refusal;
use reply::Messages;

/// Where calls go.
#[derive(Clone)]
struct Gateway {
    grpc: Router,
    /// Largest message that is read, in bytes.
    most: usize,
}

/// The routes; calls go to `grpc`, which reads messages of at most so many bytes.
pub(crate) fn routes(grpc: &Router, most: usize) -> Router {
    let under =
        |routes: Router<Gateway>, prefix: &&str| routes.route(&format!("{prefix}{{*path}}"), any(answer));
    paths::PREFIXES.iter().fold(Router::new(), under).with_state(Gateway { grpc: grpc.clone(), most })
}

async fn answer(State(gateway): State<Gateway>, request: Request) -> Response {
    let path = paths::method_of(request.uri().path());
    let Some((path, method)) = path.and_then(|path| Some((path, Schema::api().method(path)?))) else {
        return plain::error(StatusCode::NOT_FOUND, "Not Found");
    };
    if request.method() != Method::POST {
        return plain::error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    }
    let (head, body) = request.into_parts();
    match call(gateway, path, method, &head.headers, body).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
}

async fn call(
    Gateway { mut grpc, most }: Gateway,
    path: &'static str,
    method: schema::Method,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let metadata = Metadata::of(headers)?;
    let deadline = metadata.deadline();
    let mut documents = Documents::new(body, most);
    let first = match documents.next().await {
        Ok(Some(document)) => Some(message(method, &document)),
        Ok(None) => None,
        Err(reason) => Some(Err(reason)),
    };
    let first = first.transpose().map_err(|reason| Refusal::of_document(method, &reason))?;
    let body = if method.client_streaming {
        // Further ones are measured by the gate; of the first one the client is told.
        let length = first.as_ref().map_or(0, |frame| frame.len() - PREFIX_BYTES);
        check_message(length, most).map_err(Refusal::of_stream)?;
        Body::from_stream(requests(method, first, documents))
    } else {
        // No document is an empty message.
        Body::from(first.unwrap_or_else(|| frame(&[])))
    };
    if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
        return Err(Refusal::of_call(DEADLINE_EXCEEDED.into()));
    }
    let Ok(response) = grpc.call(metadata.request(path, body)).await;
    let messages = Messages::of(response, deadline);
    if method.server_streaming {
        reply::stream(messages, method.output).await
    } else {
        reply::single(messages, method.output).await
    }
}

/// The requests of a stream: the first, and then what the client sends, until it sends something that is none. As at
/// etcd the client is not told of that: it may have got answers already.
fn requests(
    method: schema::Method,
    first: Option<Bytes>,
    documents: Documents,
) -> impl Stream<Item = Result<Bytes, Status>> {
    stream::unfold((first, documents), move |(first, mut documents)| async move {
        if let Some(first) = first {
            return Some((Ok(first), (None, documents)));
        }
        let document = documents.next().await.transpose()?;
        match document.and_then(|document| message(method, &document)) {
            Ok(frame) => Some((Ok(frame), (None, documents))),
            Err(reason) => {
                tracing::debug!(%reason, "a client's stream of requests ends with one that is none");
                None
            }
        }
    })
}

/// The gRPC message of a document, with its prefix.
fn message(method: schema::Method, document: &[u8]) -> Result<Bytes, NoDocument> {
    Ok(frame(&from_json(Schema::api(), method.input, document)?))
}

fn frame(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    frame.put_u8(0);
    // A document is far smaller than this.
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}
