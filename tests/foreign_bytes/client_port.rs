//! Plain HTTP at the client port of a real appliance: health, status and orders asked for in ways that are nearly right.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::harness::{A, CLUSTER, PATIENCE, Pair, Witness, run};
use crate::mutate::Mutator;
use crate::{SOME, Shown};

/// How long an answer is waited for before the sending side is closed, upon which an unfinished request is given up.
const PAUSE: Duration = Duration::from_millis(50);

/// Ends whatever was unfinished before it, and the connection.
const GOODBYE: &str = "\r\n\r\nGET /version HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n";

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: d\r\n\r\n")
}

fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// Requests of every kind. The one order is without a meaning here: there is no peer to hand over to.
fn requests() -> Vec<Vec<u8>> {
    let texts = [
        get("/duet/v1/status"),
        get("/health?serializable=true&exclude=NOSPACE"),
        get("/livez?verbose"),
        get("/readyz?verbose=1"),
        get("/version"),
        post("/duet/v1/switchover", ""),
        post("/duet/v1/status", r#"{"key":"Zm9v","value":[1,2,3]}"#),
        post("/v3/kv/put", r#"{"key":"aw==","value":"dg==","lease":"0","prev_kv":true}"#),
        post("/v3/kv/range", r#"{"key":"AA==","range_end":"AA==","limit":"3","sort_order":"DESCEND"}"#),
        post("/v3beta/kv/txn", r#"{"compare":[{"target":"MOD","key":"aw==","mod_revision":"1"}],"success":[{"requestPut":{"key":"aw=="}}]}"#),
        post("/v3/lease/timetolive", r#"{"ID":"7","keys":true}"#),
        post("/etcdserverpb.KV/Range", "\0\0\0\0\x05\n\x03foo"),
        "PUT /duet/v1/status HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_owned(),
        "GET /health HTTP/1.1\r\nHost: d\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
            .to_owned(),
        "GET /version HTTP/1.0\r\n\r\n".to_owned(),
        format!("{}{}", get("/version"), get("/livez")),
    ];
    texts.map(String::into_bytes).to_vec()
}

/// Sends bytes and a goodbye, and reads what comes until the appliance hangs up.
fn say(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PAUSE)).unwrap();
    let mut answer = Vec::new();
    // It may hang up in the middle of a sentence.
    if stream.write_all(&[bytes, GOODBYE.as_bytes()].concat()).is_err() {
        return answer;
    }
    let mut read = stream.read_to_end(&mut answer);
    if read.as_ref().is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)) {
        stream.shutdown(Shutdown::Write).ok();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        read = stream.read_to_end(&mut answer);
    }
    if let Err(error) = read {
        assert!(error.kind() == ErrorKind::ConnectionReset, "no end: {error}");
    }
    answer
}

/// The codes of all answers on a connection.
fn codes(answer: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(answer);
    let heads = text.match_indices("HTTP/1.").filter_map(|(at, _)| text.get(at + 9..at + 12)?.parse().ok());
    heads.collect()
}

/// The answer to one request, which may be the last on its connection.
fn expect(address: SocketAddr, request: &str, code: u16) {
    let answer = say(address, request.as_bytes());
    let shown = String::from_utf8_lossy(&answer);
    assert_eq!(codes(&answer).first(), Some(&code), "to {:?}: {shown}", &request[..request.len().min(200)]);
}

/// What is certainly wrong is refused as the client's fault, what is right is answered.
fn known_ones(address: SocketAddr) {
    for path in ["/duet/v1/status", "/health", "/livez", "/readyz", "/version"] {
        expect(address, &get(path), 200);
        expect(address, &post(path, ""), 405);
    }
    for order in ["/duet/v1/stop", "/duet/v1/switchover"] {
        expect(address, &get(order), 405);
        expect(address, &post(&format!("{order}/"), ""), 404);
    }
    for path in ["/", "/duet/v1/", "/duet/v1/../status", "/health/%00", "//version"] {
        expect(address, &get(path), 404);
    }
    expect(address, "GET /version HTTP/1.1\r\nHost: d\r\nContent-Length: x\r\n\r\n", 400);
    expect(address, "GET /ver\0sion HTTP/1.1\r\nHost: d\r\n\r\n", 400);
    expect(address, &get(&format!("/{}", "y".repeat(100_000))), 414);
    expect(address, &format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(200)), 431);
}

#[test]
fn an_appliance_answers_or_hangs_up_and_serves_on() {
    run(async {
        let mut pair = Pair::lay_out(Witness::Server).await;
        pair.init(A).await;
        pair.start_appliance(A).await;
        pair.until_primary(A).await;
        let address: SocketAddr = pair.client_url(A).trim_start_matches("http://").parse().unwrap();
        let talk = move || {
            known_ones(address);
            let mut mutator = Mutator::new(requests(), 2);
            let mut answered = 0;
            for _ in 0..SOME {
                let bytes = mutator.next();
                let _shown = Shown(&bytes);
                let codes = codes(&say(address, &bytes));
                answered += u32::from(!codes.is_empty());
                assert!(codes.iter().all(|code| *code < 500), "{codes:?}");
            }
            known_ones(address);
            answered
        };
        let answered = tokio::task::spawn_blocking(talk).await.unwrap();
        assert!(answered > SOME / 2, "{answered} of {SOME} were answered");
        let status = pair.status(A).await;
        assert!(pair.is_running(A) && status.serving && status.cluster.name == CLUSTER);
        let log = pair.log(A);
        assert!(!log.contains("panicked"), "{log}");
    });
}
