//! A witness that is set back to an old copy of its record: what that can break (docs/protocol.md, *Limits of the proof*), and
//! what it cannot.

mod support;

use duet_protocol::ApplianceId::{A, B};
use duet_sim::simulate::{SECOND, World};
use support::{pair, serving, sound, waits_because, whole, written};

/// B loses power; A goes on alone and acknowledges a write that B has never heard of.
fn alone_at_a(seed: u64) -> World {
    let mut world = pair(seed);
    world.crash(B, true);
    written(&mut world, A);
    world.run_for(2 * SECOND);
    assert!(world.record().is_some_and(|record| record.conf.is_solo()), "{}", world.report());
    world
}

/// The limit, and the shortest way to it: whoever knew the newest configuration is down, and the witness has forgotten it. Of
/// the three places that could know, two do not; nothing that B can see tells it so. It goes on without A's acknowledged write, and A, when it is back, with it.
#[test]
fn set_back_while_the_only_one_who_knows_is_down_lets_both_go_on_alone() {
    let mut world = alone_at_a(0);
    world.crash(A, true);
    world.set_witness_back(0);
    world.start(B);
    world.run_until(5 * SECOND, |world| world.serves(B));
    let broken = world.violation.clone().unwrap_or_default();
    assert!(
        broken.starts_with("G4: B is alone, and its peer may begin alone"),
        "it should be the limit that is documented: {broken}"
    );
}

/// Emptied instead, as the manual says: B waits, and when A is back nothing is lost.
#[test]
fn emptied_instead_it_makes_b_wait_for_a() {
    for seed in 0..4 {
        let mut world = alone_at_a(seed);
        world.crash(A, true);
        assert!(world.wipe_witness());
        world.start(B);
        waits_because(&mut world, B, "no record");
        world.start(A);
        serving(&mut world, A);
        whole(&mut world);
        assert_eq!(world.position(A), world.position(B));
    }
}

/// Both hold the newest configuration: an older one at the witness entitles nobody, whoever fails next. Who has seen a later
/// record there may have to wait for the other, if that one fails before the pair has made it good.
#[test]
fn set_back_while_both_know_the_newest_configuration_does_no_harm() {
    for seed in 0..8 {
        for (fails, made_good) in [(A, false), (B, false), (A, true), (B, true)] {
            let mut world = alone_at_a(seed);
            world.start(B);
            whole(&mut world);
            world.set_witness_back(0);
            if made_good {
                world.run_for(20 * SECOND);
            }
            world.crash(fails, true);
            if made_good {
                serving(&mut world, fails.peer());
                written(&mut world, fails.peer());
            } else {
                world.run_for(3 * SECOND);
            }
            world.start(fails);
            whole(&mut world);
            sound(&world);
        }
    }
}

/// A pair that is down as a whole and knows: each alone waits or serves as with the right record.
#[test]
fn set_back_while_both_are_down_and_know_does_no_harm() {
    for seed in 0..8 {
        for first in [A, B] {
            let mut world = alone_at_a(seed);
            world.start(B);
            whole(&mut world);
            world.crash(A, true);
            world.crash(B, true);
            world.set_witness_back(0);
            world.start(first);
            world.run_for(3 * SECOND);
            world.start(first.peer());
            whole(&mut world);
        }
    }
}
