//! One appliance with its disk: what the core does with a stimulus, cut by crashes at every durable write.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use bytes::Bytes;
use duet_protocol::explore::Inspection;
use duet_protocol::{
    Action, Agreement, Appliance, Effect, Entry, Input, Instant, Lsn, Message, OwnState, Position,
    RecoveredLog, RoleName, Stamp, WitnessRead, WitnessRecord, WitnessWrite, limits,
};

use super::coverage::Coverage;
use super::tamper::Tamper;

/// The reading every normal form has as `now`.
pub const NOW: Instant = Instant(1_000_000_000_000);
/// The present life of every process.
pub const PRESENT: u64 = 2;
/// All former lives.
pub const FORMER: u64 = 1;
/// Revision of the record the witness holds.
pub const CURRENT: u64 = 10;
/// Revision of a record that was read and is no longer there.
pub const STALE: u64 = 5;

/// An operation on the log whose durability was not reported.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Op {
    /// One entry at the end.
    Append(Entry),
    /// Everything above goes.
    Truncate(Lsn),
}

/// An answer of the witness on its way.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[expect(clippy::large_enum_variant, reason = "few appliance states have an answer on its way")]
pub enum Answer {
    /// A record, of revision `CURRENT` while it is still there.
    Read(WitnessRecord),
    /// To a conditional write.
    Written(WitnessWrite),
}

/// One appliance with its disk.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Node {
    /// The process; none while it is down.
    pub core: Option<Appliance>,
    /// The own state as it is durable.
    pub own: OwnState,
    /// The log as it is known to be durable.
    pub disk: Vec<Entry>,
    /// What was done to the log since.
    pub ops: Vec<Op>,
    /// What the state machine's checkpoint holds.
    pub checkpoint: Lsn,
    /// Ticket of the request under way, and whether it is a write.
    pub asked: Option<(u64, bool)>,
    /// Its answer, if it is on its way.
    pub answer: Option<Answer>,
}

/// What happens to an appliance.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stimulus {
    /// A rule is tried; a read of the witness is answered at once by the record of this number.
    Attempt(Action, u32),
    /// The same; the answer (that record) is on its way.
    AttemptSlowly(Action, u32),
    /// A message of this number is delivered.
    Message(u32),
    /// A client's write of this number.
    Write(u8),
    /// So many operations on the log are reported durable.
    Flush(u8),
    /// T passes.
    Jump,
    /// The process dies.
    Crash,
    /// The process ends after a soft shutdown.
    Stop,
    /// The process starts.
    Restart,
    /// The peer's process has started again: its former life is over.
    PeerRestarted,
    /// The connection is cut and made anew.
    Reconnect,
    /// A soft shutdown begins.
    Shutdown,
    /// A switchover begins.
    Switchover,
    /// The witness's answer arrives.
    Answer,
    /// The witness does not answer in time.
    Silence,
    /// A conditional write is answered at once.
    Written(bool),
    /// A conditional write was applied and its answer is on its way (or: it can never be any more).
    AnswerSent(bool),
    /// The witness's record has changed: one that was read is no longer current.
    RecordMoved,
}

/// What comes of a stimulus.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The appliance afterwards.
    pub node: Node,
    /// What it sends to the peer.
    pub sends: Vec<Message>,
    /// The conditional write it asks for: expected revision and record.
    pub write: Option<(u64, WitnessRecord)>,
    /// It crashed on the way.
    pub crashed: bool,
    /// Entries above this LSN were truncated.
    pub cut: Option<Lsn>,
    /// A violated invariant.
    pub violation: Option<String>,
}

/// What a drive needs besides the node.
pub struct Surroundings<'a> {
    /// The record read, if any.
    pub record: Option<&'a WitnessRecord>,
    /// The message delivered, if any.
    pub message: Option<&'a Message>,
    /// Whether a crash may also leave an old checkpoint.
    pub checkpoints: bool,
    /// Whether crashes at durable writes are wanted.
    pub crashes: bool,
    /// The rule that is broken, if any.
    pub tamper: Option<Tamper>,
}

