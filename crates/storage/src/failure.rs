//! A failed operation on a file: what was tried, where, and what the system said.
//!
//! Every error of this crate that comes from the disk carries one, so that the sentence a person reads always names the
//! operation and the path. A full disk is told apart, because a person can do something about it.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// A failed operation on a file or directory.
#[derive(Debug)]
pub struct IoFailure {
    /// What was tried, as a verb: "write", "sync".
    pub operation: &'static str,
    /// Where.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl IoFailure {
    /// Whether the disk (or the user's quota) is full.
    pub fn is_disk_full(&self) -> bool {
        is_disk_full(&self.source)
    }
}

impl fmt::Display for IoFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.operation, self.path.display(), words(&self.source))
    }
}

impl std::error::Error for IoFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// What the system said, without its number for it, which tells a person nothing.
pub fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let number = error.raw_os_error().map(|number| format!(" (os error {number})"));
    number.and_then(|number| text.strip_suffix(&number).map(str::to_owned)).unwrap_or(text)
}

/// Whether an error says that there is no space left.
pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Adds the operation and the path to a bare system error.
pub(crate) trait At<T> {
    /// The same result, with `operation` and `path` in its error.
    fn at(self, operation: &'static str, path: &Path) -> Result<T, IoFailure>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, operation: &'static str, path: &Path) -> Result<T, IoFailure> {
        self.map_err(|source| IoFailure { operation, path: path.to_owned(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_not_told_numbers() {
        let failure =
            IoFailure { operation: "write", path: "/x".into(), source: io::Error::from_raw_os_error(5) };
        assert_eq!(failure.to_string(), "cannot write /x: Input/output error");
        assert_eq!(words(&io::Error::other("why")), "why");
    }
}
