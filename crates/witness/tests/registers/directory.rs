//! The witness in a directory: the promises of every witness, and its own faults.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use duet_witness::directory::{DirectoryRegister, prepare};
use duet_witness::{BoxFuture, ReadOutcome, Register, Version, WriteOutcome, conformance};
use tempfile::TempDir;

use crate::outcomes::{PATIENT, reason_of_read, reason_of_write, swapped};

struct Directory(TempDir);

fn prepared() -> TempDir {
    let directory = TempDir::new().expect("a temporary directory");
    prepare(directory.path()).expect("it can be prepared");
    directory
}

fn open(directory: &Path, cluster: &str, deadline: Duration) -> DirectoryRegister {
    DirectoryRegister::new(directory, cluster.parse().expect("a good name"), deadline)
}

impl conformance::Backend for Directory {
    fn open(&self, cluster: &str) -> Arc<dyn Register> {
        Arc::new(open(self.0.path(), cluster, PATIENT))
    }

    fn restart(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn wipe(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            for entry in fs::read_dir(self.0.path()).expect("readable") {
                let path = entry.expect("readable").path();
                if path.is_dir() {
                    fs::remove_dir_all(path).expect("removable");
                }
            }
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    conformance::run(&Directory(prepared())).await;
}

#[tokio::test]
async fn an_unmounted_share_is_unknown_and_nothing_is_created_there() {
    let empty = TempDir::new().unwrap();
    let missing = empty.path().join("missing");
    for directory in [empty.path(), &missing] {
        let register = open(directory, "pair", PATIENT);
        let reason = reason_of_read(register.read().await).to_string();
        assert!(reason.contains("mount the share"), "{reason}");
        reason_of_write(register.create(Bytes::from_static(b"x")).await);
        reason_of_write(register.compare_and_set(&Version::new("x"), Bytes::new()).await);
    }
    assert_eq!(fs::read_dir(empty.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_marker_of_a_newer_format_is_unknown() {
    let directory = prepared();
    prepare(directory.path()).unwrap();
    fs::write(directory.path().join("duet-witness-directory"), "duet-witness-directory 2\n").unwrap();
    prepare(directory.path()).unwrap_err();
    let reason = reason_of_read(open(directory.path(), "pair", PATIENT).read().await).to_string();
    assert!(reason.contains("newer"), "{reason}");
}

#[tokio::test]
async fn a_damaged_record_is_unknown_and_is_not_replaced() {
    let directory = prepared();
    let register = open(directory.path(), "pair", PATIENT);
    let version = swapped(register.create(Bytes::from_static(b"content")).await);
    let record = directory.path().join("pair/record");
    let whole = fs::read(&record).unwrap();
    let flipped: Vec<u8> = whole.iter().map(|byte| if *byte == b'c' { b'C' } else { *byte }).collect();
    let too_long = [whole.clone(), vec![b' '; 64 * 1024]].concat();
    for damaged in [b"".to_vec(), whole[..whole.len() - 1].to_vec(), flipped, too_long] {
        fs::write(&record, &damaged).unwrap();
        let reason = reason_of_read(register.read().await).to_string();
        assert!(reason.contains("damaged"), "{reason}");
        reason_of_write(register.create(Bytes::from_static(b"x")).await);
        reason_of_write(register.compare_and_set(&version, Bytes::from_static(b"x")).await);
        assert_eq!(fs::read(&record).unwrap(), damaged);
    }
    fs::write(&record, &whole).unwrap();
    assert!(matches!(register.read().await, ReadOutcome::Record { .. }));
}

#[tokio::test]
async fn a_record_copied_from_another_cluster_is_unknown() {
    let directory = prepared();
    let register = open(directory.path(), "one", PATIENT);
    swapped(register.create(Bytes::from_static(b"x")).await);
    fs::create_dir(directory.path().join("two")).unwrap();
    fs::copy(directory.path().join("one/record"), directory.path().join("two/record")).unwrap();
    let reason = reason_of_read(open(directory.path(), "two", PATIENT).read().await).to_string();
    assert!(reason.contains("\"one\""), "{reason}");
}

#[tokio::test]
async fn a_directory_without_rights_is_unknown() {
    let directory = prepared();
    let path = directory.path();
    fs::set_permissions(path, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(path.join("probe"), "").is_ok() {
        // The superuser may write everywhere; a file in the place of the folder refuses even that one.
        fs::write(path.join("pair"), "").unwrap();
    }
    let register = open(path, "pair", PATIENT);
    let reason = reason_of_write(register.create(Bytes::from_static(b"x")).await).to_string();
    assert!(reason.contains("cannot"), "{reason}");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn a_held_lock_is_unknown_within_the_deadline() {
    let directory = prepared();
    let register = open(directory.path(), "pair", Duration::from_millis(200));
    let version = swapped(register.create(Bytes::from_static(b"1")).await);
    let lock = fs::File::open(directory.path().join("pair/lock")).unwrap();
    lock.lock().unwrap();
    let start = Instant::now();
    reason_of_write(register.compare_and_set(&version, Bytes::from_static(b"2")).await);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    // Reading needs no lock.
    let read = register.read().await;
    assert!(matches!(read, ReadOutcome::Record { ref bytes, .. } if bytes == "1"), "{read:?}");
    drop(lock);
    let patient = open(directory.path(), "pair", PATIENT);
    swapped(patient.compare_and_set(&version, Bytes::from_static(b"3")).await);
}

/// A writer that notices under the lock that its deadline is over stops there: its caller has been told that nothing is
/// known, and the lock may have gone to another.
#[tokio::test]
async fn a_writer_that_is_late_writes_nothing() {
    let directory = prepared();
    let patient = open(directory.path(), "pair", PATIENT);
    let WriteOutcome::Swapped(version) = patient.create(Bytes::from_static(b"1")).await else {
        panic!("created");
    };
    let late = open(directory.path(), "pair", Duration::ZERO);
    reason_of_write(late.compare_and_set(&version, Bytes::from_static(b"2")).await);
    tokio::time::sleep(Duration::from_millis(200)).await; // it is still under way
    let outcome = patient.compare_and_set(&version, Bytes::from_static(b"3")).await;
    assert!(matches!(outcome, WriteOutcome::Swapped(_)), "{outcome:?}");
}

/// A named pipe in the record's place hangs whoever opens it, as a dead file server would.
#[tokio::test]
async fn a_hanging_file_system_is_unknown_within_the_deadline_and_does_not_eat_threads() {
    let directory = prepared();
    fs::create_dir(directory.path().join("pair")).unwrap();
    let pipe = directory.path().join("pair/record");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let register = open(directory.path(), "pair", Duration::from_millis(100));
    let start = Instant::now();
    for _ in 0..4 {
        let reason = reason_of_read(register.read().await).to_string();
        assert!(reason.contains("did not answer in time"), "{reason}");
    }
    let reason = reason_of_read(register.read().await).to_string();
    assert!(reason.contains("still hang"), "{reason}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    // Lets the hanging threads go, after which the register works again.
    drop(fs::OpenOptions::new().write(true).open(&pipe).unwrap());
    fs::remove_file(&pipe).unwrap();
    let patience = Instant::now() + PATIENT;
    while register.read().await != ReadOutcome::Absent {
        assert!(Instant::now() < patience, "the threads come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn files_of_dead_writers_are_removed() {
    let directory = prepared();
    let register = open(directory.path(), "pair", PATIENT);
    fs::create_dir(directory.path().join("pair")).unwrap();
    let left = directory.path().join("pair/new-0123");
    fs::write(&left, "half a rec").unwrap();
    assert_eq!(register.read().await, ReadOutcome::Absent);
    swapped(register.create(Bytes::from_static(b"x")).await);
    assert!(!left.exists());
}

/// Set for the copies of this test program that [`processes_race_without_losing_an_increment`] starts.
const CHILD_DIRECTORY: &str = "DUET_WITNESS_TEST_DIRECTORY";
const PROCESSES: usize = 3;
const INCREMENTS: usize = 10;

#[tokio::test]
async fn processes_race_without_losing_an_increment() {
    if let Some(directory) = std::env::var_os(CHILD_DIRECTORY) {
        increment(&open(Path::new(&directory), "pair", PATIENT)).await;
        return;
    }
    let directory = prepared();
    let register = open(directory.path(), "pair", PATIENT);
    swapped(register.create(Bytes::from_static(b"0")).await);
    let program = std::env::current_exe().unwrap();
    let children: Vec<_> = (0..PROCESSES)
        .map(|_| {
            Command::new(&program)
                .args(["--exact", "directory::processes_race_without_losing_an_increment"])
                .env(CHILD_DIRECTORY, directory.path())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let ReadOutcome::Record { bytes, .. } = register.read().await else { panic!("a record") };
    assert_eq!(bytes, (PROCESSES * INCREMENTS).to_string());
}

async fn increment(register: &DirectoryRegister) {
    let mut done = 0;
    while done < INCREMENTS {
        let ReadOutcome::Record { version, bytes } = register.read().await else { panic!("a record") };
        let number: u64 = std::str::from_utf8(&bytes).expect("text").parse().expect("a number");
        match register.compare_and_set(&version, Bytes::from((number + 1).to_string())).await {
            WriteOutcome::Swapped(_) => done += 1,
            WriteOutcome::Mismatch => {}
            WriteOutcome::Unknown(reason) => panic!("{reason}"),
        }
    }
}
