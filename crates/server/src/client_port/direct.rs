//! The short way of the KV calls: from the HTTP/2 request straight to the service, without router and layers.
//!
//! Nearly all load is KV calls of one message each, and on the long way a put spends as much time in routing, boxed
//! services and copied buffers as in everything that makes it durable. Here the message is decoded where it was
//! received. What is answered is the same on both ways: the same gate, the same service, the same words.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use duet_etcd_api::codec;
use duet_etcd_api::etcdserverpb::kv_server::Kv;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header, request};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, Incoming};
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Code, Extensions, Status};

use crate::grpc::gate::{self, PREFIX_BYTES};
use crate::grpc::kv::KvService;
use crate::metrics::calls::{CountedCall, MethodPlace};

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: http::HeaderName = http::HeaderName::from_static("grpc-status");
const OK: HeaderValue = HeaderValue::from_static("0");

/// Compression of messages; the long way refuses it.
const GRPC_ENCODING: &str = "grpc-encoding";

/// A KV call.
#[derive(Clone, Copy, Debug)]
pub enum Call {
    Range,
    Put,
    DeleteRange,
    Txn,
    Compact,
}

impl Call {
    /// Whether a request can go the short way.
    pub fn of<B>(request: &Request<B>) -> Option<Call> {
        let call = match request.uri().path() {
            "/etcdserverpb.KV/Range" => Call::Range,
            "/etcdserverpb.KV/Put" => Call::Put,
            "/etcdserverpb.KV/DeleteRange" => Call::DeleteRange,
            "/etcdserverpb.KV/Txn" => Call::Txn,
            "/etcdserverpb.KV/Compact" => Call::Compact,
            _ => return None,
        };
        let headers = request.headers();
        let plain = request.method() == Method::POST
            && request.version() == http::Version::HTTP_2
            && gate::is_grpc(headers)
            && !headers.contains_key(GRPC_ENCODING);
        plain.then_some(call)
    }

    /// Whether it may leave something behind.
    const fn may_write(self) -> bool {
        !matches!(self, Call::Range)
    }

    /// Where it is counted.
    const fn place(self) -> MethodPlace {
        match self {
            Call::Range => MethodPlace::RANGE,
            Call::Put => MethodPlace::PUT,
            Call::DeleteRange => MethodPlace::DELETE_RANGE,
            Call::Txn => MethodPlace::TXN,
            Call::Compact => MethodPlace::COMPACT,
        }
    }

    /// Answers it.
    pub async fn answer(
        self,
        kv: KvService,
        request: Request<Incoming>,
    ) -> Result<Response<Reply>, Infallible> {
        let (head, body) = request.into_parts();
        let forwarded = gate::is_forwarded(&head.headers);
        let mut counted = CountedCall::begin(kv.api().handle().metrics().clone(), self.place());
        let request = Received { head, body, counted: &counted };
        let answered = match self {
            Call::Range => unary(&kv, request, async |message| kv.range(message).await).await,
            Call::Put => unary(&kv, request, async |message| kv.put(message).await).await,
            Call::DeleteRange => unary(&kv, request, async |message| kv.delete_range(message).await).await,
            Call::Txn => unary(&kv, request, async |message| kv.txn(message).await).await,
            Call::Compact => unary(&kv, request, async |message| kv.compact(message).await).await,
        };
        let mut response = match answered {
            Ok(message) => {
                counted.sent(message.len());
                counted.end(Code::Ok);
                reply(Reply::Message(message))
            }
            Err(status) => {
                counted.end(status.code());
                status.into_http::<Body>().map(Reply::Long)
            }
        };
        if forwarded {
            gate::mark_answered(kv.api(), self.may_write(), response.headers_mut());
        }
        Ok(response)
    }
}

fn reply(reply: Reply) -> Response<Reply> {
    let mut response = Response::new(reply);
    response.headers_mut().insert(header::CONTENT_TYPE, GRPC);
    response
}

/// A request as it came.
struct Received<'a> {
    head: request::Parts,
    body: Incoming,
    counted: &'a CountedCall,
}

/// One message in, one message out.
async fn unary<Question, Answer>(
    kv: &KvService,
    Received { head, body, counted }: Received<'_>,
    serve: impl AsyncFnOnce(tonic::Request<Question>) -> Result<tonic::Response<Answer>, Status>,
) -> Result<Bytes, Status>
where
    Question: Message + Default,
    Answer: Message,
{
    gate::admit(kv.api(), &head.headers).await?;
    let message = receive(body, kv.api().limits().max_message_bytes()).await?;
    counted.received(PREFIX_BYTES + message.len());
    let message = codec::decode(message)?;
    let metadata = MetadataMap::from_headers(head.headers);
    let answer = serve(tonic::Request::from_parts(metadata, Extensions::new(), message)).await?;
    frame(&answer.into_inner())
}

/// The first message of a request's body. Whatever else the client sends is not looked at.
async fn receive(mut body: Incoming, most: usize) -> Result<Bytes, Status> {
    let mut gathered = Gathered::Nothing;
    loop {
        let Some(frame) = body.frame().await else {
            return Err(Status::new(Code::Internal, "Missing request message."));
        };
        let frame = frame.map_err(|error| Status::from_error(Box::new(error)))?;
        if let Ok(data) = frame.into_data()
            && let Some(message) = gathered.add(&data, most)?
        {
            return Ok(message);
        }
    }
}

