//! Another witness: what the process around the core does for it, as the operator's order has it done. The core agrees, the
//! process sees to it that the new register holds a record beforehand and that the former one is marked afterwards.

use duet_protocol::{ApplianceId, Input, PerAppliance, RoleName, WitnessId, WitnessRecord};

use super::clock::{MILLI, SECOND, Time};
use super::event::Event;
use super::marks::Mark;
use super::witness::{Version, place_of};
use super::world::{CLUSTER, World};

/// How often the process looks whether the move is in force, to mark the former witness.
const LOOK: Time = 300 * MILLI;

/// Until a mark reaches the former witness, at times long after.
const ON_ITS_WAY: (Time, Time) = (MILLI, 8 * SECOND);

impl World {
    /// An operator's order, as far as the pair takes it: both are there and in sync, and both reach the new witness.
    pub fn move_witness(&mut self) -> bool {
        let Some(id) = self.primary() else { return false };
        let Some(status) = self.status(id) else { return false };
        let conf = status.own.conf;
        let fit =
            status.role == RoleName::Primary && conf.is_pair() && status.peer.connected && !status.leaving;
        let Some(next) = conf.witness().next().filter(|_| fit) else { return false };
        let (now, at) = (self.now, place_of(next));
        if !ApplianceId::ALL.into_iter().all(|id| self.witnesses[at].reached_by(id)) {
            return false;
        }
        self.note(|| format!("{id} is told to move to witness {next}"));
        if self.witnesses[at].record.is_none() {
            let floor = PerAppliance::default();
            let left = PerAppliance::default();
            let seed =
                WitnessRecord { cluster: CLUSTER, revision: 1, writer: id, conf, part: None, floor, left };
            self.witnesses[at].seed(now, seed);
        }
        let Some(life) = self.life_of(id) else { return false };
        self.input(id, Input::MoveWitness(next));
        self.schedule(LOOK, Event::MarkFormer { id, life, moved_to: next });
        true
    }

    /// The pair may have moved: then whoever comes to the former witness is to know.
    pub(crate) fn mark_former(&mut self, id: ApplianceId, life: u64, moved_to: WitnessId) {
        let Some(process) = self.process_of(id, life) else { return };
        let (conf, moving) = (process.status.own.conf, process.status.moving);
        if conf.witness() < moved_to && (moving.is_some() || process.saving.is_some()) {
            return self.schedule(LOOK, Event::MarkFormer { id, life, moved_to });
        }
        let at = 1 - place_of(moved_to);
        let former = &self.witnesses[at];
        if conf.witness() != moved_to || process.saving.is_some() || !former.reached_by(id) {
            return;
        }
        let version = former.version();
        let Some(record) = former.record.clone().filter(|record| record.conf.epoch() < conf.epoch()) else {
            return;
        };
        let revision = record.revision + 1;
        let record = Box::new(WitnessRecord { conf, revision, writer: id, part: None, ..record });
        let way = self.random.spread(ON_ITS_WAY);
        self.schedule(way, Event::MarkArrives { at, version, record });
    }

    pub(crate) fn on_mark(&mut self, at: usize, version: Version, record: &WitnessRecord) {
        let now = self.now;
        if self.witnesses[at].up && self.witnesses[at].hold_if(now, version, record) {
            self.marks.reach(Mark::FormerMarked);
            self.note(|| "the former witness is marked".into());
        }
    }
}
