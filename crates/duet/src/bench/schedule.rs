//! When the operations of an open loop are due, and when the measured seconds of any load are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// Longer than it takes to wake a client up.
const LAST_MOMENT: Duration = Duration::from_millis(20);

/// When the operations of an open loop are due.
pub struct Schedule {
    start: Instant,
    interval: Duration,
    begun: AtomicU64,
    due: Semaphore,
    over: AtomicBool,
}

impl Schedule {
    /// So many operations a second, from now on.
    pub fn new(rate: u64) -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            interval: Duration::from_nanos(1_000_000_000 / rate.clamp(1, 1_000_000_000)),
            begun: AtomicU64::new(0),
            due: Semaphore::new(0),
            over: AtomicBool::new(false),
        })
    }

    /// When the next operation is due; waits for that. `None` when the run is over.
    pub async fn next(&self) -> Option<Instant> {
        self.due.acquire().await.ok()?.forget();
        if self.over.load(Ordering::Relaxed) {
            return None;
        }
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        Some(self.start + self.interval * u32::try_from(number).unwrap_or(u32::MAX))
    }

    /// Operations due before `end` that nobody was free to begin. Those due in the last moment are not counted: they may
    /// not be begun for the only reason that it was the last.
    pub fn not_begun(&self, end: Instant) -> u64 {
        let planned = end.duration_since(self.start).saturating_sub(LAST_MOMENT).as_nanos();
        let planned = planned / self.interval.as_nanos().max(1);
        u64::try_from(planned).unwrap_or(u64::MAX).saturating_sub(self.begun.load(Ordering::Relaxed))
    }

    /// Nothing is due any more.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
        self.due.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    /// Makes operations due in time, until `end` or until it was ended. A thread of its own: tokio's timer counts whole
    /// milliseconds, this one about 50 µs.
    pub fn pace(self: Arc<Self>, end: Option<Instant>) -> JoinHandle<()> {
        std::thread::spawn(move || {
            let mut number: u32 = 0;
            while !self.over.load(Ordering::Relaxed) {
                let due = self.start + self.interval * number;
                if end.is_some_and(|end| due >= end) {
                    self.end();
                    break;
                }
                let now = Instant::now();
                if due > now {
                    std::thread::sleep(due - now);
                }
                self.due.add_permits(1);
                number = number.saturating_add(1);
            }
        })
    }
}

/// Tells others when the measured seconds begin.
#[derive(Clone, Debug)]
pub struct Window(Arc<tokio::sync::watch::Sender<Phase>>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Before,
    Measured,
    Over,
}

impl Default for Window {
    fn default() -> Self {
        Self(Arc::new(tokio::sync::watch::Sender::new(Phase::Before)))
    }
}

impl Window {
    /// Waits until the measured seconds begin, or the run is over without them.
    pub async fn opened(&self) {
        self.0.subscribe().wait_for(|phase| *phase != Phase::Before).await.ok();
    }

    /// The measured seconds begin.
    pub fn open(&self) {
        self.0.send_replace(Phase::Measured);
    }

    /// The run is over.
    pub fn close(&self) {
        self.0.send_replace(Phase::Over);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn operations_are_due_at_fixed_times_whoever_waits() {
        let schedule = Schedule::new(1_000);
        let end = schedule.start + Duration::from_millis(20);
        let pacer = schedule.clone().pace(Some(end));
        let mut due = Vec::new();
        while let Some(at) = schedule.next().await {
            due.push((at - schedule.start).as_millis());
        }
        pacer.join().unwrap();
        assert_eq!(due, (0..20).take(due.len()).collect::<Vec<_>>(), "in order and a millisecond apart");
        assert_eq!(schedule.not_begun(end), 0, "all but those of the last moment");
        let later = end + Duration::from_millis(10);
        assert_eq!(schedule.not_begun(later), 10_u64.saturating_sub(due.len() as u64), "the rest is told");
    }

    #[tokio::test]
    async fn whoever_waits_for_the_window_is_freed_at_the_end_at_the_latest() {
        let window = Window::default();
        window.close();
        window.opened().await;
    }
}
