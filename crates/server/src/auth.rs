//! Who calls: passwords, and the tokens that stand for them.
//!
//! What users may do is the data model's (`duet_mvcc::Auth`); this is the part with chance, clocks and slow hashes.
//! A token's message is "this user, with this password, logged in": it names a [`UserId`], so it ends with the password.
//! Logging in writes nothing: both appliances can tell a genuine token by a secret that is part of the replicated state
//! (simple tokens) or by keys that both were given (JSON web tokens), so a token made at one works at the other, and
//! after a failover.

mod jwt;
mod options;
mod passwords;
mod simple;
mod used;
mod wall_clock;

use duet_mvcc::{Auth, AuthError, TokenSecret, UserId};

pub(crate) use self::passwords::Passwords;
pub use self::{
    jwt::JwtKeys,
    options::{AuthOptions, OptionError, TokenKind},
};
use self::{simple::SimpleTokens, used::UsedTokens};

/// Makes tokens and tells whose they are.
pub(crate) struct Tokens {
    kind: Kind,
}

enum Kind {
    Simple(SimpleTokens),
    Jwt(std::sync::Arc<JwtKeys>),
}

/// What a token is made of: who logged in, as the users were then.
pub(crate) struct Login {
    pub(crate) name: String,
    pub(crate) id: UserId,
    pub(crate) auth_revision: u64,
    pub(crate) secret: TokenSecret,
}

impl Tokens {
    pub(crate) fn new(options: &AuthOptions) -> Tokens {
        Tokens {
            kind: match &options.token {
                TokenKind::Simple => Kind::Simple(SimpleTokens::new(UsedTokens::new(options.token_ttl))),
                TokenKind::Jwt(keys) => Kind::Jwt(keys.clone()),
            },
        }
    }

    /// A token for somebody whose password was right; `None`: this appliance has no key to sign one with.
    pub(crate) fn issue(&self, login: &Login) -> Option<String> {
        match &self.kind {
            Kind::Simple(simple) => Some(simple.issue(login)),
            Kind::Jwt(keys) => keys.issue(login),
        }
    }

    /// Whose token it is.
    ///
    /// # Errors
    /// [`AuthError::InvalidToken`]: not a genuine one, run out, or of a user who is no more or has another password.
    pub(crate) fn identify(&self, auth: &Auth, token: &str) -> Result<UserId, AuthError> {
        let user = match &self.kind {
            Kind::Simple(simple) => simple.identify(auth, token),
            Kind::Jwt(keys) => keys.identify(auth, token),
        };
        user.ok_or(AuthError::InvalidToken)
    }
}
