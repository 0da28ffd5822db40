//! What is written at the witness: notes, floors, and the record of one that was emptied.

use duet_protocol::{
    Action, Agreement, Effect, Input, Lsn, Message, Note, PerAppliance, Position, RoleName, WitnessRead,
    WitnessRecord, WitnessWrite, limits,
};

use crate::bench::{A, B, Bench, end, entries, header, pair, paired_primary, record, solo};

/// Answers the conditional write that is under way.
fn witness_takes_it(bench: &mut Bench) {
    let (ticket, _) = bench.conditional_write();
    bench.rules(Input::WitnessWritten { ticket, outcome: WitnessWrite::Swapped });
}

/// The record by which an empty witness is filled, if it is.
fn refilled(bench: &mut Bench) -> Option<WitnessRecord> {
    bench.attempt(Action::Refill);
    bench.effects.iter().find_map(|effect| match effect {
        Effect::CreateRecord { record, .. } => Some(record.clone()),
        _ => None,
    })
}

/// Proposes it, and has the peer agree.
fn agree(bench: &mut Bench, agreement: Agreement) {
    assert!(bench.attempt(Action::Propose(agreement)));
    let proposed = bench.it.status().pending.expect("it is proposed");
    bench.rules(Input::Message(Message::Stored(proposed)));
    assert_eq!(bench.it.status().own.conf, proposed);
}

/// B's request to be primary is on its way when A, whom it then follows, sends it a full copy. Under a half installed copy
/// nobody may serve; what was won meanwhile counts once the copy is there.
#[test]
fn a_promotion_won_while_a_copy_is_installed_waits_for_its_end() {
    let mut bench = Bench::start(B, pair(1), &entries(Position::EMPTY, 1, 2), 2);
    assert!(bench.attempt(Action::Take));
    bench.witness_says(&WitnessRead::Record(record(pair(1))));
    let (ticket, _) = bench.conditional_write();
    let copy = end(&entries(Position::EMPTY, 1, 10));
    bench.rules(Input::Message(Message::Append { header: header(pair(1), copy, 10), entries: Vec::new() }));
    let effects = bench.rules(Input::SnapshotReceived { epoch: pair(1).epoch(), position: copy });
    assert!(effects.iter().any(|effect| matches!(effect, Effect::InstallSnapshot { .. })), "{effects:?}");
    bench.pass(limits::PROMISE_MAX);
    bench.rules(Input::WitnessWritten { ticket, outcome: WitnessWrite::Swapped });
    assert_eq!(bench.it.status().own.conf, solo(2, B), "it has won");
    assert_ne!(bench.role(), RoleName::Primary, "and does not begin yet");
    assert!(!bench.attempt(Action::BeginAlone));
    bench.rules(Input::SnapshotInstalled(copy));
    assert!(bench.attempt(Action::BeginAlone));
    assert_eq!((bench.role(), bench.it.status().last), (RoleName::Primary, copy));
}

/// A leaves a note while it offers to hand over, the peer goes away, and A shuts down as one that is alone. It has parted on
/// its own disk, so it cannot begin alone later: it may not stop before the witness has that, too.
#[test]
fn a_note_of_before_is_no_reason_to_stop_before_the_parting_is_at_the_witness() {
    let mut bench = paired_primary();
    let conf = bench.it.status().own.conf;
    bench.step(Input::Shutdown);
    bench.pass(limits::WITNESS_RETRY);
    bench.step(Input::Tick);
    bench.witness_says(&WitnessRead::Record(record(conf)));
    witness_takes_it(&mut bench);
    bench.step(Input::PeerDisconnected);
    bench.pass(limits::WITNESS_RETRY);
    bench.step(Input::Tick);
    bench.witness_says(&WitnessRead::Record(record(conf)));
    witness_takes_it(&mut bench);
    let alone = bench.it.status().own.conf;
    assert!(alone.is_solo(), "the peer is let go by the witness: {alone}");
    bench.pass(limits::WITNESS_RETRY);
    bench.step(Input::Tick);
    bench.witness_says(&WitnessRead::Record(record(alone)));
    let (ticket, parting) = bench.conditional_write();
    assert!(parting.part.is_some() && bench.it.status().own.has_parted());
    let effects = bench.step(Input::Tick);
    assert!(!effects.contains(&Effect::Stop), "the witness has not answered: {effects:?}");
    let effects = bench.step(Input::WitnessWritten { ticket, outcome: WitnessWrite::Swapped });
    assert!(effects.contains(&Effect::Stop), "{effects:?}");
}

