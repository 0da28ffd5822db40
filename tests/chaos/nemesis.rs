//! Brings the faults about, and heals them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use duet_protocol::ApplianceId::{self, A, B};
use duet_server::failpoint::DISK_CHANGE;

use crate::harness::Pair;
use crate::proxy::Line;
use crate::random::Random;
use crate::schedule::{Event, Fault, Storm};
use crate::support::clocks;
use crate::support::small_disk::SmallDisk;

/// Monotonic clocks begin up to so many seconds ahead of the machine's: thirty days.
const MOST_UPTIME: u64 = 30 * 24 * 3600;
/// Time for an appliance that is started on a full disk, before there is space again.
const ON_A_FULL_DISK: Duration = Duration::from_millis(500);

/// The nemesis, and what it did.
pub struct Nemesis {
    start: Instant,
    /// For what is no part of the schedule.
    random: Random,
    /// Whose disk can be filled in earnest.
    small: Option<(ApplianceId, SmallDisk)>,
    /// One line for each thing done, with its time.
    pub diary: Vec<String>,
    /// How often each kind of fault was brought about, and what came of those that must be waited for.
    pub tally: BTreeMap<&'static str, u32>,
}

#[derive(Clone, Copy)]
enum Turn {
    Begin,
    End,
}

impl Nemesis {
    pub const fn new(start: Instant, random: Random, small: Option<(ApplianceId, SmallDisk)>) -> Self {
        Self { start, random, small, diary: Vec::new(), tally: BTreeMap::new() }
    }

    fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    fn note(&mut self, what: &str) {
        let at = self.start.elapsed();
        self.diary.push(format!("{:>4}.{:03} s: {what}", at.as_secs(), at.subsec_millis()));
    }

    /// A storm, from its first fault to the last repair.
    pub async fn storm(&mut self, pair: &mut Pair, storm: &Storm) {
        let begun = Instant::now();
        let mut turns: Vec<_> = storm
            .events
            .iter()
            .flat_map(|event: &Event| {
                [(event.begin, Turn::Begin, event.fault), (event.end, Turn::End, event.fault)]
            })
            .collect();
        turns.sort_by_key(|(at, ..)| *at);
        for (at, turn, fault) in turns {
            tokio::time::sleep(at.saturating_sub(begun.elapsed())).await;
            match turn {
                Turn::Begin => {
                    self.note(&fault.to_string());
                    self.count(fault.kind());
                    self.begin(pair, fault).await;
                }
                Turn::End => {
                    self.note(&format!("no more: {fault}"));
                    self.end(pair, fault).await;
                }
            }
        }
        // An appliance may have ended for a reason of its own: a crash at a step that came late.
        for id in ApplianceId::ALL {
            self.restart(pair, id).await;
        }
        if storm.then_calm {
            let primary = pair.until_paired().await;
            self.note(&format!("calm: {primary} is primary, both are in sync"));
        }
    }

    async fn begin(&self, pair: &mut Pair, fault: Fault) {
        match fault {
            Fault::Kill(id) => pair.process(id).kill(),
            Fault::KillBoth => {
                pair.process(A).kill();
                pair.process(B).kill();
            }
            Fault::CrashAt(id, step, times) => pair.arm(id, &format!("{step}=exit@{times}")),
            Fault::PowerCut(id, step, times, seed) => pair.arm(id, &format!("{step}=power:{seed}@{times}")),
            Fault::PowerCutBoth(seed) => {
                pair.arm(A, &format!("{DISK_CHANGE}=power:{seed}"));
                pair.arm(B, &format!("{DISK_CHANGE}=power:{}", seed + 1));
            }
            Fault::DiskFull(id) => {
                match self.small_disk(id) {
                    Some(disk) => disk.fill(),
                    None => pair.arm(id, &format!("{DISK_CHANGE}=full")),
                }
                // A change of roles needs space at once; whoever is not primary refuses.
                if pair.order(id, "switchover").await.is_err() {
                    pair.order(id.peer(), "switchover").await.ok();
                }
            }
            Fault::Pause(id) => pair.process(id).pause(),
            Fault::SoftStop(id) => pair.begin_soft_stop(id),
            Fault::SoftStopBoth => {
                pair.begin_soft_stop(A);
                pair.begin_soft_stop(B);
            }
            // Refused by whoever is not primary, or has nobody to hand over to.
            Fault::Switchover(id) => drop(pair.order(id, "switchover").await),
            Fault::SlowSync(id, time) => pair.arm(id, &format!("log.sync.before=sleep:{time}")),
            Fault::PeerLine(line) => pair.set_peer_lines(line),
            Fault::PeerWay(from, line) => pair.set_peer_way(from, line),
            Fault::PeerReset => pair.reset_peer_lines(),
            Fault::WitnessLine(id, line) => pair.set_witness_line(id, line),
            Fault::WitnessWay(id, way, line) => pair.set_witness_way(id, way, line),
            Fault::WitnessKill | Fault::WitnessWipe => pair.stop_witness(),
            Fault::WitnessPause => pair.witness_process().pause(),
        }
    }

