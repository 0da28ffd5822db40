//! When leases run out: only the primary's clock decides, and only a replicated command makes it so.
//!
//! Each lease gets a deadline while this appliance is primary. A promotion gives every lease its full time to live again,
//! because renewals are not replicated. Time during which the process did not run, or could not serve, does not count against
//! a lease: its clients could not have renewed it.

use std::collections::BTreeMap;
use std::time::Duration;

use duet_protocol::Instant;

use crate::planted::Bug;

/// How often expired leases are looked for, as in etcd.
pub const LEASE_TICK: Duration = Duration::from_millis(500);

/// A tick that comes later than this finds a process that did not run (suspended, stopped, starved).
const LATE: Duration = Duration::from_secs(2);

/// Expired leases that are revoked in one tick, as in etcd: a mass expiry must not crowd out clients' writes.
const REVOCATIONS_PER_TICK: usize = 500;

#[derive(Clone, Copy, Debug)]
struct Timer {
    /// When its time began.
    since: Instant,
    deadline: Instant,
    /// Its revocation has been proposed: too late to renew.
    revoking: bool,
}

impl Timer {
    fn full(ttl: i64, now: Instant) -> Timer {
        Timer { since: now, deadline: now.after(seconds(ttl)), revoking: false }
    }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}

/// See the module.
#[derive(Debug, Default)]
pub struct LeaseTimers {
    /// The promotion that these timers belong to, while this appliance is primary. Not the epoch: that also changes while
    /// the primary stays, and then no client gets more time.
    promotion: Option<u64>,
    by_lease: BTreeMap<i64, Timer>,
    last_tick: Option<Instant>,
}

impl LeaseTimers {
    /// Forgets the timers of another promotion; `None`: this appliance is not primary.
    pub fn enter(&mut self, promotion: Option<u64>) {
        if self.promotion != promotion {
            if !Bug::PromotionKeepsDeadlines.planted() {
                self.by_lease.clear();
            }
            self.last_tick = None;
            self.promotion = promotion;
        }
    }

    /// Forgives time in which no client could renew its lease: nothing ran, or nothing was served. Not to a lease that began
    /// only afterwards.
    fn forgive(&mut self, now: Instant) {
        let late = self.last_tick.map_or(Duration::ZERO, |last| now.since(last));
        if late > LATE && !Bug::StandstillCounts.planted() {
            let forgiven = late.saturating_sub(LEASE_TICK);
            for timer in self.by_lease.values_mut() {
                let lived = now.since(timer.since);
                let most = if Bug::StandstillForgivenToAll.planted() { forgiven } else { lived };
                timer.deadline = timer.deadline.after(forgiven.min(most));
            }
        }
        self.last_tick = Some(now);
    }

    /// Takes over which leases there are (with their times to live, ascending), and picks what has expired: the caller
    /// revokes it. To be called every [`LEASE_TICK`], by a primary that may answer reads: one that cannot reach its clients
    /// renews nobody, and then nothing may expire either.
    pub fn tick(&mut self, leases: &[(i64, i64)], now: Instant) -> Vec<i64> {
        self.forgive(now);
        self.by_lease.retain(|id, _| leases.binary_search_by_key(id, |(lease, _)| *lease).is_ok());
        for (id, ttl) in leases {
            self.by_lease.entry(*id).or_insert_with(|| Timer::full(*ttl, now));
        }
        let expired = self.by_lease.iter_mut().filter(|(_, timer)| !timer.revoking && timer.deadline <= now);
        expired
            .take(REVOCATIONS_PER_TICK)
            .map(|(id, timer)| {
                timer.revoking = true;
                *id
            })
            .collect()
    }

    /// Starts the lease's time anew; `false` if it has run out.
    pub fn renew(&mut self, id: i64, ttl: i64, now: Instant) -> bool {
        self.forgive(now);
        let timer = self.by_lease.entry(id).or_insert_with(|| Timer::full(ttl, now));
        let is_over = timer.revoking || timer.deadline <= now;
        if is_over && !Bug::ExpiredIsRenewed.planted() {
            return false;
        }
        if !Bug::RenewalForgotten.planted() {
            *timer = Timer::full(ttl, now);
        }
        true
    }

