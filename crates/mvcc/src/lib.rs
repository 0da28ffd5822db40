//! etcd's data model as a deterministic state machine.
//!
//! The same commands applied in the same order give the same state, the same answers and the same events on both
//! appliances, whenever checkpoints, restarts and compaction steps happen in between. Nothing in here does I/O,
//! reads a clock, draws a random number or starts a thread: the engine is behind [`RevisionSource`] (reads) and
//! [`Checkpoint`] (writes), lease expiry is the server's, which proposes [`Command::LeaseRevoke`].
//!
//! The order of use: [`validate_put`] and its siblings at the edge, [`Command::encode`] into the log,
//! [`Store::apply`] on both appliances once committed, [`Store::range`] and [`Store::events`] for readers.

mod alarm;
mod auth;
mod cache;
mod codec;
mod command;
mod entry;
mod error;
mod etcd_form;
mod event;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod index;
mod key_range;
mod lease;
mod pending;
pub mod planted;
mod record;
mod request;
mod revision;
mod source;
mod spans;
mod store;
mod validate;

pub use alarm::{Alarm, AlarmKind, MAX_ALARMS};
pub use auth::{
    Access, Actor, Auth, AuthCommand, AuthError, MAX_AUTH_BYTES, PasswordHash, Permission, PermissionKind,
    TokenSecret, UserId,
};
pub use codec::DecodeError;
pub use command::{Command, MAX_TXN_DEPTH};
pub use error::{Error, ErrorCode};
pub use etcd_form::{to_etcd_form, to_etcd_revision};
pub use event::{Event, EventBatch, EventKind, EventLimits};
pub use key_range::KeyRange;
pub use lease::{LeaseInfo, MAX_LEASE_TTL_SECONDS, MIN_LEASE_TTL_SECONDS, effective_ttl};
pub use request::{
    Compare, CompareResult, CompareTarget, DeleteRangeRequest, DeleteRangeResponse, KeyValue, Operation,
    OperationResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, Response, SortOrder, SortTarget,
    TxnRequest, TxnResponse,
};
pub use revision::{REVISION_KEY_BYTES, Revision};
pub use source::{EmptySource, RevisionSource, SourceError};
pub use store::{
    Applied, Checkpoint, DEFAULT_CACHE_BYTES, HashKv, HashScope, HashWalk, RestoreError, RestoreRun,
    Restoring, Statistics, Store,
};
pub use validate::{
    DEFAULT_MAX_TXN_OPERATIONS, TxnLimits, validate_command, validate_delete_range, validate_put,
    validate_range, validate_txn,
};
