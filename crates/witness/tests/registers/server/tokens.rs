//! Tokens: a pair can never touch another's record, and a refusal is never an answer.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use duet_witness::server::{AdminError, Administrator, Order, OrderError, WitnessServerConfig};
use duet_witness::{
    BoxFuture, ClusterName, Credential, ReadOutcome, Register, Token, Version, WriteOutcome, conformance,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::running::{Running, config, open, open_with};
use crate::outcomes::{PATIENT, reason_of_read, reason_of_write, swapped};

fn closed(directory: &Path) -> WitnessServerConfig {
    WitnessServerConfig { open: false, ..config(directory) }
}

pub async fn order(directory: &Path, order: Order, name: &str) -> Result<Option<Token>, AdminError> {
    Administrator::of(directory).await?.order(order, &name.parse().expect("a good name")).await
}

pub async fn add(directory: &Path, name: &str) -> Token {
    order(directory, Order::Add, name).await.expect("done").expect("a token")
}

/// The names of the suite.
const NAMES: [&str; 11] = [
    "creates-once",
    "replaces",
    "aba",
    "left",
    "right",
    "oversized",
    "race",
    "creators",
    "own",
    "restart",
    "wiped",
];

/// A closed server, all of whose pairs have tokens.
struct Closed {
    running: tokio::sync::Mutex<Option<Running>>,
    known: Mutex<(String, HashMap<String, Token>)>,
    directory: TempDir,
}

impl Closed {
    async fn start() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let closed = Self { running: tokio::sync::Mutex::default(), known: Mutex::default(), directory };
        closed.begin(true).await;
        closed
    }

    async fn begin(&self, register: bool) {
        // The suite's writers race without a pause.
        let config =
            WitnessServerConfig { pair_requests_per_second: 1_000_000, ..closed(self.directory.path()) };
        let running = Running::start_with(config).await;
        self.known.lock().expect("not poisoned").0 = running.address();
        *self.running.lock().await = Some(running);
        if register {
            for name in NAMES {
                let token = add(self.directory.path(), name).await;
                self.known.lock().expect("not poisoned").1.insert(name.to_owned(), token);
            }
        }
    }

    async fn end(&self) {
        self.running.lock().await.take().expect("it runs").stop().await;
    }
}

impl conformance::Backend for Closed {
    fn open(&self, cluster: &str) -> Arc<dyn Register> {
        let known = self.known.lock().expect("not poisoned");
        Arc::new(open_with(&known.0, cluster, Credential::Token(known.1[cluster].clone()), PATIENT))
    }

    fn restart(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.end().await;
            self.begin(false).await;
        })
    }

    fn wipe(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.end().await;
            std::fs::remove_file(self.directory.path().join("witness.redb")).expect("removable");
            self.begin(true).await;
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_with_tokens() {
    conformance::run(&Closed::start().await).await;
}

#[tokio::test]
async fn a_pair_touches_its_own_record_and_no_other() {
    let directory = TempDir::new().unwrap();
    let running = Running::start_with(closed(directory.path())).await;
    let (mine, theirs) = (add(directory.path(), "mine").await, add(directory.path(), "theirs").await);
    let address = running.address();
    let with = |cluster, credential| open_with(&address, cluster, credential, PATIENT);
    let own = with("theirs", Credential::Token(theirs));
    assert_eq!(own.read().await, ReadOutcome::Absent);
    // Before there is a record and after; whether the name is registered or not.
    for round in 0..2 {
        for (name, credential, hint) in [
            ("theirs", Credential::Token(mine.clone()), "refuses this pair's token"),
            ("nobodys", Credential::Token(mine.clone()), "refuses this pair's token"),
            ("theirs", Credential::None, "duet witness add theirs"),
            ("nobodys", Credential::None, "duet witness add nobodys"),
        ] {
            let stranger = with(name, credential);
            let version = match own.read().await {
                ReadOutcome::Record { version, .. } => version,
                _ => Version::new("0123456789abcdef0123456789abcdef"),
            };
            for reason in [
                reason_of_read(stranger.read().await),
                reason_of_write(stranger.create(Bytes::from_static(b"x")).await),
                reason_of_write(stranger.compare_and_set(&version, Bytes::from_static(b"x")).await),
            ] {
                let reason = reason.to_string();
                assert!(reason.contains(hint), "{reason}");
                assert!(!reason.contains(mine.reveal()), "{reason}");
            }
        }
        if round == 0 {
            swapped(own.create(Bytes::from_static(b"kept")).await);
        }
    }
    assert!(matches!(own.read().await, ReadOutcome::Record { bytes, .. } if bytes == "kept"));
    running.stop().await;
}

/// An open server serves strangers, and protects those who are registered all the same.
#[tokio::test]
async fn an_open_server_keeps_registered_pairs_apart() {
    let directory = TempDir::new().unwrap();
    let running = Running::start(directory.path()).await;
    let token = add(directory.path(), "pair").await;
    let stranger = open(&running.address(), "pair", PATIENT);
    reason_of_write(stranger.create(Bytes::new()).await);
    reason_of_read(stranger.read().await);
    let pair = open_with(&running.address(), "pair", Credential::Token(token), PATIENT);
    swapped(pair.create(Bytes::new()).await);
    swapped(open(&running.address(), "other", PATIENT).create(Bytes::new()).await);
    running.stop().await;
}

/// Orders mean the same to a server that runs and to its data while it is stopped, and hold over a restart.
#[tokio::test]
async fn tokens_are_given_replaced_and_ended() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let mut running = Some(Running::start_with(closed(path)).await);
    for online in [true, false] {
        let mut life = Life { path, online, running: &mut running };
        let first = life.order(Order::Add).await.unwrap().unwrap();
        let again = life.order(Order::Add).await;
        assert!(matches!(again, Err(AdminError::Order(OrderError::Registered(_)))), "{again:?}");
        let one = life.order(Order::EndOld).await;
        assert!(matches!(one, Err(AdminError::Order(OrderError::OneToken(_)))), "{one:?}");
        assert_eq!(life.accepted(&[&first]).await, [true]);
        let second = life.order(Order::Rotate).await.unwrap().unwrap();
        assert_eq!(life.accepted(&[&first, &second]).await, [true, true]);
        assert_eq!(life.order(Order::EndOld).await.unwrap(), None);
        assert_eq!(life.accepted(&[&first, &second]).await, [false, true]);
        let third = life.order(Order::Rotate).await.unwrap().unwrap();
        let fourth = life.order(Order::Replace).await.unwrap().unwrap();
        assert_eq!(life.accepted(&[&first, &second, &third, &fourth]).await, [false, false, false, true]);
        assert_eq!(life.order(Order::Remove).await.unwrap(), None);
        assert_eq!(life.accepted(&[&first, &second, &third, &fourth]).await, [false; 4]);
        let gone = life.order(Order::Remove).await;
        assert!(matches!(gone, Err(AdminError::Order(OrderError::NotRegistered(_)))), "{gone:?}");
    }
}

