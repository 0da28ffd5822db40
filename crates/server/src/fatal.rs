//! What an appliance does not survive, and the threads of the machine room.
//!
//! A failed disk, a violated invariant, a panic: the first of them is kept, nothing more is served, and whoever waits for
//! the server's end is told. Going on half-alive would be worse than a crash (rule 9 of the architecture).

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::watch;

use crate::error::{ExitReason, StartError};
use crate::handle::PermitCell;
use crate::inbox::Inbox;

/// How the machine room ends. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Fate {
    permit: Arc<PermitCell>,
    inbox: Arc<Inbox>,
    exit: Arc<watch::Sender<Option<ExitReason>>>,
}

impl Fate {
    pub(crate) fn new(permit: Arc<PermitCell>, inbox: Arc<Inbox>) -> Self {
        Self { permit, inbox, exit: Arc::new(watch::Sender::new(None)) }
    }

    /// Ends everything because of `reason`; only the first counts.
    pub(crate) fn fatal(&self, reason: String) {
        tracing::error!("this appliance stops at once: {reason}");
        self.end(ExitReason::Fatal(reason));
    }

    /// The soft shutdown is complete.
    pub(crate) fn stopped(&self) {
        self.end(ExitReason::Stopped);
    }

    fn end(&self, reason: ExitReason) {
        self.permit.bar();
        self.inbox.close();
        self.exit.send_if_modified(|exit| {
            let first = exit.is_none();
            exit.get_or_insert(reason);
            first
        });
    }

    /// Set once the machine room has ended or must end.
    pub(crate) fn exit(&self) -> watch::Receiver<Option<ExitReason>> {
        self.exit.subscribe()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.exit.borrow().is_some()
    }

    /// Starts a thread whose panic or error is the appliance's end.
    pub(crate) fn spawn<E: std::fmt::Display>(
        &self,
        name: &'static str,
        body: impl FnOnce() -> Result<(), E> + Send + 'static,
    ) -> Result<JoinHandle<()>, StartError> {
        let fate = self.clone();
        let run = move || match catch_unwind(AssertUnwindSafe(body)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => fate.fatal(error.to_string()),
            Err(panic) => fate.fatal(format!("the {name} thread broke: {}", panic_text(panic.as_ref()))),
        };
        std::thread::Builder::new()
            .name(format!("duet-{name}"))
            .spawn(run)
            .map_err(|reason| StartError::Thread { name, reason })
    }
}

impl Fate {
    /// The same for a thread that has no error of its own.
    pub(crate) fn spawn_plain(
        &self,
        name: &'static str,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<JoinHandle<()>, StartError> {
        self.spawn(name, move || {
            body();
            Ok::<(), std::convert::Infallible>(())
        })
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&'static str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else {
        "no reason given"
    }
}
