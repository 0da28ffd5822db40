//! Something else where the witness should be.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::harness::{A, B, Ledger, Pair, Witness, run};
use crate::program::{duet, still_serves};

/// A server that answers everything with the same bytes.
struct Impostor {
    port: u16,
    asked: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Impostor {
    async fn start(answer: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, asked) = (listener.local_addr().unwrap().port(), Arc::<AtomicUsize>::default());
        let count = asked.clone();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let count = count.clone();
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                        count.fetch_add(1, Ordering::SeqCst);
                        if answer.is_empty() || stream.write_all(answer).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { port, asked, task }
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

const ANSWERS: [(&str, &[u8]); 7] = [
    ("a web server that has nothing", b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nNot Found"),
    ("a web server that likes everything", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: \"1\"\r\n\r\n{}"),
    (
        "a web server that creates everything",
        b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\nETag: \"1\"\r\n\r\n",
    ),
    ("a proxy without its server", b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"),
    ("another protocol", b"220 mail.example.org ESMTP\r\n"),
    ("random bytes", &[0xde, 0xad, 0xbe, 0xef, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ("one that hangs up", b""),
];

#[test]
fn init_and_a_return_believe_nobody_but_a_witness() {
    run(async {
        let mut pair = Pair::start(Witness::Server).await;
        let mut ledger = Ledger::default();
        pair.write(A, &mut ledger, 5).await;
        pair.soft_stop(B).await;
        let config = pair.config_path(B).display().to_string();
        let other = pair.dir().join("other").display().to_string();
        for (name, answer) in ANSWERS {
            let impostor = Impostor::start(answer).await;
            let url = format!("http://127.0.0.1:{}", impostor.port);
            let said =
                duet(pair.dir(), &["init", "--config", &config, "--data", &other, "--witness", &url]).await;
            said.refuses(1, &["witness", &url]);
            assert!(impostor.asked.load(Ordering::SeqCst) > 0, "{name} was asked");
            assert!(!pair.dir().join("other").exists(), "nothing was made for {name}");
        }
        pair.start_appliance(B).await;
        still_serves(&mut pair, &mut ledger).await;
    });
}

#[test]
fn an_appliance_alone_does_not_begin_by_an_impostors_word() {
    run(async {
        let mut pair = Pair::start(Witness::Server).await;
        let mut ledger = Ledger::default();
        pair.write(A, &mut ledger, 5).await;
        // B holds everything and was secondary: only the witness could let it begin.
        pair.crash(B).await;
        pair.crash(A).await;
        let good = std::fs::read_to_string(pair.config_path(B)).unwrap();
        let witness = good.lines().find(|line| line.starts_with("witness = ")).unwrap().to_owned();
        for (name, answer) in [ANSWERS[1], ANSWERS[2], ANSWERS[4]] {
            let impostor = Impostor::start(answer).await;
            let url = format!("witness = \"http://127.0.0.1:{}\"", impostor.port);
            std::fs::write(pair.config_path(B), good.replace(&witness, &url)).unwrap();
            pair.start_appliance(B).await;
            let says = |status: &duet_server::StatusReport| {
                assert!(!status.serving, "{name} let B begin");
                status.witness.error.is_some() && status.waiting.is_some()
            };
            pair.until_status(B, "waits, and tells of the witness", says).await;
            assert!(impostor.asked.load(Ordering::SeqCst) > 0, "{name} was asked");
            pair.crash(B).await;
        }
        std::fs::write(pair.config_path(B), good).unwrap();
        pair.start_both().await;
        still_serves(&mut pair, &mut ledger).await;
    });
}
