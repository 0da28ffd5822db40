//! A full disk: that appliance ends with a clear message, the other one serves on, and with space again it comes back and
//! nothing acknowledged is lost.
//!
//! The disk is a small tmpfs, so root is needed; others skip with a word.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use duet_protocol::ApplianceId;

use crate::harness::{A, B, Ledger, Pair, Witness, letter, run};
use crate::program::{Said, serve, still_serves};

/// A mounted tmpfs; dropping it unmounts it.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// `None`, with a word, where mounting is not allowed.
    fn mount(path: &Path, mib: u32) -> Option<Self> {
        std::fs::create_dir_all(path).unwrap();
        let size = format!("size={mib}m");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "duet-test"]).arg(path).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self { path: path.to_owned() });
        }
        println!("skipped: mounting a small disk needs root");
        None
    }

    /// Takes all the space that is left.
    fn fill(&self) {
        let mut file = File::create(self.filler()).unwrap();
        for size in [1 << 20, 4096] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.path.join("lost+found")
    }

    fn grow(&self, mib: u32) {
        let option = format!("remount,size={mib}m");
        assert!(Command::new("mount").args(["-o", &option]).arg(&self.path).status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: an appliance may still have files open there.
        Command::new("umount").arg("-l").arg(&self.path).status().ok();
    }
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
        let Some(disk) = SmallDisk::mount(&pair.data(B).join("log"), ONE_SEGMENT_MIB) else { return };
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
        let Some(disk) = SmallDisk::mount(&pair.data(A), 3 * ONE_SEGMENT_MIB) else { return };
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
        let Some(_disk) = SmallDisk::mount(&pair.dir().join("small"), 4) else { return };
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
