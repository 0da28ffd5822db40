//! Stories with the core's own duties in simulated time: the requirements R3-R10, planned work under load, and the faults
//! people meet. Each test says what a person would see. With DUET_TRACE=1 in the environment a failure prints the events
//! that led to it.

mod support;

use duet_protocol::ApplianceId::{A, B};
use duet_protocol::{Lsn, RoleName};
use duet_sim::simulate::{Ask, Fate, MILLI, Options, SECOND, Time, World};
use support::{
    both_down, busy_pair, converged, last_lines, pair, pair_of, serving, sound, stopped, waits_because,
    whole, written,
};

// ---- R3 - R10 ----

#[test]
fn r3_r4_the_lsn_is_at_the_witness_during_the_shutdown_then_cleared_by_the_promoted_secondary() {
    for seed in 0..20 {
        let mut world = pair(seed);
        let lsn_x = world.position(A);
        let begun = world.now;
        stopped(&mut world, A);
        let note = |record: &duet_protocol::WitnessRecord| record.left.a.map(|note| note.position);
        let noted: Vec<Time> = world
            .records()
            .iter()
            .filter(|(at, record)| *at >= begun && note(record) == Some(lsn_x))
            .map(|(at, _)| *at)
            .collect();
        assert!(!noted.is_empty(), "LSN X was at the witness before A stopped\n{}", last_lines(&world));
        serving(&mut world, B);
        assert!(world.run_until(4 * SECOND, |world| world.record().is_some_and(|r| r.left.a.is_none())));
        let lsn_y = world.position(B).lsn;
        assert_eq!(lsn_y, lsn_x.lsn, "a promotion takes no LSN");
        written(&mut world, B);
        assert_eq!(world.position(B).lsn, lsn_y.next(), "a write takes one");
        let lsn_y = world.position(B);
        stopped(&mut world, B);
        assert_eq!(
            world.record().and_then(|record| record.part),
            Some(lsn_y),
            "LSN Y, at the last shutdown of all"
        );
        sound(&world);
    }
}

#[test]
fn r3_the_note_of_a_secondary_stays_until_it_is_back() {
    for seed in 0..20 {
        let mut world = pair(seed);
        let lsn_y = world.position(B);
        stopped(&mut world, B);
        world.run_for(8 * SECOND);
        written(&mut world, A);
        assert_eq!(world.record().and_then(|record| record.left.b).map(|note| note.position), Some(lsn_y));
        world.start(B);
        whole(&mut world);
        assert_eq!(world.record().and_then(|record| record.left.b), None, "B is back in sync");
    }
}

#[test]
fn r4_no_write_fails_for_good_and_the_pause_is_short_when_the_primary_shuts_down_softly() {
    for seed in 0..20 {
        let mut world = busy_pair(seed);
        world.run_for(SECOND);
        let begun = world.now;
        world.soft_stop(A);
        world.run_for(5 * SECOND);
        assert!(world.serves(B), "{}", world.report());
        let pause = world.longest_pause(begun, world.now);
        assert!(pause < 250 * MILLI, "seed {seed}: a pause of {} ms\n{}", pause / MILLI, last_lines(&world));
        sound(&world);
    }
}

#[test]
fn r5_r6_equal_to_the_last_position_a_restarted_appliance_is_promoted_alone() {
    for seed in 0..20 {
        let mut world = pair(seed);
        stopped(&mut world, A);
        serving(&mut world, B);
        world.run_for(3 * SECOND);
        stopped(&mut world, B);
        world.start(A);
        serving(&mut world, A);
        written(&mut world, A);
        world.start(B);
        whole(&mut world);
    }
}

#[test]
fn r7_behind_the_last_position_a_restarted_appliance_waits_and_says_so() {
    for seed in 0..20 {
        let mut world = pair(seed);
        stopped(&mut world, A);
        serving(&mut world, B);
        written(&mut world, B);
        stopped(&mut world, B);
        world.start(A);
        waits_because(
            &mut world,
            A,
            "A is at LSN X = 3, but B shut down last at LSN Y = 4: X < Y. A waits for B.",
        );
        world.start(B);
        whole(&mut world);
        assert_eq!(world.position(A).lsn, Lsn(4));
    }
}

