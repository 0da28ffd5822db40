//! Those who read beside the driver, under the core's permit.

use duet_protocol::{ApplianceId, Lsn, ReadPermit, RoleName};

use super::clock::{MICRO, MILLI, Time};
use super::event::Event;
use super::machine::OperationId;
use super::marks::Mark;
use super::world::World;

impl World {
    pub(crate) fn on_read_arrival(&mut self, id: ApplianceId, operation: OperationId) {
        let floor = self.oracle.relied_upon();
        let now = self.now;
        let machine = self.machines.get(id);
        let Some(process) = machine.process.as_ref().filter(|process| !process.frozen) else {
            return self.tell_refused(operation);
        };
        if !machine.permit_holds(now) {
            return self.tell_refused(operation);
        }
        let (life, lsn) = (process.life, process.state.applied.lsn);
        self.answer(id, operation);
        // The permit is checked once more after the state was read, and that may be a long time later.
        let takes = if self.random.chance(50) { (MILLI, 300 * MILLI) } else { (MICRO, 100 * MICRO) };
        let takes = self.random.within(takes);
        self.schedule(takes, Event::ReadChecked { id, life, operation, begun: now, floor, lsn });
    }

    pub(crate) fn on_read_checked(
        &mut self,
        id: ApplianceId,
        life: u64,
        operation: OperationId,
        (begun, floor, lsn): (Time, Lsn, Lsn),
    ) {
        let now = self.now;
        let machine = self.machines.get(id);
        let permit =
            self.process_of(id, life).filter(|process| !process.frozen).map(|process| process.permit);
        if permit.is_none() || !machine.permit_holds(now) {
            self.marks.reach(Mark::ReadCancelled);
            return self.tell_refused(operation);
        }
        self.marks.reach(if permit == Some(ReadPermit::Yes) { Mark::SoloRead } else { Mark::LeaseRead });
        let verdict = self.oracle.on_read(id, begun, floor, lsn);
        self.require(verdict);
        self.tell_read(operation, id, lsn);
    }

    /// Whether this appliance serves: takes writes and answers reads.
    pub fn serves(&self, id: ApplianceId) -> bool {
        self.role(id) == Some(RoleName::Primary) && self.answers_reads(id)
    }
}
