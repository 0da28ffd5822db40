//! What the server counts while it works. Counters only: nothing here decides anything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

/// How a request for a record was answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// A record was read.
    Record,
    /// There is no record.
    Absent,
    /// A record was created.
    Created,
    /// A record was replaced.
    Swapped,
    /// The record is another than the one that was to be replaced.
    Mismatch,
    /// No token, or not that of the pair.
    Refused,
    /// The pair asks too often.
    Limited,
    /// Too much waits already.
    Busy,
    /// There are too many records already.
    Full,
    /// The request has no meaning.
    Malformed,
    /// The stored record cannot be used.
    Damaged,
    /// The server could not do it.
    Failed,
}

impl Outcome {
    pub const ALL: [Self; 12] = [
        Self::Record,
        Self::Absent,
        Self::Created,
        Self::Swapped,
        Self::Mismatch,
        Self::Refused,
        Self::Limited,
        Self::Busy,
        Self::Full,
        Self::Malformed,
        Self::Damaged,
        Self::Failed,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Absent => "absent",
            Self::Created => "created",
            Self::Swapped => "swapped",
            Self::Mismatch => "mismatch",
            Self::Refused => "refused",
            Self::Limited => "limited",
            Self::Busy => "busy",
            Self::Full => "full",
            Self::Malformed => "malformed",
            Self::Damaged => "damaged",
            Self::Failed => "failed",
        }
    }
}

/// Upper bounds of the buckets of a [`Histogram`], in microseconds: from a fast disk to one that is ill.
const BOUNDS_MICROS: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 1_000_000];

/// How long something took.
#[derive(Default)]
pub(super) struct Histogram {
    /// How many there were in each bucket; the last is for what took longer than all bounds.
    buckets: [AtomicU64; BOUNDS_MICROS.len() + 1],
    sum_micros: AtomicU64,
}

impl Histogram {
    pub fn note(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_MICROS.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS_MICROS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub fn seen(&self) -> Seen {
        let mut count = 0;
        let at_most = BOUNDS_MICROS.iter().zip(&self.buckets).map(|(bound, bucket)| {
            count += bucket.load(Ordering::Relaxed);
            (seconds(*bound), count)
        });
        let at_most = at_most.collect();
        count += self.buckets[BOUNDS_MICROS.len()].load(Ordering::Relaxed);
        Seen { count, sum_seconds: seconds(self.sum_micros.load(Ordering::Relaxed)), at_most }
    }
}

/// A [`Histogram`] at one moment.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Seen {
    pub count: u64,
    pub sum_seconds: f64,
    /// Bound in seconds, and how many took no longer.
    pub at_most: Vec<(f64, u64)>,
}

fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}

/// All counters of one server.
pub(super) struct Meter {
    pub started: Instant,
    outcomes: [AtomicU64; Outcome::ALL.len()],
    /// Flushes of the data file.
    pub syncs: Histogram,
    /// Bytes written to the data file.
    pub bytes_written: AtomicU64,
    /// Transactions, each of many writes.
    pub commits: AtomicU64,
    /// Writes that took part in them.
    pub writes: AtomicU64,
}

impl Meter {
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            outcomes: Default::default(),
            syncs: Histogram::default(),
            bytes_written: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            writes: AtomicU64::new(0),
        }
    }

    pub fn count(&self, outcome: Outcome) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn counted(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_a_place_and_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> =
            Outcome::ALL.iter().map(|outcome| outcome.name()).collect();
        assert_eq!(names.len(), Outcome::ALL.len());
        assert!(Outcome::ALL.iter().enumerate().all(|(place, outcome)| *outcome as usize == place));
    }

    #[test]
    fn a_histogram_counts_up_to_each_bound() {
        let histogram = Histogram::default();
        for micros in [50, 100, 101, 3_000_000] {
            histogram.note(Duration::from_micros(micros));
        }
        let seen = histogram.seen();
        assert_eq!((seen.count, seen.sum_seconds), (4, 3.000_251));
        assert_eq!(seen.at_most[..2], [(0.0001, 2), (0.000_25, 3)]);
        assert_eq!(seen.at_most.last(), Some(&(1.0, 3)));
    }
}
