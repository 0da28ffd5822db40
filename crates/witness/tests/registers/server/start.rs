//! What a server refuses to start with, and that it says what a person has to do.

use std::fs;
use std::path::Path;

use duet_witness::server::{ServeError, WitnessServer, WitnessServerConfig};
use duet_witness::{ReadOutcome, Register};
use tempfile::TempDir;

use super::running::{Running, config, open};
use crate::outcomes::{PATIENT, swapped};

const ABOUT: redb::TableDefinition<&str, &str> = redb::TableDefinition::new("about");

fn refused(directory: &Path) -> ServeError {
    match WitnessServer::bind(config(directory)) {
        Ok(_) => panic!("it must not start"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_port_in_use() {
    let directory = TempDir::new().unwrap();
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = taken.local_addr().unwrap();
    let config = WitnessServerConfig::new(listen, directory.path());
    let error = WitnessServer::bind(config).err().unwrap();
    assert!(matches!(error, ServeError::PortInUse { .. }), "{error}");
    assert!(error.to_string().contains(&listen.port().to_string()), "{error}");
}

#[tokio::test]
async fn a_directory_in_use() {
    let directory = TempDir::new().unwrap();
    let running = Running::start(directory.path()).await;
    let error = refused(directory.path());
    assert!(matches!(error, ServeError::Locked { .. }), "{error}");
    running.stop().await;
    Running::start(directory.path()).await.stop().await;
}

#[tokio::test]
async fn a_directory_that_cannot_be_used() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = refused(&path);
        assert!(matches!(error, ServeError::Directory { .. }), "{error}");
        assert!(error.to_string().contains("file"), "{error}");
    }
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_left_alone() {
    let directory = TempDir::new().unwrap();
    let running = Running::start(directory.path()).await;
    let path = directory.path().join("witness.redb");
    // As a crash leaves it: the engine would repair it.
    let crashed = fs::read(&path).unwrap();
    running.stop().await;
    let whole = fs::read(&path).unwrap();
    assert!(whole != crashed);
    let flipped = |whole: &[u8]| {
        let mut flipped = whole.to_vec();
        for byte in &mut flipped[4096..] {
            *byte ^= 0x55;
        }
        flipped
    };
    let mut all = vec![vec![], whole[..100].to_vec(), b"this is no database".repeat(1000)];
    for whole in [&whole, &crashed] {
        all.extend([whole[..whole.len() / 2].to_vec(), whole[..whole.len() - 4096].to_vec(), flipped(whole)]);
    }
    for damaged in all {
        fs::write(&path, &damaged).unwrap();
        let error = refused(directory.path());
        assert!(matches!(error, ServeError::Damaged { .. }), "{} bytes: {error:?}", damaged.len());
        assert!(error.to_string().contains("check the disk"), "{error}");
        assert!(fs::read(&path).unwrap() == damaged, "{} bytes: the file was changed", damaged.len());
    }
    for sound in [whole, crashed] {
        fs::write(&path, sound).unwrap();
        Running::start(directory.path()).await.stop().await;
    }
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let directory = TempDir::new().unwrap();
    Running::start(directory.path()).await.stop().await;
    let database = redb::Database::open(directory.path().join("witness.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(ABOUT).unwrap().insert("format", "3").unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = refused(directory.path());
    assert!(matches!(error, ServeError::NewerFormat { found: 3, known: 2, .. }), "{error}");
}

/// A file from before there were tokens.
#[tokio::test]
async fn an_older_format_is_brought_up_to_date() {
    let directory = TempDir::new().unwrap();
    let running = Running::start(directory.path()).await;
    let version = swapped(open(&running.address(), "pair", PATIENT).create(bytes::Bytes::new()).await);
    running.stop().await;
    let pairs = redb::TableDefinition::<&str, &[u8]>::new("pairs");
    let database = redb::Database::open(directory.path().join("witness.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    assert!(transaction.delete_table(pairs).unwrap());
    transaction.open_table(ABOUT).unwrap().insert("format", "1").unwrap();
    transaction.commit().unwrap();
    drop(database);
    let running = Running::start(directory.path()).await;
    super::tokens::add(directory.path(), "other").await;
    let read = open(&running.address(), "pair", PATIENT).read().await;
    assert!(matches!(read, ReadOutcome::Record { version: kept, .. } if kept == version));
    running.stop().await;
    Running::start(directory.path()).await.stop().await;
}

/// A crash while the file was being made leaves only the file under its first name.
#[tokio::test]
async fn a_half_made_file_is_made_again() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("witness.redb.new"), "half").unwrap();
    Running::start(directory.path()).await.stop().await;
    assert!(!directory.path().join("witness.redb.new").exists());
}
