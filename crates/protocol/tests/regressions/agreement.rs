//! Letting the peer go, taking it in, handing over, refilling the witness.

use bytes::Bytes;
use duet_protocol::{
    Acknowledge, Action, Agreement, Conf, Duration, Effect, Epoch, Firm, Heartbeat, Input, Lsn, Message,
    Position, Proposal, RoleName, WitnessRead, WitnessRecord, WitnessWrite, limits,
};

use crate::bench::{A, B, Bench, DISKS, LIFE, entries, pair, paired_primary, record, solo};

/// Trap 5: what was computed from an older configuration may take back what happened since.
#[test]
fn only_what_was_computed_from_the_configuration_in_force_is_agreed_to() {
    let propose = |base| Proposal { conf: solo(9, B), base, position: None };
    for (base, is_agreed) in [(pair(3), false), (solo(4, B), false), (pair(5), true)] {
        let mut bench = Bench::start(A, pair(5), &entries(Position::EMPTY, 1, 2), 2);
        bench.rules(Input::Message(Message::Propose(propose(base))));
        let stored = Effect::Send(Message::Stored(solo(9, B)));
        assert_eq!(bench.effects.contains(&stored), is_agreed, "from {base}: {:?}", bench.effects);
    }
}

#[test]
fn a_switchover_whose_peer_goes_away_leaves_a_serving_primary() {
    let mut bench = paired_primary();
    bench.step(Input::Switchover);
    bench.step(Input::PeerDisconnected);
    bench.pass(limits::WITNESS_RETRY);
    bench.step(Input::Tick);
    let conf = bench.it.status().own.conf;
    let ticket = bench.effects.iter().find_map(|effect| match effect {
        Effect::ReadWitness { ticket, .. } => Some(*ticket),
        _ => None,
    });
    let later = WitnessRecord { revision: 90, ..record(conf) };
    bench.step(Input::WitnessRead { ticket: ticket.unwrap(), outcome: WitnessRead::Record(later) });
    let (ticket, _) = bench.conditional_write();
    bench.step(Input::WitnessWritten { ticket, outcome: WitnessWrite::Swapped });
    for _ in 0..20 {
        bench.pass(Duration::from_millis(100));
        bench.step(Input::Tick);
    }
    let status = bench.it.status();
    assert_eq!(status.role, RoleName::Primary);
    assert!(!status.own.has_parted() && !status.leaving);
}

#[test]
fn a_primary_hands_over_only_to_a_secondary_that_has_its_whole_log() {
    let mut bench = paired_primary();
    bench.rules(Input::Propose(vec![Bytes::from_static(b"not yet there")]));
    bench.rules(Input::Flushed { generation: 0, lsn: Lsn(3) });
    assert!(!bench.attempt(Action::Propose(Agreement::Handover)));
    let sent = bench.now;
    bench.acknowledged(3, sent);
    assert!(bench.attempt(Action::Propose(Agreement::Handover)));
}

#[test]
fn after_a_switchover_the_old_primary_is_an_ordinary_follower_at_once() {
    let mut bench = paired_primary();
    bench.step(Input::Switchover);
    let proposed = bench.it.status().pending.unwrap();
    assert_eq!(proposed.primary(), B);
    bench.step(Input::Message(Message::Stored(proposed)));
    let status = bench.it.status();
    assert_eq!((status.role, status.leaving), (RoleName::Starting, false));
}

#[test]
fn a_proposed_leave_is_seen_through_although_the_peer_is_back() {
    let mut bench = paired_primary();
    bench.step(Input::Message(Message::Leave));
    let proposed = bench.it.status().pending.unwrap();
    assert!(proposed.is_solo());
    // The hint has worn off, the peer acknowledges again: it may hold the tent all the same.
    for _ in 0..20 {
        bench.pass(Duration::from_millis(50));
        let sent = bench.now;
        bench.acknowledged(2, sent);
        bench.step(Input::Tick);
    }
    let pending = bench.it.status().pending;
    let asked = bench.effects.iter().any(|effect| matches!(effect, Effect::ReadWitness { .. }));
    assert!(pending == Some(proposed) || asked, "{pending:?}");
}

