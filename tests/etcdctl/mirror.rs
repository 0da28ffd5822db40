//! `make-mirror`: a live copy out of a pair into an etcd and in from one, through a handover and a kill -9; and the other
//! whole programs inside etcdctl.

use crate::harness::{A, PATIENCE, Pair, Witness, run};
use crate::maintenance::etcds;
use crate::tool::{Etcdctl, is_installed};

/// What an endpoint holds below `mirror/`, as etcdctl prints it.
async fn held(etcdctl: &Etcdctl) -> String {
    etcdctl.run(&["get", "mirror/", "--prefix"]).await.ok()
}

async fn until_held(pair: &Pair, etcdctl: &Etcdctl, expected: &str) {
    let start = std::time::Instant::now();
    while held(etcdctl).await != expected {
        let seen = held(etcdctl).await;
        assert!(start.elapsed() < PATIENCE, "expected:\n{expected}seen:\n{seen}{}", pair.diagnosis().await);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[test]
fn a_mirror_into_an_etcd_goes_on_through_a_handover_and_a_crash() {
    run(async {
        if !is_installed() {
            return;
        }
        let mut pair = Pair::start(Witness::Server).await;
        let Some(etcd) = etcds(&pair).await.into_iter().next() else { return };
        let (ours, theirs) = (Etcdctl::at_both(&pair), Etcdctl::new(etcd.urls()));
        ours.run(&["put", "mirror/1", "before"]).await.ok();
        ours.run(&["put", "elsewhere", "x"]).await.ok();
        let log = pair.dir().join("mirror.log");
        let _mirror = ours.start(&log, &["make-mirror", "--prefix", "mirror/", &etcd.urls()[0]]);
        until_held(&pair, &theirs, "mirror/1\nbefore\n").await;
        pair.order(A, "switchover").await.unwrap();
        pair.until_primary(A.peer()).await;
        ours.run(&["put", "mirror/2", "after a handover"]).await.ok();
        until_held(&pair, &theirs, "mirror/1\nbefore\nmirror/2\nafter a handover\n").await;
        pair.until_paired().await;
        pair.crash(A.peer()).await;
        pair.until_primary(A).await;
        ours.run(&["del", "mirror/1"]).await.ok();
        ours.run(&["put", "mirror/3", "after a crash"]).await.ok();
        until_held(&pair, &theirs, "mirror/2\nafter a handover\nmirror/3\nafter a crash\n").await;
        assert_eq!(theirs.run(&["get", "elsewhere"]).await.ok(), "");
    });
}

#[test]
fn a_mirror_out_of_an_etcd_fills_a_pair() {
    run(async {
        if !is_installed() {
            return;
        }
        let pair = Pair::start(Witness::Server).await;
        let Some(etcd) = etcds(&pair).await.into_iter().next() else { return };
        let (ours, theirs) = (Etcdctl::at_both(&pair), Etcdctl::new(etcd.urls()));
        theirs.run(&["put", "mirror/1", "old"]).await.ok();
        let log = pair.dir().join("mirror.log");
        // At the secondary: it passes the writes on.
        let _mirror = theirs.start(&log, &["make-mirror", "--prefix", "mirror/", &pair.client_url(A.peer())]);
        until_held(&pair, &ours, "mirror/1\nold\n").await;
        theirs.run(&["put", "mirror/1", "new"]).await.ok();
        theirs.run(&["put", "mirror/2", "more"]).await.ok();
        until_held(&pair, &ours, "mirror/1\nnew\nmirror/2\nmore\n").await;
    });
}

/// Ten thousand keys, and the memory that the metrics tell before and after.
#[test]
fn check_datascale_passes() {
    run(async {
        if !is_installed() {
            return;
        }
        let pair = Pair::start(Witness::Server).await;
        let said = Etcdctl::at_both(&pair).run(&["check", "datascale", "--load", "s"]).await.ok();
        assert!(said.contains("PASS: Approximate system memory used"), "{said}");
    });
}

/// 150 writes a second for a minute; none of them may take half a second.
#[test]
#[ignore = "a minute of load, and a verdict on this machine"]
fn check_perf_passes() {
    run(async {
        if !is_installed() {
            return;
        }
        let pair = Pair::start(Witness::Server).await;
        let log = pair.dir().join("perf.log");
        let mut check = Etcdctl::at_both(&pair).start(&log, &["check", "perf", "--load", "s"]);
        let said = check.ended(std::time::Duration::from_mins(2)).await;
        assert!(said.last().is_some_and(|verdict| verdict == "PASS"), "{said:#?}");
    });
}

#[test]
fn move_leader_is_a_switchover() {
    run(async {
        if !is_installed() {
            return;
        }
        let pair = Pair::start(Witness::Server).await;
        let [at_a, at_b] = [A, A.peer()].map(|appliance| Etcdctl::new(&[pair.client_url(appliance)]));
        let status = at_b.run(&["endpoint", "status"]).await.ok();
        let id_of_b = status.split(", ").nth(1).unwrap().to_owned();
        let refused = at_b.run(&["move-leader", &id_of_b]).await.error();
        assert!(refused.contains("no leader endpoint given"), "{refused}");
        let said = at_a.run(&["move-leader", &id_of_b]).await.ok();
        assert!(said.starts_with("Leadership transferred from "), "{said}");
        pair.until_primary(A.peer()).await;
    });
}
