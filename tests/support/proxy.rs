//! A line between two processes that a test can cut.

pub use duet::line::{Line, Proxy, Way};
