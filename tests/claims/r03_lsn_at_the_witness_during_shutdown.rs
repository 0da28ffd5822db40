//! R3: an appliance that shuts down softly writes its LSN to the witness during the shutdown, before it stops: LSN X for A,
//! LSN Y for B; as primary with its peer, as secondary, and alone.
//!
//! With a witness server the answer to that very write is held back by a tap: the LSN is at the witness, and the appliance
//! still runs. With a directory the appliance is made to dwell after each request to the witness (a failpoint), so that
//! its record can be read in between.

use duet_protocol::{ApplianceId, Position, WitnessRecord};
use duet_server::StatusReport;

use crate::harness::{A, B, Ledger, Pair, Witness, with_both_witnesses};
use crate::tap::Tap;

with_both_witnesses!(
    as_primary_with_its_peer,
    as_secondary,
    alone,
    without_a_witness_it_stops_all_the_same_and_says_so
);

/// Long enough to read a record many times over. A shutdown waits for the witness for 2 s, in which a conflict and its
/// repetition must find room: four requests.
const DWELL: &str = "witness.request.after=sleep:350";

/// A pair in which shutdowns can be looked at.
struct Observed {
    pair: Pair,
    tap: Option<Tap>,
}

impl Observed {
    async fn start(witness: Witness) -> Self {
        let mut pair = Pair::lay_out(witness).await;
        let tap = match witness {
            Witness::Server => Some(pair.tap_witness().await),
            Witness::Directory => None,
        };
        pair.start_new().await;
        Self { pair, tap }
    }

    /// Restarts an appliance so that it dwells, where that is needed; gives the pair back in sync.
    async fn make_observable(&mut self, appliance: ApplianceId) {
        if self.tap.is_none() {
            self.pair.soft_stop(appliance).await;
            self.pair.set_environment(appliance, "DUET_FAILPOINT", DWELL);
            self.pair.start_appliance(appliance).await;
            self.pair.clear_environment(appliance);
            self.pair.until_in_sync().await;
            let cleared = |record: &WitnessRecord| record.left.get(appliance).is_none();
            self.pair.until_record("nothing left of the shutdown before", cleared).await;
        }
    }

    /// Stops an appliance softly. Its LSN is found at the witness while it runs, is the one it had, and stays after its end.
    async fn stops(
        &mut self,
        appliance: ApplianceId,
        left: fn(&WitnessRecord, ApplianceId) -> Option<Position>,
    ) {
        let before = self.pair.status(appliance).await;
        if let Some(tap) = &self.tap {
            tap.hold(move |record| left(record, appliance).is_some());
        }
        self.pair.begin_soft_stop(appliance);
        let seen = if let Some(tap) = &self.tap {
            self.pair.until("the LSN is written to the witness", async || tap.held()).await
        } else {
            let holds = |record: &WitnessRecord| left(record, appliance).is_some();
            self.pair.until_record("the LSN", holds).await
        };
        assert!(
            self.pair.is_running(appliance),
            "the LSN came to the witness only when {appliance} had stopped"
        );
        let now = self.pair.record().await;
        assert_eq!(
            left(&now, appliance),
            left(&seen, appliance),
            "any reader finds it there, during the shutdown"
        );
        is_where_it_was(left(&seen, appliance), &before);
        if let Some(tap) = &self.tap {
            tap.release();
        }
        self.pair.soft_stop_ends(appliance).await;
    }
}

fn is_where_it_was(left: Option<Position>, before: &StatusReport) {
    let left = left.unwrap();
    let (lsn, epoch, digest) = (left.lsn.0, left.epoch.0, left.digest.to_string());
    assert_eq!((lsn, epoch, &digest), (before.lsn, before.epoch, &before.digest), "(LSN, epoch, digest)");
}

fn note_of_a_primary(record: &WitnessRecord, appliance: ApplianceId) -> Option<Position> {
    record.left.get(appliance).as_ref().filter(|note| note.was_primary).map(|note| note.position)
}

fn note_of_a_secondary(record: &WitnessRecord, appliance: ApplianceId) -> Option<Position> {
    record.left.get(appliance).as_ref().filter(|note| !note.was_primary).map(|note| note.position)
}

fn part(record: &WitnessRecord, appliance: ApplianceId) -> Option<Position> {
    record.part.filter(|_| record.conf.primary() == appliance && record.conf.is_solo())
}

async fn as_primary_with_its_peer(witness: Witness) {
    let mut observed = Observed::start(witness).await;
    let mut ledger = Ledger::default();
    for appliance in [A, B] {
        observed.make_observable(appliance).await;
        if observed.pair.status(appliance).await.role != "primary" {
            observed.pair.order(appliance.peer(), "switchover").await.unwrap();
            observed.pair.until_primary(appliance).await;
            observed.pair.until_in_sync().await;
        }
        observed.pair.write(appliance, &mut ledger, 3).await;
        observed.pair.until_in_sync().await;
        observed.stops(appliance, note_of_a_primary).await;
        observed.pair.until_primary(appliance.peer()).await;
        observed.pair.start_appliance(appliance).await;
        observed.pair.converges_with(&ledger).await;
    }
}

async fn as_secondary(witness: Witness) {
    let mut observed = Observed::start(witness).await;
    let mut ledger = Ledger::default();
    for appliance in [B, A] {
        observed.make_observable(appliance).await;
        let primary = appliance.peer();
        if observed.pair.status(primary).await.role != "primary" {
            observed.pair.order(appliance, "switchover").await.unwrap();
            observed.pair.until_primary(primary).await;
            observed.pair.until_in_sync().await;
        }
        observed.pair.write(primary, &mut ledger, 3).await;
        observed.pair.until_in_sync().await;
        observed.stops(appliance, note_of_a_secondary).await;
        // It stays there until the secondary is back, whatever is written meanwhile.
        let noted = note_of_a_secondary(&observed.pair.record().await, appliance).unwrap();
        observed.pair.write(primary, &mut ledger, 2).await;
        let what = "the primary's solo configuration and the note";
        let record = observed.pair.until_record(what, |record| record.conf.is_solo()).await;
        assert_eq!(note_of_a_secondary(&record, appliance), Some(noted));
        observed.pair.start_appliance(appliance).await;
        observed.pair.until_in_sync().await;
        let cleared = |record: &WitnessRecord| record.left.get(appliance).is_none();
        observed.pair.until_record("no note of it any more", cleared).await;
        observed.pair.converges_with(&ledger).await;
    }
}

async fn alone(witness: Witness) {
    let mut observed = Observed::start(witness).await;
    let mut ledger = Ledger::default();
    for appliance in [A, B] {
        observed.make_observable(appliance).await;
        observed.pair.soft_stop(appliance.peer()).await;
        observed.pair.until_primary(appliance).await;
        observed.pair.write(appliance, &mut ledger, 3).await;
        observed.stops(appliance, part).await;
        let record = observed.pair.record().await;
        assert_eq!(part(&record, appliance).unwrap().lsn.0, ledger.acknowledged.len() as u64);
        observed.pair.start_both().await;
        observed.pair.converges_with(&ledger).await;
    }
}

async fn without_a_witness_it_stops_all_the_same_and_says_so(witness: Witness) {
    let mut pair = Pair::start(witness).await;
    let before = pair.record().await;
    pair.stop_witness();
    pair.begin_soft_stop(B);
    pair.soft_stop_ends(B).await;
    assert!(pair.log(B).contains("stops without leaving its LSN there"), "{}", pair.log(B));
    pair.start_witness().await;
    assert!(pair.record().await.revision >= before.revision);
    pair.start_appliance(B).await;
    pair.until_in_sync().await;
}
