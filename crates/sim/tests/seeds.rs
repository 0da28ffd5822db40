//! A few hundred seeds of the simulation, and that a seed is a run: the same events, to the bit.

use duet_sim::simulate::{Mark, Marks, Record, SECOND, Time, replay, run, run_traced};

/// Simulated seconds under faults in each run.
const SAFETY: Time = 20 * SECOND;
const SEEDS: u64 = 400;

fn command(seed: u64) -> String {
    let seconds = SAFETY / SECOND;
    format!("cargo run --release -p duet-sim --bin simulate -- --seed {seed} --seconds {seconds} --trace")
}

/// The seeds of one of several tests that run side by side.
fn play(first: u64) -> Marks {
    let mut marks = Marks::default();
    for seed in (first..SEEDS).step_by(2) {
        let outcome = run(seed, SAFETY);
        if let Some(failure) = outcome.failure {
            panic!("seed {seed}: {failure}\nreplay: {}", command(seed));
        }
        marks.add(&outcome.marks);
    }
    marks
}

/// What so few seeds must reach, or they prove little.
fn assert_deep(marks: &Marks) {
    for mark in [
        Mark::TakeWon,
        Mark::PrimaryTook,
        Mark::Leave,
        Mark::Rejoin,
        Mark::Handover,
        Mark::BeginAlone,
        Mark::Part,
        Mark::Tent,
        Mark::Deposed,
        Mark::TailCut,
        Mark::SyncLoss,
        Mark::LeaseRead,
        Mark::Unknown,
        Mark::LeaseExpired,
        Mark::LeaseRenewed,
        Mark::WatchMoved,
        Mark::WatchCompacted,
        Mark::WatchOverrun,
        Mark::WatchProgress,
        Mark::OrderFound,
        Mark::Converged,
    ] {
        assert!(marks.count(mark) > 0, "never reached: {}", mark.words());
    }
}

#[test]
fn even_seeds_keep_every_promise_and_converge() {
    assert_deep(&play(0));
}

#[test]
fn odd_seeds_keep_every_promise_and_converge() {
    assert_deep(&play(1));
}

#[test]
fn a_seed_is_a_run() {
    for seed in [3, 14, 159] {
        let [one, two] = [run_traced(seed, SAFETY), run_traced(seed, SAFETY)];
        assert_eq!(one.digest, two.digest, "seed {seed} differs from itself");
        assert!(one.trace.len() > 1_000 && one.trace == two.trace, "seed {seed}: other events");
        assert_eq!(one.record.to_text(), two.record.to_text());
        assert_eq!((one.simulated, one.written), (two.simulated, two.written));
    }
    assert_ne!(run(3, SAFETY).digest, run(4, SAFETY).digest, "two seeds are two runs");
}

/// The record alone, through its text, gives the same run: nothing of the seed's own draws of faults and requests is needed.
#[test]
fn a_record_is_a_run() {
    for seed in [3, 14, 159] {
        let drawn = run(seed, SAFETY);
        let record = Record::from_text(&drawn.record.to_text()).expect("a record that was just written");
        assert!(record.schedule.len() > 20);
        let again = replay(&record);
        assert_eq!(again.digest, drawn.digest, "seed {seed} differs from its record");
        assert_eq!(again.record, drawn.record);
        let half = Record { schedule: record.schedule.iter().copied().step_by(2).collect(), ..record };
        assert_eq!(replay(&half).failure, None, "a part of a run that keeps its promises keeps them too");
        assert_ne!(replay(&half).digest, drawn.digest);
    }
}
