//! What a measurement gives: counts, percentiles from an HDR histogram, errors by kind, the longest silence.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::terminal::Paint;

/// Latencies from 1 µs to 2 minutes with three digits: 0.1 % is far below the noise of any run.
const LOWEST_NS: u64 = 1_000;
const HIGHEST_NS: u64 = 120_000_000_000;
const DIGITS: u8 = 3;

/// Collects while the load runs; belongs to one thread.
pub struct Recorder {
    latencies: Histogram<u64>,
    sum: Duration,
    errors: BTreeMap<String, u64>,
    last_success: Option<Instant>,
    longest_gap: Duration,
}

impl Recorder {
    /// An empty one.
    pub fn new() -> Self {
        let latencies = Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, DIGITS)
            .expect("constant bounds are sound: low >= 1, high >= 2 x low, 3 digits");
        Self {
            latencies,
            sum: Duration::ZERO,
            errors: BTreeMap::new(),
            last_success: None,
            longest_gap: Duration::ZERO,
        }
    }

    /// One operation that succeeded at `now`.
    pub fn success(&mut self, latency: Duration, now: Instant) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(HIGHEST_NS);
        self.latencies.saturating_record(nanos.clamp(LOWEST_NS, HIGHEST_NS));
        self.sum += latency;
        if let Some(last) = self.last_success {
            self.longest_gap = self.longest_gap.max(now.saturating_duration_since(last));
        }
        self.last_success = Some(now);
    }

    /// One operation that failed.
    pub fn failure(&mut self, kind: String) {
        *self.errors.entry(kind).or_default() += 1;
    }

    /// How many succeeded.
    pub fn successes(&self) -> u64 {
        self.latencies.len()
    }

    /// The longest time between two successes, one after the other.
    pub fn longest_gap(&self) -> Duration {
        self.longest_gap
    }

    /// How many failed, by kind.
    pub fn errors(&self) -> &BTreeMap<String, u64> {
        &self.errors
    }

    /// The percentiles.
    pub fn latency(&self) -> Latency {
        let at = |quantile: f64| ms(self.latencies.value_at_quantile(quantile));
        if self.latencies.is_empty() {
            return Latency::default();
        }
        Latency {
            mean: self.sum.as_secs_f64() * 1e3 / count(self.successes()),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: ms(self.latencies.max()),
        }
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

/// Milliseconds with three digits behind the point.
#[allow(clippy::cast_precision_loss)] // nanoseconds of two minutes need 37 bits, a double has 53
fn ms(nanos: u64) -> f64 {
    (nanos as f64 / 1e3).round() / 1e3
}

/// A count as a divisor.
#[allow(clippy::cast_precision_loss)] // counts of operations stay far below 2^53
pub fn count(number: u64) -> f64 {
    number as f64
}

/// Latencies in milliseconds.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Latency {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90 %.
    pub p90: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
}

/// A finished measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Its name on the command line.
    pub operation: &'static str,
    /// Concurrent clients.
    pub clients: usize,
    /// Connections they shared.
    pub connections: usize,
    /// Bytes in a value.
    pub value_size: usize,
    /// Different keys.
    pub keys: usize,
    /// Planned operations a second; `None` in a closed loop.
    pub rate: Option<u64>,
    /// How long it was measured.
    pub seconds: f64,
    /// Operations that succeeded.
    pub operations: u64,
    /// Successes a second.
    pub ops_per_second: f64,
    /// Latencies in milliseconds.
    pub latency_ms: Latency,
    /// Failures by kind.
    pub errors: BTreeMap<String, u64>,
    /// Open loop: operations that were due and could not even begin, for lack of a free client.
    pub not_begun: u64,
    /// The longest time without any success, in milliseconds.
    pub longest_gap_ms: f64,
    /// Keys and values stored by the operations that succeeded, in bytes.
    pub stored_bytes: u64,
    /// CPU of this client, microseconds for each operation: compare it with the server's.
    pub client_cpu_us_per_op: f64,
}

impl Report {
    /// Operations that failed, and those that could not even begin.
    pub fn failures(&self) -> u64 {
        self.errors.values().sum::<u64>() + self.not_begun
    }

