//! Bad input: whatever a person, a disk or a stranger on the network gives to Duet, it answers with a clear error, and
//! nothing is lost.
//!
//! "Clear" is checked the same way everywhere (`program::Said::refuses`): the exit code, one line that says what happened,
//! one line that says what to do, and nothing of the inside: no panic, no debug form of a Rust value, no number of an
//! operating system error. "Nothing lost" is checked by going on: the pair still serves, or starts again once
//! the cause is mended, with every acknowledged write.

#![allow(clippy::unwrap_used)] // a test may panic

#[path = "../support/mod.rs"]
mod support;
use support::{client, harness};

mod command_line;
mod configuration;
mod damaged_data;
mod damaged_witness;
mod data_directory;
mod disk_full;
mod identity;
mod initialising;
mod limits;
mod ports;
mod program;
mod strangers;
mod wrong_witness;
