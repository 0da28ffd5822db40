//! Compaction by itself, in etcd's two modes: keep the history of a time, or a number of revisions.
//!
//! Each appliance remembers which revision there was when; only the primary proposes. After a promotion it goes on with
//! what it remembers, so that nothing is compacted earlier than was asked for.

use std::collections::VecDeque;
use std::time::Duration;

use duet_mvcc::Command;
use duet_protocol::Instant;

use crate::clock;
use crate::handle::Handle;

/// How often the number of revisions is looked at, as in etcd.
const REVISION_INTERVAL: Duration = Duration::from_mins(5);

/// Longest time between two compactions of the other mode, as in etcd.
const PERIOD_INTERVAL: Duration = Duration::from_hours(1);

/// Looks in one such time: how exactly the time is kept.
const LOOKS: u32 = 10;

/// What is kept when history is compacted by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AutoCompaction {
    /// The history of this time.
    Period(Duration),
    /// So many revisions.
    Revisions(i64),
}

impl AutoCompaction {
    /// Between two looks.
    fn interval(self) -> Duration {
        match self {
            AutoCompaction::Period(period) => period.min(PERIOD_INTERVAL) / LOOKS,
            AutoCompaction::Revisions(_) => REVISION_INTERVAL,
        }
    }
}

/// Decides when to compact and where.
#[derive(Debug)]
struct Schedule {
    rule: AutoCompaction,
    /// Which revision there was when, oldest first; not older than the first that is needed.
    seen: VecDeque<(Instant, i64)>,
    last: Option<(Instant, i64)>,
}

impl Schedule {
    const fn new(rule: AutoCompaction) -> Schedule {
        Schedule { rule, seen: VecDeque::new(), last: None }
    }

    /// Takes the revision of now; the revision to compact at, if one is due.
    fn look(&mut self, now: Instant, revision: i64) -> Option<i64> {
        let target = match self.rule {
            AutoCompaction::Revisions(kept) => revision - kept,
            AutoCompaction::Period(period) => {
                self.seen.push_back((now, revision));
                while self.seen.get(1).is_some_and(|(at, _)| now.since(*at) >= period) {
                    self.seen.pop_front();
                }
                let (at, target) = *self.seen.front()?;
                let due = self.last.is_none_or(|(last, _)| now.since(last) >= period.min(PERIOD_INTERVAL));
                if now.since(at) < period || !due {
                    return None;
                }
                target
            }
        };
        let is_news = target > self.last.map_or(0, |(_, revision)| revision);
        is_news.then_some(target)
    }

    fn compacted(&mut self, now: Instant, revision: i64) {
        self.last = Some((now, revision));
    }
}

/// Compacts until dropped.
pub(crate) async fn run(rule: AutoCompaction, handle: Handle) {
    let mut schedule = Schedule::new(rule);
    let mut looks = tokio::time::interval(rule.interval());
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let revision = handle.store().read().revision();
        let Some(target) = schedule.look(clock::now(), revision) else { continue };
        if !handle.view().borrow().is_primary {
            continue;
        }
        match handle.write_own(Command::Compact { revision: target }).await {
            // A refusal says that it is compacted already, or that an alarm forbids it.
            Ok(applied) => {
                tracing::debug!(target, refused = applied.result.is_err(), "compacted by itself");
                schedule.compacted(clock::now(), target);
            }
            Err(error) => tracing::debug!(target, %error, "not compacted, it is tried again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks as often as it wants to; each compaction with its time in seconds. One revision comes every second.
    fn play(rule: AutoCompaction, seconds: u64) -> Vec<(u64, i64)> {
        let mut schedule = Schedule::new(rule);
        let start = clock::now();
        let mut compactions = Vec::new();
        let mut elapsed = Duration::ZERO;
        while elapsed.as_secs() <= seconds {
            let now = start.after(elapsed);
            if let Some(target) = schedule.look(now, i64::try_from(elapsed.as_secs()).unwrap()) {
                schedule.compacted(now, target);
                compactions.push((elapsed.as_secs(), target));
            }
            assert!(schedule.seen.len() <= 10 * LOOKS as usize + 1, "no more than the period needs");
            elapsed += rule.interval();
        }
        compactions
    }

    #[test]
    fn a_short_period_is_kept_and_compacted_once_in_each() {
        let made = play(AutoCompaction::Period(Duration::from_mins(10)), 3_600);
        let expected = [(660, 60), (1_260, 660), (1_860, 1_260), (2_460, 1_860), (3_060, 2_460)];
        assert_eq!(made, expected);
    }

    #[test]
    fn a_long_period_is_kept_and_compacted_every_hour() {
        let made = play(AutoCompaction::Period(Duration::from_hours(5)), 8 * 3_600);
        assert_eq!(made, [(18_360, 360), (21_960, 3_960), (25_560, 7_560)]);
    }

    #[test]
    fn revisions_are_kept_however_fast_they_come() {
        assert_eq!(play(AutoCompaction::Revisions(1_000), 1_500), [(1_200, 200), (1_500, 500)]);
        assert_eq!(play(AutoCompaction::Revisions(10_000), 1_500), []);
    }

    #[test]
    fn what_could_not_be_compacted_is_tried_again() {
        let mut schedule = Schedule::new(AutoCompaction::Revisions(10));
        let now = clock::now();
        assert_eq!(schedule.look(now, 100), Some(90));
        assert_eq!(schedule.look(now, 101), Some(91));
        schedule.compacted(now, 91);
        assert_eq!(schedule.look(now, 101), None);
    }
}
