//! The witness server and its client, over real sockets: the promises of every witness, and each fault
//! between them.

mod backup;
mod faults;
mod interface;
mod running;
mod start;
mod tokens;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use duet_witness::{BoxFuture, ReadOutcome, Register, Version, WriteOutcome, conformance};
use running::{Process, Running, open};

use crate::outcomes::{PATIENT, swapped};

struct Server(tokio::sync::Mutex<Option<Running>>, std::sync::Mutex<String>, tempfile::TempDir);

impl Server {
    async fn start() -> Self {
        let directory = tempfile::TempDir::new().expect("a temporary directory");
        let running = Running::start(directory.path()).await;
        let address = std::sync::Mutex::new(running.address());
        Self(tokio::sync::Mutex::new(Some(running)), address, directory)
    }

    /// Stops it, does something to its directory, starts it again.
    async fn again(&self, between: impl FnOnce(&std::path::Path)) {
        let mut slot = self.0.lock().await;
        slot.take().expect("it runs").stop().await;
        between(self.2.path());
        let running = Running::start(self.2.path()).await;
        *self.1.lock().expect("not poisoned") = running.address();
        *slot = Some(running);
    }
}

impl conformance::Backend for Server {
    fn open(&self, cluster: &str) -> Arc<dyn Register> {
        Arc::new(open(&self.1.lock().expect("not poisoned"), cluster, PATIENT))
    }

    fn restart(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.again(|_| ()))
    }

    fn wipe(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.again(|directory| {
            std::fs::remove_file(directory.join("witness.redb")).expect("removable");
        }))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    conformance::run(&Server::start().await).await;
}

/// The program for [`Process`]: this test does nothing unless it was started for that.
#[tokio::test]
async fn process() {
    running::be_the_process().await;
}

#[tokio::test]
async fn a_server_dropped_like_in_a_crash_keeps_its_records() {
    let directory = tempfile::TempDir::new().unwrap();
    let first = Running::start(directory.path()).await;
    let version = swapped(open(&first.address(), "pair", PATIENT).create(Bytes::from_static(b"1")).await);
    first.drop_it().await;
    let second = Running::start(directory.path()).await;
    let read = open(&second.address(), "pair", PATIENT).read().await;
    assert_eq!(read, ReadOutcome::Record { version, bytes: Bytes::from_static(b"1") });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_keeps_whatever_it_answered() {
    let directory = tempfile::TempDir::new().unwrap();
    for round in 0..3 {
        let process = Process::start(directory.path(), "");
        let writers: Vec<_> = (0..8)
            .map(|writer| tokio::spawn(write_until_unknown(process.address.clone(), round, writer)))
            .collect();
        // However busy the machine is, each has had two pairs answered in full once its third is there.
        for (number, writer) in writers.iter().enumerate() {
            let third = open(&process.address, &format!("pair-{round}-{number}-2"), PATIENT);
            while third.read().await == ReadOutcome::Absent && !writer.is_finished() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        process.kill();
        let mut answered = HashMap::new();
        for writer in writers {
            answered.extend(writer.await.unwrap());
        }
        assert!(answered.len() > 8, "some writes were answered: {}", answered.len());
        assert_all_there(directory.path(), &answered).await;
    }
}

/// A disk that fails ends the server with an error; it does not go on, and nothing answered is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_disk_ends_the_server() {
    let directory = tempfile::TempDir::new().unwrap();
    // The empty file must be there: making it is larger than the limit allows.
    Process::start(directory.path(), "").kill();
    // Writing beyond the largest file size fails, as on a full or broken disk.
    let process = Process::start(directory.path(), "trap '' XFSZ; ulimit -f 5000;");
    let answered = write_until_unknown(process.address.clone(), 0, 0).await;
    assert!(!answered.is_empty(), "some writes were answered before");
    let (success, output) = process.wait();
    assert!(!success, "{output}");
    assert!(output.contains("failed") && output.contains("the witness must stop"), "{output}");
    assert_all_there(directory.path(), &answered).await;
}

/// More clients than file descriptors: idle connections make room for others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_out_of_file_descriptors_serves_on() {
    let directory = tempfile::TempDir::new().unwrap();
    let process = Process::start(directory.path(), "ulimit -n 40;");
    let registers: Vec<_> =
        (0..100).map(|number| open(&process.address, &format!("pair-{number}"), PATIENT)).collect();
    let start = std::time::Instant::now();
    let mut unknown = 0;
    for register in &registers {
        // A connection that is closed at the moment it is used costs one answer, no more.
        while register.read().await != ReadOutcome::Absent {
            unknown += 1;
            assert!(unknown < 10, "nearly all are answered at once");
        }
    }
    // Much less than it takes until a silent connection is closed for its silence.
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    process.kill();
}

/// Creates and replaces records until an answer fails to come; returns the last answered version of each
/// cluster, except of the one whose outcome is not known.
async fn write_until_unknown(address: String, round: usize, writer: usize) -> HashMap<String, Version> {
    let mut answered = HashMap::new();
    for number in 0.. {
        let cluster = format!("pair-{round}-{writer}-{number}");
        let register = open(&address, &cluster, PATIENT);
        let first = match register.create(Bytes::from(vec![1; 8000])).await {
            WriteOutcome::Swapped(first) => first,
            WriteOutcome::Mismatch => panic!("nobody else creates {cluster}"),
            WriteOutcome::Unknown(_) => break,
        };
        match register.compare_and_set(&first, Bytes::from(vec![2; 9000])).await {
            WriteOutcome::Swapped(second) => answered.insert(cluster, second),
            WriteOutcome::Mismatch => panic!("nobody else writes {cluster}"),
            WriteOutcome::Unknown(_) => break,
        };
    }
    answered
}

async fn assert_all_there(directory: &std::path::Path, answered: &HashMap<String, Version>) {
    let process = Process::start(directory, "");
    for (cluster, expected) in answered {
        match open(&process.address, cluster, PATIENT).read().await {
            ReadOutcome::Record { version, bytes } => {
                assert_eq!((&version, bytes.len()), (expected, 9000), "{cluster}");
            }
            other => panic!("{cluster} was answered, but: {other:?}"),
        }
    }
    process.kill();
}
