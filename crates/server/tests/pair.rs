//! Two real appliances in one process, over loopback, with a directory as their witness.

#![allow(clippy::unwrap_used, missing_docs)] // a test fails where it stands

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use duet_mvcc::{Command, PutRequest, RangeRequest};
use duet_server::{Config, ExitReason, Handle, InitError, Server, StatusReport, WriteError};

/// Far beyond what any step needs on a busy machine; a step that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

struct Pair {
    folder: tempfile::TempDir,
    ports: [u16; 4],
}

impl Pair {
    fn new() -> Self {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let folder = tempfile::tempdir().unwrap();
        let witness = folder.path().join("witness");
        std::fs::create_dir(&witness).unwrap();
        let listeners: Vec<_> = (0..4).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let port = |index: usize| listeners[index].local_addr().unwrap().port();
        Self { ports: [port(0), port(1), port(2), port(3)], folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn config(&self, appliance: &str) -> Config {
        let [client_a, peer_a, client_b, peer_b] = self.ports;
        let (client, mine, theirs) =
            if appliance == "A" { (client_a, peer_a, peer_b) } else { (client_b, peer_b, peer_a) };
        let folder = self.path().display();
        Config::from_toml(&format!(
            "cluster = \"demo\"\nappliance = \"{appliance}\"\ndata = \"{folder}/{appliance}\"\n\
             client_listen = \"127.0.0.1:{client}\"\npeer_listen = \"127.0.0.1:{mine}\"\n\
             peer = \"127.0.0.1:{theirs}\"\nwitness = \"dir:{folder}/witness\"\n"
        ))
        .unwrap()
    }

    async fn start(&self, appliance: &str) -> Server {
        tokio::time::timeout(PATIENCE, Server::start(self.config(appliance))).await.unwrap().unwrap()
    }
}

async fn until(handle: &Handle, what: &str, holds: impl Fn(&StatusReport) -> bool) -> StatusReport {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = handle.status().await.unwrap();
        if holds(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "{what} did not come: {status:#?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn both_in_sync(status: &StatusReport) -> bool {
    status.conf.as_ref().is_some_and(|conf| conf.in_sync.len() == 2)
}

fn put(key: &str, value: &str) -> Command {
    Command::Put(PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        ..PutRequest::default()
    })
}

fn get(handle: &Handle, key: &str) -> Option<String> {
    let request = RangeRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..RangeRequest::default() };
    let answer = handle.store().read().range(&request).unwrap();
    answer.kvs.first().map(|found| String::from_utf8(found.value.to_vec()).unwrap())
}

async fn stop(server: Server) {
    server.handle().shutdown();
    let reason = tokio::time::timeout(PATIENCE, server.wait()).await.unwrap();
    assert_eq!(reason, ExitReason::Stopped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pair_from_first_start_to_handover_and_rejoin() {
    let pair = Pair::new();
    let made = duet_server::init(&pair.config("A")).await.unwrap();
    assert!(!made.was_done);
    assert!(duet_server::init(&pair.config("A")).await.unwrap().was_done, "init may be repeated");
    assert!(matches!(duet_server::init(&pair.config("B")).await, Err(InitError::PairExists { .. })));

    // A alone.
    let server_a = pair.start("A").await;
    let a = server_a.handle();
    until(&a, "A's service", |status| status.serving).await;
    a.write(put("one", "1")).await.unwrap();
    assert_eq!(get(&a, "one").as_deref(), Some("1"));

    // B comes blank, copies and is let in.
    let server_b = pair.start("B").await;
    let b = server_b.handle();
    assert_eq!(b.identity().cluster_id, made.cluster);
    until(&a, "the in-sync set of both", both_in_sync).await;
    assert_eq!(b.write(put("x", "y")).await, Err(WriteError::NotPrimary));
    for index in 0..100 {
        a.write(put(&format!("key{index}"), "value")).await.unwrap();
    }
    let at = until(&b, "B's application", |status| status.applied >= 101).await;
    let knows =
        until(&b, "where the primary stands", |status| status.peer.lsn.is_some_and(|lsn| lsn >= 101)).await;
    assert_eq!(knows.peer.lag, Some(0));
    assert_eq!(a.view().borrow().promotions, 1, "letting B in was no promotion");
    assert_eq!(get(&b, "key99").as_deref(), Some("value"));
    assert_eq!(a.status().await.unwrap().digest, at.digest, "one history");
    assert!(b.read_permit().is_err());
    assert!(a.read_permit().is_ok());

    // A long reader and a writer behind it hold up neither the driver nor whoever asks for the status.
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let (held, is_held) = std::sync::mpsc::channel::<()>();
    let locked = a.clone();
    let writer = std::thread::spawn(move || {
        let _held = locked.store().write();
        held.send(()).unwrap();
        wait.recv().unwrap();
    });
    is_held.recv().unwrap(); // no timer here: whoever drives it may wait for the lock, too
    let status = tokio::time::timeout(PATIENCE / 6, a.status()).await.unwrap().unwrap();
    assert!(status.serving && status.revision == 102, "{status:#?}");
    done.send(()).unwrap();
    writer.join().unwrap();

    // A stops softly: B goes on.
    stop(server_a).await;
    until(&b, "B's service", |status| status.serving).await;
    b.write(put("two", "2")).await.unwrap();
    let record = until(&b, "the clearing of A's note", |status| {
        status
            .witness
            .record
            .as_ref()
            .is_some_and(|record| record["conf"]["primary"] == "B" && record["left"]["A"].is_null())
    });
    record.await;

    // A comes back and follows, without a person.
    let server_a = pair.start("A").await;
    let a = server_a.handle();
    until(&b, "A's rejoin", both_in_sync).await;
    until(&a, "A's application", |status| status.role == "secondary" && status.applied >= 102).await;
    assert_eq!(get(&a, "two").as_deref(), Some("2"));

    // Switchover and back: nobody stops.
    b.switchover();
    until(&a, "A's service", |status| status.serving).await;
    a.write(put("three", "3")).await.unwrap();
    until(&a, "B's rejoin", both_in_sync).await;

    assert_eq!(a.view().borrow().promotions, 1);
    // Both stop, the secondary first; the last one starts alone again.
    stop(server_b).await;
    a.write(put("four", "4")).await.unwrap();
    stop(server_a).await;
    let server_a = pair.start("A").await;
    let a = server_a.handle();
    until(&a, "A's service", |status| status.serving).await;
    assert_eq!(get(&a, "four").as_deref(), Some("4"));
    stop(server_a).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blank_peer_gets_a_whole_copy_when_the_log_does_not_reach_back() {
    let pair = Pair::new();
    duet_server::init(&pair.config("B")).await.unwrap();
    let server_b = pair.start("B").await;
    let b = server_b.handle();
    until(&b, "B's service", |status| status.serving).await;
    let entries = duet_protocol::limits::RETAIN_ENTRIES + 5_000;
    let writers: Vec<_> = (0..512)
        .map(|writer| {
            let b = b.clone();
            tokio::spawn(async move {
                for index in 0..=entries / 512 {
                    b.write(put(&format!("{writer}/{}", index % 20), &index.to_string())).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    // A restart writes a checkpoint, and with it the log's beginning goes.
    stop(server_b).await;
    let server_b = pair.start("B").await;
    let b = server_b.handle();
    until(&b, "B's service", |status| status.serving).await;
    b.write(put("after", "restart")).await.unwrap();
    let last = b.status().await.unwrap().lsn;
    tokio::time::sleep(Duration::from_secs(6)).await;

    let server_a = pair.start("A").await;
    let a = server_a.handle();
    until(&b, "A's join", both_in_sync).await;
    until(&a, "A's application", |status| status.applied >= last).await;
    assert_eq!(get(&a, "after").as_deref(), Some("restart"));
    b.write(put("both", "here")).await.unwrap();
    until(&a, "A's application", |status| status.applied > last).await;
    let digests = [&a, &b].map(|handle| handle.store().read().state_digest().unwrap());
    assert_eq!(digests[0], digests[1], "one state");
    stop(server_b).await;
    until(&a, "A's service", |status| status.serving).await;
    a.write(put("alone", "yes")).await.unwrap();
    stop(server_a).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_of_another_pair_or_appliance_is_refused_in_words() {
    let pair = Pair::new();
    duet_server::init(&pair.config("A")).await.unwrap();
    let mut wrong = pair.config("B");
    wrong.data = pair.path().join("A");
    let told = Server::start(wrong).await.err().unwrap().to_string();
    assert!(told.contains("appliance A") && told.contains('B'), "{told}");
    let mut wrong = pair.config("A");
    wrong.cluster = "other".into();
    let told = Server::start(wrong).await.err().unwrap().to_string();
    assert!(told.contains("\"demo\"") && told.contains("\"other\""), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_while_the_appliance_waits_for_it() {
    let pair = Pair::new();
    let config = pair.config("A");
    let waiting = tokio::spawn(async move { Server::start(config).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!waiting.is_finished() && !pair.path().join("A").exists(), "nothing is made before");
    duet_server::init(&pair.config("A")).await.unwrap();
    let server = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap();
    until(&server.handle(), "A's service", |status| status.serving).await;
    stop(server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_where_no_data_can_be_is_told_before_the_wait_for_a_pair() {
    let pair = Pair::new();
    let mut config = pair.config("A");
    config.data = pair.path().join("not/there");
    let error = tokio::time::timeout(PATIENCE, Server::start(config)).await.unwrap().err().unwrap();
    assert!(error.to_string().contains("does not exist"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_data_is_to_be_copied_from_the_peer() {
    let pair = Pair::new();
    duet_server::init(&pair.config("A")).await.unwrap();
    std::fs::remove_dir_all(pair.path().join("A/state")).unwrap();
    std::fs::create_dir(pair.path().join("A/state")).unwrap();
    let error = Server::start(pair.config("A")).await.err().unwrap();
    assert!(error.advice().is_some_and(|advice| advice.contains("copied from the peer")), "{error}");
}