    async fn end(&mut self, pair: &mut Pair, fault: Fault) {
        match fault {
            Fault::Kill(id) | Fault::SoftStop(id) => self.restart_after_its_end(pair, id).await,
            Fault::KillBoth | Fault::SoftStopBoth => {
                self.restart_after_its_end(pair, A).await;
                self.restart_after_its_end(pair, B).await;
            }
            Fault::CrashAt(id, ..) => {
                pair.disarm(id);
                self.restart(pair, id).await;
            }
            Fault::PowerCut(id, ..) => self.give_power(pair, id).await,
            Fault::PowerCutBoth(_) => {
                self.give_power(pair, A).await;
                self.give_power(pair, B).await;
            }
            Fault::DiskFull(id) => self.give_space(pair, id).await,
            Fault::Pause(id) => pair.process(id).resume(),
            Fault::SlowSync(id, _) => pair.disarm(id),
            Fault::PeerLine(_) => pair.set_peer_lines(Line::Open),
            Fault::PeerWay(from, _) => pair.set_peer_way(from, Line::Open),
            Fault::Switchover(_) | Fault::PeerReset => {}
            Fault::WitnessLine(id, _) => pair.set_witness_line(id, Line::Open),
            Fault::WitnessWay(id, way, _) => pair.set_witness_way(id, way, Line::Open),
            Fault::WitnessKill => pair.start_witness().await,
            Fault::WitnessPause => pair.witness_process().resume(),
            Fault::WitnessWipe => {
                pair.wipe_witness();
                pair.start_witness().await;
            }
        }
    }

    async fn give_power(&mut self, pair: &mut Pair, id: ApplianceId) {
        pair.disarm(id);
        if !pair.is_running(id) {
            self.count("(appliances that lost power)");
            self.restart(pair, id).await;
        }
    }

    fn small_disk(&self, id: ApplianceId) -> Option<&SmallDisk> {
        self.small.as_ref().filter(|(whose, _)| *whose == id).map(|(_, disk)| disk)
    }

    /// An appliance that ended for want of space is started again as a service manager would: while the disk is full, and
    /// when it is not.
    async fn give_space(&mut self, pair: &mut Pair, id: ApplianceId) {
        if !pair.is_running(id) {
            self.note(&format!("{id} ended: its disk is full"));
            self.count("(appliances that ended for want of space)");
            self.restart(pair, id).await;
            pair.process(id).wait(ON_A_FULL_DISK).await;
        }
        match self.small_disk(id) {
            Some(disk) => disk.free(),
            None => pair.disarm(id),
        }
        self.restart(pair, id).await;
    }

    /// Waits for the end of a shutdown that may still go on, then starts it again, with monotonic clocks that begin
    /// elsewhere: as after a reboot.
    async fn restart_after_its_end(&mut self, pair: &mut Pair, id: ApplianceId) {
        pair.ends(id).await;
        let offset = Duration::from_secs(self.random.within(0..MOST_UPTIME));
        if let Some(enter) = clocks::ahead(offset) {
            pair.set_enter(id, enter);
            self.count("(starts with clocks of their own)");
        }
        pair.launch(id);
    }

    /// Starts it again if it has ended.
    async fn restart(&mut self, pair: &mut Pair, id: ApplianceId) {
        if !pair.is_running(id) {
            self.restart_after_its_end(pair, id).await;
        }
    }
}
