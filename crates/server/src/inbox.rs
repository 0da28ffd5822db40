//! Everything that waits for the driver, in one place with one lock and one condition.
//!
//! Clients' writes, messages of the peer and events are kept apart, so that each has its own bound and the driver takes
//! all that has gathered in one turn: many writes become one proposal, one disk write and one append to the peer.

use std::time::Duration;

use bytes::Bytes;
use duet_mvcc::Applied;
use duet_protocol::{Input, Lsn, Message};
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::error::WriteError;
use crate::status_report::StatusReport;
use crate::threads::let_others_put_in;

/// Clients' writes that may wait for the driver; more are refused as overload. Several times the number of clients that
/// a pair serves at once.
pub(crate) const WAITING_WRITES: usize = 16_384;

/// Bytes of commands that may wait for the driver, for the same reason: bounds memory.
pub(crate) const WAITING_WRITE_BYTES: usize = 64 << 20;

/// Writes that do not wait for others any more: the driver is woken for them while more are received. A batch of this size pays
/// for its sync, and the disk has something to do meanwhile.
const GATHERED_WRITES: usize = 32;

/// Writes joined into one proposal: one disk write, and one or a few appends to the peer.
pub(crate) const PROPOSAL_WRITES: usize = 4_096;

/// Bytes joined into one proposal. As large as one append, so a batch is on its way while the next is gathered.
pub(crate) const PROPOSAL_BYTES: usize = 1 << 20;

/// Messages of the peer that may wait for the driver; then the connection's reader waits, and with it the peer.
pub(crate) const WAITING_MESSAGES: usize = 64;

/// Largest command a client may write, in bytes: etcd's default request limit of 1.5 MiB and room for the encoding.
pub(crate) const COMMAND_BYTES: usize = 4 << 20;

/// A client's write on its way to the driver.
pub(crate) struct PendingWrite {
    pub(crate) command: Bytes,
    pub(crate) answer: WriteAnswer,
}

/// Where the outcome of a write goes.
pub(crate) type WriteAnswer = oneshot::Sender<Result<Applied, WriteError>>;

/// What the driver takes in one turn: first the inputs, in this order, then the writes.
#[derive(Default)]
pub(crate) struct Gathered {
    pub(crate) inputs: Vec<Input>,
    pub(crate) writes: Vec<PendingWrite>,
    pub(crate) status: Vec<oneshot::Sender<StatusReport>>,
    /// Somebody at the peer waits for what is committed here.
    pub(crate) announce: bool,
    /// Reads wait for the answer to this question for a read index.
    pub(crate) ask_read_index: Option<u64>,
}

#[derive(Default)]
struct Waiting {
    /// Rare inputs, at most a few of each kind: their sources await an answer before they send the next.
    events: Vec<Input>,
    /// Latest report of the log thread; an older one says nothing more.
    flushed: Option<(u64, Lsn)>,
    applied: Option<Lsn>,
    checkpointed: Option<Lsn>,
    messages: Vec<Input>,
    writes: Vec<PendingWrite>,
    write_bytes: usize,
    /// Of writes, or of the primary's entries, as many came at a time when there were any the last time.
    crowd: usize,
    /// The driver left writes where they are; every new one makes it look again.
    held_back: bool,
    status: Vec<oneshot::Sender<StatusReport>>,
    announce: bool,
    /// The latest one: its answer is for whoever waits for an earlier one, too.
    ask_read_index: Option<u64>,
    closed: bool,
}

impl Waiting {
    /// Puts reports and messages behind the events that are there.
    fn settle(&mut self) {
        self.events.extend(self.flushed.take().map(|(generation, lsn)| Input::Flushed { generation, lsn }));
        self.events.extend(self.applied.take().map(Input::Applied));
        self.events.extend(self.checkpointed.take().map(Input::Checkpointed));
        self.events.append(&mut self.messages);
    }

