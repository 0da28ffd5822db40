//! The HTTP interface as a stranger's program would use it, down to the bytes.

use std::path::Path;

use bytes::Bytes;
use duet_witness::server::WitnessServerConfig;
use duet_witness::{ReadOutcome, Register};
use redb::ReadableDatabase;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::running::{Running, config, open};
use crate::outcomes::{PATIENT, reason_of_read, reason_of_write, swapped};

const RECORDS: redb::TableDefinition<&str, &[u8]> = redb::TableDefinition::new("records");

/// Sends a request as it is; the answer's status, and all of it in lower case.
async fn raw(address: &str, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let (head, body) = request.split_once("\r\n\r\n").unwrap_or((request, ""));
    let request = format!("{head}\r\nHost: witness\r\nConnection: close\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, answer.to_lowercase())
}

fn put(name: &str, headers: &str, body: &str) -> String {
    format!("PUT /v1/records/{name} HTTP/1.1\r\nContent-Length: {}\r\n{headers}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn statuses() {
    let directory = TempDir::new().unwrap();
    let running = Running::start(directory.path()).await;
    let address = running.address();
    let unknown = "If-Match: \"0123456789abcdef0123456789abcdef\"";
    let long_name = "x".repeat(64);
    let too_long = "x".repeat(16 * 1024 + 1);
    for (expected, request) in [
        (404, "GET /v1/records/pair HTTP/1.1".to_owned()),
        (412, put("pair", unknown, "x")),
        (201, put("pair", "If-None-Match: *", "content")),
        (412, put("pair", "If-None-Match: *", "content")),
        (412, put("pair", unknown, "x")),
        (200, "GET /v1/records/pair HTTP/1.1".to_owned()),
        (400, put("pair", "X-Nothing: 1", "x")),
        (400, put("pair", "If-Match: *", "x")),
        (400, put("pair", "If-Match: W/\"0123456789abcdef0123456789abcdef\"", "x")),
        (400, put("pair", "If-Match: 0123456789abcdef0123456789abcdef", "x")),
        (400, put("pair", "If-None-Match: \"0123456789abcdef0123456789abcdef\"", "x")),
        (400, put("pair", &format!("{unknown}\r\nIf-None-Match: *"), "x")),
        (400, put("pair", &format!("{unknown}\r\n{unknown}"), "x")),
        (400, "GET /v1/records/..%2Fetc HTTP/1.1".to_owned()),
        (400, format!("GET /v1/records/{long_name} HTTP/1.1")),
        (413, put("pair", "If-None-Match: *", &too_long)),
        (405, "DELETE /v1/records/pair HTTP/1.1".to_owned()),
        (405, "POST /v1/records/pair HTTP/1.1\r\nContent-Length: 0".to_owned()),
        (501, "GET /v1/records HTTP/1.1".to_owned()),
        (501, "GET /nothing HTTP/1.1".to_owned()),
        (200, "GET / HTTP/1.1".to_owned()),
        (200, "GET /status HTTP/1.1".to_owned()),
        (200, "GET /metrics HTTP/1.1".to_owned()),
        (200, "GET /healthz HTTP/1.1".to_owned()),
        (200, "GET /health HTTP/1.1".to_owned()),
        (200, "GET /version HTTP/1.1".to_owned()),
    ] {
        let first_line = request.lines().next().unwrap_or_default().to_owned();
        let (status, answer) = raw(&address, &request).await;
        assert_eq!(status, expected, "{first_line}: {answer}");
        assert!(answer.contains("\r\nduet-witness: 1\r\n"), "{first_line}: {answer}");
        assert!(answer.contains("\r\ncache-control: no-store\r\n"), "{first_line}: {answer}");
    }
    let (_, answer) = raw(&address, "GET /v1/records/pair HTTP/1.1\r\nDuet-Witness-Request: abc").await;
    assert!(answer.contains("\r\netag: \"") && answer.ends_with("\r\n\r\ncontent"), "{answer}");
    assert!(answer.contains("\r\nduet-witness-request: abc\r\n"), "{answer}");
    let (_, health) = raw(&address, "GET /health HTTP/1.1").await;
    assert!(health.contains("\"records\":1") && health.contains("\"incarnation\":\""), "{health}");
    running.stop().await;
}

#[tokio::test]
async fn a_damaged_record_is_unknown_for_its_pair_only() {
    let directory = TempDir::new().unwrap();
    let running = Running::start(directory.path()).await;
    for cluster in ["one", "two"] {
        swapped(open(&running.address(), cluster, PATIENT).create(Bytes::from_static(b"x")).await);
    }
    running.stop().await;
    let version = damage(directory.path());
    let running = Running::start(directory.path()).await;
    let one = open(&running.address(), "one", PATIENT);
    let reason = reason_of_read(one.read().await).to_string();
    assert!(reason.contains("is damaged"), "{reason}");
    let reason = reason_of_write(one.compare_and_set(&version, Bytes::new()).await).to_string();
    assert!(reason.contains("is damaged"), "{reason}");
    reason_of_write(one.create(Bytes::new()).await);
    let two = open(&running.address(), "two", PATIENT).read().await;
    assert!(matches!(two, ReadOutcome::Record { .. }), "{two:?}");
}

/// Changes the content of record `one` behind its checksum; returns its version.
fn damage(directory: &Path) -> duet_witness::Version {
    let database = redb::Database::open(directory.join("witness.redb")).expect("opens");
    let read = database.begin_read().expect("reads").open_table(RECORDS).expect("is there");
    let mut stored = read.get("one").expect("reads").expect("is there").value().to_vec();
    drop(read);
    *stored.last_mut().expect("not empty") ^= 1;
    let write = database.begin_write().expect("writes");
    write.open_table(RECORDS).expect("is there").insert("one", stored.as_slice()).expect("writes");
    write.commit().expect("commits");
    let text = String::from_utf8_lossy(&stored).into_owned();
    let version = text.split("version=").nth(1).and_then(|rest| rest.split(' ').next()).expect("a version");
    duet_witness::Version::new(version)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_pairs_write_at_once() {
    let directory = TempDir::new().unwrap();
    let running = Running::start(directory.path()).await;
    let address = running.address();
    let pairs: Vec<_> = (0..300)
        .map(|number| {
            let register = open(&address, &format!("pair-{number}"), PATIENT);
            tokio::spawn(async move {
                let mut version = swapped(register.create(Bytes::from_static(b"0")).await);
                for round in 1..=3 {
                    let content = Bytes::from(format!("{number}.{round}"));
                    version = swapped(register.compare_and_set(&version, content).await);
                }
            })
        })
        .collect();
    for pair in pairs {
        pair.await.unwrap();
    }
    let (_, health) = raw(&address, "GET /health HTTP/1.1").await;
    assert!(health.contains("\"records\":300"), "{health}");
    running.stop().await;
}

/// In steady state nothing is written: reads leave the disk alone, and so do the questions of people and monitoring.
#[tokio::test]
async fn reads_write_nothing_and_the_counters_say_so() {
    let directory = TempDir::new().unwrap();
    let running = Running::start(directory.path()).await;
    let address = running.address();
    let pair = open(&address, "secret-name", PATIENT);
    swapped(pair.create(Bytes::from_static(b"secret content")).await);
    let counted = async |name: &str| {
        let (_, metrics) = raw(&address, "GET /metrics HTTP/1.1").await;
        let line =
            metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(str::to_owned);
        line.unwrap_or_else(|| panic!("{name}: {metrics}")).parse::<u64>().expect("a number")
    };
    let disk = ["duet_witness_sync_seconds_count", "duet_witness_disk_written_bytes_total"];
    let before = [counted(disk[0]).await, counted(disk[1]).await];
    assert!(before[0] >= 1 && before[1] > 0, "{before:?}");
    for _ in 0..50 {
        pair.read().await;
    }
    let after = [counted(disk[0]).await, counted(disk[1]).await];
    assert_eq!(before, after);
    assert_eq!(counted("duet_witness_answers_total{outcome=\"record\"}").await, 50);
    assert_eq!(counted("duet_witness_answers_total{outcome=\"created\"}").await, 1);
    assert_eq!(counted("duet_witness_records").await, 1);
    // Nobody learns which pairs there are, nor what they hold.
    for path in ["/", "/status", "/metrics", "/health", "/healthz", "/version"] {
        let (status, answer) = raw(&address, &format!("GET {path} HTTP/1.1")).await;
        assert!(status == 200 && !answer.contains("secret"), "{path}: {answer}");
    }
    let (_, page) = raw(&address, "GET / HTTP/1.1").await;
    assert!(page.contains("default-src 'none'") && page.contains("<td>1</td>"), "{page}");
    running.stop().await;
}

/// Idle connections make room when there is no place left.
#[tokio::test]
async fn a_full_server_closes_idle_connections() {
    let directory = TempDir::new().unwrap();
    let config = WitnessServerConfig { max_connections: 8, ..config(directory.path()) };
    let running = Running::start_with(config).await;
    let mut idle = Vec::new();
    for _ in 0..8 {
        idle.push(TcpStream::connect(running.address()).await.unwrap());
    }
    let start = std::time::Instant::now();
    assert_eq!(open(&running.address(), "pair", PATIENT).read().await, ReadOutcome::Absent);
    assert!(
        start.elapsed() < std::time::Duration::from_secs(8),
        "before their patience ends: {:?}",
        start.elapsed()
    );
    running.stop().await;
}

/// More pairs than there are places, all at once: each is served in its turn, and no answer breaks off.
#[tokio::test]
async fn a_crowd_is_served_in_turn() {
    let directory = TempDir::new().unwrap();
    let config = WitnessServerConfig { max_connections: 8, ..config(directory.path()) };
    let running = Running::start_with(config).await;
    let pairs: Vec<_> = (0..200)
        .map(|number| {
            let pair = open(&running.address(), &format!("pair-{number}"), PATIENT);
            tokio::spawn(async move {
                let version = swapped(pair.create(Bytes::from_static(b"1")).await);
                assert!(matches!(pair.read().await, ReadOutcome::Record { .. }));
                swapped(pair.compare_and_set(&version, Bytes::from_static(b"2")).await);
            })
        })
        .collect();
    for pair in pairs {
        pair.await.unwrap();
    }
    running.stop().await;
}
