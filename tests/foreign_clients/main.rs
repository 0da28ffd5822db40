//! Clients that other people wrote, in their ordinary use and while the primary leaves and dies: Python's `etcd3` and `aetcd`,
//! Rust's `etcd-client`, Node's `etcd3`, and Patroni with two PostgreSQL servers.
//!
//! `tests/foreign_clients/install DIRECTORY` fetches them; `DUET_TEST_CLIENTS` names the directory (`target/clients` if it is not
//! set). Without them every test is skipped with a word; with `DUET_TEST_REQUIRE_CLIENTS` that is a failure. Where an etcd
//! server is installed each program runs there too, so that what it expects is etcd's behaviour and not ours.

#![allow(clippy::unwrap_used)] // a test may panic

#[path = "../support/mod.rs"]
mod support;
use support::harness;

mod patroni;
mod program;
mod programs;