impl Node {
    /// A process that is down, with this disk.
    pub fn down(own: OwnState, disk: Vec<Entry>, checkpoint: Lsn) -> Self {
        Self { core: None, own, disk, ops: Vec::new(), checkpoint, asked: None, answer: None }
    }

    /// The log as the process knows it.
    pub fn log(&self) -> Vec<Entry> {
        self.log_after(self.ops.len())
    }

    /// The log if only so many operations reach the disk.
    pub fn log_after(&self, ops: usize) -> Vec<Entry> {
        let mut log = self.disk.clone();
        for op in &self.ops[..ops] {
            match op {
                Op::Append(entry) => log.push(entry.clone()),
                Op::Truncate(last) => log.retain(|entry| entry.lsn <= *last),
            }
        }
        log
    }

    fn truncations(&self, ops: usize) -> u64 {
        self.ops[..ops].iter().filter(|op| matches!(op, Op::Truncate(_))).count() as u64
    }

    /// What the core shows, while it runs.
    pub fn inspect(&self) -> Option<Inspection> {
        self.core.as_ref().map(Appliance::inspect)
    }

    /// All ways in which the process may die here.
    fn crash_variants(&self, own: &OwnState, around: &Surroundings, coverage: &mut Coverage) -> Vec<Self> {
        let applied = self.core.as_ref().map_or(self.checkpoint, |core| core.status().applied);
        let mut variants: Vec<Self> = Vec::new();
        for ops in 0..=self.ops.len() {
            let disk = self.log_after(ops);
            let last = disk.last().map_or(Lsn::ZERO, |entry| entry.lsn);
            if ops < self.ops.len() {
                coverage.mark("crash lost an appended entry");
                if matches!(self.ops[ops], Op::Truncate(_)) {
                    coverage.mark("crash undid a truncation");
                }
            }
            let oldest = if around.checkpoints { self.checkpoint } else { applied.min(last) };
            for checkpoint in [oldest, applied.min(last)] {
                let mut own = own.clone();
                match around.tamper {
                    Some(Tamper::TentLost) => own.tent = None,
                    Some(Tamper::EpochsForgotten) => {
                        own.max_epoch = own.tent.map_or(own.conf.epoch(), |tent| tent.epoch());
                    }
                    Some(Tamper::PartingForgotten) => own.parted = duet_protocol::Epoch::ZERO,
                    _ => {}
                }
                let node = Self::down(own, disk.clone(), checkpoint);
                if !variants.contains(&node) {
                    variants.push(node);
                }
            }
        }
        variants
    }
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// A panic of the core is a violation to be told by the trace, not on the spot.
fn quietly<T>(what: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                usual(info);
            }
        }));
    });
    QUIET.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(what));
    QUIET.set(false);
    result.map_err(|payload| {
        payload
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string))
            .unwrap_or_else(|| "panic".into())
    })
}

/// Drives one appliance through one stimulus.
struct Drive<'a> {
    around: &'a Surroundings<'a>,
    coverage: &'a mut Coverage,
    slow: bool,
    node: Node,
    sends: Vec<Message>,
    write: Option<(u64, WitnessRecord)>,
    cut: Option<Lsn>,
    done: Vec<Outcome>,
}

/// All outcomes of a stimulus; none if nothing happens.
pub fn drive(
    node: &Node,
    stimulus: Stimulus,
    around: &Surroundings,
    coverage: &mut Coverage,
) -> Vec<Outcome> {
    let mut drive = Drive {
        around,
        coverage,
        slow: false,
        node: node.clone(),
        sends: Vec::new(),
        write: None,
        cut: None,
        done: Vec::new(),
    };
    let happened = drive.stimulate(stimulus);
    match happened {
        Ok(true) => drive.finish(None),
        Ok(false) => {}
        Err(violation) => drive.finish(Some(violation)),
    }
    drive.done.retain(|outcome| {
        outcome.violation.is_some()
            || outcome.node != *node
            || !outcome.sends.is_empty()
            || outcome.write.is_some()
    });
    drive.done
}

