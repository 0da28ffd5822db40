//! The register: the one trait of all witness back ends, at the level of bytes.
//!
//! Uncertainty is a value here. Only answers on a back end's short list of definite ones become
//! [`WriteOutcome::Mismatch`] or [`ReadOutcome::Absent`]; a timeout, a refused connection, a damaged file or
//! an answer from a stranger is `Unknown`. A write that came back `Unknown` may have happened, may still
//! happen later, or never: it stays conditional all the while, so once any other write has succeeded it can
//! do no harm.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use rand::TryRng;
use rand::rngs::SysRng;

use crate::planted::Bug;

/// A future that owns nothing but what it borrows for `'a`, so that back ends can sit behind `dyn Register`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Largest record, in bytes. Real ones are below 2 KiB; a bound keeps the memory and disk of a witness that
/// serves very many pairs predictable.
pub const MAX_RECORD_BYTES: usize = 16 * 1024;

/// How long one call may take when nobody says otherwise. Two round trips between continents and an `fsync`
/// on a slow disk fit in; it is below the time after which the protocol itself gives up (3 s) or a shutdown
/// does (2 s).
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(1);

/// One record that can be read, created once, and replaced if it is still the one that was read.
///
/// Every call ends within the deadline the back end was opened with. Calls may run at the same time; each is
/// atomic and durable before it is answered, and reads are never stale. Dropping a future does not undo a
/// write.
pub trait Register: Send + Sync {
    /// Reads the record.
    fn read(&self) -> BoxFuture<'_, ReadOutcome>;

    /// Creates the record if there is none.
    fn create(&self, bytes: Bytes) -> BoxFuture<'_, WriteOutcome>;

    /// Replaces the record if its version is still `expected`.
    fn compare_and_set(&self, expected: &Version, bytes: Bytes) -> BoxFuture<'_, WriteOutcome>;

    /// Where the record is, for people: kind, address, name of the cluster.
    fn describe(&self) -> String;
}

/// What came of a read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadOutcome {
    /// The record as it is, durable.
    Record {
        /// To be quoted when it is to be replaced.
        version: Version,
        /// Its content.
        bytes: Bytes,
    },
    /// The witness itself answered that it holds no record of this name.
    Absent,
    /// Nothing is known; the reason says what to check.
    Unknown(Reason),
}

/// What came of a create or compare-and-set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WriteOutcome {
    /// Done and durable; this is the record's version now.
    Swapped(Version),
    /// Certainly not done, and never will be: another record is there, or (for a compare-and-set) none.
    Mismatch,
    /// Done, to be done later, or never; the reason says what to check. Read to find out.
    Unknown(Reason),
}

/// Identity of one write of one record. Opaque; equal only if it is the same write.
///
/// Back ends of this crate draw it at random, 128 bits from the operating system for every write, so it is
/// not repeated even when a witness is wiped, restored from a backup or rolled back, nor when contents are
/// equal.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Version(String);

impl Version {
    /// A version as the back end spells it.
    pub fn new(spelling: impl Into<String>) -> Self {
        Self(spelling.into())
    }

    /// As the back end spells it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A version that was never used before.
    pub(crate) fn draw() -> Result<Self, Reason> {
        let nonce = if Bug::VersionRepeats.planted() { Ok(1) } else { draw_nonce() };
        nonce.map(|nonce| Self(format!("{nonce:032x}")))
    }

    /// Whether `spelling` has the form that [`Version::draw`] gives: 32 hexadecimal digits in lower case.
    pub(crate) fn is_drawn(spelling: &str) -> bool {
        spelling.len() == 32 && spelling.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// 128 bits from the operating system. Not from a generator in this process: the clone of a virtual machine
/// would go on with the same numbers as its original.
pub(crate) fn draw_nonce() -> Result<u128, Reason> {
    let mut bytes = [0; 16];
    SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| Reason::new(format!("the operating system gives no random numbers: {error}")))?;
    Ok(u128::from_le_bytes(bytes))
}

/// One sentence for people: why nothing is known, and what to check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reason(String);

impl Reason {
    /// A reason; no full stop at its end, as it is quoted inside other sentences.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Reason {}

/// The reason why a record of this length is not even sent, if it is too long.
pub(crate) fn too_large(length: usize) -> Option<Reason> {
    (length > MAX_RECORD_BYTES).then(|| {
        Reason::new(format!(
            "a record of {length} bytes is above the limit of {MAX_RECORD_BYTES}; nothing was written"
        ))
    })
}
