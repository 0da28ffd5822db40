//! Where an exploration starts.

use duet_protocol::{
    Action, Agreement, ApplianceId, ClusterId, Conf, DiskId, Entry, Epoch, Lsn, OwnState, PerAppliance,
    WitnessRecord,
};

use super::explorer::Explorer;
use super::node::{CURRENT, Node, Stimulus};
use super::oracle::History;
use super::world::{Bounds, Fate, MOST_MESSAGES, NONE, REGISTERS, Start, Witness, World};

/// The disk of each appliance.
pub const DISKS: PerAppliance<DiskId> = PerAppliance { a: DiskId(0xA), b: DiskId(0xB) };
/// The disk an appliance is given when the first one is replaced.
pub const SPARE_DISKS: PerAppliance<DiskId> = PerAppliance { a: DiskId(0xA1), b: DiskId(0xB1) };
pub const CLUSTER: ClusterId = ClusterId(7);
/// Another pair.
pub const FOREIGN_CLUSTER: ClusterId = ClusterId(8);

/// What `init` writes on an appliance.
pub fn first_record(cluster: ClusterId, writer: ApplianceId) -> WitnessRecord {
    WitnessRecord {
        cluster,
        revision: CURRENT,
        writer,
        conf: Conf::solo(writer.fresh_epoch(Epoch::ZERO), writer, *DISKS.get(writer)),
        part: None,
        floor: PerAppliance::default(),
        left: PerAppliance::default(),
    }
}

impl Explorer {
    /// The first state.
    pub fn start(&mut self, start: Start) -> World {
        if matches!(start, Start::Pair | Start::Solo) {
            return self.begun(start);
        }
        let conf = match start {
            Start::Down | Start::Pair | Start::Solo => Conf::pair(Epoch(1), ApplianceId::A, DISKS),
            Start::First | Start::Empty => Conf::solo(Epoch(1), ApplianceId::A, DISKS.a),
        };
        let record = WitnessRecord { conf, ..first_record(CLUSTER, ApplianceId::A) };
        let nodes = ApplianceId::ALL.map(|appliance| {
            let mut own = OwnState::blank(CLUSTER, appliance, *DISKS.get(appliance));
            if start == Start::Down {
                own.conf = conf;
                own.max_epoch = conf.epoch();
                own.joined = true;
            }
            self.intern(Node::down(own, Vec::<Entry>::new(), Lsn::ZERO))
        });
        let record = self.records.intern((start != Start::Empty).then_some(record)).0;
        // Before another witness is proposed, an old record of the pair is put there.
        let other = if self.bounds.moves > 0 { record } else { self.records.intern(None).0 };
        let records: [u32; REGISTERS] = [record, other];
        let witness = self.witnesses.intern(Witness { records, pending: Vec::new(), foreign: false }).0;
        let newest = if start == Start::Down { conf } else { Conf::NONE };
        let history = self.histories.intern(History { acknowledged: Vec::new(), newest }).0;
        World { nodes, witness, history, net: [[NONE; MOST_MESSAGES]; 2], left: self.bounds }
    }

    /// From the first start on, nothing failing on the way.
    fn begun(&mut self, start: Start) -> World {
        let mut world = self.start(Start::First);
        let [record, _] = self.witnesses.get(world.witness).records;
        let (a, b) = (0, 1);
        world = self.go(&world, a, Stimulus::Restart);
        world = self.go(&world, b, Stimulus::Restart);
        world = self.go(&world, a, Stimulus::Jump);
        world = self.go(&world, b, Stimulus::Jump);
        world = self.go(&world, a, Stimulus::Attempt(Action::Look, record));
        world = self.go(&world, a, Stimulus::Attempt(Action::BeginAlone, NONE));
        world = self.hear_all(&world, b);
        world = self.hear_all(&world, a);
        if start == Start::Pair {
            world = self.go(&world, a, Stimulus::Attempt(Action::Propose(Agreement::Rejoin), NONE));
            world = self.hear_all(&world, b);
            world = self.hear_all(&world, a);
            world = self.hear_all(&world, b);
            world = self.hear_all(&world, a);
            world = self.go(&world, a, Stimulus::Attempt(Action::Sync, record));
        }
        World { left: self.bounds, ..without_messages(&world) }
    }

    /// The outcome of a stimulus with which nothing goes wrong.
    pub(super) fn go(&mut self, world: &World, who: usize, stimulus: Stimulus) -> World {
        let mut out = Vec::new();
        let open = World {
            left: Bounds { crashes: u8::from(stimulus == Stimulus::Crash), late: 0, ..self.bounds },
            ..*world
        };
        let kept = std::mem::replace(&mut self.bounds.messages, 3);
        self.happen(&open, who, stimulus, open.left, &mut out);
        self.bounds.messages = kept;
        out.retain(|(_, step, result)| result.is_ok() && matches!(step.fate, None | Some(Fate::Applied)));
        out.first().map_or(open, |(next, ..)| *next)
    }

    /// Everything on its way to an appliance arrives.
    pub(super) fn hear_all(&mut self, world: &World, who: usize) -> World {
        let messages: Vec<_> = Self::inbox(world, who).collect();
        let mut next = World { ..*world };
        next.net[who] = [NONE; MOST_MESSAGES];
        for message in messages {
            next = self.go(&next, who, Stimulus::Message(message));
        }
        next
    }
}

/// All messages are lost.
pub fn without_messages(world: &World) -> World {
    World { net: [[NONE; MOST_MESSAGES]; 2], ..*world }
}
