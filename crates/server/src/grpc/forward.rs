//! Where a request is carried out: here if this appliance is primary, else at the primary; it waits while there is none.
//!
//! The rule that matters (S3): a write is tried a second time only if it is certain that the first try was never
//! appended. Certain are: our own machine room said so; no connection could be made; the connection was gone before
//! the request was taken; the other appliance answered with the mark of `errors::not_appended`. Anything else that is
//! not an answer of the other appliance is an unknown outcome. Reads change nothing and may always be tried again.

use std::error::Error as _;
use std::future::Future;
use std::time::Duration;

use duet_mvcc::{Alarm, AlarmKind, Applied, Command, Error, Store};
use duet_protocol::Lsn;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep_until, timeout, timeout_at};
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{ConnectError, Response, Status};

use super::call::Call;
use super::errors::{TIMEOUT_LEADER_FAILED, TOO_MANY_REQUESTS, is_not_appended, refused, write_failed};
use super::permit::NotOwned;
use super::{Api, PRIMARY_POLL};
use crate::error::{NotPrimary, WriteError};
use crate::handle::View;

/// Set on every answer to a forwarded call: tells an answer of the other appliance from a failure of the transport. Its
/// value is the LSN up to which that one has applied the log, for a call that may have written.
pub const ANSWERED: &str = "duet-answered";

/// How long the answer to a write is held back until it is applied here too. While the two are connected and in sync that
/// takes a message; who is further behind, or cut off, is not worth more: the write is carried out.
pub const APPLIED_HERE_LIMIT: Duration = Duration::from_secs(1);

/// How long a read waits for the state of this secondary to hold what it must see, before the whole request is passed on. That
/// takes a round trip; a primary that does not answer now may in a moment.
const READABLE_LIMIT: Duration = Duration::from_secs(1);

/// Calls that may be under way to the primary at once; more wait for their turn. Bounds memory, far above what a pair
/// serves at once.
const FORWARDED_CALLS: usize = 4096;

/// How long connecting to the primary may take: both are in one network.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Pings on an otherwise quiet connection to the primary, so that a dead one is noticed within
/// `KEEP_ALIVE_INTERVAL + KEEP_ALIVE_TIMEOUT`.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);

/// See [`KEEP_ALIVE_INTERVAL`].
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// Window of one stream to the primary in bytes: large answers at full speed.
const STREAM_WINDOW: u32 = 1 << 20;

/// Window of the connection to the primary in bytes.
const CONNECTION_WINDOW: u32 = 8 << 20;

/// The connection to the other appliance's client port.
pub struct Forwarder {
    channel: Mutex<Option<(String, Channel)>>,
    under_way: Semaphore,
}

impl Default for Forwarder {
    fn default() -> Forwarder {
        Forwarder { channel: Mutex::new(None), under_way: Semaphore::new(FORWARDED_CALLS) }
    }
}

impl Forwarder {
    /// The connection to `url`, made when it is first used.
    fn channel(&self, url: &str) -> Result<Channel, NotSent> {
        let mut cached = self.channel.lock();
        if let Some((known, channel)) = cached.as_ref()
            && known == url
        {
            return Ok(channel.clone());
        }
        let channel = Endpoint::from_shared(url.to_owned())
            .map_err(|error| {
                tracing::warn!(url, %error, "the other appliance's client URL cannot be used");
                NotSent
            })?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .connect_lazy();
        *cached = Some((url.to_owned(), channel.clone()));
        Ok(channel)
    }

    /// The next call makes a new connection.
    fn forget(&self) {
        *self.channel.lock() = None;
    }
}

/// Nothing was sent.
struct NotSent;

/// How a forwarded call came out.
enum Forwarded<T> {
    /// The primary carried it out.
    Done(Response<T>),
    /// The primary refused it.
    Refused(Status),
    /// It certainly had no effect and never will: may be tried again.
    NoEffect,
    /// Nobody knows.
    Unknown,
}

/// Where a write was carried out.
pub enum Written<T> {
    /// Here.
    Here(Box<Applied>),
    /// At the primary, with its answer.
    There(T),
}

impl Api {
    /// Proposes `command` in the caller's name here, or has `there` send the request to the primary.
    pub async fn write<F, Answer>(
        &self,
        call: &Call,
        command: Command,
        there: F,
    ) -> Result<Written<Answer::Value>, Status>
    where
        F: Fn(Channel, Call) -> Answer,
        Answer: AnswerFuture,
    {
        let mut view = self.watch_view();
        loop {
            let (is_primary, url) = destination(&mut view);
            if is_primary {
                if self.handle().space().has_no_room_for(&command)
                    && let Some(refusal) = Box::pin(self.refuse_for_space(call)).await
                {
                    return Err(refusal);
                }
                if let Some(applied) = self.write_here(call, &command).await? {
                    return Ok(Written::Here(Box::new(applied)));
                }
            }
            if call.forwarded {
                return Err(call.no_primary());
            }
            if let Some(url) = url {
                // Boxed: the way to the other appliance is rare here and would make every call's future several times as large.
                match Box::pin(self.forward(call, &url, &there)).await? {
                    Forwarded::Done(answer) => {
                        self.applied_here(call, answer.metadata()).await;
                        return Ok(Written::There(answer.into_inner()));
                    }
                    Forwarded::Refused(status) => return Err(status),
                    Forwarded::NoEffect => {}
                    Forwarded::Unknown => return Err(TIMEOUT_LEADER_FAILED.into()),
                }
            }
            wait_for_change(call, &mut view).await?;
        }
    }

