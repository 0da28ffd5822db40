//! Clients that write to whoever takes it and read from whoever may answer, and what became of each operation.

use std::hash::Hash;

use bytes::Bytes;
use duet_checkers::{Answer, Request};
use duet_mvcc::{Applied, Command, Response, Store};
use duet_protocol::{ApplianceId, Entry, Lsn, RoleName};

use super::clock::{MICRO, MILLI, SECOND, Time};
use super::event::Event;
use super::machine::{OperationId, Work};
use super::marks::Mark;
use super::operation::{Operation, Outcome};
use super::random::Random;
use super::schedule::{Scheduled, Step};
use super::translate;
use super::workload::{self, Scene};
use super::world::World;

/// One client: a closed loop.
#[derive(Debug, Default)]
pub(crate) struct Client {
    /// Operations not answered yet.
    waits_for: usize,
    /// The one that takes writes, as far as the last answer told.
    favourite: Option<ApplianceId>,
    /// Counts its requests.
    turn: u64,
}

/// From a client to an appliance.
const WAY: (Time, Time) = (20 * MICRO, 500 * MICRO);
/// Leases that are used: the latest.
const LEASES_IN_USE: usize = 4;
/// When a client gives up waiting.
const PATIENCE: (Time, Time) = (SECOND, 5 * SECOND);

impl World {
    pub(crate) fn on_client(&mut self, index: usize) {
        let Some(client) = self.clients.get(index) else { return };
        if client.waits_for > 0 {
            return;
        }
        let plan = &mut self.client_plan;
        let read = !plan.chance(self.options.writes);
        // Reads are answered at the other as well.
        let strays = plan.chance(if read { 250 } else { 20 });
        let target = match client.favourite {
            Some(id) if !strays => id,
            _ => plan.pick(&ApplianceId::ALL),
        };
        let count = if read { None } else { Some(plan.within(self.options.batch)) };
        let (way, dice, patience) = (plan.within(WAY), plan.bits(), plan.within(PATIENCE));
        let step = match count {
            Some(count) => Step::Write { target, count, way, dice },
            None => Step::Read { target, way, dice },
        };
        self.schedule_so_far.push(Scheduled { at: self.now, step });
        self.request(Some(index), target, count, way, dice);
        let turn = self.clients[index].turn;
        self.schedule(patience, Event::ClientGivesUp { client: index, turn });
    }

    /// Sends a request of `count` writes, or of one read; the operations' numbers.
    pub(crate) fn request(
        &mut self,
        client: Option<usize>,
        target: ApplianceId,
        count: Option<u64>,
        way: Time,
        dice: u64,
    ) -> Vec<OperationId> {
        let mut turn = 0;
        let read = count.is_none();
        let count = count.unwrap_or(1);
        if let Some(client) = client.and_then(|index| self.clients.get_mut(index)) {
            client.turn += 1;
            client.waits_for = usize::try_from(count).expect("a small batch");
            turn = client.turn;
        }
        let mut operations = Vec::new();
        for number in 0..count {
            operations.push(self.operations.len() as OperationId);
            let dice = dice ^ number;
            self.add_operation(client, turn, target, dice);
        }
        let arrives = Event::ClientArrives { id: target, operations: operations.clone(), read };
        self.schedule(way, arrives);
        operations
    }

    fn add_operation(&mut self, client: Option<usize>, turn: u64, target: ApplianceId, dice: u64) {
        self.operations.push(Operation {
            client,
            turn,
            target,
            of_test: false,
            dice,
            outcome: Outcome::Open,
            lsn: None,
            invoked: self.now,
            request: None,
            answer: None,
            settled: 0,
            clock: None,
        });
    }

    /// The lease clock of an appliance wants to end a lease.
    pub(crate) fn operation_of_clock(&mut self, id: ApplianceId, life: u64, lease: i64) -> OperationId {
        let number = self.operations.len() as OperationId;
        self.add_operation(None, 0, id, 0);
        self.operation_mut(number).clock = Some((id, life, lease));
        number
    }

    /// A test's own request.
    fn request_now(&mut self, target: ApplianceId, count: Option<u64>) -> Vec<OperationId> {
        let way = self.random.within(WAY);
        let dice = loop {
            let dice = self.random.bits();
            let look = workload::draw_look(&mut Random::new(dice), self.scene());
            // A test that reads wants to know whether the appliance serves.
            if count.is_some() || matches!(look, workload::Look::Read(_)) {
                break dice;
            }
        };
        let operations = self.request(None, target, count, way, dice);
        for operation in &operations {
            self.operation_mut(*operation).of_test = true;
        }
        operations
    }

