//! Appliances, data and witnesses that do not belong together.

use std::fs;

use duet_protocol::ApplianceId;
use duet_server::StatusReport;

use crate::harness::{A, B, CLUSTER, Ledger, Pair, Witness, run};
use crate::program::{contents, duet, is_still_of, serve, still_serves, unchanged, with_config};

/// A pair with some writes.
async fn with_writes(witness: Witness, count: u64) -> (Pair, Ledger) {
    let pair = Pair::start(witness).await;
    let mut ledger = Ledger::default();
    pair.write(A, &mut ledger, count).await;
    (pair, ledger)
}

/// Two pairs of one name with some writes, each with an init and a witness of its own: ours and theirs.
async fn two_pairs() -> [(Pair, Ledger); 2] {
    [with_writes(Witness::Server, 5).await, with_writes(Witness::Directory, 3).await]
}

/// A pair with some writes, whose B is stopped.
async fn with_b_stopped() -> (Pair, Ledger) {
    let (mut pair, ledger) = with_writes(Witness::Server, 5).await;
    pair.soft_stop(B).await;
    (pair, ledger)
}

/// Changes one field of an appliance's configuration file; gives the old text.
fn set(pair: &Pair, appliance: ApplianceId, field: &str, value: &str) -> String {
    let path = pair.config_path(appliance);
    let old = fs::read_to_string(&path).unwrap();
    let line = old.lines().find(|line| line.starts_with(&format!("{field} = "))).unwrap();
    fs::write(&path, old.replace(line, &format!("{field} = \"{value}\""))).unwrap();
    old
}

fn set_back(pair: &Pair, appliance: ApplianceId, old: String) {
    fs::write(pair.config_path(appliance), old).unwrap();
}

/// Takes B's data directory away.
fn take_away_data_of_b(pair: &Pair) {
    fs::rename(pair.data(B), pair.dir().join("kept")).unwrap();
}

/// Brings it back, in place of the one that is there now.
fn bring_back_data_of_b(pair: &Pair) {
    fs::remove_dir_all(pair.data(B)).unwrap();
    fs::rename(pair.dir().join("kept"), pair.data(B)).unwrap();
}

/// Whether an appliance does not serve, and says all of this of its peer.
fn complains_of_its_peer(status: &StatusReport, parts: &[&str]) -> bool {
    let error = status.peer.error.as_deref().unwrap_or_default();
    !status.serving && parts.iter().all(|part| error.contains(part))
}

async fn refuses_a_write(pair: &Pair, appliance: ApplianceId) {
    let refused = pair.client(appliance).put("x", "y").await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused:?}");
}

#[test]
fn another_clusters_name_or_another_appliances_letter() {
    run(async {
        let (mut pair, mut ledger) = with_b_stopped().await;
        let before = contents(&pair.data(B));
        for command in ["serve", "init"] {
            for (field, value, parts) in [
                ("cluster", "another", [CLUSTER, "another", "configuration"]),
                ("appliance", "A", ["appliance B", "says A", "configuration"]),
            ] {
                let old = set(&pair, B, field, value);
                with_config(pair.dir(), command, &pair.config_path(B)).await.refuses(1, &parts);
                set_back(&pair, B, old);
            }
        }
        unchanged(&before, &contents(&pair.data(B)));
        pair.start_appliance(B).await;
        still_serves(&mut pair, &mut ledger).await;
    });
}

#[test]
fn the_witness_of_another_pair_of_the_same_name() {
    run(async {
        let [(mut ours, mut our_ledger), (mut theirs, mut their_ledger)] = two_pairs().await;
        ours.soft_stop(B).await;
        ours.soft_stop(A).await;
        let both = |record: &duet_protocol::WitnessRecord| !record.conf.is_solo();
        let their_record = theirs.until_record("that both are in sync", both).await;
        // Ours could begin alone, if the witness were its own.
        let foreign = format!("dir:{}", theirs.dir().join("witness").display());
        let old = set(&ours, A, "witness", &foreign);
        ours.start_appliance(A).await;
        let says = |status: &StatusReport| {
            let error = status.witness.error.as_deref().unwrap_or_default();
            !status.serving
                && error.contains("the witness's record belongs to cluster")
                && error.contains("(id ")
        };
        ours.until_status(A, "says that the witness's record is another pair's", says).await;
        let config = ours.config_path(B).display().to_string();
        let args = ["init", "--config", &config, "--witness", &foreign];
        duet(ours.dir(), &args).await.refuses(1, &["already exists"]);
        refuses_a_write(&ours, A).await;
        ours.soft_stop(A).await;
        is_still_of(&their_record, &theirs.record().await);
        still_serves(&mut theirs, &mut their_ledger).await;

        set_back(&ours, A, old);
        ours.start_both().await;
        still_serves(&mut ours, &mut our_ledger).await;
    });
}

#[test]
fn the_same_letter_on_both() {
    run(async {
        let (mut pair, mut ledger) = with_b_stopped().await;
        take_away_data_of_b(&pair);
        let old = set(&pair, B, "appliance", "A");
        pair.start_appliance(B).await;
        let says = |status: &StatusReport| {
            status.lsn == 0 && complains_of_its_peer(status, &["both appliances are configured as A"])
        };
        pair.until_status(B, "says that both are configured as A", says).await;
        refuses_a_write(&pair, B).await;
        pair.write(A, &mut ledger, 5).await;
        pair.soft_stop(B).await;
        // The letter is right again, and now the directory is not.
        set_back(&pair, B, old);
        serve(&pair, B).await.refuses(1, &["appliance A", "says B"]);
        bring_back_data_of_b(&pair);
        pair.start_appliance(B).await;
        still_serves(&mut pair, &mut ledger).await;
    });
}

#[test]
fn a_copied_data_directory() {
    run(async {
        let (mut pair, mut ledger) = with_b_stopped().await;
        // Somebody "repairs" B with a copy of A's files: the letter tells.
        take_away_data_of_b(&pair);
        for (name, bytes) in contents(&pair.data(A)) {
            let path = pair.data(B).join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        serve(&pair, B).await.refuses(1, &["appliance A", "says B"]);
        bring_back_data_of_b(&pair);
        pair.start_appliance(B).await;
        still_serves(&mut pair, &mut ledger).await;
    });
}

#[test]
fn two_pairs_that_meet() {
    run(async {
        // A of the one is told B of the other as its peer.
        let [(mut ours, mut our_ledger), (mut theirs, mut their_ledger)] = two_pairs().await;
        ours.soft_stop(A).await;
        ours.until_primary(B).await;
        let their_b = theirs.config_text(B);
        let address =
            their_b.lines().find_map(|line| line.strip_prefix("peer_listen = ")).unwrap().trim_matches('"');
        let old = set(&ours, A, "peer", address);
        ours.start_appliance(A).await;
        let says = |status: &StatusReport| complains_of_its_peer(status, &["wrong peer", "two inits"]);
        ours.until_status(A, "says that its peer belongs to another pair", says).await;
        still_serves(&mut theirs, &mut their_ledger).await;
        ours.write(B, &mut our_ledger, 3).await;
        ours.soft_stop(A).await;
        set_back(&ours, A, old);
        ours.start_appliance(A).await;
        still_serves(&mut ours, &mut our_ledger).await;
    });
}
