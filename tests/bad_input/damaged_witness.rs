//! A damaged witness: its server refuses to start, a damaged record is never taken for an absent one, and the pair serves on.

use std::fs;

use crate::harness::{A, B, CLUSTER, Ledger, Pair, Witness, run};
use crate::program::{contents, duet, still_serves, unchanged, with_config};

#[test]
fn the_witness_servers_file() {
    run(async {
        let mut pair = Pair::start(Witness::Server).await;
        let mut ledger = Ledger::default();
        pair.stop_witness();
        let data = pair.dir().join("witness");
        let file = data.join("witness.redb");
        let good = fs::read(&file).unwrap();
        let mut header = good.clone();
        header[..512].fill(0);
        let mut middle = good.clone();
        for byte in &mut middle[4096..good.len() / 2] {
            *byte ^= 0xff;
        }
        for damaged in
            [&header[..], &middle, &good[..good.len() / 2], &good[..100], b"", b"not a witness's file"]
        {
            fs::write(&file, damaged).unwrap();
            let before = contents(&data);
            let args = ["witness", "--data", &data.display().to_string(), "--listen", "127.0.0.1:0"];
            duet(pair.dir(), &args).await.refuses(1, &["witness.redb", "damaged"]);
            unchanged(&before, &contents(&data));
            pair.write(A, &mut ledger, 1).await;
        }
        fs::write(&file, good).unwrap();
        pair.start_witness().await;
        still_serves(&mut pair, &mut ledger).await;
        handover_works(&mut pair, &mut ledger).await;
    });
}

#[test]
fn the_record_in_a_witness_directory() {
    run(async {
        let mut pair = Pair::start(Witness::Directory).await;
        let mut ledger = Ledger::default();
        let record = pair.dir().join("witness").join(CLUSTER).join("record");
        let good = fs::read(&record).unwrap();
        let text = String::from_utf8_lossy(&good).into_owned();
        let mut flipped = good.clone();
        flipped[good.len() / 2] ^= 1;
        let newer = text.replacen("record 1 ", "record 2 ", 1);
        let foreign = text.replacen(&format!("cluster={CLUSTER}"), "cluster=other", 1);
        let long = [&good[..], &b" ".repeat(100_000)].concat();
        for damaged in
            [&flipped[..], &good[..good.len() - 1], b"", newer.as_bytes(), foreign.as_bytes(), &long]
        {
            fs::write(&record, damaged).unwrap();
            // The primary looks at the record every few seconds.
            let says = |status: &duet_server::StatusReport| status.witness.error.is_some();
            pair.until_status(A, "says that the witness's record is unusable", says).await;
            // No second pair is made over it, and it stays as it is.
            let said = with_config(pair.dir(), "init", &pair.config_path(A)).await;
            said.refuses(1, &["witness"]);
            assert_eq!(fs::read(&record).unwrap(), damaged);
            pair.write(B, &mut ledger, 1).await;
        }
        fs::write(&record, good).unwrap();
        let well = |status: &duet_server::StatusReport| status.witness.error.is_none();
        pair.until_status(A, "finds the witness well again", well).await;
        still_serves(&mut pair, &mut ledger).await;
        handover_works(&mut pair, &mut ledger).await;
    });
}

#[test]
fn a_directory_that_lost_its_marker_is_no_witness() {
    run(async {
        let mut pair = Pair::start(Witness::Directory).await;
        let mut ledger = Ledger::default();
        let marker = pair.dir().join("witness/duet-witness-directory");
        let good = fs::read(&marker).unwrap();
        for damaged in [Some("duet-witness-directory 2\n"), Some(""), None] {
            match damaged {
                Some(text) => fs::write(&marker, text).unwrap(),
                None => fs::remove_file(&marker).unwrap(),
            }
            let says = |status: &duet_server::StatusReport| {
                status.witness.error.as_ref().is_some_and(|error| error.contains("duet-witness-directory"))
            };
            pair.until_status(A, "names the witness's marker", says).await;
            pair.write(A, &mut ledger, 1).await;
        }
        fs::write(&marker, good).unwrap();
        still_serves(&mut pair, &mut ledger).await;
        handover_works(&mut pair, &mut ledger).await;
    });
}

/// A soft stop and a return, with the witness's help.
async fn handover_works(pair: &mut Pair, ledger: &mut Ledger) {
    let first = pair.until_any_primary().await;
    pair.soft_stop(first).await;
    pair.until_primary(first.peer()).await;
    pair.write(first.peer(), ledger, 1).await;
    pair.start_appliance(first).await;
    still_serves(pair, ledger).await;
}
