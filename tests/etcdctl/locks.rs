//! `etcdctl lock` and `elect`: their recipes run in etcdctl, over keys and leases.

use crate::harness::{A, B, Pair, Witness, run};
use crate::tool::{Etcdctl, Ongoing, is_installed};

fn start(pair: &Pair, etcdctl: &Etcdctl, log: &str, args: &[&str]) -> Ongoing {
    etcdctl.start(&pair.dir().join(format!("{log}.log")), args)
}

async fn line_has(pair: &Pair, etcdctl: &Etcdctl, name: &str, places: usize) {
    let there = async || {
        let keys = etcdctl.run(&["get", &format!("{name}/"), "--prefix", "--keys-only"]).await.ok();
        (keys.lines().filter(|line| !line.is_empty()).count() == places).then_some(())
    };
    pair.until(&format!("{places} wait for {name}"), there).await;
}

#[test]
fn a_lock_goes_from_one_to_the_next_and_outlives_a_handover() {
    run(async {
        if !is_installed() {
            return;
        }
        let pair = Pair::start(Witness::Server).await;
        let [at_a, at_b] = [A, B].map(|appliance| Etcdctl::new(&[pair.client_url(appliance)]));
        let mut holder = start(&pair, &at_a, "holder", &["lock", "jobs"]);
        let held = holder.until(&pair, "holds the lock", |lines| !lines.is_empty()).await;
        assert!(held[0].starts_with("jobs/"), "{held:?}");
        let mut waiting = start(&pair, &at_b, "waiting", &["lock", "jobs"]);
        line_has(&pair, &at_a, "jobs", 2).await;
        pair.order(A, "switchover").await.unwrap();
        pair.until_primary(B).await;
        assert_eq!(waiting.lines(), [""; 0]);
        holder.stop().await;
        let next = waiting.until(&pair, "holds the lock now", |lines| !lines.is_empty()).await;
        assert!(next[0].starts_with("jobs/") && next != held, "{next:?}");
        waiting.stop().await;
        line_has(&pair, &at_b, "jobs", 0).await;
        // With a command it ends by itself, with the command's end.
        let said = at_a.run(&["lock", "jobs", "echo", "done"]).await;
        assert_eq!(said.ok(), "done\n");
    });
}

#[test]
fn an_election_goes_from_one_to_the_next_and_outlives_a_handover() {
    run(async {
        if !is_installed() {
            return;
        }
        let pair = Pair::start(Witness::Server).await;
        let [at_a, at_b] = [A, B].map(|appliance| Etcdctl::new(&[pair.client_url(appliance)]));
        let mut leader = start(&pair, &at_b, "leader", &["elect", "boss", "first"]);
        let leads = leader.until(&pair, "leads", |lines| lines.len() >= 2).await;
        assert!(leads[0].starts_with("boss/") && leads[1] == "first", "{leads:?}");
        let mut observer = start(&pair, &at_a, "observer", &["elect", "--listen", "boss"]);
        let told = observer.until(&pair, "is told of the leader", |lines| lines.len() >= 2).await;
        assert_eq!(told, leads);
        let mut candidate = start(&pair, &at_a, "candidate", &["elect", "boss", "second"]);
        line_has(&pair, &at_b, "boss", 2).await;
        pair.order(A, "switchover").await.unwrap();
        pair.until_primary(B).await;
        assert_eq!(candidate.lines(), [""; 0]);
        leader.stop().await;
        let leads = candidate.until(&pair, "leads now", |lines| lines.len() >= 2).await;
        assert_eq!(leads[1], "second");
        let told = observer.until(&pair, "is told of the next", |lines| lines.len() >= 4).await;
        assert_eq!(told[2..], leads[..]);
    });
}
