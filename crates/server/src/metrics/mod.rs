//! What is counted while an appliance runs, for `/metrics`.
//!
//! Whoever counts adds to an atomic number that it reaches without a lock and without looking anything up; no order is
//! asked of the processor. Everything else that a page of metrics tells is read when the page is asked for
//! (`http/metrics.rs`). Prometheus' text form is a dozen lines (`text.rs`): a library would bring its own registry of
//! counters with a lookup for each label.

pub(crate) mod calls;
pub(crate) mod process;
pub(crate) mod text;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use calls::CallCounters;

/// Everything that is counted.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// gRPC calls and their bytes.
    pub(crate) calls: CallCounters,
    /// How long it takes to make the end of the log durable.
    pub(crate) log_sync: Histogram,
    /// How long a checkpoint takes to be written to the state store.
    pub(crate) checkpoint: Histogram,
    /// Size of the log's segments on disk in bytes.
    pub(crate) log_bytes: Number,
    /// How often another appliance than before was seen to be primary.
    pub(crate) primary_changes: Number,
    /// Writes that were proposed and not carried out, or not known to be.
    pub(crate) failed_writes: Number,
}

/// A number that is counted up, or set.
#[derive(Debug, Default)]
pub(crate) struct Number(AtomicU64);

impl Number {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of a histogram's buckets: etcd's, from a millisecond by doubling to about eight seconds.
pub(crate) const BOUNDS: [Duration; 14] = {
    let mut bounds = [Duration::from_millis(1); 14];
    let mut place = 1;
    while place < bounds.len() {
        bounds[place] = Duration::from_millis(1 << place);
        place += 1;
    }
    bounds
};

/// How long something took, many times.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// Those in each bucket and no lower one; the last is above all bounds.
    buckets: [Number; BOUNDS.len() + 1],
    nanoseconds: Number,
}

impl Histogram {
    pub(crate) fn record(&self, took: Duration) {
        let place = BOUNDS.iter().position(|bound| took <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[place].add(1);
        self.nanoseconds.add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// How many took at most as long as each bound, and how many there were.
    pub(crate) fn cumulative(&self) -> [u64; BOUNDS.len() + 1] {
        let mut sum = 0;
        self.buckets.each_ref().map(|bucket| {
            sum += bucket.get();
            sum
        })
    }

    /// All together.
    pub(crate) fn total(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_put_in_etcds_buckets() {
        assert_eq!(BOUNDS[13], Duration::from_millis(8192));
        let histogram = Histogram::default();
        for milliseconds in [0, 1, 2, 3, 9_000] {
            histogram.record(Duration::from_millis(milliseconds));
        }
        let counted = histogram.cumulative();
        assert_eq!((counted[0], counted[1], counted[2], counted[13], counted[14]), (2, 3, 4, 4, 5));
        assert_eq!(histogram.total(), Duration::from_millis(9_006));
    }
}