impl Drive<'_> {
    fn outcome(&mut self, node: Node, crashed: bool, violation: Option<String>) {
        let write = if crashed { None } else { self.write.clone() };
        let outcome = Outcome { node, sends: self.sends.clone(), write, crashed, cut: self.cut, violation };
        if !self.done.contains(&outcome) {
            self.done.push(outcome);
        }
    }

    fn finish(&mut self, violation: Option<String>) {
        let mut node = self.node.clone();
        if violation.is_none()
            && let Some(core) = &node.core
        {
            let open = node.truncations(node.ops.len());
            node.core = Some(core.normalized(NOW, PRESENT, open));
        }
        self.outcome(node, false, violation);
    }

    fn stimulate(&mut self, stimulus: Stimulus) -> Result<bool, String> {
        match stimulus {
            Stimulus::Restart => {
                if self.node.core.is_some() {
                    return Ok(false);
                }
                self.restart()?;
                self.feed(Input::PeerConnected)?;
                return Ok(true);
            }
            Stimulus::RecordMoved => {
                if let Some(Answer::Read(record)) = &mut self.node.answer {
                    record.revision = STALE;
                }
                return Ok(true);
            }
            _ if self.node.core.is_none() => return Ok(false),
            _ => {}
        }
        match stimulus {
            Stimulus::Attempt(action, _) => return self.attempt(action),
            Stimulus::AttemptSlowly(action, _) => {
                self.slow = true;
                return self.attempt(action);
            }
            Stimulus::Message(_) => {
                let Some(message) = self.around.message.cloned() else { return Ok(false) };
                let message = self.tampered(message);
                self.feed(Input::Message(message))?;
            }
            Stimulus::Write(number) => self.feed(Input::Propose(vec![Bytes::copy_from_slice(&[number])]))?,
            Stimulus::Flush(ops) => {
                let ops = usize::from(ops);
                if ops > self.node.ops.len() {
                    return Ok(false);
                }
                self.flush(ops)?;
            }
            Stimulus::Jump => self.feed_at(NOW.after(limits::PROMISE), Input::Tick)?,
            Stimulus::Crash | Stimulus::Stop => {
                let own = self.node.own.clone();
                self.crash(&own);
                return Ok(false);
            }
            Stimulus::PeerRestarted => {
                self.node.core = self.node.core.as_ref().map(|core| core.with_peer_restarted(FORMER));
            }
            Stimulus::Reconnect => {
                self.feed(Input::PeerDisconnected)?;
                self.feed(Input::PeerConnected)?;
            }
            Stimulus::Shutdown => self.feed(Input::Shutdown)?,
            Stimulus::Switchover => self.feed(Input::Switchover)?,
            Stimulus::Answer => {
                let Some(answer) = self.node.answer.take() else { return Ok(false) };
                self.answer(answer)?;
            }
            Stimulus::Silence => {
                let Some((_, writing)) = self.node.asked else { return Ok(false) };
                self.node.answer = None;
                self.unanswered(writing)?;
            }
            Stimulus::Written(swapped) => {
                let outcome = if swapped { WitnessWrite::Swapped } else { WitnessWrite::Mismatch };
                self.answer(Answer::Written(outcome))?;
            }
            Stimulus::AnswerSent(swapped) => {
                let outcome = if swapped { WitnessWrite::Swapped } else { WitnessWrite::Mismatch };
                self.node.answer = Some(Answer::Written(outcome));
            }
            Stimulus::Restart | Stimulus::RecordMoved => {}
        }
        Ok(true)
    }

    fn restart(&mut self) -> Result<(), String> {
        let stamps = self.node.disk.iter().map(|entry| Stamp {
            epoch: entry.epoch,
            digest: entry.digest,
            bytes: u32::try_from(entry.command.len()).unwrap_or(u32::MAX),
        });
        let log = RecoveredLog { base: Position::EMPTY, stamps: stamps.collect() };
        let (own, checkpoint) = (self.node.own.clone(), self.node.checkpoint);
        let at = match self.around.tamper {
            Some(Tamper::NoPromiseAtStart) => Instant(NOW.0 - 2 * LONG),
            _ => NOW,
        };
        let core = quietly(|| Appliance::recover(PRESENT, own, log, checkpoint, at))?;
        self.node.core = Some(core);
        Ok(())
    }

    fn attempt(&mut self, action: Action) -> Result<bool, String> {
        let Some(mut core) = self.node.core.take() else { return Ok(false) };
        let mut effects = Vec::new();
        let done = quietly(|| core.attempt(NOW, action, &mut effects))?;
        self.mark_attempt(action, done, &core);
        self.node.core = Some(core);
        self.carry_out(effects)?;
        Ok(done)
    }

    fn feed(&mut self, input: Input) -> Result<(), String> {
        self.feed_at(NOW, input)
    }

    fn feed_at(&mut self, now: Instant, input: Input) -> Result<(), String> {
        let Some(mut core) = self.node.core.take() else { return Ok(()) };
        let before = core.inspect();
        let own = core.status().own;
        let mut effects = Vec::new();
        let told = input.clone();
        let result = quietly(|| core.step_rules(now, input, &mut effects));
        self.node.core = Some(core);
        result?;
        self.mark_input(&before, &own, &told, &effects);
        self.carry_out(effects)
    }

    fn carry_out(&mut self, effects: Vec<Effect>) -> Result<(), String> {
        let mut applied = None;
        let mut lied = None;
        let mut saved = false;
        let saves = matches!(effects.last(), Some(Effect::SaveState(_)));
        let mut reads = Vec::new();
        for effect in effects {
            match effect {
                Effect::Append { generation, entries } => {
                    let primary = self.node.inspect().is_some_and(|it| is_primary(it.role));
                    let lie = match self.around.tamper {
                        Some(Tamper::SecondaryFlushLies) => !primary,
                        Some(Tamper::PrimaryFlushLies) => primary,
                        _ => false,
                    };
                    if lie {
                        lied = entries.last().map(|entry| (generation, entry.lsn));
                    }
                    self.node.ops.extend(entries.into_iter().map(Op::Append));
                }
                Effect::Truncate { last, .. } => {
                    self.cut = Some(self.cut.map_or(last, |cut| cut.min(last)));
                    self.node.ops.push(Op::Truncate(last));
                }
                Effect::SaveState(own) => {
                    if self.around.crashes {
                        let before = self.node.own.clone();
                        self.crash(&before);
                        self.crash(&own);
                    }
                    if self.around.tamper != Some(Tamper::SaveLies) {
                        self.node.own = own;
                    }
                    saved = true;
                }
                Effect::Send(message) => self.sends.push(message),
                Effect::SendAppend { header, first, last } => {
                    let log = self.node.log();
                    let entries: Vec<_> =
                        log.into_iter().filter(|entry| entry.lsn >= first && entry.lsn <= last).collect();
                    self.mark_sent(&entries);
                    self.sends.push(Message::Append { header, entries });
                }
                Effect::ReadWitness { ticket } => reads.push(ticket),
                Effect::CompareAndSet { ticket, expected, record } => {
                    self.node.asked = Some((ticket, true));
                    self.write = Some((expected, record));
                }
                Effect::CreateRecord { ticket, record } => {
                    self.node.asked = Some((ticket, true));
                    self.write = Some((0, record));
                }
                Effect::Apply { upto } => {
                    assert!(!saves, "what a step commits is known before it ends");
                    applied = Some(upto);
                }
                Effect::SendSnapshot { .. } => {
                    return Err("a copy is sent although nothing was trimmed".into());
                }
                Effect::InstallSnapshot { .. } | Effect::DropSnapshot | Effect::Trim { .. } => {
                    return Err("a copy is handled although none was sent".into());
                }
                Effect::Halt(why) => return Err(format!("halt: {why}")),
                Effect::Accepted { .. }
                | Effect::Refused { .. }
                | Effect::Abandon { .. }
                | Effect::ReadPermit(_)
                | Effect::Explain(_)
                | Effect::Stop => {}
            }
        }
        if saved {
            self.feed(Input::StateSaved)?;
        }
        if let Some(upto) = applied {
            self.feed(Input::Applied(upto))?;
        }
        if let Some((generation, lsn)) = lied {
            self.feed(Input::Flushed { generation, lsn })?;
        }
        for ticket in reads {
            self.node.asked = Some((ticket, false));
            match (self.slow, self.around.record) {
                (false, Some(record)) => {
                    let record = self.as_read(record.clone());
                    self.answer(Answer::Read(record))?;
                }
                (false, None) => {
                    self.node.asked = None;
                    self.feed(Input::WitnessRead { ticket, outcome: WitnessRead::Absent })?;
                }
                (true, Some(record)) => self.node.answer = Some(Answer::Read(record.clone())),
                (true, None) => {}
            }
        }
        Ok(())
    }

    fn answer(&mut self, answer: Answer) -> Result<(), String> {
        let Some((ticket, writing)) = self.node.asked.take() else { return Ok(()) };
        match answer {
            Answer::Read(record) if !writing => {
                self.feed(Input::WitnessRead { ticket, outcome: WitnessRead::Record(record) })
            }
            Answer::Written(outcome) if writing => self.feed(Input::WitnessWritten { ticket, outcome }),
            _ => Err("the explorer answered another request".into()),
        }
    }

    fn unanswered(&mut self, writing: bool) -> Result<(), String> {
        let Some((ticket, _)) = self.node.asked.take() else { return Ok(()) };
        if writing {
            self.feed(Input::WitnessWritten { ticket, outcome: WitnessWrite::Unknown })
        } else {
            self.feed(Input::WitnessRead { ticket, outcome: WitnessRead::Unknown })
        }
    }

    fn flush(&mut self, ops: usize) -> Result<(), String> {
        let disk = self.node.log_after(ops);
        // The core's generation counts the truncations whose flush was not reported.
        let generation = self.node.truncations(ops);
        let lsn = disk.last().map_or(Lsn::ZERO, |entry| entry.lsn);
        self.node.disk = disk;
        self.node.ops.drain(..ops);
        self.feed(Input::Flushed { generation, lsn })?;
        Ok(())
    }

    fn crash(&mut self, own: &OwnState) {
        for node in self.node.crash_variants(own, self.around, self.coverage) {
            let sent_unflushed = node.disk.len() < self.node.log().len()
                && self.sends.is_empty()
                && self
                    .node
                    .inspect()
                    .is_some_and(|it| is_primary(it.role) && it.matched.0 > node.disk.len() as u64);
            if sent_unflushed {
                self.coverage.mark("crash lost an entry that was sent");
            }
            self.outcome(node, true, None);
        }
    }

    fn as_read(&self, mut record: WitnessRecord) -> WitnessRecord {
        if self.around.tamper == Some(Tamper::BareLsn)
            && let (Some(part), Some(it)) = (record.part, self.node.inspect())
            && part.lsn == it.last.lsn
        {
            record.part = Some(it.last);
        }
        record
    }

    fn tampered(&self, message: Message) -> Message {
        let Some(core) = &self.node.core else { return message };
        let status = core.status();
        match (self.around.tamper, message) {
            (Some(Tamper::LeaseFromReceipt), Message::Acknowledge(mut acknowledge)) => {
                acknowledge.heartbeat.sent = NOW;
                Message::Acknowledge(acknowledge)
            }
            (Some(Tamper::MatchInflated), Message::Acknowledge(mut acknowledge)) => {
                acknowledge.matched = status.last.lsn;
                acknowledge.retry_from = None;
                Message::Acknowledge(acknowledge)
            }
            (Some(Tamper::BaseUnbound), Message::Propose(mut proposal)) => {
                proposal.base = status.own.conf;
                Message::Propose(proposal)
            }
            (Some(Tamper::OldAppendRevived), Message::Append { mut header, entries })
                if header.conf.epoch() < status.own.conf.epoch()
                    && status.own.conf.primary() != status.appliance =>
            {
                header.conf = status.own.conf;
                Message::Append { header, entries }
            }
            (_, message) => message,
        }
    }

    // ---- coverage ----

    fn mark_sent(&mut self, entries: &[Entry]) {
        let durable = self.node.disk.last().map_or(Lsn::ZERO, |entry| entry.lsn);
        if entries.last().is_some_and(|entry| entry.lsn > durable) {
            self.coverage.mark("entries sent before they are durable here");
        }
    }

    fn mark_attempt(&mut self, action: Action, done: bool, core: &Appliance) {
        if !done {
            return;
        }
        let it = core.inspect();
        match action {
            Action::BeginAlone => self.coverage.mark("begin alone"),
            Action::BeginElect => self.coverage.mark("elect begins"),
            Action::Cancel => self.coverage.mark("cancel"),
            Action::Close => self.coverage.mark("closing"),
            Action::Propose(Agreement::Rejoin) if it.matched < it.last.lsn => {
                self.coverage.mark("rejoin proposed while the secondary lacks the last entry");
            }
            _ => {}
        }
    }

    fn mark_input(&mut self, before: &Inspection, old: &OwnState, input: &Input, effects: &[Effect]) {
        let Some(core) = &self.node.core else { return };
        let it = core.inspect();
        let status = core.status();
        let own = &status.own;
        let cover = &mut *self.coverage;
        let sends_firm = effects.iter().any(|effect| matches!(effect, Effect::Send(Message::Firm(_))));
        let truncates = effects.iter().any(|effect| matches!(effect, Effect::Truncate { .. }));
        let takes = effects.iter().any(|effect| matches!(effect, Effect::Append { .. }));
        if it.committed > before.committed && is_primary(it.role) {
            cover.mark(if it.effective_solo { "committed alone" } else { "committed by both" });
        }
        if it.serves_reads && !it.effective_solo {
            cover.mark("read while the lease is needed");
        }
        if it.lease_runs && !before.lease_runs {
            cover.mark("lease obtained");
        }
        let adopted = own.conf != old.conf;
        match input {
            Input::Propose(_) if takes => cover.mark("write appended"),
            Input::Message(Message::Append { header, .. }) => {
                if header.conf.epoch() < old.conf.epoch() && sends_firm {
                    cover.mark("append refused as deposed");
                }
                if adopted {
                    cover.mark("append adopted a configuration");
                }
                if takes {
                    cover.mark("entries taken by the secondary");
                }
                if truncates {
                    let dead =
                        |entry: &Entry| entry.lsn == header.base.next() && entry.epoch < header.conf.epoch();
                    let tail = self.node.log().iter().any(dead);
                    cover.mark(if tail { "truncated by the tail rule" } else { "truncated at a conflict" });
                }
            }
            Input::Message(Message::Acknowledge(answer)) if is_primary(before.role) => {
                if answer.heartbeat.life != PRESENT && answer.epoch == old.conf.epoch() {
                    cover.mark("acknowledgement of a former life ignored");
                } else if answer.epoch == old.conf.epoch() && answer.retry_from.is_some() {
                    cover.mark("acknowledgement with a retry");
                }
            }
            Input::Message(Message::Propose(proposal)) => {
                let again = effects.iter().any(|effect| matches!(effect, Effect::Send(Message::Stored(_))));
                if own.tent == Some(proposal.conf) && old.tent != own.tent {
                    cover.mark(stored_name(proposal.base, proposal.conf, proposal.position.is_some()));
                } else if adopted {
                    cover.mark("PROP adopted its base");
                } else if again {
                    cover.mark("PROP answered again");
                } else {
                    cover.mark("PROP refused");
                }
            }
            Input::Message(Message::Stored(_)) => match before.pending {
                Some((agreement, conf)) if own.conf == conf => cover.mark(in_force_name(agreement)),
                _ => cover.mark("STORED ignored"),
            },
            Input::Message(Message::Firm(_)) if adopted => {
                let mine = own.conf.primary() == own.appliance;
                cover.mark(match (mine, is_primary(before.role)) {
                    (true, true) => "TAKE learned by FIRM",
                    (true, false) => "handed over: begins by FIRM",
                    _ => "adopted from the peer's FIRM",
                });
            }
            Input::WitnessRead { outcome: WitnessRead::Record(record), .. } => {
                let newer = record.conf.epoch() > old.conf.epoch();
                if adopted {
                    let mine = own.conf.primary() == own.appliance;
                    cover.mark(if mine { "TAKE learned by reading" } else { "adopted from the witness" });
                } else if newer {
                    cover.mark("adoption from the witness refused for a newer tent");
                }
                if own.max_epoch > old.max_epoch && !adopted {
                    cover.mark(if is_primary(before.role) {
                        "TAKE asked by a primary"
                    } else {
                        "TAKE asked by a follower"
                    });
                    let member = if newer { record.conf } else { own.conf }.has(own.appliance, own.disk);
                    if !member {
                        cover.mark("TAKE asked by equality");
                    }
                } else if before.role == RoleName::Starting && !adopted {
                    cover.mark("TAKE refused: not entitled");
                }
                if own.parted != old.parted {
                    cover.mark("PART written");
                }
                for effect in effects {
                    if let Effect::CompareAndSet { record: next, .. } = effect {
                        cover.mark(if next.conf == record.conf && next.part == record.part {
                            "NOTE written"
                        } else {
                            "SYNC written"
                        });
                    }
                }
            }
            Input::WitnessWritten { outcome: WitnessWrite::Swapped, .. } => {
                if adopted && is_primary(before.role) {
                    cover.mark("TAKE won by a primary");
                } else if adopted && before.promise_runs {
                    cover.mark("TAKE won by a follower: elect");
                } else if adopted {
                    cover.mark("TAKE won by a follower: begins");
                } else if old.tent.is_some() {
                    cover.mark("TAKE won, refused for a newer tent");
                }
            }
            _ => {}
        }
    }
}

