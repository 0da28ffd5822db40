//! What is known of the connection to the peer, for the status and for clients that are sent on to it.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct PeerBoard {
    state: Mutex<PeerNews>,
    /// How often the client URL was set.
    version: AtomicU64,
}

/// The latest.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct PeerNews {
    /// Where the peer's clients reach it; kept after a disconnection.
    pub(crate) client_url: Option<String>,
    /// Why there is no connection.
    pub(crate) error: Option<String>,
}

impl PeerBoard {
    pub(crate) fn connected(&self, client_url: String) {
        *self.state.lock() = PeerNews { client_url: Some(client_url), error: None };
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    /// A reason for a missing connection. True when it is another than before: worth a line in the log.
    pub(crate) fn failed(&self, error: String) -> bool {
        let mut state = self.state.lock();
        let is_new = state.error.as_ref() != Some(&error);
        state.error = Some(error);
        is_new
    }

    /// Changes with the client URL.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::SeqCst)
    }

    pub(crate) fn news(&self) -> PeerNews {
        self.state.lock().clone()
    }
}
