//! Every row of the scenario table of docs/protocol.md (section 13), driven by the core's own duties in simulated time:
//! what happened, then which of A, B and witness are there, and whether the pair serves (`S`) or waits (`-`).
//!
//! One test a row. `A+W` means that only A and the witness are up and that nothing else happens any more.

use duet_protocol::ApplianceId::{A, B};
use duet_protocol::{ApplianceId, Message, RoleName};
use duet_sim::simulate::{Ask, Fate, MILLI, Options, SECOND, World};

/// The columns: who is up.
const COLUMNS: [(&str, bool, bool, bool); 6] = [
    ("A+W", true, false, true),
    ("B+W", false, true, true),
    ("A", true, false, false),
    ("B", false, true, false),
    ("A+B", true, true, false),
    ("A+B+W", true, true, true),
];

const SEEDS: u64 = 6;

/// Plays a row's story in each column and compares what comes of it.
fn expect(row: &str, table: &str, story: impl Fn(&mut World)) {
    let expected: Vec<&str> = table.split_whitespace().collect();
    assert_eq!(expected.len(), COLUMNS.len(), "one expectation a column");
    for seed in 1..=SEEDS {
        let mut came = Vec::new();
        let mut traces = Vec::new();
        for (_, a, b, witness) in COLUMNS {
            let mut world = World::new(seed, Options::quiet());
            world.record_trace();
            world.start_both();
            assert_eq!(world.primary(), Some(A), "A is primary: {}", world.report());
            for _ in 0..3 {
                written(&mut world, A);
            }
            world.run_for(100 * MILLI);
            story(&mut world);
            came.push(if serves_with(&mut world, a, b, witness) { "S" } else { "-" });
            assert_eq!(world.violation, None, "row {row}, seed {seed}");
            traces.push(world);
        }
        for (index, (column, ..)) in COLUMNS.iter().enumerate() {
            if came[index] != expected[index] {
                let lines = traces[index].trace();
                for line in
                    lines.iter().filter(|line| !line.contains("append[") && !line.contains("acknowledge"))
                {
                    println!("{line}");
                }
                println!("{}", traces[index].report());
                panic!(
                    "row {row}, column {column}, seed {seed}: {} instead of {} (all: {came:?})",
                    came[index], expected[index]
                );
            }
        }
    }
    println!("| {row} | {} |", expected.join(" | "));
}

fn serves_with(world: &mut World, a: bool, b: bool, witness: bool) -> bool {
    world.unfilter();
    for (id, up) in [(A, a), (B, b)] {
        world.uncut(id);
        if !up {
            world.crash(id, true);
        }
    }
    if witness {
        world.witness_back(None);
    } else {
        world.witness_lost(None);
    }
    for (id, up) in [(A, a), (B, b)] {
        if up {
            world.start(id);
        }
    }
    // Whoever served before and may not any more needs a moment to notice.
    world.run_for(2 * SECOND);
    let serving = |world: &World| [A, B].into_iter().find(|id| world.serves(*id));
    world.run_until(18 * SECOND, |world| serving(world).is_some());
    let Some(id) = serving(world) else {
        assert_eq!(world.violation, None, "{}", world.report());
        for (id, up) in [(A, a), (B, b)] {
            let said = world.status(id).is_none_or(|status| status.waiting.is_some());
            assert!(!up || said, "{id} waits and does not say why: {}", world.report());
        }
        return false;
    };
    let write = world.write(id);
    let done = world.run_until(3 * SECOND, |world| world.is_acknowledged(write));
    let read = world.read(id);
    done && world.run_until(3 * SECOND, |world| world.is_acknowledged(read))
}

/// A write that must be acknowledged.
fn written(world: &mut World, id: ApplianceId) {
    let write = world.write(id);
    assert!(world.run_until(2 * SECOND, |world| world.is_acknowledged(write)), "{}", world.report());
}

/// Soft shutdown, to its end.
fn stopped(world: &mut World, id: ApplianceId) {
    world.soft_stop(id);
    assert!(world.run_until(11 * SECOND, |world| world.role(id).is_none()), "{}", world.report());
}

/// `id` becomes primary, alone, and serves.
fn alone(world: &mut World, id: ApplianceId) {
    let solo = |world: &World| world.serves(id) && world.own(id).conf.is_solo();
    assert!(world.run_until(5 * SECOND, solo), "{}", world.report());
    world.run_for(3 * SECOND);
}

