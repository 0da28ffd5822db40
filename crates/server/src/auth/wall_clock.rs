//! The time of day, for the age of tokens and for nothing else.
//!
//! Both appliances must agree roughly on how old a token is, and after a restart too: only the wall clock can say so. A
//! wrong one lets a token live longer, or makes a client log in again; no data depends on it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub(super) fn seconds() -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "the age of a token is a time of day; no data depends on it"
    )]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
