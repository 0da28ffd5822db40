//! R12: hard failures - crash, pause, partition, lost witness, in any order - lose nothing that was acknowledged, let nobody
//! read old data, and heal without a person.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use duet_protocol::ApplianceId;
use tokio::task::JoinHandle;

use crate::client::{Client, Load};
use crate::harness::{A, B, Ledger, Pair, Witness, with_both_witnesses};
use crate::proxy::Line;

with_both_witnesses!(
    both_are_killed_and_one_returns_alone,
    both_are_killed_and_return_without_a_witness,
    a_solo_primary_is_killed_and_returns_alone,
    a_deposed_primary_answers_nothing_stale_after_a_pause,
    the_witness_is_away_while_one_leaves_and_returns,
    the_witness_comes_back_empty,
    both_stop_one_after_the_other_with_writes_between,
    both_stop_one_after_the_other_without_writes_between,
    both_stop_at_the_same_second,
    the_primary_is_cut_off_from_peer_and_witness,
    the_primary_is_cut_off_in_silence,
    two_handovers_in_quick_succession,
    the_primary_is_killed_under_64_writers,
    the_secondary_is_killed_under_64_writers,
);

async fn both_are_killed_and_one_returns_alone(witness: Witness) {
    let mut pair = Pair::start(witness).await;
    let mut ledger = Ledger::default();
    for returning in [A, B] {
        let primary = pair.until_any_primary().await;
        pair.write(primary, &mut ledger, 5).await;
        pair.process(A).kill();
        pair.process(B).kill();
        pair.ends(A).await;
        pair.ends(B).await;
        pair.start_appliance(returning).await;
        pair.until_primary(returning).await;
        pair.has_all(returning, &ledger).await;
        pair.write(returning, &mut ledger, 2).await;
        pair.start_appliance(returning.peer()).await;
        pair.converges_with(&ledger).await;
    }
}

async fn both_are_killed_and_return_without_a_witness(witness: Witness) {
    let mut pair = Pair::start(witness).await;
    let mut ledger = Ledger::default();
    pair.write(A, &mut ledger, 5).await;
    pair.process(A).kill();
    pair.process(B).kill();
    pair.ends(A).await;
    pair.ends(B).await;
    pair.stop_witness();
    // One of a pair may not begin without the witness: the other could have gone on. Two may.
    pair.start_appliance(A).await;
    let sentence = pair.until_waiting(A, &["either"]).await;
    println!("A says: {sentence}");
    pair.serves_nothing(A).await;
    pair.start_appliance(B).await;
    pair.until_any_primary().await;
    pair.converges_with(&ledger).await;
    pair.start_witness().await;
    pair.until_record("both in sync", |record| record.conf.is_pair()).await;
}

async fn a_solo_primary_is_killed_and_returns_alone(witness: Witness) {
    let mut pair = Pair::start(witness).await;
    let mut ledger = Ledger::default();
    for (solo, leave_softly) in [(A, true), (B, false)] {
        pair.write(solo, &mut ledger, 2).await;
        pair.until_in_sync().await;
        if leave_softly {
            pair.soft_stop(solo.peer()).await;
        } else {
            pair.crash(solo.peer()).await;
        }
        pair.until_status(solo, "is alone", |status| {
            status.role == "primary" && status.conf.as_ref().is_some_and(|conf| conf.in_sync.len() == 1)
        })
        .await;
        for with_witness in [true, false] {
            pair.write(solo, &mut ledger, 3).await;
            pair.crash(solo).await;
            if !with_witness {
                pair.stop_witness();
            }
            pair.start_appliance(solo).await;
            pair.until_primary(solo).await;
            pair.has_all(solo, &ledger).await;
            pair.write(solo, &mut ledger, 1).await;
        }
        pair.start_witness().await;
        pair.start_appliance(solo.peer()).await;
        pair.converges_with(&ledger).await;
    }
}

/// Readers that never rest. Each remembers what was acknowledged before it asked: nothing older may come back.
struct Readers {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<()>>,
}

const COUNTER: &str = "counter";

impl Readers {
    fn start(url: &str, acknowledged: &Arc<AtomicU64>, count: usize) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let tasks = (0..count)
            .map(|_| {
                let client = Client::new(url);
                tokio::spawn(read_on(client, acknowledged.clone(), stop.clone(), answered.clone()))
            })
            .collect();
        Self { stop, answered, tasks }
    }

    async fn go_on(&self, pair: &Pair, count: u64) {
        let wanted = self.answered.load(Ordering::SeqCst) + count;
        let probe = async || {
            let failed = self.tasks.iter().any(JoinHandle::is_finished);
            (failed || self.answered.load(Ordering::SeqCst) >= wanted).then_some(())
        };
        pair.until(&format!("{count} more linearizable reads are answered"), probe).await;
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
        println!("{} linearizable reads, none stale", self.answered.load(Ordering::SeqCst));
    }
}

