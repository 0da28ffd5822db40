//! Differential tests: the same calls at a real etcd and at a pair, half of them at its secondary, must be answered
//! alike: values, headers, codes and texts.
//!
//! `keys`, `transactions`, `leases`, `watches`, `compaction`, `users`, `space` and `services` are scripts; `random_sequences` plays what
//! nobody thought of. `differences` holds what is meant to differ, with docs/etcd-api.md. Names of servers, terms and the
//! like are left out, revisions and leases are counted from the start of a sequence (`terms`).
//!
//! The etcd is the installed one, or `DUET_TEST_ETCD_SERVER=/path/to/etcd`. Duet follows 3.5; where 3.4 differs, the
//! tests go by the version. Without etcd every test is skipped with a word; with `DUET_TEST_REQUIRE_ETCD` that is a
//! failure.

#![allow(clippy::unwrap_used)] // a test may panic

#[path = "../support/mod.rs"]
mod support;
use support::harness;

#[path = "../chaos/random.rs"]
#[allow(dead_code, reason = "its other user uses more of it")]
mod random;

mod caller;
mod compaction;
mod differences;
mod generate;
mod generate_users;
mod keys;
mod leases;
mod play;
mod random_sequences;
mod requests;
mod servers;
mod services;
mod side;
mod space;
mod step;
mod terms;
mod transactions;
mod user_step;
mod users;
mod watches;
mod watching;
