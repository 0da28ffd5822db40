//! The connection between the two appliances: ordered, with latency, cut in one or both directions, broken and dialled
//! anew. In a lossy world messages are also lost, doubled, and delivered past restarts and new connections.

use duet_protocol::{ApplianceId, Input, Message, PerAppliance};

use super::clock::{MICRO, MILLI, Time};
use super::event::Event;
use super::machine::{Arriving, Work};
use super::marks::Mark;
use super::world::World;

/// What goes over the connection.
#[derive(Clone, Debug)]
pub(crate) enum Packet {
    Message(Message),
    Copy(Arriving),
}

/// The connection.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// Number of the latest connection.
    pub connection: u64,
    /// Whether it carries anything.
    pub open: bool,
    /// Which side believes that it is connected.
    pub up: PerAppliance<bool>,
    /// What this appliance sends does not get through.
    pub cut: PerAppliance<bool>,
    held: PerAppliance<Vec<Packet>>,
    /// When the last packet of this appliance arrives: the order is kept.
    last: PerAppliance<Time>,
}

/// Between two attempts to connect.
const DIAL: (Time, Time) = (5 * MILLI, 60 * MILLI);

impl World {
    pub(crate) fn send(&mut self, from: ApplianceId, packet: Packet) {
        if let (Some(filter), Packet::Message(message)) = (&mut self.message_filter, &packet)
            && !filter(from, message)
        {
            self.note(|| format!("{from} sends, and it is lost: {}", describe(&packet)));
            return;
        }
        if matches!(&packet, Packet::Message(Message::Acknowledge(answer)) if answer.retry_from.is_some()) {
            self.marks.reach(Mark::Retry);
        }
        self.note(|| format!("{from} sends {}", describe(&packet)));
        if let (Some(lossy), Packet::Message(_)) = (self.options.lossy, &packet) {
            if self.random.chance(lossy.doubled) {
                self.stray(from, packet.clone(), lossy.delay);
            }
            if self.random.chance(lossy.lost) {
                return;
            }
            if self.random.chance(lossy.late) {
                return self.stray(from, packet, lossy.delay);
            }
        }
        if !self.link.open || !*self.link.up.get(from) {
            return;
        }
        if *self.link.cut.get(from) {
            self.link.held.get_mut(from).push(packet);
            return;
        }
        self.carry(from, packet);
    }

    /// A packet goes its own way, bound to no connection.
    fn stray(&mut self, from: ApplianceId, packet: Packet, delay: (Time, Time)) {
        let delay = self.random.spread(delay);
        let packet = Box::new(packet);
        self.schedule(delay, Event::Deliver { to: from.peer(), connection: None, packet });
    }

    fn carry(&mut self, from: ApplianceId, packet: Packet) {
        let latency = self.random.within(self.options.latency);
        let at = (self.now + latency).max(*self.link.last.get(from) + 1);
        *self.link.last.get_mut(from) = at;
        let (connection, packet) = (Some(self.link.connection), Box::new(packet));
        self.schedule_at(at, Event::Deliver { to: from.peer(), connection, packet });
    }

    pub(crate) fn on_delivery(&mut self, to: ApplianceId, connection: Option<u64>, packet: Packet) {
        let current = Some(self.link.connection) == connection && *self.link.up.get(to);
        if connection.is_some() && !current {
            return;
        }
        match packet {
            Packet::Message(message) => self.input(to, Input::Message(message)),
            Packet::Copy(copy) => self.on_copy(to, copy),
        }
    }

    pub(crate) fn on_dial(&mut self) {
        let next = self.random.within(DIAL);
        self.schedule(next, Event::Dial);
        let ready = ApplianceId::ALL.into_iter().all(|id| {
            let awake =
                self.machines.get(id).process.as_ref().is_some_and(|process| process.stalled_until.is_none());
            awake && !*self.link.cut.get(id) && !*self.link.up.get(id)
        });
        if self.link.open || !ready {
            return;
        }
        self.link.connection += 1;
        self.link.open = true;
        self.link.held = PerAppliance::default();
        let connection = self.link.connection;
        let mut both = 0;
        for id in ApplianceId::ALL {
            let latency = self.random.within(self.options.latency);
            both = both.max(latency);
            self.schedule(latency, Event::Connected { id, connection });
        }
        // Nothing overtakes the greeting.
        self.link.last = PerAppliance { a: self.now + both, b: self.now + both };
    }

    pub(crate) fn on_connected(&mut self, id: ApplianceId, connection: u64) {
        if connection == self.link.connection && self.link.open && self.machines.get(id).process.is_some() {
            *self.link.up.get_mut(id) = true;
            self.input(id, Input::PeerConnected);
        }
    }

