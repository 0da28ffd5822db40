//! Who begins to serve, and when.

use duet_protocol::{
    Acknowledge, Action, Appliance, ClusterId, Conf, DiskId, Duration, Effect, Epoch, Firm, Input, Instant,
    Lsn, Message, OwnState, PerAppliance, Position, RecoveredLog, RoleName, WitnessRead, WitnessWrite,
    limits,
};

use crate::bench::{A, B, Bench, DISKS, LIFE, end, entries, header, pair, paired_primary, record, solo};

#[test]
fn a_promotion_that_is_won_after_the_stop_is_not_taken_up() {
    let mut bench = Bench::start(A, pair(1), &entries(Position::EMPTY, 1, 2), 0);
    assert!(bench.attempt(Action::Take));
    bench.witness_says(&WitnessRead::Record(record(pair(1))));
    let (ticket, _) = bench.conditional_write();
    bench.step(Input::Shutdown);
    bench.pass(limits::SHUTDOWN_WITNESS);
    assert!(bench.step(Input::Tick).contains(&Effect::Stop));
    bench.step(Input::WitnessWritten { ticket, outcome: WitnessWrite::Swapped });
    assert_eq!(bench.role(), RoleName::Stopped);
}

#[test]
fn a_restarted_appliance_presumes_the_longest_promise_it_may_have_given() {
    let mut bench = Bench::start(A, solo(1, A), &[], 0);
    bench.now = Instant(0).after(limits::PROMISE);
    assert!(!bench.attempt(Action::BeginAlone), "an appliance may have promised more than the least");
    bench.now = Instant(0).after(limits::PROMISE_MAX);
    assert!(bench.attempt(Action::BeginAlone));
}

/// A start that takes long to read its data waits for the rest of the promise only.
#[test]
fn a_promise_is_presumed_from_the_end_of_the_life_that_may_have_given_it() {
    for since_the_end in [limits::PROMISE, limits::PROMISE_MAX * 4] {
        let own = Bench::start(A, solo(1, A), &[], 0).it.status().own;
        let recovered = Instant(0).after(since_the_end);
        let log = RecoveredLog { base: Position::EMPTY, stamps: Vec::new() };
        let mut it = Appliance::recover(LIFE, own, log, Lsn(0), recovered);
        it.former_life_ended(Instant(0));
        let mut bench = Bench { it, now: recovered, effects: Vec::new(), revision: 5 };
        assert_eq!(bench.attempt(Action::BeginAlone), since_the_end > limits::PROMISE_MAX);
        bench.now = recovered.max(Instant(0).after(limits::PROMISE_MAX));
        assert!(bench.role() == RoleName::Primary || bench.attempt(Action::BeginAlone));
    }
}

#[test]
fn the_record_of_another_pair_is_an_answer() {
    let mut bench = Bench::start(A, solo(1, A), &entries(Position::EMPTY, 1, 2), 2);
    bench.step(Input::Tick);
    let ticket = bench.effects.iter().find_map(|effect| match effect {
        Effect::ReadWitness { ticket, .. } => Some(*ticket),
        _ => None,
    });
    bench.step(Input::WitnessRead { ticket: ticket.unwrap(), outcome: WitnessRead::Foreign });
    bench.pass(Duration::from_millis(1));
    bench.step(Input::Tick);
    let status = bench.it.status();
    assert_eq!(status.role, RoleName::Starting);
    assert!(status.waiting.is_some_and(|reason| reason.contains("another pair")));
}

#[test]
fn an_appliance_that_was_held_up_itself_does_not_blame_its_peer() {
    let mut bench = paired_primary();
    bench.step(Input::Tick);
    // It sleeps; the secondary's answers wait in the socket.
    bench.pass(Duration::from_secs(15));
    bench.step(Input::Tick);
    // It looks at the witness, as it does from time to time; it does not ask to be alone.
    let conf = bench.it.status().own.conf;
    bench.witness_says(&WitnessRead::Record(record(conf)));
    assert!(
        !bench.effects.iter().any(|effect| matches!(effect, Effect::CompareAndSet { .. })),
        "{:?}",
        bench.effects
    );
}

#[test]
fn a_handover_told_by_the_old_primary_needs_no_further_wait() {
    let log = entries(Position::EMPTY, 1, 2);
    let mut bench = Bench::start(B, pair(1), &log, 2);
    bench.rules(Input::Message(Message::Append {
        header: header(pair(1), end(&log), 2),
        entries: Vec::new(),
    }));
    let conf = solo(3, B);
    bench.rules(Input::Message(Message::Firm(Firm {
        conf,
        max_epoch: Epoch(3),
        position: end(&log),
        disk: DISKS.a,
        leaving: true,
        damaged: false,
        joined: true,
    })));
    assert_eq!(
        bench.role(),
        RoleName::Primary,
        "although it has just promised: the one it promised to is primary no more"
    );
}

