//! Another witness, and one that was set back: who may take where, and what is made good when.

use duet_protocol::{
    Action, Agreement, Conf, Effect, Firm, Input, Message, Position, Proposal, RoleName, WitnessId,
    WitnessRead, WitnessWrite, limits,
};

use crate::bench::{A, B, Bench, DISKS, end, entries, header, pair, paired_primary, record, solo};

const NEW: WitnessId = WitnessId(1);

/// B, in sync by the pair of epoch 1, has agreed to this.
fn b_that_agreed(conf: Conf) -> Bench {
    let mut bench = Bench::start(B, pair(1), &entries(Position::EMPTY, 1, 2), 2);
    bench.rules(Input::PeerConnected);
    propose(&mut bench, conf, pair(1));
    assert_eq!(bench.it.status().own.tent, Some(conf));
    bench
}

fn propose(bench: &mut Bench, conf: Conf, base: Conf) {
    bench.rules(Input::Message(Message::Propose(Proposal { conf, base, position: None })));
}

fn asks_to_be_primary(bench: &mut Bench, found: Conf) -> bool {
    assert!(bench.attempt(Action::Take));
    bench.witness_says(&WitnessRead::Record(record(found)));
    bench.effects.iter().any(|effect| matches!(effect, Effect::CompareAndSet { .. }))
}

/// A may have stored what it proposed, and then only the new witness counts; or dropped it, and then only the old one.
#[test]
fn who_agreed_to_another_witness_takes_nowhere_before_it_knows_the_outcome() {
    let mut bench = b_that_agreed(pair(3).at(NEW));
    bench.rules(Input::PeerDisconnected);
    assert!(!asks_to_be_primary(&mut bench, pair(1)), "an old record at the new witness says nothing");
    bench.step(Input::Tick);
    bench.pass(limits::MISS);
    bench.step(Input::Tick);
    let waiting = bench.it.status().waiting.unwrap_or_default();
    assert!(waiting.contains("agreed to another witness"), "{waiting:?}");
}

#[test]
fn it_asks_the_new_witness_and_learns_there_that_the_move_is_in_force() {
    let mut bench = b_that_agreed(pair(3).at(NEW));
    assert!(bench.attempt(Action::Take));
    let asked = bench.effects.iter().find_map(|effect| match effect {
        Effect::ReadWitness { witness, .. } => Some(*witness),
        _ => None,
    });
    assert_eq!(asked, Some(NEW));
    bench.witness_says(&WitnessRead::Record(record(pair(3).at(NEW))));
    assert_eq!(bench.it.status().own.conf, pair(3).at(NEW));
    assert!(asks_to_be_primary(&mut bench, pair(3).at(NEW)));
    let (_, taken) = bench.conditional_write();
    assert_eq!(taken.conf.witness(), NEW);
}

#[test]
fn it_is_free_again_when_the_pair_is_renewed_with_the_old_witness() {
    let mut bench = b_that_agreed(pair(3).at(NEW));
    propose(&mut bench, pair(5), pair(1));
    assert_eq!(
        bench.it.status().own.tent,
        Some(pair(5)),
        "one base, a later proposal: the first was dropped"
    );
    bench.rules(Input::PeerDisconnected);
    assert!(asks_to_be_primary(&mut bench, pair(1)));
}

#[test]
fn or_when_the_other_tells_what_is_in_force() {
    let mut bench = b_that_agreed(pair(3).at(NEW));
    let firm = Firm {
        conf: pair(3).at(NEW),
        max_epoch: pair(3).epoch(),
        position: end(&entries(Position::EMPTY, 1, 2)),
        disk: DISKS.a,
        leaving: false,
        damaged: false,
        joined: true,
    };
    bench.rules(Input::Message(Message::Firm(firm)));
    assert!(asks_to_be_primary(&mut bench, pair(1)), "an older record at the witness in use is no hindrance");
}

/// Or B, which holds the proposal, could not go on by itself if A failed later.
#[test]
fn whoever_drops_the_move_renews_the_pair() {
    let mut bench = paired_primary();
    let before = bench.it.status().own.conf;
    assert!(!bench.attempt(Action::Propose(Agreement::Rejoin)), "nothing is to be renewed");
    assert!(bench.attempt(Action::Propose(Agreement::Move(NEW))));
    assert!(bench.attempt(Action::Cancel));
    bench.step(Input::Tick);
    let renewal = bench.it.status().pending.expect("it renews the pair by itself");
    assert!(renewal.is_pair() && renewal.witness() == before.witness(), "{renewal}");
    bench.rules(Input::Message(Message::Stored(renewal)));
    bench.step(Input::Tick);
    assert_eq!((bench.it.status().own.conf, bench.it.status().pending), (renewal, None), "once is enough");
}

