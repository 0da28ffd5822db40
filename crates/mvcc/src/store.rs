//! The store: etcd's data model, whole.
//!
//! Owns the state and its one door for changes, [`Store::apply`]; the modules below own one concern each. Invariants:
//! a command changes everything it names or nothing; answers and events follow from the commands applied alone, never
//! from the cache, from checkpoints or from how far a compaction has come.

mod checkpoint;
mod compaction;
mod digest;
mod hash;
mod history;
mod range;
mod restore;
mod transaction;
mod txn;

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use self::transaction::Outcome;
pub use self::{
    checkpoint::Checkpoint,
    hash::{HashKv, HashScope, HashWalk},
    restore::{RestoreError, RestoreRun, Restoring},
};
use crate::{
    alarm::{Alarm, Alarms},
    auth::{Actor, Auth, AuthError, UserId, authorize},
    cache::RecordCache,
    command::Command,
    error::Error,
    event::Event,
    index::KeyIndex,
    lease::{LeaseInfo, Leases},
    pending::Pending,
    request::{Response, TxnRequest},
    revision::Revision,
    source::RevisionSource,
};

/// Default budget in bytes for latest records that are kept in memory after their checkpoint.
pub const DEFAULT_CACHE_BYTES: usize = 32 << 20;

/// Revision of an empty store: etcd counts from here.
const EMPTY_REVISION: i64 = 1;

/// Compacted revision before the first compaction, as etcd reports it.
const NOT_COMPACTED: i64 = -1;

/// What applying one command gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The store's revision after the command: the answer's header revision.
    pub revision: i64,
    /// The answer, or why the command was refused and changed nothing.
    pub result: Result<Response, Error>,
    /// What watchers see of it, in order.
    pub events: Vec<Event>,
}

/// Sizes, for metrics and for deciding when to checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Keys in the index, deleted but not yet compacted ones included.
    pub index_keys: usize,
    /// Records that no completed checkpoint holds yet.
    pub pending_records: usize,
    /// Memory in bytes that they take.
    pub pending_bytes: usize,
    /// What they will take in the engine: their keys and their own bytes.
    pub pending_row_bytes: usize,
    /// Dead records that the next checkpoints will delete.
    pub pending_deletes: usize,
    /// Size in bytes of the cached records.
    pub cached_bytes: usize,
}

/// etcd's data model as a state machine: see the crate's documentation.
pub struct Store {
    history: Arc<dyn RevisionSource>,
    index: KeyIndex,
    pending: Pending,
    cache: RecordCache,
    leases: Leases,
    alarms: Alarms,
    auth: Auth,
    revision: i64,
    compacted: i64,
    /// Where the running compaction goes on; `None` if none runs.
    compaction: Option<Box<[u8]>>,
    /// Records that the index has forgotten and the engine may still hold, in chunks that never divide a key.
    dead: VecDeque<Vec<Revision>>,
}

impl Store {
    /// An empty store, at revision 1. `history` is the engine that the store's checkpoints will go to.
    pub fn new(history: Arc<dyn RevisionSource>) -> Store {
        Store {
            history,
            index: KeyIndex::default(),
            pending: Pending::default(),
            cache: RecordCache::new(DEFAULT_CACHE_BYTES),
            leases: Leases::default(),
            alarms: Alarms::default(),
            auth: Auth::default(),
            revision: EMPTY_REVISION,
            compacted: NOT_COMPACTED,
            compaction: None,
            dead: VecDeque::new(),
        }
    }

    /// Changes the budget for cached records, in bytes. Changes no answer.
    pub fn set_cache_bytes(&mut self, bytes: usize) {
        self.cache.set_budget(bytes);
    }

    /// Applies one command, which the server has validated (see [`validate_put`](crate::validate_put) and its
    /// siblings). A refused command changes nothing at all. While users are on, a command of somebody who may not have
    /// it is refused here, where its place among all changes is known.
    pub fn apply(&mut self, command: &Command) -> Applied {
        let before = self.revision;
        let outcome = self.admit(command).and_then(|command| self.carry_out(command));
        let (result, events) = match outcome {
            Ok((response, events)) => (Ok(response), events),
            Err(error) => (Err(error), Vec::new()),
        };
        let steps = i64::from(!events.is_empty());
        assert!(self.revision == before + steps, "a command with events takes one revision, any other none");
        assert!(
            events.iter().all(|event| event.revision.main == self.revision),
            "events are of that revision"
        );
        Applied { revision: self.revision, result, events }
    }

