//! What systems of this kind got wrong in the field, one story each; docs/testing.md lists all of them, with those that
//! are tested elsewhere. With DUET_TRACE=1 in the environment a failure prints the events that led to it.

mod support;

use duet_protocol::ApplianceId::{A, B};
use duet_protocol::Message;
use duet_sim::simulate::{Ask, Fate, MILLI, Options, SECOND, World};
use support::{
    both_down, busy_pair, converged, last_lines, pair, pair_of, serving, sound, stopped, waits_because,
    whole, written,
};

const SEEDS: std::ops::Range<u64> = 0..4;

/// What `from` sends to the other is cut off, both ways, and both miss the witness.
fn everything_cut(world: &mut World, noticed: bool) {
    for id in [A, B] {
        world.cut(id, noticed);
        world.witness_lost(Some(id));
    }
}

fn everything_uncut(world: &mut World) {
    for id in [A, B] {
        world.uncut(id);
        world.witness_back(Some(id));
    }
}

#[test]
fn b_stops_softly_a_writes_and_loses_power_then_b_alone_refuses_and_a_alone_serves() {
    for seed in SEEDS {
        for alone in [A, B] {
            let mut world = pair(seed);
            stopped(&mut world, B);
            written(&mut world, A);
            world.crash(A, true);
            world.start(alone);
            if alone == A {
                serving(&mut world, A);
                written(&mut world, A);
            } else {
                waits_because(&mut world, B, "may have newer data");
            }
            world.start(alone.peer());
            whole(&mut world);
            assert_eq!(world.position(B), world.position(A));
        }
    }
}

#[test]
fn both_lose_power_at_once_and_the_witness_comes_back_empty() {
    for seed in SEEDS {
        for first in [A, B] {
            let mut world = busy_pair(seed);
            world.run_for(SECOND);
            both_down(&mut world);
            assert!(world.wipe_witness());
            world.start(first);
            world.run_for(20 * SECOND);
            assert!(!world.serves(first), "nobody can know whether the other went on: {}", world.report());
            assert!(world.record().is_none(), "one alone puts nothing at the witness");
            sound(&world);
            world.start(first.peer());
            whole(&mut world);
            assert!(world.record().is_some(), "both are there: the witness is filled again");
        }
    }
}

#[test]
fn a_crash_at_any_moment_of_a_start_right_after_the_record_was_read() {
    for last in [A, B] {
        for step in 0..30_u64 {
            let mut world = pair(step);
            stopped(&mut world, last.peer());
            serving(&mut world, last);
            stopped(&mut world, last);
            // The record says that `last` left last, and where. It reads that and goes down again.
            world.start(last);
            world.run_for(step * MILLI + step);
            world.crash(last, true);
            world.start(last);
            serving(&mut world, last);
            written(&mut world, last);
            world.start(last.peer());
            whole(&mut world);
        }
    }
}

#[test]
fn a_power_cut_between_the_record_at_the_witness_and_the_local_stop() {
    for seed in SEEDS {
        for alone in [A, B] {
            let mut world = pair(seed);
            stopped(&mut world, B);
            world.run_for(3 * SECOND);
            written(&mut world, A);
            let position = world.position(A);
            world.soft_stop(A);
            let parted = |world: &World| world.record().is_some_and(|record| record.part == Some(position));
            assert!(world.run_until(5 * SECOND, parted), "{}", world.report());
            world.crash(A, true);
            world.start(alone);
            if alone == A {
                serving(&mut world, A);
            } else {
                waits_because(&mut world, B, "X = 4");
            }
            world.start(alone.peer());
            whole(&mut world);
        }
    }
}

#[test]
fn a_secondary_that_receives_its_first_copy_is_never_promoted() {
    for seed in SEEDS {
        for step in 0..6_u64 {
            let mut world = pair_of(seed, Options { history: 50_000, ..Options::quiet() });
            world.crash(B, true);
            serving(&mut world, A);
            written(&mut world, A);
            world.replace_disk(B);
            world.start(B);
            world.run_for(step * 40 * MILLI);
            let whole_before = world.own(A).conf.is_pair();
            world.crash(A, true);
            world.run_for(10 * SECOND);
            assert!(whole_before || !world.serves(B), "{}\n{}", world.report(), last_lines(&world));
            sound(&world);
            world.start(A);
            whole(&mut world);
        }
    }
}

