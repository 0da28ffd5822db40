//! A full disk: that appliance ends with a clear message, the other one serves on, and with space again it comes back and
//! nothing acknowledged is lost.
//!
//! The disk is a small tmpfs, so root is needed; others skip with a word.

use std::path::Path;

use duet_protocol::ApplianceId;

use crate::harness::{A, B, Ledger, Pair, Witness, letter, run};
use crate::program::{Said, serve, still_serves};
use crate::support::small_disk::SmallDisk;

/// With a word where there can be none.
fn small_disk(path: &Path, mib: u32) -> Option<SmallDisk> {
    let disk = SmallDisk::mount(path, mib);
    if disk.is_none() {
        println!("skipped: mounting a small disk needs root");
    }
    disk
}

/// A log of this size has no room for a second segment.
const ONE_SEGMENT_MIB: u32 = 72;
/// Values of this size fill a segment in a hundred writes.
const LARGE_VALUE: usize = 700 << 10;

/// Writes large values at `at` until `full` has ended.
async fn write_until_ended(pair: &mut Pair, ledger: &mut Ledger, at: ApplianceId, full: ApplianceId) -> Said {
    let large = "x".repeat(LARGE_VALUE);
    for number in 0..400 {
        if !pair.is_running(full) {
            let status = pair.ends(full).await;
            let log = std::fs::read_to_string(pair.dir().join(format!("{}.log", letter(full)))).unwrap();
            return Said::of(&format!("appliance {full}"), status.code(), log);
        }
        let key = format!("large/{:02}", number % 20);
        let probe = async || pair.client(at).put(&key, &large).await.ok();
        pair.until("a large value is acknowledged", probe).await;
        pair.write(at, ledger, 1).await;
    }
    panic!("{full} does not notice that its disk is full\n{}", pair.diagnosis().await);
}

#[test]
fn no_space_for_the_secondarys_log() {
    run(async {
        let mut pair = Pair::lay_out(Witness::Server).await;
        let Some(disk) = small_disk(&pair.data(B).join("log"), ONE_SEGMENT_MIB) else { return };
        pair.start_new().await;
        let mut ledger = Ledger::default();
        pair.write(A, &mut ledger, 10).await;
        write_until_ended(&mut pair, &mut ledger, A, B).await.refuses(1, &["disk is full", "log"]);
        // Still full: it says so at once, or comes up as far as it can; it never claims more than it has.
        pair.write(A, &mut ledger, 10).await;
        disk.grow(600);
        pair.start_appliance(B).await;
        still_serves(&mut pair, &mut ledger).await;
    });
}

#[test]
fn no_space_for_the_primarys_state_store() {
    run(async {
        let mut pair = Pair::lay_out(Witness::Server).await;
        let Some(disk) = small_disk(&pair.data(A), 3 * ONE_SEGMENT_MIB) else { return };
        pair.start_new().await;
        let mut ledger = Ledger::default();
        pair.write(A, &mut ledger, 10).await;
        disk.fill();
        // What is written at B is forwarded to A until A is gone.
        write_until_ended(&mut pair, &mut ledger, B, A).await.refuses(1, &["disk is full"]);
        pair.until_primary(B).await;
        pair.write(B, &mut ledger, 10).await;
        pair.has_all(B, &ledger).await;
        disk.free();
        disk.grow(600);
        pair.start_appliance(A).await;
        still_serves(&mut pair, &mut ledger).await;
    });
}

#[test]
fn too_small_a_disk_to_begin_with() {
    run(async {
        let mut pair = Pair::start(Witness::Server).await;
        let mut ledger = Ledger::default();
        pair.write(A, &mut ledger, 5).await;
        pair.soft_stop(B).await;
        let Some(_disk) = small_disk(&pair.dir().join("small"), 4) else { return };
        let config = pair.config_path(B);
        let good = std::fs::read_to_string(&config).unwrap();
        let data = format!("data = \"{}\"", pair.data(B).display());
        assert!(good.contains(&data));
        let small = format!("data = \"{}\"", pair.dir().join("small").display());
        std::fs::write(&config, good.replace(&data, &small)).unwrap();
        serve(&pair, B).await.refuses(1, &["disk is full"]);
        std::fs::write(&config, good).unwrap();
        pair.start_appliance(B).await;
        still_serves(&mut pair, &mut ledger).await;
    });
}
