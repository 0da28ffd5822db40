//! The choices about users, in the words of etcd's flags.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::jwt::JwtKeys;

/// etcd's default for `--auth-token-ttl`.
const DEFAULT_TOKEN_TTL: Duration = Duration::from_mins(5);

/// etcd's default for `--bcrypt-cost`.
const DEFAULT_BCRYPT_COST: u32 = 10;

/// etcd's default for `ttl` of JSON web tokens.
const DEFAULT_JWT_TTL: Duration = Duration::from_mins(5);

/// What bcrypt can do: each step up doubles the time.
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 4..=31;

/// How users log in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuthOptions {
    /// The form of tokens.
    pub token: TokenKind,
    /// A simple token that is not used for so long ends.
    pub token_ttl: Duration,
    /// What a new password's hash costs.
    pub bcrypt_cost: u32,
}

/// The form of tokens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TokenKind {
    /// etcd's simple tokens.
    Simple,
    /// JSON web tokens.
    Jwt(Arc<JwtKeys>),
}

impl Default for AuthOptions {
    fn default() -> AuthOptions {
        AuthOptions {
            token: TokenKind::Simple,
            token_ttl: DEFAULT_TOKEN_TTL,
            bcrypt_cost: DEFAULT_BCRYPT_COST,
        }
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

impl TokenKind {
    /// Reads etcd's `--auth-token`: `simple`, or `jwt,pub-key=FILE,priv-key=FILE,sign-method=RS256,ttl=10m`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<TokenKind, OptionError> {
        let mut parts = text.split(',');
        match parts.next() {
            Some("simple") if text == "simple" => Ok(TokenKind::Simple),
            Some("jwt") => parse_jwt(text, parts).map(|keys| TokenKind::Jwt(Arc::new(keys))),
            _ => {
                Err(wrong("use \"simple\", or \"jwt,pub-key=FILE,priv-key=FILE,sign-method=RS256,ttl=10m\""))
            }
        }
    }
}

fn parse_jwt<'text>(text: &str, parts: impl Iterator<Item = &'text str>) -> Result<JwtKeys, OptionError> {
    let (mut public, mut private, mut method, mut ttl) = (None, None, None, DEFAULT_JWT_TTL);
    for part in parts {
        match part.split_once('=') {
            Some(("pub-key", path)) => public = Some(read_key(path)?),
            Some(("priv-key", path)) => private = Some(read_key(path)?),
            Some(("sign-method", name)) => method = Some(name),
            Some(("ttl", time)) => {
                ttl = parse_time(time)
                    .ok_or_else(|| wrong(format!("ttl={time}: use a time such as 10m or 300s")))?;
            }
            _ => return Err(wrong(format!("{part}: known are pub-key, priv-key, sign-method and ttl"))),
        }
    }
    let method = method.ok_or_else(|| wrong("sign-method is missing, for instance RS256"))?;
    JwtKeys::new(text, method, public.as_deref(), private.as_deref(), ttl)
}

fn read_key(path: &str) -> Result<Vec<u8>, OptionError> {
    std::fs::read(Path::new(path)).map_err(|error| wrong(format!("cannot read {path}: {error}")))
}

/// Reads times as Go writes them: `1h30m`, `300s`.
fn parse_time(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|character: char| character.is_ascii_digit()).unwrap_or(rest.len());
        let seconds = match &rest[..unit] {
            "h" => number.checked_mul(3600)?,
            "m" => number.checked_mul(60)?,
            "s" => number,
            _ => return None,
        };
        total = total.checked_add(Duration::from_secs(seconds))?;
        rest = &rest[unit..];
    }
    (!total.is_zero()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_writes_them() {
        assert_eq!(parse_time("10m"), Some(Duration::from_mins(10)));
        assert_eq!(parse_time("1h30m5s"), Some(Duration::from_secs(5405)));
        for wrong in
            ["", "10", "m", "0s", "10x", "-5s", "1.5h", "99999999999999999999s", "9999999999999999999h"]
        {
            assert_eq!(parse_time(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn mistakes_are_told() {
        assert_eq!(TokenKind::parse("simple"), Ok(TokenKind::Simple));
        for (text, part) in [
            ("", "use \"simple\""),
            ("simple,x=1", "use \"simple\""),
            ("jwt", "sign-method is missing"),
            ("jwt,colour=red", "colour=red: known are"),
            ("jwt,sign-method=RS256,ttl=soon", "ttl=soon"),
            ("jwt,sign-method=RS256,pub-key=/nonexistent/key", "/nonexistent/key"),
            ("jwt,sign-method=none", "none"),
            ("jwt,sign-method=RS256", "pub-key"),
            ("jwt,sign-method=HS256", "priv-key"),
        ] {
            let told = TokenKind::parse(text).unwrap_err().to_string();
            assert!(told.contains(part), "{text}: {told}");
        }
        let mut options = AuthOptions::default();
        assert!(options.set_bcrypt_cost(3).is_err() && options.set_token_ttl(0).is_err());
        assert!(options.set_bcrypt_cost(4).is_ok() && options.set_token_ttl(1).is_ok());
    }
}
