//! Reads that wait at a secondary for a read index, as the server keeps them.

use duet_mvcc::RangeRequest;
use duet_protocol::{ApplianceId, Input, Lsn, RoleName};
use duet_serving::ReadRounds;

use super::clock::{MILLI, Time};
use super::event::Event;
use super::machine::{OperationId, Process};
use super::marks::Mark;
use super::world::World;

/// After which a question is asked again.
const ASK_AGAIN: Time = 20 * MILLI;

/// Those of one process.
#[derive(Debug, Default)]
pub struct SecondaryReads {
    rounds: ReadRounds,
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    operation: OperationId,
    request: RangeRequest,
    begun: Time,
    /// What clients relied on when it came.
    floor: Lsn,
    /// Of the question that is for it.
    number: u64,
    index: Option<Lsn>,
}

impl SecondaryReads {
    /// Whose reads will never be answered.
    pub fn into_operations(self) -> impl Iterator<Item = OperationId> {
        self.waiting.into_iter().map(|read| read.operation)
    }
}

fn is_secondary_in_sync(process: &Process) -> bool {
    process.status.role == RoleName::Secondary && process.status.own.conf.is_pair()
}

impl World {
    /// A read that came to one without a permit. `false`: it cannot wait here.
    pub(crate) fn read_as_secondary(
        &mut self,
        id: ApplianceId,
        operation: OperationId,
        request: &RangeRequest,
        floor: Lsn,
    ) -> bool {
        let begun = self.now;
        let process = self.machines.get_mut(id).process.as_mut();
        let Some(process) = process.filter(|process| is_secondary_in_sync(process)) else { return false };
        let entered = process.reads.rounds.enter();
        let (request, number) = (request.clone(), entered.number);
        process.reads.waiting.push(Waiting { operation, request, begun, floor, number, index: None });
        let life = process.life;
        if entered.asks {
            self.input(id, Input::AskReadIndex(number));
        }
        self.schedule(ASK_AGAIN, Event::ReadWaits { id, life, operation });
        true
    }

    /// No answer has come for a while.
    pub(crate) fn on_read_waits(&mut self, id: ApplianceId, life: u64, operation: OperationId) {
        if self.is_held(id, life, Event::ReadWaits { id, life, operation }) {
            return;
        }
        let Some(process) = self.process_of_mut(id, life) else { return };
        let may_wait = is_secondary_in_sync(process);
        let reads = &mut process.reads;
        let Some(place) = reads.waiting.iter().position(|read| read.operation == operation) else { return };
        if !may_wait {
            reads.waiting.remove(place);
            return self.tell_refused(operation);
        }
        if reads.waiting[place].index.is_none() {
            self.marks.reach(Mark::ReadAskedAgain);
            let Some(process) = self.process_of_mut(id, life) else { return };
            let number = process.reads.rounds.again();
            self.input(id, Input::AskReadIndex(number));
        }
        self.schedule(ASK_AGAIN, Event::ReadWaits { id, life, operation });
    }

    /// The primary has answered a question.
    pub(crate) fn on_read_indexed(&mut self, id: ApplianceId, life: u64, number: u64, lsn: Lsn) {
        if self.is_held(id, life, Event::ReadIndexed { id, life, number, lsn }) {
            return;
        }
        let Some(process) = self.process_of_mut(id, life) else { return };
        let reads = &mut process.reads;
        let next = reads.rounds.answer(number);
        for read in reads.waiting.iter_mut().filter(|read| reads.rounds.is_answered(read.number)) {
            read.index.get_or_insert(lsn);
        }
        if let Some(next) = next {
            self.input(id, Input::AskReadIndex(next));
        }
        self.answer_as_secondary(id);
    }

    /// Answers those whose index is applied.
    pub(crate) fn answer_as_secondary(&mut self, id: ApplianceId) {
        let Some(process) = &mut self.machines.get_mut(id).process else { return };
        let applied = process.state.applied.lsn;
        let ready = |read: &mut Waiting| read.index.is_some_and(|index| index <= applied);
        let ready: Vec<Waiting> = process.reads.waiting.extract_if(.., ready).collect();
        for read in ready {
            if self.read_here(id, read.operation, &read.request, false) {
                self.marks.reach(Mark::SecondaryRead);
                let verdict = self.oracle.on_read(id, read.begun, read.floor, applied);
                self.require(verdict);
                self.tell_read(read.operation, id, applied);
            }
        }
    }
}
