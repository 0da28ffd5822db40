//! When leases expire: only the primary's clock decides, and only a replicated command makes it so.
//!
//! The store knows which leases exist; while this appliance is primary [`LeaseTimers`] adds a deadline to each.

use std::sync::Arc;
use std::time::Duration;

use duet_mvcc::{Applied, Command, Error};
use duet_serving::{LEASE_TICK, LeaseTimers};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::clock;
use crate::error::NotPrimary;
use crate::handle::Handle;

/// Revocations that are under way at once: a mass expiry must not crowd out clients' writes.
const REVOCATIONS_UNDER_WAY: usize = 64;

/// See the module.
pub struct LeaseClock {
    handle: Handle,
    timers: Mutex<LeaseTimers>,
    under_way: Arc<Semaphore>,
}

impl LeaseClock {
    /// A clock that [`LeaseClock::run`] keeps going.
    pub fn new(handle: Handle) -> Arc<LeaseClock> {
        let under_way = Arc::new(Semaphore::new(REVOCATIONS_UNDER_WAY));
        Arc::new(LeaseClock { handle, timers: Mutex::new(LeaseTimers::default()), under_way })
    }

    /// Revokes expired leases until dropped.
    pub async fn run(self: Arc<LeaseClock>) {
        let mut revocations = JoinSet::new();
        let mut ticks = tokio::time::interval(LEASE_TICK);
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
        let leases = if promotion.is_some() { self.handle.store().read().lease_ttls() } else { Vec::new() };
        let mut timers = self.timers.lock();
        timers.enter(promotion);
        // A primary without its peer and the witness renews nobody: then nothing expires either.
        // Nor while an alarm forbids every change: the refusals would only fill the log.
        let forbidden = self.handle.space().is_corrupt();
        if promotion.is_none() || forbidden || self.handle.read_permit().is_err() {
            return Vec::new();
        }
        timers.tick(&leases, clock::now())
    }

    async fn revoke(&self, id: i64) {
        match self.handle.write_own(Command::LeaseRevoke { id }).await {
            // Users were turned on meanwhile, and the log holds an order that nobody is named with; or an alarm
            // forbids every change.
            Ok(Applied { result: Err(Error::Auth(_) | Error::Corrupt), .. }) => {
                self.timers.lock().revocation_failed(id);
            }
            // Any other refusal says that the lease is gone already.
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(lease = id, %error, "an expired lease could not be revoked, it is tried again");
                self.timers.lock().revocation_failed(id);
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
        ids.sort_by_key(|id| (timers.deadline(*id), *id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
