//! Gathers what many calls answer on one connection into one write.
//!
//! HTTP/2 flushes as soon as one call has its answer, although the next ones are often there too: a batch of writes
//! becomes durable at once and is answered at once. So a flush first lets everything run that is ready, once, and then
//! writes all of it with one system call. Nothing waits for time: with a single call the flush comes right after it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf};

/// Gathered at most before it is written in any case, in bytes: some hundred small answers. Larger ones are not copied.
const GATHERED_BYTES: usize = 8 << 10;

/// A connection whose answers are gathered.
pub struct Gathering<S> {
    inner: BufWriter<S>,
    /// Whoever was ready when the flush was asked for has had its turn.
    has_yielded: bool,
}

impl<S: AsyncWrite> Gathering<S> {
    /// Gathers from now on.
    pub fn new(inner: S) -> Gathering<S> {
        Gathering { inner: BufWriter::with_capacity(GATHERED_BYTES, inner), has_yielded: false }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gathering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathering<S> {
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
        if !self.has_yielded && !self.inner.buffer().is_empty() {
            self.has_yielded = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let flushed = std::task::ready!(Pin::new(&mut self.inner).poll_flush(context));
        self.has_yielded = false;
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_flush_takes_along_what_becomes_ready_meanwhile() {
        let (server, mut client) = tokio::io::duplex(1 << 20);
        let mut connection = Gathering::new(server);
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut connection).poll_write(&mut context, b"one ").is_ready());
        assert!(Pin::new(&mut connection).poll_flush(&mut context).is_pending(), "others get their turn");
        assert!(Pin::new(&mut connection).poll_write(&mut context, b"two").is_ready());
        assert!(Pin::new(&mut connection).poll_flush(&mut context).is_ready());
        let mut read = [0; 16];
        assert_eq!(client.read(&mut read).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn all_arrives_in_order_and_the_end_too() {
        let (server, mut client) = tokio::io::duplex(1 << 10);
        let sent: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let wanted = sent.clone();
        let writer = tokio::spawn(async move {
            let mut connection = Gathering::new(server);
            for piece in sent.chunks(3_001) {
                connection.write_all(piece).await.unwrap();
                connection.flush().await.unwrap();
            }
            connection.write_all(b"end").await.unwrap();
            connection.shutdown().await.unwrap();
        });
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.unwrap();
        writer.await.unwrap();
        assert!(read.strip_suffix(b"end") == Some(&wanted[..]));
    }
}
