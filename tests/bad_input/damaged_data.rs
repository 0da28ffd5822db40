//! Damaged data of an appliance: it refuses, names the file, and changes nothing; its peer serves on; with the file
//! mended, or with an empty directory in its place, it comes back and nothing is lost.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{A, B, Ledger, Pair, Witness, run};
use crate::program::{contents, serve, still_serves, unchanged};

/// Where a record of the log begins.
const BLOCK: usize = 4096;
/// First byte behind a record's checksums; see the storage crate.
const RECORD_MAGIC: (usize, u8) = (8, 0xD7);

/// A pair whose B was stopped softly while it held `ledger`.
async fn with_b_stopped() -> (Pair, Ledger) {
    let mut pair = Pair::start(Witness::Server).await;
    let mut ledger = Ledger::default();
    pair.write(A, &mut ledger, 20).await;
    pair.until_in_sync().await;
    pair.soft_stop(B).await;
    (pair, ledger)
}

/// Damages `file`, sees B refuse, mends it again.
async fn refused(pair: &mut Pair, ledger: &mut Ledger, file: &Path, damaged: Option<&[u8]>, parts: &[&str]) {
    let good = fs::read(file).unwrap();
    match damaged {
        Some(bytes) => {
            assert_ne!(good, bytes);
            fs::write(file, bytes).unwrap();
        }
        None => fs::remove_file(file).unwrap(),
    }
    let before = contents(&pair.data(B));
    let said = serve(pair, B).await;
    said.refuses(1, parts);
    unchanged(&before, &contents(&pair.data(B)));
    // Meanwhile the other one goes on.
    pair.write(A, ledger, 1).await;
    fs::write(file, good).unwrap();
}

async fn comes_back(mut pair: Pair, mut ledger: Ledger) {
    pair.start_appliance(B).await;
    still_serves(&mut pair, &mut ledger).await;
}

fn newest(dir: &Path, extension: &str) -> PathBuf {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<_> = names.filter(|path| path.to_string_lossy().ends_with(extension)).collect();
    names.sort();
    names.pop().unwrap_or_else(|| panic!("no {extension} in {}", dir.display()))
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 0x20;
    bytes
}

/// Places of the records that begin a block.
fn records(segment: &[u8]) -> Vec<usize> {
    let starts = (BLOCK..segment.len()).step_by(BLOCK);
    starts.filter(|start| segment[start + RECORD_MAGIC.0] == RECORD_MAGIC.1).collect()
}

#[test]
fn a_record_in_the_middle_of_the_log() {
    run(async {
        let (mut pair, mut ledger) = with_b_stopped().await;
        let segment = newest(&pair.data(B).join("log"), ".seg");
        let name = segment.file_name().unwrap().to_string_lossy().into_owned();
        let good = fs::read(&segment).unwrap();
        let records = records(&good);
        assert!(records.len() >= 5, "{records:?}");
        let middle = records[records.len() / 2];
        for at in [middle, middle + 5, middle + 24, middle + 50, middle + 70] {
            let damaged = flipped(&good, at);
            refused(&mut pair, &mut ledger, &segment, Some(&damaged), &["log is damaged", &name, "LSN"])
                .await;
        }
        // A whole block of zeros, as a disk that forgets a write leaves it.
        let mut damaged = good.clone();
        damaged[middle..middle + BLOCK].fill(0);
        refused(&mut pair, &mut ledger, &segment, Some(&damaged), &["log is damaged", &name, "LSN"]).await;
        comes_back(pair, ledger).await;
    });
}

#[test]
fn a_segment_of_the_log_is_cut_or_gone_or_foreign() {
    run(async {
        let (mut pair, mut ledger) = with_b_stopped().await;
        let segment = newest(&pair.data(B).join("log"), ".seg");
        let name = segment.file_name().unwrap().to_string_lossy().into_owned();
        let good = fs::read(&segment).unwrap();
        let (half, third) = (&good[..good.len() / 2], &good[..BLOCK * 3]);
        let header = flipped(&good, 40);
        let mut newer = good.clone();
        newer[12] = 9;
        let log = ["log"];
        for damaged in [half, third, &good[..100], b"", &header, &newer, b"not a segment at all"] {
            refused(&mut pair, &mut ledger, &segment, Some(damaged), &[&name, "damaged"]).await;
        }
        // The log has only this one: with it the appliance's history is gone.
        refused(&mut pair, &mut ledger, &segment, None, &log).await;
        comes_back(pair, ledger).await;
    });
}

