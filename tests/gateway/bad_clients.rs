//! Clients that behave badly: they do not read, send endlessly, hang up in the middle. Each of them may lose its own
//! connection; nobody else notices. (Requests that are nearly right: `tests/foreign_bytes/client_port.rs`.)

use std::time::Duration;

use duet::bench::proc_stat::Memory;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{A, PATIENCE, Pair, Witness, run};
use crate::http_client::{Lines, authority, post};

/// What an appliance may take more in memory for one client that does not read: the events that wait for it are in the ring
/// that all watches share, the rest in buffers of one connection.
const MEMORY_BYTES: u64 = 192 << 20;

fn head(path: &str, length: usize) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n")
}

async fn connect(pair: &Pair) -> TcpStream {
    TcpStream::connect(authority(&pair.client_url(A))).await.unwrap()
}

/// Everything until the end of the connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut read)).await.expect("it ends");
    if let Err(error) = ended {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    String::from_utf8_lossy(&read).into_owned()
}

async fn still_serves(pair: &Pair) {
    let answer = post(&pair.client_url(A), "/v3/kv/put", r#"{"key":"b2s=","value":"b2s="}"#).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn a_watch_that_nobody_reads_costs_little() {
    run(async {
        let mut pair = Pair::start(Witness::Server).await;
        let watch = r#"{"create_request":{"key":"AA==","range_end":"AA=="}}"#;
        let mut streams = Vec::new();
        for _ in 0..8 {
            let mut stream = connect(&pair).await;
            stream.write_all((head("/v3/watch", watch.len()) + watch).as_bytes()).await.unwrap();
            streams.push(stream);
        }
        let pid = pair.process(A).pid();
        let before = Memory::of(&[pid]).resident;
        // 40 MB of events for each watch, of a few keys: the store itself stays small.
        let writers = (0..40).map(|writer| {
            let client = pair.client(A).clone();
            tokio::spawn(async move {
                for _ in 0..50 {
                    client.put(&format!("key {writer}"), &"x".repeat(20_000)).await.unwrap();
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        let after = Memory::of(&[pid]).resident;
        assert!(after < before + MEMORY_BYTES, "{before} bytes before, {after} after");
        drop(streams);
        still_serves(&pair).await;
    });
}

#[test]
fn requests_follow_each_other_on_one_connection() {
    run(async {
        let pair = Pair::start(Witness::Server).await;
        let mut stream = connect(&pair).await;
        let put = r#"{"key":"aw==","value":"dg=="}"#;
        let one = head("/v3/kv/put", put.len()) + put;
        let last = "GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all((one.repeat(20) + last).as_bytes()).await.unwrap();
        let answers = rest(&mut stream).await;
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 21, "{answers}");
        let revisions: Vec<_> =
            (2..22).map(|revision| answers.find(&format!("\"revision\":\"{revision}\""))).collect();
        assert!(revisions.iter().all(Option::is_some) && revisions.is_sorted(), "in order: {answers}");
    });
}

#[test]
fn who_hangs_up_or_sends_without_end_harms_nobody() {
    run(async {
        let mut pair = Pair::start(Witness::Server).await;
        let pid = pair.process(A).pid();
        let before = Memory::of(&[pid]).resident;
        // In the middle of the head, of the body, and with half of the connection closed.
        for sent in [
            "POST /v3/kv/put HT",
            "POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"key\"",
        ] {
            let mut stream = connect(&pair).await;
            stream.write_all(sent.as_bytes()).await.unwrap();
            drop(stream);
            let mut stream = connect(&pair).await;
            stream.write_all(sent.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let answer = rest(&mut stream).await;
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
        }
        // A number without end.
        let mut stream = connect(&pair).await;
        stream.write_all(head("/v3/kv/range", 1 << 40).as_bytes()).await.unwrap();
        let piece = vec![b'7'; 1 << 20];
        let mut sent = 0;
        let refused = async {
            while stream.write_all(&piece).await.is_ok() {
                sent += piece.len();
            }
        };
        tokio::time::timeout(PATIENCE, refused).await.expect("the appliance hangs up in the end");
        assert!(sent < 256 << 20, "after {sent} bytes");
        // Deep ones.
        let url = pair.client_url(A);
        for (open, close) in [("[", "]"), (r#"{"success":[{"request_txn":"#, "}]}"), (r#"{"nope":"#, "}")] {
            for depth in [100, 9_000, 100_000] {
                let answer =
                    post(&url, "/v3/kv/txn", &(open.repeat(depth) + "{}" + &close.repeat(depth))).await;
                assert!([200, 400].contains(&answer.status), "{open} {depth}: {answer:?}");
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        let after = Memory::of(&[pid]).resident;
        assert!(after < before + MEMORY_BYTES, "{before} bytes before, {after} after");
        still_serves(&pair).await;
    });
}

/// etcd calls such a request off, too: it takes the client for gone.
#[test]
fn who_closes_its_half_before_the_answer_is_taken_for_gone() {
    run(async {
        let pair = Pair::start(Witness::Server).await;
        let body = r#"{"key":"aw==","value":"dg=="}"#;
        let mut stream = connect(&pair).await;
        stream.write_all((head("/v3/kv/put", body.len()) + body).as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 200"), "{answer}");
        still_serves(&pair).await;
    });
}

/// The limit on messages is the one that was chosen, also for the first of a stream.
#[test]
fn a_streams_first_message_has_the_limit_that_was_chosen() {
    run(async {
        let mut pair = Pair::lay_out(Witness::Server).await;
        pair.configure("max_request_bytes = 3000000");
        pair.start_new().await;
        // Base64 of zeros.
        let watch = |bytes: usize| {
            format!(r#"{{"create_request":{{"key":"{}","progress_notify":true}}}}"#, "AAAA".repeat(bytes / 3))
        };
        let mut lines = Lines::post(&pair.client_url(A), "/v3/watch", &watch(3_000_000)).await.unwrap();
        let first = lines.next().await.unwrap();
        assert!(first.contains(r#""created":true"#), "{first}");
        let told = post(&pair.client_url(A), "/v3/watch", &watch(3_600_000)).await;
        let text = "grpc: received message larger than max (";
        assert!(told.status == 429 && told.body.contains(text), "{told:?}");
    });
}
