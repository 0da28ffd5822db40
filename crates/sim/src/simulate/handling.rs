//! What is done to a machine on purpose: told to stop, to hand over, held up, slowed down.

use duet_protocol::{ApplianceId, Input};

use super::clock::{MILLI, Time};
use super::event::Event;
use super::world::{World, draw_drift};

impl World {
    /// SIGTERM.
    pub fn soft_stop(&mut self, id: ApplianceId) {
        let now = self.now;
        if let Some(process) = &mut self.machines.get_mut(id).process {
            process.leaving_since.get_or_insert((now, process.status.committed));
            self.note(|| format!("{id} is told to stop"));
            self.input(id, Input::Shutdown);
        }
    }

    /// The role is to go to the peer.
    pub fn switchover(&mut self, id: ApplianceId) {
        self.note(|| format!("{id} is told to hand over"));
        self.input(id, Input::Switchover);
    }

    /// The driver handles nothing for `time`; with `frozen` the readers stand still as well.
    pub fn pause(&mut self, id: ApplianceId, time: Time, frozen: bool) {
        let until = self.now + time;
        let Some(process) = &mut self.machines.get_mut(id).process else { return };
        if process.stalled_until.is_some_and(|other| other >= until) {
            return;
        }
        process.stalled_until = Some(until);
        process.frozen = frozen;
        let life = process.life;
        self.note(|| format!("{id} is paused for {} ms", time / MILLI));
        self.schedule_at(until, Event::Resume { id, life });
    }

    pub(crate) fn on_resume(&mut self, id: ApplianceId, life: u64) {
        let now = self.now;
        let Some(process) = self.process_of_mut(id, life) else { return };
        if process.stalled_until == Some(now) {
            process.stalled_until = None;
            process.frozen = false;
            for event in std::mem::take(&mut process.held) {
                self.schedule(0, event);
            }
            self.input(id, Input::Tick);
        }
    }

    /// Whether the process stands still; then the event comes when it goes on.
    pub(crate) fn is_held(&mut self, id: ApplianceId, life: u64, event: Event) -> bool {
        let Some(process) = self.process_of_mut(id, life).filter(|process| process.frozen) else {
            return false;
        };
        process.held.push(event);
        true
    }

    /// Its fsyncs take this long, for a while.
    pub fn slow_disk(&mut self, id: ApplianceId, fsync: (Time, Time), lasts: Time) {
        self.machines.get_mut(id).slow_disk = Some(fsync);
        self.schedule(lasts, Event::DiskQuick { id });
    }

    pub(crate) fn retune_clocks(&mut self) {
        for id in ApplianceId::ALL {
            let drift = draw_drift(&mut self.random, self.options.drift);
            let now = self.now;
            self.machines.get_mut(id).clock.retune(now, drift);
            self.reschedule_tick(id);
        }
    }
}