#[test]
fn r8_r9_r10_the_live_appliance_stays_primary_and_the_restarted_one_catches_up() {
    for seed in 0..20 {
        let mut world = pair(seed);
        stopped(&mut world, A);
        serving(&mut world, B);
        for _ in 0..50 {
            written(&mut world, B);
        }
        let promotions = world.promotions.len();
        world.start(A);
        converged(&mut world, 5 * SECOND);
        assert_eq!(world.primary(), Some(B), "B stays primary");
        assert_eq!(world.promotions.len(), promotions, "nobody was promoted");
        world.run_for(SECOND);
        assert_eq!(world.position(A), world.position(B));
        whole(&mut world);
    }
}

#[test]
fn r11_another_history_of_the_same_length_is_not_equal() {
    let mut world = pair(1);
    world.filter_messages(|from, message| {
        from != A || !matches!(message, duet_protocol::Message::Append { entries, .. } if !entries.is_empty())
    });
    world.write(A);
    world.run_for(50 * MILLI);
    world.crash(A, false);
    world.unfilter();
    serving(&mut world, B);
    written(&mut world, B);
    assert_eq!(world.position(A).lsn, world.position(B).lsn, "the same LSN");
    stopped(&mut world, B);
    world.start(A);
    waits_because(&mut world, A, "different history");
    world.start(B);
    whole(&mut world);
}

// ---- both stop, in every order ----

/// Both are told to stop, B `offset` after A (or A after B); later both are started again.
fn both_stop(seed: u64, offset: i64, mut world: World) {
    let (first, second) = if offset >= 0 { (A, B) } else { (B, A) };
    world.run_for(200 * MILLI);
    world.soft_stop(first);
    world.run_for(offset.unsigned_abs());
    world.soft_stop(second);
    let down = world.run_until(21 * SECOND, |world| world.role(A).is_none() && world.role(B).is_none());
    assert!(down, "seed {seed}, offset {offset}: {}\n{}", world.report(), last_lines(&world));
    sound(&world);
    // One of them was last and left its position (R3): it may begin alone.
    let last = world.record().and_then(|record| record.part.map(|_| record.conf.primary()));
    let Some(last) = last else {
        panic!("seed {seed}, offset {offset}: nobody has parted: {}\n{}", world.report(), last_lines(&world));
    };
    world.start(last);
    serving(&mut world, last);
    world.start(last.peer());
    whole(&mut world);
}

#[test]
fn both_stop_at_the_same_moment_the_last_one_leaves_its_lsn_and_begins_alone() {
    for seed in 0..40 {
        both_stop(seed, 0, pair(seed));
        both_stop(seed, 0, busy_pair(seed));
    }
}

#[test]
fn both_stop_within_milliseconds_in_every_order() {
    let mut offset = -30_i64;
    while offset <= 30 {
        let seed = offset.unsigned_abs();
        let nanoseconds = offset * 500_000 + 1;
        both_stop(seed, nanoseconds, pair(seed));
        both_stop(seed, nanoseconds, busy_pair(seed));
        offset += 1;
    }
}

#[test]
fn both_stop_within_a_few_seconds_in_every_order() {
    for step in -20_i64..=20 {
        both_stop(step.unsigned_abs(), step * 130_000_000 + 7, busy_pair(step.unsigned_abs()));
    }
}

// ---- stops in the middle of something ----

