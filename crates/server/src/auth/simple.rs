//! Simple tokens: sixteen letters, a dot and a number, as etcd's look.
//!
//! The number says for whom and when the token was made; the letters vouch for the number, made with the secret of the
//! replicated state. Nothing has to be looked up or replicated to tell a genuine one.

use duet_mvcc::{Auth, TokenSecret, UserId};

use super::used::{Made, UsedTokens};
use super::{Login, wall_clock};
use crate::clock;

/// Letters of a token: 91 bits, more than anybody can try.
const LETTERS: usize = 16;

const ALPHABET: &[u8; 52] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Bits of the number that hold the time: seconds for 34,000 years.
const TIME_BITS: u32 = 40;

/// What the letters vouch for, so that the secret can be used for other things too.
const PURPOSE: &[u8] = b"duet simple token";

/// See the module.
pub(super) struct SimpleTokens {
    used: UsedTokens,
}

impl SimpleTokens {
    pub(super) fn new(used: UsedTokens) -> SimpleTokens {
        SimpleTokens { used }
    }

    pub(super) fn issue(&self, login: &Login) -> String {
        let made = Made { at: wall_clock::seconds(), user: login.id };
        self.used.made(made, clock::now());
        seal(&login.secret, made)
    }

    pub(super) fn identify(&self, auth: &Auth, token: &str) -> Option<UserId> {
        let made = open(auth.secret(), token)?;
        auth.name_of(made.user)?;
        self.used.used(made, clock::now(), wall_clock::seconds()).then_some(made.user)
    }
}

fn number(made: Made) -> u128 {
    u128::from(made.user.0) << TIME_BITS | u128::from(made.at & ((1 << TIME_BITS) - 1))
}

fn letters(secret: &TokenSecret, number: u128) -> [u8; LETTERS] {
    let message = [PURPOSE, &number.to_le_bytes()].concat();
    let vouched = blake3::keyed_hash(&secret.0, &message);
    let half = vouched.as_bytes().first_chunk().copied().unwrap_or_default();
    let mut rest = u128::from_le_bytes(half);
    std::array::from_fn(|_| {
        let letter = usize::try_from(rest % 52).unwrap_or_default();
        rest /= 52;
        ALPHABET[letter]
    })
}

fn seal(secret: &TokenSecret, made: Made) -> String {
    let number = number(made);
    let letters: String = letters(secret, number).iter().copied().map(char::from).collect();
    format!("{letters}.{number}")
}

/// What a genuine token says.
fn open(secret: &TokenSecret, token: &str) -> Option<Made> {
    let (given, digits) = token.split_once('.')?;
    // One token has one form: no sign, no zeros in front.
    let number: u128 = digits.parse().ok().filter(|number: &u128| number.to_string() == digits)?;
    let expected = letters(secret, number);
    // Every letter is looked at, so that the time it takes does not tell how many were right.
    let wrong = given.bytes().zip(expected).fold(0, |wrong, (given, expected)| wrong | (given ^ expected));
    if given.len() != LETTERS || wrong != 0 {
        return None;
    }
    let at = u64::try_from(number & ((1 << TIME_BITS) - 1)).ok()?;
    Some(Made { at, user: UserId(u64::try_from(number >> TIME_BITS).ok()?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: TokenSecret = TokenSecret([3; 32]);

    fn made() -> Made {
        Made { at: 1_800_000_000, user: UserId(12) }
    }

    #[test]
    fn a_token_has_etcds_form_and_says_who() {
        let token = seal(&SECRET, made());
        let (letters, number) = token.split_once('.').unwrap();
        assert!(letters.len() == 16 && letters.bytes().all(|byte| byte.is_ascii_alphabetic()));
        assert!(number.bytes().all(|byte| byte.is_ascii_digit()));
        assert_eq!(open(&SECRET, &token), Some(made()));
    }

    #[test]
    fn nothing_else_is_a_token() {
        let token = seal(&SECRET, made());
        assert_eq!(open(&TokenSecret([4; 32]), &token), None, "another secret");
        for place in 0..token.len() {
            let mut other = token.clone().into_bytes();
            other[place] = if other[place] == b'7' { b'8' } else { b'7' };
            assert_eq!(open(&SECRET, &String::from_utf8(other).unwrap()), None, "changed at {place}");
            assert_eq!(open(&SECRET, &token[..place]), None);
        }
        let (letters, number) = token.split_once('.').unwrap();
        for other in [
            format!("{letters}.0{number}"),
            format!("{letters}.+{number}"),
            format!("{letters}{letters}.{number}"),
            format!(".{number}"),
            String::new(),
            "x".repeat(100_000),
        ] {
            assert_eq!(open(&SECRET, &other), None, "{other:.40}");
        }
    }
}
