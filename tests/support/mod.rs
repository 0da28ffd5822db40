//! What tests with real processes share: the pair, its lines and its clients.

#![allow(dead_code, unused_imports, unused_macros, reason = "each test target uses a part")]

pub mod client;
pub mod clocks;
pub mod etcdctl;
pub mod harness;
pub mod network;
pub mod proxy;
pub mod small_disk;
pub mod tap;