#[test]
fn a_stop_at_any_moment_of_a_rejoin_ends_well() {
    for stopper in [A, B] {
        for step in 0..24_u64 {
            let mut world = busy_pair(step);
            world.crash(B, false);
            serving(&mut world, A);
            world.run_for(2 * SECOND);
            world.start(B);
            world.run_for(step * 8 * MILLI + step);
            stopped(&mut world, stopper);
            let other = stopper.peer();
            world.run_for(3 * SECOND);
            sound(&world);
            if world.primary().is_none() {
                // B had not come far enough to take over from A: only A may begin again.
                assert_eq!((stopper, other), (A, B), "{}", world.report());
            }
            world.start(stopper);
            whole(&mut world);
        }
    }
}

#[test]
fn a_stop_at_any_moment_of_the_others_failover_ends_well() {
    for step in 0..40_u64 {
        let mut world = busy_pair(step);
        world.crash(A, true);
        world.run_for(step * 15 * MILLI + step);
        stopped(&mut world, B);
        sound(&world);
        world.start(B);
        serving(&mut world, B);
        world.start(A);
        whole(&mut world);
    }
}

#[test]
fn a_crash_at_any_moment_of_a_handover_ends_well() {
    for victim in [A, B] {
        for step in 0..30_u64 {
            let mut world = busy_pair(step);
            world.soft_stop(A);
            world.run_for(step * 400_000 + step);
            world.crash(victim, true);
            if victim == A {
                serving(&mut world, B);
            } else {
                assert!(world.run_until(11 * SECOND, |world| world.role(A).is_none()), "{}", world.report());
            }
            sound(&world);
            world.start(A);
            world.start(B);
            whole(&mut world);
        }
    }
}

// ---- planned work ----

#[test]
fn a_switchover_under_load_costs_a_short_pause_and_no_write() {
    for seed in 0..20 {
        let mut world = busy_pair(seed);
        for from in [A, B, A, B] {
            world.run_for(2 * SECOND);
            assert_eq!(world.primary(), Some(from));
            let begun = world.now;
            world.switchover(from);
            world.run_for(2 * SECOND);
            assert_eq!(world.primary(), Some(from.peer()), "{}\n{}", world.report(), last_lines(&world));
            let pause = world.longest_pause(begun, world.now);
            assert!(
                pause < 250 * MILLI,
                "seed {seed}: a pause of {} ms\n{}",
                pause / MILLI,
                last_lines(&world)
            );
        }
        whole(&mut world);
    }
}

#[test]
fn a_switchover_that_the_peer_cannot_take_is_given_up_and_the_primary_goes_on() {
    let mut world = busy_pair(1);
    world.filter_messages(|_, message| !matches!(message, duet_protocol::Message::Propose(_)));
    world.switchover(A);
    world.run_for(4 * SECOND);
    assert_eq!(world.primary(), Some(A), "{}", world.report());
    world.unfilter();
    whole(&mut world);
}

// ---- faults people meet ----

#[test]
fn a_primary_paused_for_a_second_or_fifteen_never_answers_a_stale_read() {
    for frozen in [false, true] {
        for seconds in [1, 15] {
            for seed in 0..10 {
                let mut world = busy_pair(seed);
                world.run_for(SECOND);
                world.pause(A, seconds * SECOND, frozen);
                world.run_for(900 * MILLI);
                assert!(world.serves(B), "B took over within a second: {}", world.report());
                assert!(!world.answers_reads(A), "A's lease has run out");
                world.run_for(seconds * SECOND + 3 * SECOND);
                assert_eq!(world.primary(), Some(B), "{}", world.report());
                whole(&mut world);
            }
        }
    }
}

#[test]
fn a_primary_that_crashes_costs_less_than_a_second() {
    for seed in 0..20 {
        let mut world = busy_pair(seed);
        world.run_for(SECOND);
        let begun = world.now;
        world.crash(A, true);
        world.run_for(3 * SECOND);
        let pause = world.longest_pause(begun, world.now);
        assert!(
            world.serves(B) && pause < 800 * MILLI,
            "a pause of {} ms: {}",
            pause / MILLI,
            world.report()
        );
        world.start(A);
        whole(&mut world);
    }
}

