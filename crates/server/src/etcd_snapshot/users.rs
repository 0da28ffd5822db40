//! Users and roles as etcd keeps them: three buckets, of which two hold the messages of `auth.proto`.

use duet_etcd_api::authpb;
use duet_mvcc::{Auth, AuthError, PasswordHash, Permission, PermissionKind};
use prost::Message;

use super::Rows;

/// What etcd's buckets hold of these users and roles; nothing where there never were any.
pub(super) fn buckets(auth: &Auth) -> Result<[(&'static str, Rows); 3], AuthError> {
    let mut users = Rows::new();
    for name in auth.users() {
        users.insert(name.into(), user(auth, name)?.encode_to_vec());
    }
    let mut roles = Rows::new();
    for name in auth.roles() {
        let key_permission = auth.permissions_of(name)?.map(to_wire).collect();
        let role = authpb::Role { name: name.to_owned().into(), key_permission };
        roles.insert(name.into(), role.encode_to_vec());
    }
    let state = Rows::from([
        (b"authEnabled".to_vec(), vec![u8::from(auth.is_enabled())]),
        (b"authRevision".to_vec(), auth.revision().to_be_bytes().to_vec()),
    ]);
    Ok([("auth", state), ("authUsers", users), ("authRoles", roles)])
}

fn user(auth: &Auth, name: &str) -> Result<authpb::User, AuthError> {
    let password = auth.password(name).flatten();
    Ok(authpb::User {
        name: name.to_owned().into(),
        password: password.map(|PasswordHash(hash)| hash.clone()).unwrap_or_default(),
        roles: auth.roles_of(name)?.map(str::to_owned).collect(),
        options: Some(authpb::UserAddOptions { no_password: password.is_none() }),
    })
}

/// A permission as the API knows it.
pub(crate) fn to_wire(permission: Permission) -> authpb::Permission {
    use authpb::permission::Type;
    let kind = match permission.kind {
        PermissionKind::Read => Type::Read,
        PermissionKind::Write => Type::Write,
        PermissionKind::ReadWrite => Type::Readwrite,
    };
    authpb::Permission { perm_type: kind.into(), key: permission.key, range_end: permission.range_end }
}
