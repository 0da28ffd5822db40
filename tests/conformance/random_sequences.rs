//! Random sequences at both servers. What differs is shortened to the steps it needs, and told with its seed.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::generate::sequence;
use crate::harness::run;
use crate::play::{Difference, Play};
use crate::random::Random;
use crate::servers::Servers;
use crate::step::Step;

/// Plays this one sequence only.
const SEED: &str = "DUET_CONFORMANCE_SEED";

/// Seconds of the long form.
const SECONDS: &str = "DUET_CONFORMANCE_SECONDS";

/// Sequences of the short form: these, and then others for some seconds.
const FIRST_SEEDS: std::ops::Range<u64> = 0..12;
const SHORT: Duration = Duration::from_secs(12);
const LONG: Duration = Duration::from_mins(10);

/// How long a failing sequence is shortened.
const SHRINKING: Duration = Duration::from_mins(1);

async fn play(servers: &Servers, steps: &[Step]) -> Result<(), Difference> {
    let mut play = Play::begin(servers).await;
    for step in steps {
        if let Err(difference) = play.try_step(step).await {
            play.tidy_up().await;
            return Err(difference);
        }
    }
    play.try_end().await
}

/// Leaves steps out, half of them, a quarter, and so on, as long as the two still differ.
async fn shrink(
    servers: &Servers,
    mut steps: Vec<Step>,
    mut difference: Difference,
) -> (Vec<Step>, Difference) {
    let start = Instant::now();
    let mut piece = steps.len() / 2;
    while piece > 0 && start.elapsed() < SHRINKING {
        let mut from = 0;
        while from < steps.len() && start.elapsed() < SHRINKING {
            let mut fewer = steps.clone();
            fewer.drain(from..(from + piece).min(steps.len()));
            match play(servers, &fewer).await {
                Err(found) => (steps, difference) = (fewer, found),
                Ok(()) => from += piece,
            }
        }
        piece /= 2;
    }
    (steps, difference)
}

/// Plays a seed's sequence; how many steps it has.
async fn check(servers: &Servers, seed: u64) -> usize {
    let steps = sequence(seed);
    let Err(difference) = play(servers, &steps).await else { return steps.len() };
    let (steps, difference) = shrink(servers, steps, difference).await;
    let mut told = format!("seed {seed}: etcd and Duet differ after\n");
    for step in steps {
        writeln!(told, "  {step}").unwrap();
    }
    panic!("{told}in {difference}\n\n{SEED}={seed} cargo test -p duet --test conformance -- random");
}

async fn check_for(time: Duration) {
    let Some(servers) = Servers::start().await else { return };
    if let Ok(seed) = std::env::var(SEED) {
        check(&servers, seed.parse().expect("a number")).await;
        return;
    }
    let (start, mut sequences, mut steps) = (Instant::now(), 0, 0);
    for seed in FIRST_SEEDS {
        steps += check(&servers, seed).await;
        sequences += 1;
    }
    while start.elapsed() < time {
        steps += check(&servers, Random::any_seed()).await;
        sequences += 1;
    }
    println!("{sequences} sequences, {steps} steps, all answered alike");
}

#[test]
fn random_sequences_are_answered_alike() {
    run(check_for(SHORT));
}

#[test]
#[ignore = "the long form; DUET_CONFORMANCE_SECONDS says how long"]
fn random_sequences_are_answered_alike_for_long() {
    let seconds = std::env::var(SECONDS).ok().map(|text| text.parse().expect("a number"));
    run(check_for(seconds.map_or(LONG, Duration::from_secs)));
}

#[test]
fn a_seed_is_a_sequence() {
    assert_eq!(sequence(7), sequence(7));
    assert_ne!(sequence(7), sequence(8));
}
