//! What clients of etcd do all day, against a real pair, through handovers and a kill -9: locks and elections as etcd's
//! own services offer them, reads at the secondary, and the requests of the Kubernetes API server.

#![allow(clippy::unwrap_used)] // a test may panic

#[path = "../support/mod.rs"]
mod support;
use support::{client, harness};

mod api_server;
mod kubernetes;
mod locks;
mod own_writes;
mod secondary_reads;
mod watch_cache;
