//! The thread that owns the log: everything that changes it happens here, in the order the core asked for it.
//!
//! Group commit: all appends that have gathered while the disk was busy become one write and one sync. A failure is
//! final: what the disk then holds is unknown, so the appliance ends and the next start finds out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use duet_protocol::{Entry, Input, Lsn, Position};
use duet_storage::{Log, LogError, Preparer};
use parking_lot::{Condvar, Mutex};

use crate::clock;
use crate::error::StartError;
use crate::failpoint;
use crate::fatal::Fate;
use crate::inbox::Inbox;
use crate::peer::copy::ReceivedCopy;
use crate::state::{Machine, StateFailure};
use crate::tail::Tail;
use crate::threads::let_others_put_in;

/// Bytes written after which the next segment is prepared: half of one, seconds before it is full, and late enough for a trim
/// to bring a file that needs no zeros.
const PREPARE_AFTER: usize = 32 << 20;

/// How often the preparing thread looks in any case: a segment that could not be prepared is only slower.
const PREPARE_INTERVAL: Duration = Duration::from_secs(10);

/// Something to be done with the log.
pub(crate) enum Job {
    Append { generation: u64, entries: Vec<Entry> },
    Truncate { generation: u64, last: Lsn },
    Trim { upto: Lsn },
    Install { generation: u64, position: Position, copy: ReceivedCopy },
}

/// Why the log's thread ends. All are fatal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogFailure {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    State(#[from] StateFailure),
}

/// What waits for the log's thread. Bounded by those who put in: the driver proposes nothing while too much is not durable,
/// and the peer sends no more than the protocol's window.
#[derive(Default)]
pub(crate) struct LogQueue {
    state: Mutex<Waiting>,
    writer: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl LogQueue {
    pub(crate) fn push(&self, job: Job) {
        self.state.lock().jobs.push_back(job);
        self.writer.notify_one();
    }

    /// What waits is still done, then the thread ends.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.writer.notify_one();
    }

    /// All that waits; `last` entries were written the last time.
    fn take(&self, last: usize) -> Option<VecDeque<Job>> {
        let mut state = self.state.lock();
        while state.jobs.is_empty() {
            if state.closed {
                return None;
            }
            self.writer.wait(&mut state);
            let_others_put_in(&mut state, last);
        }
        Some(std::mem::take(&mut state.jobs))
    }
}

/// The log's thread.
pub(crate) struct LogWriter {
    log: Log,
    queue: Arc<LogQueue>,
    tail: Arc<Tail>,
    inbox: Arc<Inbox>,
    machine: Arc<Machine>,
    preparing: Thread,
    since_prepared: usize,
    /// Entries that are not yet written.
    gathered: Vec<Entry>,
    /// How many were written the last time.
    last_gathered: usize,
    /// Of them, or else of what is in the log.
    generation: u64,
}

impl LogWriter {
    /// Starts the thread, and a second one that makes the files of segments ahead of their use.
    pub(crate) fn start(
        log: Log,
        queue: Arc<LogQueue>,
        tail: Arc<Tail>,
        inbox: Arc<Inbox>,
        machine: Arc<Machine>,
        fate: &Fate,
    ) -> Result<JoinHandle<()>, StartError> {
        let preparer = log.preparer();
        let its_fate = fate.clone();
        let preparing =
            fate.spawn_plain("log-prepare", move || prepare(&preparer, &its_fate))?.thread().clone();
        let mut writer = Self {
            log,
            queue,
            tail,
            inbox,
            machine,
            preparing,
            since_prepared: 0,
            gathered: Vec::new(),
            last_gathered: 0,
            generation: 0,
        };
        fate.spawn("log", move || writer.run())
    }

    fn run(&mut self) -> Result<(), LogFailure> {
        while let Some(jobs) = self.queue.take(self.last_gathered) {
            for job in jobs {
                self.carry_out(job)?;
            }
            self.settle()?;
        }
        Ok(())
    }

    fn carry_out(&mut self, job: Job) -> Result<(), LogFailure> {
        match job {
            Job::Append { generation, entries } => {
                self.generation = generation;
                self.gathered.extend(entries);
            }
            Job::Truncate { generation, last } => {
                self.settle()?;
                failpoint::reach("log.truncate.before");
                self.log.truncate(last)?;
                failpoint::reach("log.truncate.after");
                self.generation = generation;
                self.flushed(self.log.synced());
            }
            Job::Trim { upto } => {
                self.settle()?;
                self.log.trim(upto)?;
            }
            Job::Install { generation, position, copy } => {
                self.settle()?;
                self.generation = generation;
                let ReceivedCopy { ready, place } = copy;
                self.machine.install(ready, position, &mut self.log)?;
                drop(place);
            }
        }
        Ok(())
    }

    /// Writes and syncs what has gathered.
    fn settle(&mut self) -> Result<(), LogFailure> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        failpoint::reach("log.append.before");
        self.log.append(&self.gathered)?;
        failpoint::reach("log.append.after");
        self.since_prepared += self.gathered.iter().map(|entry| entry.command.len()).sum::<usize>();
        self.last_gathered = self.gathered.len();
        self.gathered.clear();
        failpoint::reach("log.sync.before");
        let began = clock::now();
        let durable = self.log.sync()?;
        let metrics = &self.machine.metrics;
        metrics.log_sync.record(clock::now().since(began));
        metrics.log_bytes.set(self.log.disk_bytes());
        failpoint::reach("log.sync.after");
        self.flushed(durable);
        if self.since_prepared >= PREPARE_AFTER {
            self.since_prepared = 0;
            self.preparing.unpark();
        }
        Ok(())
    }

    fn flushed(&self, lsn: Lsn) {
        self.tail.flushed(self.generation, lsn);
        self.inbox.event(Input::Flushed { generation: self.generation, lsn });
    }
}

fn prepare(preparer: &Preparer, fate: &Fate) {
    while !fate.has_ended() {
        if let Err(error) = preparer.prepare_next() {
            tracing::warn!("the log's next segment could not be prepared: {error}");
        }
        std::thread::park_timeout(PREPARE_INTERVAL);
    }
}
