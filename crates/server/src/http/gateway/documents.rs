//! The JSON values in the body of a request, one after the other, as they come.

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use duet_etcd_api::json::{Malformed, Scanner};
use http_body_util::BodyExt;

/// Bytes of JSON that a byte of a message takes at most: as a number in a list. etcd has no such limit; it reads everything
/// before it measures it.
const JSON_BYTES: usize = 4;

/// Bytes of a body that is refused already, that are still taken from the client: most clients look for an answer only when
/// all is sent. None of them is kept.
const DISCARDED_BYTES: usize = 64 << 20;

/// Why there is no further document.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoDocument {
    /// It is no JSON, or not of the message's form.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It is larger than any message of these bytes would be.
    #[error("grpc: received message larger than max (over {} as JSON vs. {most})", JSON_BYTES * most)]
    TooLarge {
        /// Largest message that is read.
        most: usize,
    },
    /// The client has gone away in the middle of it.
    #[error("the body ends early: {0}")]
    Lost(axum::Error),
}

/// See the module.
pub(super) struct Documents {
    body: Body,
    buffer: BytesMut,
    scanner: Scanner,
    /// So much of the buffer has passed the scanner.
    scanned: usize,
    /// Largest message that is read, in bytes of protobuf.
    most: usize,
}

impl Documents {
    pub(super) fn new(body: Body, most: usize) -> Documents {
        Documents { body, buffer: BytesMut::new(), scanner: Scanner::default(), scanned: 0, most }
    }

    /// The next one; `None` at the end of the body. What comes after it is not read yet.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, NoDocument> {
        loop {
            if let Some(end) = self.scanner.find_end(&self.buffer[self.scanned..])? {
                return Ok(Some(self.cut(self.scanned + end)));
            }
            if self.scanner.is_blank() {
                self.buffer.clear();
            }
            self.scanned = self.buffer.len();
            if self.scanned > JSON_BYTES * self.most {
                self.discard().await;
                return Err(NoDocument::TooLarge { most: self.most });
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Some(Err(error)) => return Err(NoDocument::Lost(error)),
                None if self.scanner.is_blank() => return Ok(None),
                None if self.scanner.ends_here() => return Ok(Some(self.cut(self.scanned))),
                None => return Err(Malformed("unexpected EOF".to_owned()).into()),
            }
        }
    }

    async fn discard(&mut self) {
        self.buffer = BytesMut::new();
        let mut left = DISCARDED_BYTES;
        while let Some(Ok(frame)) = self.body.frame().await {
            match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(less) => left = less,
                None => return,
            }
        }
    }

    fn cut(&mut self, end: usize) -> Bytes {
        self.scanner = Scanner::default();
        self.scanned = 0;
        self.buffer.split_to(end).freeze()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    const MOST: usize = 2 << 20;

    async fn read(pieces: Vec<&'static str>) -> (Vec<Bytes>, Option<String>) {
        let pieces = pieces.into_iter().map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece)));
        let mut documents = Documents::new(Body::from_stream(stream::iter(pieces)), MOST);
        let mut read = Vec::new();
        loop {
            match documents.next().await {
                Ok(Some(document)) => read.push(document),
                Ok(None) => return (read, None),
                Err(reason) => return (read, Some(reason.to_string())),
            }
        }
    }

    #[tokio::test]
    async fn documents_are_found_however_they_come() {
        assert_eq!(read(vec![]).await, (vec![], None));
        assert_eq!(read(vec![" \n", "\t"]).await, (vec![], None));
        let (documents, end) = read(vec!["{\"a\":", "1}{}", "\n 5", "6 {", "}"]).await;
        assert_eq!((documents.concat(), end), (b"{\"a\":1}{}\n 56 {}".to_vec(), None));
        assert_eq!(documents.len(), 4);
        assert_eq!(read(vec!["7"]).await, (vec![Bytes::from("7")], None));
        assert_eq!(read(vec!["{}", "{"]).await, (vec![Bytes::from("{}")], Some("unexpected EOF".to_owned())));
        let (documents, end) = read(vec!["{} x"]).await;
        let reason = "invalid character 'x' looking for beginning of value".to_owned();
        assert_eq!((documents.len(), end), (1, Some(reason)));
    }

    #[tokio::test]
    async fn a_document_without_end_is_refused() {
        let piece = "a".repeat(1 << 20).leak();
        let mut pieces = vec!["\"", "\n"];
        pieces[1] = piece;
        pieces.resize(JSON_BYTES * MOST / piece.len() + 2, piece);
        let told = "grpc: received message larger than max (over 8388608 as JSON vs. 2097152)";
        assert_eq!(read(pieces).await, (vec![], Some(told.to_owned())));
        let space = " ".repeat(1 << 20).leak();
        assert_eq!(read(vec![space; 10]).await, (vec![], None), "space costs nothing");
    }
}