async fn read_on(
    client: Client,
    acknowledged: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
) {
    while !stop.load(Ordering::SeqCst) {
        let floor = acknowledged.load(Ordering::SeqCst);
        if let Ok(value) = client.get(COUNTER).await {
            let value: u64 = value.map_or(0, |value| value.parse().unwrap());
            assert!(value >= floor, "read {value}, but {floor} was acknowledged before the read began");
            answered.fetch_add(1, Ordering::SeqCst);
        } else {
            tokio::task::yield_now().await;
        }
    }
}

async fn count_up(pair: &Pair, through: ApplianceId, acknowledged: &AtomicU64, times: u64) {
    for _ in 0..times {
        let next = acknowledged.load(Ordering::SeqCst) + 1;
        let probe = async || pair.client(through).put(COUNTER, &next.to_string()).await.ok();
        pair.until(&format!("{through} counts up"), probe).await;
        acknowledged.store(next, Ordering::SeqCst);
    }
}

/// Connections that clients of this machine hold to a port: the kernel accepts them also while the process sleeps.
fn connections_to(url: &str) -> usize {
    let port: u16 = url.rsplit(':').next().unwrap().parse().unwrap();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().filter(|line| line.contains(&format!(":{port:04X} 01"))).count()
}

async fn a_deposed_primary_answers_nothing_stale_after_a_pause(witness: Witness) {
    let mut pair = Pair::start(witness).await;
    let acknowledged = Arc::<AtomicU64>::default();
    for (paused, other) in [(A, B), (B, A), (A, B)] {
        count_up(&pair, paused, &acknowledged, 5).await;
        let through_the_pause = Readers::start(&pair.client_url(paused), &acknowledged, 8);
        through_the_pause.go_on(&pair, 100).await;
        pair.process(paused).pause();
        pair.until_primary(other).await;
        count_up(&pair, other, &acknowledged, 20).await;
        // These ask the paused one, which still believes in its lease, what they may only hear from the other.
        let before = connections_to(&pair.client_url(paused));
        let at_its_door = Readers::start(&pair.client_url(paused), &acknowledged, 16);
        let knock = async || (connections_to(&pair.client_url(paused)) >= before + 16).then_some(());
        pair.until("the readers are connected", knock).await;
        pair.process(paused).resume();
        through_the_pause.go_on(&pair, 50).await;
        at_its_door.go_on(&pair, 50).await;
        count_up(&pair, paused, &acknowledged, 5).await;
        at_its_door.go_on(&pair, 50).await;
        through_the_pause.stop().await;
        at_its_door.stop().await;
        let (primary, _) = pair.until_in_sync().await;
        assert_eq!(primary.appliance, other.to_string(), "the deposed one follows");
    }
    let counted = acknowledged.load(Ordering::SeqCst).to_string();
    assert_eq!(pair.client(A).get(COUNTER).await.unwrap(), Some(counted));
}

async fn the_witness_is_away_while_one_leaves_and_returns(witness: Witness) {
    let mut pair = Pair::start(witness).await;
    let mut ledger = Ledger::default();
    pair.write(A, &mut ledger, 3).await;
    pair.until_in_sync().await;
    pair.stop_witness();
    // The secondary.
    pair.soft_stop(B).await;
    pair.write(A, &mut ledger, 3).await;
    pair.start_appliance(B).await;
    pair.converges_with(&ledger).await;
    assert_eq!(pair.until_any_primary().await, A);
    // The primary.
    pair.soft_stop(A).await;
    pair.until_primary(B).await;
    pair.write(B, &mut ledger, 3).await;
    pair.start_appliance(A).await;
    pair.converges_with(&ledger).await;
    assert_eq!(pair.until_any_primary().await, B);
    // Both, the last one alone: it could not leave its LSN, so it can go on alone.
    pair.soft_stop(A).await;
    pair.write(B, &mut ledger, 3).await;
    pair.soft_stop(B).await;
    pair.start_appliance(A).await;
    let sentence = pair.until_waiting(A, &["waits for"]).await;
    println!("A says: {sentence}");
    pair.start_appliance(B).await;
    pair.until_primary(B).await;
    pair.converges_with(&ledger).await;
    pair.start_witness().await;
    pair.until_record("the pair as it is", |record| record.conf.is_pair() && record.conf.primary() == B)
        .await;
    pair.crash(B).await;
    pair.until_primary(A).await;
    pair.has_all(A, &ledger).await;
}

