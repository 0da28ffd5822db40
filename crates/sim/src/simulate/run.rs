//! One run: a safety phase full of faults, then everything is healed and the pair must converge.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use duet_checkers::Quiet;
use duet_protocol::{ApplianceId, RoleName};

use super::clock::{MILLI, SECOND, Time};
use super::marks::{Mark, Marks};
use super::options::{Fault, Options};
use super::random::Random;
use super::record::Record;
use super::workload::MOST_TTL;
use super::world::World;

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The breach of a promise, if there was one.
    pub failure: Option<String>,
    /// How much time was simulated.
    pub simulated: Time,
    /// Digest of everything that went into the cores.
    pub digest: u64,
    /// Writes acknowledged.
    pub written: usize,
    /// Promotions.
    pub promotions: usize,
    /// Rare paths reached.
    pub marks: Marks,
    /// Faults injected.
    pub faults: BTreeMap<Fault, u64>,
    /// The last events, when they were recorded.
    pub trace: Vec<String>,
    /// Enough to have the run again.
    pub record: Record,
}

/// Within this time after everything was healed the pair must have converged.
const CONVERGENCE: Time = 40 * SECOND;

/// Then nobody renews a lease any more, and after this time all are gone: a longest time to live, and as long again as the
/// checkers allow beyond that.
const LEASES_END: Time = (MOST_TTL + 11) * SECOND;

/// The run of a seed, with `safety` of simulated time under faults.
pub fn run(seed: u64, safety: Time) -> Outcome {
    play(seed, safety, |_| {})
}

/// The same, with the last events recorded.
pub fn run_traced(seed: u64, safety: Time) -> Outcome {
    play(seed, safety, World::record_trace)
}

/// The run of a record.
pub fn replay(record: &Record) -> Outcome {
    play(record.seed, record.safety, |world| world.follow(&record.schedule))
}

/// The same, with all events recorded, and what each changes.
pub fn replay_traced(record: &Record) -> Outcome {
    play(record.seed, record.safety, |world| {
        world.follow(&record.schedule);
        world.record_everything();
    })
}

fn play(seed: u64, safety: Time, prepare: impl FnOnce(&mut World)) -> Outcome {
    let mut random = Random::new(seed ^ 0xd0e7_d0e7);
    let options = Options::draw(&mut random, safety);
    let mut world = World::new(seed, options);
    prepare(&mut world);
    let played = catch_unwind(AssertUnwindSafe(|| {
        safety_phase(&mut world);
        liveness_phase(&mut world);
    }));
    if let Err(panic) = played {
        let why = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "a panic without words".into());
        world.violate(format!("assertion: {why}"));
    }
    let failure = world.violation.clone();
    Outcome {
        simulated: world.now,
        digest: world.digest(),
        written: world.acknowledgements.len(),
        promotions: world.promotions.len(),
        trace: world.trace(),
        marks: world.marks,
        faults: world.faults,
        record: Record { seed, safety, failure: failure.clone(), schedule: world.schedule_so_far },
        failure,
    }
}

fn safety_phase(world: &mut World) {
    for id in ApplianceId::ALL {
        let after = world.random.below(SECOND);
        world.schedule(after, super::event::Event::Start { id });
    }
    world.run_for(2 * SECOND);
    world.begin_faults();
    let safety = world.options.safety;
    world.run_for(safety);
}

fn liveness_phase(world: &mut World) {
    if world.violation.is_some() {
        return;
    }
    world.heal();
    // A promotion asked for earlier may still come; in the end there must be peace.
    let end = world.now + CONVERGENCE;
    loop {
        if !world.run_until(end.saturating_sub(world.now), World::has_converged) {
            let report = world.report();
            return world.violate(format!("liveness: the pair has not converged in time: {report}"));
        }
        let promotions = world.promotions.len();
        world.run_for(4 * SECOND);
        if world.promotions.len() == promotions && world.has_converged() {
            break;
        }
    }
    world.marks.reach(Mark::Converged);
    let since = world.now;
    world.dismiss_clients();
    let Some(primary) = world.primary() else {
        return world.violate("liveness: a converged pair has no primary".into());
    };
    let write = world.write(primary);
    world.run_for(2 * SECOND);
    let read = world.read(primary);
    world.run_for(SECOND);
    if world.violation.is_none() && !(world.is_acknowledged(write) && world.is_acknowledged(read)) {
        let report = world.report();
        world.violate(format!("liveness: a converged pair does not serve: {report}"));
    }
    world.run_for(LEASES_END);
    world.check_equal();
    for id in ApplianceId::ALL {
        world.check_state(id);
    }
    world.check_no_lease();
    world.check_watchers();
    world.report_data();
    if world.violation.is_none() {
        world.judge(Quiet { since, until: world.now });
    }
}

impl World {
    /// One is primary of both, the other follows, and the primary serves.
    pub fn has_converged(&self) -> bool {
        let Some(primary) = self.primary() else { return false };
        let leads = self.status(primary).is_some_and(|status| status.own.conf.is_pair() && !status.leaving);
        let follows = self.role(primary.peer()) == Some(RoleName::Secondary)
            && self.status(primary.peer()).is_some_and(|status| !status.leaving);
        leads && follows && self.serves(primary)
    }

    /// Both logs end alike, all is committed and applied, and the witness knows the configuration and holds no note.
    pub fn check_equal(&mut self) {
        let [a, b] = ApplianceId::ALL.map(|id| self.position(id));
        if a != b {
            self.violate(format!("liveness: A ends at {a}, B at {b}"));
        }
        for id in ApplianceId::ALL {
            let done = self.status(id).is_some_and(|status| status.applied == status.last.lsn);
            if !done {
                self.violate(format!("liveness: {id} has not applied everything"));
            }
        }
        let conf = self.primary().and_then(|id| self.status(id)).map(|status| status.own.conf);
        let Some(record) = self.record() else {
            let report = self.report();
            return self.violate(format!("liveness: the witness holds no record: {report}"));
        };
        if Some(record.conf) != conf {
            return self.violate("liveness: the witness does not know the configuration".into());
        }
        if record.left.a.is_some() || record.left.b.is_some() || record.part.is_some() {
            self.violate("R4: a note is left at the witness though both are back".into());
        }
    }

    /// One line about everybody, for people.
    pub fn report(&self) -> String {
        let of = |id: ApplianceId| {
            self.status(id).map_or_else(
                || format!("{id} down"),
                |status| {
                    format!(
                        "{id} {}{}{} at {} [{}] tent {} {}",
                        status.role.as_str(),
                        if status.peer.connected { "" } else { " unconnected" },
                        if status.leaving { " leaving" } else { "" },
                        status.last,
                        status.own.conf,
                        status.own.tent.map_or_else(|| "none".into(), |tent| tent.to_string()),
                        status.waiting.as_deref().unwrap_or("")
                    )
                },
            )
        };
        let record = self.record().map_or_else(|| "no record".into(), |record| record.conf.to_string());
        format!(
            "{}; {}; witness [{record}]; now {} ms",
            of(ApplianceId::A),
            of(ApplianceId::B),
            self.now / MILLI
        )
    }
}
