//! Commands before, during and after a soft handover: every one succeeds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::harness::{A, B, Pair, Witness, run};
use crate::tool::{Etcdctl, is_installed};

/// One round of what people do; panics with the first command that fails.
async fn round(etcdctl: &Etcdctl, name: &str, number: usize) {
    let key = format!("{name}/{number:04}");
    assert_eq!(etcdctl.run(&["put", &key, "v1"]).await.ok(), "OK\n");
    assert_eq!(etcdctl.run(&["get", &key]).await.ok(), format!("{key}\nv1\n"), "what was just written");
    let txn = format!("value(\"{key}\") = \"v1\"\n\nput {key} v2\nput {key}/gone x\n\nput {key} wrong\n\n");
    let said = etcdctl.run_with_input(&["txn"], &txn).await.ok();
    assert!(said.starts_with("SUCCESS\n"), "{key}: {said}");
    assert_eq!(etcdctl.run(&["del", &format!("{key}/gone")]).await.ok(), "1\n");
    let lease = etcdctl.run(&["lease", "grant", "600"]).await.ok();
    let lease = lease.split_whitespace().nth(1).unwrap();
    assert_eq!(etcdctl.run(&["put", &format!("{key}/leased"), "x", "--lease", lease]).await.ok(), "OK\n");
    assert_eq!(etcdctl.run(&["lease", "revoke", lease]).await.ok(), format!("lease {lease} revoked\n"));
}

/// After `rounds` rounds exactly this is there.
pub async fn check(etcdctl: &Etcdctl, name: &str, rounds: usize) {
    let expected: Vec<String> =
        (0..rounds).flat_map(|number| [format!("{name}/{number:04}\n"), "v2\n".to_owned()]).collect();
    let expected = expected.concat();
    assert_eq!(etcdctl.run(&["get", &format!("{name}/"), "--prefix"]).await.ok(), expected);
}

/// Rounds of commands, one after the other, until they are stopped.
pub struct Loop {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Loop {
    pub fn start(etcdctl: Etcdctl, name: &'static str) -> Self {
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (its_stop, its_rounds) = (stop.clone(), rounds.clone());
        let task = tokio::spawn(async move {
            while !its_stop.load(Ordering::SeqCst) {
                round(&etcdctl, name, its_rounds.load(Ordering::SeqCst)).await;
                its_rounds.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { stop, rounds, task }
    }

    /// Waits for further rounds.
    pub async fn goes_on(&self, pair: &Pair) {
        let wanted = self.rounds.load(Ordering::SeqCst) + 2;
        let there = async || {
            let failed = self.task.is_finished();
            (failed || self.rounds.load(Ordering::SeqCst) >= wanted).then_some(failed)
        };
        let failed = pair.until("further commands succeed", there).await;
        assert!(!failed, "a command failed\n{}", pair.diagnosis().await);
    }

    pub async fn stop(self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap();
        self.rounds.load(Ordering::SeqCst)
    }
}

#[test]
fn every_command_succeeds_while_the_primary_leaves_softly() {
    run(async {
        if !is_installed() {
            return;
        }
        let mut pair = Pair::start(Witness::Server).await;
        let both = Etcdctl::at_both(&pair);
        let commands = Loop::start(both.clone(), "leave");
        commands.goes_on(&pair).await;
        pair.soft_stop(A).await;
        commands.goes_on(&pair).await;
        pair.start_appliance(A).await;
        pair.until_in_sync().await;
        commands.goes_on(&pair).await;
        pair.soft_stop(B).await;
        commands.goes_on(&pair).await;
        pair.start_appliance(B).await;
        pair.until_in_sync().await;
        commands.goes_on(&pair).await;
        let rounds = commands.stop().await;
        println!("{} commands, all of them well", rounds * 7);
        for appliance in [A, B] {
            check(&Etcdctl::new(&[pair.client_url(appliance)]), "leave", rounds).await;
        }
    });
}

#[test]
fn every_command_at_either_appliance_succeeds_through_switchovers() {
    run(async {
        if !is_installed() {
            return;
        }
        let pair = Pair::start(Witness::Server).await;
        // Here each has one endpoint only: whichever appliance it is, it serves all along.
        let [at_a, at_b] = [A, B].map(|appliance| Etcdctl::new(&[pair.client_url(appliance)]));
        let (first, second) = (Loop::start(at_a.clone(), "at-a"), Loop::start(at_b.clone(), "at-b"));
        for (from, to) in [(A, B), (B, A), (A, B)] {
            first.goes_on(&pair).await;
            second.goes_on(&pair).await;
            pair.order(from, "switchover").await.unwrap();
            pair.until_primary(to).await;
            pair.until_status(to, "has its peer in sync", |status| {
                status.conf.as_ref().is_some_and(|conf| conf.in_sync.len() == 2)
            })
            .await;
        }
        first.goes_on(&pair).await;
        second.goes_on(&pair).await;
        let (in_a, in_b) = (first.stop().await, second.stop().await);
        check(&at_b, "at-a", in_a).await;
        check(&at_a, "at-b", in_b).await;
    });
}
