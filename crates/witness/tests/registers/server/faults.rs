//! Faults between client and server: none of them may look like an answer.

use std::time::{Duration, Instant};

use bytes::Bytes;
use duet_witness::{ReadOutcome, Register, Version};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::running::{Running, open};
use crate::outcomes::{PATIENT, reason_of_read, reason_of_write, swapped};

const SHORT: Duration = Duration::from_millis(200);
const SOME_VERSION: &str = "0123456789abcdef0123456789abcdef";

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    (listener, address)
}

/// All three calls are `Unknown`, and their reasons contain `text`.
async fn assert_all_unknown(address: &str, deadline: Duration, text: &str) {
    let register = open(address, "pair", deadline);
    let start = Instant::now();
    let reasons = [
        reason_of_read(register.read().await),
        reason_of_write(register.create(Bytes::from_static(b"x")).await),
        reason_of_write(register.compare_and_set(&Version::new(SOME_VERSION), Bytes::new()).await),
    ];
    assert!(start.elapsed() < deadline * 3 + Duration::from_secs(5), "{:?}", start.elapsed());
    for reason in reasons {
        assert!(reason.to_string().contains(text), "{reason}");
        assert!(reason.to_string().contains(address), "{reason}");
    }
}

#[tokio::test]
async fn connection_refused() {
    let (listener, address) = listen().await;
    drop(listener);
    assert_all_unknown(&address, PATIENT, "does a Duet witness run there").await;
}

#[tokio::test]
async fn an_unknown_host() {
    assert_all_unknown("no-such-host.invalid:1", PATIENT, "check the address").await;
}

#[tokio::test]
async fn a_black_hole() {
    let (_listener, address) = listen().await;
    assert_all_unknown(&address, SHORT, "did not answer within 200 ms").await;
}

/// Answers every request with the same bytes, in which NONCE stands for the request's nonce.
async fn stranger(answer: String) -> String {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let head = read_head(&mut stream).await.to_lowercase();
                let nonce = head.split("duet-witness-request: ").nth(1).and_then(|rest| rest.lines().next());
                let answer = answer.replace("NONCE", nonce.unwrap_or("none"));
                let _ = stream.write_all(answer.as_bytes()).await;
                // Ends well, even though the request may have a body that was not read.
                let _ = stream.shutdown().await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    address
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).expect("text")
}

#[tokio::test]
async fn strangers_answers_mean_nothing() {
    let etag = format!("ETag: \"{SOME_VERSION}\"\r\n");
    for status in ["200 OK", "201 Created", "404 Not Found", "412 Precondition Failed", "502 Bad Gateway"] {
        let address = stranger(format!("HTTP/1.1 {status}\r\n{etag}Content-Length: 0\r\n\r\n")).await;
        assert_all_unknown(&address, PATIENT, "is no Duet witness").await;
        // A cache between client and witness.
        let mark = "Duet-Witness: 1\r\nDuet-Witness-Request: 0000\r\n";
        let address = stranger(format!("HTTP/1.1 {status}\r\n{mark}{etag}Content-Length: 0\r\n\r\n")).await;
        assert_all_unknown(&address, PATIENT, "another request").await;
        let mark = "Duet-Witness: 2\r\nDuet-Witness-Request: NONCE\r\n";
        let address = stranger(format!("HTTP/1.1 {status}\r\n{mark}{etag}Content-Length: 0\r\n\r\n")).await;
        assert_all_unknown(&address, PATIENT, "another version").await;
    }
    assert_all_unknown(&stranger("SSH-2.0-OpenSSH_9.9\r\n".into()).await, PATIENT, "broke off").await;
    assert_all_unknown(&stranger(String::new()).await, PATIENT, "broke off").await;
}

