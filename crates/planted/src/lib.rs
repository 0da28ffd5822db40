//! Bugs planted on purpose, to find out whether the tests see them.
//!
//! A crate names its bugs with [`bugs!`] and asks at the place of each: `if Bug::TentForgotten.planted() { .. }`. Without
//! the feature `on` the answer is `false` and the compiler removes the question; with it (test builds only) the process
//! has the one bug that the environment names: `DUET_PLANTED=protocol.TentForgotten`. The command that runs all of them
//! is `crates/sim/src/bin/planted`.
#![cfg_attr(not(feature = "on"), no_std)]

#[cfg(all(feature = "on", not(debug_assertions)))]
compile_error!("planted bugs are for test builds, never for a release");

/// The environment variable that names the bug of a process, as `crate.Name`.
pub const VARIABLE: &str = "DUET_PLANTED";

/// The crates that have bugs to be planted, as [`VARIABLE`] names them.
pub const CRATES: [&str; 5] = ["protocol", "mvcc", "storage", "witness", "serving"];

/// A bug's name and what it breaks.
pub type Named = (&'static str, &'static str);

/// The bugs of one crate.
#[derive(Debug)]
pub struct Bugs {
    #[cfg(feature = "on")]
    list: (&'static str, &'static [Named]),
    #[cfg(feature = "on")]
    chosen: std::sync::OnceLock<Option<usize>>,
}

#[cfg(not(feature = "on"))]
impl Bugs {
    /// None: this build has no bugs to be planted.
    pub const fn new(_name: &'static str, _bugs: &'static [Named]) -> Self {
        Self {}
    }

    /// Whether this process has the bug of this number: no.
    #[inline]
    pub const fn has(&self, _number: usize) -> bool {
        false
    }
}

#[cfg(feature = "on")]
impl Bugs {
    /// The bugs of the crate `name`.
    pub const fn new(name: &'static str, bugs: &'static [Named]) -> Self {
        Self { list: (name, bugs), chosen: std::sync::OnceLock::new() }
    }

    /// Whether this process has the bug of this number.
    #[inline]
    pub fn has(&self, number: usize) -> bool {
        *self.chosen.get_or_init(|| self.choose()) == Some(number)
    }

    /// Name of the crate, and all its bugs.
    pub const fn list(&self) -> (&'static str, &'static [Named]) {
        self.list
    }

    /// The bug that the environment names, if it is one of these. A name that means nothing would make every test look
    /// blind, so it ends the process.
    fn choose(&self) -> Option<usize> {
        let text = std::env::var_os(VARIABLE).filter(|text| !text.is_empty())?;
        let text = text.to_string_lossy();
        let (of, name) = text.split_once('.').unwrap_or((&text, ""));
        assert!(CRATES.contains(&of), "{VARIABLE}={text}: it begins with one of {}", CRATES.join(", "));
        if of != self.list.0 {
            return None;
        }
        let number = self.list.1.iter().position(|bug| bug.0 == name);
        assert!(number.is_some(), "{VARIABLE}={text}: {of} has no such bug");
        number
    }
}

/// Declares `Bug`, an enum of the bugs that can be planted in a crate: the crate's name, then each bug with its comment,
/// which is also what people read in the report.
#[macro_export]
macro_rules! bugs {
    ($crate_name:literal $($(#[doc = $what:literal])+ $name:ident,)+) => {
        /// A bug that can be planted in this crate.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Bug {
            $($(#[doc = $what])+ $name,)+
        }

        impl Bug {
            /// Whether this process has it.
            #[inline]
            pub fn planted(self) -> bool {
                BUGS.has(self as usize)
            }
        }

        /// All of them.
        pub static BUGS: $crate::Bugs =
            $crate::Bugs::new($crate_name, &[$((stringify!($name), concat!($($what),+)),)+]);
    };
}
