//! Writes down what clients saw.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use duet_checkers::{History, Operation, Report, Time, Watch};

/// One for all clients; one clock.
pub struct Recorder {
    pub start: Instant,
    history: Mutex<History>,
}

impl Recorder {
    pub fn new(start: Instant) -> Self {
        Self { start, history: Mutex::default() }
    }

    pub fn now(&self) -> Time {
        Time::try_from(self.start.elapsed().as_nanos()).expect("a short run")
    }

    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn operation(&self, operation: Operation) {
        self.history().operations.push(operation);
    }

    pub fn watch(&self, watch: Watch) {
        self.history().watches.push(watch);
    }

    pub fn report(&self, report: Report) {
        self.history().reports.push(report);
    }
}
