//! When nothing fails any more: both appliances run with their duties, messages arrive in order, the witness answers, disks
//! write. Everything here is determined by the state it starts from.

use std::collections::VecDeque;

use duet_protocol::{Duration, Input, Instant, Message, RoleName, WitnessRead, WitnessRecord, WitnessWrite};

use super::coverage::Coverage;
use super::drive::{Drive, Surroundings, Write};
use super::node::{Answer, Asked, NOW, Node, Op, Stimulus};
use super::world::{REGISTERS, place_of};

/// One way of a message.
const LATENCY: Duration = Duration::from_millis(1);
/// It serves by then, or is stuck. Several times the longest wait of the protocol (a soft shutdown's).
const PATIENCE: Duration = Duration::from_mins(1);

/// Who is there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Company {
    /// Both appliances and the witness.
    All,
    /// Both appliances.
    NoWitness,
    /// One appliance and the witness.
    WithWitness(usize),
    /// One appliance.
    Alone(usize),
}

impl Company {
    /// Every company.
    pub const EVERY: [Self; 6] = [
        Self::All,
        Self::NoWitness,
        Self::WithWitness(0),
        Self::WithWitness(1),
        Self::Alone(0),
        Self::Alone(1),
    ];

    const fn has(self, who: usize) -> bool {
        match self {
            Self::All | Self::NoWitness => true,
            Self::WithWitness(only) | Self::Alone(only) => only == who,
        }
    }

    const fn has_witness(self) -> bool {
        matches!(self, Self::All | Self::WithWitness(_))
    }

    const fn is_pair(self) -> bool {
        matches!(self, Self::All | Self::NoWitness)
    }
}

/// Two appliances and a witness while nothing fails.
pub struct Calm<'a> {
    company: Company,
    nodes: [Option<Node>; 2],
    truncated: [u64; 2],
    inbox: [VecDeque<Message>; 2],
    records: [Option<WitnessRecord>; REGISTERS],
    around: &'a Surroundings<'a>,
    coverage: &'a mut Coverage,
    now: Instant,
}

impl<'a> Calm<'a> {
    /// From these states on. `around` has the duties act.
    pub fn new(
        company: Company,
        nodes: [Node; 2],
        records: [Option<WitnessRecord>; REGISTERS],
        around: &'a Surroundings<'a>,
        coverage: &'a mut Coverage,
    ) -> Self {
        assert!(around.duties, "without duties nothing happens by itself");
        let nodes = nodes.map(Some);
        let inbox = [VecDeque::new(), VecDeque::new()];
        Self { company, nodes, truncated: [0; 2], inbox, records, around, coverage, now: NOW }
    }

    /// Whether it comes to serve (with both: as a pair in sync) in good time.
    ///
    /// # Errors
    /// A violated invariant.
    pub fn comes_to_serve(mut self) -> Result<bool, String> {
        for who in 0..2 {
            if self.company.has(who) {
                self.reconnect(who)?;
            }
        }
        while self.now < NOW.after(PATIENCE) {
            if self.serves() {
                return Ok(true);
            }
            self.advance()?;
        }
        Ok(false)
    }

    fn node(&self, who: usize) -> Option<&Node> {
        self.nodes[who].as_ref().filter(|_| self.company.has(who))
    }

    fn serves(&self) -> bool {
        (0..2).any(|who| {
            let Some(it) = self.node(who) else { return false };
            let Some(seen) = it.inspect() else { return false };
            if !self.company.is_pair() {
                return seen.serves_reads;
            }
            let peer = self.node(1 - who);
            let follows = peer.is_some_and(|peer| {
                peer.own.conf == it.own.conf
                    && !peer.own.is_moving()
                    && peer
                        .inspect()
                        .is_some_and(|peer| peer.role == RoleName::Secondary && peer.last == seen.last)
            });
            let record = self.records[place_of(it.own.conf.witness())].as_ref();
            let known =
                !self.company.has_witness() || record.is_some_and(|record| record.conf == it.own.conf);
            seen.serves_reads && it.own.conf.is_pair() && follows && known
        })
    }

