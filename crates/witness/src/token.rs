//! Tokens: what proves to a witness server that a request comes from the pair whose record it names.
//!
//! The server draws a token when a pair is registered and keeps only its fingerprint; appliances keep it in a file or in
//! the environment. It is in no log, no status and no error text.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;

use crate::Reason;
use crate::register::draw_nonce;

/// Every token begins so, for people and programs that look for secrets in the wrong places.
const PREFIX: &str = "dwt_";
/// Hexadecimal digits that follow: 256 bits.
const DIGITS: usize = 64;
/// Most bytes of a token file that are read: a token and the white space around it.
const MAX_FILE_BYTES: u64 = 256;

/// A secret. It is shown by [`Token::reveal`] alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token that nobody knows yet.
    ///
    /// # Errors
    /// The operating system has no random numbers.
    pub fn draw() -> Result<Self, Reason> {
        Ok(Self(format!("{PREFIX}{:032x}{:032x}", draw_nonce()?, draw_nonce()?)))
    }

    /// The token itself, for the one place where it has to be.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.0.as_bytes())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let digits = text.strip_prefix(PREFIX).ok_or(TokenError)?;
        let good = digits.len() == DIGITS && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if good { Ok(Self(text.to_owned())) } else { Err(TokenError) }
    }
}

/// The text is no token. It is not shown, as it may be a secret all the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("it holds no token of a witness: {PREFIX} and {DIGITS} hexadecimal digits")]
pub struct TokenError;

/// What a server keeps of a token: half of its SHA-256. Tokens are drawn, not chosen, so nothing slower is needed, and to
/// compare fingerprints tells nothing about tokens, however long it takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fingerprint(pub [u8; Fingerprint::BYTES]);

impl Fingerprint {
    pub const BYTES: usize = 16;

    /// Of whatever was presented as a token.
    pub fn of(presented: &[u8]) -> Self {
        let mut half = [0; Self::BYTES];
        half.copy_from_slice(&Sha256::digest(presented)[..Self::BYTES]);
        Self(half)
    }
}

/// Where an appliance has its token from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Credential {
    /// It has none: the witness serves whoever comes.
    #[default]
    None,
    /// Given to the process.
    Token(Token),
    /// In a file, which is read for every request: a new token needs no restart.
    File(PathBuf),
}

impl Credential {
    /// The token now, or why there is none.
    pub(crate) async fn token(&self) -> Result<Option<Token>, Reason> {
        match self {
            Self::None => Ok(None),
            Self::Token(token) => Ok(Some(token.clone())),
            Self::File(path) => {
                let failed = |what: &dyn fmt::Display| {
                    Reason::new(format!("the witness's token cannot be read from {}: {what}", path.display()))
                };
                let mut text = String::new();
                let file = tokio::fs::File::open(path).await.map_err(|error| failed(&error))?;
                file.take(MAX_FILE_BYTES).read_to_string(&mut text).await.map_err(|error| failed(&error))?;
                text.trim().parse().map(Some).map_err(|error: TokenError| failed(&error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_one_form_and_is_not_shown() {
        let token = Token::draw().unwrap();
        assert_eq!(token.reveal().parse::<Token>().unwrap(), token);
        assert_ne!(Token::draw().unwrap(), token);
        let shown = format!("{token:?} {:?}", Credential::Token(token.clone()));
        assert!(!shown.contains(&token.reveal()[PREFIX.len()..]), "{shown}");
        let digits = "0".repeat(DIGITS);
        for bad in ["", "dwt_", &digits, &format!("dwt_{digits}0"), &format!("dwt_{}G", &digits[1..])] {
            assert_eq!(bad.parse::<Token>(), Err(TokenError), "{bad}");
        }
    }

    /// Files of servers depend on it.
    #[test]
    fn a_fingerprint_is_half_a_sha_256() {
        let expected =
            [0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23];
        assert_eq!(Fingerprint::of(b"abc").0, expected);
    }

    #[tokio::test]
    async fn a_file_is_read_again_each_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let credential = Credential::File(path.clone());
        let missing = credential.token().await.unwrap_err().to_string();
        assert!(missing.contains("cannot be read from") && missing.contains("token"), "{missing}");
        for _ in 0..2 {
            let token = Token::draw().unwrap();
            std::fs::write(&path, format!("{}\n", token.reveal())).unwrap();
            assert_eq!(credential.token().await.unwrap(), Some(token));
        }
        std::fs::write(&path, "secret").unwrap();
        let reason = credential.token().await.unwrap_err().to_string();
        assert!(reason.contains("holds no token") && !reason.contains("secret"), "{reason}");
        std::fs::write(&path, "x".repeat(1 << 20)).unwrap();
        assert!(credential.token().await.is_err(), "a long file is not read whole");
    }
}
