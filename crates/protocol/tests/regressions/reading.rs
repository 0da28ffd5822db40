//! Who answers reads, and whose answers count.

use bytes::Bytes;
use duet_protocol::{
    Acknowledge, Action, Agreement, DiskId, Duration, Effect, Epoch, Heartbeat, Input, Instant, Lsn, Message,
    Position, ReadIndex, ReadQuestion, RoleName, limits,
};

use crate::bench::{A, B, Bench, DISKS, LIFE, end, entries, header, pair, paired_primary, solo};

/// The secondary's answer to a heartbeat, from whatever disk and whichever life of the primary.
fn answer(bench: &mut Bench, matched: u64, disk: DiskId, (life, sent): (u64, Instant)) {
    let epoch = bench.it.status().own.conf.epoch();
    let heartbeat = Heartbeat { life, sent, promise: limits::PROMISE };
    let matched = Lsn(matched);
    let acknowledge = Acknowledge { epoch, matched, heartbeat, retry_from: None, disk };
    bench.rules(Input::Message(Message::Acknowledge(acknowledge)));
}

/// Committed so far.
fn committed(bench: &Bench) -> Lsn {
    bench.it.status().committed
}

/// A primary of a pair that has written LSN 3, durable here.
fn primary_with_a_write_at_3() -> Bench {
    let mut bench = paired_primary();
    bench.rules(Input::Propose(vec![Bytes::from_static(b"third")]));
    bench.rules(Input::Flushed { generation: 0, lsn: Lsn(3) });
    assert_eq!(committed(&bench), Lsn(2));
    bench
}

#[test]
fn a_new_primary_answers_no_read_before_it_has_applied_what_its_log_held() {
    let mut bench = Bench::start(A, pair(1), &entries(Position::EMPTY, 1, 2), 0);
    bench.wins_by_witness();
    assert_eq!(bench.role(), RoleName::Primary);
    assert!(!bench.it.status().serves_reads, "its predecessor has acknowledged both writes");
    bench.rules(Input::Applied(Lsn(1)));
    assert!(!bench.it.status().serves_reads);
    bench.rules(Input::Applied(Lsn(2)));
    assert!(bench.it.status().serves_reads);
}

#[test]
fn a_primary_that_hands_over_answers_no_reads() {
    let mut bench = paired_primary();
    assert!(bench.it.status().serves_reads);
    assert!(bench.attempt(Action::Propose(Agreement::Handover)));
    assert!(!bench.it.status().serves_reads, "it has stopped");
    let sent = bench.now;
    bench.acknowledged(2, sent);
    assert!(!bench.it.status().serves_reads, "an answer to a heartbeat gives it no lease any more");
    // Before there is an offer the wish to leave is enough.
    let mut bench = primary_with_a_write_at_3();
    bench.step(Input::Switchover);
    assert!(bench.it.status().pending.is_none() && !bench.it.status().serves_reads);
}

/// The machine was rebooted, its monotonic clock began anew: the heartbeats of the former life seem to come from the future.
#[test]
fn an_answer_to_a_heartbeat_of_a_former_life_gives_no_lease() {
    let mut bench = Bench::start(A, solo(1, A), &entries(Position::EMPTY, 1, 2), 2);
    assert!(bench.attempt(Action::BeginAlone));
    bench.rules(Input::PeerConnected);
    let long_ago = bench.now.after(Duration::from_hours(1));
    answer(&mut bench, 2, DISKS.b, (LIFE - 1, long_ago));
    assert_eq!(bench.it.status().peer.matched, Lsn(0), "nor is it a proof of what the secondary holds");
    let sent = bench.now;
    answer(&mut bench, 2, DISKS.b, (LIFE, sent));
    assert!(bench.attempt(Action::Close) && bench.attempt(Action::Propose(Agreement::Rejoin)));
    let proposed = bench.it.status().pending.unwrap();
    bench.rules(Input::Message(Message::Stored(proposed)));
    let sent = bench.now;
    bench.acknowledged(2, sent);
    assert!(bench.it.status().serves_reads);
    bench.pass(limits::PROMISE);
    bench.rules(Input::Tick);
    assert!(!bench.it.status().serves_reads, "the secondary may be primary by now");
}

