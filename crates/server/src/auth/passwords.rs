//! Hashing and checking of passwords: slow on purpose, so never on a thread that serves connections, and few at once.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use duet_mvcc::PasswordHash;
use tokio::sync::Semaphore;
use tonic::{Code, Status};

use crate::grpc::errors::{STOPPED, TOO_MANY_REQUESTS};

/// Logins and new passwords that may wait for their turn; with bcrypt's default cost the last one waits some seconds.
const WAITING: usize = 64;

/// A password that is hashed in place of nobody's.
const NOBODYS: &str = "nobody's";

/// See the module.
pub(crate) struct Passwords {
    cost: u32,
    waiting: Semaphore,
    turns: Arc<Semaphore>,
    nobodys: OnceLock<PasswordHash>,
}

impl Passwords {
    /// Half of the cores may be at it at once: a flood of logins leaves the other half to those who are in.
    pub(crate) fn new(cost: u32) -> Passwords {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let turns = Arc::new(Semaphore::new((cores / 2).max(1)));
        Passwords { cost, waiting: Semaphore::new(WAITING), turns, nobodys: OnceLock::new() }
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Status> {
        let _waiting = self.waiting.try_acquire().map_err(|_| Status::from(TOO_MANY_REQUESTS))?;
        let turn = self.turns.clone().acquire_owned().await.map_err(|_| Status::from(STOPPED))?;
        let worked = tokio::task::spawn_blocking(move || {
            let result = work();
            // Not when the caller goes away: the work goes on until here.
            drop(turn);
            result
        });
        worked.await.map_err(|_| STOPPED.into())
    }

    /// A new password's hash.
    pub(crate) async fn hash(&self, password: String) -> Result<PasswordHash, Status> {
        let cost = self.cost;
        let hashed = self.in_turn(move || bcrypt::non_truncating_hash(&password, cost)).await?;
        hashed.map(|hash| PasswordHash(Bytes::from(hash))).map_err(|error| {
            let text = format!("duet: this password cannot be used: {error}");
            Status::new(Code::InvalidArgument, text)
        })
    }

    /// Whether a password is the one behind a hash. Without a hash it is wrong, after the same time: how long it takes does
    /// not tell whether there is such a user.
    pub(crate) async fn is_right(
        &self,
        password: String,
        hash: Option<PasswordHash>,
    ) -> Result<bool, Status> {
        let exists = hash.is_some();
        let hash = match (hash, self.nobodys.get()) {
            (Some(hash), _) => hash,
            (None, Some(nobodys)) => nobodys.clone(),
            (None, None) => {
                let nobodys = self.hash(NOBODYS.to_owned()).await?;
                self.nobodys.get_or_init(|| nobodys).clone()
            }
        };
        let right = self.in_turn(move || {
            let hash = std::str::from_utf8(&hash.0).unwrap_or_default();
            bcrypt::non_truncating_verify(&password, hash).unwrap_or(false)
        });
        Ok(right.await? && exists)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_password_itself_is_right() {
        let passwords = Passwords::new(4);
        let hash = passwords.hash("secret".to_owned()).await.unwrap();
        assert!(hash.0.starts_with(b"$2b$04$"));
        assert!(passwords.is_right("secret".to_owned(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.is_right("Secret".to_owned(), Some(hash)).await.unwrap());
        assert!(!passwords.is_right(NOBODYS.to_owned(), None).await.unwrap());
        let empty = passwords.hash(String::new()).await.unwrap();
        assert!(passwords.is_right(String::new(), Some(empty)).await.unwrap());
        let long = passwords.hash("x".repeat(80)).await.unwrap_err();
        assert_eq!(long.code(), Code::InvalidArgument);
    }

    #[tokio::test]
    async fn a_flood_is_refused_and_not_queued() {
        let passwords = Passwords::new(4);
        let _busy = passwords.waiting.try_acquire_many(64).unwrap();
        let refused = passwords.hash("x".to_owned()).await.unwrap_err();
        assert_eq!(refused.message(), "etcdserver: too many requests");
    }
}