    /// A lease that was picked could not be revoked: it is picked again.
    pub fn revocation_failed(&mut self, id: i64) {
        if let Some(timer) = self.by_lease.get_mut(&id) {
            timer.revoking = Bug::RevocationForgotten.planted();
        }
    }

    /// When it runs out, as far as that is known here.
    pub fn deadline(&self, id: i64) -> Option<Instant> {
        self.by_lease.get(&id).map(|timer| timer.deadline)
    }

    /// The time a lease has left. Starts the timer of one that was just granted.
    pub fn left(&mut self, id: i64, ttl: i64, now: Instant) -> Duration {
        self.by_lease.entry(id).or_insert_with(|| Timer::full(ttl, now)).deadline.since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000_000)
    }

    /// Ticks every second so that no tick is late.
    fn ticks(
        timers: &mut LeaseTimers,
        leases: &[(i64, i64)],
        seconds: std::ops::RangeInclusive<u64>,
    ) -> Vec<(u64, i64)> {
        seconds
            .flat_map(|second| timers.tick(leases, at(second)).into_iter().map(move |id| (second, id)))
            .collect()
    }

    #[test]
    fn a_lease_expires_once_after_its_time() {
        let mut timers = LeaseTimers::default();
        let granted = [(7, 3), (8, 5)];
        assert_eq!(ticks(&mut timers, &granted, 10..=20), [(13, 7), (15, 8)]);
    }

    #[test]
    fn a_renewed_lease_lives_on_and_an_expired_one_cannot_be_renewed() {
        let mut timers = LeaseTimers::default();
        let granted = [(7, 3)];
        assert_eq!(ticks(&mut timers, &granted, 10..=12), []);
        assert!(timers.renew(7, 3, at(12)));
        assert_eq!(ticks(&mut timers, &granted, 13..=16), [(15, 7)]);
        assert!(!timers.renew(7, 3, at(16)));
    }

    #[test]
    fn a_promotion_gives_the_full_time_again() {
        let mut timers = LeaseTimers::default();
        let granted = [(7, 10)];
        timers.enter(Some(1));
        timers.tick(&granted, at(10));
        timers.enter(None);
        timers.enter(Some(2));
        timers.tick(&granted, at(18));
        assert_eq!(timers.left(7, 10, at(18)), Duration::from_secs(10));
    }

    #[test]
    fn time_in_which_nothing_ran_is_forgiven() {
        let mut timers = LeaseTimers::default();
        let granted = [(7, 5)];
        assert_eq!(ticks(&mut timers, &granted, 10..=12), []);
        assert_eq!(timers.tick(&granted, at(112)), [0; 0]);
        let left = timers.left(7, 5, at(112));
        assert!(left > Duration::from_secs(2) && left <= Duration::from_secs(3), "{left:?}");
    }

    #[test]
    fn a_renewal_that_comes_first_after_such_a_time_finds_it_forgiven() {
        let mut timers = LeaseTimers::default();
        assert_eq!(ticks(&mut timers, &[(7, 5)], 10..=12), []);
        assert!(timers.renew(7, 5, at(112)));
    }

    #[test]
    fn a_lease_granted_right_after_such_a_time_gets_none_of_it() {
        let mut timers = LeaseTimers::default();
        assert_eq!(ticks(&mut timers, &[], 10..=12), []);
        assert_eq!(timers.left(7, 5, at(112)), Duration::from_secs(5));
        assert_eq!(ticks(&mut timers, &[(7, 5)], 112..=120), [(117, 7)]);
    }

    #[test]
    fn a_revocation_that_failed_is_tried_again() {
        let mut timers = LeaseTimers::default();
        let granted = [(7, 3)];
        assert_eq!(ticks(&mut timers, &granted, 10..=15), [(13, 7)]);
        timers.revocation_failed(7);
        assert_eq!(ticks(&mut timers, &granted, 16..=18), [(16, 7)]);
    }

    #[test]
    fn a_lease_that_is_gone_has_no_timer() {
        let mut timers = LeaseTimers::default();
        timers.tick(&[(7, 5)], at(10));
        timers.tick(&[], at(11));
        assert!(timers.by_lease.is_empty());
    }
}