/// A server that is stopped for each order, or not.
struct Life<'a> {
    path: &'a Path,
    online: bool,
    running: &'a mut Option<Running>,
}

impl Life<'_> {
    async fn order(&mut self, what: Order) -> Result<Option<Token>, AdminError> {
        if let Some(running) = self.running.take_if(|_| !self.online) {
            running.stop().await;
        }
        let outcome = order(self.path, what, "pair").await;
        while !self.online && self.running.is_none() {
            *self.running = Some(Running::start_with(closed(self.path)).await);
        }
        outcome
    }

    async fn accepted(&self, tokens: &[&Token]) -> Vec<bool> {
        let address = self.running.as_ref().expect("it runs").address();
        let mut accepted = Vec::new();
        for token in tokens {
            let register = open_with(&address, "pair", Credential::Token((*token).clone()), PATIENT);
            accepted.push(match register.read().await {
                ReadOutcome::Unknown(reason) => {
                    assert!(reason.to_string().contains("refuses this pair's token"), "{reason}");
                    false
                }
                _ => true,
            });
        }
        accepted
    }
}

#[tokio::test]
async fn a_removed_pair_leaves_no_record_to_the_next_of_its_name() {
    let directory = TempDir::new().unwrap();
    let running = Running::start_with(closed(directory.path())).await;
    let address = running.address();
    let before = add(directory.path(), "pair").await;
    let before = open_with(&address, "pair", Credential::Token(before), PATIENT);
    let version = swapped(before.create(Bytes::from_static(b"old")).await);
    order(directory.path(), Order::Remove, "pair").await.unwrap();
    let after = add(directory.path(), "pair").await;
    let after = open_with(&address, "pair", Credential::Token(after), PATIENT);
    assert_eq!(after.read().await, ReadOutcome::Absent);
    swapped(after.create(Bytes::from_static(b"new")).await);
    reason_of_write(before.compare_and_set(&version, Bytes::new()).await);
    running.stop().await;
}

/// A write whose content takes its time is looked at again when all of it is there.
#[tokio::test]
async fn a_token_that_ends_while_a_write_comes_in_ends_the_write() {
    let directory = TempDir::new().unwrap();
    let running = Running::start_with(closed(directory.path())).await;
    let token = add(directory.path(), "pair").await;
    let mut stream = TcpStream::connect(running.address()).await.unwrap();
    let head = format!(
        "PUT /v1/records/pair HTTP/1.1\r\nHost: w\r\nConnection: close\r\nIf-None-Match: *\r\n\
         Authorization: Bearer {}\r\nContent-Length: 4\r\n\r\nha",
        token.reveal()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // Its head has been read once it was counted as the pair's request.
    let name: ClusterName = "pair".parse().unwrap();
    let administrator = Administrator::of(directory.path()).await.unwrap();
    while administrator.list().await.unwrap()[0].last_request_seconds.is_none() {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let new = administrator.order(Order::Replace, &name).await.unwrap().unwrap();
    stream.write_all(b"lf").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    let register = open_with(&running.address(), "pair", Credential::Token(new), PATIENT);
    assert_eq!(register.read().await, ReadOutcome::Absent);
    running.stop().await;
}

#[tokio::test]
async fn a_pair_that_asks_too_often_hears_so_and_others_are_served() {
    let directory = TempDir::new().unwrap();
    let running = Running::start_with(closed(directory.path())).await;
    let (wild, calm) = (add(directory.path(), "wild").await, add(directory.path(), "calm").await);
    let wild = open_with(&running.address(), "wild", Credential::Token(wild), PATIENT);
    let mut answered = 0;
    let reason = loop {
        match wild.read().await {
            ReadOutcome::Absent => answered += 1,
            other => break reason_of_read(other).to_string(),
        }
        assert!(answered < 100_000, "it is held back some time");
    };
    assert!(reason.contains("asks more than"), "{reason}");
    let outcome = wild.create(Bytes::new()).await;
    assert!(matches!(outcome, WriteOutcome::Unknown(_)), "and nothing was written: {outcome:?}");
    let calm = open_with(&running.address(), "calm", Credential::Token(calm), PATIENT);
    assert_eq!(calm.read().await, ReadOutcome::Absent);
    running.stop().await;
}
