//! The core's requests to the witness, carried out one after another on the register.
//!
//! Keeps for the core's revisions the register's own version of the record: the core compares by revision, the register by
//! a version that is never used twice, so a witness that was set back to an old state is noticed. Unknown stays unknown.

use std::sync::Arc;
use std::time::Duration;

use duet_protocol::{ClusterId, Input, WitnessId, WitnessRead, WitnessRecord, WitnessWrite};
use duet_witness::record::{self, RecordError};
use duet_witness::{ClusterName, ReadOutcome, Register, Version, WriteOutcome};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::failpoint;
use crate::inbox::Inbox;

/// Requests that may wait. The core has one open at a time; one that it gave up may still be running.
const WAITING_REQUESTS: usize = 4;

/// After this long a request counts as unknown: shorter than the core's own deadline of 3 s, so that the core hears of it, and
/// longer than the register's of 1 s, which can say why.
const DEADLINE: Duration = Duration::from_millis(1_500);

/// A request of the core.
#[derive(Debug)]
pub(crate) enum Request {
    Read { ticket: u64, witness: WitnessId },
    Create { ticket: u64, witness: WitnessId, record: WitnessRecord },
    CompareAndSet { ticket: u64, witness: WitnessId, expected: u64, record: WitnessRecord },
}

/// What went wrong with the last request, for the status.
#[derive(Debug, Default)]
pub(crate) struct WitnessBoard {
    error: Mutex<Option<String>>,
}

impl WitnessBoard {
    pub(crate) fn error(&self) -> Option<String> {
        self.error.lock().clone()
    }

    fn set(&self, error: Option<String>) {
        let mut state = self.error.lock();
        match (&*state, &error) {
            (None, Some(reason)) => tracing::warn!("the witness gives no answer: {reason}"),
            (Some(_), None) => tracing::info!("the witness answers again"),
            (Some(before), Some(reason)) if before != reason => tracing::warn!("the witness: {reason}"),
            _ => {}
        }
        *state = error;
    }
}

/// The driver's side: puts requests in, never waits.
#[derive(Clone)]
pub(crate) struct WitnessPort {
    requests: mpsc::Sender<Request>,
    inbox: Arc<Inbox>,
}

impl WitnessPort {
    /// A port, and what works its requests until the last port is dropped.
    pub(crate) fn new(
        register: Arc<dyn Register>,
        name: ClusterName,
        cluster: ClusterId,
        inbox: Arc<Inbox>,
        board: Arc<WitnessBoard>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (requests, waiting) = mpsc::channel(WAITING_REQUESTS);
        let worker = Worker { register, name, cluster, inbox: inbox.clone(), board, last: None };
        (Self { requests, inbox }, worker.run(waiting))
    }

    pub(crate) fn ask(&self, request: Request) {
        if let Err(error) = self.requests.try_send(request) {
            // Too many run into their deadlines: this one is not even sent.
            self.inbox.event(unanswered(&error.into_inner()));
        }
    }
}

impl Request {
    /// Which register it is for.
    const fn witness(&self) -> WitnessId {
        match *self {
            Self::Read { witness, .. }
            | Self::Create { witness, .. }
            | Self::CompareAndSet { witness, .. } => witness,
        }
    }
}

fn unanswered(request: &Request) -> Input {
    match *request {
        Request::Read { ticket, .. } => Input::WitnessRead { ticket, outcome: WitnessRead::Unknown },
        Request::Create { ticket, .. } | Request::CompareAndSet { ticket, .. } => {
            Input::WitnessWritten { ticket, outcome: WitnessWrite::Unknown }
        }
    }
}

struct Worker {
    register: Arc<dyn Register>,
    name: ClusterName,
    cluster: ClusterId,
    inbox: Arc<Inbox>,
    board: Arc<WitnessBoard>,
    /// Revision and version of the record as last read or written.
    last: Option<(u64, Version)>,
}

impl Worker {
    async fn run(mut self, mut waiting: mpsc::Receiver<Request>) {
        while let Some(request) = waiting.recv().await {
            let late = unanswered(&request);
            failpoint::reach("witness.request.before");
            let answer = tokio::time::timeout(DEADLINE, self.work(request)).await;
            failpoint::reach("witness.request.after");
            let answer = answer.unwrap_or_else(|_| {
                self.board.set(Some(format!("no answer within {} ms", DEADLINE.as_millis())));
                late
            });
            self.inbox.event(answer);
        }
    }

    async fn work(&mut self, request: Request) -> Input {
        if request.witness() != WitnessId::FIRST {
            return unanswered(&request);
        }
        match request {
            Request::Read { ticket, .. } => Input::WitnessRead { ticket, outcome: self.read().await },
            Request::Create { ticket, record, .. } => {
                let outcome = self.register.create(record::encode(&self.name, &record)).await;
                Input::WitnessWritten { ticket, outcome: self.written(&record, outcome) }
            }
            Request::CompareAndSet { ticket, expected, record, .. } => {
                let Some(version) = self.last.clone().filter(|(revision, _)| *revision == expected) else {
                    // Nothing was sent: the record that was read last is another than the core's.
                    return Input::WitnessWritten { ticket, outcome: WitnessWrite::Mismatch };
                };
                let outcome =
                    self.register.compare_and_set(&version.1, record::encode(&self.name, &record)).await;
                Input::WitnessWritten { ticket, outcome: self.written(&record, outcome) }
            }
        }
    }