    /// A test's own write; its number, for [`Self::is_acknowledged`].
    pub fn write(&mut self, target: ApplianceId) -> u64 {
        self.request_now(target, Some(1))[0]
    }

    /// A test's own writes, in one request.
    pub fn write_many(&mut self, target: ApplianceId, count: u64) {
        self.request_now(target, Some(count));
    }

    /// A test's own read.
    pub fn read(&mut self, target: ApplianceId) -> u64 {
        self.request_now(target, None)[0]
    }

    /// Whether that operation was done and its client told.
    pub fn is_acknowledged(&self, operation: u64) -> bool {
        self.outcome(operation) == Outcome::Acknowledged
    }

    /// Whether a test asks, which wants to know whether the appliance serves.
    pub(crate) fn is_tests(&self, operation: OperationId) -> bool {
        let index = usize::try_from(operation).expect("an operation's number");
        self.operations[index].of_test
    }

    fn outcome(&self, operation: OperationId) -> Outcome {
        let index = usize::try_from(operation).expect("an operation's number");
        self.operations[index].outcome
    }

    fn operation_mut(&mut self, operation: OperationId) -> &mut Operation {
        let index = usize::try_from(operation).expect("an operation's number");
        &mut self.operations[index]
    }

    pub(crate) fn on_client_arrival(&mut self, id: ApplianceId, operations: Vec<OperationId>, read: bool) {
        if read {
            self.on_read_arrival(id, operations[0]);
        } else if self.machines.get(id).process.is_some() {
            self.work(id, Work::Write(operations));
        } else {
            for operation in operations {
                self.tell_refused(operation);
            }
        }
    }

    pub(crate) fn on_client_gives_up(&mut self, index: usize, turn: u64) {
        let Some(client) = self.clients.get_mut(index) else { return };
        if client.turn == turn && client.waits_for > 0 {
            client.waits_for = 0;
            client.turn += 1;
            client.favourite = None;
            self.schedule(MILLI, Event::ClientActs { client: index });
        }
    }

    fn settle(&mut self, operation: OperationId, outcome: Outcome) {
        let now = self.now;
        let entry = self.operation_mut(operation);
        if entry.outcome != Outcome::Open {
            return;
        }
        entry.outcome = outcome;
        entry.settled = now;
        let revision = entry.answer.as_ref().map(Answer::revision);
        (now, operation, outcome == Outcome::Acknowledged, revision).hash(&mut self.events);
        let entry = self.operation_mut(operation);
        if let Some((id, life, lease)) = entry.clock {
            return self.clock_told(id, life, lease, outcome == Outcome::Acknowledged);
        }
        let (client, turn, target) = (entry.client, entry.turn, entry.target);
        let Some(index) = client else { return };
        let think = self.client_plan.within(self.options.think);
        let takes_writes = self.role(target) == Some(RoleName::Primary);
        let Some(client) = self.clients.get_mut(index) else { return };
        if client.turn != turn || client.waits_for == 0 {
            return;
        }
        client.favourite = match outcome {
            Outcome::Acknowledged if takes_writes => Some(target),
            // It was a read, and the one that answered follows the other.
            Outcome::Acknowledged => Some(target.peer()),
            Outcome::Open | Outcome::Refused | Outcome::Unknown(_) => None,
        };
        client.waits_for -= 1;
        if client.waits_for == 0 {
            self.schedule(think.max(100 * MICRO), Event::ClientActs { client: index });
        }
    }

    pub(crate) fn tell_refused(&mut self, operation: OperationId) {
        if self.operation_mut(operation).lsn.is_some() {
            self.violate(format!("operation {operation} was refused and is written nevertheless"));
        }
        self.settle(operation, Outcome::Refused);
    }

    pub(crate) fn tell_unknown(&mut self, operation: OperationId) {
        self.marks.reach(Mark::Unknown);
        let now = self.now;
        self.settle(operation, Outcome::Unknown(now));
    }

    pub(crate) fn tell_acknowledged(
        &mut self,
        id: ApplianceId,
        operation: OperationId,
        entry: &Entry,
        applied: &Applied,
    ) {
        if self.operation_mut(operation).lsn != Some(entry.lsn) {
            return self
                .violate(format!("operation {operation} is acknowledged at the wrong LSN {}", entry.lsn));
        }
        self.oracle.on_acknowledged(entry.lsn);
        self.acknowledgements.push(self.now);
        let answer = if self.is_recorded() { translate::answer(applied) } else { None };
        let told = self.operation_mut(operation);
        told.answer = answer;
        let invoked = told.invoked;
        if let Ok(Response::LeaseGrant { id: lease, ttl }) = applied.result {
            self.leases.renewed(lease, ttl, invoked);
            self.granted_now(id, lease, ttl);
        }
        self.settle(operation, Outcome::Acknowledged);
    }