    /// The command itself, if whoever wants it may have it and no alarm forbids it.
    fn admit<'command>(&self, command: &'command Command) -> Result<&'command Command, Error> {
        let (actor, command) = match command {
            Command::As { actor, command } => (Some(*actor), command.as_ref()),
            command => (None, command),
        };
        authorize(&self.auth, &self.leases, actor, command)?;
        self.alarms.refusal(command).map_or(Ok(command), Err)
    }

    fn carry_out(&mut self, command: &Command) -> Outcome {
        match command {
            Command::Put(request) => self.apply_put(request),
            Command::DeleteRange(request) => self.apply_delete_range(request),
            Command::Txn(request) => self.apply_txn(request),
            Command::Compact { revision } => {
                self.compact(*revision).map(|()| (Response::Compact, Vec::new()))
            }
            Command::LeaseGrant { id, ttl } => self
                .leases
                .grant(*id, *ttl)
                .map(|()| (Response::LeaseGrant { id: *id, ttl: *ttl }, Vec::new())),
            Command::LeaseRevoke { id } => self.apply_lease_revoke(*id),
            Command::RaiseAlarm(alarm) => {
                self.alarms.raise(*alarm).map(|()| (Response::Alarm(Some(*alarm)), Vec::new()))
            }
            Command::ClearAlarm(alarm) => {
                let cleared = self.alarms.clear(*alarm);
                Ok((Response::Alarm(cleared.then_some(*alarm)), Vec::new()))
            }
            Command::Auth(command) => {
                self.auth.apply(command).map(|()| (Response::Auth, Vec::new())).map_err(Error::from)
            }
            Command::As { .. } => Err(AuthError::PermissionDenied.into()),
        }
    }

    /// Users and roles.
    pub fn auth(&self) -> &Auth {
        &self.auth
    }

    /// Whether a user might have a command carried out now. What counts is the answer when it is applied; this one spares
    /// the log what would be refused there.
    ///
    /// # Errors
    /// [`AuthError::PermissionDenied`], or [`AuthError::InvalidToken`] if the user is no more.
    pub fn authorize(&self, user: UserId, command: &Command) -> Result<(), AuthError> {
        authorize(&self.auth, &self.leases, Some(Actor::User(user)), command)
    }

    /// Whether a user may have a read-only transaction answered.
    ///
    /// # Errors
    /// As [`Store::authorize`].
    pub fn authorize_txn(&self, user: UserId, request: &TxnRequest) -> Result<(), AuthError> {
        self.auth.access(user)?.txn(request, &self.leases)
    }

    /// The current revision.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The compacted revision: reads and watches are possible from here on; -1 if nothing was compacted.
    pub fn compacted_revision(&self) -> i64 {
        self.compacted
    }

    /// One lease, with its keys if wanted; `None` if it does not exist.
    pub fn lease_time_to_live(&self, id: i64, want_keys: bool) -> Option<LeaseInfo> {
        let granted_ttl = self.leases.ttl(id)?;
        let keys = self.leases.keys(id).filter(|_| want_keys);
        let keys = keys.map(|keys| keys.map(Bytes::copy_from_slice).collect()).unwrap_or_default();
        Some(LeaseInfo { granted_ttl, keys })
    }

    /// The ids of all leases, ascending.
    pub fn leases(&self) -> Vec<i64> {
        self.leases.iter().map(|(id, _)| id).collect()
    }

    /// The ids of all leases with the time to live that each was granted, in seconds: what a new primary starts its
    /// expiry clock from.
    pub fn lease_ttls(&self) -> Vec<(i64, i64)> {
        self.leases.iter().collect()
    }

    /// The alarms that are raised, ascending by kind and member.
    pub fn alarms(&self) -> impl ExactSizeIterator<Item = Alarm> {
        self.alarms.iter()
    }

    /// Memory in bytes that the key index holds. Walks all keys: for tests and audits, not for every request.
    pub fn index_bytes(&self) -> usize {
        self.index.bytes()
    }

    /// Sizes.
    pub fn statistics(&self) -> Statistics {
        Statistics {
            index_keys: self.index.len(),
            pending_records: self.pending.len(),
            pending_bytes: self.pending.bytes(),
            pending_row_bytes: self.pending.row_bytes(),
            pending_deletes: self.dead.iter().map(Vec::len).sum(),
            cached_bytes: self.cache.bytes(),
        }
    }
}
