//! Every error text that clients of etcd know, in one place, with its gRPC code.
//!
//! Clients compare etcd's errors by their text, so the texts are constants and nobody writes one down elsewhere. What
//! the data model refuses (`duet_mvcc::Error`) brings its own text; here it gets its code. Errors that only Duet has
//! begin with `duet:`.

use duet_mvcc::{Error, ErrorCode};
use http::HeaderMap;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::error::WriteError;

/// An error as it goes over the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ApiError {
    /// gRPC's code.
    pub code: Code,
    /// The exact text.
    pub text: &'static str,
}

const fn error(code: Code, text: &'static str) -> ApiError {
    ApiError { code, text }
}

/// No primary is known.
pub const NO_LEADER: ApiError = error(Code::Unavailable, "etcdserver: no leader");
/// The server's own time limit passed.
pub const TIMEOUT: ApiError = error(Code::Unavailable, "etcdserver: request timed out");
/// The outcome of a write is unknown.
pub const TIMEOUT_LEADER_FAILED: ApiError =
    error(Code::Unavailable, "etcdserver: request timed out, possibly due to previous leader failure");
/// The client's time limit passed.
pub const DEADLINE_EXCEEDED: ApiError = error(Code::DeadlineExceeded, "context deadline exceeded");
/// This appliance has stopped.
pub const STOPPED: ApiError = error(Code::Unavailable, "etcdserver: server stopped");
/// More is waiting than is taken.
pub const TOO_MANY_REQUESTS: ApiError = error(Code::ResourceExhausted, "etcdserver: too many requests");
/// A request is above the limit on requests.
pub const REQUEST_TOO_LARGE: ApiError = error(Code::InvalidArgument, "etcdserver: request is too large");
/// The primary cannot be handed to that member.
pub const BAD_LEADER_TRANSFEREE: ApiError =
    error(Code::FailedPrecondition, "etcdserver: bad leader transferee");
/// The member asked for is not primary, so it cannot hand over.
pub const NOT_LEADER: ApiError = error(Code::FailedPrecondition, "etcdserver: not leader");
/// The version to go down to is no version.
pub const WRONG_DOWNGRADE_VERSION_FORMAT: ApiError =
    error(Code::InvalidArgument, "etcdserver: wrong downgrade target version format");
/// It cannot be gone down to that version.
pub const INVALID_DOWNGRADE_TARGET: ApiError =
    error(Code::InvalidArgument, "etcdserver: invalid downgrade target version");
/// There is no downgrade to be cancelled.
pub const NO_DOWNGRADE: ApiError = error(Code::FailedPrecondition, "etcdserver: no inflight downgrade job");
/// A downgrade is to be neither validated nor enabled nor cancelled.
pub const UNKNOWN_DOWNGRADE_ACTION: ApiError = error(Code::Unknown, "etcdserver: unknown method");
/// No member has this id.
pub const MEMBER_NOT_FOUND: ApiError = error(Code::NotFound, "etcdserver: member not found");
/// Both members are full members.
pub const MEMBER_NOT_LEARNER: ApiError =
    error(Code::FailedPrecondition, "etcdserver: can only promote a learner member");
/// Peer URLs are missing or no URLs.
pub const MEMBER_BAD_URLS: ApiError =
    error(Code::InvalidArgument, "etcdserver: given member URLs are invalid");
/// A user without a password has tried to log in with one. etcd forgets to translate it: another prefix, no code.
pub const NO_PASSWORD_USER: ApiError =
    error(Code::Unknown, "auth: authentication failed, password was given for no password user");
/// A lock's key is gone: its lease has ended, or somebody deleted it.
pub const LOCK_SESSION_EXPIRED: ApiError = error(Code::Unknown, "mutex: session is expired");
/// Nobody leads.
pub const ELECTION_NO_LEADER: ApiError = error(Code::Unknown, "election: no leader");
/// The key is not, or no longer, the leader's or a candidate's.
pub const ELECTION_NOT_LEADER: ApiError = error(Code::Unknown, "election: not leader");
/// A request that names no leader's key.
pub const LEADER_MISSING: ApiError = error(Code::Unknown, "\"leader\" field must be provided");
/// Tokens are made elsewhere: this appliance has only the key to verify them.
pub const VERIFY_ONLY: ApiError =
    error(Code::FailedPrecondition, "duet: this appliance has no private key to make tokens with");