async fn the_witness_comes_back_empty(witness: Witness) {
    let mut pair = Pair::start(witness).await;
    let mut ledger = Ledger::default();
    pair.write(A, &mut ledger, 3).await;
    pair.until_in_sync().await;
    let before = pair.record().await.revision;
    // With both there it is filled again, and works again.
    pair.stop_witness();
    pair.wipe_witness();
    pair.start_witness().await;
    pair.write(A, &mut ledger, 3).await;
    let record = pair.until_record("the pair again", |record| record.conf.is_pair()).await;
    assert!(record.revision > before, "revisions go on: {} after {before}", record.revision);
    pair.crash(A).await;
    pair.until_primary(B).await;
    pair.write(B, &mut ledger, 3).await;
    pair.until_record("B alone", |record| record.conf.is_solo() && record.conf.primary() == B).await;
    // With one there nobody may conclude anything from an empty witness.
    pair.crash(B).await;
    pair.stop_witness();
    pair.wipe_witness();
    pair.start_witness().await;
    pair.start_appliance(A).await;
    let sentence = pair.until_waiting(A, &["no record"]).await;
    println!("A says: {sentence}");
    pair.serves_nothing(A).await;
    assert_eq!(pair.try_record().await.unwrap(), None, "A puts nothing there");
    pair.start_appliance(B).await;
    pair.until_primary(B).await;
    pair.converges_with(&ledger).await;
    pair.until_record("the pair again", |record| record.conf.is_pair() && record.conf.primary() == B).await;
}

async fn both_stop_one_after_the_other_with_writes_between(witness: Witness) {
    let mut pair = Pair::start(witness).await;
    let mut ledger = Ledger::default();
    for first in [A, B] {
        let last = first.peer();
        pair.write(first, &mut ledger, 3).await;
        pair.until_in_sync().await;
        pair.soft_stop(first).await;
        pair.until_primary(last).await;
        pair.write(last, &mut ledger, 3).await;
        pair.soft_stop(last).await;
        // The first one alone must wait.
        pair.start_appliance(first).await;
        pair.until_waiting(first, &[&format!("waits for {last}")]).await;
        pair.serves_nothing(first).await;
        pair.soft_stop(first).await;
        // The second one alone must serve.
        pair.start_appliance(last).await;
        pair.until_primary(last).await;
        pair.has_all(last, &ledger).await;
        pair.soft_stop(last).await;
        // Both must pair up.
        pair.start_both().await;
        pair.converges_with(&ledger).await;
        assert_eq!(pair.until_any_primary().await, last);
    }
}

async fn both_stop_one_after_the_other_without_writes_between(witness: Witness) {
    let mut pair = Pair::start(witness).await;
    let mut ledger = Ledger::default();
    for (first, alone) in [(A, A), (A, B), (B, A), (B, B)] {
        let primary = pair.until_any_primary().await;
        pair.write(primary, &mut ledger, 2).await;
        pair.until_in_sync().await;
        pair.soft_stop(first).await;
        pair.until_primary(first.peer()).await;
        pair.soft_stop(first.peer()).await;
        pair.start_appliance(alone).await;
        pair.until_primary(alone).await;
        pair.has_all(alone, &ledger).await;
        pair.start_appliance(alone.peer()).await;
        pair.converges_with(&ledger).await;
    }
}

async fn both_stop_at_the_same_second(witness: Witness) {
    let mut pair = Pair::start(witness).await;
    let mut ledger = Ledger::default();
    for (order, alone) in [([A, B], A), ([B, A], B), ([A, B], B)] {
        let primary = pair.until_any_primary().await;
        pair.write(primary, &mut ledger, 3).await;
        let lsn = pair.until_in_sync().await.0.lsn;
        for appliance in order {
            pair.begin_soft_stop(appliance);
        }
        pair.soft_stop_ends(A).await;
        pair.soft_stop_ends(B).await;
        let record = pair.record().await;
        let last = record.conf.primary();
        assert_eq!(
            record.part.map(|part| part.lsn.0),
            Some(lsn),
            "the one that went last left its LSN: {record:?}"
        );
        let other = record.left.get(last.peer()).as_ref().map(|note| note.position.lsn.0);
        // Where the handover was quicker than the second signal, it is cleared already (R4).
        let cleared = other.is_none() && last != primary;
        assert!(other == Some(lsn) || cleared, "the other one left its LSN too: {record:?}");
        pair.start_appliance(alone).await;
        pair.until_primary(alone).await;
        pair.has_all(alone, &ledger).await;
        pair.start_appliance(alone.peer()).await;
        pair.converges_with(&ledger).await;
    }
}

