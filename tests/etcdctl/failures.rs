//! Commands around a crash: what was acknowledged is there, and the survivor goes on.

use crate::harness::{A, B, Pair, Witness, run};
use crate::tool::{Etcdctl, Said, is_installed};

/// What etcd's clients are told when the outcome of a write is not known, or nobody could take it.
fn is_honest(error: &str) -> bool {
    [
        "etcdserver: request timed out, possibly due to previous leader failure",
        "etcdserver: request timed out",
        "etcdserver: no leader",
        "context deadline exceeded",
        "transport is closing",
        "connection refused",
        "connection error",
        "error reading from server",
        "all SubConns are in TransientFailure",
    ]
    .iter()
    .any(|known| error.contains(known))
}

#[test]
fn a_crashed_primary_loses_nothing_that_etcdctl_was_told() {
    run(async {
        if !is_installed() {
            return;
        }
        let mut pair = Pair::start(Witness::Server).await;
        let both = Etcdctl::at_both(&pair);
        let writer = both.clone();
        // Puts without a pause; one after the other, so that the crash falls into one of them.
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let writing = tokio::spawn(async move {
            for number in 0.. {
                let key = format!("crash/{number:04}");
                let said: Said = writer.run(&["put", &key, "x"]).await;
                if tell.send((key, said)).is_err() {
                    return;
                }
            }
        });
        let mut acknowledged = Vec::new();
        let mut after = 0;
        let mut crashed = false;
        while after < 10 {
            let (key, said) = told.recv().await.unwrap();
            if said.code == 0 {
                acknowledged.push(key);
                after += usize::from(crashed);
            } else {
                println!("{key}: {}", said.err);
                assert!(crashed && is_honest(&said.err), "{key}: {said:?}");
            }
            if acknowledged.len() == 10 && !crashed {
                pair.crash(A).await;
                crashed = true;
            }
        }
        drop(told);
        writing.await.unwrap();
        pair.until_primary(B).await;
        for etcdctl in [&both, &Etcdctl::new(&[pair.client_url(B)])] {
            let keys = etcdctl.run(&["get", "crash/", "--prefix", "--keys-only"]).await.ok();
            for key in &acknowledged {
                assert!(
                    keys.lines().any(|line| line == key),
                    "{key} was acknowledged and is missing:\n{keys}"
                );
            }
        }
        pair.start_appliance(A).await;
        pair.until_in_sync().await;
        let [at_a, at_b] = [A, B].map(|appliance| Etcdctl::new(&[pair.client_url(appliance)]));
        assert_eq!(at_a.run(&["put", "returned", "x"]).await.ok(), "OK\n");
        // Acknowledged is what is durable at both; applied at the secondary it is a moment later.
        pair.until_in_sync().await;
        let all = ["get", "", "--prefix", "-w", "fields", "--consistency", "s"];
        let lines = |text: String| -> Vec<String> {
            text.lines().filter(|line| !line.starts_with("\"MemberID\"")).map(str::to_owned).collect()
        };
        let (of_a, of_b) = (lines(at_a.run(&all).await.ok()), lines(at_b.run(&all).await.ok()));
        assert!(of_a == of_b, "both hold the same");
    });
}

#[test]
fn a_crashed_secondary_is_hardly_noticed() {
    run(async {
        if !is_installed() {
            return;
        }
        let mut pair = Pair::start(Witness::Server).await;
        let at_a = Etcdctl::new(&[pair.client_url(A)]);
        at_a.run(&["put", "before", "x"]).await.ok();
        pair.crash(B).await;
        // Taken while the pair finds out that B is gone, and answered when A is alone.
        at_a.run(&["put", "meanwhile", "x"]).await.ok();
        assert_eq!(at_a.run(&["get", "", "--prefix", "--keys-only"]).await.ok(), "before\n\nmeanwhile\n\n");
    });
}
