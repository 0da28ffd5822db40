//! What stories in simulated time are made of.

#![allow(dead_code, reason = "each test target uses a part")]

use duet_protocol::ApplianceId;
use duet_protocol::ApplianceId::{A, B};
use duet_sim::simulate::{MILLI, Options, SECOND, Time, World};

pub fn pair_of(seed: u64, options: Options) -> World {
    let mut world = World::new(seed, options);
    if std::env::var_os("DUET_TRACE").is_some() {
        world.record_trace();
    }
    world.start_both();
    assert_eq!(world.primary(), Some(A), "{}", world.report());
    world
}

pub fn pair(seed: u64) -> World {
    let mut world = pair_of(seed, Options::quiet());
    for _ in 0..3 {
        written(&mut world, A);
    }
    world.run_for(100 * MILLI);
    world
}

/// A pair with clients that write and read all the time.
pub fn busy_pair(seed: u64) -> World {
    pair_of(seed, Options { clients: 3, ..Options::quiet() })
}

pub fn written(world: &mut World, id: ApplianceId) {
    let write = world.write(id);
    assert!(world.run_until(2 * SECOND, |world| world.is_acknowledged(write)), "{}", world.report());
}

pub fn stopped(world: &mut World, id: ApplianceId) {
    world.soft_stop(id);
    assert!(world.run_until(11 * SECOND, |world| world.role(id).is_none()), "{}", world.report());
}

pub fn serving(world: &mut World, id: ApplianceId) {
    assert!(world.run_until(10 * SECOND, |world| world.serves(id)), "{}", world.report());
}

pub fn converged(world: &mut World, within: Time) {
    assert!(world.run_until(within, World::has_converged), "{}\n{}", world.report(), last_lines(world));
}

/// Ends a story: nothing was promised in vain, the pair is whole, both logs are equal.
pub fn whole(world: &mut World) {
    converged(world, 20 * SECOND);
    world.run_for(8 * SECOND);
    sound(world);
    assert!(world.has_converged(), "{}", world.report());
}

pub fn sound(world: &World) {
    assert_eq!(world.violation, None, "{}\n{}", world.report(), last_lines(world));
}

pub fn last_lines(world: &World) -> String {
    let dull = |line: &&String| !line.contains("append[") && !line.contains("acknowledge epoch");
    let lines = world.trace();
    let telling: Vec<&String> = lines.iter().filter(dull).collect();
    let last = telling.len().saturating_sub(60);
    telling[last..].iter().map(|line| line.as_str()).collect::<Vec<_>>().join("\n")
}

pub fn waits_because(world: &mut World, id: ApplianceId, words: &str) {
    world.run_for(5 * SECOND);
    let waiting = world.status(id).and_then(|status| status.waiting.clone()).unwrap_or_default();
    assert!(waiting.contains(words) && !world.serves(id), "{id} says {waiting:?}: {}", world.report());
    sound(world);
}

/// Both lose power at one moment.
pub fn both_down(world: &mut World) {
    world.crash(A, true);
    world.crash(B, true);
}