#[test]
fn the_appliances_own_state() {
    run(async {
        let (mut pair, mut ledger) = with_b_stopped().await;
        let directory = pair.data(B).join("state");
        let newest = newest(&directory, "");
        let name = newest.file_name().unwrap().to_string_lossy().into_owned();
        let good = fs::read(&newest).unwrap();
        for at in [0, 9, 13, 17, 25, 40, good.len() - 1] {
            let damaged = flipped(&good, at);
            refused(&mut pair, &mut ledger, &newest, Some(&damaged), &["own state", "damaged", &name]).await;
        }
        for damaged in [b"" as &[u8], &good[..20], &good[..good.len() - 1], &[0; 5000]] {
            refused(&mut pair, &mut ledger, &newest, Some(damaged), &["own state", "damaged", &name]).await;
        }
        let everything: Vec<PathBuf> =
            fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        let away = pair.dir().join("away");
        fs::rename(&directory, &away).unwrap();
        fs::create_dir(&directory).unwrap();
        serve(&pair, B).await.refuses(1, &["own state", "missing"]);
        assert!(
            fs::read_dir(&directory).unwrap().next().is_none(),
            "nothing was made instead of {everything:?}"
        );
        fs::remove_dir(&directory).unwrap();
        fs::rename(&away, &directory).unwrap();
        comes_back(pair, ledger).await;
    });
}

#[test]
fn the_state_store() {
    run(async {
        let (mut pair, mut ledger) = with_b_stopped().await;
        let store = pair.data(B).join("data.redb");
        let good = fs::read(&store).unwrap();
        let mut no_header = good.clone();
        no_header[..BLOCK].fill(0);
        let parts = ["state store", "data.redb"];
        for damaged in [&no_header[..], &good[..BLOCK], &good[..good.len() / 2], b"", &[0x55; 9_000]] {
            refused(&mut pair, &mut ledger, &store, Some(damaged), &parts).await;
        }
        comes_back(pair, ledger).await;
    });
}

#[test]
fn a_lost_state_store_is_made_anew_of_a_whole_log_and_refused_otherwise() {
    run(async {
        let (mut pair, mut ledger) = with_b_stopped().await;
        let segment = newest(&pair.data(B).join("log"), ".seg");
        fs::remove_file(pair.data(B).join("data.redb")).unwrap();
        assert!(
            segment.to_string_lossy().ends_with("-00000000000000000000.seg"),
            "the log begins at the beginning"
        );
        pair.start_appliance(B).await;
        still_serves(&mut pair, &mut ledger).await;
    });
}

#[test]
fn an_older_copy_of_a_part_is_noticed() {
    run(async {
        let mut pair = Pair::start(Witness::Server).await;
        let mut ledger = Ledger::default();
        pair.write(A, &mut ledger, 5).await;
        pair.until_in_sync().await;
        pair.soft_stop(B).await;
        let log = pair.data(B).join("log");
        let old = contents(&log);
        pair.start_appliance(B).await;
        pair.write(A, &mut ledger, 10).await;
        pair.until_in_sync().await;
        pair.soft_stop(B).await;
        // The log comes out of an old backup, and the state does not.
        let new = contents(&log);
        let put = |files: &std::collections::BTreeMap<String, Vec<u8>>| {
            fs::remove_dir_all(&log).unwrap();
            fs::create_dir(&log).unwrap();
            for (name, bytes) in files {
                fs::write(log.join(name), bytes).unwrap();
            }
        };
        put(&old);
        // The store's engine notes in its file that it was opened, and a leftover is removed; that is all.
        let counts = |name: &str| name != "data.redb" && !name.contains(".tmp");
        let sound = || contents(&pair.data(B)).into_iter().filter(|(name, _)| counts(name)).collect();
        let before = sound();
        serve(&pair, B).await.refuses(1, &["writes were lost", "log ends before"]);
        unchanged(&before, &sound());
        put(&new);
        comes_back(pair, ledger).await;
    });
}

#[test]
fn the_remedy_that_always_works_is_an_empty_directory() {
    run(async {
        let (mut pair, mut ledger) = with_b_stopped().await;
        let segment = newest(&pair.data(B).join("log"), ".seg");
        fs::write(&segment, b"hopeless").unwrap();
        serve(&pair, B).await.refuses(1, &["damaged"]);
        fs::rename(pair.data(B), pair.dir().join("hopeless")).unwrap();
        pair.start_appliance(B).await;
        still_serves(&mut pair, &mut ledger).await;
    });
}
