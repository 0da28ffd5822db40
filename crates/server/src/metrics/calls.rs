//! gRPC calls: how many began, how they ended, and how many bytes went each way.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use duet_etcd_api::schema::Schema;
use http::{HeaderMap, Response};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tonic::{Code, Status};

use super::{Metrics, Number};

/// gRPC's codes, by number, as they are called in etcd's metrics.
pub(crate) const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// The methods of the KV service, which have their counters at places that are known beforehand.
const KV: [&str; 5] = [
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.KV/Put",
    "/etcdserverpb.KV/DeleteRange",
    "/etcdserverpb.KV/Txn",
    "/etcdserverpb.KV/Compact",
];

/// Place of a method's counters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MethodPlace(usize);

impl MethodPlace {
    pub(crate) const RANGE: MethodPlace = MethodPlace(0);
    pub(crate) const PUT: MethodPlace = MethodPlace(1);
    pub(crate) const DELETE_RANGE: MethodPlace = MethodPlace(2);
    pub(crate) const TXN: MethodPlace = MethodPlace(3);
    pub(crate) const COMPACT: MethodPlace = MethodPlace(4);
}

/// Of all methods.
#[derive(Debug)]
pub(crate) struct CallCounters {
    methods: Vec<MethodCounters>,
    places: HashMap<&'static str, MethodPlace>,
    /// Messages with their prefixes.
    pub(crate) received_bytes: Number,
    /// The same.
    pub(crate) sent_bytes: Number,
}

/// Of one method.
#[derive(Debug)]
pub(crate) struct MethodCounters {
    /// `package.Service`
    pub(crate) service: &'static str,
    pub(crate) method: &'static str,
    /// As etcd's metrics call it.
    pub(crate) kind: &'static str,
    pub(crate) started: Number,
    handled: [Number; CODES.len()],
}

impl Default for CallCounters {
    fn default() -> CallCounters {
        let schema = Schema::api();
        let mut others: Vec<&'static str> =
            schema.methods().map(|(path, _)| path).filter(|path| !KV.contains(path)).collect();
        others.sort_unstable();
        let paths = KV.into_iter().chain(others);
        let methods: Vec<_> = paths.filter_map(|path| Some((path, MethodCounters::of(path)?))).collect();
        let places =
            methods.iter().enumerate().map(|(place, (path, _))| (*path, MethodPlace(place))).collect();
        CallCounters {
            methods: methods.into_iter().map(|(_, counters)| counters).collect(),
            places,
            received_bytes: Number::default(),
            sent_bytes: Number::default(),
        }
    }
}

impl MethodCounters {
    fn of(path: &'static str) -> Option<MethodCounters> {
        let (service, method) = path.strip_prefix('/')?.split_once('/')?;
        let described = Schema::api().method(path)?;
        let kind = match (described.client_streaming, described.server_streaming) {
            (false, false) => "unary",
            (false, true) => "server_stream",
            (true, false) => "client_stream",
            (true, true) => "bidi_stream",
        };
        let (started, handled) = (Number::default(), std::array::from_fn(|_| Number::default()));
        Some(MethodCounters { service, method, kind, started, handled })
    }

    /// Calls that ended so, by code.
    pub(crate) fn handled(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CODES.into_iter().zip(&self.handled).map(|(code, number)| (code, number.get()))
    }
}

impl CallCounters {
    /// Where a method is counted, by its gRPC path.
    pub(crate) fn place(&self, path: &str) -> Option<MethodPlace> {
        self.places.get(path).copied()
    }

    /// All of them.
    pub(crate) fn methods(&self) -> &[MethodCounters] {
        &self.methods
    }
}

/// A call that has begun. One that is dropped before its end is known was cancelled by the client.
pub(crate) struct CountedCall {
    metrics: Arc<Metrics>,
    place: MethodPlace,
    ended: bool,
}