fn stored_name(base: duet_protocol::Conf, conf: duet_protocol::Conf, position: bool) -> &'static str {
    match (conf.is_pair(), base.is_pair(), base.primary() == conf.primary()) {
        (true, ..) if position => "ColdPair stored by the responder",
        (true, ..) => "Rejoin stored by the responder",
        (false, true, true) => "Leave stored by the responder",
        (false, true, false) => "Handover stored by the responder",
        _ => "ColdSolo stored by the responder",
    }
}

const fn in_force_name(agreement: Agreement) -> &'static str {
    match agreement {
        Agreement::Leave => "Leave in force",
        Agreement::Rejoin => "Rejoin in force",
        Agreement::Handover => "Handover in force",
        Agreement::ColdSolo => "ColdSolo in force",
        Agreement::ColdPair => "ColdPair in force",
    }
}

/// Whether this role takes writes or has only just stopped to.
pub const fn is_primary(role: RoleName) -> bool {
    matches!(role, RoleName::Primary | RoleName::Offering)
}

const LONG: u64 = 1_000_000_000;

/// A message without what only people and policy read, its sending moved by `late`.
pub fn normal_message(message: &Message, late: bool) -> Message {
    let shift = |heartbeat: duet_protocol::Heartbeat| {
        let past = if late { NOW.after(limits::PROMISE) } else { NOW };
        heartbeat.moved(past, NOW)
    };
    match message {
        Message::Append { header, entries } => {
            let mut header = *header;
            header.last = Lsn::ZERO;
            header.heartbeat = shift(header.heartbeat);
            Message::Append { header, entries: entries.clone() }
        }
        Message::Acknowledge(acknowledge) => {
            let mut acknowledge = *acknowledge;
            acknowledge.heartbeat = shift(acknowledge.heartbeat);
            Message::Acknowledge(acknowledge)
        }
        Message::Firm(firm) => {
            let mut firm = *firm;
            firm.position = Position::EMPTY;
            firm.leaving = false;
            firm.damaged = false;
            Message::Firm(firm)
        }
        other => other.clone(),
    }
}

/// A message after a restart of the appliance whose life its heartbeat names.
pub fn message_of_former_life(message: &Message) -> Message {
    match message {
        Message::Append { header, entries } => {
            let mut header = *header;
            header.heartbeat.life = FORMER;
            Message::Append { header, entries: entries.clone() }
        }
        Message::Acknowledge(acknowledge) => {
            let mut acknowledge = *acknowledge;
            acknowledge.heartbeat.life = FORMER;
            Message::Acknowledge(acknowledge)
        }
        other => other.clone(),
    }
}
