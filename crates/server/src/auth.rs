//! Who calls: passwords, and the tokens that stand for them.
//!
//! What users may do is the data model's (`duet_mvcc::Auth`); this is the part with chance, clocks and slow hashes.
//! A token's message is "this user, with this password, logged in": it names a [`UserId`], so it ends with the password.
//! Logging in writes nothing: both appliances can tell a genuine token by a secret that is part of the replicated state, so
//! a token made at one works at the other, and after a failover.

mod options;
mod passwords;
mod simple;
mod used;
mod wall_clock;

use duet_mvcc::{Auth, AuthError, TokenSecret, UserId};

pub use self::options::{AuthOptions, OptionError};
pub(crate) use self::passwords::Passwords;
use self::{simple::SimpleTokens, used::UsedTokens};

/// Makes tokens and tells whose they are.
pub(crate) struct Tokens {
    simple: SimpleTokens,
}

/// What a token is made of: who logged in, as the users were then.
pub(crate) struct Login {
    pub(crate) id: UserId,
    pub(crate) secret: TokenSecret,
}

impl Tokens {
    pub(crate) fn new(options: &AuthOptions) -> Tokens {
        Tokens { simple: SimpleTokens::new(UsedTokens::new(options.token_ttl)) }
    }

    /// A token for somebody whose password was right.
    pub(crate) fn issue(&self, login: &Login) -> String {
        self.simple.issue(login)
    }

    /// Whose token it is.
    ///
    /// # Errors
    /// [`AuthError::InvalidToken`]: not a genuine one, run out, or of a user who is no more or has another password.
    pub(crate) fn identify(&self, auth: &Auth, token: &str) -> Result<UserId, AuthError> {
        self.simple.identify(auth, token).ok_or(AuthError::InvalidToken)
    }
}
