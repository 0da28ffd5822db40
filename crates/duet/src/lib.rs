//! The `duet` binary as a library: its commands, and what they share with the black-box tests.
//!
//! `cli` is the command line, `run` carries a command out. [`process`] starts child processes that never outlive their
//! parent, [`local`] a whole pair of them on this machine; the demo, the bench and the tests are built on both.

#![allow(clippy::missing_errors_doc, reason = "a `Failure` is written for people and explains itself")]

pub mod appliance;
pub mod bench;
pub mod cli;
pub mod demo;
pub mod error;
pub mod http;
pub mod line;
pub mod local;
pub mod logging;
pub mod order;
pub mod process;
pub mod run;
pub mod signals;
pub mod status;
pub mod terminal;
pub mod witness;
