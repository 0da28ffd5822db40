//! The choices about users, in the words of etcd's flags.

use std::time::Duration;

/// etcd's default for `--auth-token-ttl`.
const DEFAULT_TOKEN_TTL: Duration = Duration::from_mins(5);

/// etcd's default for `--bcrypt-cost`.
const DEFAULT_BCRYPT_COST: u32 = 10;

/// What bcrypt can do: each step up doubles the time.
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 4..=31;

/// How users log in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuthOptions {
    /// A simple token that is not used for so long ends.
    pub token_ttl: Duration,
    /// What a new password's hash costs.
    pub bcrypt_cost: u32,
}

impl Default for AuthOptions {
    fn default() -> AuthOptions {
        AuthOptions { token_ttl: DEFAULT_TOKEN_TTL, bcrypt_cost: DEFAULT_BCRYPT_COST }
    }
}

/// What is wrong with a choice, for the person who made it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct OptionError(pub String);

fn wrong(text: impl Into<String>) -> OptionError {
    OptionError(text.into())
}

impl AuthOptions {
    /// Sets what a new password's hash costs.
    ///
    /// # Errors
    /// bcrypt cannot do that.
    pub fn set_bcrypt_cost(&mut self, cost: u32) -> Result<(), OptionError> {
        if !BCRYPT_COSTS.contains(&cost) {
            return Err(wrong("use a number from 4 to 31; each one up doubles the time of a login"));
        }
        self.bcrypt_cost = cost;
        Ok(())
    }

    /// Sets the life of an unused simple token, in seconds.
    ///
    /// # Errors
    /// It would end at once.
    pub fn set_token_ttl(&mut self, seconds: u64) -> Result<(), OptionError> {
        if seconds == 0 {
            return Err(wrong("use the seconds after which an unused token ends, 1 or more"));
        }
        self.token_ttl = Duration::from_secs(seconds);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_told() {
        let mut options = AuthOptions::default();
        assert!(options.set_bcrypt_cost(3).is_err() && options.set_token_ttl(0).is_err());
        assert!(options.set_bcrypt_cost(4).is_ok() && options.set_token_ttl(1).is_ok());
    }
}
