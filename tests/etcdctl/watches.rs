//! Long watches: every event exactly once and in order, whatever happens to the other appliance; and, with both
//! endpoints, to its own.

use crate::harness::{A, B, Pair, Witness, run};
use crate::tool::{Etcdctl, Ongoing, is_installed};

/// What a watch prints for the events `0..count`.
fn events(count: usize) -> Vec<String> {
    (0..count).flat_map(|number| ["PUT".to_owned(), "w/key".to_owned(), number.to_string()]).collect()
}

/// Writes further events, and others that the watch must not show; gives the number of events.
async fn write(etcdctl: &Etcdctl, count: usize, more: usize) -> usize {
    for number in count..count + more {
        etcdctl.run(&["put", "w/key", &number.to_string()]).await.ok();
        etcdctl.run(&["put", "other", "unseen"]).await.ok();
    }
    count + more
}

async fn saw(pair: &Pair, watch: &mut Ongoing, count: usize) {
    let expected = events(count);
    let lines = watch.until(pair, &format!("{count} events"), |lines| lines.len() >= expected.len()).await;
    assert_eq!(lines, expected);
}

/// From the first revision on, so that nothing depends on when the watch is there.
fn start(pair: &Pair, etcdctl: &Etcdctl, name: &str) -> Ongoing {
    etcdctl.start(&pair.dir().join(format!("{name}.log")), &["watch", "w/", "--prefix", "--rev=1"])
}

#[test]
fn watches_at_both_see_a_handover_as_nothing() {
    run(async {
        if !is_installed() {
            return;
        }
        let pair = Pair::start(Witness::Server).await;
        let both = Etcdctl::at_both(&pair);
        let mut watches = Vec::new();
        for appliance in [A, B] {
            let etcdctl = Etcdctl::new(&[pair.client_url(appliance)]);
            watches.push(start(&pair, &etcdctl, &format!("watch-{appliance}")));
        }
        let mut count = write(&both, 0, 5).await;
        for watch in &mut watches {
            saw(&pair, watch, count).await;
        }
        for (from, to) in [(A, B), (B, A)] {
            pair.order(from, "switchover").await.unwrap();
            count = write(&both, count, 5).await;
            pair.until_primary(to).await;
            count = write(&both, count, 5).await;
            for watch in &mut watches {
                saw(&pair, watch, count).await;
            }
            pair.until_in_sync().await;
        }
    });
}

#[test]
fn a_watch_does_not_notice_that_the_other_appliance_crashes_and_returns() {
    run(async {
        if !is_installed() {
            return;
        }
        let mut pair = Pair::start(Witness::Server).await;
        // B is secondary at first, and becomes primary by A's crash; then A crashes as its secondary.
        let at_b = Etcdctl::new(&[pair.client_url(B)]);
        let mut watch = start(&pair, &at_b, "watch");
        let mut count = write(&at_b, 0, 5).await;
        saw(&pair, &mut watch, count).await;
        for _ in 0..2 {
            pair.crash(A).await;
            pair.until_primary(B).await;
            count = write(&at_b, count, 5).await;
            saw(&pair, &mut watch, count).await;
            pair.start_appliance(A).await;
            pair.until_in_sync().await;
            count = write(&at_b, count, 3).await;
            saw(&pair, &mut watch, count).await;
        }
    });
}

#[test]
fn with_both_endpoints_a_watch_survives_its_own_appliance() {
    run(async {
        if !is_installed() {
            return;
        }
        let mut pair = Pair::start(Witness::Server).await;
        let both = Etcdctl::at_both(&pair);
        // Two of them, as it is the client's choice which appliance it watches.
        let mut watches = Vec::new();
        for name in ["one", "two"] {
            watches.push(start(&pair, &both, name));
        }
        let mut count = write(&both, 0, 5).await;
        for watch in &mut watches {
            saw(&pair, watch, count).await;
        }
        for (gone, how) in [(A, "softly"), (B, "crash"), (A, "crash")] {
            let stays = if gone == A { B } else { A };
            if how == "softly" {
                pair.soft_stop(gone).await;
            } else {
                pair.crash(gone).await;
            }
            pair.until_primary(stays).await;
            let survivor = Etcdctl::new(&[pair.client_url(stays)]);
            count = write(&survivor, count, 5).await;
            for watch in &mut watches {
                saw(&pair, watch, count).await;
            }
            pair.start_appliance(gone).await;
            pair.until_in_sync().await;
        }
    });
}