    /// As in etcd, who writes through an appliance finds the write there, whatever it asks next: the answer waits until it
    /// is applied here.
    async fn applied_here(&self, call: &Call, answer: &MetadataMap) {
        let lsn = answer.get(ANSWERED).and_then(|lsn| lsn.to_str().ok()).and_then(|lsn| lsn.parse().ok());
        let limit = call.left().min(APPLIED_HERE_LIMIT);
        if let Some(lsn) = lsn
            && timeout(limit, self.handle().until_applied(Lsn(lsn))).await.is_err()
        {
            tracing::debug!(lsn, "a write that was passed on is not yet applied here");
        }
    }

    /// Proposes `command` here; `None` if it was certainly not appended, because this appliance is not primary.
    async fn write_here(&self, call: &Call, command: &Command) -> Result<Option<Applied>, Status> {
        let command = match self.owned(call, command) {
            Ok(command) => command,
            Err(NotOwned::NotPrimary) => return Ok(None),
            Err(NotOwned::Refused(error)) => return Err(refused(&error.into())),
        };
        match timeout_at(call.deadline, self.handle().write(command)).await {
            Ok(Ok(applied)) => Ok(Some(applied)),
            Ok(Err(WriteError::NotPrimary | WriteError::Stopping)) => Ok(None),
            Ok(Err(error)) => Err(write_failed(error)),
            Err(_) => Err(call.timed_out()),
        }
    }

    /// The store is full: raises the alarm, unless it is raised already, and refuses. `None`: this appliance is not
    /// primary any more, so its store does not decide.
    async fn refuse_for_space(&self, call: &Call) -> Option<Status> {
        let space = self.handle().space();
        if !space.is_full()
            && let Some(_raising) = space.raising()
        {
            let alarm = Alarm { kind: AlarmKind::NoSpace, member: self.view().my_member_id };
            tracing::warn!("the store has reached its quota: the alarm NOSPACE is raised");
            let raised = timeout_at(call.deadline, self.handle().write_own(Command::RaiseAlarm(alarm))).await;
            if let Ok(Err(WriteError::NotPrimary | WriteError::Stopping)) = raised {
                return None;
            }
        }
        Some(refused(&Error::NoSpace))
    }

    /// Answers a linearizable read with `here`: under the read permit, or as a secondary that has asked for a read index. Where
    /// neither can be had, `there` sends it to the primary.
    pub async fn read<T, L, F, Answer>(
        &self,
        call: &Call,
        here: L,
        there: F,
    ) -> Result<ReadAt<T, Answer::Value>, Status>
    where
        L: Fn(&Store) -> Result<T, Error>,
        F: Fn(Channel, Call) -> Answer,
        Answer: AnswerFuture,
    {
        if let Ok(answer) = self.under_permit(&here) {
            return answer.map(ReadAt::Here).map_err(|error| refused(&error));
        }
        // Boxed, as below: rare where the others are many.
        if !call.forwarded && Box::pin(self.becomes_readable(call)).await {
            let answer = here(&self.handle().store().read());
            return answer.map(ReadAt::Here).map_err(|error| refused(&error));
        }
        self.read_at_primary(call, here, there).await
    }

    fn under_permit<T>(
        &self,
        here: impl Fn(&Store) -> Result<T, Error>,
    ) -> Result<Result<T, Error>, NotPrimary> {
        let guard = self.handle().read_permit()?;
        let answer = here(&self.handle().store().read());
        guard.still_valid().map(|()| answer)
    }

    /// As a secondary in sync: waits until a read that has come before this may be answered from the state here. `false`:
    /// this appliance is none, or not any more, or it takes too long.
    async fn becomes_readable(&self, call: &Call) -> bool {
        let mut view = self.watch_view();
        if !view.borrow_and_update().is_secondary_in_sync() {
            return false;
        }
        tokio::select! {
            () = self.handle().until_readable() => true,
            _ = view.wait_for(|view| !view.is_secondary_in_sync()) => false,
            () = tokio::time::sleep(call.left().min(READABLE_LIMIT)) => false,
        }
    }

    /// Answers a linearizable read of what only the primary knows: `here` under the read permit, or `there`.
    pub async fn read_at_primary<T, L, F, Answer>(
        &self,
        call: &Call,
        here: L,
        there: F,
    ) -> Result<ReadAt<T, Answer::Value>, Status>
    where
        L: Fn(&Store) -> Result<T, Error>,
        F: Fn(Channel, Call) -> Answer,
        Answer: AnswerFuture,
    {
        match self.at_primary(call, || self.under_permit(&here), there).await? {
            ReadAt::Here(answer) => answer.map(ReadAt::Here).map_err(|error| refused(&error)),
            ReadAt::There(answer) => Ok(ReadAt::There(answer)),
        }
    }

