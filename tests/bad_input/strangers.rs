//! Strangers on the ports: port scanners, wrong protocols, floods, and clients that never finish a sentence. Whatever
//! they send, all three processes live and the pair serves those who ask properly.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{A, B, Ledger, PATIENCE, Pair, Witness, run};
use crate::program::{is_still_of, still_serves};

/// Connections in a flood.
const FLOOD: usize = 200;

/// Where the processes listen.
struct Ports {
    client: [u16; 2],
    peer: [u16; 2],
    witness: u16,
}

impl Ports {
    fn of(pair: &Pair) -> Self {
        let port = |appliance, field: &str| -> u16 {
            let text = pair.config_text(appliance);
            let line = text.lines().find(|line| line.starts_with(field)).unwrap();
            line.trim_end_matches('"').rsplit_once(':').unwrap().1.parse().unwrap()
        };
        Self {
            client: [A, B].map(|appliance| port(appliance, "client_listen")),
            peer: [A, B].map(|appliance| port(appliance, "peer_listen")),
            witness: port(A, "witness"),
        }
    }

    fn all(&self) -> [u16; 5] {
        [self.client[0], self.client[1], self.peer[0], self.peer[1], self.witness]
    }
}

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next().to_le_bytes()[3]).collect()
    }
}

async fn connect(port: u16) -> TcpStream {
    let connecting = TcpStream::connect(("127.0.0.1", port));
    tokio::time::timeout(PATIENCE, connecting).await.expect("the port answers").unwrap()
}

/// Says something and reads whatever comes, until the other side ends the connection or says nothing more. The other side may
/// hang up at any moment.
async fn say(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(port).await;
    let mut answer = Vec::new();
    if stream.write_all(bytes).await.is_ok() {
        stream.shutdown().await.ok();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .expect("the connection ends")
            .ok();
    }
    answer
}

/// Asks over HTTP/1.1 and reads the whole answer.
async fn ask(port: u16, request: &str) -> String {
    let mut stream = connect(port).await;
    let head = format!("{request} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n");
    let length = if request.starts_with("GET") { "" } else { "Content-Length: 0\r\n" };
    stream.write_all(format!("{head}{length}\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an answer").ok();
    String::from_utf8_lossy(&answer).into_owned()
}

async fn witness_answers(ports: &Ports) {
    let answer = ask(ports.witness, "GET /health").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"healthy\":true"), "{answer}");
}

async fn all_is_well(pair: &mut Pair, ledger: &mut Ledger) {
    witness_answers(&Ports::of(pair)).await;
    still_serves(pair, ledger).await;
    let log = std::fs::read_to_string(pair.dir().join("witness.log")).unwrap();
    assert!(!log.contains("panicked"), "{log}");
}

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a port scanner sends, and worse.
fn sentences() -> Vec<Vec<u8>> {
    let mut numbers = Numbers(0x5eed);
    let mut all: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"\n".to_vec(),
        b"GET".to_vec(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"POST /v1/records/x HTTP/1.1\r\nHost: w\r\nContent-Length: 99999999999999999999\r\n\r\n".to_vec(),
        b"PUT /v1/records/x HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"
            .to_vec(),
        b"PUT /v1/records/claims HTTP/1.1\r\nHost: w\r\nContent-Length: 3\r\n\r\nabc".to_vec(),
        b"GET /v1/records/../../etc/passwd HTTP/1.1\r\nHost: w\r\n\r\n".to_vec(),
        b"GET /v1/records/%2e%2e%2f%00 HTTP/1.1\r\nHost: w\r\n\r\n".to_vec(),
        // TLS: somebody put https where http belongs.
        [&[0x16, 3, 1, 0, 0xf0, 1, 0, 0, 0xec, 3, 3][..], &numbers.bytes(240)].concat(),
        HTTP2_PREFACE.to_vec(),
        HTTP2_PREFACE[..10].to_vec(),
        [HTTP2_PREFACE, &numbers.bytes(500)].concat(),
        // A frame of 16 MiB that never comes, and headers that are not compressed as they should be.
        [HTTP2_PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat(),
        [HTTP2_PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 9, 1, 5, 0, 0, 0, 1], &[0xff; 9]].concat(),
        // The peer's frames: 4 GiB, 8 MiB that never come, an empty one, a wrong checksum, half a hello, another version.
        vec![0xff; 8],
        vec![0, 0, 128, 0, 0, 0, 0, 0, 1, 2, 3],
        vec![0; 8],
        [&[5, 0, 0, 0, 9, 9, 9, 9][..], b"hello"].concat(),
        frame(b"DuetPeer"),
        frame(b"DuetPeer\x01\x00\x01"),
        frame(b"DuetPeer\x63\x00\x01\x01"),
        frame(b"DuetPeer\x01\x00\x02\x05\x00\x00\x00sorry"),
        frame(b"DuetPeer\x01\x00\x01\x01\xff\xff\xff\xff"),
        frame(&[&b"DuetPeer\x01\x00\x01"[..], &numbers.bytes(300)].concat()),
        frame(&numbers.bytes(5000)),
    ];
    for size in [1, 2, 9, 100, 4096, 70_000, 1_000_000] {
        all.push(numbers.bytes(size));
        all.push(vec![0; size]);
    }
    // Heads without an end.
    all.push([b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 1 << 20], b"\r\n\r\n".to_vec()].concat());
    all.push([b"GET /".to_vec(), vec![b'y'; 1 << 20], b" HTTP/1.1\r\n\r\n".to_vec()].concat());
    let many = (0..20_000).flat_map(|number| format!("X-{number}: y\r\n").into_bytes());
    all.push([b"GET / HTTP/1.1\r\n".to_vec(), many.collect(), b"\r\n".to_vec()].concat());
    all
}