#[test]
fn b_then_a_reboot_before_b_is_in_sync() {
    for seed in SEEDS {
        for step in 0..10_u64 {
            let mut world = busy_pair(seed);
            world.run_for(500 * MILLI);
            world.crash(B, true);
            serving(&mut world, A);
            world.run_for(SECOND);
            world.start(B);
            world.run_for(step * 20 * MILLI);
            world.crash(A, true);
            world.run_for(200 * MILLI);
            world.start(A);
            whole(&mut world);
        }
    }
}

#[test]
fn the_peer_dies_between_its_fsync_and_its_acknowledgement() {
    for seed in SEEDS {
        let mut world = pair(seed);
        world.filter_messages(|from, message| from != B || !matches!(message, Message::Acknowledge(_)));
        let write = world.write(A);
        let on_both =
            |world: &World| world.position(B).lsn == world.position(A).lsn && world.position(B).lsn.0 == 4;
        assert!(world.run_until(SECOND, on_both), "{}", world.report());
        assert!(!world.is_acknowledged(write), "nobody has told A");
        world.crash(B, false);
        world.unfilter();
        assert!(
            world.run_until(3 * SECOND, |world| world.is_acknowledged(write)),
            "A goes on alone: {}",
            world.report()
        );
        world.start(B);
        whole(&mut world);
    }
}

#[test]
fn the_witness_can_be_read_but_not_written() {
    for seed in SEEDS {
        let mut world = busy_pair(seed);
        world.run_for(SECOND);
        world.filter_witness(|request| match request.ask {
            Ask::Read => Fate::Normal,
            _ => Fate::Lost,
        });
        // In sync nobody needs it.
        world.run_for(10 * SECOND);
        assert!(world.serves(A), "{}", world.report());
        world.crash(A, true);
        world.run_for(10 * SECOND);
        assert!(!world.serves(B), "B was never told that it may: {}", world.report());
        sound(&world);
        world.unfilter();
        serving(&mut world, B);
        world.start(A);
        whole(&mut world);
    }
}

#[test]
fn the_witness_is_reached_by_one_side_then_by_the_other() {
    for seed in SEEDS {
        let mut world = busy_pair(seed);
        world.run_for(SECOND);
        everything_cut(&mut world, true);
        for id in [A, B, A, B] {
            world.witness_back(Some(id));
            world.run_for(5 * SECOND);
            world.witness_lost(Some(id));
            world.run_for(2 * SECOND);
            sound(&world);
        }
        let promotions = world.promotions.len();
        assert!(promotions <= 2, "the first one wins, the other is behind for good: {promotions} promotions");
        everything_uncut(&mut world);
        whole(&mut world);
    }
}

#[test]
fn the_network_freezes_for_90_seconds_and_heals_and_the_role_does_not_fly_to_and_fro() {
    for seed in SEEDS {
        let mut world = busy_pair(seed);
        world.run_for(SECOND);
        let promotions = world.promotions.len();
        everything_cut(&mut world, false);
        world.run_for(2 * SECOND);
        assert!(!world.serves(A) && !world.serves(B), "neither may go on alone: {}", world.report());
        world.run_for(88 * SECOND);
        everything_uncut(&mut world);
        converged(&mut world, 10 * SECOND);
        world.run_for(60 * SECOND);
        let changes = world.promotions.len() - promotions;
        assert!(changes <= 2, "{changes} promotions\n{}", last_lines(&world));
        whole(&mut world);
    }
}

#[test]
fn a_switch_reboots_and_cuts_replication_and_witness_together() {
    for seed in SEEDS {
        for seconds in [1, 5, 30] {
            let mut world = busy_pair(seed);
            world.run_for(SECOND);
            let promotions = world.promotions.len();
            everything_cut(&mut world, true);
            world.run_for(seconds * SECOND);
            assert!(!world.serves(A) && !world.serves(B), "neither may go on alone: {}", world.report());
            // The ports come up one after the other.
            world.witness_back(Some(B));
            world.run_for(seed * 30 * MILLI);
            world.uncut(A);
            world.run_for(seed * 10 * MILLI);
            world.uncut(B);
            world.witness_back(Some(A));
            converged(&mut world, 10 * SECOND);
            let changes = world.promotions.len() - promotions;
            assert!(changes <= 2, "{changes} promotions\n{}", last_lines(&world));
            whole(&mut world);
        }
    }
}

