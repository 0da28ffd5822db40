//! Witnesses that others made: the promises of every witness, their troubles, and what their answers mean.

#![allow(clippy::unwrap_used)] // a test may panic

mod azure;
mod broken;
mod component;
mod etcd;
pub mod fake;
mod google;
mod proxy;
mod s3;
mod throttle;