#[test]
fn an_acknowledgement_by_another_disk_than_the_members_does_not_count() {
    let mut bench = primary_with_a_write_at_3();
    let sent = bench.now;
    answer(&mut bench, 3, DiskId(77), (LIFE, sent));
    assert_eq!(committed(&bench), Lsn(2), "the member may come back, without the write");
    answer(&mut bench, 3, DISKS.b, (LIFE, sent));
    assert_eq!(committed(&bench), Lsn(3));
}

#[test]
fn a_new_disk_of_the_peer_does_not_inherit_what_the_former_one_held() {
    let mut bench = Bench::start(A, solo(1, A), &entries(Position::EMPTY, 1, 2), 2);
    assert!(bench.attempt(Action::BeginAlone));
    bench.rules(Input::PeerConnected);
    let sent = bench.now;
    answer(&mut bench, 2, DISKS.b, (LIFE, sent));
    answer(&mut bench, 0, DiskId(77), (LIFE, sent));
    assert!(bench.attempt(Action::Close));
    assert!(!bench.attempt(Action::Propose(Agreement::Rejoin)), "the new disk is empty");
}

/// The secondary held LSN 3 when the connection broke. Whether it still does is not known before it says so again: its
/// machine may have lost power, and its disk what it had reported durable.
#[test]
fn what_the_secondary_held_before_a_reconnect_commits_nothing() {
    let mut bench = paired_primary();
    bench.rules(Input::Propose(vec![Bytes::from_static(b"third")]));
    let sent = bench.now;
    bench.acknowledged(3, sent);
    bench.rules(Input::PeerDisconnected);
    bench.rules(Input::PeerConnected);
    bench.rules(Input::Flushed { generation: 0, lsn: Lsn(3) });
    assert_eq!(committed(&bench), Lsn(2));
    let sent = bench.now;
    bench.acknowledged(3, sent);
    assert_eq!(committed(&bench), Lsn(3));
}

/// While a secondary is let in, acknowledgements wait for it: else a busy primary would be ahead of it for ever.
#[test]
fn what_is_written_while_a_secondary_is_let_in_waits_for_it() {
    let mut bench = Bench::start(A, solo(1, A), &entries(Position::EMPTY, 1, 2), 2);
    assert!(bench.attempt(Action::BeginAlone));
    bench.rules(Input::PeerConnected);
    let sent = bench.now;
    bench.acknowledged(2, sent);
    assert!(bench.attempt(Action::Close));
    bench.rules(Input::Propose(vec![Bytes::from_static(b"third")]));
    bench.rules(Input::Flushed { generation: 0, lsn: Lsn(3) });
    assert_eq!(committed(&bench), Lsn(2));
    assert!(bench.attempt(Action::Cancel));
    assert_eq!(committed(&bench), Lsn(3), "alone again");
}

// ---- reads at the secondary ----

/// The secondary asks the appliance under test for a read index; what it is told.
fn asked_for_index(bench: &mut Bench) -> Option<Lsn> {
    let question = ReadQuestion { life: 99, number: 1 };
    let effects = bench.rules(Input::Message(Message::AskReadIndex(question)));
    effects.iter().find_map(|effect| match effect {
        Effect::Send(Message::ReadIndex(answer)) => Some(answer.lsn),
        _ => None,
    })
}

#[test]
fn a_read_index_is_given_only_by_one_that_may_read_itself() {
    let mut bench = paired_primary();
    assert_eq!(asked_for_index(&mut bench), Some(Lsn(2)));
    bench.pass(limits::PROMISE);
    assert_eq!(asked_for_index(&mut bench), None, "the secondary may be primary by now");
    let mut bench = Bench::start(A, pair(1), &entries(Position::EMPTY, 1, 2), 0);
    assert_eq!(asked_for_index(&mut bench), None, "it was started again: it is nobody's primary");
    bench.wins_by_witness();
    assert_eq!(asked_for_index(&mut bench), None, "its predecessor has acknowledged both writes");
    bench.rules(Input::Applied(Lsn(2)));
    assert_eq!(asked_for_index(&mut bench), Some(Lsn(2)));
}