    /// Does something that may be repeated: `here` if this appliance is primary, else `there`.
    pub async fn at_primary<T, L, F, Answer>(
        &self,
        call: &Call,
        here: L,
        there: F,
    ) -> Result<ReadAt<T, Answer::Value>, Status>
    where
        L: Fn() -> Result<T, NotPrimary>,
        F: Fn(Channel, Call) -> Answer,
        Answer: AnswerFuture,
    {
        let mut view = self.watch_view();
        loop {
            let (_, url) = destination(&mut view);
            if let Ok(answer) = here() {
                return Ok(ReadAt::Here(answer));
            }
            if call.forwarded {
                return Err(call.no_primary());
            }
            if let Some(url) = url {
                // It may be given up and asked anew as soon as somebody else is primary.
                let outcome = tokio::select! {
                    outcome = Box::pin(self.forward(call, &url, &there)) => outcome?,
                    () = Box::pin(until_primary_is_not(&url, view.clone())) => Forwarded::NoEffect,
                };
                match outcome {
                    Forwarded::Done(answer) => return Ok(ReadAt::There(answer.into_inner())),
                    Forwarded::Refused(status) => return Err(status),
                    Forwarded::NoEffect | Forwarded::Unknown => {}
                }
            }
            wait_for_change(call, &mut view).await?;
        }
    }

    /// Sends one call to the primary at `url` and judges what comes back.
    async fn forward<F, Answer>(
        &self,
        call: &Call,
        url: &str,
        there: &F,
    ) -> Result<Forwarded<Answer::Value>, Status>
    where
        F: Fn(Channel, Call) -> Answer,
        Answer: AnswerFuture,
    {
        let forwarder = self.forwarder();
        let Ok(permit) = timeout_at(call.deadline, forwarder.under_way.acquire()).await else {
            return Err(TOO_MANY_REQUESTS.into());
        };
        let Ok(_permit) = permit else { return Ok(Forwarded::NoEffect) };
        let Ok(channel) = forwarder.channel(url) else { return Ok(Forwarded::NoEffect) };
        let Ok(answer) = timeout_at(call.deadline, there(channel, call.clone())).await else {
            return Err(call.timed_out());
        };
        let status = match answer {
            Ok(answer) => return Ok(Forwarded::Done(answer)),
            Err(status) => status,
        };
        if is_not_appended(&status) {
            return Ok(Forwarded::NoEffect);
        }
        if status.metadata().contains_key(ANSWERED) {
            return Ok(Forwarded::Refused(Status::new(status.code(), status.message())));
        }
        forwarder.forget();
        tracing::debug!(url, %status, "a call to the primary failed on its way");
        Ok(if was_never_sent(&status) { Forwarded::NoEffect } else { Forwarded::Unknown })
    }
}

/// Where a read was answered.
pub enum ReadAt<T, R> {
    /// Here.
    Here(T),
    /// At the primary, with its answer.
    There(R),
}

/// A future of a unary call's answer.
pub trait AnswerFuture: Future<Output = Result<Response<Self::Value>, Status>> {
    /// The answer's message.
    type Value;
}

impl<T, F: Future<Output = Result<Response<T>, Status>>> AnswerFuture for F {
    type Value = T;
}

/// Whether this appliance takes writes, and if not, where the one that does can be reached. Marks the view as seen.
fn destination(view: &mut watch::Receiver<View>) -> (bool, Option<String>) {
    let view = view.borrow_and_update();
    let elsewhere = view.primary.is_some_and(|primary| *view.member_ids.get(primary) != view.my_member_id);
    (view.is_primary, view.primary_client_url.clone().filter(|_| elsewhere && !view.is_primary))
}

/// Returns when the view changes, or after a short pause; an error when the call may wait no more.
async fn wait_for_change(call: &Call, view: &mut watch::Receiver<View>) -> Result<(), Status> {
    tokio::select! {
        changed = view.changed() => changed.map_err(|_| call.no_primary()),
        () = tokio::time::sleep(PRIMARY_POLL) => {
            if call.left().is_zero() { Err(call.no_primary()) } else { Ok(()) }
        }
        () = sleep_until(call.deadline) => Err(call.no_primary()),
    }
}

/// Returns when the primary is no longer the one at `url`.
async fn until_primary_is_not(url: &str, mut view: watch::Receiver<View>) {
    let moved = view.wait_for(|view| {
        view.is_primary || view.primary_client_url.as_deref().is_some_and(|primary| primary != url)
    });
    if moved.await.is_err() {
        // The machine room is gone: whoever waits here is ended by its deadline.
        std::future::pending::<()>().await;
    }
}

/// Whether a failure of the transport is one of those after which the request certainly was not sent.
fn was_never_sent(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        // hyper: "canceled" is a request that was never taken by a connection.
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled) {
            return true;
        }
        cause = error.source();
    }
    false
}
