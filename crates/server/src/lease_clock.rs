//! When leases expire: only the primary's clock decides, and only a replicated command makes it so.
//!
//! The store knows which leases exist; this clock adds a deadline to each while this appliance is primary. A promotion
//! gives every lease its full time to live again, because keep-alives are not replicated. Time during which this process
//! did not run, or could not serve, does not count against a lease: its clients could not have renewed it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use duet_mvcc::Command;
use duet_protocol::Instant;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::clock;
use crate::error::NotPrimary;
use crate::handle::Handle;

/// How often expired leases are looked for, as in etcd.
const TICK: Duration = Duration::from_millis(500);

/// A tick that comes later than this finds a process that did not run (suspended, stopped, starved).
const LATE: Duration = Duration::from_secs(2);

/// Expired leases that are revoked in one tick, as in etcd: a mass expiry must not crowd out clients' writes.
const REVOCATIONS_PER_TICK: usize = 500;

/// Revocations that are under way at once, for the same reason.
const REVOCATIONS_UNDER_WAY: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Timer {
    deadline: Instant,
    /// Its revocation has been proposed: too late to renew.
    revoking: bool,
}

impl Timer {
    fn full(ttl: i64, now: Instant) -> Timer {
        Timer { deadline: now.after(seconds(ttl)), revoking: false }
    }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}

#[derive(Default)]
struct Timers {
    /// The promotion that these timers belong to, while this appliance is primary. Not the epoch: that also changes while
    /// the primary stays, and then no client gets more time.
    promotion: Option<u64>,
    by_lease: HashMap<i64, Timer>,
    last_tick: Option<Instant>,
}

impl Timers {
    /// Forgets the timers of another promotion.
    fn enter(&mut self, promotion: Option<u64>) {
        if self.promotion != promotion {
            self.by_lease.clear();
            self.last_tick = None;
            self.promotion = promotion;
        }
    }

    /// Forgives time in which no client could renew its lease: nothing ran, or nothing was served.
    fn forgive(&mut self, now: Instant) {
        let late = self.last_tick.map_or(Duration::ZERO, |last| now.since(last));
        if late > LATE {
            let forgiven = late.saturating_sub(TICK);
            for timer in self.by_lease.values_mut() {
                timer.deadline = timer.deadline.after(forgiven);
            }
        }
        self.last_tick = Some(now);
    }

    /// Takes over which leases there are, and picks what has expired.
    fn tick(&mut self, leases: &HashMap<i64, i64>, now: Instant) -> Vec<i64> {
        self.forgive(now);
        self.by_lease.retain(|id, _| leases.contains_key(id));
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
    fn renew(&mut self, id: i64, ttl: i64, now: Instant) -> bool {
        self.forgive(now);
        let timer = self.by_lease.entry(id).or_insert_with(|| Timer::full(ttl, now));
        if timer.revoking || timer.deadline <= now {
            return false;
        }
        *timer = Timer::full(ttl, now);
        true
    }

    fn left(&mut self, id: i64, ttl: i64, now: Instant) -> Duration {
        self.by_lease.entry(id).or_insert_with(|| Timer::full(ttl, now)).deadline.since(now)
    }
}

/// See the module.
pub struct LeaseClock {
    handle: Handle,
    timers: Mutex<Timers>,
    under_way: Arc<Semaphore>,
}

impl LeaseClock {
    /// A clock that [`LeaseClock::run`] keeps going.
    pub fn new(handle: Handle) -> Arc<LeaseClock> {
        let under_way = Arc::new(Semaphore::new(REVOCATIONS_UNDER_WAY));
        Arc::new(LeaseClock { handle, timers: Mutex::new(Timers::default()), under_way })
    }

    /// Revokes expired leases until dropped.
    pub async fn run(self: Arc<LeaseClock>) {
        let mut revocations = JoinSet::new();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            while revocations.try_join_next().is_some() {}
            for id in self.expired() {
                let Ok(permit) = self.under_way.clone().acquire_owned().await else { return };
                let clock = self.clone();
                revocations.spawn(async move {
                    clock.revoke(id).await;
                    drop(permit);
                });
            }
        }
    }

    fn promotion(&self) -> Option<u64> {
        let view = self.handle.view();
        let view = view.borrow();
        view.is_primary.then_some(view.promotions)
    }

    fn expired(&self) -> Vec<i64> {
        let promotion = self.promotion();
        let leases = if promotion.is_some() { self.granted() } else { HashMap::new() };
        let mut timers = self.timers.lock();
        timers.enter(promotion);
        // A primary without its peer and the witness renews nobody: then nothing expires either.
        if promotion.is_none() || self.handle.read_permit().is_err() {
            return Vec::new();
        }
        timers.tick(&leases, clock::now())
    }

    /// All leases with their times to live.
    fn granted(&self) -> HashMap<i64, i64> {
        let store = self.handle.store().read();
        let with_ttl = |id| store.lease_time_to_live(id, false).map(|lease| (id, lease.granted_ttl));
        store.leases().into_iter().filter_map(with_ttl).collect()
    }