    fn is_empty(&self, may_propose: bool) -> bool {
        self.events.is_empty()
            && self.flushed.is_none()
            && self.applied.is_none()
            && self.checkpointed.is_none()
            && self.messages.is_empty()
            && (self.writes.is_empty() || !may_propose)
            && self.status.is_empty()
            && !self.announce
            && self.ask_read_index.is_none()
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Inbox {
    waiting: Mutex<Waiting>,
    driver: Condvar,
    room_for_messages: Condvar,
}

impl Inbox {
    /// A client's write; refused when too many wait. Who puts in the first one wakes the driver, when it likes to: those that
    /// come until then go into the same proposal, and waking a thread costs more than all else here. Many do not wait for it.
    pub(crate) fn propose(&self, write: PendingWrite) -> Result<Option<Wake<'_>>, WriteError> {
        if write.command.len() > COMMAND_BYTES {
            return Err(WriteError::TooLarge);
        }
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Err(WriteError::Stopping);
        }
        if waiting.writes.len() >= WAITING_WRITES
            || waiting.write_bytes + write.command.len() > WAITING_WRITE_BYTES
        {
            return Err(WriteError::Overloaded);
        }
        waiting.write_bytes += write.command.len();
        waiting.writes.push(write);
        let count = waiting.writes.len();
        let wakes = count == 1 || waiting.held_back;
        if count == GATHERED_WRITES {
            drop(waiting);
            self.driver.notify_one();
        }
        Ok(wakes.then_some(Wake(&self.driver)))
    }

    /// Clients' writes that the driver has not taken yet.
    pub(crate) fn waiting_writes(&self) -> usize {
        self.waiting.lock().writes.len()
    }

    /// Anything that is neither a write nor a message of the peer.
    pub(crate) fn event(&self, input: Input) {
        let mut waiting = self.waiting.lock();
        match input {
            Input::Flushed { generation, lsn } => waiting.flushed = Some((generation, lsn)),
            Input::Applied(lsn) => waiting.applied = Some(lsn),
            Input::Checkpointed(lsn) => waiting.checkpointed = Some(lsn),
            // A second of these says nothing more than the first; any client may send them, so they must not pile up.
            Input::Shutdown | Input::Switchover if waiting.events.contains(&input) => {}
            // What came before it is passed on before it: the last messages of a connection before its end.
            other => {
                waiting.settle();
                waiting.events.push(other);
                self.room_for_messages.notify_all();
            }
        }
        drop(waiting);
        self.driver.notify_one();
    }

    /// A message of the peer. Waits while too many wait already; `false` when the driver has stopped.
    pub(crate) fn message(&self, input: Input) -> bool {
        let mut waiting = self.waiting.lock();
        while waiting.messages.len() >= WAITING_MESSAGES && !waiting.closed {
            self.room_for_messages.wait(&mut waiting);
        }
        if waiting.closed {
            return false;
        }
        if let Input::Message(Message::Append { entries, .. }) = &input
            && !entries.is_empty()
        {
            waiting.crowd = entries.len();
        }
        waiting.messages.push(input);
        drop(waiting);
        self.driver.notify_one();
        true
    }

    /// Someone wants to know the status. Dropped, and with it the answer's channel, when the driver has stopped.
    pub(crate) fn ask_status(&self, answer: oneshot::Sender<StatusReport>) {
        let mut waiting = self.waiting.lock();
        if !waiting.closed && waiting.status.len() < WAITING_MESSAGES {
            waiting.status.push(answer);
            drop(waiting);
            self.driver.notify_one();
        }
    }

    /// The peer is to hear soon what is committed.
    pub(crate) fn announce(&self) {
        self.waiting.lock().announce = true;
        self.driver.notify_one();
    }

    /// The primary is to be asked for a read index.
    pub(crate) fn ask_read_index(&self, number: u64) {
        let mut waiting = self.waiting.lock();
        waiting.ask_read_index = waiting.ask_read_index.max(Some(number));
        drop(waiting);
        self.driver.notify_one();
    }

    /// Waits until something is there or `timeout` is over, then takes all of it (of the writes: one proposal).
    /// With `may_propose` false the writes stay where they are.
    pub(crate) fn take(&self, timeout: Duration, may_propose: bool) -> Gathered {
        let mut waiting = self.waiting.lock();
        waiting.held_back = !may_propose;
        if waiting.is_empty(may_propose) && !timeout.is_zero() && !waiting.closed {
            let _ = self.driver.wait_for(&mut waiting, timeout);
            let crowd = waiting.crowd;
            let_others_put_in(&mut waiting, crowd);
        }
        if waiting.messages.len() >= WAITING_MESSAGES {
            self.room_for_messages.notify_all();
        }
        waiting.settle();
        let inputs = std::mem::take(&mut waiting.events);
        let status = std::mem::take(&mut waiting.status);
        let writes = if may_propose { take_proposal(&mut waiting) } else { Vec::new() };
        if !writes.is_empty() {
            waiting.crowd = writes.len();
        }
        let announce = std::mem::take(&mut waiting.announce);
        let ask_read_index = waiting.ask_read_index.take();
        Gathered { inputs, writes, status, announce, ask_read_index }
    }

