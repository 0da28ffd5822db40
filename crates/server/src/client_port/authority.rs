//! Lets clients in that send a whole URL where HTTP/2 wants `host:port`.
//!
//! etcdctl 3.4 dials single endpoints (`endpoint status`, `defrag`, `move-leader`) with the endpoint's URL as the
//! `:authority` header when it was given with its scheme. gRPC-Go's server takes that, h2 refuses the request as malformed,
//! with no way to ask for less strictness. So the bytes of a connection are followed frame by frame, and in the header
//! block of a request the "://" after the scheme is overwritten in place with characters that may stand in an authority.
//! The replacement is as long as the original both in Huffman code and decoded, so neither frame lengths nor the sizes in
//! HPACK's dynamic table change. Nobody here looks at the authority.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What an HTTP/2 client sends first.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Length of a frame's header: length (3), type, flags, stream (4).
const FRAME_HEADER_BYTES: usize = 9;

/// Type of the frame that begins a request.
const HEADERS: u8 = 1;

/// HPACK: a literal value for `:authority` (static entry 1), to be indexed, not to be, or never to be.
const AUTHORITY: [u8; 3] = [0x41, 0x01, 0x11];

/// HPACK: the value is Huffman-coded, and shorter than 127 bytes.
const HUFFMAN: u8 = 0x80;

/// "http://" in HPACK's Huffman code: 41 bits, of which the last is 0.
pub(crate) const URL: [u8; 5] = [0x9d, 0x29, 0xae, 0xe3, 0x0c];

/// "httpv--" in the same code: also 41 bits, of which the last is 0.
pub(crate) const NAME: [u8; 5] = [0x9d, 0x29, 0xaf, 0xba, 0xcb];

/// The bit that both end with, in the byte after them.
const LAST_BIT: u8 = 0x80;

/// A connection whose requests are let through with a URL for an authority.
pub struct Lenient<S> {
    inner: S,
    place: Place,
}

/// Where in the client's stream we are.
enum Place {
    /// So many bytes of the preface have been seen.
    Preface(usize),
    /// In a frame's header, of which so many bytes have been seen.
    Header([u8; FRAME_HEADER_BYTES], usize),
    /// In a frame's payload.
    Payload { left: usize, is_headers: bool },
    /// Not HTTP/2: nothing to do.
    Other,
}

impl<S> Lenient<S> {
    /// Follows a connection from its first byte.
    pub fn new(inner: S) -> Lenient<S> {
        Lenient { inner, place: Place::Preface(0) }
    }
}

impl Place {
    /// Follows the bytes that were read, and changes what has to be changed.
    fn follow(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let taken = match self {
                Place::Other => return,
                Place::Preface(seen) => {
                    let taken = (PREFACE.len() - *seen).min(bytes.len());
                    if bytes[..taken] != PREFACE[*seen..*seen + taken] {
                        *self = Place::Other;
                        return;
                    }
                    *seen += taken;
                    if *seen == PREFACE.len() {
                        *self = Place::Header([0; FRAME_HEADER_BYTES], 0);
                    }
                    taken
                }
                Place::Header(header, seen) => {
                    let taken = (FRAME_HEADER_BYTES - *seen).min(bytes.len());
                    header[*seen..*seen + taken].copy_from_slice(&bytes[..taken]);
                    *seen += taken;
                    if *seen == FRAME_HEADER_BYTES {
                        *self = Place::after(*header);
                    }
                    taken
                }
                Place::Payload { left, is_headers } => {
                    let taken = (*left).min(bytes.len());
                    if *is_headers {
                        mend(&mut bytes[..taken]);
                    }
                    *left -= taken;
                    if *left == 0 {
                        *self = Place::Header([0; FRAME_HEADER_BYTES], 0);
                    }
                    taken
                }
            };
            bytes = &mut bytes[taken..];
        }
    }

    /// What comes after a frame's header.
    fn after(header: [u8; FRAME_HEADER_BYTES]) -> Place {
        let [high, middle, low, kind, ..] = header;
        let left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        if left == 0 {
            Place::Header([0; FRAME_HEADER_BYTES], 0)
        } else {
            Place::Payload { left, is_headers: kind == HEADERS }
        }
    }
}

/// Changes a URL for an authority in a header block. A block that is cut just there by the network stays as it is: the
/// request is then refused, as it would be without this.
fn mend(block: &mut [u8]) {
    let is_url = |window: &[u8]| match window {
        [name, length, value @ .., last] => {
            AUTHORITY.contains(name) && *length >= HUFFMAN && value == URL && last & LAST_BIT == 0
        }
        _ => false,
    };
    if let Some(at) = block.windows(URL.len() + 3).position(is_url) {
        block[at + 2..at + 2 + NAME.len()].copy_from_slice(&NAME);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lenient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        std::task::ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        self.place.follow(&mut buffer.filled_mut()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lenient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// Follows a client's stream that comes in `pieces`.
#[cfg(feature = "fuzzing")]
pub(crate) fn follow(pieces: &mut [&mut [u8]]) {
    let mut place = Place::Preface(0);
    for piece in pieces {
        place.follow(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with a payload below 256 bytes.
    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        let mut frame = vec![0, 0, length, kind, 4, 0, 0, 0, 1];
        frame.extend(payload);
        frame
    }

    /// ":authority: http://127.0.0.1:2379" as Go's encoder writes it, with a header before and one after.
    fn block(value: [u8; 5]) -> Vec<u8> {
        let mut block = vec![0x83, 0x86, 0x41, 0x8f];
        block.extend(value);
        block.extend([0x08, 0x9d, 0x5c, 0x0b, 0x81, 0x70, 0xdc, 0x0b, 0xa6, 0x59, 0x84]);
        block
    }

    fn stream(value: [u8; 5]) -> Vec<u8> {
        // The same bytes in data are a client's business.
        [PREFACE.to_vec(), frame(4, &[]), frame(HEADERS, &block(value)), frame(0, &block(URL))].concat()
    }

    #[test]
    fn a_url_becomes_a_name_of_the_same_length_in_headers_only() {
        let mut bytes = stream(URL);
        Place::Preface(0).follow(&mut bytes);
        assert!(bytes == stream(NAME));
    }

    #[test]
    fn it_is_found_unless_the_network_cuts_it_apart() {
        let whole = stream(URL);
        let mended = stream(NAME);
        let start = PREFACE.len() + 2 * FRAME_HEADER_BYTES + 2;
        for cut in 0..whole.len() {
            let mut bytes = whole.clone();
            let mut place = Place::Preface(0);
            let (left, right) = bytes.split_at_mut(cut);
            place.follow(left);
            place.follow(right);
            let apart = cut > start && cut < start + URL.len() + 3;
            assert!(bytes == if apart { whole.clone() } else { mended.clone() }, "{cut}");
        }
    }

    #[test]
    fn http_1_is_left_alone() {
        let mut bytes = [b"GET / HTTP/1.1\r\n".to_vec(), frame(HEADERS, &block(URL))].concat();
        let before = bytes.clone();
        Place::Preface(0).follow(&mut bytes);
        assert!(bytes == before);
    }
}
