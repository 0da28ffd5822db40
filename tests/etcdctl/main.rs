//! The real `etcdctl` against a real pair: what people will type first, at the one appliance and the other, before,
//! during and after a handover, and after a crash.
//!
//! What a command prints is written down in `scripts/*.txt`: commands with their whole output. Each script runs on a fresh
//! pair, one command at A, the next at B; and, where an etcd server is installed, on a fresh etcd too, so that the
//! texts are etcd's and not ours. The few commands to which Duet answers otherwise say why in the script.
//!
//! Without `etcdctl` every test is skipped with a word; with `DUET_TEST_REQUIRE_ETCDCTL` in the environment that is a
//! failure.

#![allow(clippy::unwrap_used)] // a test may panic

#[path = "../support/mod.rs"]
mod support;
use support::harness;

mod cluster;
mod failures;
mod handover;
mod leases;
mod locks;
mod maintenance;
mod mirror;
mod script;
mod scripts;
mod snapshot;
mod tool;
mod users;
mod watches;
