//! Faults drawn at random during the safety phase, and the healing of all of them.

use duet_protocol::{ApplianceId, RoleName};

use super::clock::{MILLI, SECOND, Time};
use super::disk::{Files, Mishap};
use super::event::Event;
use super::options::Fault;
use super::random::Random;
use super::schedule::{Scheduled, Step};
use super::witness::place_of;
use super::world::World;

impl World {
    /// Begins to inject the faults of this run's mixture, unless they are given; processes that end are started again.
    pub fn begin_faults(&mut self) {
        self.faulting = true;
        self.restarts = true;
        if self.is_drawn {
            for watcher in 0..self.watchers.len() {
                self.schedule(MILLI, Event::WatcherActs { watcher });
            }
            let first = self.plan.spread(self.options.fault_every);
            self.schedule(first, Event::Fault);
        }
    }

    pub(crate) fn on_fault(&mut self) {
        if !self.faulting {
            return;
        }
        let plan = &mut self.plan;
        let next = plan.spread(self.options.fault_every);
        let fault = plan.pick(&self.options.faults);
        let id = plan.pick(&ApplianceId::ALL);
        let lasts = plan.spread(self.options.fault_lasts);
        let dice = plan.bits();
        self.schedule(next, Event::Fault);
        self.perform(Step::Fault { fault, id, lasts, dice });
    }

    /// Does what the schedule wants, and remembers it.
    pub(crate) fn perform(&mut self, step: Step) {
        self.schedule_so_far.push(Scheduled { at: self.now, step });
        match step {
            Step::Fault { fault, id, lasts, dice } => {
                self.note(|| format!("fault: {fault:?} of {id} for {} ms", lasts / MILLI));
                if self.faulting && self.inject(fault, id, lasts, &mut Random::new(dice)) {
                    *self.faults.entry(fault).or_default() += 1;
                }
            }
            Step::Write { target, count, way, dice } => {
                self.request(None, target, Some(count), way, dice);
            }
            Step::Read { target, way, dice } => {
                self.request(None, target, None, way, dice);
            }
            Step::Watch { watcher, target, dice } => self.watch(watcher, target, dice),
        }
    }

