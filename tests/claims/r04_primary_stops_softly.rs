//! R4: when the primary shuts down softly its peer is promoted, the LSN X at the witness is cleared, and the peer goes on
//! taking writes: LSN Y grows, and no write fails for good.

use crate::client::Load;
use crate::etcdctl::Etcdctl;
use crate::harness::{A, B, Ledger, Pair, Witness, with_both_witnesses};
use crate::tap::Tap;

with_both_witnesses!(
    the_peer_is_promoted_and_the_lsn_cleared,
    no_write_fails_for_good_under_64_writers,
    etcdctl_works_before_during_and_after
);

async fn the_peer_is_promoted_and_the_lsn_cleared(witness: Witness) {
    let mut pair = Pair::lay_out(witness).await;
    let tap: Option<Tap> = match witness {
        Witness::Server => Some(pair.tap_witness().await),
        Witness::Directory => None,
    };
    pair.start_new().await;
    let mut ledger = Ledger::default();
    for (leaver, stayer) in [(A, B), (B, A)] {
        pair.write(leaver, &mut ledger, 4).await;
        let before = pair.until_in_sync().await.0;
        assert_eq!(before.appliance, leaver.to_string());
        pair.soft_stop(leaver).await;
        let after = pair.until_primary(stayer).await;
        assert!(after.conf.as_ref().unwrap().epoch > before.conf.unwrap().epoch);
        assert_eq!((after.lsn, &after.digest), (before.lsn, &before.digest), "the promotion changed no data");
        let cleared = pair
            .until_record("the new primary and no LSN of the old one", |record| {
                record.conf.primary() == stayer && record.left.get(leaver).is_none()
            })
            .await;
        assert_eq!((cleared.writer, cleared.part), (stayer, None));
        if let Some(tap) = &tap {
            // In this order: written by the one, cleared by the other.
            let accepted = tap.accepted();
            let written = accepted.iter().rposition(|record| record.left.get(leaver).is_some()).unwrap();
            let note = accepted[written].left.get(leaver).unwrap();
            assert!(note.was_primary && note.position.lsn.0 == before.lsn);
            assert!(accepted[written + 1..].iter().any(|record| record.left.get(leaver).is_none()));
        }
        pair.write(stayer, &mut ledger, 5).await;
        assert_eq!(pair.status(stayer).await.lsn, before.lsn + 5, "its LSN grows");
        pair.has_all(stayer, &ledger).await;
        pair.start_appliance(leaver).await;
        pair.converges_with(&ledger).await;
    }
}

async fn no_write_fails_for_good_under_64_writers(witness: Witness) {
    let mut pair = Pair::start(witness).await;
    let load = Load::start(&pair, "handover", 64);
    load.goes_on(&pair, 1_000).await;
    pair.soft_stop(A).await;
    load.goes_on(&pair, 1_000).await;
    pair.start_appliance(A).await;
    // It catches up with writers that never rest, then the way back.
    let back =
        |status: &duet_server::StatusReport| status.conf.as_ref().is_some_and(|conf| conf.in_sync.len() == 2);
    pair.until_status(B, "has A in sync again", back).await;
    pair.soft_stop(B).await;
    pair.until_primary(A).await;
    load.goes_on(&pair, 1_000).await;
    let outcome = load.stop().await;
    pair.start_appliance(B).await;
    pair.until_in_sync().await;
    for appliance in [A, B] {
        outcome.is_in(&pair.client(appliance).everything_here().await.unwrap());
    }
}

async fn etcdctl_works_before_during_and_after(witness: Witness) {
    let mut pair = Pair::start(witness).await;
    let both = [A, B].map(|appliance| pair.client_url(appliance));
    let Some(anywhere) = Etcdctl::find(&both).await else { return };
    let at_a = Etcdctl::find(&both[..1]).await.unwrap();
    let at_b = Etcdctl::find(&both[1..]).await.unwrap();
    commands(&at_a, "before/a").await;
    commands(&at_b, "before/b").await;

    let mut watch = at_b.start(&["watch", "during/", "--prefix"]);
    let load = Load::start(&pair, "beside", 4);
    // The watch is there once it has told something.
    let told = async {
        loop {
            anywhere.run(&["put", "during/0", "first"]).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = told => unreachable!(),
        () = watch.until_line("during/0") => {}
    }
    load.goes_on(&pair, 50).await;
    pair.begin_soft_stop(A);
    for number in 1..=10 {
        // During and just after the handover, at whichever appliance is there.
        let (key, value) = (format!("during/{number}"), number.to_string());
        let probe = async || anywhere.run(&["put", &key, &value]).await.ok();
        pair.until("etcdctl puts", probe).await;
        let found = anywhere.run(&["get", &key, "--print-value-only"]).await.unwrap();
        assert_eq!(found.trim(), value);
    }
    pair.soft_stop_ends(A).await;
    watch.until_line("during/10").await;
    commands(&at_b, "after/b").await;
    load.stop().await;
    pair.start_appliance(A).await;
    pair.until_in_sync().await;
    commands(&at_a, "again/a").await;
}

/// What people do with etcdctl.
async fn commands(etcdctl: &Etcdctl, prefix: &str) {
    let key = |name: &str| format!("{prefix}/{name}");
    assert_eq!(etcdctl.run(&["put", &key("one"), "1"]).await.unwrap().trim(), "OK");
    assert_eq!(etcdctl.run(&["get", &key("one")]).await.unwrap(), format!("{}\n1\n", key("one")));
    let transaction =
        format!("value(\"{0}\") = \"1\"\n\nput {1} 2\n\nput {1} never\n\n", key("one"), key("two"));
    let answer = etcdctl.run_with_input(&["txn"], &transaction).await.unwrap();
    assert!(answer.contains("SUCCESS"), "{answer}");
    assert_eq!(etcdctl.run(&["get", &key("two"), "--print-value-only"]).await.unwrap().trim(), "2");
    let granted = etcdctl.run(&["lease", "grant", "600"]).await.unwrap();
    let lease = granted.split_whitespace().nth(1).unwrap().to_owned();
    etcdctl.run(&["put", &key("leased"), "3", "--lease", &lease]).await.unwrap();
    let alive = etcdctl.run(&["lease", "keep-alive", "--once", &lease]).await.unwrap();
    assert!(alive.contains("keepalived with TTL(600)"), "{alive}");
    etcdctl.run(&["lease", "revoke", &lease]).await.unwrap();
    assert_eq!(etcdctl.run(&["get", &key("leased")]).await.unwrap(), "", "it went with its lease");
    assert_eq!(etcdctl.run(&["del", &key("one")]).await.unwrap().trim(), "1");
    assert_eq!(etcdctl.run(&["get", &key("one")]).await.unwrap(), "");
}