/// Both crash, at one moment.
fn both_crash(world: &mut World) {
    world.crash(A, true);
    world.crash(B, true);
}

/// A gets an entry that B never gets and nobody acknowledges.
fn tail(world: &mut World) {
    world.filter_messages(|from, message| {
        from != A || !matches!(message, Message::Append { entries, .. } if !entries.is_empty())
    });
    let write = world.write(A);
    world.run_for(50 * MILLI);
    assert!(!world.is_acknowledged(write) && world.position(A).lsn > world.position(B).lsn);
}

fn handed_over(world: &mut World) {
    stopped(world, A);
    alone(world, B);
}

fn b_lost(world: &mut World) {
    world.crash(B, false);
    alone(world, A);
}

#[test]
fn row_01_both_crash_at_once() {
    expect("1", "S S - - S S", both_crash);
}

#[test]
fn row_02_both_crash_and_a_holds_an_unacknowledged_tail() {
    expect("2", "S S - - S S", |world| {
        tail(world);
        both_crash(world);
    });
}

#[test]
fn row_03_a_handed_over_to_b_and_stopped_b_serves() {
    expect("3", "- S - S S S", handed_over);
}

#[test]
fn row_04_handed_over_b_wrote_b_shut_down_softly() {
    expect("4", "- S - - S S", |world| {
        handed_over(world);
        written(world, B);
        stopped(world, B);
    });
}

#[test]
fn row_05_handed_over_b_wrote_nothing_b_shut_down_softly() {
    expect("5", "S S - - S S", |world| {
        handed_over(world);
        stopped(world, B);
    });
}

#[test]
fn row_06_handed_over_b_wrote_b_crashed() {
    expect("6", "- S - S S S", |world| {
        handed_over(world);
        written(world, B);
        world.crash(B, true);
    });
}

#[test]
fn row_07_handed_over_b_wrote_nothing_b_crashed() {
    expect("7", "- S - S S S", |world| {
        handed_over(world);
        world.crash(B, true);
    });
}

#[test]
fn row_08_b_lost_a_alone_by_the_witness_wrote_crashed() {
    expect("8", "S - S - S S", |world| {
        b_lost(world);
        written(world, A);
        world.crash(A, true);
    });
}

#[test]
fn row_09_a_alone_wrote_nothing_b_lacks_shut_down_softly() {
    expect("9", "S S - - S S", |world| {
        b_lost(world);
        stopped(world, A);
    });
}

#[test]
fn row_10_a_alone_wrote_what_b_lacks_shut_down_softly() {
    expect("10", "S - - - S S", |world| {
        b_lost(world);
        written(world, A);
        stopped(world, A);
    });
}

#[test]
fn row_11_a_alone_b_has_caught_up_but_is_not_in_sync_a_shut_down_softly() {
    expect("11", "S S - - S S", |world| {
        b_lost(world);
        written(world, A);
        world.filter_messages(|from, message| from != A || !matches!(message, Message::Propose(_)));
        world.start(B);
        assert!(world.run_until(3 * SECOND, |world| world.position(A) == world.position(B)));
        world.run_for(SECOND);
        world.crash(B, false);
        assert!(world.own(A).conf.is_solo() && world.own(B).tent.is_none());
        world.run_for(SECOND);
        stopped(world, A);
    });
}

#[test]
fn row_12_a_alone_shut_down_softly_part_sent_but_never_applied() {
    expect("12", "S - - - S S", |world| {
        b_lost(world);
        world.filter_witness(|request| match &request.ask {
            Ask::Swap { record, .. } if record.part.is_some() => Fate::Lost,
            _ => Fate::Normal,
        });
        stopped(world, A);
        assert!(world.own(A).has_parted() && world.record().is_some_and(|record| record.part.is_none()));
    });
}

#[test]
fn row_13_a_alone_the_witness_did_not_answer_the_read_a_just_stopped() {
    expect("13", "S - S - S S", |world| {
        b_lost(world);
        world.witness_lost(None);
        stopped(world, A);
        assert!(!world.own(A).has_parted());
    });
}

#[test]
fn row_14_b_left_by_agreement_without_the_witness_a_wrote_crashed() {
    expect("14", "S - S - S S", |world| {
        world.witness_lost(None);
        stopped(world, B);
        written(world, A);
        world.crash(A, true);
    });
}

