//! The claims: one file for each requirement of the pair, R1 to R12, on real processes.
//!
//! Every test starts a witness and appliances of the real binary, writes through etcd clients (etcdctl where it is
//! installed, and etcd's generated stubs), and looks at LSNs, roles,
//! the witness's record and the data. Nearly every test runs twice, once for each kind of witness. `harness` holds the
//! pair, `client` the etcd client and the load, `proxy` and `tap` stand between the processes where a test needs to
//! cut a line or to see what goes over it.
//!
//! Waits are polls with a generous deadline; a wait in vain shows both statuses, the record and the ends of the logs.
//! Times are printed, never asserted.

#![allow(clippy::unwrap_used)] // a test may panic

#[path = "../support/mod.rs"]
mod support;
use support::{client, etcdctl, harness, proxy, tap};

mod r01_dense_lsns;
mod r02_replicated_before_acknowledged;
mod r03_lsn_at_the_witness_during_shutdown;
mod r04_primary_stops_softly;
mod r05_restart_compares_with_the_witness;
mod r06_equal_serves_alone;
mod r07_behind_waits;
mod r08_restart_compares_with_the_peer;
mod r09_peer_stays_primary;
mod r10_catches_up;
mod r11_histories_not_bare_lsns;
mod r12_crash_at_every_step;
mod r12_hard_failures;
mod r12_slow_disks;