    /// Lines for a person.
    pub fn render(&self, paint: Paint) -> String {
        let mut text = String::new();
        let load = match self.rate {
            Some(rate) => format!("open loop, {rate} a second planned, up to {} at a time", self.clients),
            None => format!("{} clients, each with one request at a time", self.clients),
        };
        writeln!(
            text,
            "{} of {} bytes, {load}, {} connection{}, {} keys, {:.1} s",
            self.operation,
            self.value_size,
            self.connections,
            if self.connections == 1 { "" } else { "s" },
            self.keys,
            self.seconds
        )
        .ok();
        writeln!(text).ok();
        let rate = paint.bold(format!("{:.0} {}s/s", self.ops_per_second, self.operation));
        writeln!(text, "  {rate}   ({} operations)", self.operations).ok();
        let l = &self.latency_ms;
        writeln!(
            text,
            "  latency ms   p50 {:.3}   p90 {:.3}   p99 {:.3}   p99.9 {:.3}   max {:.3}",
            l.p50, l.p90, l.p99, l.p999, l.max
        )
        .ok();
        writeln!(text, "  longest time without a success: {:.1} ms", self.longest_gap_ms).ok();
        writeln!(text, "  CPU of this client: {:.1} µs/op", self.client_cpu_us_per_op).ok();
        if self.not_begun > 0 {
            let words =
                format!("{} operations were due and never began: the rate is too high", self.not_begun);
            writeln!(text, "  {}", paint.yellow(words)).ok();
        }
        if self.errors.is_empty() {
            writeln!(text, "  no errors").ok();
        }
        for (kind, number) in &self.errors {
            writeln!(text, "  {} {number} × {kind}", paint.red("errors:")).ok();
        }
        text
    }
}

/// The middle of some numbers; for an even count the mean of the two in the middle. Zero for none.
pub fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        len if len % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The number below which a part of some numbers lies (0: the least, 1: the most): the nearest that is there. Zero for none.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // a place among a few
pub fn percentile(numbers: &[f64], part: f64) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (sorted.len() as f64 * part.clamp(0.0, 1.0)).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_known_distribution() {
        let mut recorder = Recorder::new();
        let now = Instant::now();
        for millis in 1..=1000 {
            recorder.success(Duration::from_millis(millis), now + Duration::from_millis(millis));
        }
        let latency = recorder.latency();
        let near = |value: f64, wanted: f64| (value - wanted).abs() <= wanted * 0.002;
        for (value, wanted) in [
            (latency.p50, 500.0),
            (latency.p90, 900.0),
            (latency.p99, 990.0),
            (latency.p999, 999.0),
            (latency.max, 1000.0),
            (latency.mean, 500.5),
        ] {
            assert!(near(value, wanted), "{value} is not {wanted}");
        }
        assert_eq!(recorder.successes(), 1000);
        assert_eq!(recorder.longest_gap(), Duration::from_millis(1));
    }

    #[test]
    fn the_longest_gap_is_between_two_successes() {
        let (mut recorder, now) = (Recorder::new(), Instant::now());
        for at in [0, 3, 250, 260] {
            recorder.success(Duration::from_micros(50), now + Duration::from_millis(at));
        }
        recorder.failure("unavailable: no leader".into());
        assert_eq!(recorder.longest_gap(), Duration::from_millis(247));
        assert_eq!(recorder.errors()["unavailable: no leader"], 1);
    }

    #[test]
    fn nothing_measured_gives_zeros_and_extremes_are_kept_in_range() {
        assert_eq!(Recorder::new().latency(), Latency::default());
        let mut recorder = Recorder::new();
        recorder.success(Duration::ZERO, Instant::now());
        recorder.success(Duration::from_secs(1_000_000), Instant::now());
        assert_eq!(recorder.successes(), 2);
    }

    #[test]
    fn percentiles_of_few_numbers_are_among_them() {
        let numbers: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        for (part, wanted) in [(0.0, 1.0), (0.5, 100.0), (0.99, 198.0), (1.0, 200.0)] {
            assert!((percentile(&numbers, part) - wanted).abs() < 1e-9, "{part}");
        }
        assert!((percentile(&[7.0], 0.99) - 7.0).abs() < 1e-9);
        assert!(percentile(&[], 0.5).abs() < 1e-9);
    }

    #[test]
    fn medians() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median(&[]).abs() < 1e-9);
    }
}
