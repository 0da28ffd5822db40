//! Bugs that exploration, simulation and review found, each as the shortest script that failed before its fix.

use bytes::Bytes;
use duet_protocol::{
    Acknowledge, Action, AppendHeader, Appliance, ApplianceId, ClusterId, Conf, DiskId, Duration, Effect,
    Entry, Epoch, Firm, Heartbeat, Input, Instant, Lsn, Message, OwnState, PerAppliance, Position,
    RecoveredLog, RoleName, Stamp, WitnessRead, WitnessRecord, WitnessWrite, limits,
};

const A: ApplianceId = ApplianceId::A;
const B: ApplianceId = ApplianceId::B;
const DISKS: PerAppliance<DiskId> = PerAppliance { a: DiskId(1), b: DiskId(2) };
const LIFE: u64 = 7;

fn pair(epoch: u64) -> Conf {
    Conf::pair(Epoch(epoch), A, DISKS)
}

fn solo(epoch: u64, appliance: ApplianceId) -> Conf {
    Conf::solo(Epoch(epoch), appliance, *DISKS.get(appliance))
}

/// `count` entries of `epoch` after `previous`.
fn entries(previous: Position, epoch: u64, count: u64) -> Vec<Entry> {
    let mut all: Vec<Entry> = Vec::new();
    for number in 0..count {
        let last = all.last().map_or(previous, Entry::position);
        all.push(Entry::following(&last, Epoch(epoch), Bytes::from(number.to_le_bytes().to_vec())));
    }
    all
}

fn end(entries: &[Entry]) -> Position {
    entries.last().map_or(Position::EMPTY, Entry::position)
}

/// An appliance under test, its clock, and what it wanted in its last step.
struct Bench {
    it: Appliance,
    now: Instant,
    effects: Vec<Effect>,
}

impl Bench {
    /// After a start with this configuration and log; everything up to `applied` is in its checkpoint. Its first promise is over.
    fn start(me: ApplianceId, conf: Conf, log: &[Entry], applied: u64) -> Self {
        let own =
            OwnState { conf, max_epoch: conf.epoch(), ..OwnState::blank(ClusterId(9), me, *DISKS.get(me)) };
        let stamps =
            log.iter().map(|entry| Stamp { epoch: entry.epoch, digest: entry.digest, bytes: 8 }).collect();
        let log = RecoveredLog { base: Position::EMPTY, stamps };
        let it = Appliance::recover(LIFE, own, log, Lsn(applied), Instant(0));
        let now = Instant(0).after(limits::PROMISE_MAX);
        Self { it, now, effects: Vec::new() }
    }

    /// Passes an input, and confirms the durable writes that it leads to. With duties.
    fn step(&mut self, input: Input) -> &[Effect] {
        self.drive(input, Appliance::step)
    }

    /// The same without duties.
    fn rules(&mut self, input: Input) -> &[Effect] {
        self.drive(input, Appliance::step_rules)
    }

    fn drive(
        &mut self,
        input: Input,
        door: fn(&mut Appliance, Instant, Input, &mut Vec<Effect>),
    ) -> &[Effect] {
        self.effects.clear();
        self.now = self.now.after(Duration::from_micros(1));
        door(&mut self.it, self.now, input, &mut self.effects);
        self.confirm_saves(door);
        &self.effects
    }

    fn attempt(&mut self, action: Action) -> bool {
        self.effects.clear();
        let done = self.it.attempt(self.now, action, &mut self.effects);
        self.confirm_saves(Appliance::step_rules);
        done
    }