    async fn revoke(&self, id: i64) {
        match self.handle.write(Command::LeaseRevoke { id }).await {
            // A refusal says that the lease is gone already.
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(lease = id, %error, "an expired lease could not be revoked, it is tried again");
                if let Some(timer) = self.timers.lock().by_lease.get_mut(&id) {
                    timer.revoking = false;
                }
            }
        }
    }

    /// Starts the time of a lease that was granted here just now. Without this it would start at the next tick.
    pub fn granted_now(&self, id: i64, ttl: i64) {
        let Some(promotion) = self.promotion() else { return };
        let mut timers = self.timers.lock();
        timers.enter(Some(promotion));
        timers.left(id, ttl, clock::now());
    }

    /// Renews a lease; its time to live, or `None` if it does not exist or has run out.
    ///
    /// # Errors
    /// Only the primary renews leases.
    pub fn keep_alive(&self, id: i64) -> Result<Option<i64>, NotPrimary> {
        let guard = self.handle.read_permit()?;
        let lease = self.handle.store().read().lease_time_to_live(id, false);
        let Some(lease) = lease else {
            guard.still_valid()?;
            return Ok(None);
        };
        let promotion = self.promotion().ok_or(NotPrimary)?;
        let renewed = {
            let mut timers = self.timers.lock();
            timers.enter(Some(promotion));
            timers.renew(id, lease.granted_ttl, clock::now())
        };
        guard.still_valid()?;
        Ok(renewed.then_some(lease.granted_ttl))
    }

    /// Time left of a lease that was granted for `ttl` seconds.
    ///
    /// # Errors
    /// Only the primary knows.
    pub fn left(&self, id: i64, ttl: i64) -> Result<Duration, NotPrimary> {
        let promotion = self.promotion().ok_or(NotPrimary)?;
        let mut timers = self.timers.lock();
        timers.enter(Some(promotion));
        Ok(timers.left(id, ttl, clock::now()))
    }

    /// Leases are listed by when they expire, as far as that is known here.
    pub fn in_order_of_expiry(&self, ids: &mut [i64]) {
        let timers = self.timers.lock();
        ids.sort_by_key(|id| (timers.by_lease.get(id).map(|timer| timer.deadline), *id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000_000)
    }

    fn leases(ttls: &[(i64, i64)]) -> HashMap<i64, i64> {
        ttls.iter().copied().collect()
    }

    /// Ticks every second so that no tick is late.
    fn ticks(
        timers: &mut Timers,
        leases: &HashMap<i64, i64>,
        seconds: std::ops::RangeInclusive<u64>,
    ) -> Vec<(u64, i64)> {
        seconds
            .flat_map(|second| timers.tick(leases, at(second)).into_iter().map(move |id| (second, id)))
            .collect()
    }

    #[test]
    fn a_lease_expires_once_after_its_time() {
        let mut timers = Timers::default();
        let granted = leases(&[(7, 3), (8, 5)]);
        assert_eq!(ticks(&mut timers, &granted, 10..=20), [(13, 7), (15, 8)]);
    }

    #[test]
    fn a_renewed_lease_lives_on_and_an_expired_one_cannot_be_renewed() {
        let mut timers = Timers::default();
        let granted = leases(&[(7, 3)]);
        assert_eq!(ticks(&mut timers, &granted, 10..=12), []);
        assert!(timers.renew(7, 3, at(12)));
        assert_eq!(ticks(&mut timers, &granted, 13..=16), [(15, 7)]);
        assert!(!timers.renew(7, 3, at(16)));
    }

    #[test]
    fn a_promotion_gives_the_full_time_again() {
        let mut timers = Timers::default();
        let granted = leases(&[(7, 10)]);
        timers.enter(Some(1));
        timers.tick(&granted, at(10));
        timers.enter(None);
        timers.enter(Some(2));
        timers.tick(&granted, at(18));
        assert_eq!(timers.left(7, 10, at(18)), Duration::from_secs(10));
    }

    #[test]
    fn time_in_which_nothing_ran_is_forgiven() {
        let mut timers = Timers::default();
        let granted = leases(&[(7, 5)]);
        assert_eq!(ticks(&mut timers, &granted, 10..=12), []);
        assert_eq!(timers.tick(&granted, at(112)), [0; 0]);
        let left = timers.left(7, 5, at(112));
        assert!(left > Duration::from_secs(2) && left <= Duration::from_secs(3), "{left:?}");
    }

    #[test]
    fn a_renewal_that_comes_first_after_such_a_time_finds_it_forgiven() {
        let mut timers = Timers::default();
        assert_eq!(ticks(&mut timers, &leases(&[(7, 5)]), 10..=12), []);
        assert!(timers.renew(7, 5, at(112)));
    }

    #[test]
    fn a_lease_that_is_gone_has_no_timer() {
        let mut timers = Timers::default();
        timers.tick(&leases(&[(7, 5)]), at(10));
        timers.tick(&leases(&[]), at(11));
        assert!(timers.by_lease.is_empty());
    }

    #[tokio::test]
    async fn a_new_epoch_of_the_same_primary_gives_no_lease_more_time() {
        let handle = crate::handle::Handle::for_tests();
        let view = &handle.inner.view;
        let be = |epoch, promotions| {
            view.send_modify(|view| {
                (view.is_primary, view.epoch, view.promotions) =
                    (true, duet_protocol::Epoch(epoch), promotions);
            });
        };
        let clock = LeaseClock::new(handle.clone());
        be(1, 1);
        clock.granted_now(7, 100);
        std::thread::sleep(Duration::from_millis(20));
        let before = clock.left(7, 100).unwrap();
        assert!(before <= Duration::from_millis(99_980));
        // The secondary was dropped from the in-sync set, and let in again.
        be(3, 1);
        assert!(clock.left(7, 100).unwrap() <= before);
        // Somebody else was primary in between.
        be(7, 2);
        assert!(clock.left(7, 100).unwrap() > before);
    }
}