/// What has come of a message and its prefix. Usually both come in one piece, which is then not copied.
enum Gathered {
    Nothing,
    Part(BytesMut),
}

impl Gathered {
    /// Takes the next piece; the message, once it is whole.
    fn add(&mut self, piece: &Bytes, most: usize) -> Result<Option<Bytes>, Status> {
        match self {
            Gathered::Nothing => {
                if let Some(end) = end_of_message(piece, most)?
                    && let Some(message) = piece.get(PREFIX_BYTES..end)
                {
                    return Ok(Some(piece.slice_ref(message)));
                }
                *self = Gathered::Part(BytesMut::from(&piece[..]));
                Ok(None)
            }
            Gathered::Part(part) => {
                part.extend_from_slice(piece);
                match end_of_message(part, most)? {
                    Some(end) if end <= part.len() => {
                        part.truncate(end);
                        part.advance(PREFIX_BYTES);
                        Ok(Some(std::mem::take(part).freeze()))
                    }
                    _ => Ok(None),
                }
            }
        }
    }
}

/// Where a message ends that begins, with its prefix, at the start of `bytes`; `None` while the prefix is not whole.
fn end_of_message(bytes: &[u8], most: usize) -> Result<Option<usize>, Status> {
    let Some((flag, mut length)) = bytes.get(..PREFIX_BYTES).and_then(<[u8]>::split_first) else {
        return Ok(None);
    };
    let length = usize::try_from(length.get_u32()).unwrap_or(usize::MAX);
    gate::check_message(length, most)?;
    match flag {
        0 => Ok(Some(PREFIX_BYTES + length)),
        1 => {
            let text = "grpc: compressed flag set with identity or empty encoding";
            Err(Status::new(Code::Internal, text))
        }
        other => {
            let text = format!("grpc: received unexpected payload format {other}");
            Err(Status::new(Code::Internal, text))
        }
    }
}

/// A message with its prefix.
fn frame(message: &impl Message) -> Result<Bytes, Status> {
    let length = message.encoded_len();
    let told = u32::try_from(length).map_err(|_| {
        let text = format!("grpc: trying to send message larger than max ({length} vs. {})", u32::MAX);
        Status::new(Code::ResourceExhausted, text)
    })?;
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + length);
    frame.put_u8(0);
    frame.put_u32(told);
    message.encode_raw(&mut frame);
    Ok(frame.freeze())
}

/// The body of an answer.
pub enum Reply {
    /// One message and "OK".
    Message(Bytes),
    /// "OK", after the message.
    Trailers,
    /// Nothing more.
    End,
    /// From the long way.
    Long(Body),
}

impl HttpBody for Reply {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match &mut *self {
            Reply::Message(message) => {
                let message = std::mem::take(message);
                *self = Reply::Trailers;
                Poll::Ready(Some(Ok(Frame::data(message))))
            }
            Reply::Trailers => {
                *self = Reply::End;
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert(GRPC_STATUS, OK);
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Reply::End => Poll::Ready(None),
            Reply::Long(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Reply::Message(_) | Reply::Trailers => false,
            Reply::End => true,
            Reply::Long(body) => body.is_end_stream(),
        }
    }
}

#[cfg(test)]
mod tests {
    use duet_etcd_api::etcdserverpb::PutRequest;

    use super::*;
    use crate::grpc::MAX_MESSAGE_BYTES;

    fn add_all(pieces: &[&[u8]]) -> Result<Option<Bytes>, Status> {
        let mut gathered = Gathered::Nothing;
        for piece in pieces {
            if let Some(message) = gathered.add(&Bytes::copy_from_slice(piece), MAX_MESSAGE_BYTES)? {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    #[test]
    fn a_message_is_found_wherever_it_is_cut() {
        let put = PutRequest {
            key: Bytes::from_static(b"key"),
            value: vec![7; 300].into(),
            ..PutRequest::default()
        };
        let sent = frame(&put).unwrap();
        for first in 0..=sent.len() {
            for second in [first, usize::midpoint(first, sent.len())] {
                let pieces = [&sent[..first], &sent[first..second], &sent[second..], b"another"];
                let message = add_all(&pieces).unwrap().expect("it is whole");
                assert_eq!(codec::decode::<PutRequest>(message).unwrap(), put, "{first} {second}");
            }
        }
        assert_eq!(add_all(&[&sent[..sent.len() - 1]]).unwrap(), None);
    }

    #[test]
    fn an_empty_message_is_one() {
        assert_eq!(add_all(&[&[0, 0, 0, 0, 0]]).unwrap(), Some(Bytes::new()));
        assert_eq!(add_all(&[&[0, 0], &[0, 0, 0]]).unwrap(), Some(Bytes::new()));
    }

    #[test]
    fn wrong_prefixes_are_refused_in_gos_words() {
        let text = |prefix: &[u8]| add_all(&[prefix]).unwrap_err().message().to_owned();
        assert_eq!(
            text(&[0, 0xff, 0, 0, 0]),
            "grpc: received message larger than max (4278190080 vs. 2097152)"
        );
        assert_eq!(text(&[1, 0, 0, 0, 0]), "grpc: compressed flag set with identity or empty encoding");
        assert_eq!(text(&[7, 0, 0, 0, 0]), "grpc: received unexpected payload format 7");
    }
}
