//! Real processes under a nemesis: two appliances and a witness, every line between them through a proxy, clients that
//! write, read, lease and watch all the while. Storms of faults are drawn from a seed; then everything is healed, the pair
//! must be in sync with equal data, and the checkers (`crates/checkers`) judge everything that the clients saw.
//!
//! A seed is a schedule of faults, not a run: processes have a timing of their own. A failure prints what was done when,
//! and the command that does it again.
//!
//! `DUET_CHAOS_SECONDS` and `DUET_CHAOS_SEED` change length and seed; `--ignored` runs ten minutes.

#![allow(clippy::unwrap_used)] // a test may panic

mod calls;
mod clocks;
mod crowd;
mod namespaces;
mod nemesis;
mod random;
mod recorder;
mod run;
mod schedule;
#[path = "../support/mod.rs"]
mod support;
mod verdict;
mod watchers;
mod witness_set_back;
mod workload;

use support::{client, harness, proxy};

/// How long the storms of the short run last, in seconds.
const SHORT: u64 = 40;
/// Those of the long run.
const LONG: u64 = 600;

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn storms_for(seconds: u64) {
    let seed = from_environment("DUET_CHAOS_SEED").unwrap_or_else(random::Random::any_seed);
    let seconds = from_environment("DUET_CHAOS_SECONDS").unwrap_or(seconds);
    harness::run(run::run(seed, seconds));
}

#[test]
fn storms() {
    storms_for(SHORT);
}

#[test]
#[ignore = "takes more than ten minutes"]
fn many_storms() {
    storms_for(LONG);
}
