//! What the binary says when something cannot be done: one line what happened, one line what to do about it.
//!
//! Exit codes are part of the interface; `duet --help` lists them. No error reaches a person in Rust's debug form.

use std::fmt::Write as _;
use std::process::ExitCode;

use crate::terminal::Paint;

/// How the process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// What was asked for could not be done.
    Failed = 1,
    /// The command line or the configuration is wrong; nothing was started.
    Usage = 2,
    /// No appliance answered.
    Unreachable = 3,
    /// `status`: appliances answer, and none of them takes writes.
    NoPrimary = 4,
    /// Ended by the user before it was done.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// One line: what happened.
    pub what: String,
    /// One line: what to do. Empty when there is nothing to advise.
    pub remedy: String,
    /// Further lines, such as the end of a log.
    pub details: String,
    /// How the process ends.
    pub exit: Exit,
}

impl Failure {
    /// Something could not be done.
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into(), details: String::new(), exit: Exit::Failed }
    }

    /// The command line or the configuration is wrong.
    pub fn usage(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, ..Self::new(what, remedy) }
    }

    /// No appliance answered.
    pub fn unreachable(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { exit: Exit::Unreachable, ..Self::new(what, remedy) }
    }

    /// The user ended it.
    pub fn interrupted() -> Self {
        Self { exit: Exit::Interrupted, ..Self::new("interrupted", "") }
    }

    /// Adds lines that help to find the cause.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// The lines for the terminal.
    pub fn render(&self, paint: Paint) -> String {
        let mut text = format!("{} {}\n", paint.red("error:"), self.what);
        if !self.remedy.is_empty() {
            writeln!(text, "       {}", self.remedy).ok();
        }
        for line in self.details.lines() {
            writeln!(text, "       {} {line}", paint.dim("|")).ok();
        }
        text
    }
}

/// Says in plain words why a file or directory could not be used.
pub fn io_words(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => "it does not exist".into(),
        ErrorKind::PermissionDenied => "permission denied".into(),
        ErrorKind::AlreadyExists => "it exists already".into(),
        ErrorKind::AddrInUse => "the address is in use by another process".into(),
        ErrorKind::AddrNotAvailable => "this machine does not have that address".into(),
        ErrorKind::ConnectionRefused => "nothing listens there".into(),
        ErrorKind::TimedOut => "no answer in time".into(),
        ErrorKind::StorageFull => "the disk is full".into(),
        ErrorKind::ReadOnlyFilesystem => "the file system is read-only".into(),
        ErrorKind::NotADirectory => "a part of the path is not a directory".into(),
        _ => without_numbers(&error.to_string()).to_lowercase(),
    }
}

/// A text of another crate without the system's error numbers: "... (os error 98)" tells a person nothing.
pub fn without_numbers(text: &str) -> String {
    const MARK: &str = " (os error ";
    let mut kept = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(MARK) {
        kept.push_str(before);
        rest = after.split_once(')').map_or("", |(_, after)| after);
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_what_and_one_line_what_to_do() {
        let failure = Failure::usage("no such file: a.toml", "give another --config FILE");
        assert_eq!(
            failure.render(Paint::plain()),
            "error: no such file: a.toml\n       give another --config FILE\n"
        );
        assert_eq!(failure.exit as u8, 2);
        let failure = Failure::new("B did not start", "").with_details("one\ntwo");
        assert_eq!(failure.render(Paint::plain()), "error: B did not start\n       | one\n       | two\n");
    }

    #[test]
    fn io_errors_come_without_numbers() {
        let words = io_words(&std::io::Error::from_raw_os_error(28));
        assert_eq!(words, "the disk is full");
        assert!(!io_words(&std::io::Error::from_raw_os_error(24)).contains("os error"));
        assert_eq!(
            without_numbers("a: refused (os error 111): is b there? (os error 2)"),
            "a: refused: is b there?"
        );
        assert_eq!(without_numbers("nothing (of that)"), "nothing (of that)");
    }
}
