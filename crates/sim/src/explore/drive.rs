//! What the core does with a stimulus, cut by crashes at every durable write.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use bytes::Bytes;
use duet_protocol::{
    Action, AppendHeader, Appliance, Effect, Heartbeat, Input, Instant, Lsn, Message, OwnState, Position,
    RecoveredLog, Stamp, WitnessRead, WitnessRecord, WitnessWrite, limits,
};

use super::coverage::Coverage;
use super::node::{Answer, Asked, COPY, FORMER, NOW, Node, Op, PRESENT, STALE, Stimulus, is_primary};
use super::tamper::Tamper;
use super::world::place_of;

const LONG: u64 = 1_000_000_000;

/// What comes of a stimulus.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The appliance afterwards.
    pub node: Node,
    /// What it sends to the peer.
    pub sends: Vec<Message>,
    /// The conditional write it asks for.
    pub write: Option<Write>,
    /// It crashed on the way.
    pub crashed: bool,
    /// Entries above this LSN were truncated.
    pub cut: Option<Lsn>,
    /// A violated invariant.
    pub violation: Option<String>,
}

/// A conditional write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Write {
    /// In which register.
    pub at: usize,
    /// Which revision is to be replaced; zero for none at all.
    pub expected: u64,
    /// The new record.
    pub record: WitnessRecord,
}

/// What a drive needs besides the node.
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct Surroundings<'a> {
    /// The record read, if any.
    pub record: Option<&'a WitnessRecord>,
    /// The message delivered, if any.
    pub message: Option<&'a Message>,
    /// Whether a crash may also leave an old checkpoint.
    pub checkpoints: bool,
    /// Whether logs are trimmed at a checkpoint.
    pub trims: bool,
    /// Whether crashes at durable writes are wanted.
    pub crashes: bool,
    /// The duties act after every input; else rules are tried one by one.
    pub duties: bool,
    /// The rule that is broken, if any.
    pub tamper: Option<Tamper>,
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
pub struct Drive<'a> {
    around: &'a Surroundings<'a>,
    pub(super) coverage: &'a mut Coverage,
    slow: bool,
    pub(super) node: Node,
    pub(super) sends: Vec<Message>,
    pub(super) write: Option<Write>,
    cut: Option<Lsn>,
    /// Truncations reported durable since the core's generation was last in normal form.
    pub(super) truncated: u64,
    done: Vec<Outcome>,
}

