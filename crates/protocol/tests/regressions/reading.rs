//! Who answers reads, and whose answers count.

use bytes::Bytes;
use duet_protocol::{
    Acknowledge, Action, Agreement, DiskId, Duration, Heartbeat, Input, Instant, Lsn, Message, Position,
    RoleName, limits,
};

use crate::bench::{A, Bench, DISKS, LIFE, entries, pair, paired_primary, solo};

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