/// R4: a former primary's note goes when its successor writes, a secondary's when it is back in sync; else it stays.
#[test]
fn notes_are_cleared_by_a_successor_and_by_coming_back() {
    let note = |was_primary| Some(Note { position: Position::EMPTY, was_primary });
    let left_after = |bench: &mut Bench, left| {
        assert!(bench.attempt(Action::Sync));
        let older = WitnessRecord { left: PerAppliance { a: None, b: left }, ..record(pair(1)) };
        bench.witness_says(&WitnessRead::Record(older));
        bench.conditional_write().1.left.b
    };
    let alone = || {
        let mut bench = Bench::start(A, solo(3, A), &[], 0);
        assert!(bench.attempt(Action::BeginAlone));
        bench
    };
    assert_eq!(left_after(&mut alone(), note(true)), None, "succeeded");
    assert_eq!(left_after(&mut alone(), note(false)), note(false), "still away");
    assert_eq!(left_after(&mut paired_primary(), note(false)), None, "back in sync");
}

/// The witness has told A that its disk lost writes, and is emptied. A knows it all the same.
#[test]
fn a_damaged_disk_stays_damaged_when_the_record_that_told_so_is_lost() {
    let mut bench = Bench::start(A, solo(1, A), &entries(Position::EMPTY, 1, 2), 2);
    let floor = PerAppliance { a: Lsn(3), b: Lsn(0) };
    assert!(bench.attempt(Action::Look));
    bench.witness_says(&WitnessRead::Record(WitnessRecord { floor, ..record(solo(1, A)) }));
    assert!(bench.it.status().damaged && !bench.attempt(Action::BeginAlone));
    assert!(bench.attempt(Action::Look));
    bench.witness_says(&WitnessRead::Absent);
    assert!(bench.it.status().damaged && !bench.attempt(Action::BeginAlone));
}

/// A TAKE may be carried out long after it was sent, when its author follows another and was truncated: what it had not
/// committed may be gone by then, and a floor there would call a sound disk damaged.
#[test]
fn a_floor_holds_only_what_was_committed() {
    let mut bench = Bench::start(B, pair(1), &entries(Position::EMPTY, 1, 3), 1);
    assert!(bench.attempt(Action::Take));
    bench.witness_says(&WitnessRead::Record(record(pair(1))));
    assert_eq!(bench.conditional_write().1.floor, PerAppliance { a: Lsn(0), b: Lsn(1) });
}

/// Alone is no case of its own: it waits until the other is back in sync.
#[test]
fn an_empty_witness_is_refilled_by_a_pair_only() {
    let mut bench = paired_primary();
    assert!(bench.attempt(Action::Look));
    bench.witness_says(&WitnessRead::Absent);
    agree(&mut bench, Agreement::Leave);
    assert_eq!(refilled(&mut bench), None, "although it is newer than the loss");
    let sent = bench.now;
    bench.acknowledged(2, sent);
    assert!(bench.attempt(Action::Close));
    agree(&mut bench, Agreement::Rejoin);
    let conf = bench.it.status().own.conf;
    assert_eq!(refilled(&mut bench).map(|record| record.conf), Some(conf));
}

/// The peer may have a conditional write under way for any revision it has seen: it must not match the new record.
#[test]
fn a_refilled_witness_repeats_no_revision() {
    let mut bench = paired_primary();
    let seen = bench.it.status().witness.expect("it has won by the witness").0.revision;
    assert!(bench.attempt(Action::Look));
    bench.witness_says(&WitnessRead::Absent);
    agree(&mut bench, Agreement::Rejoin);
    let revision = refilled(&mut bench).expect("the agreement is newer than the loss").revision;
    assert!(revision >= seen + limits::REFILL_GAP, "{revision} after {seen}");
}
