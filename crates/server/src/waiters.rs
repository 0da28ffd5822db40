//! The clients whose writes are in the log and not yet answered, by LSN.
//!
//! The driver puts them in when the core has accepted their writes; they are answered when the entry is applied, or told
//! "unknown" when the core abandons it. Nobody is forgotten: at the end of the machine room the rest is told "unknown" too.

use std::collections::VecDeque;

use duet_mvcc::Applied;
use duet_protocol::Lsn;
use parking_lot::Mutex;

use crate::error::WriteError;
use crate::inbox::WriteAnswer;

/// See the module.
#[derive(Default)]
pub(crate) struct Waiters {
    waiting: Mutex<VecDeque<(Lsn, WriteAnswer)>>,
}

impl Waiters {
    /// The writer of the entry `first`, and of those that follow it.
    pub(crate) fn accepted(&self, first: Lsn, answers: impl Iterator<Item = WriteAnswer>) {
        let mut waiting = self.waiting.lock();
        assert!(waiting.back().is_none_or(|(last, _)| *last < first), "writers wait in the order of the log");
        waiting.extend(answers.enumerate().map(|(index, answer)| (Lsn(first.0 + index as u64), answer)));
    }

    /// Answers those among these entries, in the order of the log, that have a writer here.
    pub(crate) fn answer(&self, results: impl Iterator<Item = (Lsn, Applied)>) {
        let mut waiting = self.waiting.lock();
        for (lsn, applied) in results {
            // One whose entry came in a whole copy was never applied here; nobody behind it may wait for it.
            while waiting.front().is_some_and(|(first, _)| *first < lsn) {
                if let Some((_, answer)) = waiting.pop_front() {
                    let _ = answer.send(Err(WriteError::Unknown));
                }
            }
            if waiting.front().is_none_or(|(first, _)| *first != lsn) {
                continue;
            }
            if let Some((_, answer)) = waiting.pop_front() {
                // A writer that has gone away does not want to know.
                let _ = answer.send(Ok(applied));
            }
        }
    }

    /// Everything above this LSN has an unknown outcome.
    pub(crate) fn abandon(&self, above: Lsn) {
        let mut waiting = self.waiting.lock();
        while waiting.back().is_some_and(|(lsn, _)| *lsn > above) {
            if let Some((_, answer)) = waiting.pop_back() {
                let _ = answer.send(Err(WriteError::Unknown));
            }
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.waiting.lock().len()
    }

    /// Nobody is answered while this lives.
    #[cfg(test)]
    pub(crate) fn hold(&self) -> parking_lot::MutexGuard<'_, impl Sized> {
        self.waiting.lock()
    }
}

#[cfg(test)]
mod tests {
    use duet_mvcc::Response;
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn nobody_waits_behind_one_whose_entry_was_never_applied_here() {
        let waiters = Waiters::default();
        let (answers, mut answered): (Vec<_>, Vec<_>) = (0..3).map(|_| oneshot::channel()).unzip();
        let mut answers = answers.into_iter();
        waiters.accepted(Lsn(5), answers.by_ref().take(2));
        waiters.accepted(Lsn(200), answers);
        let applied = Applied { revision: 9, result: Ok(Response::Compact), events: Vec::new() };
        waiters.answer([(Lsn(199), applied.clone()), (Lsn(200), applied)].into_iter());
        assert_eq!(answered[0].try_recv().unwrap(), Err(WriteError::Unknown));
        assert_eq!(answered[1].try_recv().unwrap(), Err(WriteError::Unknown));
        assert!(answered[2].try_recv().unwrap().is_ok());
        assert_eq!(waiters.count(), 0);
    }
}