#[test]
fn an_ex_primary_with_a_higher_lsn_of_an_older_epoch_gives_way() {
    for seed in SEEDS {
        let mut world = pair(seed);
        world.filter_messages(|from, message| {
            from != A || !matches!(message, Message::Append { entries, .. } if !entries.is_empty())
        });
        world.write_many(A, 5);
        world.run_for(50 * MILLI);
        world.crash(A, false);
        world.unfilter();
        serving(&mut world, B);
        written(&mut world, B);
        let (tail, right) = (world.position(A), world.position(B));
        assert!(tail.lsn > right.lsn && tail.epoch < right.epoch, "{tail}, {right}");
        // Alone it never wins by its greater number, whatever became of the other.
        world.crash(B, true);
        world.start(A);
        waits_because(&mut world, A, "may have newer data");
        world.start(B);
        whole(&mut world);
        assert_eq!(world.position(A).lsn, right.lsn, "the tail is cut");
    }
}

#[test]
fn a_write_whose_client_timed_out_is_there_once_or_never() {
    for seed in SEEDS {
        let mut world = busy_pair(seed);
        for round in 0..4 {
            world.run_for(500 * MILLI);
            let primary = world.primary().unwrap_or(A);
            // No answer of the peer: nothing is acknowledged, clients give up, and then the primary dies.
            let peer = primary.peer();
            world.filter_messages(move |from, message| {
                from != peer || !matches!(message, Message::Acknowledge(_))
            });
            world.filter_witness(|_| Fate::Lost);
            world.run_for(6 * SECOND);
            world.crash(primary, round % 2 == 0);
            world.unfilter();
            serving(&mut world, peer);
            world.start(primary);
            converged(&mut world, 10 * SECOND);
        }
        // The oracle knows each write: refused ones are nowhere, unknown ones at most once, and none after a read without it.
        whole(&mut world);
    }
}

#[test]
fn two_handovers_in_quick_succession() {
    for seed in SEEDS {
        for gap in [0, 1, 5, 20, 100, 400] {
            let mut world = busy_pair(seed);
            world.run_for(SECOND);
            world.switchover(A);
            world.run_for(gap * MILLI);
            world.switchover(B);
            world.run_for(gap * MILLI);
            world.switchover(A);
            whole(&mut world);
        }
    }
}

#[test]
fn the_witness_is_away_and_the_primary_is_killed() {
    for seed in SEEDS {
        for back in [Some(A), None] {
            let mut world = busy_pair(seed);
            world.run_for(SECOND);
            world.witness_lost(None);
            world.crash(A, true);
            world.run_for(10 * SECOND);
            assert!(!world.serves(B), "A may have gone on: {}", world.report());
            sound(&world);
            // Either of the two brings it back.
            match back {
                Some(id) => world.start(id),
                None => world.witness_back(None),
            }
            assert!(world.run_until(10 * SECOND, |world| world.primary().is_some()), "{}", world.report());
            world.heal();
            whole(&mut world);
        }
    }
}

#[test]
fn the_line_between_a_and_b_is_cut_and_one_goes_on() {
    for seed in SEEDS {
        for noticed in [true, false] {
            let mut world = busy_pair(seed);
            world.run_for(SECOND);
            world.cut(A, noticed);
            world.cut(B, noticed);
            let one = |world: &World| world.serves(A) != world.serves(B);
            world.run_for(SECOND);
            assert!(world.run_until(5 * SECOND, one), "{}", world.report());
            world.run_for(10 * SECOND);
            assert!(one(&world), "and stays so: {}", world.report());
            world.heal();
            whole(&mut world);
        }
    }
}

/// The tail is of the primary that died, the other one shut down before it had written as much: whatever the LSNs say, the
/// histories differ.
#[test]
fn a_primary_died_with_writes_that_nobody_has_and_its_successor_shut_down_at_once() {
    for seed in SEEDS {
        let mut world = pair(seed);
        everything_cut(&mut world, false);
        world.write_many(A, 40);
        world.run_for(20 * MILLI);
        world.crash(A, true);
        everything_uncut(&mut world);
        serving(&mut world, B);
        written(&mut world, B);
        stopped(&mut world, B);
        world.start(A);
        waits_because(&mut world, A, "different history");
        world.start(B);
        whole(&mut world);
    }
}
