//! The measuring commands, run with small numbers: that they measure, clean up behind themselves, and report what they
//! promise. Never how fast anything is.

#![allow(clippy::unwrap_used)] // a test may panic

mod command;
mod compare;
mod failover;
mod scale;
mod witness;