    fn inject(&mut self, fault: Fault, id: ApplianceId, lasts: Time, dice: &mut Random) -> bool {
        let runs = self.machines.get(id).process.is_some();
        match fault {
            Fault::Crash => self.crash(id, false),
            Fault::PowerCut => self.crash(id, true),
            Fault::BothCrash => {
                self.crash(id, true);
                self.crash(id.peer(), true);
                return true;
            }
            Fault::SoftStop => self.soft_stop(id),
            Fault::BothStop => {
                self.soft_stop(id);
                self.soft_stop(id.peer());
            }
            Fault::Switchover => self.switchover(id),
            Fault::CutBothWays | Fault::CutOneWay => {
                let noticed = dice.chance(700);
                for from in [id, id.peer()] {
                    if from == id || fault == Fault::CutBothWays {
                        self.cut(from, noticed);
                        self.schedule(lasts, Event::Uncut { from });
                    }
                }
                return true;
            }
            Fault::ConnectionReset => {
                self.reset_connection();
                return true;
            }
            Fault::Freeze => self.pause(id, lasts, true),
            Fault::DriverStall => self.pause(id, lasts, false),
            Fault::WitnessDown => {
                self.witness_lost(None);
                self.schedule(lasts, Event::WitnessBack { id: None });
                return true;
            }
            Fault::WitnessUnreachable => {
                self.witness_lost(Some(id));
                self.schedule(lasts, Event::WitnessBack { id: Some(id) });
                return true;
            }
            Fault::WitnessLate => {
                self.witness_late = true;
                self.witness_mut().healthy_since = None;
                self.schedule(lasts, Event::WitnessQuick);
                return true;
            }
            Fault::WitnessWiped => {
                let lacking = |id| self.is_harmed(id) || !self.own(id).joined;
                return !ApplianceId::ALL.into_iter().any(lacking) && self.wipe_witness();
            }
            Fault::SlowDisk => {
                self.machines.get_mut(id).slow_disk = Some((100 * MILLI, SECOND));
                self.schedule(lasts, Event::DiskQuick { id });
                return true;
            }
            Fault::DiskLost => return self.take_disk_away(id),
            Fault::ClockRate => {
                self.retune_clocks();
                return true;
            }
            Fault::Flapping => {
                let times = dice.within((2, 12));
                for time in 0..times {
                    let from = dice.pick(&ApplianceId::ALL);
                    self.schedule(lasts * time / times, Event::Cut { from });
                    self.schedule(lasts * (2 * time + 1) / (2 * times), Event::Uncut { from });
                }
                return true;
            }
            Fault::FailingSync => {
                self.machines.get_mut(id).suspect = true;
                self.machines.get(id).disk.arm(Mishap::FailSync, dice);
            }
            Fault::DiskFull => self.fill_disk(id, dice.below(128 << 10), lasts),
            Fault::DroppedWrite => return self.arm(id, Mishap::DropWrite(Files::Log), dice),
            Fault::TornWrite => return self.arm(id, Mishap::TearWrite(Files::Log), dice),
            Fault::MisdirectedWrite => return self.arm(id, Mishap::MisdirectWrite(Files::Log), dice),
            Fault::FlippedBit => return self.flip_bit(id, Files::Log, dice),
            Fault::StateDropped => return self.arm(id, Mishap::DropWrite(Files::State), dice),
            Fault::StateTorn => return self.arm(id, Mishap::TearWrite(Files::State), dice),
            Fault::StateMisdirected => return self.arm(id, Mishap::MisdirectWrite(Files::State), dice),
            Fault::StateFlipped => return self.flip_bit(id, Files::State, dice),
            Fault::WitnessMoved => return self.move_witness(),
            Fault::WitnessSetBack => return self.set_witness_back_harmlessly(dice),
        }
        runs
    }

    /// The machine stays down until every request it made is settled; then its disk is blank, or has lost writes.
    fn take_disk_away(&mut self, id: ApplianceId) -> bool {
        let harmed = ApplianceId::ALL.into_iter().any(|id| self.is_harmed(id));
        if harmed || self.machines.get(id).held_down || self.options.lossy.is_some() {
            return false;
        }
        self.crash(id, true);
        self.machines.get_mut(id).held_down = true;
        self.schedule(13 * SECOND, Event::DiskBack { id });
        true
    }

    /// Only while nothing but this disk is lost with it: the peer serves, by a configuration that nothing under way can
    /// change any more.
    pub(crate) fn on_disk_back(&mut self, id: ApplianceId) {
        if !self.machines.get(id).held_down {
            return;
        }
        self.machines.get_mut(id).held_down = false;
        let settled = self.can_do_without(id) && !self.is_harmed(id.peer());
        if settled && (self.machines.get(id).disk.is_injured() || self.random.chance(500)) {
            self.replace_disk(id);
        } else if settled {
            let count = self.random.within((1, 20));
            self.lose_writes(id, count);
        }
        self.start(id);
    }

    /// Whether the peer serves, by a configuration that nothing under way can change any more.
    pub(crate) fn can_do_without(&self, id: ApplianceId) -> bool {
        let peer = id.peer();
        self.status(peer).is_some_and(|status| {
            let conf = status.own.conf;
            let serves = status.role == RoleName::Primary && status.pending.is_none();
            // An empty witness is refilled by a pair only: when all is healed nothing that could is still under way.
            let known = self.record().map_or(!self.faulting, |record| record.conf == conf);
            serves && known && self.own(peer).conf == conf && self.newest() == conf && conf.is_solo()
        })
    }