#[test]
fn row_15_b_agreed_to_leave_a_crashed_before_it_heard() {
    expect("15", "S - - - S S", |world| {
        world.filter_messages(|_, message| !matches!(message, Message::Stored(_)));
        world.soft_stop(B);
        assert!(world.run_until(2 * SECOND, |world| world.own(B).tent.is_some()));
        world.crash(A, true);
        world.run_until(11 * SECOND, |world| world.role(B).is_none());
        assert!(world.own(A).conf.is_pair() && world.own(B).tent.is_some());
    });
}

#[test]
fn row_16_handover_without_the_witness_which_comes_back_b_wrote_nothing_shut_down_softly() {
    expect("16", "S S - - S S", |world| {
        world.witness_lost(None);
        handed_over(world);
        world.witness_back(None);
        world.run_for(6 * SECOND);
        stopped(world, B);
    });
}

#[test]
fn row_17_handover_without_the_witness_b_wrote_crashed() {
    expect("17", "- S - S S S", |world| {
        world.witness_lost(None);
        handed_over(world);
        written(world, B);
        world.crash(B, true);
    });
}

#[test]
fn row_18_b_promoted_and_wrote_a_has_another_tail_both_crash() {
    expect("18", "- S - S S S", |world| {
        tail(world);
        world.witness_lost(Some(A));
        world.cut(A, true);
        world.cut(B, true);
        alone(world, B);
        written(world, B);
        both_crash(world);
        world.witness_back(Some(A));
    });
}

#[test]
fn row_19_both_tried_the_witness_no_answer_to_either_both_crash() {
    expect("19", "S S - - S S", |world| {
        world.filter_witness(|request| match request.ask {
            Ask::Read => Fate::Normal,
            _ => Fate::Lost,
        });
        world.cut(A, true);
        world.cut(B, true);
        world.run_for(2 * SECOND);
        for id in [A, B] {
            assert!(world.own(id).max_epoch > world.own(id).conf.epoch(), "{id} has tried");
        }
        both_crash(world);
    });
}

#[test]
fn row_20_rejoin_b_stored_the_tent_a_crashed_before_it_heard() {
    expect("20", "S - S - S S", |world| {
        b_lost(world);
        written(world, A);
        world.filter_messages(|_, message| !matches!(message, Message::Stored(_)));
        world.start(B);
        assert!(world.run_until(5 * SECOND, |world| world.own(B).tent.is_some_and(|tent| tent.is_pair())));
        both_crash(world);
        assert!(world.own(A).conf.is_solo());
    });
}

#[test]
fn row_21_rejoin_in_force_b_not_told_yet_both_crash() {
    expect("21", "S - - - S S", |world| {
        b_lost(world);
        written(world, A);
        world.start(B);
        assert!(world.run_until(5 * SECOND, |world| world.own(A).conf.is_pair()));
        both_crash(world);
        assert!(world.own(B).tent.is_some_and(|tent| tent == world.own(A).conf));
    });
}

#[test]
fn row_22_as_5_then_a_alone_served_wrote_crashed_b_restarts() {
    expect("22", "S - S - S S", |world| {
        handed_over(world);
        stopped(world, B);
        world.start(A);
        alone(world, A);
        written(world, A);
        world.crash(A, true);
        world.start(B);
        world.run_for(3 * SECOND);
    });
}

/// Rule E (equality by prefix) of the protocol text is optional and not built: A alone with the witness waits.
#[test]
fn row_23_a_lost_with_a_tail_b_took_over_wrote_nothing_shut_down_softly() {
    expect("23", "- S - - S S", |world| {
        tail(world);
        world.crash(A, false);
        assert!(world.position(A).lsn > world.position(B).lsn, "the tail is on A's disk");
        alone(world, B);
        stopped(world, B);
    });
}

#[test]
fn row_24_the_take_of_b_was_never_applied_both_crash() {
    expect("24", "S S - - S S", |world| {
        world.filter_witness(|request| match request.ask {
            Ask::Read => Fate::Normal,
            _ => Fate::Lost,
        });
        world.crash(A, true);
        world.run_for(2 * SECOND);
        assert!(
            world.own(B).max_epoch > world.own(B).conf.epoch() && world.role(B) == Some(RoleName::Starting)
        );
        world.crash(B, true);
    });
}
