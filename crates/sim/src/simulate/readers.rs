//! Those who read beside the driver, under the core's permit (`secondary_reads`: without one).

use duet_checkers::{Answer, Request};
use duet_mvcc::RangeRequest;
use duet_protocol::{ApplianceId, Lsn, ReadPermit, RoleName};

use super::clock::{MICRO, MILLI, Time};
use super::event::Event;
use super::machine::OperationId;
use super::marks::Mark;
use super::translate;
use super::workload::Look;
use super::world::World;

impl World {
    pub(crate) fn on_read_arrival(&mut self, id: ApplianceId, operation: OperationId) {
        let floor = self.oracle.relied_upon();
        let now = self.now;
        let look = self.look(operation);
        let machine = self.machines.get(id);
        let Some(process) = machine.process.as_ref().filter(|process| !process.frozen) else {
            return self.tell_refused(operation);
        };
        let (life, lsn) = (process.life, process.state.applied.lsn);
        if let Look::Serializable(request) = look {
            if self.read_here(id, operation, &request, true) {
                self.tell_read(operation, id, lsn);
            }
            return;
        }
        if !machine.permit_holds(now) {
            let waits = match &look {
                Look::Read(request) if !self.is_tests(operation) => {
                    self.read_as_secondary(id, operation, request, floor)
                }
                _ => false,
            };
            if !waits {
                self.tell_refused(operation);
            }
            return;
        }
        let done = match look {
            Look::Read(request) => self.read_here(id, operation, &request, false),
            Look::Renew(lease) => self.keep_alive(id, operation, lease),
            Look::Serializable(_) => unreachable!("it is answered above"),
        };
        if !done {
            return;
        }
        // The permit is checked once more after the state was read, and that may be a long time later.
        let takes = if self.random.chance(50) { (MILLI, 300 * MILLI) } else { (MICRO, 100 * MICRO) };
        let takes = self.random.within(takes);
        self.schedule(takes, Event::ReadChecked { id, life, operation, begun: now, floor, lsn });
    }

    /// Reads what a client asks for. `false`: there is nothing to be told.
    pub(crate) fn read_here(
        &mut self,
        id: ApplianceId,
        operation: OperationId,
        request: &RangeRequest,
        is_serializable: bool,
    ) -> bool {
        let Some(process) = &self.machines.get(id).process else { return false };
        match process.state.store.range(request) {
            Ok(found) => {
                let verdict = self.oracle.check_answer(id, request, &found);
                self.require(verdict);
                let (asked, answer) = (translate::read(request, is_serializable), translate::found(&found));
                self.prepare(operation, asked, answer);
                true
            }
            Err(error) if self.machines.get(id).suspect => {
                self.fail(id, &error.to_string());
                self.tell_refused(operation);
                false
            }
            Err(error) => {
                self.violate(format!("data: {id} cannot read: {error}"));
                false
            }
        }
    }

    fn keep_alive(&mut self, id: ApplianceId, operation: OperationId, lease: i64) -> bool {
        let Ok(ttl) = self.renew(id, lease) else {
            self.tell_refused(operation);
            return false;
        };
        let revision =
            self.machines.get(id).process.as_ref().map_or(0, |process| process.state.store.revision());
        self.prepare(operation, Request::KeepAlive { lease }, Answer::Lease { revision, ttl });
        true
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
        self.tell_renewed(operation);
        self.tell_read(operation, id, lsn);
    }

    /// Whether this appliance serves: takes writes and answers reads.
    pub fn serves(&self, id: ApplianceId) -> bool {
        self.role(id) == Some(RoleName::Primary) && self.answers_reads(id)
    }
}