    /// The witness's record is lost.
    pub fn wipe_witness(&mut self) -> bool {
        self.note(|| "the witness loses its record".into());
        self.witness_mut().healthy_since = None;
        self.witness_mut().record.take().is_some()
    }

    /// The witness holds again what it held as its record number `index`.
    pub fn set_witness_back(&mut self, index: usize) {
        self.note(|| format!("the witness is set back to its record number {index}"));
        let now = self.now;
        self.witness_mut().healthy_since = None;
        self.witness_mut().set_back(now, index);
    }

    /// As far as docs/protocol.md calls it harmless: both appliances hold the newest configuration, so an older one at the
    /// witness entitles nobody; and the witness held it too: nobody is about to hear that it made a newer one.
    fn set_witness_back_harmlessly(&mut self, dice: &mut Random) -> bool {
        let newest = self.newest();
        let knows = |id| {
            let own = self.own(id);
            own.conf == newest && own.tent.is_none() && !self.is_harmed(id)
        };
        let undecided = |id| self.status(id).is_some_and(|status| status.pending.is_some());
        if !ApplianceId::ALL.into_iter().all(knows) || ApplianceId::ALL.into_iter().any(undecided) {
            return false;
        }
        if self.record().is_none_or(|record| record.conf != newest) {
            return false;
        }
        let last = self.records().len() - 1;
        let back = usize::try_from(dice.spread((1, 50))).unwrap_or(1);
        self.set_witness_back(last.saturating_sub(back));
        true
    }

    /// The witness cannot be reached, by one appliance or by any.
    pub fn witness_lost(&mut self, id: Option<ApplianceId>) {
        self.note(|| {
            format!("the witness cannot be reached by {}", id.map_or("anybody".into(), |id| id.to_string()))
        });
        let witness = self.witness_mut();
        witness.healthy_since = None;
        match id {
            Some(id) => *witness.reachable.get_mut(id) = false,
            None => witness.up = false,
        }
    }

    /// The register that is not the present witness can be reached by nobody, for as long as nothing is healed.
    pub fn other_witness_lost(&mut self) {
        let at = 1 - place_of(self.newest().witness());
        self.witnesses[at].up = false;
    }

    /// It can be reached again.
    pub fn witness_back(&mut self, id: Option<ApplianceId>) {
        self.note(|| "the witness can be reached again".into());
        let (now, late) = (self.now, self.witness_late);
        for witness in &mut self.witnesses {
            match id {
                Some(id) => *witness.reachable.get_mut(id) = true,
                None => witness.up = true,
            }
            if ApplianceId::ALL.into_iter().all(|id| witness.reached_by(id)) && !late {
                witness.healthy_since = Some(now);
            }
        }
    }

    /// Since when neither connection, processes nor disks were disturbed; `None`: they are now.
    pub(crate) fn undisturbed_since(&self) -> Option<Time> {
        // Random runs disturb all the time; only a world without random faults can be said to be quiet.
        (!self.faulting && self.options.faults.is_empty()).then_some(0)
    }

    /// Everything that was broken is repaired, and nothing breaks any more.
    pub fn heal(&mut self) {
        self.note(|| "everything is healed".into());
        self.faulting = false;
        self.healed_at = self.now;
        self.restarts = true;
        self.options.fault_lasts = (100 * MILLI, SECOND);
        self.options.lossy = None;
        self.message_filter = None;
        self.witness_filter = None;
        self.witness_late = false;
        self.hurry_watchers();
        self.witness_back(None);
        for id in ApplianceId::ALL {
            self.witness_back(Some(id));
            self.uncut(id);
            self.mend(id);
            let now = self.now;
            if let Some(process) = &mut self.machines.get_mut(id).process
                && process.stalled_until.is_some()
            {
                process.stalled_until = Some(now);
                let life = process.life;
                self.schedule(0, Event::Resume { id, life });
            }
            self.start(id);
        }
    }
}
