//! Requests and responses of the data model, as checked types.
//!
//! Mirrors the fields of etcd's messages without their wire form: the server converts at the edge, so that unknown
//! enum numbers and missing unions never get in here. Responses carry the revision of their header, because inside
//! a transaction every operation has its own.

use bytes::Bytes;

use crate::{alarm::Alarm, error::Error};

/// A key with its value and its place in history.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// Revision at which this life of the key began; 0 in a delete event.
    pub create_revision: i64,
    /// Revision of the last change.
    pub mod_revision: i64,
    /// Number of puts in this life of the key, from 1; 0 in a delete event.
    pub version: i64,
    /// The value; empty in a delete event and in answers with `keys_only`.
    pub value: Bytes,
    /// The lease that the key hangs on; 0 for none.
    pub lease: i64,
}

/// Order in which a range is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SortOrder {
    /// Key order, or ascending if the target is not the key.
    #[default]
    None,
    /// Smallest first.
    Ascend,
    /// Largest first; equal ones stay in key order.
    Descend,
}

impl SortOrder {
    /// From etcd's number; etcd takes an unknown one for none.
    pub fn from_wire(number: i32) -> SortOrder {
        match number {
            1 => SortOrder::Ascend,
            2 => SortOrder::Descend,
            _ => SortOrder::None,
        }
    }
}

/// What a range is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SortTarget {
    /// The key, byte by byte.
    #[default]
    Key,
    /// The version.
    Version,
    /// The create revision.
    Create,
    /// The mod revision.
    Mod,
    /// The value, byte by byte.
    Value,
}

impl SortTarget {
    /// From etcd's number.
    ///
    /// # Errors
    /// [`Error::InvalidSortOption`] for an unknown number (which crashes etcd 3.5; its successor answers this).
    pub fn from_wire(number: i32) -> Result<SortTarget, Error> {
        match number {
            0 => Ok(SortTarget::Key),
            1 => Ok(SortTarget::Version),
            2 => Ok(SortTarget::Create),
            3 => Ok(SortTarget::Mod),
            4 => Ok(SortTarget::Value),
            _ => Err(Error::InvalidSortOption),
        }
    }
}

/// Reads a key or a range of keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RangeRequest {
    /// First key.
    pub key: Bytes,
    /// Empty: the single key. One zero byte: all keys from `key` on. Else: up to here, exclusive.
    pub range_end: Bytes,
    /// Most keys to answer; 0 (or less) is no limit.
    pub limit: i64,
    /// Revision to read at; 0 (or less) is the current one.
    pub revision: i64,
    /// Order of the answer.
    pub sort_order: SortOrder,
    /// What the order looks at.
    pub sort_target: SortTarget,
    /// Consistency wish, for the server; the store reads what it holds.
    pub serializable: bool,
    /// Leave the values out.
    pub keys_only: bool,
    /// Count only; the limit is ignored.
    pub count_only: bool,
    /// Only keys changed at or after this revision; 0 is no filter.
    pub min_mod_revision: i64,
    /// Only keys changed at or before this revision; 0 is no filter.
    pub max_mod_revision: i64,
    /// Only keys created at or after this revision; 0 is no filter.
    pub min_create_revision: i64,
    /// Only keys created at or before this revision; 0 is no filter.
    pub max_create_revision: i64,
}

/// Sets a key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PutRequest {
    /// The key.
    pub key: Bytes,
    /// The new value.
    pub value: Bytes,
    /// The lease to hang the key on; 0 detaches it.
    pub lease: i64,
    /// Answer with the key's former content.
    pub prev_kv: bool,
    /// Keep the value; the key must exist.
    pub ignore_value: bool,
    /// Keep the lease; the key must exist.
    pub ignore_lease: bool,
}

/// Deletes a key or a range of keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeleteRangeRequest {
    /// First key.
    pub key: Bytes,
    /// As in [`RangeRequest::range_end`].
    pub range_end: Bytes,
    /// Answer with the deleted content.
    pub prev_kv: bool,
}

/// How a comparison must come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompareResult {
    /// The key's is equal to the operand.
    Equal,
    /// The key's is greater than the operand.
    Greater,
    /// The key's is less than the operand.
    Less,
    /// The key's differs from the operand.
    NotEqual,
}