    async fn read(&mut self) -> WitnessRead {
        let (version, bytes) = match self.register.read().await {
            ReadOutcome::Record { version, bytes } => (version, bytes),
            ReadOutcome::Absent => {
                self.board.set(Some("it answers, but has no record of this pair".to_owned()));
                return WitnessRead::Absent;
            }
            ReadOutcome::Unknown(reason) => {
                self.board.set(Some(reason.to_string()));
                return WitnessRead::Unknown;
            }
        };
        match record::decode(&self.name, Some(self.cluster), &bytes) {
            Ok(record) => {
                self.board.set(None);
                self.last = Some((record.revision, version));
                WitnessRead::Record(record)
            }
            // Another pair's record is an answer: this data must not begin to serve at that pair's place.
            Err(error @ RecordError::OtherCluster { .. }) => {
                self.board.set(Some(error.to_string()));
                WitnessRead::Foreign
            }
            Err(error) => {
                self.board.set(Some(error.to_string()));
                WitnessRead::Unknown
            }
        }
    }

    fn written(&mut self, record: &WitnessRecord, outcome: WriteOutcome) -> WitnessWrite {
        match outcome {
            WriteOutcome::Swapped(version) => {
                self.board.set(None);
                self.last = Some((record.revision, version));
                WitnessWrite::Swapped
            }
            WriteOutcome::Mismatch => {
                self.board.set(None);
                WitnessWrite::Mismatch
            }
            WriteOutcome::Unknown(reason) => {
                self.board.set(Some(reason.to_string()));
                WitnessWrite::Unknown
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use duet_protocol::{ApplianceId, Conf, DiskId, Epoch, PerAppliance};
    use duet_witness::memory::MemoryWitness;

    use super::*;

    const FIRST: WitnessId = WitnessId::FIRST;

    fn record(cluster: u64, revision: u64) -> WitnessRecord {
        WitnessRecord {
            cluster: ClusterId(cluster),
            revision,
            writer: ApplianceId::A,
            conf: Conf::solo(Epoch(1), ApplianceId::A, DiskId(1)),
            part: None,
            floor: PerAppliance::default(),
            left: PerAppliance::default(),
        }
    }

    async fn ask(port: &WitnessPort, request: Request) -> Input {
        port.ask(request);
        loop {
            if let Some(input) = port.inbox.take(Duration::ZERO, false).inputs.pop() {
                return input;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn read_of(outcome: WitnessRead) -> Input {
        Input::WitnessRead { ticket: 1, outcome }
    }

    fn written(outcome: WitnessWrite) -> Input {
        Input::WitnessWritten { ticket: 1, outcome }
    }

    #[tokio::test]
    async fn versions_follow_revisions() {
        let register: Arc<dyn Register> = Arc::new(MemoryWitness::new().register("demo"));
        let start = |cluster| {
            let board = Arc::<WitnessBoard>::default();
            let inbox = Arc::<Inbox>::default();
            let name: ClusterName = "demo".parse().unwrap();
            let (register, id) = (register.clone(), ClusterId(cluster));
            let (port, work) = WitnessPort::new(register, name, id, inbox, board.clone());
            tokio::spawn(work);
            (port, board)
        };
        let (port, board) = start(7);
        assert_eq!(
            ask(&port, Request::Read { ticket: 1, witness: FIRST }).await,
            read_of(WitnessRead::Absent)
        );
        assert!(board.error().is_some_and(|error| error.contains("no record")));
        let swap = |expected, revision| Request::CompareAndSet {
            ticket: 1,
            witness: FIRST,
            expected,
            record: record(7, revision),
        };
        assert_eq!(ask(&port, swap(1, 2)).await, written(WitnessWrite::Mismatch), "nothing was read yet");
        let create = || Request::Create { ticket: 1, witness: FIRST, record: record(7, 1) };
        assert_eq!(ask(&port, create()).await, written(WitnessWrite::Swapped));
        assert_eq!(ask(&port, create()).await, written(WitnessWrite::Mismatch));
        assert_eq!(ask(&port, swap(1, 2)).await, written(WitnessWrite::Swapped));
        assert_eq!(ask(&port, swap(1, 2)).await, written(WitnessWrite::Mismatch));
        assert_eq!(
            ask(&port, Request::Read { ticket: 1, witness: FIRST }).await,
            read_of(WitnessRead::Record(record(7, 2)))
        );
        assert_eq!(board.error(), None);

        let (stranger, board) = start(8);
        assert_eq!(
            ask(&stranger, Request::Read { ticket: 1, witness: FIRST }).await,
            read_of(WitnessRead::Foreign)
        );
        assert!(board.error().is_some_and(|error| error.contains("id ")));
    }
}
