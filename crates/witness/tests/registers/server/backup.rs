//! A backup is one file: whole or refused; and old records do not come back unasked.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use duet_witness::server::{
    Administrator, BackupError, Contents, ServeError, WitnessServerConfig, check_backup, restore,
};
use duet_witness::{Credential, ReadOutcome, Register};
use tempfile::TempDir;

use super::running::{Running, config, open_with};
use super::tokens::add;
use crate::outcomes::{PATIENT, reason_of_read, swapped};

async fn backed_up(directory: &Path, file: &Path) -> Contents {
    Administrator::of(directory).await.expect("reached").back_up(file).await.expect("written")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_come_back_and_records_only_when_asked() {
    let directory = TempDir::new().unwrap();
    let (data, file) = (directory.path().join("data"), directory.path().join("backup"));
    let running = Running::start(&data).await;
    let token = add(&data, "pair").await;
    let mine = Credential::Token(token);
    let pair = open_with(&running.address(), "pair", mine.clone(), PATIENT);
    let version = swapped(pair.create(Bytes::from(vec![b'\n'; 9000])).await);
    swapped(open_with(&running.address(), "free", Credential::None, PATIENT).create(Bytes::new()).await);
    let expected = Contents { pairs: 1, records: 2 };
    assert_eq!(backed_up(&data, &file).await, expected);
    let online = fs::read(&file).unwrap();
    running.stop().await;
    assert_eq!(backed_up(&data, &file).await, expected, "without a server");
    assert!(fs::read(&file).unwrap() == online, "and the same");
    assert_eq!(check_backup(&file).unwrap(), expected);
    assert!(!directory.path().join("backup.part").exists());

    for (with_records, place) in [(false, "without"), (true, "with")] {
        let data = directory.path().join(place);
        let restored = restore(&file, &data, with_records).unwrap();
        assert_eq!(restored, Contents { pairs: 1, records: if with_records { 2 } else { 0 } });
        let closed = WitnessServerConfig { open: false, ..config(&data) };
        let running = Running::start_with(closed).await;
        let pair = open_with(&running.address(), "pair", mine.clone(), PATIENT);
        let read = pair.read().await;
        if with_records {
            assert!(matches!(read, ReadOutcome::Record { version: old, .. } if old == version));
        } else {
            assert_eq!(read, ReadOutcome::Absent);
            swapped(pair.create(Bytes::new()).await);
        }
        let stranger = open_with(&running.address(), "pair", Credential::None, PATIENT);
        reason_of_read(stranger.read().await);
        running.stop().await;
        let again = restore(&file, &data, with_records);
        assert!(matches!(again, Err(BackupError::Serve(ServeError::Occupied { .. }))), "{again:?}");
    }
}

#[tokio::test]
async fn what_is_no_whole_backup_makes_nothing() {
    let directory = TempDir::new().unwrap();
    let (data, file) = (directory.path().join("data"), directory.path().join("backup"));
    let running = Running::start(&data).await;
    let token = add(&data, "pair").await;
    let pair = open_with(&running.address(), "pair", Credential::Token(token), PATIENT);
    swapped(pair.create(Bytes::from_static(b"content")).await);
    backed_up(&data, &file).await;
    running.stop().await;
    let whole = fs::read(&file).unwrap();
    let mut damaged: Vec<Vec<u8>> = (0..whole.len()).map(|end| whole[..end].to_vec()).collect();
    damaged.extend((0..whole.len()).map(|at| {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        flipped
    }));
    damaged.push([whole.clone(), b"x".to_vec()].concat());
    damaged.push(whole.repeat(2));
    let target = directory.path().join("target");
    for bytes in damaged {
        fs::write(&file, &bytes).unwrap();
        let refused = restore(&file, &target, true);
        assert!(matches!(refused, Err(BackupError::Damaged(_))), "{} bytes: {refused:?}", bytes.len());
        assert!(!target.exists());
    }
    fs::write(&file, &whole).unwrap();
    restore(&file, &target, true).unwrap();
}

#[tokio::test]
async fn a_backup_that_cannot_be_written_leaves_nothing() {
    let directory = TempDir::new().unwrap();
    let data = directory.path().join("data");
    let running = Running::start(&data).await;
    let file = directory.path().join("missing/backup");
    let error = Administrator::of(&data).await.unwrap().back_up(&file).await.unwrap_err().to_string();
    assert!(error.contains("cannot write") && error.contains("missing"), "{error}");
    running.stop().await;
    let error = Administrator::of(directory.path()).await.err().unwrap().to_string();
    assert!(error.contains("no data directory of a witness"), "{error}");
}