    pub(crate) fn on_disconnected(&mut self, id: ApplianceId, connection: u64) {
        if connection == self.link.connection && *self.link.up.get(id) {
            *self.link.up.get_mut(id) = false;
            self.link.open = false;
            self.input(id, Input::PeerDisconnected);
            let life = self.life_of(id).unwrap_or_default();
            self.on_copy_sent(id, life, connection);
        } else if connection == self.link.connection {
            self.link.open = false;
        }
    }

    /// The connection breaks; each side notices after its own time.
    pub(crate) fn break_connection(&mut self, detection: (Time, Time)) {
        if !self.link.open {
            return;
        }
        self.link.open = false;
        let connection = self.link.connection;
        for id in ApplianceId::ALL {
            let after = self.random.within(detection);
            self.schedule(after, Event::Disconnected { id, connection });
        }
    }

    /// A process has ended: the peer reads what was sent before, then the end of the connection.
    pub(crate) fn process_gone(&mut self, id: ApplianceId, power: bool) {
        let was_up = core::mem::replace(self.link.up.get_mut(id), false);
        if !self.link.open && !was_up {
            return;
        }
        self.link.open = false;
        let connection = self.link.connection;
        let peer = id.peer();
        let (detection, arrived) = if power {
            (self.random.within(self.options.detection), 0)
        } else {
            (self.random.within((50 * MICRO, MILLI)), *self.link.last.get(id))
        };
        if power && self.random.chance(500) {
            self.lose_packets(peer);
        }
        let at = (self.now + detection).max(arrived + 1);
        self.schedule_at(at, Event::Disconnected { id: peer, connection });
    }

    fn lose_packets(&mut self, to: ApplianceId) {
        self.queue.retain(
            |_, event| !matches!(event, Event::Deliver { to: other, connection: Some(_), .. } if *other == to),
        );
    }

    /// Nothing that `from` sends gets through from now on. With `noticed`, the connection breaks after a while.
    pub fn cut(&mut self, from: ApplianceId, noticed: bool) {
        *self.link.cut.get_mut(from) = true;
        self.note(|| format!("what {from} sends is cut off"));
        if noticed {
            self.break_connection(self.options.detection);
        }
    }

    /// What `from` sends gets through again; what was held up as well, if the connection still is the same.
    pub fn uncut(&mut self, from: ApplianceId) {
        *self.link.cut.get_mut(from) = false;
        self.note(|| format!("what {from} sends gets through again"));
        for packet in core::mem::take(self.link.held.get_mut(from)) {
            if self.link.open {
                self.carry(from, packet);
            }
        }
    }

    /// The connection breaks and may be dialled anew at once.
    pub fn reset_connection(&mut self) {
        self.break_connection((0, MILLI));
    }

    pub(crate) fn on_copy_sent(&mut self, id: ApplianceId, life: u64, connection: u64) {
        let Some(process) = self.process_of_mut(id, life) else { return };
        if process.sending_copy == Some(connection) {
            process.sending_copy = None;
            self.input(id, Input::SnapshotSendEnded);
        }
    }

    /// Input for the driver, in order.
    pub(crate) fn input(&mut self, id: ApplianceId, input: Input) {
        self.work(id, Work::Input(input));
    }
}

/// One line for people.
pub(crate) fn describe(packet: &Packet) -> String {
    match packet {
        Packet::Copy(copy) => format!("a copy at {} under epoch {}", copy.position, copy.epoch),
        Packet::Message(Message::Append { header, entries }) => format!(
            "append[{}] base {} previous {} entries {} committed {} last {}",
            header.conf,
            header.base,
            header.previous,
            entries.len(),
            header.committed,
            header.last
        ),
        Packet::Message(Message::Acknowledge(answer)) => format!(
            "acknowledge epoch {} matched {} retry {:?}",
            answer.epoch,
            answer.matched,
            answer.retry_from.map(|lsn| lsn.0)
        ),
        Packet::Message(Message::Propose(proposal)) => {
            format!(
                "propose[{}] base[{}] position {}",
                proposal.conf,
                proposal.base,
                proposal.position.is_some()
            )
        }
        Packet::Message(Message::Stored(conf)) => format!("stored[{conf}]"),
        Packet::Message(Message::Firm(firm)) => format!(
            "firm[{}] max {} at {}{}",
            firm.conf,
            firm.max_epoch,
            firm.position,
            if firm.leaving { " leaving" } else { "" }
        ),
        Packet::Message(Message::Leave) => "leave".into(),
        Packet::Message(Message::AskReadIndex(question)) => {
            format!("question {} for a read index", question.number)
        }
        Packet::Message(Message::ReadIndex(answer)) => {
            format!("read index {} to question {}", answer.lsn, answer.question.number)
        }
    }
}
