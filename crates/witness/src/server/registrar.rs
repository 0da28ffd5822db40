//! Registers pairs at a witness server: gives each a token, replaces it, ends it.
//!
//! The orders are carried out here, in the process that has the data open. A running server takes them through a socket in
//! its data directory (`admin`), so whoever may use that directory may give them, and nobody else.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::limits::MAX_RECORDS;
use super::pairs::{PairSeen, Pairs, Tokens};
use super::store::{NoAnswer, Store};
use crate::{ClusterName, Token};

/// What to do with the token of a pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Register the pair and give it a token.
    Add,
    /// Give it a new token; the one until now holds beside it until it is ended.
    Rotate,
    /// Give it a new token and end all others at once.
    Replace,
    /// End the token before the newest.
    EndOld,
    /// Register the pair no more, and remove its record.
    Remove,
}

/// Why an order was not carried out.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, Serialize, Deserialize)]
pub enum OrderError {
    /// Choose another name, or replace its token.
    #[error("a pair {0} is registered already")]
    Registered(String),
    /// Check the name.
    #[error("no pair {0} is registered")]
    NotRegistered(String),
    /// Nothing to do.
    #[error("the pair {0} has one token only")]
    OneToken(String),
    /// Use another witness.
    #[error("{MAX_RECORDS} pairs are registered already")]
    Full,
    /// Try again.
    #[error("the witness did not carry it out: {0}")]
    NotDone(String),
}

/// Carries out orders, one after another.
pub(super) struct Registrar {
    store: Store,
    pairs: Arc<Pairs>,
    turn: Mutex<()>,
}

impl Registrar {
    pub fn new(store: Store, pairs: Arc<Pairs>) -> Self {
        Self { store, pairs, turn: Mutex::default() }
    }

    /// All pairs.
    pub fn list(&self) -> Vec<PairSeen> {
        self.pairs.list()
    }

    /// The open records.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Carries out an order; the new token, if there is one, is known to nobody else. All of it is durable then.
    pub async fn order(&self, order: Order, name: &ClusterName) -> Result<Option<Token>, OrderError> {
        let _turn = self.turn.lock().await;
        let before = self.pairs.tokens(name.as_str());
        match (order, before.current) {
            (Order::Add, Some(_)) => return Err(OrderError::Registered(name.to_string())),
            (Order::Add, None) if self.pairs.registered() as u64 >= MAX_RECORDS => {
                return Err(OrderError::Full);
            }
            (Order::Rotate | Order::Replace | Order::EndOld | Order::Remove, None) => {
                return Err(OrderError::NotRegistered(name.to_string()));
            }
            (Order::EndOld, Some(_)) if before.previous.is_none() => {
                return Err(OrderError::OneToken(name.to_string()));
            }
            _ => {}
        }
        if order == Order::Remove {
            // Nobody may begin anything while its record goes.
            self.pairs.set_tokens(name.as_str(), Tokens::nobodys());
            self.store.remove(name.clone()).await.map_err(|why| not_done(&why))?;
            self.pairs.forget(name.as_str());
            return Ok(None);
        }
        let token = match order {
            Order::EndOld => None,
            _ => Some(Token::draw().map_err(|reason| OrderError::NotDone(reason.to_string()))?),
        };
        let after = match (&token, order) {
            (Some(token), Order::Rotate) => before.rotated(token.fingerprint()),
            (Some(token), _) => Tokens::default().rotated(token.fingerprint()),
            (None, _) => before.newest(),
        };
        self.store.set_tokens(name.clone(), after).await.map_err(|why| not_done(&why))?;
        self.pairs.set_tokens(name.as_str(), after);
        Ok(token)
    }
}

fn not_done(why: &NoAnswer) -> OrderError {
    OrderError::NotDone(
        match why {
            NoAnswer::Busy => "too many writes wait",
            NoAnswer::Stopped => "it is stopping",
        }
        .to_owned(),
    )
}