    /// The driver has ended: whatever waits was never appended, and nothing more is taken.
    pub(crate) fn close(&self) {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        let writes = std::mem::take(&mut waiting.writes);
        waiting.status.clear();
        drop(waiting);
        self.room_for_messages.notify_all();
        self.driver.notify_all();
        for write in writes {
            let _ = write.answer.send(Err(WriteError::Stopping));
        }
    }
}

/// Wakes the driver when it is dropped.
#[must_use = "dropped at once it gathers nothing"]
pub(crate) struct Wake<'a>(&'a Condvar);

impl Drop for Wake<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// The oldest writes, as many as make one proposal.
fn take_proposal(waiting: &mut Waiting) -> Vec<PendingWrite> {
    let mut bytes = 0;
    let mut count = 0;
    for write in &waiting.writes {
        if count >= PROPOSAL_WRITES || (count > 0 && bytes + write.command.len() > PROPOSAL_BYTES) {
            break;
        }
        bytes += write.command.len();
        count += 1;
    }
    waiting.write_bytes -= bytes;
    if count == waiting.writes.len() {
        return std::mem::take(&mut waiting.writes);
    }
    waiting.writes.drain(..count).collect()
}

#[cfg(test)]
mod tests {
    use duet_protocol::Message;

    use super::*;

    fn write(size: usize) -> (PendingWrite, oneshot::Receiver<Result<Applied, WriteError>>) {
        let (answer, answered) = oneshot::channel();
        (PendingWrite { command: Bytes::from(vec![0; size]), answer }, answered)
    }

    #[test]
    fn writes_are_joined_within_bounds_and_refused_beyond_them() {
        let inbox = Inbox::default();
        let mut kept = Vec::new();
        for _ in 0..WAITING_WRITES {
            let (write, answered) = write(300);
            let wake = inbox.propose(write).unwrap();
            assert_eq!(wake.is_some(), kept.is_empty(), "the first one wakes the driver");
            kept.push(answered);
        }
        assert_eq!(inbox.propose(write(1).0).err(), Some(WriteError::Overloaded));
        assert_eq!(inbox.propose(write(COMMAND_BYTES + 1).0).err(), Some(WriteError::TooLarge));
        assert!(inbox.take(Duration::ZERO, false).writes.is_empty(), "not while the disk is behind");
        let taken = inbox.take(Duration::ZERO, true).writes.len();
        assert_eq!(taken, PROPOSAL_BYTES / 300);
        drop(inbox.propose(write(1).0).unwrap());
        inbox.close();
        assert_eq!(inbox.propose(write(1).0).err(), Some(WriteError::Stopping));
        let stopped = kept.iter_mut().filter_map(|answered| answered.try_recv().ok()).count();
        assert_eq!(stopped, WAITING_WRITES - taken, "whoever waits is told");
    }

    #[test]
    fn a_write_wakes_the_driver_if_it_is_the_first_or_others_were_held_back() {
        let inbox = Inbox::default();
        let wakes = || inbox.propose(write(1).0).unwrap().is_some();
        assert!(wakes() && !wakes());
        inbox.take(Duration::ZERO, false);
        assert!(wakes() && wakes(), "there may be room by now");
        assert_eq!(inbox.take(Duration::ZERO, true).writes.len(), 4);
        assert!(wakes() && !wakes());
    }

    #[test]
    fn what_came_before_an_event_is_passed_on_before_it() {
        let inbox = Inbox::default();
        assert!(inbox.message(Input::Message(Message::Leave)));
        inbox.event(Input::Flushed { generation: 0, lsn: Lsn(1) });
        inbox.event(Input::Flushed { generation: 0, lsn: Lsn(2) });
        inbox.event(Input::PeerDisconnected);
        inbox.event(Input::PeerConnected);
        assert!(inbox.message(Input::Message(Message::Leave)));
        inbox.event(Input::Shutdown);
        inbox.event(Input::Shutdown);
        let expected = [
            Input::Flushed { generation: 0, lsn: Lsn(2) },
            Input::Message(Message::Leave),
            Input::PeerDisconnected,
            Input::PeerConnected,
            Input::Message(Message::Leave),
            Input::Shutdown,
        ];
        assert_eq!(inbox.take(Duration::ZERO, true).inputs, expected);
    }
}