    fn confirm_saves(&mut self, door: fn(&mut Appliance, Instant, Input, &mut Vec<Effect>)) {
        while matches!(self.effects.last(), Some(Effect::SaveState(_))) {
            door(&mut self.it, self.now, Input::StateSaved, &mut self.effects);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
    }

    fn role(&self) -> RoleName {
        self.it.status().role
    }

    /// The primary's acknowledgement by a sound secondary.
    fn acknowledged(&mut self, matched: u64, sent: Instant) {
        let status = self.it.status();
        self.rules(Input::Message(Message::Acknowledge(Acknowledge {
            epoch: status.own.conf.epoch(),
            matched: Lsn(matched),
            heartbeat: Heartbeat { life: LIFE, sent, promise: limits::PROMISE },
            retry_from: None,
            disk: *DISKS.get(status.appliance.peer()),
        })));
    }

    /// Answers the read of the witness that is under way.
    fn witness_says(&mut self, outcome: &WitnessRead) {
        let ticket = self.effects.iter().find_map(|effect| match effect {
            Effect::ReadWitness { ticket } => Some(*ticket),
            _ => None,
        });
        let ticket = ticket.unwrap_or_else(|| panic!("it reads the witness: {:?}", self.effects));
        self.rules(Input::WitnessRead { ticket, outcome: outcome.clone() });
    }

    /// The conditional write that is under way.
    fn conditional_write(&self) -> (u64, WitnessRecord) {
        let write = self.effects.iter().find_map(|effect| match effect {
            Effect::CompareAndSet { ticket, record, .. } => Some((*ticket, record.clone())),
            _ => None,
        });
        write.unwrap_or_else(|| panic!("it writes to the witness: {:?}", self.effects))
    }

    fn wins_by_witness(&mut self) {
        assert!(self.attempt(Action::Take));
        let conf = self.it.status().own.conf;
        self.witness_says(&WitnessRead::Record(record(conf)));
        let (ticket, _) = self.conditional_write();
        self.rules(Input::WitnessWritten { ticket, outcome: WitnessWrite::Swapped });
    }
}

fn record(conf: Conf) -> WitnessRecord {
    WitnessRecord {
        cluster: ClusterId(9),
        revision: 5,
        writer: A,
        conf,
        part: None,
        floor: PerAppliance::default(),
        left: PerAppliance::default(),
    }
}

fn header(conf: Conf, previous: Position, last: u64) -> AppendHeader {
    AppendHeader {
        conf,
        base: previous.lsn,
        previous,
        committed: Lsn(0),
        last: Lsn(last),
        heartbeat: Heartbeat { life: 3, sent: Instant(1), promise: limits::PROMISE },
        disk: *DISKS.get(conf.primary()),
    }
}

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
fn a_restarted_appliance_presumes_the_longest_promise_it_may_have_given() {
    let mut bench = Bench::start(A, solo(1, A), &[], 0);
    bench.now = Instant(0).after(limits::PROMISE);
    assert!(!bench.attempt(Action::BeginAlone), "an appliance may have promised more than the least");
    bench.now = Instant(0).after(limits::PROMISE_MAX);
    assert!(bench.attempt(Action::BeginAlone));
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

#[test]
fn a_copy_replaces_dead_entries_but_never_shared_ones() {
    let mine = entries(Position::EMPTY, 1, 5);
    let shared = mine[4].position();
    let other = end(&entries(mine[2].position(), 3, 2));
    for (position, installed) in [(shared, false), (other, true)] {
        let mut bench = Bench::start(B, pair(3), &mine, 3);
        bench.rules(Input::Message(Message::Append {
            header: header(pair(3), mine[2].position(), 5),
            entries: Vec::new(),
        }));
        let effects = bench.rules(Input::SnapshotReceived { epoch: Epoch(3), position });
        let installs = effects.iter().any(|effect| matches!(effect, Effect::InstallSnapshot { .. }));
        let cut = bench.it.status().last.lsn < Lsn(5);
        assert!(cut || installs == installed, "{position}");
    }
}

/// A primary of {A, B} whose secondary has everything.
fn paired_primary() -> Bench {
    let mut bench = Bench::start(A, pair(1), &entries(Position::EMPTY, 1, 2), 2);
    bench.wins_by_witness();
    bench.rules(Input::PeerConnected);
    let sent = bench.now;
    bench.acknowledged(2, sent);
    assert!(bench.attempt(Action::Close));
    assert!(bench.attempt(Action::Propose(duet_protocol::Agreement::Rejoin)));
    let Some(proposed) = bench.it.status().pending else { panic!("the rejoin is proposed") };
    bench.rules(Input::Message(Message::Stored(proposed)));
    let sent = bench.now;
    bench.acknowledged(2, sent);
    assert!(bench.it.status().own.conf.is_pair());
    bench
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
        Effect::ReadWitness { ticket } => Some(*ticket),
        _ => None,
    });
    bench.step(Input::WitnessRead { ticket: ticket.unwrap(), outcome: WitnessRead::Record(record(conf)) });
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
fn the_record_of_another_pair_is_an_answer() {
    let mut bench = Bench::start(A, solo(1, A), &entries(Position::EMPTY, 1, 2), 2);
    bench.step(Input::Tick);
    let ticket = bench.effects.iter().find_map(|effect| match effect {
        Effect::ReadWitness { ticket } => Some(*ticket),
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
    let mut bench = Bench { it, now: Instant(0).after(limits::PROMISE_MAX), effects: Vec::new() };
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
