//! One member of an etcd: the connection, the login, and whether it is an etcd at all.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use duet_etcd_api::etcdserverpb::auth_client::AuthClient;
use duet_etcd_api::etcdserverpb::kv_client::KvClient;
use duet_etcd_api::etcdserverpb::{AuthenticateRequest, TxnRequest, TxnResponse};
use http::header::HOST;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

use super::words;
use crate::credentials::Credentials;

/// What a Duet appliance answers at, and an etcd does not.
const DUET_PATH: &str = "/duet/v1/status";
/// Largest answer that is looked at there, in bytes: an appliance's status is a few kilobytes.
const MAX_STATUS_BYTES: usize = 1 << 20;

/// Why a member gave no answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// Nothing listens there, or it is out of reach: certainly not sent.
    Unreachable(String),
    /// No answer in time.
    Silent(Duration),
    /// etcd's own words.
    Refused(Status),
    /// It is a Duet appliance.
    Duet,
    /// The credentials cannot be used.
    Credentials(String),
}

impl Failed {
    pub fn silent(waited: Duration) -> Self {
        Self::Silent(waited)
    }

    /// Another member would say the same.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Duet | Self::Credentials(_) => true,
            Self::Unreachable(_) | Self::Silent(_) => false,
            Self::Refused(status) => matches!(
                status.code(),
                Code::PermissionDenied
                    | Code::Unauthenticated
                    | Code::InvalidArgument
                    | Code::FailedPrecondition
            ),
        }
    }

    /// Goes on after the name of the member; `folder` is what the keys begin with.
    pub fn what(&self, folder: &str) -> String {
        match self {
            Self::Unreachable(cause) => {
                format!("cannot be reached ({cause}): check the address and the network")
            }
            Self::Silent(waited) => {
                format!(
                    "did not answer within {} ms: check the network, and whether it has a leader",
                    waited.as_millis()
                )
            }
            Self::Refused(status) => words::refusal(status, folder),
            Self::Duet => {
                "is a Duet appliance, and a pair is no witness: use an etcd, or `duet witness`".to_owned()
            }
            Self::Credentials(what) => what.clone(),
        }
    }
}

/// One member.
pub(super) struct Member {
    endpoint: String,
    credentials: Credentials,
    channel: Mutex<Option<Channel>>,
    /// What a login brought.
    token: Mutex<Option<AsciiMetadataValue>>,
    /// It was asked whether it is a Duet appliance, and is not.
    is_etcd: AtomicBool,
}

impl Member {
    pub fn new(endpoint: &str, credentials: Credentials) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            credentials,
            channel: Mutex::default(),
            token: Mutex::default(),
            is_etcd: AtomicBool::new(false),
        }
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// One transaction; a second try after a new login if etcd no longer knows the token, which it says before it does
    /// anything.
    pub async fn txn(&self, request: &TxnRequest) -> Result<TxnResponse, Failed> {
        let channel = self.channel().await?;
        let token = match self.token() {
            Some(token) => Some(token),
            None => self.log_in(channel.clone()).await?,
        };
        let had_token = token.is_some();
        match send(channel.clone(), request, token).await {
            Err(status) if had_token && words::is_unknown_token(&status) => {
                let token = self.log_in(channel.clone()).await?;
                send(channel, request, token).await.map_err(Failed::Refused)
            }
            Err(status) => {
                if status.code() == Code::Unavailable {
                    *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = None;
                }
                Err(Failed::Refused(status))
            }
            Ok(answer) => Ok(answer),
        }
    }

    fn token(&self) -> Option<AsciiMetadataValue> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A token for the user of the credentials; `None` if there is no user.
    async fn log_in(&self, channel: Channel) -> Result<Option<AsciiMetadataValue>, Failed> {
        let settings = self.credentials.load().map_err(|reason| Failed::Credentials(reason.to_string()))?;
        let setting =
            |name: &str| settings.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let Some(name) = setting("ETCD_USER") else { return Ok(None) };
        let Some(password) = setting("ETCD_PASSWORD") else {
            let place = self.credentials.place();
            return Err(Failed::Credentials(format!("was not asked: set ETCD_PASSWORD {place}")));
        };
        let request = AuthenticateRequest { name, password };
        let answer = AuthClient::new(channel).authenticate(request).await;
        let token = match answer {
            Ok(answer) => answer.into_inner().token,
            // It knows no users: whoever comes may read and write.
            Err(status) if words::is_without_users(&status) => return Ok(None),
            Err(status) => return Err(Failed::Refused(status)),
        };
        let token = AsciiMetadataValue::try_from(token);
        let mut token =
            token.map_err(|_| Failed::Credentials("gave a token that cannot be sent".to_owned()))?;
        token.set_sensitive(true);
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
        Ok(Some(token))
    }

    async fn channel(&self) -> Result<Channel, Failed> {
        let made = self.channel.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(channel) = made {
            return Ok(channel);
        }
        self.check_that_it_is_etcd().await?;
        let endpoint = Endpoint::from_shared(format!("http://{}", self.endpoint))
            .map_err(|error| Failed::Unreachable(error.to_string()))?;
        let channel = endpoint
            .tcp_nodelay(true)
            .connect()
            .await
            .map_err(|error| Failed::Unreachable(words::root_cause(&error)))?;
        *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = Some(channel.clone());
        Ok(channel)
    }

    /// Only what says that it is a Duet appliance is one; whatever else answers or does not is found out by the call.
    async fn check_that_it_is_etcd(&self) -> Result<(), Failed> {
        if self.is_etcd.load(Ordering::Relaxed) {
            return Ok(());
        }
        let stream = TcpStream::connect(&self.endpoint)
            .await
            .map_err(|error| Failed::Unreachable(error.to_string()))?;
        if is_duet(stream, &self.endpoint).await.unwrap_or(false) {
            return Err(Failed::Duet);
        }
        self.is_etcd.store(true, Ordering::Relaxed);
        Ok(())
    }
}

async fn send(
    channel: Channel,
    message: &TxnRequest,
    token: Option<AsciiMetadataValue>,
) -> Result<TxnResponse, Status> {
    let mut request = Request::new(message.clone());
    if let Some(token) = token {
        request.metadata_mut().insert("token", token);
    }
    KvClient::new(channel).txn(request).await.map(Response::into_inner)
}

/// Whether a Duet appliance answers on this connection; `None` if nothing does.
async fn is_duet(stream: TcpStream, host: &str) -> Option<bool> {
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let task = tokio::spawn(async move { drop(driver.await) });
    let request = http::Request::get(DUET_PATH).header(HOST, host).body(Empty::<Bytes>::new()).ok()?;
    let response = sender.send_request(request).await.ok()?;
    let found = response.status().is_success();
    let body = Limited::new(response.into_body(), MAX_STATUS_BYTES).collect().await.ok()?.to_bytes();
    task.abort();
    let status: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    Some(found && status.get("appliance").is_some())
}