#[tokio::test]
async fn answers_off_the_list_mean_nothing() {
    let mark = "Duet-Witness: 1\r\nDuet-Witness-Request: NONCE\r\n";
    for (status, extra) in [
        ("500 Internal Server Error", ""),
        ("503 Service Unavailable", ""),
        ("204 No Content", ""),
        ("301 Moved Permanently", "Location: /\r\n"),
        ("400 Bad Request", ""),
        ("409 Conflict", ""),
        ("200 OK", ""),
        ("201 Created", "ETag: \"short\"\r\n"),
        ("200 OK", "ETag: W/\"0123456789abcdef0123456789abcdef\"\r\n"),
    ] {
        let answer = format!("HTTP/1.1 {status}\r\n{mark}{extra}Content-Length: 0\r\n\r\n");
        assert_all_unknown(&stranger(answer).await, PATIENT, "answered").await;
    }
    // 412 is no answer to a read, 404 none to a write.
    let answer = |status| format!("HTTP/1.1 {status}\r\n{mark}Content-Length: 0\r\n\r\n");
    let mismatch = open(&stranger(answer("412 Precondition Failed")).await, "pair", PATIENT);
    reason_of_read(mismatch.read().await);
    let absent = open(&stranger(answer("404 Not Found")).await, "pair", PATIENT);
    assert_eq!(absent.read().await, ReadOutcome::Absent);
    reason_of_write(absent.create(Bytes::new()).await);
    // Cut off in the middle of the record.
    let etag = format!("ETag: \"{SOME_VERSION}\"\r\n");
    let cut = format!("HTTP/1.1 200 OK\r\n{mark}{etag}Content-Length: 100\r\n\r\nhalf");
    let reason = reason_of_read(open(&stranger(cut).await, "pair", PATIENT).read().await).to_string();
    assert!(reason.contains("broke off"), "{reason}");
    let long = format!("HTTP/1.1 200 OK\r\n{mark}{etag}Content-Length: 20000\r\n\r\n{}", "x".repeat(20000));
    reason_of_read(open(&stranger(long).await, "pair", PATIENT).read().await);
}

/// Passes one request on to the server and throws the answer away.
async fn proxy_that_loses_the_reply(server: String) -> String {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut upstream = TcpStream::connect(&server).await.expect("the server runs");
            let (mut from_client, mut to_client) = client.split();
            let (mut from_server, mut to_server) = upstream.split();
            let mut answer = [0; 1];
            tokio::select! {
                _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
                // The first byte of the answer: the write is done and durable.
                _ = from_server.read_exact(&mut answer) => {}
            }
            let _ = to_client.shutdown().await;
        }
    });
    address
}

#[tokio::test]
async fn a_lost_reply_is_unknown_and_a_read_shows_what_happened() {
    let directory = TempDir::new().unwrap();
    let running = Running::start(directory.path()).await;
    let proxy = proxy_that_loses_the_reply(running.address()).await;
    let (lossy, direct) = (open(&proxy, "pair", PATIENT), open(&running.address(), "pair", PATIENT));
    reason_of_write(lossy.create(Bytes::from_static(b"1")).await);
    let ReadOutcome::Record { version: first, bytes } = direct.read().await else { panic!("created") };
    assert_eq!(bytes, "1");
    reason_of_write(lossy.compare_and_set(&first, Bytes::from_static(b"2")).await);
    let ReadOutcome::Record { version: second, bytes } = direct.read().await else { panic!("replaced") };
    assert_eq!(bytes, "2");
    assert_ne!(first, second);
    reason_of_read(lossy.read().await);
    swapped(direct.compare_and_set(&second, Bytes::from_static(b"3")).await);
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_replaced() {
    let directory = TempDir::new().unwrap();
    let first = Running::start(directory.path()).await;
    let address = first.address();
    let register = open(&address, "pair", PATIENT);
    let version = swapped(register.create(Bytes::from_static(b"1")).await);
    first.stop().await;
    reason_of_read(register.read().await);
    // The same port again, as after a restart of the service.
    let config = duet_witness::server::WitnessServerConfig::new(address.parse().unwrap(), directory.path());
    let server = duet_witness::server::WitnessServer::bind(config).unwrap();
    let task = tokio::spawn(server.run(std::future::pending()));
    swapped(register.compare_and_set(&version, Bytes::from_static(b"2")).await);
    task.abort();
}