impl CountedCall {
    /// A call begins.
    pub(crate) fn begin(metrics: Arc<Metrics>, place: MethodPlace) -> CountedCall {
        metrics.calls.methods[place.0].started.add(1);
        CountedCall { metrics, place, ended: false }
    }

    /// Bytes came from the client.
    pub(crate) fn received(&self, bytes: usize) {
        self.metrics.calls.received_bytes.add(bytes as u64);
    }

    /// Bytes go to the client.
    pub(crate) fn sent(&self, bytes: usize) {
        self.metrics.calls.sent_bytes.add(bytes as u64);
    }

    /// It ends so. Only the first end counts.
    pub(crate) fn end(&mut self, code: Code) {
        if !std::mem::replace(&mut self.ended, true) {
            let code = usize::try_from(i32::from(code)).unwrap_or_default();
            self.metrics.calls.methods[self.place.0].handled[code].add(1);
        }
    }

    fn end_with(&mut self, headers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(headers) {
            self.end(status.code());
        }
    }

    /// Follows an answer to its end.
    pub(crate) fn follow(mut self, response: Response<Body>) -> Response<Body> {
        self.end_with(response.headers());
        response.map(|body| Body::new(Followed { body, call: self }))
    }
}

impl Drop for CountedCall {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

/// The body of an answer that is counted.
struct Followed {
    body: Body,
    call: CountedCall,
}

impl HttpBody for Followed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            if let Some(data) = frame.data_ref() {
                self.call.sent(data.len());
            } else if let Some(trailers) = frame.trailers_ref() {
                self.call.end_with(trailers);
            }
        }
        Poll::Ready(frame)
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
    use http_body_util::BodyExt;

    use super::*;

    fn handled(metrics: &Metrics, place: MethodPlace) -> Vec<(&'static str, u64)> {
        metrics.calls.methods()[place.0].handled().filter(|(_, count)| *count > 0).collect()
    }

    #[test]
    fn every_method_has_its_place() {
        let calls = CallCounters::default();
        for (place, path) in [
            MethodPlace::RANGE,
            MethodPlace::PUT,
            MethodPlace::DELETE_RANGE,
            MethodPlace::TXN,
            MethodPlace::COMPACT,
        ]
        .into_iter()
        .zip(KV)
        {
            assert_eq!(calls.place(path), Some(place));
            assert!(path.ends_with(calls.methods()[place.0].method));
        }
        assert_eq!(calls.methods().len(), Schema::api().methods().count());
        let watch = calls.place("/etcdserverpb.Watch/Watch").unwrap();
        assert_eq!(calls.methods()[watch.0].kind, "bidi_stream");
        assert_eq!(calls.place("/nope"), None);
        assert_eq!(CODES[i32::from(Code::Unauthenticated).unsigned_abs() as usize], "Unauthenticated");
    }

    #[tokio::test]
    async fn a_call_ends_once() {
        let metrics = Arc::<Metrics>::default();
        let begin = || CountedCall::begin(metrics.clone(), MethodPlace::PUT);
        drop(begin());
        begin().end(Code::Ok);
        let refused = begin().follow(Status::not_found("it").into_http());
        drop(refused);
        let trailers =
            HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), "8".parse().unwrap())]);
        let frames = [
            Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"12345"))),
            Ok(Frame::trailers(trailers)),
        ];
        let body = Body::new(http_body_util::StreamBody::new(futures_util::stream::iter(frames)));
        let answered = begin().follow(Response::new(body));
        answered.into_body().collect().await.unwrap();
        let ends = [("OK", 1), ("Canceled", 1), ("NotFound", 1), ("ResourceExhausted", 1)];
        assert_eq!(handled(&metrics, MethodPlace::PUT), ends);
        assert_eq!(metrics.calls.methods()[MethodPlace::PUT.0].started.get(), 4);
        assert_eq!(metrics.calls.sent_bytes.get(), 5);
    }
}
