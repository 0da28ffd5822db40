//! From gRPC's answer to HTTP's.

use std::convert::Infallible;
use std::future::Future;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Buf, Bytes, BytesMut};
use duet_etcd_api::json::to_json;
use duet_etcd_api::schema::{MessageId, Schema};
use futures_util::{StreamExt, stream as streams};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Status};

use super::refusal::{Refusal, stream_error};
use crate::grpc::errors::DEADLINE_EXCEEDED;
use crate::grpc::gate::PREFIX_BYTES;

/// etcd's gateway tells the headers of the gRPC answer; there is one.
const GRPC_CONTENT_TYPE: (HeaderName, HeaderValue) =
    (HeaderName::from_static("grpc-metadata-content-type"), HeaderValue::from_static("application/grpc"));

const JSON: (HeaderName, HeaderValue) = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));

/// The messages of a gRPC answer.
pub(super) struct Messages {
    /// Told instead of an answer.
    refused: Option<Status>,
    body: Body,
    buffer: BytesMut,
    deadline: Option<Instant>,
}

impl Messages {
    /// Of an answer that is wanted by `deadline`.
    pub(super) fn of(response: Response, deadline: Option<Instant>) -> Messages {
        let refused = Status::from_header_map(response.headers());
        Messages { refused, body: response.into_body(), buffer: BytesMut::new(), deadline }
    }

    /// The next message; `None` after the last if all went well.
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        if let Some(status) = self.refused.take() {
            return verdict(status);
        }
        loop {
            if let Some(message) = self.whole() {
                return Ok(Some(message));
            }
            let frame = within(self.deadline, self.body.frame()).await?;
            match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.buffer.extend_from_slice(&data),
                    Err(other) => {
                        let trailers = other.into_trailers().unwrap_or_default();
                        let status = Status::from_header_map(&trailers);
                        return verdict(status.unwrap_or_else(|| Status::internal("no status")));
                    }
                },
                Some(Err(error)) => return Err(Status::from_error(error.into_inner())),
                None => return Ok(None),
            }
        }
    }

    /// The message at the start of the buffer, if it is whole.
    fn whole(&mut self) -> Option<Bytes> {
        let (_, mut length) = self.buffer.get(..PREFIX_BYTES)?.split_first()?;
        let end = PREFIX_BYTES + usize::try_from(length.get_u32()).ok()?;
        if self.buffer.len() < end {
            return None;
        }
        let mut message = self.buffer.split_to(end);
        message.advance(PREFIX_BYTES);
        Some(message.freeze())
    }
}

fn verdict(status: Status) -> Result<Option<Bytes>, Status> {
    if status.code() == Code::Ok { Ok(None) } else { Err(status) }
}

async fn within<T>(deadline: Option<Instant>, future: impl Future<Output = T>) -> Result<T, Status> {
    match deadline {
        None => Ok(future.await),
        Some(deadline) => timeout_at(deadline, future).await.map_err(|_| DEADLINE_EXCEEDED.into()),
    }
}

fn json(message: MessageId, bytes: &[u8], out: &mut String) -> Result<(), Status> {
    to_json(Schema::api(), message, bytes, out).map_err(|error| Status::internal(error.to_string()))
}

/// One message as the body.
pub(super) async fn single(mut messages: Messages, output: MessageId) -> Result<Response, Refusal> {
    let message = messages.next().await.map_err(Refusal::of_call)?;
    let message = message.ok_or_else(|| Refusal::of_call(Status::internal("the service said nothing")))?;
    // The call is over with its status, which comes after the message.
    messages.next().await.map_err(Refusal::of_call)?;
    let mut body = String::with_capacity(2 * message.len());
    json(output, &message, &mut body).map_err(Refusal::of_call)?;
    Ok((StatusCode::OK, [JSON, GRPC_CONTENT_TYPE], body).into_response())
}

/// One line for each message. As etcd, it answers nothing at all before the first message, so that an error instead of it
/// has its own HTTP status.
pub(super) async fn stream(mut messages: Messages, output: MessageId) -> Result<Response, Refusal> {
    let first = match messages.next().await {
        Ok(Some(message)) => line(output, &message).map_err(Refusal::of_stream)?,
        Ok(None) => return Ok((StatusCode::OK, [JSON], Body::empty()).into_response()),
        Err(status) => return Err(Refusal::of_stream(status)),
    };
    let further = streams::unfold(Some(messages), move |messages| async move {
        let mut messages = messages?;
        let next = messages.next().await.transpose()?;
        match next.and_then(|message| line(output, &message)) {
            Ok(line) => Some((line, Some(messages))),
            Err(status) => Some((Bytes::from(stream_error(&status)), None)),
        }
    });
    let lines = streams::once(std::future::ready(first)).chain(further).map(Ok::<_, Infallible>);
    Ok((StatusCode::OK, [JSON, GRPC_CONTENT_TYPE], Body::from_stream(lines)).into_response())
}

fn line(output: MessageId, message: &[u8]) -> Result<Bytes, Status> {
    let mut line = String::with_capacity(16 + 2 * message.len());
    line.push_str("{\"result\":");
    json(output, message, &mut line)?;
    line.push_str("}\n");
    Ok(Bytes::from(line))
}