impl CompareResult {
    /// From etcd's number; `None` for an unknown one.
    pub fn from_wire(number: i32) -> Option<CompareResult> {
        match number {
            0 => Some(CompareResult::Equal),
            1 => Some(CompareResult::Greater),
            2 => Some(CompareResult::Less),
            3 => Some(CompareResult::NotEqual),
            _ => None,
        }
    }
}

/// What is compared, with the operand to compare it with.
///
/// etcd reads a missing or mismatched operand as 0 (or as the empty value): the server's conversion does so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompareTarget {
    /// The version.
    Version(i64),
    /// The create revision.
    Create(i64),
    /// The mod revision.
    Mod(i64),
    /// The value, byte by byte; false for a key that does not exist, whatever the wanted result is.
    Value(Bytes),
    /// The lease id.
    Lease(i64),
}

/// One condition of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    /// How it must come out.
    pub result: CompareResult,
    /// What is compared with what.
    pub target: CompareTarget,
    /// First key.
    pub key: Bytes,
    /// As in [`RangeRequest::range_end`]: the condition must hold for every key of the range.
    pub range_end: Bytes,
}

/// One operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Read.
    Range(RangeRequest),
    /// Set.
    Put(PutRequest),
    /// Delete.
    DeleteRange(DeleteRangeRequest),
    /// A transaction inside; its conditions are decided before any operation of the outermost one runs.
    Txn(TxnRequest),
}

/// If all conditions hold the `success` operations, else the `failure` ones, at one revision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TxnRequest {
    /// The conditions; none of them means success.
    pub compare: Vec<Compare>,
    /// Operations if all conditions hold.
    pub success: Vec<Operation>,
    /// Operations if one does not.
    pub failure: Vec<Operation>,
}

impl TxnRequest {
    /// True if neither branch can change anything, so that the server need not replicate it.
    pub fn is_read_only(&self) -> bool {
        self.success.iter().chain(&self.failure).all(|operation| match operation {
            Operation::Range(_) => true,
            Operation::Put(_) | Operation::DeleteRange(_) => false,
            Operation::Txn(nested) => nested.is_read_only(),
        })
    }

    /// Levels of transactions, this one included.
    pub(crate) fn depth(&self) -> usize {
        let nested = self.success.iter().chain(&self.failure).filter_map(|operation| match operation {
            Operation::Txn(nested) => Some(nested.depth()),
            _ => None,
        });
        1 + nested.max().unwrap_or(0)
    }
}

/// Answer to a [`RangeRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RangeResponse {
    /// Revision for the header: the store's, not the one asked for.
    pub revision: i64,
    /// The keys found, after filters, order and limit.
    pub kvs: Vec<KeyValue>,
    /// True if the limit cut something off.
    pub more: bool,
    /// Number of keys in the range, whatever the limit and the filters left of them.
    pub count: i64,
}

/// Answer to a [`PutRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PutResponse {
    /// Revision for the header.
    pub revision: i64,
    /// The former content if asked for and there was one.
    pub prev_kv: Option<KeyValue>,
}

/// Answer to a [`DeleteRangeRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeleteRangeResponse {
    /// Revision for the header.
    pub revision: i64,
    /// Number of keys deleted.
    pub deleted: i64,
    /// Their content, in key order, if asked for.
    pub prev_kvs: Vec<KeyValue>,
}

/// Answer to one [`Operation`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperationResponse {
    /// To a range.
    Range(RangeResponse),
    /// To a put.
    Put(PutResponse),
    /// To a delete-range.
    DeleteRange(DeleteRangeResponse),
    /// To a nested transaction; its revision is 0, as etcd leaves that header empty.
    Txn(TxnResponse),
}

/// Answer to a [`TxnRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TxnResponse {
    /// Revision for the header.
    pub revision: i64,
    /// True if the conditions held.
    pub succeeded: bool,
    /// One per operation of the branch taken, in its order.
    pub responses: Vec<OperationResponse>,
}

/// Answer to a [`Command`](crate::Command).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// To a put.
    Put(PutResponse),
    /// To a delete-range.
    DeleteRange(DeleteRangeResponse),
    /// To a transaction.
    Txn(TxnResponse),
    /// To a compaction.
    Compact,
    /// To a lease grant.
    LeaseGrant {
        /// The lease's id.
        id: i64,
        /// Its time to live in seconds.
        ttl: i64,
    },
    /// To a lease revocation.
    LeaseRevoke,
    /// To an alarm raised or taken back: it, unless there was nothing to take back.
    Alarm(Option<Alarm>),
    /// To a change of users and roles.
    Auth,
}
