//! How far the copy is that is being sent, for a person who waits for it.

use duet_protocol::Instant;
use parking_lot::Mutex;

use crate::clock;
use crate::status_report::CopyReport;

/// See the module. Empty while no copy is sent.
#[derive(Default)]
pub(crate) struct CopyProgress(Mutex<Option<Progress>>);

#[derive(Clone, Copy)]
struct Progress {
    began: Instant,
    /// Bytes that an interrupted copy had brought already.
    skipped: u64,
    /// Bytes that have left, the skipped ones included.
    done: u64,
    all: u64,
}

impl CopyProgress {
    /// A copy of `all` bytes begins, behind `skipped` ones.
    pub(crate) fn begin(&self, skipped: u64, all: u64) {
        *self.0.lock() = Some(Progress { began: clock::now(), skipped, done: skipped, all });
    }

    /// So many have left.
    pub(crate) fn advance(&self, done: u64) {
        if let Some(progress) = &mut *self.0.lock() {
            progress.done = done;
        }
    }

    /// Nothing is sent any more.
    pub(crate) fn end(&self) {
        *self.0.lock() = None;
    }

    pub(crate) fn report(&self) -> Option<CopyReport> {
        self.0.lock().map(|progress| progress.report(clock::now()))
    }
}

impl Progress {
    fn report(self, now: Instant) -> CopyReport {
        let Progress { began, skipped, done, all } = self;
        let elapsed = now.since(began).as_millis().max(1);
        let rate = u128::from(done - skipped) * 1000 / elapsed;
        let left = u128::from(all.saturating_sub(done)).checked_div(rate);
        CopyReport {
            bytes: done.min(all),
            of: all,
            bytes_per_second: u64::try_from(rate).unwrap_or(u64::MAX),
            seconds_left: left.map(|seconds| u64::try_from(seconds).unwrap_or(u64::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn rate_and_time_left_count_what_this_copy_has_sent() {
        let began = Instant(1);
        let progress = Progress { began, skipped: 500, done: 700, all: 1_500 };
        let report = progress.report(began.after(Duration::from_secs(2)));
        let expected = CopyReport { bytes: 700, of: 1_500, bytes_per_second: 100, seconds_left: Some(8) };
        assert_eq!(report, expected);
        let at_once = Progress { done: 500, ..progress }.report(began);
        assert_eq!((at_once.bytes_per_second, at_once.seconds_left), (0, None), "nothing is known yet");
    }
}