#[test]
fn a_secondary_that_is_lost_costs_less_than_half_a_second() {
    for seed in 0..20 {
        for cut in [false, true] {
            let mut world = busy_pair(seed);
            world.run_for(SECOND);
            let begun = world.now;
            if cut {
                world.cut(A, false);
                world.cut(B, false);
                world.witness_lost(Some(B));
            } else {
                world.crash(B, false);
            }
            world.run_for(3 * SECOND);
            let pause = world.longest_pause(begun, world.now);
            assert!(
                world.serves(A) && pause < 500 * MILLI,
                "a pause of {} ms: {}",
                pause / MILLI,
                world.report()
            );
            world.heal();
            whole(&mut world);
        }
    }
}

#[test]
fn with_the_witness_down_each_may_leave_and_return() {
    for seed in 0..20 {
        let mut world = busy_pair(seed);
        world.witness_lost(None);
        for id in [B, A, B, A] {
            world.run_for(SECOND);
            stopped(&mut world, id);
            world.run_for(SECOND);
            assert!(world.serves(id.peer()), "{}\n{}", world.report(), last_lines(&world));
            world.start(id);
            converged(&mut world, 10 * SECOND);
        }
        world.witness_back(None);
        whole(&mut world);
    }
}

#[test]
fn a_wiped_witness_is_refilled_only_while_both_are_there() {
    for seed in 0..10 {
        let mut world = busy_pair(seed);
        stopped(&mut world, B);
        world.run_for(SECOND);
        assert!(world.wipe_witness());
        world.run_for(20 * SECOND);
        assert!(world.record().is_none(), "A alone does not refill it");
        assert!(world.serves(A), "A goes on all the same");
        world.start(B);
        converged(&mut world, 10 * SECOND);
        let refilled = world.run_until(15 * SECOND, |world| world.record().is_some());
        assert!(refilled, "both are there: {}\n{}", world.report(), last_lines(&world));
        whole(&mut world);
    }
}

#[test]
fn a_flapping_link_does_not_make_the_role_fly_to_and_fro() {
    for seed in 0..3 {
        for (up, down) in [(700, 100), (400, 400), (150, 700), (1500, 1500)] {
            let mut world = busy_pair(seed);
            let promotions = world.promotions.len();
            let begun = world.now;
            while world.now < begun + 60 * SECOND {
                world.cut(A, false);
                world.cut(B, false);
                world.run_for(down * MILLI);
                world.uncut(A);
                world.uncut(B);
                world.run_for(up * MILLI);
            }
            let changes = world.promotions.len() - promotions;
            assert!(
                changes <= 4,
                "{up} ms up, {down} ms down, seed {seed}: {changes} promotions in a minute"
            );
            world.heal();
            whole(&mut world);
        }
    }
}

#[test]
fn an_fsync_that_stalls_for_a_second_is_no_reason_for_a_failover() {
    for seed in 0..10 {
        for slow in [A, B] {
            let mut world = busy_pair(seed);
            let promotions = world.promotions.len();
            world.slow_disk(slow, (SECOND, SECOND), 10 * SECOND);
            world.run_for(15 * SECOND);
            assert_eq!(
                world.promotions.len(),
                promotions,
                "{slow} slow: {}\n{}",
                world.report(),
                last_lines(&world)
            );
            assert_eq!(world.primary(), Some(A));
            whole(&mut world);
        }
    }
}

#[test]
fn a_blank_disk_gets_everything_by_the_log_or_by_a_full_copy() {
    for seed in 0..10 {
        for history in [0, 1000] {
            let mut world = pair_of(seed, Options { clients: 2, history, ..Options::quiet() });
            world.run_for(SECOND);
            world.crash(B, true);
            serving(&mut world, A);
            world.run_for(SECOND);
            world.replace_disk(B);
            world.start(B);
            converged(&mut world, 15 * SECOND);
            world.run_for(SECOND);
            stopped(&mut world, A);
            assert!(world.serves(B), "the new disk is a full member: {}", world.report());
            world.start(A);
            whole(&mut world);
        }
    }
}