    /// What was on its way is lost; a process that is down starts.
    fn reconnect(&mut self, who: usize) -> Result<(), String> {
        self.drive(who, |drive, now| {
            if drive.node.core.is_none() {
                drive.stimulate(Stimulus::Restart)?;
            } else {
                drive.stimulate(Stimulus::Silence)?;
                drive.feed_at(now, Input::PeerDisconnected)?;
            }
            Ok(())
        })?;
        if self.company.is_pair() {
            self.drive(who, |drive, now| drive.feed_at(now, Input::PeerConnected))?;
        } else {
            self.drive(who, |drive, now| drive.feed_at(now, Input::PeerDisconnected))?;
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<(), String> {
        let deadline = |node: &Node| node.core.as_ref().map(duet_protocol::Appliance::next_deadline);
        let soon = self.now.after(LATENCY);
        let idle = self.inbox.iter().all(VecDeque::is_empty);
        let next = (0..2).filter_map(|who| self.node(who).and_then(deadline)).min();
        self.now = if idle { next.map_or(soon, |next| next.max(soon)) } else { soon };
        for who in 0..2 {
            if !self.company.has(who) {
                continue;
            }
            for message in std::mem::take(&mut self.inbox[who]) {
                self.drive(who, |drive, now| drive.hear(message, now).map(|_| ()))?;
            }
            self.drive(who, |drive, now| drive.feed_at(now, Input::Tick))?;
            if self.node(who).and_then(Node::inspect).is_some_and(|seen| seen.role == RoleName::Stopped) {
                self.start_again(who)?;
            }
        }
        Ok(())
    }

    /// The process has ended after its soft shutdown; somebody starts it.
    fn start_again(&mut self, who: usize) -> Result<(), String> {
        let Some(node) = &mut self.nodes[who] else { return Ok(()) };
        let (own, disk) = (node.own.clone(), node.log_after(node.ops.len()));
        let applied = node.inspect().map_or(node.checkpoint, |seen| seen.applied);
        *node = Node { base: node.base, hurt: node.hurt, ..Node::down(own, disk, applied) };
        self.truncated[who] = 0;
        self.inbox[who].clear();
        if self.company.is_pair() {
            self.drive(1 - who, |drive, now| drive.feed_at(now, Input::PeerDisconnected))?;
            self.drive(1 - who, |drive, now| drive.feed_at(now, Input::PeerConnected))?;
        }
        self.reconnect(who)
    }

    fn drive(
        &mut self,
        who: usize,
        what: impl FnOnce(&mut Drive, Instant) -> Result<(), String>,
    ) -> Result<(), String> {
        let Some(node) = self.nodes[who].take() else { return Ok(()) };
        let mut drive = Drive::new(node, self.around, self.coverage);
        drive.truncated = self.truncated[who];
        what(&mut drive, self.now)?;
        write_all(&mut drive)?;
        for _ in 0..MOST_REQUESTS {
            if !ask_once(&mut drive, &mut self.records, self.company.has_witness())? {
                break;
            }
            write_all(&mut drive)?;
        }
        self.truncated[who] = drive.truncated;
        if drive.node.core.is_some() && self.company.is_pair() {
            self.inbox[1 - who].extend(drive.sends);
        }
        self.nodes[who] = Some(drive.node);
        Ok(())
    }
}

/// Requests to the witness in one instant; more come in the next.
const MOST_REQUESTS: usize = 4;

/// The disk has done everything.
fn write_all(drive: &mut Drive) -> Result<(), String> {
    loop {
        let ops = drive.node.ops.iter().take_while(|op| !matches!(op, Op::Install(_))).count();
        if ops > 0 {
            drive.stimulate(Stimulus::Flush(u8::try_from(ops).unwrap_or(u8::MAX)))?;
        } else if !drive.node.ops.is_empty() {
            drive.stimulate(Stimulus::Installed)?;
        } else {
            return Ok(());
        }
    }
}

/// The witness answers what it was asked, if it was.
fn ask_once(
    drive: &mut Drive,
    records: &mut [Option<WitnessRecord>; REGISTERS],
    reachable: bool,
) -> Result<bool, String> {
    let Some(Asked { ticket, writing, at }) = drive.node.asked else { return Ok(false) };
    let record = &mut records[at];
    if drive.node.core.is_none() {
        return Ok(false);
    }
    let write = drive.write.take();
    if !reachable {
        drive.stimulate(Stimulus::Silence)?;
    } else if let Some(Write { expected, record: next, .. }) = write.filter(|_| writing) {
        let held = record.as_ref().map_or(0, |record| record.revision);
        let outcome = if held == expected { WitnessWrite::Swapped } else { WitnessWrite::Mismatch };
        if held == expected {
            *record = Some(next);
        }
        drive.answer(Answer::Written(outcome))?;
    } else if let Some(record) = record {
        drive.answer(Answer::Read(record.clone()))?;
    } else {
        drive.node.asked = None;
        let outcome = WitnessRead::Absent;
        drive.feed_at(NOW, Input::WitnessRead { ticket, outcome })?;
    }
    Ok(true)
}