#[test]
fn a_stray_hint_of_leaving_wears_off() {
    let mut bench = paired_primary();
    bench.rules(Input::Message(Message::Leave));
    assert!(bench.it.status().peer.leaving);
    bench.pass(limits::MISS);
    bench.rules(Input::Tick);
    assert!(!bench.it.status().peer.leaving);
}

#[test]
fn an_empty_witness_is_refilled_only_under_a_newer_agreement() {
    let mut bench = paired_primary();
    assert!(bench.attempt(Action::Look));
    bench.witness_says(&WitnessRead::Absent);
    assert!(!bench.attempt(Action::Refill), "the peer may have been promoted since this pair was agreed");
    assert!(bench.attempt(Action::Propose(duet_protocol::Agreement::Rejoin)), "so the agreement is renewed");
    let proposed = bench.it.status().pending.unwrap();
    bench.rules(Input::Message(Message::Stored(proposed)));
    assert!(bench.attempt(Action::Refill));
    let ticket = bench.effects.iter().find_map(|effect| match effect {
        Effect::CreateRecord { ticket, .. } => Some(*ticket),
        _ => None,
    });
    bench.rules(Input::WitnessWritten { ticket: ticket.unwrap(), outcome: WitnessWrite::Mismatch });
    assert!(!bench.attempt(Action::Refill), "there is a record after all: it is read, not created again");
}

#[test]
fn a_damaged_secondary_is_let_go_by_agreement_while_the_witness_is_empty() {
    let mut bench = paired_primary();
    assert!(bench.attempt(Action::Look));
    bench.witness_says(&WitnessRead::Absent);
    // After a new connection it turns out to lack what it had acknowledged.
    bench.rules(Input::PeerDisconnected);
    bench.rules(Input::PeerConnected);
    bench.pass(limits::HEARTBEAT);
    let (status, sent) = (bench.it.status(), bench.now);
    bench.rules(Input::Message(Message::Acknowledge(Acknowledge {
        epoch: status.own.conf.epoch(),
        matched: Lsn(0),
        heartbeat: Heartbeat { life: LIFE, sent, promise: limits::PROMISE },
        retry_from: Some(Lsn(1)),
        disk: DISKS.b,
    })));
    bench.step(Input::Tick);
    let pending = bench.it.status().pending;
    assert!(pending.is_some_and(|conf| conf.is_solo()), "{pending:?} {:?}", bench.effects);
}

/// What a primary has proposed in its last step.
fn proposed(bench: &Bench) -> Option<Conf> {
    bench.effects.iter().find_map(|effect| match effect {
        Effect::Send(Message::Propose(proposal)) => Some(proposal.conf),
        _ => None,
    })
}

/// The offer to let the peer go was lost, and the witness does not answer: it must be made again for as long as it takes, since
/// it is never taken back.
#[test]
fn letting_the_peer_go_is_proposed_again_and_again() {
    let mut bench = paired_primary();
    bench.step(Input::Message(Message::Leave));
    let first = proposed(&bench).expect("it lets the peer go");
    for _ in 0..5 {
        bench.pass(limits::MISS);
        let sent = bench.now;
        bench.acknowledged(2, sent);
        bench.step(Input::Tick);
        assert_eq!(proposed(&bench), Some(first), "{:?}", bench.effects);
    }
}

/// The peer knows of a higher epoch, so it refuses the offer: another is made above it.
#[test]
fn letting_the_peer_go_goes_above_the_epochs_the_peer_knows() {
    let mut bench = paired_primary();
    bench.step(Input::Message(Message::Leave));
    assert!(proposed(&bench).is_some());
    bench.step(Input::Message(Message::Firm(Firm {
        conf: pair(1),
        max_epoch: Epoch(20),
        position: Position::EMPTY,
        disk: DISKS.b,
        leaving: true,
        damaged: false,
        joined: true,
    })));
    let second = proposed(&bench).expect("it is proposed anew");
    assert!(second.epoch() > Epoch(20) && second.is_solo(), "{second}");
}