#[test]
fn a_blank_disk_inherits_no_rights_from_its_name() {
    let mut world = pair(1);
    both_down(&mut world);
    world.replace_disk(B);
    world.start(B);
    waits_because(&mut world, B, "new and empty");
    world.start(A);
    whole(&mut world);
}

#[test]
fn a_secondary_whose_disk_lost_writes_is_repaired_from_the_primary() {
    for seed in 0..10 {
        let mut world = busy_pair(seed);
        world.run_for(SECOND);
        world.crash(B, true);
        serving(&mut world, A);
        world.run_for(SECOND);
        world.lose_writes(B, 5);
        world.start(B);
        whole(&mut world);
        assert_eq!(world.primary(), Some(A));
    }
}

#[test]
fn a_paired_primary_whose_disk_lost_writes_is_repaired_from_its_successor() {
    for seed in 0..10 {
        let mut world = busy_pair(seed);
        world.run_for(SECOND);
        world.crash(A, true);
        world.lose_writes(A, 5);
        world.run_for(50 * MILLI);
        world.start(A);
        whole(&mut world);
    }
}

#[test]
fn an_appliance_alone_whose_disk_lost_writes_is_not_promoted_and_says_so() {
    let mut world = pair(1);
    stopped(&mut world, A);
    serving(&mut world, B);
    for _ in 0..5 {
        written(&mut world, B);
    }
    stopped(&mut world, B);
    world.start(B);
    serving(&mut world, B);
    world.crash(B, true);
    world.lose_writes(B, 3);
    world.start(B);
    waits_because(&mut world, B, "lost writes");
    // A may lack what B acknowledged alone: nobody can be promoted without a person.
    world.start(A);
    waits_because(&mut world, A, "may have newer data");
    assert!(!world.serves(B));
}

#[test]
fn a_log_trimmed_behind_its_checkpoint_is_followed_by_a_full_copy() {
    let options = Options { checkpoint: (100 * MILLI, 200 * MILLI), ..Options::quiet() };
    let mut world = pair_of(1, options);
    written(&mut world, A);
    world.crash(B, false);
    serving(&mut world, A);
    for _ in 0..60 {
        world.write_many(A, 4_000);
        world.run_for(20 * MILLI);
    }
    world.run_for(2 * SECOND);
    world.start(B);
    converged(&mut world, 20 * SECOND);
    whole(&mut world);
    assert_eq!(world.position(B), world.position(A));
}

#[test]
fn a_take_that_is_applied_without_a_reply_is_learned_by_reading() {
    for seed in 0..10 {
        let mut world = busy_pair(seed);
        let mut lost = 0;
        world.filter_witness(move |request| match request.ask {
            Ask::Swap { .. } if lost < 1 => {
                lost += 1;
                Fate::Unanswered
            }
            _ => Fate::Normal,
        });
        world.crash(A, true);
        serving(&mut world, B);
        assert_eq!(world.role(B), Some(RoleName::Primary));
        world.start(A);
        whole(&mut world);
    }
}

// ---- disks that are stuck ----

#[test]
fn a_disk_that_is_stuck_costs_seconds_and_no_write() {
    for (stuck, then) in [(A, B), (B, A)] {
        for seed in 0..6 {
            let mut world = busy_pair(seed);
            world.run_for(SECOND);
            assert_eq!(world.primary(), Some(A));
            let begun = world.now;
            world.slow_disk(stuck, (60 * SECOND, 60 * SECOND), 20 * SECOND);
            world.run_for(10 * SECOND);
            assert_eq!(world.primary(), Some(then), "{}\n{}", world.report(), last_lines(&world));
            let pause = world.longest_pause(begun, world.now);
            assert!(pause < 5 * SECOND, "a pause of {} ms\n{}", pause / MILLI, last_lines(&world));
            world.run_for(60 * SECOND);
            sound(&world);
        }
    }
}