/// A is cut off from everybody but its clients, while they go on reading and writing at both.
async fn isolated(witness: Witness, line: Line) {
    let pair = Pair::start_with_lines(witness).await;
    let acknowledged = Arc::<AtomicU64>::default();
    let load = Load::start(&pair, "cut off", 16);
    load.goes_on(&pair, 300).await;
    count_up(&pair, A, &acknowledged, 3).await;
    let readers = Readers::start(&pair.client_url(A), &acknowledged, 8);
    readers.go_on(&pair, 50).await;
    pair.set_witness_line(A, line);
    pair.set_peer_lines(line);
    pair.until_primary(B).await;
    count_up(&pair, B, &acknowledged, 10).await;
    load.goes_on(&pair, 100).await;
    let cut_off = pair.status(A).await;
    assert!(!cut_off.serving, "without peer and witness it may not serve: {cut_off:?}");
    pair.set_witness_line(A, Line::Open);
    pair.set_peer_lines(Line::Open);
    count_up(&pair, B, &acknowledged, 5).await;
    readers.go_on(&pair, 100).await;
    load.goes_on(&pair, 300).await;
    readers.stop().await;
    let outcome = load.stop().await;
    pair.until_in_sync().await;
    for appliance in [A, B] {
        outcome.is_in(&pair.client(appliance).everything_here().await.unwrap());
    }
}

async fn the_primary_is_cut_off_from_peer_and_witness(witness: Witness) {
    isolated(witness, Line::Cut).await;
}

async fn the_primary_is_cut_off_in_silence(witness: Witness) {
    isolated(witness, Line::Silent).await;
}

async fn two_handovers_in_quick_succession(witness: Witness) {
    let pair = Pair::start(witness).await;
    let load = Load::start(&pair, "to and fro", 32);
    load.goes_on(&pair, 300).await;
    for _ in 0..3 {
        for from in [A, B] {
            // As soon as it takes the order: it does when it is primary, whatever else is still going on.
            let given = async || pair.order(from, "switchover").await.ok();
            pair.until(&format!("{from} takes the order to hand over"), given).await;
            let handed = async || {
                if pair.try_status(from.peer()).await.is_ok_and(|status| status.role == "primary") {
                    return Some(());
                }
                // It may have been too early: the peer was not in sync yet.
                pair.order(from, "switchover").await.ok();
                None
            };
            pair.until(&format!("{} is primary", from.peer()), handed).await;
        }
    }
    load.goes_on(&pair, 300).await;
    let outcome = load.stop().await;
    pair.until_in_sync().await;
    for appliance in [A, B] {
        outcome.is_in(&pair.client(appliance).everything_here().await.unwrap());
    }
}

/// Both in turn, twice, always the one in that role.
async fn killed_under_load(witness: Witness, the_primary: bool) {
    let mut pair = Pair::start(witness).await;
    let load = Load::start(&pair, if the_primary { "primary killed" } else { "secondary killed" }, 64);
    for _ in 0..2 {
        load.goes_on(&pair, 1_000).await;
        let primary = pair.until_any_primary().await;
        let victim = if the_primary { primary } else { primary.peer() };
        pair.crash(victim).await;
        pair.until_primary(victim.peer()).await;
        load.goes_on(&pair, 1_000).await;
        pair.start_appliance(victim).await;
        let in_sync = |status: &duet_server::StatusReport| {
            status.conf.as_ref().is_some_and(|conf| conf.in_sync == ["A", "B"])
        };
        pair.until_status(victim.peer(), "has the other in sync again", in_sync).await;
    }
    let outcome = load.stop().await;
    pair.until_in_sync().await;
    for appliance in [A, B] {
        outcome.is_in(&pair.client(appliance).everything_here().await.unwrap());
    }
}

async fn the_primary_is_killed_under_64_writers(witness: Witness) {
    killed_under_load(witness, true).await;
}

async fn the_secondary_is_killed_under_64_writers(witness: Witness) {
    killed_under_load(witness, false).await;
}
