//! The etcd v3 API over gRPC: one file for each service, and what they share.
//!
//! Every answer that claims to be linearizable comes from the primary: from its store under the read permit, or
//! through `forward`. Keeps S2 (a read is answered only if the permit is in force after the state was read) and S3 (a
//! write whose outcome is unknown is reported so and never repeated).

pub(crate) mod auth;
pub(crate) mod call;
mod caller;
pub(crate) mod cluster;
pub(crate) mod convert;
pub(crate) mod election;
pub(crate) mod errors;
pub(crate) mod forward;
pub(crate) mod gate;
pub(crate) mod health;
mod keys;
pub(crate) mod kv;
pub(crate) mod lease;
pub(crate) mod lock;
pub(crate) mod maintenance;
mod observe;
mod permit;
pub(crate) mod reflection;
mod waiting_line;
pub(crate) mod watch;
pub(crate) mod watch_stream;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use duet_etcd_api::etcdserverpb as pb;
use tokio::sync::watch as watch_channel;

use crate::auth::{Passwords, Tokens};
use crate::client_limits::ClientLimits;
use crate::client_port::ClientPortOptions;
use crate::handle::{Handle, View};
use crate::lease_clock::LeaseClock;
use crate::watch_hub::WatchHub;

use forward::Forwarder;

/// The etcd version that clients see. 3.5: what the Kubernetes API server wants for its watch features.
pub const ETCD_VERSION: &str = "3.5.30";

/// The cluster version that clients see.
pub const ETCD_CLUSTER_VERSION: &str = "3.5.0";

/// Largest request in bytes, etcd's default (1.5 MiB): it bounds the log's entries.
pub const MAX_REQUEST_BYTES: usize = 1_572_864;

/// Bytes that etcd's own envelope adds to a request before it compares with [`MAX_REQUEST_BYTES`]. Its exact size varies
/// with ids; this is a typical one.
pub const REQUEST_ENVELOPE_BYTES: usize = 20;

/// Largest message in bytes that is read at all, etcd's default: the limit on requests and 512 KiB for gRPC.
pub const MAX_MESSAGE_BYTES: usize = MAX_REQUEST_BYTES + 512 * 1024;

/// How long a request may take, as in etcd with default timing: 5 s and two election timeouts.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(7);

/// Longest pause between two looks for a primary: a role change wakes a waiting request at once, this covers a read
/// permit that comes back without one.
pub const PRIMARY_POLL: Duration = Duration::from_millis(20);

/// Tells when the port is closing and streams must end.
#[derive(Clone)]
pub(crate) struct Stopping(watch_channel::Receiver<bool>);

impl Stopping {
    /// Turns with the channel's value; a channel whose sender is gone has stopped.
    pub fn new(stopped: watch_channel::Receiver<bool>) -> Stopping {
        Stopping(stopped)
    }

    /// Waits for it.
    pub async fn begun(&mut self) {
        // An error says that the sender is gone.
        let _ = self.0.wait_for(|stopping| *stopping).await;
    }

    /// Whether it has come.
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }
}

/// What all services share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api {
    inner: Arc<Shared>,
}

struct Shared {
    handle: Handle,
    view: watch_channel::Receiver<View>,
    forwarder: Forwarder,
    hub: Arc<WatchHub>,
    leases: Arc<LeaseClock>,
    stopping: Stopping,
    options: ClientPortOptions,
    tokens: Tokens,
    passwords: Passwords,
}

impl Api {
    /// Ties the parts together.
    pub fn new(
        handle: Handle,
        hub: Arc<WatchHub>,
        leases: Arc<LeaseClock>,
        stopping: Stopping,
        options: ClientPortOptions,
    ) -> Api {
        let view = handle.view();
        let forwarder = Forwarder::default();
        let (tokens, passwords) = (Tokens::new(&options.auth), Passwords::new(options.auth.bcrypt_cost));
        let shared = Shared { handle, view, forwarder, hub, leases, stopping, options, tokens, passwords };
        Api { inner: Arc::new(shared) }
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.inner.handle
    }

    pub(crate) fn view(&self) -> watch_channel::Ref<'_, View> {
        self.inner.view.borrow()
    }

    pub(crate) fn watch_view(&self) -> watch_channel::Receiver<View> {
        self.inner.handle.view()
    }

    pub(crate) fn forwarder(&self) -> &Forwarder {
        &self.inner.forwarder
    }

    pub(crate) fn hub(&self) -> &Arc<WatchHub> {
        &self.inner.hub
    }

    pub(crate) fn leases(&self) -> &LeaseClock {
        &self.inner.leases
    }

    pub(crate) fn stopping(&self) -> Stopping {
        self.inner.stopping.clone()
    }

    pub(crate) fn tokens(&self) -> &Tokens {
        &self.inner.tokens
    }

    pub(crate) fn passwords(&self) -> &Passwords {
        &self.inner.passwords
    }

    pub(crate) fn progress_interval(&self) -> Duration {
        self.inner.options.watch_progress_interval
    }

    /// What clients may do.
    pub(crate) fn limits(&self) -> &ClientLimits {
        &self.inner.options.limits
    }

    /// The revision of the local store.
    pub(crate) fn revision(&self) -> i64 {
        self.inner.handle.store().read().revision()
    }

    /// The header of an answer.
    pub(crate) fn header(&self, revision: i64) -> pb::ResponseHeader {
        let view = self.view();
        pb::ResponseHeader {
            cluster_id: view.cluster_id,
            member_id: view.my_member_id,
            revision,
            raft_term: view.epoch.0,
        }
    }

    /// Whether anybody takes writes, as far as this appliance knows.
    pub(crate) fn has_primary(&self) -> bool {
        self.view().has_primary()
    }

    /// Whether anybody takes writes, or will within `limit`.
    pub(crate) async fn has_primary_within(&self, limit: Duration) -> bool {
        let mut view = self.handle().view();
        let found = view.wait_for(View::has_primary);
        matches!(tokio::time::timeout(limit, found).await, Ok(Ok(_)))
    }
}
