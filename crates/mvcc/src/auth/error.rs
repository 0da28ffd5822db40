//! Why the users and roles refuse something, in etcd's words.

use super::MAX_AUTH_BYTES;
use crate::error::ErrorCode;

/// A refusal: nothing was changed, nothing may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Users are on and the request names none.
    #[error("etcdserver: user name is empty")]
    UserEmpty,
    /// The user's roles do not allow the request.
    #[error("etcdserver: permission denied")]
    PermissionDenied,
    /// The token was not issued here, has run out, or is from before the user's password was changed.
    #[error("etcdserver: invalid auth token")]
    InvalidToken,
    /// Users are off.
    #[error("etcdserver: authentication is not enabled")]
    NotEnabled,
    /// Users are turned on without the user `root`.
    #[error("etcdserver: root user does not exist")]
    RootUserMissing,
    /// Users are turned on while the user `root` has not the role `root`.
    #[error("etcdserver: root user does not have root role")]
    RootRoleMissing,
    /// A user of this name exists already.
    #[error("etcdserver: user name already exists")]
    UserExists,
    /// No user has this name.
    #[error("etcdserver: user name not found")]
    UserNotFound,
    /// A role of this name exists already.
    #[error("etcdserver: role name already exists")]
    RoleExists,
    /// No role has this name.
    #[error("etcdserver: role name not found")]
    RoleNotFound,
    /// A role without a name.
    #[error("etcdserver: role name is empty")]
    RoleEmpty,
    /// The user has not the role that is to be taken from it.
    #[error("etcdserver: role is not granted to the user")]
    RoleNotGranted,
    /// The role has not the permission that is to be taken from it.
    #[error("etcdserver: permission is not granted to the role")]
    PermissionNotGranted,
    /// A request to grant a permission without one.
    #[error("etcdserver: permission not given")]
    PermissionNotGiven,
    /// A change that would lock everybody out, or a permission for a range that no key can be in.
    #[error("etcdserver: invalid auth management")]
    InvalidManagement,
    /// The password is wrong, or the user does not exist: which of them is not told.
    #[error("etcdserver: authentication failed, invalid user ID or password")]
    AuthenticationFailed,
    /// All users and roles together are bounded.
    #[error("duet: users and roles together may take {MAX_AUTH_BYTES} bytes")]
    TooLarge,
}

impl AuthError {
    /// The gRPC code that etcd gives this error.
    pub fn code(self) -> ErrorCode {
        match self {
            AuthError::UserEmpty
            | AuthError::RoleEmpty
            | AuthError::InvalidManagement
            | AuthError::PermissionNotGiven
            | AuthError::AuthenticationFailed => ErrorCode::InvalidArgument,
            AuthError::PermissionDenied => ErrorCode::PermissionDenied,
            AuthError::InvalidToken => ErrorCode::Unauthenticated,
            AuthError::TooLarge => ErrorCode::ResourceExhausted,
            AuthError::NotEnabled
            | AuthError::RootUserMissing
            | AuthError::RootRoleMissing
            | AuthError::UserExists
            | AuthError::UserNotFound
            | AuthError::RoleExists
            | AuthError::RoleNotFound
            | AuthError::RoleNotGranted
            | AuthError::PermissionNotGranted => ErrorCode::FailedPrecondition,
        }
    }
}