    pub(crate) fn tell_read(&mut self, operation: OperationId, id: ApplianceId, lsn: Lsn) {
        self.note(|| format!("{id} answers a read at LSN {lsn}"));
        self.settle(operation, Outcome::Acknowledged);
    }

    /// What an operation asks and what it would be told, for a reader who does not know yet whether it may be told.
    pub(crate) fn prepare(&mut self, operation: OperationId, request: Request, answer: Answer) {
        let entry = self.operation_mut(operation);
        (entry.request, entry.answer) = (Some(request), Some(answer));
    }

    /// The client of a renewal that was prepared is told.
    pub(crate) fn tell_renewed(&mut self, operation: OperationId) {
        let entry = self.operation_mut(operation);
        if let (Some(Request::KeepAlive { lease }), Some(Answer::Lease { ttl: Some(ttl), .. })) =
            (&entry.request, &entry.answer)
        {
            let (lease, ttl, invoked) = (*lease, *ttl, entry.invoked);
            self.leases.renewed(lease, ttl, invoked);
        }
    }

    /// What a request that writes nothing asks.
    pub(crate) fn look(&mut self, operation: OperationId) -> workload::Look {
        let mut random = Random::new(self.operation_mut(operation).dice);
        workload::draw_look(&mut random, self.scene())
    }

    fn scene(&self) -> Scene<'_> {
        let latest = self.granted.len().saturating_sub(LEASES_IN_USE);
        Scene {
            revision: self.oracle.reference.revision(),
            leases: &self.granted[latest..],
            grants: self.options.leases,
            compacts: self.options.compaction,
        }
    }

    /// The command of a write.
    pub(crate) fn command(&mut self, operation: OperationId) -> Bytes {
        let entry = self.operation_mut(operation);
        let (clock, dice) = (entry.clock, entry.dice);
        let command = clock.map_or_else(
            || workload::draw(&mut Random::new(dice), operation, self.scene()),
            |(_, _, lease)| Command::LeaseRevoke { id: lease },
        );
        if let Command::LeaseGrant { id, .. } = command {
            self.granted.push(id);
        }
        if self.is_recorded() {
            self.operation_mut(operation).request = translate::request(&command);
        }
        workload::encode(operation, &command)
    }

    /// An entry is applied somewhere.
    pub(crate) fn on_entry_applied(&mut self, id: ApplianceId, entry: &Entry, outcome: &Applied) {
        let first = match self.oracle.on_applied(id, entry, outcome) {
            Ok(first) => first,
            Err(breach) => return self.violate(breach),
        };
        let life = self.machines.get(id).process.as_ref().map_or(0, |process| process.applied_life);
        if self.is_recorded() {
            self.recorder.on_applied(id, life, entry, outcome, first);
        }
        if first {
            self.on_first_applied(workload::operation_of(entry), entry.lsn);
        }
    }

    /// The state of an appliance that has applied everything there is equals that of one that never crashed.
    pub(crate) fn check_state(&mut self, id: ApplianceId) {
        let Some(process) = &self.machines.get(id).process else { return };
        if process.state.applied != self.oracle.end() {
            return;
        }
        let digests = [&process.state.store, &self.oracle.reference].map(Store::state_digest);
        match digests {
            [Ok(held), Ok(right)] if held == right => {}
            digests => {
                self.violate(format!("data: {id} holds another state than the history gives: {digests:?}"));
            }
        }
    }

    /// A command enters the true history.
    fn on_first_applied(&mut self, operation: OperationId, lsn: Lsn) {
        let entry = self.operation_mut(operation);
        if let Some(other) = entry.lsn.replace(lsn) {
            return self.violate(format!("R1: operation {operation} is at LSN {other} and at LSN {lsn}"));
        }
        match entry.outcome {
            Outcome::Refused => {
                self.violate(format!("operation {operation} was refused, but is at LSN {lsn}"));
            }
            Outcome::Unknown(told) => {
                self.marks.reach(Mark::UnknownKept);
                let verdict = self.oracle.on_late_write(told, lsn);
                self.require(verdict);
            }
            Outcome::Open | Outcome::Acknowledged => {}
        }
    }

    /// No client begins anything any more.
    pub(crate) fn dismiss_clients(&mut self) {
        self.clients.clear();
    }
}
