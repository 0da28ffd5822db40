//! Giving orders to a witness server: through its socket while it runs, else by opening its data.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::ServeError;
use super::admin::SOCKET;
use super::limits::PAIR_REQUESTS_PER_SECOND;
use super::meter::Meter;
use super::pairs::{PairSeen, Pairs};
use super::registrar::{Order, OrderError, Registrar};
use super::store::{BackupError, Contents, Store, check_backup};
use crate::{ClusterName, Token};

/// Why an order could not be given or was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The server, or the data, refused.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// The data cannot be opened.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// Give the directory of a witness.
    #[error("{} is no data directory of a witness", .0.display())]
    NoWitness(PathBuf),
    /// Look at the server.
    #[error("the witness server at {} broke off: {reason}", socket.display())]
    Broken {
        /// Where it was asked.
        socket: PathBuf,
        /// What happened.
        reason: String,
    },
    /// Check path and space.
    #[error("cannot write {}: {source}", file.display())]
    Write {
        /// The backup.
        file: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// Try again.
    #[error("the backup is not whole: {0}")]
    Backup(BackupError),
}

/// Somebody who may use a witness's data directory.
pub struct Administrator {
    directory: PathBuf,
    way: Way,
}

enum Way {
    /// A server runs.
    Socket,
    /// None does: its data is open here, and nobody else can start one meanwhile.
    Data(Registrar),
}

impl Administrator {
    /// Reaches the server of a data directory, or opens the data if none runs.
    ///
    /// # Errors
    /// It is no data directory of a witness, or cannot be opened.
    pub async fn of(directory: &Path) -> Result<Self, AdminError> {
        let directory = directory.to_owned();
        if UnixStream::connect(directory.join(SOCKET)).await.is_ok() {
            return Ok(Self { directory, way: Way::Socket });
        }
        if !Store::is_in(&directory) {
            return Err(AdminError::NoWitness(directory));
        }
        let (store, _writer) = Store::open(&directory, &Arc::new(Meter::new()))?;
        let pairs = Arc::new(Pairs::load(false, PAIR_REQUESTS_PER_SECOND, &store, &directory)?);
        Ok(Self { directory, way: Way::Data(Registrar::new(store, pairs)) })
    }

    /// Whether a server runs.
    pub const fn is_online(&self) -> bool {
        matches!(self.way, Way::Socket)
    }

    /// Carries out an order; the new token, if there is one.
    ///
    /// # Errors
    /// It was not carried out, or that is not known.
    pub async fn order(&self, order: Order, name: &ClusterName) -> Result<Option<Token>, AdminError> {
        if let Way::Data(registrar) = &self.way {
            return Ok(registrar.order(order, name).await?);
        }
        let word = serde_json::to_value(order).ok();
        let word = word.as_ref().and_then(|word| word.as_str()).unwrap_or_default();
        let (status, body) = self.ask(Method::POST, &format!("/pairs/{name}/{word}")).await?;
        let body = collect(body).await.map_err(|reason| self.broken(&reason))?;
        if status == StatusCode::CONFLICT {
            let error: OrderError = serde_json::from_slice(&body).map_err(|error| self.broken(&error))?;
            return Err(error.into());
        }
        let answer: serde_json::Value = serde_json::from_slice(&body).map_err(|error| self.broken(&error))?;
        let token = answer.get("token").and_then(|token| token.as_str());
        token.map(|token| token.parse().map_err(|error| self.broken(&error))).transpose()
    }

    /// All pairs, by name.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn list(&self) -> Result<Vec<PairSeen>, AdminError> {
        if let Way::Data(registrar) = &self.way {
            return Ok(registrar.list());
        }
        let (_, body) = self.ask(Method::GET, "/pairs").await?;
        let body = collect(body).await.map_err(|reason| self.broken(&reason))?;
        serde_json::from_slice(&body).map_err(|error| self.broken(&error))
    }

    /// Writes a backup into a file, which is there only when it is whole and durable.
    ///
    /// # Errors
    /// There is no such file then.
    pub async fn back_up(&self, file: &Path) -> Result<Contents, AdminError> {
        let part = file.with_added_extension("part");
        let outcome = self.back_up_into(&part).await.and_then(|contents| {
            let done = std::fs::rename(&part, file).and_then(|()| {
                let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
                File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
            });
            done.map(|()| contents).map_err(|source| AdminError::Write { file: file.to_owned(), source })
        });
        if outcome.is_err() {
            // It may not be there at all.
            let _ = std::fs::remove_file(&part);
        }
        outcome
    }

    async fn back_up_into(&self, part: &Path) -> Result<Contents, AdminError> {
        let failed = |source| AdminError::Write { file: part.to_owned(), source };
        let mut out = BufWriter::new(private(part).map_err(failed)?);
        match &self.way {
            Way::Data(registrar) => {
                registrar.store().back_up(&mut out).map_err(|error| failed(std::io::Error::other(error)))?;
            }
            Way::Socket => {
                let (_, mut body) = self.ask(Method::GET, "/backup").await?;
                while let Some(frame) = body.frame().await {
                    let frame = frame.map_err(|error| self.broken(&error))?;
                    out.write_all(frame.data_ref().unwrap_or(&Bytes::new())).map_err(failed)?;
                }
            }
        }
        let out = out.into_inner().map_err(|error| failed(error.into_error()))?;
        out.sync_all().map_err(failed)?;
        check_backup(part).map_err(AdminError::Backup)
    }

    async fn ask(&self, method: Method, path: &str) -> Result<(StatusCode, Incoming), AdminError> {
        let stream = UnixStream::connect(self.socket()).await.map_err(|error| self.broken(&error))?;
        let (mut sender, driver) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(&error))?;
        // Ends with the connection; its errors come out of the answer as well.
        tokio::spawn(async move { drop(driver.await) });
        let request = Request::builder().method(method).uri(path).header(http::header::HOST, "witness");
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| self.broken(&error))?;
        let response = sender.send_request(request).await.map_err(|error| self.broken(&error))?;
        Ok((response.status(), response.into_body()))
    }

    fn socket(&self) -> PathBuf {
        self.directory.join(SOCKET)
    }

    fn broken(&self, reason: &impl ToString) -> AdminError {
        AdminError::Broken { socket: self.socket(), reason: reason.to_string() }
    }
}

/// A new file that only its owner reads: a backup tells which pairs there are.
fn private(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().write(true).create(true).truncate(true).mode(0o600).open(path)
}

async fn collect(body: Incoming) -> Result<Bytes, hyper::Error> {
    Ok(body.collect().await?.to_bytes())
}
