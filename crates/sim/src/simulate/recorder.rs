//! What the clients of a run saw, as the checkers judge it when the run is over.

use duet_checkers::{self as seen, Change, DataHash, History, Operation, Quiet, Report, Watch};
use duet_mvcc::{Applied, Command};
use duet_protocol::{ApplianceId, Entry};

use super::marks::Mark;
use super::translate;
use super::world::World;

/// Of at most so many operations an order is searched by their values alone.
const SMALL: usize = 250;
/// Of more operations nothing is recorded: a busy run would take gigabytes and minutes. The oracle judges it all the same.
const MOST: usize = 10_000;
/// Steps of that search for each group of keys.
const BUDGET: usize = 3_000;
/// The checkers' number of whoever wrote what the pair begins with.
const PAST_CLIENT: u32 = 0;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    pub watches: Vec<Watch>,
    changes: Vec<Change>,
    applied: Vec<seen::Applied>,
    reports: Vec<Report>,
    past: Vec<Operation>,
}

impl Recorder {
    /// Of a pair that begins with what these commands did.
    pub fn new(past: &[(Command, Applied)]) -> Self {
        let mut recorder = Self::default();
        for (command, applied) in past {
            recorder.changes.extend(applied.events.iter().map(translate::change));
            let (Some(request), Some(answer)) = (translate::request(command), translate::answer(applied))
            else {
                continue;
            };
            recorder.past.push(Operation {
                client: PAST_CLIENT,
                appliance: ApplianceId::A,
                request,
                invoked: 0,
                outcome: seen::Outcome::Acknowledged { at: 0, answer },
            });
        }
        recorder
    }

    /// An appliance has applied an entry; `is_first`: as the first of both.
    pub fn on_applied(
        &mut self,
        appliance: ApplianceId,
        life: u64,
        entry: &Entry,
        applied: &Applied,
        is_first: bool,
    ) {
        let digest = entry.position().digest;
        let revision = applied.revision;
        self.applied.push(seen::Applied { appliance, life, lsn: entry.lsn, digest, revision });
        if is_first {
            self.changes.extend(applied.events.iter().map(translate::change));
        }
    }
}

impl World {
    /// Whether what is seen is kept for the checkers.
    pub(crate) fn is_recorded(&self) -> bool {
        self.operations.len() <= MOST
    }

    /// What both appliances hold when all is over.
    pub(crate) fn report_data(&mut self) {
        for appliance in ApplianceId::ALL {
            let Some(process) = &self.machines.get(appliance).process else { continue };
            let (store, last) = (&process.state.store, process.status.last);
            let hash = match store.hash_kv(0) {
                Ok(hash) => hash,
                Err(error) => return self.violate(format!("data: {appliance} cannot be hashed: {error}")),
            };
            let compacted = hash.compacted_revision;
            let hash = Some(DataHash { revision: store.revision(), compacted, hash: hash.hash });
            let applied = Some((process.state.applied.lsn, store.revision()));
            let last = Some((last.lsn, last.epoch, last.digest));
            self.recorder.reports.push(Report { appliance, at: self.now, last, applied, hash });
        }
    }

    /// The checkers judge everything that was seen; nothing is recorded any more.
    pub(crate) fn judge(&mut self, quiet: Quiet) {
        if !self.is_recorded() {
            return;
        }
        let Recorder { watches, changes, applied, reports, past } = std::mem::take(&mut self.recorder);
        let asked = self.operations.iter().filter_map(super::operation::Operation::seen);
        let operations: Vec<Operation> = past.into_iter().chain(asked).collect();
        let history = History { operations, changes, watches, reports, applied, quiet: Some(quiet) };
        for violation in duet_checkers::check(&history) {
            self.violate(format!("{}: {}", violation.promise, violation.sentence));
        }
        if history.operations.len() <= SMALL {
            match duet_checkers::linearizability::check(&history.operations, BUDGET) {
                Ok(found) if found.orders > 0 => self.marks.reach(Mark::OrderFound),
                Ok(_) => {}
                Err(violation) => self.violate(format!("{}: {}", violation.promise, violation.sentence)),
            }
        }
    }
}
