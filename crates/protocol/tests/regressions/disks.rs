//! Disks that stand still: what is sat out, and what is not.

use bytes::Bytes;
use duet_protocol::{Duration, Effect, Input, Lsn, WitnessRead, limits};

use crate::bench::{Bench, paired_primary, record};

/// Between two answers of the secondary.
const STEP: Duration = limits::HEARTBEAT;

/// A stall that is just sat out.
const STALL: Duration = Duration::from_millis(2_900);

/// A primary of a pair has written LSN 3; `flushed`: it is durable here.
fn with_a_write(flushed: bool) -> Bench {
    let mut bench = paired_primary();
    bench.step(Input::Propose(vec![Bytes::from_static(b"third")]));
    if flushed {
        bench.step(Input::Flushed { generation: 0, lsn: Lsn(3) });
    }
    bench
}

/// The secondary goes on answering heartbeats for so long, and has this much on its disk; the witness answers too. What the
/// primary wants meanwhile.
fn answers_for(bench: &mut Bench, time: Duration, matched: u64) -> Vec<Effect> {
    let (mut effects, end) = (Vec::new(), bench.now.after(time));
    while bench.now < end {
        bench.pass(STEP);
        effects.extend_from_slice(bench.step(Input::Tick));
        if bench.effects.iter().any(|effect| matches!(effect, Effect::ReadWitness { .. })) {
            bench.witness_says(&WitnessRead::Record(record(bench.it.status().own.conf)));
            effects.extend_from_slice(&bench.effects);
        }
        let sent = bench.now;
        bench.acknowledged(matched, sent);
    }
    effects
}

fn takes(effects: &[Effect]) -> bool {
    effects
        .iter()
        .any(|effect| matches!(effect, Effect::CompareAndSet { record, .. } if record.conf.is_solo()))
}

fn gives_up(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::GiveUp(_)))
}

/// It answers every heartbeat: without this its writers would wait for as long as its disk likes.
#[test]
fn a_secondary_whose_disk_is_stuck_is_dropped_and_one_whose_disk_stalls_is_not() {
    let mut bench = with_a_write(true);
    let before = answers_for(&mut bench, STALL, 2);
    assert!(!takes(&before), "a stall is sat out");
    assert!(takes(&answers_for(&mut bench, 10 * STEP, 2)), "it is to be primary alone");
    let mut bench = with_a_write(true);
    answers_for(&mut bench, STALL, 2);
    assert!(!takes(&answers_for(&mut bench, limits::STUCK, 3)), "the disk has moved in time");
}

#[test]
fn a_primary_whose_disk_is_stuck_gives_up_if_the_secondary_has_everything() {
    let mut bench = with_a_write(false);
    assert!(!gives_up(&answers_for(&mut bench, STALL, 3)), "a stall is sat out");
    assert!(gives_up(&answers_for(&mut bench, 10 * STEP, 3)));
    let mut bench = with_a_write(false);
    assert!(!gives_up(&answers_for(&mut bench, limits::STUCK + STEP, 2)), "the other's disk is no better");
    let mut bench = paired_primary();
    assert!(!gives_up(&answers_for(&mut bench, 2 * limits::STUCK, 2)), "there is nothing to write");
}