fn frame(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap();
    [&length.to_le_bytes()[..], &crc32c(body).to_le_bytes(), body].concat()
}

/// CRC-32C, bit by bit: the tests need it for a few small frames only.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82F6_3B78 & 0_u32.wrapping_sub(crc & 1));
        }
    }
    !crc
}

#[test]
fn the_checksum_is_the_frames() {
    assert_eq!(crc32c(b"123456789"), 0xE306_9283);
}

#[test]
fn nonsense_on_every_port() {
    run(async {
        let mut pair = Pair::start(Witness::Server).await;
        let mut ledger = Ledger::default();
        pair.write(A, &mut ledger, 3).await;
        let both = |record: &duet_protocol::WitnessRecord| !record.conf.is_solo();
        let record = pair.until_record("that both are in sync", both).await;
        let ports = Ports::of(&pair);
        for port in ports.all() {
            let sentences = sentences();
            // Ten at a time: the silent ones take their time to be given up.
            for group in sentences.chunks(10) {
                let said = group.iter().map(|sentence| {
                    let sentence = sentence.clone();
                    tokio::spawn(async move { say(port, &sentence).await })
                });
                for one in said.collect::<Vec<_>>() {
                    one.await.unwrap();
                }
            }
        }
        is_still_of(&record, &pair.record().await);
        all_is_well(&mut pair, &mut ledger).await;
    });
}

#[test]
fn browsers_on_the_client_port() {
    run(async {
        let mut pair = Pair::start(Witness::Server).await;
        let mut ledger = Ledger::default();
        let ports = Ports::of(&pair);
        for port in ports.client {
            // gRPC needs HTTP/2: an answer that is none of its own, or its own with an error in it.
            for request in ["GET /etcdserverpb.KV/Put", "POST /etcdserverpb.KV/Put"] {
                let answer = ask(port, request).await;
                let refused = ["404", "405", "415", "501"].map(|code| format!("HTTP/1.1 {code}"));
                let in_grpc = answer.contains("grpc-status: ") && !answer.contains("grpc-status: 0");
                assert!(
                    in_grpc || refused.iter().any(|line| answer.starts_with(line)),
                    "{request}: {answer}"
                );
            }
            for (request, allowed) in [
                ("GET /", &["404"][..]),
                ("DELETE /duet/v1/status", &["405"]),
                ("GET /duet/v1/stop", &["405"]),
                ("GET /duet/v1/switchover", &["405"]),
                ("POST /duet/v1/nothing", &["404"]),
                ("GET /health", &["200"]),
            ] {
                let answer = ask(port, request).await;
                let code = answer.split(' ').nth(1).unwrap_or_default();
                assert!(allowed.contains(&code), "{request:?} should be answered by {allowed:?}: {answer}");
            }
        }
        all_is_well(&mut pair, &mut ledger).await;
    });
}