/// A was alone and acknowledged writes, then its disk was replaced: the blank one must not agree that B, which knows nothing
/// of those writes, begins.
#[test]
fn a_blank_disk_in_an_old_ones_place_vouches_for_nothing() {
    const SPARE: DiskId = DiskId(77);
    let blank = OwnState::blank(ClusterId(9), A, SPARE);
    let log = RecoveredLog { base: Position::EMPTY, stamps: Vec::new() };
    let it = Appliance::recover(LIFE, blank, log, Lsn(0), Instant(0));
    let mut bench =
        Bench { it, now: Instant(0).after(limits::PROMISE_MAX), effects: Vec::new(), revision: 5 };
    let propose = |conf, base| Message::Propose(duet_protocol::Proposal { conf, base, position: None });
    let agrees =
        |bench: &Bench| bench.effects.iter().any(|it| matches!(it, Effect::Send(Message::Stored(_))));
    for base in [pair(1), solo(2, B)] {
        bench.rules(Input::Message(propose(solo(4, B), base)));
        assert!(!agrees(&bench), "from {base}: {:?}", bench.effects);
    }
    let let_in = Conf::pair(Epoch(6), B, PerAppliance { a: SPARE, b: DISKS.b });
    bench.rules(Input::Message(propose(let_in, solo(2, B))));
    assert!(agrees(&bench), "B was alone: it may let the new disk in: {:?}", bench.effects);
    bench.rules(Input::Message(propose(solo(8, B), let_in)));
    assert!(bench.it.status().own.joined && agrees(&bench), "from then on it remembers");
}

/// The other side of the same: B does not count on such a peer, and says so.
#[test]
fn a_peer_with_a_new_disk_is_no_reason_to_begin() {
    let log = entries(Position::EMPTY, 1, 2);
    let mut bench = Bench::start(B, pair(1), &log, 2);
    bench.step(Input::PeerConnected);
    bench.witness_says(&WitnessRead::Unknown);
    bench.step(Input::Message(Message::Firm(Firm {
        conf: pair(1),
        max_epoch: Epoch(1),
        position: Position::EMPTY,
        disk: DiskId(77),
        leaving: false,
        damaged: false,
        joined: false,
    })));
    let status = bench.it.status();
    assert!(status.pending.is_none(), "{:?}", bench.effects);
    assert!(status.waiting.is_some_and(|why| why.contains("new data directory")));
}

#[test]
fn a_look_while_the_promise_runs_does_not_delay_the_promotion() {
    let log = entries(Position::EMPTY, 1, 2);
    let mut bench = Bench::start(B, pair(1), &log, 2);
    let beat = Message::Append { header: header(pair(1), end(&log), 2), entries: Vec::new() };
    bench.rules(Input::PeerConnected);
    bench.rules(Input::Message(beat));
    // The primary's process is killed: the connection ends at once, the promise binds for a while yet.
    bench.step(Input::PeerDisconnected);
    bench.witness_says(&WitnessRead::Record(record(pair(1))));
    bench.pass(limits::PROMISE);
    let effects = bench.step(Input::Tick);
    assert!(
        effects.iter().any(|effect| matches!(effect, Effect::ReadWitness { .. })),
        "the attempt begins as soon as the promise is over: {effects:?}"
    );
}

#[test]
fn a_peer_far_away_is_asked_for_a_longer_promise() {
    let mut bench = paired_primary();
    let round_trip = Duration::from_millis(80);
    let mut held = Vec::new();
    for _ in 0..20 {
        bench.pass(limits::HEARTBEAT);
        let heartbeat = bench.step(Input::Tick).iter().find_map(|effect| match effect {
            Effect::SendAppend { header, .. } => Some(header.heartbeat),
            _ => None,
        });
        let Some(heartbeat) = heartbeat else { continue };
        held.push(heartbeat.promise);
        bench.pass(round_trip);
        let status = bench.it.status();
        bench.rules(Input::Message(Message::Acknowledge(Acknowledge {
            epoch: status.own.conf.epoch(),
            matched: status.last.lsn,
            heartbeat,
            retry_from: None,
            disk: *DISKS.get(status.appliance.peer()),
        })));
    }
    let (first, last) = (held[0], *held.last().unwrap());
    assert!(first < last, "{first:?} {last:?}");
    assert!(last > round_trip + limits::HEARTBEAT * 2 && last <= limits::PROMISE_MAX, "{last:?}");
    assert!(bench.it.status().serves_reads, "although an answer takes nearly as long as the least promise");
}

#[test]
fn a_lease_is_no_longer_than_the_promise_that_it_rests_on() {
    let mut bench = paired_primary();
    assert!(bench.it.status().serves_reads);
    bench.pass(limits::PROMISE);
    bench.rules(Input::Tick);
    assert!(!bench.it.status().serves_reads, "the secondary may be primary by now");
}

/// An answer that comes late belongs to a request that was given up; what it says is of another time.
#[test]
fn only_the_answer_to_the_present_request_to_the_witness_counts() {
    let mut bench = Bench::start(A, pair(1), &entries(Position::EMPTY, 1, 2), 2);
    assert!(bench.attempt(Action::Take));
    let read = bench.effects.iter().find_map(|effect| match effect {
        Effect::ReadWitness { ticket, .. } => Some(*ticket),
        _ => None,
    });
    let (ticket, outcome) = (read.unwrap(), WitnessRead::Record(record(pair(1))));
    bench.rules(Input::WitnessRead { ticket: ticket - 1, outcome: outcome.clone() });
    let writes = |effect: &Effect| matches!(effect, Effect::CompareAndSet { .. });
    assert!(!bench.effects.iter().any(writes), "{:?}", bench.effects);
    bench.rules(Input::WitnessRead { ticket, outcome });
    let (ticket, _) = bench.conditional_write();
    bench.rules(Input::WitnessWritten { ticket: ticket - 1, outcome: WitnessWrite::Swapped });
    assert_ne!(bench.role(), RoleName::Primary);
    bench.rules(Input::WitnessWritten { ticket, outcome: WitnessWrite::Swapped });
    assert_eq!(bench.role(), RoleName::Primary);
}
