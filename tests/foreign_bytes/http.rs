//! HTTP and JSON: requests to a real witness server, and what a stranger answers to `duet status`.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use duet::status::{PairView, Seen, render};
use duet::terminal::Paint;
use duet_server::StatusReport;
use duet_witness::client::ServerRegister;
use duet_witness::server::{WitnessServer, WitnessServerConfig};
use duet_witness::{Credential, ReadOutcome, Register, WriteOutcome};

use crate::mutate::Mutator;
use crate::{MANY, SOME, Shown, feed};

/// How long an answer may take; far more than it does.
const PATIENCE: Duration = Duration::from_secs(20);

/// The cluster whose record must stay as it is.
const CLUSTER: &str = "berlin";

/// Requests that change no record that is there: of another version, or to create one.
fn requests() -> Vec<Vec<u8>> {
    let version = "0a".repeat(16);
    let write = |condition: &str, body: &str| {
        let length = body.len();
        format!(
            "PUT /v1/records/{CLUSTER} HTTP/1.1\r\nHost: w\r\n{condition}\r\nDuet-Witness-Request: 0123\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
    };
    let texts = [
        write(&format!("If-Match: \"{version}\""), "another"),
        write("If-None-Match: *", "a first one"),
        write("X: y", ""),
        format!("GET /v1/records/{CLUSTER} HTTP/1.1\r\nHost: w\r\nConnection: close\r\n\r\n"),
        "GET /health HTTP/1.1\r\nHost: w\r\n\r\nGET /version HTTP/1.1\r\nHost: w\r\n\r\n".to_owned(),
        format!(
            "PUT /v1/records/{CLUSTER} HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        ),
    ];
    texts.map(String::into_bytes).to_vec()
}

/// Sends bytes and reads what comes, until the server hangs up.
fn say(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = Vec::new();
    // It may hang up in the middle of a sentence.
    if stream.write_all(bytes).is_ok() && stream.shutdown(Shutdown::Write).is_ok() {
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) => assert!(error.kind() == std::io::ErrorKind::ConnectionReset, "no end: {error}"),
        }
    }
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_answers_or_hangs_up_and_keeps_its_record() {
    let directory = tempfile::TempDir::new().unwrap();
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = WitnessServerConfig::new(listen, directory.path());
    let server = WitnessServer::bind(config).unwrap();
    let address = server.local_addr();
    let server = tokio::spawn(server.run(std::future::pending()));
    let register =
        ServerRegister::new(address.to_string(), CLUSTER.parse().unwrap(), Credential::None, PATIENCE);
    let kept = Bytes::from_static(b"the record");
    let WriteOutcome::Swapped(version) = register.create(kept.clone()).await else { panic!("created") };

    let talk = move || {
        let mut mutator = Mutator::new(requests(), 1);
        let mut answered = 0;
        for _ in 0..SOME {
            let bytes = mutator.next();
            let _shown = Shown(&bytes);
            let answer = say(address, &bytes);
            answered += u32::from(!answer.is_empty());
            // A first line that is no HTTP at all may be taken for HTTP/0.9 or for nothing.
            assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{answer:?}");
        }
        answered
    };
    let answered = tokio::task::spawn_blocking(talk).await.unwrap();
    assert!(answered > SOME / 2, "{answered} of {SOME} were answered");
    assert_eq!(register.read().await, ReadOutcome::Record { version, bytes: kept });
    assert!(!server.is_finished(), "it serves on");
    server.abort();
}

/// What an appliance says of itself.
const REPORT: &str = r#"{
    "cluster": { "name": "demo", "id": "00f3a1b2c3d4e5f6" },
    "appliance": "A", "role": "primary", "since_ms": 1000, "serving": true, "lsn": 104, "epoch": 3,
    "digest": "00", "flushed": 104, "committed": 104, "applied": 104, "revision": 105,
    "conf": { "epoch": 3, "primary": "A", "in_sync": ["A", "B"] },
    "tent": null, "pending": null, "max_epoch": 3, "parted": false,
    "peer": {
        "connected": true, "lsn": 104, "epoch": 3, "lag": 0, "matched": 104, "heard_ms_ago": 5,
        "leaving": false, "copying": false, "client_url": "http://127.0.0.1:3379", "error": null
    },
    "witness": {
        "kind": "server", "location": "http://127.0.0.1:7900", "reachable": true, "error": null,
        "read_ms_ago": 300,
        "record": {
            "cluster": "00f3a1b2c3d4e5f6", "revision": 7, "writer": "A",
            "conf": { "epoch": 3, "primary": "A", "in_sync": ["A", "B"] },
            "part": { "lsn": 4, "epoch": 1, "digest": "00" }, "floor": { "A": 100, "B": 100 },
            "left": { "A": null, "B": { "lsn": 4, "epoch": 1, "digest": "00", "was_primary": true } }
        }
    },
    "waiting": "why", "explanation": null, "leaving": false, "damaged": false, "version": "0.1.0",
    "data_dir": "/var/lib/duet", "disk": "00", "client_url": "http://127.0.0.1:2379"
}"#;

#[test]
fn a_status_is_shown_or_refused() {
    let sample = REPORT.as_bytes().to_vec();
    let show = |bytes: &[u8]| {
        let Ok(report) = serde_json::from_slice::<StatusReport>(bytes) else { return false };
        let seen = |report: &StatusReport| Seen::Up(Box::new(report.clone()));
        let secondary = StatusReport { appliance: "B".into(), role: "secondary".into(), ..report.clone() };
        let view = PairView::of(seen(&report), seen(&secondary));
        assert!(!render(&view, Paint::plain()).is_empty());
        true
    };
    assert!(show(&sample));
    feed(&[sample], MANY, show, |_| {});
}
