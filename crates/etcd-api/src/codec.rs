//! Protobuf as the generated clients and servers read and write it.
//!
//! It differs from tonic's own in one respect: a request that cannot be understood is refused in etcd's words, which are
//! those of Go's gRPC library.

use bytes::Bytes;
use prost::Message;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic::{Code, Status};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// How Go's gRPC library begins to say that a message is malformed.
const MALFORMED: &str = "grpc: error unmarshalling request: ";

/// Reads a message without tonic's buffers: its keys and values are slices of `message`.
///
/// # Errors
/// It is malformed: in the same words as from [`EtcdDecoder`].
pub fn decode<M: Message + Default>(message: Bytes) -> Result<M, Status> {
    M::decode(message).map_err(|error| Status::new(Code::Internal, format!("{MALFORMED}{error}")))
}

/// Writes `T`, reads `U`.
#[derive(Debug, Clone)]
pub struct EtcdCodec<T, U>(ProstCodec<T, U>);

impl<T, U> Default for EtcdCodec<T, U> {
    fn default() -> Self {
        Self(ProstCodec::default())
    }
}

impl<T, U> Codec for EtcdCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = EtcdDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        self.0.encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        EtcdDecoder(self.0.decoder())
    }
}

/// See [`EtcdCodec`].
#[derive(Debug, Clone, Default)]
pub struct EtcdDecoder<U>(ProstDecoder<U>);

impl<U: Message + Default> Decoder for EtcdDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        self.0
            .decode(source)
            .map_err(|status| Status::new(status.code(), format!("{MALFORMED}{}", status.message())))
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}
