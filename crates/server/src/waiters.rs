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

    /// Answers those among these consecutive entries that have a writer here.
    pub(crate) fn answer(&self, results: impl Iterator<Item = (Lsn, Applied)>) {
        let mut waiting = self.waiting.lock();
        for (lsn, applied) in results {
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
}
