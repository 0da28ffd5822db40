//! Another witness for a pair that serves: whatever fails on the way, one of the two registers decides and the pair comes
//! back whole.

mod support;

use duet_protocol::ApplianceId::{A, B};
use duet_protocol::{Message, WitnessId};
use duet_sim::simulate::{Ask, Fate, MILLI, SECOND, World};
use support::{busy_pair, pair, serving, sound, waits_because, whole, written};

const SECOND_WITNESS: WitnessId = WitnessId(1);

fn moved(world: &mut World) {
    assert!(world.move_witness(), "{}", world.report());
    let at = world.newest().witness();
    assert!(world.run_until(2 * SECOND, |world| world.newest().witness() > at), "{}", world.report());
    world.run_for(SECOND);
    sound(world);
}

/// The new witness alone decides from then on: the old one may be gone.
#[test]
fn after_a_move_the_next_promotion_is_decided_by_the_new_witness() {
    for (seed, fails) in [(0, A), (1, B)] {
        let mut world = busy_pair(seed);
        moved(&mut world);
        world.other_witness_lost();
        world.crash(fails, true);
        serving(&mut world, fails.peer());
        assert_eq!(world.newest().witness(), SECOND_WITNESS);
        world.start(fails);
        whole(&mut world);
    }
}

/// A dead witness is a reason to have another.
#[test]
fn a_pair_moves_while_its_witness_is_dead() {
    let mut world = pair(2);
    world.witness_lost(None);
    world.run_for(10 * SECOND);
    moved(&mut world);
    assert!(world.record().is_some_and(|record| record.conf == world.newest()), "{}", world.report());
    world.crash(A, true);
    serving(&mut world, B);
    world.start(A);
    whole(&mut world);
}

/// Power fails at either appliance, or at both, at every moment of a move.
#[test]
fn power_fails_at_every_moment_of_a_move() {
    for who in [&[A][..], &[B], &[A, B]] {
        for moment in 0..40 {
            let mut world = busy_pair(moment);
            assert!(world.move_witness());
            world.run_for(moment * MILLI / 2);
            for id in who {
                world.crash(*id, true);
            }
            world.run_for(3 * SECOND);
            for id in who {
                world.start(*id);
            }
            whole(&mut world);
            let primary = world.primary().expect("a whole pair has one");
            written(&mut world, primary);
        }
    }
}

/// A dies after B has agreed and before B knows more. B cannot tell which witness A counts on, and waits; the two together
/// go on at once, without either.
#[test]
fn whoever_has_agreed_and_is_left_alone_waits_for_the_other() {
    let mut world = pair(3);
    world.filter_messages(|_, message| !matches!(message, Message::Stored(_)));
    assert!(world.move_witness());
    world.run_until(SECOND, |world| world.own(B).is_moving());
    world.crash(A, true);
    waits_because(&mut world, B, "agreed to another witness");
    world.unfilter();
    world.start(A);
    whole(&mut world);
    assert_eq!(world.newest().witness(), WitnessId::FIRST);
}

/// The answer never comes: A gives up and renews the pair, so that B is in doubt no longer when A dies a moment later.
#[test]
fn a_move_that_was_given_up_leaves_nobody_in_doubt() {
    let mut world = pair(4);
    world.filter_messages(
        |_, message| !matches!(message, Message::Stored(conf) if conf.witness() > WitnessId::FIRST),
    );
    assert!(world.move_witness());
    assert!(world.run_until(SECOND, |world| world.own(B).is_moving()));
    assert!(world.run_until(4 * SECOND, |world| !world.own(B).is_moving()), "{}", world.report());
    assert_eq!(world.newest().witness(), WitnessId::FIRST);
    world.crash(A, true);
    serving(&mut world, B);
    world.start(A);
    whole(&mut world);
}

/// B asked the old witness to be primary, and that request is carried out when the pair has long moved.
#[test]
fn a_request_to_the_old_witness_that_is_carried_out_late_does_nothing() {
    for seed in 0..10 {
        let mut world = pair(seed);
        world.filter_witness(|request| match request.ask {
            Ask::Swap { .. } if request.from == B => Fate::Late(8 * SECOND),
            _ => Fate::Normal,
        });
        world.cut(A, true);
        world.cut(B, true);
        world.run_for(290 * MILLI + seed * 5 * MILLI);
        world.uncut(A);
        world.uncut(B);
        world.run_for(2 * SECOND);
        if world.has_converged() && world.move_witness() {
            world.run_for(SECOND);
        }
        world.unfilter();
        let primary = world.primary();
        world.run_for(10 * SECOND);
        sound(&world);
        assert_eq!(world.primary(), primary, "{}", world.report());
        whole(&mut world);
    }
}

/// Whoever comes to the former witness finds the configuration that has left it.
#[test]
fn the_former_witness_is_marked() {
    let mut world = pair(5);
    moved(&mut world);
    world.run_for(10 * SECOND);
    let mark = world.other_record().map(|record| record.conf.witness());
    assert_eq!(mark, Some(SECOND_WITNESS));
    // And back again, as the third witness, over that mark.
    moved(&mut world);
    world.run_for(10 * SECOND);
    assert_eq!(world.newest().witness(), WitnessId(2));
    assert!(world.record().is_some_and(|record| record.conf == world.newest()), "{}", world.report());
    world.crash(A, true);
    serving(&mut world, B);
    world.start(A);
    whole(&mut world);
}

/// One that is alone does not move: the other could not know.
#[test]
fn one_that_is_alone_does_not_move() {
    let mut world = pair(6);
    world.crash(B, true);
    written(&mut world, A);
    assert!(!world.move_witness());
    world.start(B);
    whole(&mut world);
    moved(&mut world);
}

/// The witness is set back while A leads and B has gone missing: what A remembers of it bars A, for B may have gone on.
#[test]
fn a_witness_set_back_under_a_primary_is_refused_and_made_good_by_the_pair() {
    let mut world = pair(7);
    world.crash(B, true);
    written(&mut world, A);
    world.start(B);
    whole(&mut world);
    world.set_witness_back(0);
    world.run_for(20 * SECOND);
    sound(&world);
    assert!(world.record().is_some_and(|record| record.conf == world.newest()), "{}", world.report());
    world.crash(A, true);
    serving(&mut world, B);
    world.start(A);
    whole(&mut world);
}
