//! What every gRPC call passes before its service: is there such a method, does the client insist on a leader, is the
//! message too large.
//!
//! tonic answers these in its own words; clients of etcd know gRPC-Go's.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::{Buf, Bytes};
use duet_protocol::Lsn;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tonic::{Code, Status};

use super::Api;
use super::call::{FORWARDED, requires_leader};
use super::errors::NO_LEADER;
use super::forward::ANSWERED;
use super::watch::NO_LEADER_GRACE;
use crate::metrics::Metrics;
use crate::metrics::calls::CountedCall;

/// Length of gRPC's prefix of a message: a flag and four bytes of length.
pub const PREFIX_BYTES: usize = 5;

/// Services that are routed, with their methods.
const SERVICES: [(&str, &[&str]); 11] = [
    ("etcdserverpb.KV", &["Range", "Put", "DeleteRange", "Txn", "Compact"]),
    ("etcdserverpb.Watch", &["Watch"]),
    (
        "etcdserverpb.Lease",
        &["LeaseGrant", "LeaseRevoke", "LeaseKeepAlive", "LeaseTimeToLive", "LeaseLeases"],
    ),
    ("etcdserverpb.Cluster", &["MemberAdd", "MemberRemove", "MemberUpdate", "MemberList", "MemberPromote"]),
    (
        "etcdserverpb.Maintenance",
        &["Alarm", "Status", "Defragment", "Hash", "HashKV", "Snapshot", "MoveLeader", "Downgrade"],
    ),
    (
        "etcdserverpb.Auth",
        &[
            "AuthEnable",
            "AuthDisable",
            "AuthStatus",
            "Authenticate",
            "UserAdd",
            "UserGet",
            "UserList",
            "UserDelete",
            "UserChangePassword",
            "UserGrantRole",
            "UserRevokeRole",
            "RoleAdd",
            "RoleGet",
            "RoleList",
            "RoleDelete",
            "RoleGrantPermission",
            "RoleRevokePermission",
        ],
    ),
    ("v3lockpb.Lock", &["Lock", "Unlock"]),
    ("v3electionpb.Election", &["Campaign", "Proclaim", "Leader", "Observe", "Resign"]),
    ("grpc.health.v1.Health", &["Check", "Watch"]),
    ("grpc.reflection.v1.ServerReflection", &["ServerReflectionInfo"]),
    ("grpc.reflection.v1alpha.ServerReflection", &["ServerReflectionInfo"]),
];

/// Whether a request is a gRPC call.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// Lets calls through to their service.
pub async fn gate(State(api): State<Api>, request: Request, next: Next) -> Response {
    let forwarded = is_forwarded(request.headers());
    let metrics = api.handle().metrics();
    let path = request.uri().path();
    let counted = metrics.calls.place(path).map(|place| CountedCall::begin(metrics.clone(), place));
    let admitted = match check_method(path) {
        Ok(()) => admit(&api, request.headers()).await,
        Err(status) => Err(status),
    };
    let mut response = match admitted {
        Ok(()) => {
            let most = api.limits().max_message_bytes();
            next.run(request.map(|body| Body::new(SizeGuard::new(body, most, metrics.clone())))).await
        }
        Err(status) => status.into_http(),
    };
    if let Some(counted) = counted {
        response = counted.follow(response);
    }
    if forwarded {
        mark_answered(&api, true, response.headers_mut());
    }
    response
}

/// Refuses the call of a client that insists on a leader while there is none.
pub async fn admit(api: &Api, headers: &HeaderMap) -> Result<(), Status> {
    if requires_leader(headers) && !api.has_primary_within(NO_LEADER_GRACE).await {
        return Err(NO_LEADER.into());
    }
    Ok(())
}

/// Whether the other appliance passed the call on.
pub fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.contains_key(FORWARDED)
}

/// Tells the appliance that passed a call on that this is an answer, not a failure on the way, and up to where it has to
/// have applied the log to know of whatever the call did, if that may be anything.
pub fn mark_answered(api: &Api, may_write: bool, headers: &mut HeaderMap) {
    let lsn = if may_write { api.handle().announce() } else { Lsn::ZERO };
    headers.insert(ANSWERED, HeaderValue::from(lsn.0));
}

/// gRPC-Go's answers to a method or a service that it does not have.
fn check_method(path: &str) -> Result<(), Status> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let Some((service, method)) = path.rsplit_once('/') else {
        return Err(Status::new(Code::Unimplemented, format!("malformed method name: \"{path}\"")));
    };
    if let Some((_, methods)) = SERVICES.iter().find(|(name, _)| *name == service) {
        return if methods.contains(&method) { Ok(()) } else { Err(unknown_method(service, method)) };
    }
    Err(Status::new(Code::Unimplemented, format!("unknown service {service}")))
}

