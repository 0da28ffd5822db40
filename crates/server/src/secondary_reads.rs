//! Linearizable reads that wait at a secondary for a read index: up to where the state must be applied here, as the primary
//! says.
//!
//! The primary is asked once for all who wait, through the driver and the connection to the peer, and one question is under
//! way at a time ([`ReadRounds`]). What is answered is a lower bound: the state may be read as soon as it is applied that far.

use std::time::{Duration, Instant};

use duet_protocol::Lsn;
use duet_serving::{Entered, ReadRounds};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::inbox::Inbox;

/// A question that got no answer for so long is asked again: it was lost with its connection, or the primary had no right to
/// read when it came. Several round trips between two sites, and as often as a read at the primary looks for its permit.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// See the module.
pub(crate) struct SecondaryReads {
    asking: Mutex<Asking>,
    answered: watch::Sender<Answered>,
}

/// The latest answer.
#[derive(Clone, Copy, Default)]
struct Answered {
    /// To this question.
    number: u64,
    /// The highest index so far.
    lsn: Lsn,
}

struct Asking {
    rounds: ReadRounds,
    /// When the last question was sent.
    since: Instant,
}

impl Default for SecondaryReads {
    fn default() -> Self {
        let asking = Asking { rounds: ReadRounds::default(), since: Instant::now() };
        Self { asking: Mutex::new(asking), answered: watch::Sender::default() }
    }
}

impl SecondaryReads {
    /// An index for a read that has come before this is called. Waits for as long as there is no answer.
    pub(crate) async fn index(&self, inbox: &Inbox) -> Lsn {
        let mut answered = self.answered.subscribe();
        let number = self.enter(inbox);
        loop {
            let mine = answered.wait_for(|answered| answered.number >= number);
            match timeout(ASK_AGAIN, mine).await {
                Ok(Ok(answered)) => return answered.lsn,
                Ok(Err(_)) => unreachable!("the sender is this one's own"),
                Err(_) => self.ask_again(number, inbox),
            }
        }
    }

    fn enter(&self, inbox: &Inbox) -> u64 {
        let mut asking = self.asking.lock();
        let Entered { number, asks } = asking.rounds.enter();
        if asks {
            asking.since = Instant::now();
            inbox.ask_read_index(number);
        }
        number
    }

    fn ask_again(&self, number: u64, inbox: &Inbox) {
        let mut asking = self.asking.lock();
        if !asking.rounds.is_answered(number) && asking.since.elapsed() >= ASK_AGAIN {
            asking.since = Instant::now();
            inbox.ask_read_index(asking.rounds.again());
        }
    }

    /// The primary has answered the question of this number.
    pub(crate) fn answered(&self, number: u64, lsn: Lsn, inbox: &Inbox) {
        self.answered.send_modify(|latest| {
            *latest = Answered { number: number.max(latest.number), lsn: lsn.max(latest.lsn) };
        });
        let mut asking = self.asking.lock();
        if let Some(next) = asking.rounds.answer(number) {
            asking.since = Instant::now();
            inbox.ask_read_index(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// What the driver is to ask, as soon as it is.
    async fn asked(inbox: &Inbox) -> u64 {
        loop {
            if let Some(number) = inbox.take(Duration::ZERO, true).ask_read_index {
                return number;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn many_reads_share_a_question_and_none_joins_one_under_way() {
        let (reads, inbox) = (Arc::<SecondaryReads>::default(), Arc::<Inbox>::default());
        let read = || {
            let (reads, inbox) = (reads.clone(), inbox.clone());
            tokio::spawn(async move { reads.index(&inbox).await })
        };
        let first = read();
        assert_eq!(asked(&inbox).await, 1);
        let others: Vec<_> = (0..50).map(|_| read()).collect();
        tokio::task::yield_now().await;
        reads.answered(1, Lsn(7), &inbox);
        assert_eq!(first.await.unwrap(), Lsn(7));
        assert_eq!(asked(&inbox).await, 2);
        assert!(others.iter().all(|other| !other.is_finished()), "they came after the first question");
        reads.answered(2, Lsn(9), &inbox);
        for other in others {
            assert_eq!(other.await.unwrap(), Lsn(9));
        }
        assert_eq!(inbox.take(Duration::ZERO, true).ask_read_index, None);
    }

    #[tokio::test]
    async fn a_question_without_an_answer_is_asked_again() {
        let (reads, inbox) = (Arc::<SecondaryReads>::default(), Arc::<Inbox>::default());
        let read = {
            let (reads, inbox) = (reads.clone(), inbox.clone());
            tokio::spawn(async move { reads.index(&inbox).await })
        };
        assert_eq!((asked(&inbox).await, asked(&inbox).await), (1, 2));
        reads.answered(2, Lsn(5), &inbox);
        assert_eq!(read.await.unwrap(), Lsn(5));
    }
}
