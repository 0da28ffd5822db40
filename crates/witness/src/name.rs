//! Cluster names, checked once at the edge.
//!
//! A name becomes part of a URL and of a path, so only harmless characters are in it; it is also what people
//! read in logs, so it is short.

use std::fmt;
use std::str::FromStr;

/// Longest cluster name, in bytes: fits a file name, a DNS label and a log line.
pub const MAX_CLUSTER_NAME_BYTES: usize = 63;

/// The name of one pair: 1 to 63 of `a-z A-Z 0-9 . _ -`, the first a letter or digit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClusterName(String);

impl ClusterName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClusterName {
    type Err = ClusterNameError;

    fn from_str(name: &str) -> Result<Self, ClusterNameError> {
        let Some(first) = name.bytes().next() else {
            return Err(ClusterNameError::Empty);
        };
        if name.len() > MAX_CLUSTER_NAME_BYTES {
            return Err(ClusterNameError::TooLong { length: name.len() });
        }
        if let Some(character) =
            name.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-'))
        {
            return Err(ClusterNameError::Character { character });
        }
        if !first.is_ascii_alphanumeric() {
            return Err(ClusterNameError::Start);
        }
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Choose another cluster name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ClusterNameError {
    /// There is no name.
    #[error("the cluster name is empty")]
    Empty,
    /// Shorten it.
    #[error("the cluster name has {length} bytes; {MAX_CLUSTER_NAME_BYTES} are allowed")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// Leave this character out.
    #[error("the cluster name has a {character:?}; allowed are letters, digits, '.', '_' and '-'")]
    Character {
        /// The first one that is not allowed.
        character: char,
    },
    /// Begin with a letter or digit.
    #[error("the cluster name must start with a letter or digit")]
    Start,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "Berlin-2.prod_x", "0", &"x".repeat(63)] {
            assert_eq!(good.parse::<ClusterName>().unwrap().as_str(), good);
        }
        let bad = |name: &str| name.parse::<ClusterName>().unwrap_err();
        assert_eq!(bad(""), ClusterNameError::Empty);
        assert_eq!(bad(&"x".repeat(64)), ClusterNameError::TooLong { length: 64 });
        assert_eq!(bad("a/b"), ClusterNameError::Character { character: '/' });
        assert_eq!(bad("a\nb"), ClusterNameError::Character { character: '\n' });
        assert_eq!(bad("münchen"), ClusterNameError::Character { character: 'ü' });
        for start in ["..", ".hidden", "-a", "_a"] {
            assert_eq!(bad(start), ClusterNameError::Start);
        }
    }
}