fn unknown_method(service: &str, method: &str) -> Status {
    Status::new(Code::Unimplemented, format!("unknown method {method} for service {service}"))
}

/// A request's body that ends with gRPC-Go's error at the first message above the limit, before it is read.
struct SizeGuard {
    body: Body,
    metrics: Arc<Metrics>,
    /// What was read of the next message's prefix.
    prefix: [u8; PREFIX_BYTES],
    prefix_read: usize,
    /// What is still to come of the present message.
    message_left: usize,
    /// Largest message that is read.
    most: usize,
}

impl SizeGuard {
    fn new(body: Body, most: usize, metrics: Arc<Metrics>) -> SizeGuard {
        SizeGuard { body, metrics, prefix: [0; PREFIX_BYTES], prefix_read: 0, message_left: 0, most }
    }

    /// Follows the messages in `data`.
    fn follow(&mut self, mut data: &[u8]) -> Result<(), Status> {
        while !data.is_empty() {
            if self.message_left > 0 {
                let skipped = self.message_left.min(data.len());
                data.advance(skipped);
                self.message_left -= skipped;
                continue;
            }
            let taken = (PREFIX_BYTES - self.prefix_read).min(data.len());
            self.prefix[self.prefix_read..self.prefix_read + taken].copy_from_slice(&data[..taken]);
            data.advance(taken);
            self.prefix_read += taken;
            if self.prefix_read == PREFIX_BYTES {
                self.prefix_read = 0;
                let [_, length @ ..] = self.prefix;
                self.message_left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                check_message(self.message_left, self.most)?;
            }
        }
        Ok(())
    }
}

/// Refuses a message that is larger than is read at all.
pub fn check_message(bytes: usize, most: usize) -> Result<(), Status> {
    if bytes > most {
        let text = format!("grpc: received message larger than max ({bytes} vs. {most})");
        return Err(Status::new(Code::ResourceExhausted, text));
    }
    Ok(())
}

impl HttpBody for SizeGuard {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = match std::task::ready!(Pin::new(&mut self.body).poll_frame(context)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(Status::from_error(Box::new(error))))),
            Some(Ok(frame)) => frame,
        };
        if let Some(data) = frame.data_ref() {
            self.metrics.calls.received_bytes.add(data.len() as u64);
            if let Err(status) = self.follow(data) {
                return Poll::Ready(Some(Err(status)));
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::MAX_MESSAGE_BYTES;

    fn text(path: &str) -> String {
        check_method(path).err().map(|status| status.message().to_owned()).unwrap_or_default()
    }

    #[test]
    fn unknown_methods_and_services_are_answered_as_grpc_go_does() {
        assert_eq!(text("/etcdserverpb.KV/Range"), "");
        assert_eq!(text("/etcdserverpb.KV/Nope"), "unknown method Nope for service etcdserverpb.KV");
        assert_eq!(text("/nope.Svc/Nope"), "unknown service nope.Svc");
        assert_eq!(text("/v3lockpb.Lock/Lock"), "");
        assert_eq!(text("/v3lockpb.Lock/Nope"), "unknown method Nope for service v3lockpb.Lock");
    }

    #[test]
    fn a_message_above_the_limit_is_refused_wherever_its_prefix_is_cut() {
        let too_large = u32::try_from(MAX_MESSAGE_BYTES + 110).unwrap().to_be_bytes();
        let mut stream = vec![0, 0, 0, 0, 3, b'a', b'b', b'c', 0];
        stream.extend(too_large);
        for cut in 0..stream.len() {
            let mut guard = SizeGuard::new(Body::empty(), MAX_MESSAGE_BYTES, Arc::default());
            let result = guard.follow(&stream[..cut]).and_then(|()| guard.follow(&stream[cut..]));
            let status = result.expect_err("the second message is too large");
            assert_eq!(status.code(), Code::ResourceExhausted);
            assert_eq!(status.message(), "grpc: received message larger than max (2097262 vs. 2097152)");
        }
    }

    #[test]
    fn messages_up_to_the_limit_pass() {
        let mut guard = SizeGuard::new(Body::empty(), MAX_MESSAGE_BYTES, Arc::default());
        let length = u32::try_from(MAX_MESSAGE_BYTES).unwrap().to_be_bytes();
        assert!(guard.follow(&[&[0][..], &length].concat()).is_ok());
        assert!(guard.follow(&vec![0; MAX_MESSAGE_BYTES]).is_ok());
        assert!(guard.follow(&[0, 0, 0, 0, 0, 0]).is_ok());
        assert_eq!((guard.message_left, guard.prefix_read), (0, 1));
    }
}
