//! The Watch service: one task for each stream, which the client's requests and the hub's signals wake.
//!
//! The task owns its watchers (`watch_stream`) and sends through a short channel. While the client does not read, the
//! task waits; events then stay where they are, in the ring or in the history.

use std::time::Duration;

use bytes::Bytes;
use duet_etcd_api::etcdserverpb as pb;
use duet_etcd_api::etcdserverpb::watch_server::Watch;
use pb::watch_request::RequestUnion;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Api;
use super::call::{Call, requires_leader};
use super::errors::{NO_LEADER, STOPPED};
use super::watch_stream::{Ended, WatchStream};
use crate::handle::View;

/// Responses that wait for one client to read. Few, because one may hold a megabyte.
const WAITING_RESPONSES: usize = 8;

/// How long a stream that asked for a leader goes on without one, and how long a new call that asks for one waits for it:
/// etcd's members believe in a dead leader for a while too, and clients take the refusal of a watch as final. etcd: three
/// election timeouts.
pub(super) const NO_LEADER_GRACE: Duration = Duration::from_secs(3);

/// Part of the progress interval by which streams are spread, so that not all of them send at once.
const PROGRESS_JITTER: f64 = 0.1;

/// The Watch service.
#[derive(Clone)]
pub struct WatchService {
    api: Api,
}

impl WatchService {
    /// Serves with the shared parts.
    pub fn new(api: Api) -> WatchService {
        WatchService { api }
    }
}

#[tonic::async_trait]
impl Watch for WatchService {
    type WatchStream = ReceiverStream<Result<pb::WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let needs_leader = requires_leader(request.metadata().as_ref());
        let (sender, receiver) = mpsc::channel(WAITING_RESPONSES);
        let (call, requests) = Call::of(request);
        let stream = WatchStream::new(self.api.clone(), sender.clone()).of(call);
        let api = self.api.clone();
        tokio::spawn(async move {
            let Err(ended) = serve(api, stream, requests, needs_leader).await;
            if let Ended::Failed(status) = ended {
                // The client may be gone or not reading: then there is nobody to tell.
                let _ = sender.send_timeout(Err(status), NO_LEADER_GRACE).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

/// Runs one stream to its end.
async fn serve(
    api: Api,
    mut stream: WatchStream,
    mut requests: Streaming<pb::WatchRequest>,
    needs_leader: bool,
) -> Result<std::convert::Infallible, Ended> {
    let mut stopping = api.stopping();
    let mut dispatched = api.hub().dispatched();
    let client = stream.client();
    let leaderless = without_leader(api.watch_view());
    tokio::pin!(leaderless);
    let progress = tokio::time::sleep_until(next_progress(api.progress_interval()));
    tokio::pin!(progress);
    // A client may close its side and go on reading.
    let mut client_speaks = true;
    loop {
        stream.deliver().await?;
        let behind = stream.catch_up().await?;
        let reached = *dispatched.borrow_and_update();
        stream.tell_progress(reached).await?;
        let waits_for_progress = stream.waits_for_progress();
        tokio::select! {
            request = requests.message(), if client_speaks => match request {
                Ok(Some(request)) => take(&mut stream, request).await?,
                Ok(None) => client_speaks = false,
                // Too large, or no message at all; whoever has gone away is not told.
                Err(status) => return Err(Ended::Failed(status)),
            },
            () = stream.raised() => {}
            () = tokio::task::yield_now(), if behind => {}
            changed = dispatched.changed(), if waits_for_progress => {
                changed.map_err(|_| Ended::Failed(STOPPED.into()))?;
            }
            () = &mut progress => {
                stream.progress_is_due();
                progress.as_mut().reset(next_progress(api.progress_interval()));
            }
            () = stopping.begun() => return Err(Ended::Failed(STOPPED.into())),
            () = &mut leaderless, if needs_leader => return Err(Ended::Failed(NO_LEADER.into())),
            () = client.closed() => return Err(Ended::ClientGone),
        }
    }
}

/// A watch of the server's own on `key` up to `range_end`, from `start` on. It ends when its receiver is dropped.
pub(super) fn inner_watch(
    api: &Api,
    key: Bytes,
    range_end: Bytes,
    start_revision: i64,
) -> mpsc::Receiver<Result<pb::WatchResponse, Status>> {
    let (sender, receiver) = mpsc::channel(WAITING_RESPONSES);
    let stream = WatchStream::new(api.clone(), sender.clone());
    let request = pb::WatchCreateRequest { key, range_end, start_revision, ..Default::default() };
    tokio::spawn(async move {
        let Err(ended) = follow(stream, request).await;
        if let Ended::Failed(status) = ended {
            let _ = sender.send(Err(status)).await;
        }
    });
    receiver
}

async fn follow(
    mut stream: WatchStream,
    request: pb::WatchCreateRequest,
) -> Result<std::convert::Infallible, Ended> {
    let client = stream.client();
    stream.create(request).await?;
    loop {
        stream.deliver().await?;
        let behind = stream.catch_up().await?;
        tokio::select! {
            () = stream.raised() => {}
            () = tokio::task::yield_now(), if behind => {}
            () = client.closed() => return Err(Ended::ClientGone),
        }
    }
}

async fn take(stream: &mut WatchStream, request: pb::WatchRequest) -> Result<(), Ended> {
    match request.request_union {
        Some(RequestUnion::CreateRequest(request)) => stream.create(request).await,
        Some(RequestUnion::CancelRequest(request)) => stream.cancel(request.watch_id).await,
        Some(RequestUnion::ProgressRequest(_)) => {
            stream.want_progress();
            Ok(())
        }
        None => Ok(()),
    }
}

fn next_progress(interval: Duration) -> Instant {
    Instant::now() + interval.mul_f64(1.0 + rand::random::<f64>() * PROGRESS_JITTER)
}

/// Returns when there has been no primary for [`NO_LEADER_GRACE`].
pub(super) async fn without_leader(mut view: watch::Receiver<View>) {
    loop {
        if view.wait_for(|view| !view.has_primary()).await.is_err() {
            return std::future::pending().await;
        }
        let found = tokio::time::timeout(NO_LEADER_GRACE, view.wait_for(View::has_primary))
            .await
            .map(|found| found.is_ok());
        match found {
            Ok(true) => {}
            Ok(false) => return std::future::pending().await,
            Err(_) => return,
        }
    }
}