#[test]
fn a_flood_of_connections() {
    run(async {
        let mut pair = Pair::start(Witness::Server).await;
        let mut ledger = Ledger::default();
        for port in Ports::of(&pair).all() {
            let mut open = Vec::new();
            for number in 0..FLOOD {
                let mut stream = connect(port).await;
                // Half of them are silent, half have begun a sentence.
                if number % 2 == 1 {
                    stream.write_all(b"GET / HT").await.ok();
                }
                open.push(stream);
            }
            // While all of them are open those who ask properly are served.
            still_serves(&mut pair, &mut ledger).await;
            drop(open);
        }
        all_is_well(&mut pair, &mut ledger).await;
    });
}

#[test]
fn connections_that_come_and_go() {
    run(async {
        let mut pair = Pair::start(Witness::Server).await;
        let mut ledger = Ledger::default();
        for port in Ports::of(&pair).all() {
            for _ in 0..5 * FLOOD {
                drop(connect(port).await);
            }
        }
        all_is_well(&mut pair, &mut ledger).await;
    });
}

/// Connections that say one byte every now and then, to a port, until they are dropped.
struct Drip {
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drip {
    async fn start(port: u16, count: usize, sentence: &'static [u8]) -> Self {
        let mut tasks = Vec::new();
        for _ in 0..count {
            let mut stream = connect(port).await;
            tasks.push(tokio::spawn(async move {
                for byte in sentence.iter().cycle() {
                    if stream.write_all(&[*byte]).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
            }));
        }
        Self { tasks }
    }
}

impl Drop for Drip {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

#[test]
fn sentences_that_never_end() {
    run(async {
        let mut pair = Pair::start(Witness::Server).await;
        let mut ledger = Ledger::default();
        let ports = Ports::of(&pair);
        let mut drips = Vec::new();
        for port in [ports.client[0], ports.client[1], ports.witness] {
            drips.push(Drip::start(port, FLOOD / 2, b"GET /x HTTP/1.1\r\nX: yyyyyyyyyyyyyyyyyyyyyyyy").await);
        }
        all_is_well(&mut pair, &mut ledger).await;
        // A handover needs the witness, too.
        pair.soft_stop(A).await;
        pair.until_primary(B).await;
        pair.start_appliance(A).await;
        all_is_well(&mut pair, &mut ledger).await;
        drop(drips);
    });
}

#[test]
fn greetings_that_never_end_do_not_keep_the_peer_out() {
    run(async {
        let mut pair = Pair::start(Witness::Server).await;
        let mut ledger = Ledger::default();
        let ports = Ports::of(&pair);
        // B listens for A. Each of these has announced a greeting of 200 bytes, and takes its time.
        let _drip =
            Drip::start(ports.peer[1], 3 * FLOOD / 10, &[200, 0, 0, 0, 1, 2, 3, 4, b'D', b'u', b'e', b't'])
                .await;
        pair.write(B, &mut ledger, 3).await;
        pair.crash(A).await;
        pair.until_primary(B).await;
        pair.start_appliance(A).await;
        still_serves(&mut pair, &mut ledger).await;
    });
}

#[test]
fn requests_that_are_begun_and_dropped() {
    run(async {
        let mut pair = Pair::start(Witness::Server).await;
        let mut ledger = Ledger::default();
        for appliance in [A, B] {
            let client = pair.client(appliance).clone();
            for number in 0..FLOOD {
                let client = client.clone();
                // The answer is not waited for: the stream is reset in the middle.
                let put = tokio::spawn(async move { client.put("dropped", &number.to_string()).await });
                tokio::task::yield_now().await;
                put.abort();
            }
        }
        all_is_well(&mut pair, &mut ledger).await;
    });
}
