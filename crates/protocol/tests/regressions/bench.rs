//! An appliance alone on the bench, with everything around it played.

use bytes::Bytes;
use duet_protocol::{
    Acknowledge, Action, Agreement, AppendHeader, Appliance, ApplianceId, ClusterId, Conf, DiskId, Duration,
    Effect, Entry, Epoch, Heartbeat, Input, Instant, Lsn, Message, OwnState, PerAppliance, Position,
    RecoveredLog, RoleName, Stamp, WitnessRead, WitnessRecord, WitnessWrite, limits,
};

pub const A: ApplianceId = ApplianceId::A;
pub const B: ApplianceId = ApplianceId::B;
pub const DISKS: PerAppliance<DiskId> = PerAppliance { a: DiskId(1), b: DiskId(2) };
pub const LIFE: u64 = 7;

pub fn pair(epoch: u64) -> Conf {
    Conf::pair(Epoch(epoch), A, DISKS)
}

pub fn solo(epoch: u64, appliance: ApplianceId) -> Conf {
    Conf::solo(Epoch(epoch), appliance, *DISKS.get(appliance))
}

/// `count` entries of `epoch` after `previous`.
pub fn entries(previous: Position, epoch: u64, count: u64) -> Vec<Entry> {
    let mut all: Vec<Entry> = Vec::new();
    for number in 0..count {
        let last = all.last().map_or(previous, Entry::position);
        all.push(Entry::following(&last, Epoch(epoch), Bytes::from(number.to_le_bytes().to_vec())));
    }
    all
}

pub fn end(entries: &[Entry]) -> Position {
    entries.last().map_or(Position::EMPTY, Entry::position)
}

/// An appliance under test, its clock, and what it wanted in its last step.
pub struct Bench {
    pub it: Appliance,
    pub now: Instant,
    pub effects: Vec<Effect>,
    /// Of the witness's next record: every one is a later one.
    pub revision: u64,
}

impl Bench {
    /// After a start with this configuration and log; everything up to `applied` is in its checkpoint. Its first promise is over.
    pub fn start(me: ApplianceId, conf: Conf, log: &[Entry], applied: u64) -> Self {
        let own =
            OwnState { conf, max_epoch: conf.epoch(), ..OwnState::blank(ClusterId(9), me, *DISKS.get(me)) };
        let stamps =
            log.iter().map(|entry| Stamp { epoch: entry.epoch, digest: entry.digest, bytes: 8 }).collect();
        let log = RecoveredLog { base: Position::EMPTY, stamps };
        let it = Appliance::recover(LIFE, own, log, Lsn(applied), Instant(0));
        let now = Instant(0).after(limits::PROMISE_MAX);
        Self { it, now, effects: Vec::new(), revision: 5 }
    }

    /// Passes an input, and confirms the durable writes that it leads to. With duties.
    pub fn step(&mut self, input: Input) -> &[Effect] {
        self.drive(input, Appliance::step)
    }

    /// The same without duties.
    pub fn rules(&mut self, input: Input) -> &[Effect] {
        self.drive(input, Appliance::step_rules)
    }

    pub fn drive(
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

    pub fn attempt(&mut self, action: Action) -> bool {
        self.effects.clear();
        let done = self.it.attempt(self.now, action, &mut self.effects);
        self.confirm_saves(Appliance::step_rules);
        done
    }

    pub fn confirm_saves(&mut self, door: fn(&mut Appliance, Instant, Input, &mut Vec<Effect>)) {
        let mut confirmed = 0; // nothing may hang on the last one
        while self.effects.len() > confirmed && matches!(self.effects.last(), Some(Effect::SaveState(_))) {
            confirmed = self.effects.len();
            door(&mut self.it, self.now, Input::StateSaved, &mut self.effects);
        }
    }

    pub fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
    }

    pub fn role(&self) -> RoleName {
        self.it.status().role
    }

    /// The primary's acknowledgement by a sound secondary.
    pub fn acknowledged(&mut self, matched: u64, sent: Instant) {
        let status = self.it.status();
        self.rules(Input::Message(Message::Acknowledge(Acknowledge {
            epoch: status.own.conf.epoch(),
            matched: Lsn(matched),
            heartbeat: Heartbeat { life: LIFE, sent, promise: limits::PROMISE },
            retry_from: None,
            disk: *DISKS.get(status.appliance.peer()),
        })));
    }

    /// The read of the witness that is under way.
    pub fn read(&self) -> u64 {
        let ticket = self.effects.iter().find_map(|effect| match effect {
            Effect::ReadWitness { ticket, .. } => Some(*ticket),
            _ => None,
        });
        ticket.unwrap_or_else(|| panic!("it reads the witness: {:?}", self.effects))
    }

    /// Answers it.
    pub fn witness_says(&mut self, outcome: &WitnessRead) {
        let ticket = self.read();
        let mut outcome = outcome.clone();
        if let WitnessRead::Record(record) = &mut outcome {
            record.revision = self.revision;
            self.revision += 10;
        }
        self.rules(Input::WitnessRead { ticket, outcome });
    }

    /// The conditional write that is under way.
    pub fn conditional_write(&self) -> (u64, WitnessRecord) {
        let write = self.effects.iter().find_map(|effect| match effect {
            Effect::CompareAndSet { ticket, record, .. } => Some((*ticket, record.clone())),
            _ => None,
        });
        write.unwrap_or_else(|| panic!("it writes to the witness: {:?}", self.effects))
    }

    pub fn wins_by_witness(&mut self) {
        assert!(self.attempt(Action::Take));
        let conf = self.it.status().own.conf;
        self.witness_says(&WitnessRead::Record(record(conf)));
        let (ticket, _) = self.conditional_write();
        self.rules(Input::WitnessWritten { ticket, outcome: WitnessWrite::Swapped });
    }
}

pub fn record(conf: Conf) -> WitnessRecord {
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

pub fn header(conf: Conf, previous: Position, last: u64) -> AppendHeader {
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

/// A primary of {A, B} whose secondary has everything.
pub fn paired_primary() -> Bench {
    let mut bench = Bench::start(A, pair(1), &entries(Position::EMPTY, 1, 2), 2);
    bench.wins_by_witness();
    bench.rules(Input::PeerConnected);
    let sent = bench.now;
    bench.acknowledged(2, sent);
    assert!(bench.attempt(Action::Close));
    assert!(bench.attempt(Action::Propose(Agreement::Rejoin)));
    let Some(proposed) = bench.it.status().pending else { panic!("the rejoin is proposed") };
    bench.rules(Input::Message(Message::Stored(proposed)));
    let sent = bench.now;
    bench.acknowledged(2, sent);
    assert!(bench.it.status().own.conf.is_pair());
    bench
}