/// All outcomes of a stimulus; none if nothing happens.
pub fn drive(
    node: &Node,
    stimulus: Stimulus,
    around: &Surroundings,
    coverage: &mut Coverage,
) -> Vec<Outcome> {
    let mut drive = Drive::new(node.clone(), around, coverage);
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

impl<'a> Drive<'a> {
    /// An appliance to be driven.
    pub(super) const fn new(node: Node, around: &'a Surroundings<'a>, coverage: &'a mut Coverage) -> Self {
        Self {
            around,
            coverage,
            slow: around.duties,
            node,
            sends: Vec::new(),
            write: None,
            cut: None,
            truncated: 0,
            done: Vec::new(),
        }
    }
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

    pub(super) fn stimulate(&mut self, stimulus: Stimulus) -> Result<bool, String> {
        match stimulus {
            Stimulus::Restart => {
                if self.node.core.is_some() {
                    return Ok(false);
                }
                self.restart()?;
                self.feed(Input::PeerConnected)?;
                return Ok(true);
            }
            Stimulus::RecordMoved(at) => {
                let asked = self.node.asked.is_some_and(|asked| asked.at == usize::from(at));
                if let Some(Answer::Read(record)) = &mut self.node.answer
                    && asked
                {
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
                return self.hear(message, NOW);
            }
            Stimulus::Write(number) => self.feed(Input::Propose(vec![Bytes::copy_from_slice(&[number])]))?,
            Stimulus::Flush(ops) => {
                let ops = usize::from(ops);
                if ops > self.node.ops.len() {
                    return Ok(false);
                }
                self.flush(ops)?;
            }
            Stimulus::Installed => {
                let Some(Op::Install(entries)) = self.node.ops.last().cloned() else { return Ok(false) };
                let Some(last) = entries.last() else { return Ok(false) };
                let position = last.position();
                self.truncated += self.node.truncations(self.node.ops.len());
                self.node.disk.clone_from(&entries);
                self.node.ops.clear();
                self.node.base = position.lsn;
                self.node.checkpoint = position.lsn;
                self.coverage.mark("copy installed");
                self.feed(Input::SnapshotInstalled(position))?;
            }
            Stimulus::Checkpoint => {
                let Some(it) = self.node.inspect() else { return Ok(false) };
                self.node.checkpoint = it.applied;
                self.feed(Input::Checkpointed(it.applied))?;
            }
            Stimulus::Jump => self.feed_at(NOW.after(limits::PROMISE_MAX), Input::Tick)?,
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
                self.node.answer = None;
                if !self.unanswered()? {
                    return Ok(false);
                }
            }
            Stimulus::Written(swapped) => {
                let outcome = if swapped { WitnessWrite::Swapped } else { WitnessWrite::Mismatch };
                self.answer(Answer::Written(outcome))?;
            }
            Stimulus::AnswerSent(swapped) => {
                let outcome = if swapped { WitnessWrite::Swapped } else { WitnessWrite::Mismatch };
                self.node.answer = Some(Answer::Written(outcome));
            }
            Stimulus::Restart | Stimulus::RecordMoved(_) | Stimulus::Damage(_) | Stimulus::Replace => {}
        }
        Ok(true)
    }

    /// A message, or a whole copy, arrives.
    pub(super) fn hear(&mut self, message: Message, now: Instant) -> Result<bool, String> {
        match message {
            Message::Append { header, entries } if header.heartbeat.life == COPY => {
                let Some(last) = entries.last() else { return Ok(false) };
                let position = last.position();
                self.node.copy = Some(entries);
                self.feed_at(now, Input::SnapshotReceived { epoch: header.conf.epoch(), position })?;
                self.node.copy = None;
            }
            message => self.feed_at(now, Input::Message(message))?,
        }
        Ok(true)
    }

    fn restart(&mut self) -> Result<(), String> {
        let held = self.node.disk.iter().filter(|entry| entry.lsn > self.node.base);
        let stamps = held.map(|entry| Stamp {
            epoch: entry.epoch,
            digest: entry.digest,
            bytes: u32::try_from(entry.command.len()).unwrap_or(u32::MAX),
        });
        let base = self.node.disk.iter().find(|entry| entry.lsn == self.node.base);
        let base = base.map_or(Position::EMPTY, duet_protocol::Entry::position);
        let log = RecoveredLog { base, stamps: stamps.collect() };
        let (own, checkpoint) = (self.node.own.clone(), self.node.checkpoint);
        let at = match self.around.tamper {
            Some(Tamper::NoPromiseAtStart) => Instant(NOW.0 - 2 * LONG),
            _ => NOW,
        };
        let mut core = quietly(|| Appliance::recover(PRESENT, own, log, checkpoint, at))?;
        if self.around.trims {
            core.retain(0);
        }
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
        self.forget_void_request();
        Ok(done)
    }

    fn feed(&mut self, input: Input) -> Result<(), String> {
        self.feed_at(NOW, input)
    }

    pub(super) fn feed_at(&mut self, now: Instant, input: Input) -> Result<(), String> {
        let Some(mut core) = self.node.core.take() else { return Ok(()) };
        let before = core.inspect();
        let own = core.status().own;
        let mut effects = Vec::new();
        let told = input.clone();
        let duties = self.around.duties;
        let step = if duties { Appliance::step } else { Appliance::step_rules };
        let result = quietly(|| step(&mut core, now, input, &mut effects));
        self.node.core = Some(core);
        result?;
        self.mark_input(&before, &own, &told, &effects);
        self.carry_out(effects)?;
        self.forget_void_request();
        Ok(())
    }

    /// Nobody waits any more for what was asked of a former witness.
    fn forget_void_request(&mut self) {
        if self.node.inspect().is_some_and(|it| !it.asking) {
            self.node.asked = None;
            self.node.answer = None;
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>) -> Result<(), String> {
        let mut applied = None;
        let mut sent_copy = false;
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
                Effect::ReadWitness { ticket, witness } => {
                    reads.push(Asked { ticket, writing: false, at: place_of(witness) });
                }
                Effect::CompareAndSet { ticket, witness, expected, record } => {
                    let at = place_of(witness);
                    self.node.asked = Some(Asked { ticket, writing: true, at });
                    self.write = Some(Write { at, expected, record });
                }
                Effect::CreateRecord { ticket, witness, record } => {
                    let at = place_of(witness);
                    self.node.asked = Some(Asked { ticket, writing: true, at });
                    self.write = Some(Write { at, expected: 0, record });
                }
                Effect::Apply { upto } => {
                    // A crash at the durable write would forget what was promised before it.
                    assert!(!(saves && self.around.crashes), "what a step commits is known before it ends");
                    applied = Some(upto);
                }
                Effect::SendSnapshot { .. } => {
                    let copy = self.copy();
                    self.sends.extend(copy);
                    self.coverage.mark("copy sent");
                    sent_copy = true;
                }
                Effect::InstallSnapshot { .. } => {
                    self.node.ops.extend(self.node.copy.take().map(Op::Install));
                }
                Effect::DropSnapshot => self.coverage.mark("copy refused"),
                Effect::Trim { upto } => self.node.base = upto,
                Effect::GiveUp(why) => return Err(format!("no time passes here, and it gives up: {why}")),
                Effect::Halt(why) => return Err(format!("halt: {why}")),
                Effect::Accepted { .. }
                | Effect::Refused { .. }
                | Effect::Abandon { .. }
                | Effect::ReadPermit(_)
                | Effect::ReadIndex { .. }
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
        if sent_copy {
            self.feed(Input::SnapshotSendEnded)?;
        }
        for asked in reads {
            let ticket = asked.ticket;
            self.node.asked = Some(asked);
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

    /// A copy of what is committed here, as an append that only this model can tell from others.
    fn copy(&self) -> Option<Message> {
        let it = self.node.inspect()?;
        let status = self.node.core.as_ref()?.status();
        let entries = self.node.log().into_iter().filter(|entry| entry.lsn <= it.committed).collect();
        let header = AppendHeader {
            conf: status.own.conf,
            base: Lsn::ZERO,
            previous: Position::EMPTY,
            committed: it.committed,
            last: Lsn::ZERO,
            heartbeat: Heartbeat { life: COPY, sent: NOW, promise: limits::PROMISE },
            disk: status.own.disk,
        };
        Some(Message::Append { header, entries })
    }

    pub(super) fn answer(&mut self, answer: Answer) -> Result<(), String> {
        let Some(Asked { ticket, writing, .. }) = self.node.asked.take() else { return Ok(()) };
        match answer {
            Answer::Read(record) if !writing => {
                self.feed(Input::WitnessRead { ticket, outcome: WitnessRead::Record(record) })
            }
            Answer::Written(outcome) if writing => self.feed(Input::WitnessWritten { ticket, outcome }),
            _ => Err("the explorer answered another request".into()),
        }
    }

    /// False: nothing was asked.
    fn unanswered(&mut self) -> Result<bool, String> {
        let Some(Asked { ticket, writing, .. }) = self.node.asked.take() else { return Ok(false) };
        if writing {
            self.feed(Input::WitnessWritten { ticket, outcome: WitnessWrite::Unknown })?;
        } else {
            self.feed(Input::WitnessRead { ticket, outcome: WitnessRead::Unknown })?;
        }
        Ok(true)
    }

    fn flush(&mut self, ops: usize) -> Result<(), String> {
        let disk = self.node.log_after(ops);
        // The core's generation counts the truncations whose flush was not reported.
        let generation = self.truncated + self.node.truncations(ops);
        let lsn = disk.last().map_or(Lsn::ZERO, |entry| entry.lsn);
        self.node.disk = disk;
        self.node.ops.drain(..ops);
        self.truncated = generation;
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
}