/// gRPC health: nobody by that name.
pub const HEALTH_UNKNOWN_SERVICE: ApiError = error(Code::NotFound, "unknown service");

/// A comparison whose result is none that etcd knows (etcd takes it for one that always holds).
pub const BAD_COMPARE_RESULT: ApiError =
    error(Code::InvalidArgument, "duet: a comparison asks for a result that the etcd API does not define");
/// The state on this appliance's disk cannot be read.
pub const STORAGE: ApiError = error(Code::Internal, "duet: the stored data cannot be read");
/// The members of a pair are fixed.
pub const MEMBERS_ARE_FIXED: ApiError = error(
    Code::FailedPrecondition,
    "duet: a pair always has the members A and B; replace an appliance by starting a blank one in its place",
);
/// Why a watch was refused: its id is in use on the stream.
pub const WATCH_DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
/// Why a watch was refused: no key can be in its range.
pub const WATCH_EMPTY_RANGE: &str = "mvcc: watcher range is empty";
/// Why a watch was refused: its start revision is negative.
pub const WATCH_COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Status {
        Status::new(error.code, error.text)
    }
}

/// An answer of the data model.
pub fn refused(error: &Error) -> Status {
    let code = match error.code() {
        ErrorCode::InvalidArgument => Code::InvalidArgument,
        ErrorCode::NotFound => Code::NotFound,
        ErrorCode::FailedPrecondition => Code::FailedPrecondition,
        ErrorCode::OutOfRange => Code::OutOfRange,
        ErrorCode::PermissionDenied => Code::PermissionDenied,
        ErrorCode::Unauthenticated => Code::Unauthenticated,
        ErrorCode::ResourceExhausted => Code::ResourceExhausted,
        ErrorCode::DataLoss => Code::DataLoss,
        ErrorCode::Internal => {
            tracing::error!(%error, "the stored data cannot be read");
            return STORAGE.into();
        }
    };
    Status::new(code, error.to_string())
}

/// Marks an answer with which the sender says for certain that it has not appended the write and never will.
const NOT_APPENDED: &str = "duet-not-appended";

/// A refusal of a forwarded write that the forwarder may repeat elsewhere.
pub fn not_appended(error: ApiError) -> Status {
    let mut metadata = HeaderMap::new();
    metadata.insert(NOT_APPENDED, http::HeaderValue::from_static("1"));
    Status::with_metadata(error.code, error.text, MetadataMap::from_headers(metadata))
}

/// Whether a status of the other appliance is a [`not_appended`].
pub fn is_not_appended(status: &Status) -> bool {
    status.metadata().contains_key(NOT_APPENDED)
}

/// The answer to a client whose write failed for good.
pub fn write_failed(error: WriteError) -> Status {
    match error {
        WriteError::NotPrimary => NO_LEADER,
        WriteError::Unknown => TIMEOUT_LEADER_FAILED,
        WriteError::Overloaded => TOO_MANY_REQUESTS,
        WriteError::Stopping => STOPPED,
        WriteError::TooLarge => REQUEST_TOO_LARGE,
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_models_errors_keep_text_and_code() {
        let cases = [
            (Error::EmptyKey, Code::InvalidArgument, "etcdserver: key is not provided"),
            (Error::LeaseNotFound, Code::NotFound, "etcdserver: requested lease not found"),
            (Error::LeaseExists, Code::FailedPrecondition, "etcdserver: lease already exists"),
            (
                Error::FutureRevision,
                Code::OutOfRange,
                "etcdserver: mvcc: required revision is a future revision",
            ),
            (
                Error::Compacted { compacted_revision: 7 },
                Code::OutOfRange,
                "etcdserver: mvcc: required revision has been compacted",
            ),
            (Error::NoSpace, Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
        ];
        for (error, code, text) in cases {
            let status = refused(&error);
            assert_eq!((status.code(), status.message()), (code, text));
        }
    }

    #[test]
    fn only_marked_refusals_count_as_not_appended() {
        assert!(is_not_appended(&not_appended(NO_LEADER)));
        assert!(!is_not_appended(&Status::from(NO_LEADER)));
        assert_eq!(not_appended(NO_LEADER).message(), "etcdserver: no leader");
    }

    #[test]
    fn a_lost_outcome_is_told_as_etcd_tells_it() {
        let status = write_failed(WriteError::Unknown);
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(
            status.message(),
            "etcdserver: request timed out, possibly due to previous leader failure"
        );
    }
}
