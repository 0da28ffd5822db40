//! Errors of calls as etcd's gateway writes them: the gRPC code becomes an HTTP status, code and text are in the body.

use std::fmt::Write as _;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use duet_etcd_api::json::quote;
use duet_etcd_api::schema;
use tonic::{Code, Status};

use super::documents::NoDocument;

/// Why a call has no answer.
pub(super) struct Refusal {
    status: Status,
    /// The call had become a stream: such errors have a form of their own.
    in_stream: bool,
}

impl Refusal {
    /// Of a call with one answer, or before a stream has begun.
    pub(super) fn of_call(status: Status) -> Refusal {
        Refusal { status, in_stream: false }
    }

    /// Of a stream.
    pub(super) fn of_stream(status: Status) -> Refusal {
        Refusal { status, in_stream: true }
    }

    /// The first document of a call is none. etcd gives a code only where the call takes no stream of them.
    pub(super) fn of_document(method: schema::Method, reason: &NoDocument) -> Refusal {
        match reason {
            NoDocument::Malformed(_) | NoDocument::Lost(_) => {
                let code = if method.client_streaming { Code::Unknown } else { Code::InvalidArgument };
                Refusal::of_call(Status::new(code, reason.to_string()))
            }
            NoDocument::TooLarge { .. } => {
                let status = Status::new(Code::ResourceExhausted, reason.to_string());
                Refusal { status, in_stream: method.client_streaming }
            }
        }
    }

    #[cfg(test)]
    pub(super) fn status(&self) -> &Status {
        &self.status
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = if self.in_stream { stream_error(&self.status) } else { call_error(&self.status) };
        (http_status(self.status.code()), [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

fn call_error(status: &Status) -> String {
    let mut body = String::from("{\"error\":");
    quote(status.message(), &mut body);
    let _ = write!(body, ",\"code\":{},\"message\":", i32::from(status.code()));
    quote(status.message(), &mut body);
    body.push('}');
    body
}

/// What ends a stream.
pub(super) fn stream_error(status: &Status) -> String {
    let http = http_status(status.code());
    let code = i32::from(status.code());
    let mut body = format!("{{\"error\":{{\"grpc_code\":{code},\"http_code\":{},\"message\":", http.as_u16());
    quote(status.message(), &mut body);
    body.push_str(",\"http_status\":");
    quote(http.canonical_reason().unwrap_or_default(), &mut body);
    body.push_str("}}");
    body
}

const fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::REQUEST_TIMEOUT,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_etcds_two_forms() {
        let status = Status::new(Code::InvalidArgument, "a \"b\" <c>");
        assert_eq!(
            call_error(&status),
            r#"{"error":"a \"b\" \u003cc\u003e","code":3,"message":"a \"b\" \u003cc\u003e"}"#
        );
        let status = Status::new(
            Code::ResourceExhausted,
            "grpc: received message larger than max (3000010 vs. 2097152)",
        );
        assert_eq!(
            stream_error(&status),
            r#"{"error":{"grpc_code":8,"http_code":429,"message":"grpc: received message larger than max (3000010 vs. 2097152)","http_status":"Too Many Requests"}}"#
        );
    }
}
