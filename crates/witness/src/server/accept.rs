//! Takes connections, as many as there is room for, and serves each in a task of its own.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::connections::Connections;
use super::limits::{ACCEPT_PAUSE, BACKLOG, CLOSE_GRACE, CONNECTION_BUFFER_BYTES, FULL_PATIENCE};

/// Listens on an address, with room for a crowd that comes at once.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As servers do: the port can be taken again at once after a stop.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Takes connections for ever. When this future is dropped, connections end after the request that they
/// serve.
pub(super) async fn accept(
    listener: &TcpListener,
    router: &Router,
    connections: &Arc<Connections>,
    tasks: &mut JoinSet<()>,
) -> Infallible {
    let (mut open, mut closing) = watch::channel(());
    loop {
        // Reaps what has ended, and waits for an end when there are too many.
        while tasks.try_join_next().is_some() {}
        if connections.full() {
            // In a crowd places come free one after the other, as each connection is closed after its answer.
            if tokio::time::timeout(FULL_PATIENCE, tasks.join_next()).await.is_err() {
                drop(open);
                (open, closing) = watch::channel(());
                connections.note_shed();
            }
            continue;
        }
        match listener.accept().await {
            Ok((stream, from)) => {
                let Some(admitted) = connections.admit(from.ip()) else { continue };
                // Answers are single small segments; a socket without this option would hold them back.
                let _ = stream.set_nodelay(true);
                let (router, closing, patience) = (router.clone(), closing.clone(), connections.patience());
                tasks.spawn(async move {
                    serve(stream, router, patience, closing).await;
                    drop(admitted);
                });
            }
            Err(error) => {
                // As a rule there are no file descriptors left: makes room by closing whatever is idle.
                tracing::warn!(%error, connections = tasks.len(), "the witness cannot take a connection");
                drop(open);
                (open, closing) = watch::channel(());
                connections.note_shed();
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one connection until its client is done with it or silent for longer than `patience`, or `closing` loses its
/// sender.
pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    router: Router,
    patience: Duration,
    mut closing: watch::Receiver<()>,
) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(CONNECTION_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let closed = async {
        let _ = closing.changed().await;
        tokio::time::sleep(CLOSE_GRACE).await;
    };
    // Errors are the client's (a reset, a malformed request, silence): nothing to be done about them here.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = closed => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Whoever sends nothing, or never the whole head, loses the connection.
    #[tokio::test]
    async fn a_slow_sender_is_cut_off() {
        for sent in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: w\r\n"] {
            let (mut client, server) = tokio::io::duplex(1024);
            let (_open, closing) = watch::channel(());
            let start = Instant::now();
            let served = tokio::spawn(serve(server, Router::new(), Duration::from_millis(100), closing));
            client.write_all(sent.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            served.await.unwrap();
            assert!(start.elapsed() < Duration::from_secs(30), "{sent:?}");
        }
    }
}
