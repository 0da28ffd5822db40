//! Every error that the data model can answer with.
//!
//! Owns the texts: clients of etcd compare errors by text, so `Display` gives etcd's words exactly, and
//! [`Error::code`] its gRPC code. What is not etcd's ([`Error::Storage`]) is fatal for the caller and has its own
//! variant, so that nobody answers a client with it by accident.

use crate::{auth::AuthError, source::SourceError};

/// Names of the gRPC status codes that the data model uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The request is wrong whatever the state is.
    InvalidArgument,
    /// Something named in the request does not exist.
    NotFound,
    /// The state does not allow the request.
    FailedPrecondition,
    /// A number is outside of what the state holds now.
    OutOfRange,
    /// The user may not do this.
    PermissionDenied,
    /// Nobody knows who asks.
    Unauthenticated,
    /// A quota is used up.
    ResourceExhausted,
    /// The data is not what it should be.
    DataLoss,
    /// The appliance itself is at fault.
    Internal,
}

/// Why a request was refused. A refused command has changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A request, or an operation or comparison in a transaction, has an empty key.
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    /// `ignore_value` or `ignore_lease` on a key that does not exist; also etcd's answer to an operation in a
    /// transaction that is none of put, range, delete-range and txn.
    #[error("etcdserver: key not found")]
    KeyNotFound,
    /// `ignore_value` together with a value.
    #[error("etcdserver: value is provided")]
    ValueProvided,
    /// `ignore_lease` together with a lease.
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    /// A transaction has more comparisons or operations than the limit, or is nested too deeply.
    #[error("etcdserver: too many operations in txn request")]
    TooManyOperations,
    /// One transaction would change a key twice.
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    /// The sort target is none that etcd knows.
    #[error("etcdserver: invalid sort option")]
    InvalidSortOption,
    /// The request exceeds the size limit (checked by the server; here because the text belongs with the others).
    #[error("etcdserver: request is too large")]
    RequestTooLarge,
    /// The store is full: an alarm says so, or the server's quota.
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    /// An alarm says that the members' copies differ.
    #[error("etcdserver: corrupt cluster")]
    Corrupt,
    /// More alarms than [`MAX_ALARMS`](crate::MAX_ALARMS).
    #[error("duet: too many alarms are raised; take some back")]
    TooManyAlarms,
    /// The revision asked for lies below the compacted revision (or, for a compaction, at or below it).
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted {
        /// The compacted revision now: reads and watches are possible from here on. -1 if nothing was compacted.
        compacted_revision: i64,
    },
    /// The revision asked for has not happened yet.
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision,
    /// No lease has this id.
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// A lease with this id exists already.
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    /// The time to live is above [`MAX_LEASE_TTL_SECONDS`](crate::MAX_LEASE_TTL_SECONDS).
    #[error("etcdserver: too large lease TTL")]
    LeaseTtlTooLarge,
    /// The users and roles do not allow it.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The engine failed or holds nonsense. Fatal: the caller must stop serving, not answer.
    #[error("storage: {0}")]
    Storage(#[from] SourceError),
}

impl Error {
    /// The gRPC code that etcd gives this error.
    pub fn code(&self) -> ErrorCode {
        match self {
            Error::EmptyKey
            | Error::KeyNotFound
            | Error::ValueProvided
            | Error::LeaseProvided
            | Error::TooManyOperations
            | Error::DuplicateKey
            | Error::InvalidSortOption
            | Error::RequestTooLarge => ErrorCode::InvalidArgument,
            Error::NoSpace | Error::TooManyAlarms => ErrorCode::ResourceExhausted,
            Error::Corrupt => ErrorCode::DataLoss,
            Error::Compacted { .. } | Error::FutureRevision | Error::LeaseTtlTooLarge => {
                ErrorCode::OutOfRange
            }
            Error::LeaseNotFound => ErrorCode::NotFound,
            Error::LeaseExists => ErrorCode::FailedPrecondition,
            Error::Auth(error) => error.code(),
            Error::Storage(_) => ErrorCode::Internal,
        }
    }

    /// True for errors after which the appliance must not go on.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Error::Storage(_))
    }
}
