//! When leases run out: the server's timers, driven by the primary's clock; and that none runs out early.

use std::collections::BTreeMap;

use duet_protocol::{ApplianceId, RoleName};
use duet_serving::LEASE_TICK;

use super::clock::{SECOND, Time};
use super::event::Event;
use super::machine::{Process, Work};
use super::marks::Mark;
use super::world::World;

/// Of a thousand: so much of a lease's time a primary may be early by, because its clock runs fast.
const CLOCK_PER_MILLE: Time = 6;

/// What clients were told of leases.
#[derive(Debug, Default)]
pub(crate) struct LeaseBook(BTreeMap<i64, Term>);

#[derive(Clone, Copy, Debug)]
struct Term {
    ttl: Time,
    /// The last grant or renewal that was acknowledged was asked for then.
    since: Time,
}

impl LeaseBook {
    /// Its client was told that the lease lives for `ttl` seconds, on a request of that time.
    pub fn renewed(&mut self, lease: i64, ttl: i64, asked: Time) {
        let ttl = u64::try_from(ttl).unwrap_or(0) * SECOND;
        let term = self.0.entry(lease).or_insert(Term { ttl, since: asked });
        term.since = term.since.max(asked);
    }
}

impl Process {
    /// Which promotion of this process is in force, if it is primary.
    pub(crate) fn promotion(&self) -> Option<u64> {
        (self.status.role == RoleName::Primary).then_some(self.promotions)
    }
}

impl World {
    /// The task that looks for expired leases.
    pub(crate) fn on_lease_tick(&mut self, id: ApplianceId, life: u64) {
        if self.is_held(id, life, Event::LeaseTick { id, life }) {
            return;
        }
        let now = self.now;
        let machine = self.machines.get_mut(id);
        let (reading, permit) = (machine.clock.read(now), machine.permit_holds(now));
        let next = machine.clock.when(reading.after(LEASE_TICK));
        let Some(process) = machine.process.as_mut().filter(|process| process.life == life) else { return };
        let promotion = process.promotion();
        process.timers.enter(promotion);
        let expired = if promotion.is_some() && permit {
            process.timers.tick(&process.state.store.lease_ttls(), reading)
        } else {
            Vec::new()
        };
        self.schedule_at(next, Event::LeaseTick { id, life });
        for lease in expired {
            self.expire(id, life, lease);
        }
    }

    fn expire(&mut self, id: ApplianceId, life: u64, lease: i64) {
        let now = self.now;
        self.note(|| format!("{id} finds lease {lease} expired"));
        self.marks.reach(Mark::LeaseExpired);
        let promoted = self.promotions.iter().rev().find(|promotion| promotion.id == id);
        let promoted = promoted.map_or(0, |promotion| promotion.at);
        if let Some(Term { ttl, since }) = self.leases.0.get(&lease).copied() {
            let least = ttl - ttl / 1000 * CLOCK_PER_MILLE;
            if now < since.max(promoted) + least {
                self.violate(format!(
                    "leases: lease {lease} of {} s expires at {now}, renewed at {since}, {id} primary since {promoted}",
                    ttl / SECOND
                ));
            }
            if promoted > since && now > since + ttl + SECOND {
                self.marks.reach(Mark::LeaseFullAgain);
            }
        }
        let operation = self.operation_of_clock(id, life, lease);
        self.work(id, Work::Write(vec![operation]));
    }

    /// A revocation that the clock asked for has come to its end.
    pub(crate) fn clock_told(&mut self, id: ApplianceId, life: u64, lease: i64, done: bool) {
        if let Some(process) = self.process_of_mut(id, life).filter(|_| !done) {
            process.timers.revocation_failed(lease);
        }
    }

    /// A client of `id` was told that its lease is granted: its time begins.
    pub(crate) fn granted_now(&mut self, id: ApplianceId, lease: i64, ttl: i64) {
        let now = self.now;
        let machine = self.machines.get_mut(id);
        let reading = machine.clock.read(now);
        let Some(process) = &mut machine.process else { return };
        if let Some(promotion) = process.promotion() {
            process.timers.enter(Some(promotion));
            process.timers.left(lease, ttl, reading);
        }
    }

    /// Renews a lease here; its time to live, or `None` if there is none such. `Err`: only the primary does that.
    pub(crate) fn renew(&mut self, id: ApplianceId, lease: i64) -> Result<Option<i64>, ()> {
        let now = self.now;
        let machine = self.machines.get_mut(id);
        let reading = machine.clock.read(now);
        let process = machine.process.as_mut().ok_or(())?;
        let Some(found) = process.state.store.lease_time_to_live(lease, false) else { return Ok(None) };
        let promotion = process.promotion().ok_or(())?;
        process.timers.enter(Some(promotion));
        let renewed = process.timers.renew(lease, found.granted_ttl, reading);
        if renewed {
            self.marks.reach(Mark::LeaseRenewed);
        }
        Ok(renewed.then_some(found.granted_ttl))
    }

    /// No lease lives on when nobody has renewed it for long.
    pub(crate) fn check_no_lease(&mut self) {
        for id in ApplianceId::ALL {
            let Some(process) = &self.machines.get(id).process else { continue };
            if let Some(lease) = process.state.store.leases().first() {
                self.violate(format!("leases: lease {lease} lives for ever at {id}"));
            }
        }
    }
}
