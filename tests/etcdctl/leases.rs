//! Leases that end, and leases that are kept: the scripts cannot wait.

use crate::harness::{A, B, Pair, Witness, run};
use crate::tool::{Etcdctl, is_installed};

/// "lease 32695410dcc0ca06 granted with TTL(2s)".
fn granted(output: &str) -> String {
    output.split_whitespace().nth(1).unwrap().to_owned()
}

#[test]
fn a_lease_that_nobody_keeps_takes_its_keys_along() {
    run(async {
        if !is_installed() {
            return;
        }
        let pair = Pair::start(Witness::Server).await;
        let (at_a, at_b) = (Etcdctl::new(&[pair.client_url(A)]), Etcdctl::new(&[pair.client_url(B)]));
        let short = granted(&at_b.run(&["lease", "grant", "2"]).await.ok());
        let long = granted(&at_a.run(&["lease", "grant", "600"]).await.ok());
        at_b.run(&["put", "short/1", "x", "--lease", &short]).await.ok();
        at_a.run(&["put", "short/2", "x", "--lease", &short]).await.ok();
        at_a.run(&["put", "long", "x", "--lease", &long]).await.ok();
        let gone = async || at_b.run(&["get", "short/", "--prefix"]).await.ok().is_empty().then_some(());
        pair.until("the short lease's keys are gone", gone).await;
        assert_eq!(at_a.run(&["get", "short/", "--prefix"]).await.ok(), "");
        assert_eq!(at_b.run(&["get", "long"]).await.ok(), "long\nx\n");
        assert_eq!(at_a.run(&["lease", "list"]).await.ok(), format!("found 1 leases\n{long}\n"));
        let after = at_a.run(&["lease", "timetolive", &short]).await.ok();
        assert!(after.contains("already expired"), "{after}");
    });
}

#[test]
fn a_lease_that_is_kept_outlives_a_handover() {
    run(async {
        if !is_installed() {
            return;
        }
        let mut pair = Pair::start(Witness::Server).await;
        let both = Etcdctl::at_both(&pair);
        let lease = granted(&both.run(&["lease", "grant", "3"]).await.ok());
        both.run(&["put", "kept", "x", "--lease", &lease]).await.ok();
        let mut keeper = both.start(&pair.dir().join("keeper.log"), &["lease", "keep-alive", &lease]);
        keeper.until(&pair, "keeps the lease", |lines| !lines.is_empty()).await;
        pair.soft_stop(A).await;
        pair.until_primary(B).await;
        // Keeping it once a third of its time: so many times are more than its whole time.
        let before = keeper.lines().len();
        keeper.until(&pair, "keeps the lease at B", |lines| lines.len() >= before + 5).await;
        let lines = keeper.lines();
        assert!(
            lines.iter().all(|line| line == &format!("lease {lease} keepalived with TTL(3)")),
            "{lines:?}"
        );
        assert_eq!(both.run(&["get", "kept"]).await.ok(), "kept\nx\n");
        // And without its keeper it ends, now at B.
        drop(keeper);
        let gone = async || both.run(&["get", "kept"]).await.ok().is_empty().then_some(());
        pair.until("the lease has ended", gone).await;
    });
}
