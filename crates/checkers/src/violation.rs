//! A broken promise.

use std::fmt;

/// Which promise was broken, and how, in words that name the operations.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The promise: "lost write", "stale read", ...
    pub promise: &'static str,
    /// What was seen and what should have been.
    pub sentence: String,
}

impl Violation {
    pub(crate) fn new(promise: &'static str, sentence: impl Into<String>) -> Self {
        Self { promise, sentence: sentence.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise, self.sentence)
    }
}

/// Nothing is wrong, or the first thing that is.
pub(crate) type Verdict = Result<(), Violation>;
