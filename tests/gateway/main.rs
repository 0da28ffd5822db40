//! The HTTP side of the client port, asked by an HTTP client at real processes: the JSON gateway compared byte for byte with
//! what a real etcd 3.5 answers (and with the etcd that is installed), Patroni's requests through a handover and a
//! crash, clients that behave badly, and the page of metrics.

#![allow(clippy::unwrap_used)] // a test may panic

#[path = "../support/mod.rs"]
mod support;
use support::harness;

mod answers;
mod bad_clients;
mod http_client;
mod metrics;
mod patroni;
mod ports;
mod users;
