//! Entries, copies and what is known to be durable.

use bytes::Bytes;
use duet_protocol::{
    Acknowledge, Action, AppendHeader, Duration, Effect, Epoch, Heartbeat, Input, Lsn, Message, Position,
    RoleName, limits,
};

use crate::bench::{A, B, Bench, DISKS, LIFE, end, entries, header, pair, paired_primary, solo};

#[test]
fn a_log_trimmed_while_the_peer_is_away_halts_nobody() {
    let mut bench = Bench::start(A, solo(1, A), &entries(Position::EMPTY, 1, 3), 3);
    bench.it.retain(1);
    assert!(bench.attempt(Action::BeginAlone));
    let commands = vec![Bytes::from_static(b"write"); 20];
    bench.rules(Input::Propose(commands));
    bench.rules(Input::Flushed { generation: 0, lsn: Lsn(23) });
    bench.rules(Input::Applied(Lsn(23)));
    let effects = bench.rules(Input::Checkpointed(Lsn(23)));
    assert!(effects.contains(&Effect::Trim { upto: Lsn(22) }), "{effects:?}");
    assert_eq!(bench.role(), RoleName::Primary);
}

#[test]
fn a_checkpoint_may_be_reported_before_what_it_holds() {
    let mut bench = Bench::start(A, solo(1, A), &entries(Position::EMPTY, 1, 3), 0);
    assert!(bench.attempt(Action::BeginAlone));
    bench.rules(Input::Checkpointed(Lsn(2)));
    assert_eq!(bench.it.status().applied, Lsn(2));
    bench.rules(Input::Checkpointed(Lsn(9))); // of a copy that is not reported as installed yet
    bench.rules(Input::Applied(Lsn(3)));
    assert_eq!(bench.it.status().applied, Lsn(3));
}

#[test]
fn a_solo_primary_names_nothing_that_a_crash_may_take_back() {
    let mut bench = Bench::start(A, pair(1), &entries(Position::EMPTY, 1, 1), 0);
    bench.wins_by_witness();
    assert_eq!(bench.role(), RoleName::Primary);
    bench.rules(Input::Propose(vec![Bytes::from_static(b"not durable yet")]));
    bench.rules(Input::PeerConnected);
    let named = bench.effects.iter().find_map(|effect| match effect {
        Effect::SendAppend { header, .. } => Some(header.previous.lsn),
        _ => None,
    });
    assert_eq!(named, Some(Lsn(1)));
}

#[test]
fn a_secondary_asks_again_from_no_further_back_than_it_may_differ() {
    // B has committed 3 of 5 entries of epoch 1; the primary has others of epoch 3 from the fourth on.
    let mine = entries(Position::EMPTY, 1, 5);
    let mut bench = Bench::start(B, pair(3), &mine, 3);
    let theirs = entries(mine[2].position(), 3, 2);
    let message = Message::Append { header: header(pair(3), end(&theirs), 5), entries: Vec::new() };
    let effects = bench.rules(Input::Message(message));
    let retry = effects.iter().find_map(|effect| match effect {
        Effect::Send(Message::Acknowledge(answer)) => answer.retry_from,
        _ => None,
    });
    assert_eq!(retry, Some(Lsn(4)));
}

#[test]
fn what_was_committed_is_never_truncated_but_called_another_history() {
    let mine = entries(Position::EMPTY, 1, 5);
    let mut bench = Bench::start(B, pair(3), &mine, 5);
    let theirs = entries(mine[2].position(), 3, 2);
    let message = Message::Append { header: header(pair(3), end(&theirs), 5), entries: Vec::new() };
    let effects = bench.rules(Input::Message(message));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Truncate { .. })), "{effects:?}");
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Explain(_))), "{effects:?}");
    assert!(
        !effects.iter().any(|effect| matches!(effect, Effect::Send(Message::Acknowledge(_)))),
        "{effects:?}"
    );
}

/// A header by which nothing is known to be dead: the primary's epoch began behind all that the secondary holds.
fn header_of_a_later_epoch(previous: Position, committed: u64) -> AppendHeader {
    AppendHeader { base: Lsn(5), committed: Lsn(committed), ..header(pair(3), previous, 5) }
}

#[test]
fn a_copy_replaces_dead_entries_but_never_shared_ones() {
    let mine = entries(Position::EMPTY, 1, 5);
    let shared = mine[4].position();
    let other = end(&entries(mine[2].position(), 2, 2));
    for (position, installed) in [(shared, false), (other, true)] {
        let mut bench = Bench::start(B, pair(3), &mine, 3);
        let header = header_of_a_later_epoch(mine[2].position(), 3);
        bench.rules(Input::Message(Message::Append { header, entries: Vec::new() }));
        assert_eq!(bench.it.status().last, shared, "nothing is cut");
        let effects = bench.rules(Input::SnapshotReceived { epoch: Epoch(3), position });
        let installs = effects.iter().any(|effect| matches!(effect, Effect::InstallSnapshot { .. }));
        assert_eq!(installs, installed, "{position}");
        assert_eq!(effects.contains(&Effect::DropSnapshot), !installed, "{position}");
    }
}