#[test]
fn a_move_goes_its_way_by_itself_and_what_was_asked_of_the_old_witness_is_void() {
    let mut bench = paired_primary();
    assert!(bench.attempt(Action::Look));
    let (asked, late) = (bench.read(), bench.it.status().own.conf);
    bench.step(Input::MoveWitness(NEW));
    let proposed = bench.it.status().pending.expect("it proposes");
    assert_eq!(proposed.witness(), NEW);
    bench.step(Input::Message(Message::Stored(proposed)));
    let status = bench.it.status();
    assert_eq!((status.own.conf, status.witness), (proposed, None), "what the old one said is forgotten");
    // It brings the new one up to date, at once.
    let asks_anew = bench.read();
    bench.step(Input::WitnessRead { ticket: asked, outcome: WitnessRead::Record(record(late)) });
    assert_eq!((bench.it.status().witness, bench.it.status().moving), (None, None));
    bench.rules(Input::WitnessRead { ticket: asks_anew, outcome: WitnessRead::Record(record(late)) });
    assert_eq!(bench.conditional_write().1.conf, proposed);
}

#[test]
fn a_move_that_finds_no_answer_is_given_up() {
    let mut bench = paired_primary();
    let before = bench.it.status().own.conf;
    bench.step(Input::MoveWitness(NEW));
    let proposed = bench.it.status().pending.expect("it proposes");
    let sent = bench.now;
    bench.pass(limits::MOVE);
    bench.acknowledged(2, sent);
    bench.step(Input::Tick);
    bench.step(Input::Tick);
    let status = bench.it.status();
    assert_eq!((status.moving, status.own.conf), (None, before));
    assert!(
        status.pending.is_some_and(|pending| pending.epoch() > proposed.epoch() && pending.witness() < NEW)
    );
}

#[test]
fn only_a_pair_moves_and_never_back_to_a_former_witness() {
    let mut alone = Bench::start(A, solo(3, A), &[], 0);
    assert!(alone.attempt(Action::BeginAlone));
    assert!(!alone.attempt(Action::Propose(Agreement::Move(NEW))));
    alone.step(Input::MoveWitness(NEW));
    assert_eq!(alone.it.status().moving, None);
    let mut bench = paired_primary();
    assert!(!bench.attempt(Action::Propose(Agreement::Move(WitnessId::FIRST))));
    let mut follower = Bench::start(B, pair(1).at(NEW), &[], 0);
    propose(&mut follower, pair(3), pair(1).at(NEW));
    assert_eq!(follower.it.status().own.tent, None, "no agreement leads back");
    let mut follower = Bench::start(B, solo(1, A), &[], 0);
    propose(&mut follower, pair(3).at(NEW), solo(1, A));
    assert_eq!(follower.it.status().own.tent, None, "one that is let in does not move at the same time");
}

/// What the peer has written there since that copy was made is lost with the rest: it may have gone on.
#[test]
fn a_primary_does_not_take_at_a_witness_that_was_set_back() {
    let mut bench = paired_primary();
    let conf = bench.it.status().own.conf;
    assert!(bench.attempt(Action::Look));
    bench.witness_says(&WitnessRead::Record(record(conf)));
    bench.revision = 5;
    assert!(!asks_to_be_primary(&mut bench, pair(1)));
    assert!(bench.it.status().witness_set_back);
    // The renewed pair makes all void that the peer may have asked: then it is made good.
    assert!(bench.attempt(Action::Propose(Agreement::Rejoin)));
    let renewed = bench.it.status().pending.expect("it is proposed");
    bench.rules(Input::Message(Message::Stored(renewed)));
    assert!(bench.attempt(Action::Sync));
    bench.revision = 5;
    bench.witness_says(&WitnessRead::Record(record(pair(1))));
    let (ticket, healed) = bench.conditional_write();
    assert_eq!(healed.conf, renewed);
    assert!(healed.revision > 15, "above all that was seen");
    bench.rules(Input::WitnessWritten { ticket, outcome: WitnessWrite::Swapped });
    assert!(!bench.it.status().witness_set_back);
}

#[test]
fn a_follower_waits_when_the_witness_was_set_back() {
    let mut bench = Bench::start(B, pair(1), &entries(Position::EMPTY, 1, 2), 2);
    bench.revision = 50;
    assert!(bench.attempt(Action::Look));
    bench.witness_says(&WitnessRead::Record(record(pair(1))));
    bench.revision = 5;
    assert!(!asks_to_be_primary(&mut bench, pair(1)));
    bench.step(Input::Tick);
    let waiting = bench.it.status().waiting.unwrap_or_default();
    assert!(waiting.contains("set back") && bench.role() == RoleName::Starting, "{waiting:?}");
    // A primary that comes is followed all the same.
    bench.rules(Input::PeerConnected);
    bench.step(Input::Message(Message::Append {
        header: header(pair(1), end(&entries(Position::EMPTY, 1, 2)), 2),
        entries: Vec::new(),
    }));
    assert_eq!(bench.role(), RoleName::Secondary);
}
