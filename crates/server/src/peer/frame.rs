//! Frames: four bytes of length, four of checksum (CRC-32C of the body), the body.
//!
//! A length beyond the bound ends the connection before anything is allocated. The checksum is there for what TCP's own
//! lets through; the history's digests are checked by the protocol besides.

use std::io::{self, Read};

use bytes::Bytes;

use crate::error::in_words;

/// Largest body in bytes: an append holds about 1 MiB of commands, or one command of at most 4 MiB, and its stamps.
pub(crate) const FRAME_BYTES: usize = 8 << 20;

/// Length and checksum, in bytes.
pub(crate) const HEADER_BYTES: usize = 8;

/// Why no frame could be read. All end the connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("it closed the connection")]
    Closed,
    #[error("it said nothing for too long")]
    Silent,
    #[error("the connection broke: {}", in_words(.0))]
    Broken(io::Error),
    #[error(
        "a frame of {length} bytes is above the limit of {limit}: the other side is not a Duet appliance"
    )]
    TooLarge { length: usize, limit: usize },
    #[error("a frame arrived damaged (wrong checksum)")]
    Checksum,
}

/// Appends a frame to `buffer`; its body is what `write` appends.
pub(crate) fn write(buffer: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; HEADER_BYTES]);
    write(buffer);
    let body = start + HEADER_BYTES;
    let length = buffer.len() - body;
    assert!(length <= FRAME_BYTES, "no frame is larger than the receiver takes");
    let checksum = crc32c::crc32c(&buffer[body..]);
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    buffer[start..start + 4].copy_from_slice(&length.to_le_bytes());
    buffer[start + 4..body].copy_from_slice(&checksum.to_le_bytes());
}

/// The body of the next frame.
pub(crate) fn read(source: &mut impl Read) -> Result<Bytes, FrameError> {
    read_within(source, FRAME_BYTES)
}

/// The body of the next frame, if it is no larger than `limit`.
pub(crate) fn read_within(source: &mut impl Read, limit: usize) -> Result<Bytes, FrameError> {
    let mut length = [0; 4];
    let mut checksum = [0; 4];
    source.read_exact(&mut length).map_err(ended)?;
    source.read_exact(&mut checksum).map_err(ended)?;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > limit {
        return Err(FrameError::TooLarge { length, limit });
    }
    let mut body = vec![0; length];
    source.read_exact(&mut body).map_err(ended)?;
    if crc32c::crc32c(&body) != u32::from_le_bytes(checksum) {
        return Err(FrameError::Checksum);
    }
    Ok(Bytes::from(body))
}

fn ended(error: io::Error) -> FrameError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => FrameError::Closed,
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => FrameError::Silent,
        _ => FrameError::Broken(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_follow_one_another() {
        let mut buffer = Vec::new();
        write(&mut buffer, |body| body.extend_from_slice(b"one"));
        write(&mut buffer, |_| {});
        write(&mut buffer, |body| body.extend_from_slice(&vec![9; 100_000]));
        let mut source = buffer.as_slice();
        assert_eq!(read(&mut source).unwrap(), "one");
        assert_eq!(read(&mut source).unwrap(), "");
        assert_eq!(read(&mut source).unwrap().len(), 100_000);
        assert!(matches!(read(&mut source), Err(FrameError::Closed)));
    }

    #[test]
    fn damage_and_nonsense_are_refused() {
        let mut buffer = Vec::new();
        write(&mut buffer, |body| body.extend_from_slice(b"hello"));
        for index in 4..buffer.len() {
            let mut damaged = buffer.clone();
            damaged[index] ^= 1;
            assert!(matches!(read(&mut damaged.as_slice()), Err(FrameError::Checksum)));
        }
        let http = b"GET / HTTP/1.1\r\n\r\n";
        assert!(matches!(read(&mut http.as_slice()), Err(FrameError::TooLarge { .. })));
        let mut hundred = Vec::new();
        write(&mut hundred, |body| body.extend_from_slice(&[1; 100]));
        assert!(read_within(&mut hundred.as_slice(), 100).is_ok());
        assert!(matches!(read_within(&mut hundred.as_slice(), 99), Err(FrameError::TooLarge { .. })));
    }
}