#[test]
fn entries_above_the_base_of_a_newer_epoch_are_cut_at_the_first_append() {
    let mine = entries(Position::EMPTY, 1, 5);
    let mut bench = Bench::start(B, pair(3), &mine, 3);
    let header = header(pair(3), mine[2].position(), 3);
    let effects = bench.rules(Input::Message(Message::Append { header, entries: Vec::new() }));
    assert!(
        effects.iter().any(|effect| matches!(effect, Effect::Truncate { last: Lsn(3), .. })),
        "dead, although nothing came in their place: {effects:?}"
    );
    assert_eq!(bench.it.status().last, mine[2].position());
}

/// The primary has committed 5 entries; that the fourth here is the same is not known before an append says so.
#[test]
fn a_secondary_applies_only_what_is_proved_equal() {
    let mine = entries(Position::EMPTY, 1, 5);
    let mut bench = Bench::start(B, pair(3), &mine, 2);
    for proved in [3, 5] {
        let header = header_of_a_later_epoch(mine[proved - 1].position(), 5);
        let effects = bench.rules(Input::Message(Message::Append { header, entries: Vec::new() }));
        let upto = Lsn(proved as u64);
        assert!(effects.contains(&Effect::Apply { upto }), "up to {upto}: {effects:?}");
    }
}

/// A primary that is alone and keeps one entry below its checkpoint; LSN 1 to 23 are committed, none is in a checkpoint.
fn primary_with_23_entries() -> Bench {
    let mut bench = Bench::start(A, solo(1, A), &entries(Position::EMPTY, 1, 3), 0);
    bench.it.retain(1);
    assert!(bench.attempt(Action::BeginAlone));
    bench.rules(Input::Propose(vec![Bytes::from_static(b"write"); 20]));
    bench.rules(Input::Flushed { generation: 0, lsn: Lsn(23) });
    bench.rules(Input::Applied(Lsn(23)));
    bench
}

#[test]
fn the_log_reaches_back_to_the_checkpoint() {
    let mut bench = primary_with_23_entries();
    let effects = bench.rules(Input::Checkpointed(Lsn(10)));
    assert!(effects.contains(&Effect::Trim { upto: Lsn(10) }), "{effects:?}");
}

/// The copy holds what was there when it began: what follows must be in the log when it has arrived.
#[test]
fn nothing_is_trimmed_while_a_copy_is_on_its_way() {
    let mut bench = primary_with_23_entries();
    bench.rules(Input::Checkpointed(Lsn(10)));
    bench.rules(Input::PeerConnected);
    let (status, sent) = (bench.it.status(), bench.now);
    let effects = bench.rules(Input::Message(Message::Acknowledge(Acknowledge {
        epoch: status.own.conf.epoch(),
        matched: Lsn(0),
        heartbeat: Heartbeat { life: LIFE, sent, promise: limits::PROMISE },
        retry_from: Some(Lsn(1)),
        disk: DISKS.b,
    })));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::SendSnapshot { .. })), "{effects:?}");
    let trims = |bench: &mut Bench, lsn| {
        let effects = bench.rules(Input::Checkpointed(lsn));
        effects.iter().any(|effect| matches!(effect, Effect::Trim { .. }))
    };
    assert!(!trims(&mut bench, Lsn(15)));
    bench.rules(Input::SnapshotSendEnded);
    assert!(trims(&mut bench, Lsn(16)));
}

#[test]
fn an_overtaken_answer_does_not_make_a_sound_secondary_look_damaged() {
    let mut bench = paired_primary();
    let late = bench.now;
    bench.pass(Duration::from_millis(1));
    let sent = bench.now;
    bench.acknowledged(2, sent);
    let status = bench.it.status();
    bench.rules(Input::Message(Message::Acknowledge(Acknowledge {
        epoch: status.own.conf.epoch(),
        matched: Lsn(0),
        heartbeat: Heartbeat { life: LIFE, sent: late, promise: limits::PROMISE },
        retry_from: Some(Lsn(1)),
        disk: DISKS.b,
    })));
    bench.step(Input::Tick);
    assert_eq!(bench.it.status().peer.matched, Lsn(2));
    assert!(
        !bench.effects.iter().any(|effect| matches!(effect, Effect::ReadWitness { .. })),
        "{:?}",
        bench.effects
    );
}