/// Else a read at the secondary shows an entry that a later read at the primary does not.
#[test]
fn a_primary_tells_its_secondary_of_what_it_has_applied_and_no_more() {
    let told = |bench: &mut Bench| {
        assert!(bench.attempt(Action::Heartbeat));
        bench.effects.iter().find_map(|effect| match effect {
            Effect::SendAppend { header, .. } => Some(header.committed),
            _ => None,
        })
    };
    let mut bench = primary_with_a_write_at_3();
    let sent = bench.now;
    bench.acknowledged(3, sent);
    assert_eq!(committed(&bench), Lsn(3));
    assert_eq!(told(&mut bench), Some(Lsn(2)));
    bench.rules(Input::Applied(Lsn(3)));
    assert_eq!(told(&mut bench), Some(Lsn(3)));
}

/// A secondary with two entries, of which it has applied some; the primary has named `proved` of them.
fn secondary(applied: u64, proved: u64) -> Bench {
    let log = entries(Position::EMPTY, 1, 2);
    let mut bench = Bench::start(B, pair(1), &log, applied);
    bench.rules(Input::PeerConnected);
    named(&mut bench, proved);
    bench
}

/// The primary's heartbeat names the entry at this LSN.
fn named(bench: &mut Bench, lsn: u64) {
    let log = entries(Position::EMPTY, 1, lsn);
    let header = header(pair(1), end(&log), 2);
    bench.rules(Input::Message(Message::Append { header, entries: Vec::new() }));
}

/// The primary answers, as if to a question of this life; up to where the reads that wait may be answered.
fn indexed(bench: &mut Bench, life: u64, epoch: u64, lsn: u64) -> Option<Lsn> {
    let question = ReadQuestion { life, number: 5 };
    let answer = ReadIndex { question, epoch: Epoch(epoch), lsn: Lsn(lsn) };
    let effects = bench.rules(Input::Message(Message::ReadIndex(answer)));
    effects.iter().find_map(|effect| match effect {
        Effect::ReadIndex { number: 5, lsn } => Some(*lsn),
        _ => None,
    })
}

#[test]
fn a_secondary_asks_its_primary_and_applies_up_to_the_index_at_once() {
    let mut bench = secondary(0, 2);
    let asked = Effect::Send(Message::AskReadIndex(ReadQuestion { life: LIFE, number: 5 }));
    assert_eq!(bench.rules(Input::AskReadIndex(5)), [asked]);
    assert_eq!(indexed(&mut bench, LIFE, 1, 2), Some(Lsn(2)));
    assert!(bench.effects.contains(&Effect::Apply { upto: Lsn(2) }), "the answer says that it is committed");
    let mut alone = Bench::start(B, pair(1), &entries(Position::EMPTY, 1, 2), 0);
    assert_eq!(alone.rules(Input::AskReadIndex(5)), [], "there is nobody to ask");
}

#[test]
fn the_answer_to_a_question_of_a_former_life_or_from_a_former_primary_is_none() {
    let mut bench = secondary(0, 2);
    assert_eq!(indexed(&mut bench, LIFE - 1, 1, 1), None, "its reads are forgotten, its numbers come again");
    assert_eq!(indexed(&mut bench, LIFE, 0, 1), None);
    assert_eq!(indexed(&mut bench, LIFE, 1, 1), Some(Lsn(1)));
}

/// It may hold another pair's data, or have lost what it had: what it has applied must first be known to be the primary's.
#[test]
fn a_secondary_answers_no_reads_from_a_state_that_is_not_proved_to_be_the_primarys() {
    let mut bench = secondary(2, 1);
    assert_eq!(indexed(&mut bench, LIFE, 1, 2), None);
    named(&mut bench, 2);
    assert_eq!(indexed(&mut bench, LIFE, 1, 2), Some(Lsn(2)));
}
