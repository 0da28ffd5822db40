//! What is wrong with an etcd, in words that a person can act on.

use tonic::{Code, Status};

/// Bytes of etcd's own words that are shown.
const MAX_SHOWN_CHARACTERS: usize = 120;

/// etcd does not know the token: it was started again, or the token is too old.
pub(super) fn is_unknown_token(status: &Status) -> bool {
    status.code() == Code::Unauthenticated
        || (status.code() == Code::InvalidArgument
            && status.message() == "etcdserver: revision of auth store is old")
}

/// etcd has its users switched off. Its code for that is one of many, so its words decide.
pub(super) fn is_without_users(status: &Status) -> bool {
    status.code() == Code::FailedPrecondition
        && status.message() == "etcdserver: authentication is not enabled"
}

/// Goes on after the name of the member; `folder` is what the keys begin with.
pub(super) fn refusal(status: &Status, folder: &str) -> String {
    let said: String = status.message().chars().take(MAX_SHOWN_CHARACTERS).collect();
    match status.code() {
        Code::PermissionDenied => format!(
            "refuses this user ({said}): allow it with `etcdctl role grant-permission ROLE readwrite --prefix {folder}`"
        ),
        Code::Unauthenticated => format!("refuses the login ({said}): check ETCD_USER and ETCD_PASSWORD"),
        Code::InvalidArgument => {
            format!("refuses the request ({said}): check ETCD_USER and ETCD_PASSWORD")
        }
        Code::ResourceExhausted => {
            format!("has too much to do, or no space ({said}): see `etcdctl alarm list`")
        }
        Code::Unavailable => {
            format!("cannot answer ({said}): check the network, and whether it has a leader")
        }
        code => format!("answered {code:?} ({said})"),
    }
}

/// The innermost cause: "connection refused" and not "transport error".
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
