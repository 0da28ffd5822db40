//! Random sequences at both servers. What differs is shortened to the steps it needs, and told with its seed.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::harness::run;
use crate::play::{Difference, Play};
use crate::random::Random;
use crate::servers::Servers;
use crate::step::Step;
use crate::{generate, generate_users, users};

/// Plays this one sequence only.
const SEED: &str = "DUET_CONFORMANCE_SEED";

/// Seconds of the long form.
const SECONDS: &str = "DUET_CONFORMANCE_SECONDS";

/// Sequences of the short form: always the same, so that it fails for nobody who has changed nothing.
const SHORT: std::ops::Range<u64> = 0..20;

/// How long the long form plays others.
const LONG: Duration = Duration::from_mins(10);

/// How long a failing sequence is shortened.
const SHRINKING: Duration = Duration::from_mins(1);

/// What sequences are made of.
#[derive(Clone, Copy)]
struct Kind {
    /// The end of its tests' names.
    name: &'static str,
    sequence: fn(u64) -> Vec<Step>,
    with_users: bool,
}

const KEYS: Kind = Kind { name: "random", sequence: generate::sequence, with_users: false };
const USERS: Kind =
    Kind { name: "random_sequences_with_users", sequence: generate_users::sequence, with_users: true };

impl Kind {
    async fn begin(self, servers: &Servers) -> Play {
        if self.with_users { Play::with_users(servers).await } else { Play::begin(servers).await }
    }
}

async fn play(kind: Kind, servers: &Servers, steps: &[Step]) -> Result<(), Difference> {
    let mut play = kind.begin(servers).await;
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
    kind: Kind,
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
            match play(kind, servers, &fewer).await {
                Err(found) => (steps, difference) = (fewer, found),
                Ok(()) => from += piece,
            }
        }
        piece /= 2;
    }
    (steps, difference)
}

/// Plays a seed's sequence; how many steps it has.
async fn check(kind: Kind, servers: &Servers, seed: u64) -> usize {
    let mut steps = (kind.sequence)(seed);
    if kind.with_users && servers.is_early() {
        steps.retain(|step| !matches!(step, Step::Watch(_)));
    }
    let Err(difference) = play(kind, servers, &steps).await else { return steps.len() };
    let (steps, difference) = shrink(kind, servers, steps, difference).await;
    let mut told = format!("seed {seed}: etcd and Duet differ after\n");
    for step in steps {
        writeln!(told, "  {step}").unwrap();
    }
    panic!("{told}in {difference}\n\n{SEED}={seed} cargo test -p duet --test conformance -- {}", kind.name);
}

/// Plays the first sequences, and then others for some time.
async fn check_for(kind: Kind, time: Duration) {
    let Some(servers) = users::start().await else { return };
    if let Ok(seed) = std::env::var(SEED) {
        check(kind, &servers, seed.parse().expect("a number")).await;
        return;
    }
    let (start, mut sequences, mut steps) = (Instant::now(), 0, 0);
    for seed in SHORT {
        steps += check(kind, &servers, seed).await;
        sequences += 1;
    }
    while start.elapsed() < time {
        steps += check(kind, &servers, Random::any_seed()).await;
        sequences += 1;
    }
    println!("{sequences} sequences, {steps} steps, all answered alike");
}

/// The long form's time.
fn long() -> Duration {
    std::env::var(SECONDS).map_or(LONG, |text| Duration::from_secs(text.parse().expect("a number")))
}

#[test]
fn random_sequences_are_answered_alike() {
    run(check_for(KEYS, Duration::ZERO));
}

#[test]
fn random_sequences_with_users_are_answered_alike() {
    run(check_for(USERS, Duration::ZERO));
}

#[test]
#[ignore = "the long form; DUET_CONFORMANCE_SECONDS says how long"]
fn random_sequences_are_answered_alike_for_long() {
    run(check_for(KEYS, long()));
}

#[test]
#[ignore = "the long form; DUET_CONFORMANCE_SECONDS says how long"]
fn random_sequences_with_users_are_answered_alike_for_long() {
    run(check_for(USERS, long()));
}

#[test]
fn a_seed_is_a_sequence() {
    for kind in [KEYS, USERS] {
        assert_eq!((kind.sequence)(7), (kind.sequence)(7));
        assert_ne!((kind.sequence)(7), (kind.sequence)(8));
    }
}
