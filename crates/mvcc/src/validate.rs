//! Checks of requests that need no state: what the server does before it proposes or reads.
//!
//! Owns etcd's order of checks (it decides which of two errors a client sees) and the rule that one transaction
//! changes a key at most once, also across nested transactions.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::{
    command::{Command, MAX_TXN_DEPTH},
    error::Error,
    key_range::KeyRange,
    request::{Compare, DeleteRangeRequest, Operation, PutRequest, RangeRequest, TxnRequest},
    spans::Spans,
};

/// etcd's default for [`TxnLimits::max_operations`].
pub const DEFAULT_MAX_TXN_OPERATIONS: usize = 128;

/// Limits on transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TxnLimits {
    /// Most comparisons, and most operations in a branch, counted along the nesting.
    pub max_operations: usize,
}

impl Default for TxnLimits {
    fn default() -> TxnLimits {
        TxnLimits { max_operations: DEFAULT_MAX_TXN_OPERATIONS }
    }
}

/// Checks a range.
///
/// # Errors
/// [`Error::EmptyKey`].
pub fn validate_range(request: &RangeRequest) -> Result<(), Error> {
    validate_key(&request.key)
}

/// Checks a put.
///
/// # Errors
/// [`Error::EmptyKey`], [`Error::ValueProvided`], [`Error::LeaseProvided`].
pub fn validate_put(request: &PutRequest) -> Result<(), Error> {
    validate_key(&request.key)?;
    if request.ignore_value && !request.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

/// Checks a delete-range.
///
/// # Errors
/// [`Error::EmptyKey`].
pub fn validate_delete_range(request: &DeleteRangeRequest) -> Result<(), Error> {
    validate_key(&request.key)
}

/// Checks a transaction with all that is nested in it.
///
/// # Errors
/// [`Error::TooManyOperations`], [`Error::DuplicateKey`], and those of the single operations.
pub fn validate_txn(request: &TxnRequest, limits: TxnLimits) -> Result<(), Error> {
    if request.depth() > MAX_TXN_DEPTH {
        return Err(Error::TooManyOperations);
    }
    validate_level(request, limits.max_operations)?;
    changed_keys(&request.success)?;
    changed_keys(&request.failure)?;
    Ok(())
}

/// Checks a command as it is checked before it is proposed.
///
/// # Errors
/// Those of the request in it.
pub fn validate_command(command: &Command, limits: TxnLimits) -> Result<(), Error> {
    match command {
        Command::Put(request) => validate_put(request),
        Command::DeleteRange(request) => validate_delete_range(request),
        Command::Txn(request) => validate_txn(request, limits),
        Command::Compact { .. }
        | Command::LeaseGrant { .. }
        | Command::LeaseRevoke { .. }
        | Command::RaiseAlarm(_)
        | Command::ClearAlarm(_)
        | Command::Auth(_) => Ok(()),
        Command::As { command, .. } => validate_command(command, limits),
    }
}

fn validate_key(key: &Bytes) -> Result<(), Error> {
    if key.is_empty() { Err(Error::EmptyKey) } else { Ok(()) }
}

/// Counts and single operations of one transaction; a nested one has what its parent's longest list leaves over.
fn validate_level(request: &TxnRequest, max_operations: usize) -> Result<(), Error> {
    let longest = request.compare.len().max(request.success.len()).max(request.failure.len());
    let left = max_operations.checked_sub(longest).ok_or(Error::TooManyOperations)?;
    for Compare { key, .. } in &request.compare {
        validate_key(key)?;
    }
    for operation in request.success.iter().chain(&request.failure) {
        match operation {
            Operation::Range(request) => validate_range(request)?,
            Operation::Put(request) => validate_put(request)?,
            Operation::DeleteRange(request) => validate_delete_range(request)?,
            Operation::Txn(request) => validate_level(request, left)?,
        }
    }
    Ok(())
}

/// Keys that a branch may put and spans that it may delete.
#[derive(Default)]
struct Changes {
    puts: BTreeSet<Bytes>,
    deletes: Spans,
}

/// Gathers what a branch may change.
///
/// The order of the three passes is etcd's, and is visible: deletes of this level meet the puts of all levels
/// below, while a delete nested in one transaction does not meet puts nested in an earlier sibling.
fn changed_keys(branch: &[Operation]) -> Result<Changes, Error> {
    let mut changes = Changes::default();
    for operation in branch {
        let Operation::DeleteRange(request) = operation else { continue };
        // etcd takes the end of a from-key range literally here, so that it overlaps nothing: a transaction may put a
        // key and delete everything from a key on. Real clients may do so; both changes count, in order.
        match KeyRange::new(request.key.clone(), request.range_end.clone()) {
            KeyRange::From(_) => {}
            range => changes.deletes.insert(&range),
        }
    }
    for operation in branch {
        let Operation::Txn(nested) = operation else { continue };
        let success = changed_keys(&nested.success)?;
        let failure = changed_keys(&nested.failure)?;
        // Only one of the two branches runs, so they may name the same key.
        let either: BTreeSet<Bytes> = success.puts.union(&failure.puts).cloned().collect();
        for key in either {
            changes.add_put(key)?;
        }
        changes.deletes.absorb(success.deletes);
        changes.deletes.absorb(failure.deletes);
    }
    for operation in branch {
        if let Operation::Put(request) = operation {
            changes.add_put(request.key.clone())?;
        }
    }
    Ok(changes)
}

impl Changes {
    fn add_put(&mut self, key: Bytes) -> Result<(), Error> {
        if self.deletes.contains(&key) || !self.puts.insert(key) { Err(Error::DuplicateKey) } else { Ok(()) }
    }
}
