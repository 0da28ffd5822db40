//! Pairs whose witness is what others made, and `duet witness check`: real processes of the real binary.

#![allow(clippy::unwrap_used)] // a test may panic

#[path = "../support/mod.rs"]
mod support;
use support::harness;

#[path = "../../crates/witness/tests/registers/stores/component.rs"]
mod component;
#[allow(dead_code)] // the witness's own tests use the rest of it
#[path = "../../crates/witness/tests/registers/stores/fake.rs"]
mod fake;

mod check;
mod pairs;
