//! Disks that fail or lie, and what people do about them.
//!
//! A pair stands the loss of one disk, not of the only one that holds what was acknowledged, and an appliance that lost its very
//! last writes cannot know that alone: its peer and the witness can. So damage is done to one disk at a time, the only
//! copy is made whole again, and an appliance with such a loss starts when its peer goes on without it.

use duet_protocol::ApplianceId;

use super::clock::{SECOND, Time};
use super::disk::{Files, Mishap};
use super::event::Event;
use super::marks::Mark;
use super::random::Random;
use super::world::World;

/// When everything is healed an appliance that lost its last writes meets its peer after this time in any case.
const MEET_AGAIN: Time = 8 * SECOND;

/// How soon a person or a supervisor looks again at an appliance that does not start.
const LOOK_AGAIN: Time = SECOND;

impl World {
    /// The disk gets so much room more and nothing beyond that.
    pub(crate) fn fill_disk(&mut self, id: ApplianceId, room: u64, lasts: Time) {
        let machine = self.machines.get_mut(id);
        machine.disk.set_capacity(Some(machine.disk.used() + room));
        machine.suspect = true;
        self.schedule(lasts, Event::DiskFreed { id });
    }

    pub(crate) fn on_disk_freed(&mut self, id: ApplianceId) {
        self.note(|| format!("the disk of {id} has room again"));
        self.machines.get(id).disk.set_capacity(None);
    }

    /// The next write to some files goes wrong.
    pub(crate) fn arm(&mut self, id: ApplianceId, mishap: Mishap, dice: &mut Random) -> bool {
        let may = self.may_be_damaged(id);
        if may {
            let machine = self.machines.get_mut(id);
            machine.suspect = true;
            machine.disk.arm(mishap, dice);
        }
        may
    }

    /// A bit is flipped now.
    pub(crate) fn flip_bit(&mut self, id: ApplianceId, files: Files, dice: &mut Random) -> bool {
        let may = self.may_be_damaged(id);
        if may {
            self.machines.get_mut(id).suspect = true;
        }
        may && self.machines.get(id).disk.flip_bit(files, dice)
    }

    /// Whether the pair stands the loss of this disk.
    fn may_be_damaged(&self, id: ApplianceId) -> bool {
        let harmed = ApplianceId::ALL.into_iter().any(|id| self.is_harmed(id));
        // Without disk and witness nobody can say who went on last: a person decides then.
        let harmed = harmed || self.record().is_none();
        !harmed && !self.is_only_copy(id) && !self.machines.get(id).held_down
    }

    /// Whether the disk has lost something, or is about to.
    pub(crate) fn is_harmed(&self, id: ApplianceId) -> bool {
        let machine = self.machines.get(id);
        machine.disk.is_harmed() || machine.waits_for_peer || machine.refuses
    }

    /// Whether nobody else is bound to hold what was acknowledged.
    fn is_only_copy(&self, id: ApplianceId) -> bool {
        let newest = self.newest();
        newest.is_solo() && newest.has(id, self.own(id).disk)
    }

    /// Whether the machine may be started with the disk as it is.
    pub(crate) fn may_start(&mut self, id: ApplianceId) -> bool {
        if self.machines.get(id).disk.is_injured() && self.is_only_copy(id) {
            self.note(|| format!("the disk of {id} holds the only copy and is made whole"));
            self.machines.get(id).disk.heal();
        }
        if self.machines.get(id).waits_for_peer {
            let must_wait = self.faulting || self.now < self.healed_at + MEET_AGAIN;
            if must_wait && self.newest().has(id, self.own(id).disk) {
                self.look_again(id);
                return false;
            }
            self.machines.get_mut(id).waits_for_peer = false;
        }
        true
    }

    fn look_again(&mut self, id: ApplianceId) {
        if self.restarts {
            self.schedule(LOOK_AGAIN, Event::Start { id });
        }
    }

    /// The process does not start on what its disk holds: a person replaces the disk when the peer goes on without it.
    pub(crate) fn on_refusal(&mut self, id: ApplianceId, why: &str) {
        let machine = self.machines.get(id);
        machine.disk.kill();
        if !machine.suspect {
            return self.violate(format!("storage: {id} refuses a healthy disk: {why}"));
        }
        self.machines.get_mut(id).refuses = true;
        self.note(|| format!("{id} does not start: {why}"));
        if self.machines.get(id).disk.is_injured() {
            self.marks.reach(Mark::DamageFound);
        }
        if self.can_do_without(id) && self.random.chance(500) {
            self.replace_disk(id);
        }
        self.look_again(id);
    }

    /// A start has found less than was said to be durable, and could not notice.
    pub(crate) fn on_unnoticed_loss(&mut self, id: ApplianceId, lost: &str) {
        if !self.machines.get(id).suspect {
            return self.violate(format!("storage: {id} has lost what was durable: {lost}"));
        }
        self.marks.reach(Mark::LossUnnoticed);
        self.note(|| format!("{id} could start and has not noticed that {lost}"));
        // Only a member has promised to hold anything.
        if self.newest().has(id, self.own(id).disk) {
            self.excused = Some(id);
            // A test that takes writes away knows what it does.
            self.machines.get_mut(id).waits_for_peer = self.restarts;
        }
    }

    /// Nothing is wrong with the machine any more.
    pub(crate) fn mend(&mut self, id: ApplianceId) {
        let machine = self.machines.get_mut(id);
        machine.slow_disk = None;
        machine.held_down = false;
        machine.disk.set_capacity(None);
        machine.disk.disarm();
        machine.disk.heal();
    }
}
