//! Appliances, data and witnesses that do not belong together.

use std::fs;

use crate::harness::{A, B, CLUSTER, Ledger, Pair, Witness, run};
use crate::program::{contents, duet, is_still_of, serve, still_serves, unchanged, with_config};

/// Changes one field of an appliance's configuration file; gives the old text.
fn set(pair: &Pair, appliance: duet_protocol::ApplianceId, field: &str, value: &str) -> String {
    let path = pair.config_path(appliance);
    let old = fs::read_to_string(&path).unwrap();
    let line = old.lines().find(|line| line.starts_with(&format!("{field} = "))).unwrap();
    fs::write(&path, old.replace(line, &format!("{field} = \"{value}\""))).unwrap();
    old
}

#[test]
fn another_clusters_name_or_another_appliances_letter() {
    run(async {
        let mut pair = Pair::start(Witness::Server).await;
        let mut ledger = Ledger::default();
        pair.write(A, &mut ledger, 5).await;
        pair.soft_stop(B).await;
        let before = contents(&pair.data(B));
        for command in ["serve", "init"] {
            let old = set(&pair, B, "cluster", "another");
            with_config(pair.dir(), command, &pair.config_path(B))
                .await
                .refuses(1, &[CLUSTER, "another", "configuration"]);
            fs::write(pair.config_path(B), old).unwrap();
            let old = set(&pair, B, "appliance", "A");
            with_config(pair.dir(), command, &pair.config_path(B))
                .await
                .refuses(1, &["appliance B", "says A", "configuration"]);
            fs::write(pair.config_path(B), old).unwrap();
        }
        unchanged(&before, &contents(&pair.data(B)));
        pair.start_appliance(B).await;
        still_serves(&mut pair, &mut ledger).await;
    });
}

#[test]
fn the_witness_of_another_pair_of_the_same_name() {
    run(async {
        let mut ours = Pair::start(Witness::Server).await;
        let mut theirs = Pair::start(Witness::Directory).await;
        let (mut our_ledger, mut their_ledger) = (Ledger::default(), Ledger::default());
        ours.write(A, &mut our_ledger, 5).await;
        theirs.write(A, &mut their_ledger, 3).await;
        ours.soft_stop(B).await;
        ours.soft_stop(A).await;
        let their_record = theirs.record().await;
        // Ours could begin alone, if the witness were its own.
        let foreign = format!("dir:{}", theirs.dir().join("witness").display());
        let old = set(&ours, A, "witness", &foreign);
        ours.start_appliance(A).await;
        let says = |status: &duet_server::StatusReport| {
            let error = status.witness.error.as_deref().unwrap_or_default();
            !status.serving
                && error.contains("the witness's record belongs to cluster")
                && error.contains("(id ")
        };
        ours.until_status(A, "says that the witness's record is another pair's", says).await;
        let config = ours.config_path(B).display().to_string();
        let args = ["init", "--config", &config, "--witness", &foreign];
        duet(ours.dir(), &args).await.refuses(1, &["already exists"]);
        let refused = ours.client(A).put("x", "y").await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused:?}");
        ours.soft_stop(A).await;
        is_still_of(&their_record, &theirs.record().await);
        still_serves(&mut theirs, &mut their_ledger).await;

        fs::write(ours.config_path(A), old).unwrap();
        ours.start_both().await;
        still_serves(&mut ours, &mut our_ledger).await;
    });
}

#[test]
fn the_same_letter_on_both() {
    run(async {
        let mut pair = Pair::start(Witness::Server).await;
        let mut ledger = Ledger::default();
        pair.write(A, &mut ledger, 5).await;
        pair.soft_stop(B).await;
        fs::rename(pair.data(B), pair.dir().join("kept")).unwrap();
        let old = set(&pair, B, "appliance", "A");
        pair.start_appliance(B).await;
        let says = |status: &duet_server::StatusReport| {
            let error = status.peer.error.as_deref().unwrap_or_default();
            !status.serving && status.lsn == 0 && error.contains("both appliances are configured as A")
        };
        pair.until_status(B, "says that both are configured as A", says).await;
        let refused = pair.client(B).put("x", "y").await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused:?}");
        pair.write(A, &mut ledger, 5).await;
        pair.soft_stop(B).await;
        // The letter is right again, and now the directory is not.
        fs::write(pair.config_path(B), old).unwrap();
        serve(&pair, B).await.refuses(1, &["appliance A", "says B"]);
        fs::remove_dir_all(pair.data(B)).unwrap();
        fs::rename(pair.dir().join("kept"), pair.data(B)).unwrap();
        pair.start_appliance(B).await;
        still_serves(&mut pair, &mut ledger).await;
    });
}

#[test]
fn a_copied_data_directory() {
    run(async {
        let mut pair = Pair::start(Witness::Server).await;
        let mut ledger = Ledger::default();
        pair.write(A, &mut ledger, 5).await;
        pair.soft_stop(B).await;
        // Somebody "repairs" B with a copy of A's files: the letter tells.
        fs::rename(pair.data(B), pair.dir().join("kept")).unwrap();
        for (name, bytes) in contents(&pair.data(A)) {
            let path = pair.data(B).join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        serve(&pair, B).await.refuses(1, &["appliance A", "says B"]);
        fs::remove_dir_all(pair.data(B)).unwrap();
        fs::rename(pair.dir().join("kept"), pair.data(B)).unwrap();
        pair.start_appliance(B).await;
        still_serves(&mut pair, &mut ledger).await;
    });
}

#[test]
fn two_pairs_that_meet() {
    run(async {
        // Two pairs of one name, each with its own init; B of the one is told A of the other as its peer.
        let mut ours = Pair::start(Witness::Server).await;
        let mut theirs = Pair::start(Witness::Directory).await;
        let (mut our_ledger, mut their_ledger) = (Ledger::default(), Ledger::default());
        ours.write(A, &mut our_ledger, 5).await;
        theirs.write(A, &mut their_ledger, 3).await;
        ours.soft_stop(A).await;
        ours.until_primary(B).await;
        let their_b = theirs.config_text(B);
        let address =
            their_b.lines().find_map(|line| line.strip_prefix("peer_listen = ")).unwrap().trim_matches('"');
        let old = set(&ours, A, "peer", address);
        ours.start_appliance(A).await;
        let says = |status: &duet_server::StatusReport| {
            let error = status.peer.error.as_deref().unwrap_or_default();
            !status.serving && error.contains("wrong peer") && error.contains("two inits")
        };
        ours.until_status(A, "says that its peer belongs to another pair", says).await;
        still_serves(&mut theirs, &mut their_ledger).await;
        ours.write(B, &mut our_ledger, 3).await;
        ours.soft_stop(A).await;
        fs::write(ours.config_path(A), old).unwrap();
        ours.start_appliance(A).await;
        still_serves(&mut ours, &mut our_ledger).await;
    });
}
