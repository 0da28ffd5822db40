//! Who may answer linearizable reads (protocol section 5).

use alloc::vec::Vec;

use crate::appliance::Appliance;
use crate::planted::Bug;
use crate::role::Role;
use crate::{Effect, ReadPermit};

impl Appliance {
    /// The permit that follows from the present state.
    fn permit_now(&self) -> ReadPermit {
        let Role::Primary(primary) = &self.role else { return ReadPermit::No };
        let held = self.leaving.as_ref().is_some_and(|leaving| leaving.holds_writes);
        let offering = (primary.offering || held) && !Bug::ServesWhileOffering.planted();
        if offering || (self.applied < primary.read_floor && !Bug::ReadsBeforeApplied.planted()) {
            return ReadPermit::No;
        }
        if self.effective_solo() || Bug::ReadsWithoutLease.planted() {
            ReadPermit::Yes
        } else if primary.lease_until > self.now {
            ReadPermit::Until(primary.lease_until)
        } else {
            ReadPermit::No
        }
    }

    /// Before a durable write: what it takes away is taken at once, what it will entitle to is granted once it is done.
    pub(crate) fn narrow_permit(&mut self, fx: &mut Vec<Effect>) {
        let rank = |permit: ReadPermit| match permit {
            ReadPermit::No => 0,
            ReadPermit::Until(_) => 1,
            ReadPermit::Yes => 2,
        };
        if rank(self.permit_now()) <= rank(self.permit) {
            self.update_permit(fx);
        }
    }

    /// Tells the readers when the permit has changed.
    pub(crate) fn update_permit(&mut self, fx: &mut Vec<Effect>) {
        let permit = self.permit_now();
        if permit != self.permit {
            self.permit = permit;
            fx.push(Effect::ReadPermit(permit));
        }
    }
}
