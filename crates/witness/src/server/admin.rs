//! The socket in the data directory through which a running server takes orders: HTTP again, for its own user and root only.

use std::convert::Infallible;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path as InPath, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http::StatusCode;
use hyper::body::Frame;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::accept;
use super::limits::{BACKUP_CHUNK_BYTES, BACKUP_CHUNKS, BUSY_IDLE_TIMEOUT, MAX_ADMINS};
use super::registrar::{Order, Registrar};
use crate::ClusterName;

/// The socket's name in the data directory.
pub(super) const SOCKET: &str = "admin.sock";

/// Listens in the data directory, whose lock this process has: a socket that is there was left behind.
pub(super) fn listen(directory: &Path) -> io::Result<UnixListener> {
    let path = directory.join(SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves whoever may give orders; waits for ever when there is no socket.
pub(super) async fn serve(listener: Option<&UnixListener>, registrar: Arc<Registrar>) -> Infallible {
    let Some(listener) = listener else { return std::future::pending().await };
    let router = router(registrar);
    let (_open, closing) = watch::channel(());
    let mut tasks = JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        if tasks.len() >= MAX_ADMINS {
            tasks.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, _)) if may_order(&stream) => {
                tasks.spawn(accept::serve(stream, router.clone(), BUSY_IDLE_TIMEOUT, closing.clone()));
            }
            Ok(_) => tracing::warn!("somebody else's process was refused at the admin socket"),
            Err(error) => {
                tracing::warn!(%error, "the witness cannot take an order");
                tokio::time::sleep(super::limits::ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The server's own user, and root.
fn may_order(stream: &tokio::net::UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

fn router(registrar: Arc<Registrar>) -> Router {
    Router::new()
        .route("/pairs", get(list))
        .route("/pairs/{name}/{order}", post(order))
        .route("/backup", get(backup))
        .with_state(registrar)
}

async fn list(State(registrar): State<Arc<Registrar>>) -> Response {
    axum::Json(registrar.list()).into_response()
}

async fn order(
    State(registrar): State<Arc<Registrar>>,
    InPath((name, order)): InPath<(String, String)>,
) -> Response {
    let order = serde_json::from_value::<Order>(order.into());
    let (Ok(name), Ok(order)) = (name.parse::<ClusterName>(), order) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    match registrar.order(order, &name).await {
        Ok(token) => {
            tracing::info!(%name, ?order, "done");
            let token = token.as_ref().map(crate::Token::reveal);
            axum::Json(serde_json::json!({ "token": token })).into_response()
        }
        Err(error) => (StatusCode::CONFLICT, axum::Json(error)).into_response(),
    }
}

/// Streams a backup; one that breaks off has no end, and is not taken for one.
async fn backup(State(registrar): State<Arc<Registrar>>) -> Response {
    let (sender, chunks) = mpsc::channel(BACKUP_CHUNKS);
    tokio::task::spawn_blocking(move || {
        let out = BufWriter::with_capacity(BACKUP_CHUNK_BYTES, Chunks(sender));
        if let Err(error) = registrar.store().back_up(out) {
            tracing::warn!(%error, "a backup broke off");
        }
    });
    Body::new(Streamed(chunks)).into_response()
}

/// Hands over what is written.
struct Chunks(mpsc::Sender<Bytes>);

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Bytes::copy_from_slice(bytes));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What [`Chunks`] hands over, as a body.
struct Streamed(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Streamed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}
