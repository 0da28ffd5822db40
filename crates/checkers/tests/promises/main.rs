//! For each promise: a history that keeps it, and every way to break it, refused with a sentence that names who did what.

#![allow(clippy::unwrap_used)] // in a test a panic is the report

mod answers;
mod compactions;
mod copies;
mod leases;
mod real_time;
#[path = "../support/mod.rs"]
mod support;
mod truth;
mod watches;
mod writes;
