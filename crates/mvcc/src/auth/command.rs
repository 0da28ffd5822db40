//! Changes of users and roles, in the form that the log replicates. Passwords come as hashes only.

use std::fmt;

use bytes::Bytes;

use super::{Permission, PermissionKind, UserId};
use crate::codec::{DecodeError, Reader, write_bytes, write_unsigned};

/// A secret that both appliances hold, drawn anew each time users are turned on: what it vouches for ends when they
/// are turned off.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct TokenSecret(pub [u8; 32]);

impl fmt::Debug for TokenSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TokenSecret(..)")
    }
}

/// A password's bcrypt hash, in its text form.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(pub Bytes);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PasswordHash(..)")
    }
}

/// On whose behalf a command was proposed while users were on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// The appliance itself: the end of a lease.
    Appliance,
    /// A user.
    User(UserId),
}

impl Actor {
    pub(crate) fn write(self, output: &mut Vec<u8>) {
        write_unsigned(
            output,
            match self {
                Actor::Appliance => 0,
                Actor::User(UserId(id)) => id,
            },
        );
    }

    pub(crate) fn read(reader: &mut Reader) -> Result<Actor, DecodeError> {
        Ok(match reader.unsigned()? {
            0 => Actor::Appliance,
            id => Actor::User(UserId(id)),
        })
    }
}

/// One change of users, roles or permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthCommand {
    /// From now on every request must come from a user.
    Enable {
        /// What tokens are made with from now on.
        secret: TokenSecret,
    },
    /// From now on nobody is asked who he is.
    Disable,
    /// Add a user.
    UserAdd {
        /// Its name.
        name: String,
        /// `None`: a user who cannot log in with a password.
        password: Option<PasswordHash>,
    },
    /// Delete a user.
    UserDelete {
        /// Its name.
        name: String,
    },
    /// Give a user another password; all its tokens end.
    UserChangePassword {
        /// Its name.
        name: String,
        /// The new one.
        password: PasswordHash,
    },
    /// Give a user a role.
    UserGrantRole {
        /// The user's name.
        user: String,
        /// The role's name.
        role: String,
    },
    /// Take a role from a user.
    UserRevokeRole {
        /// The user's name.
        user: String,
        /// The role's name.
        role: String,
    },
    /// Add a role without permissions.
    RoleAdd {
        /// Its name.
        name: String,
    },
    /// Delete a role; every user loses it.
    RoleDelete {
        /// Its name.
        name: String,
    },
    /// Give a role a permission.
    RoleGrantPermission {
        /// The role's name.
        role: String,
        /// What it may do now.
        permission: Permission,
    },
    /// Take a permission from a role.
    RoleRevokePermission {
        /// The role's name.
        role: String,
        /// First key of the permission.
        key: Bytes,
        /// End of the permission.
        range_end: Bytes,
    },
}

/// The first of this family's tags in the log.
pub(crate) const FIRST_TAG: u8 = 33;

/// The last of them.
pub(crate) const LAST_TAG: u8 = FIRST_TAG + 10;

fn write_text(output: &mut Vec<u8>, text: &str) {
    write_bytes(output, text.as_bytes());
}

pub(super) fn write_password(output: &mut Vec<u8>, password: Option<&PasswordHash>) {
    output.push(u8::from(password.is_some()));
    if let Some(PasswordHash(hash)) = password {
        write_bytes(output, hash);
    }
}

pub(super) fn read_password(reader: &mut Reader) -> Result<Option<PasswordHash>, DecodeError> {
    match reader.byte()? {
        0 => Ok(None),
        1 => Ok(Some(PasswordHash(reader.bytes()?))),
        tag => Err(DecodeError::UnknownTag(tag)),
    }
}

pub(super) fn write_permission(output: &mut Vec<u8>, permission: &Permission) {
    output.push(match permission.kind {
        PermissionKind::Read => 0,
        PermissionKind::Write => 1,
        PermissionKind::ReadWrite => 2,
    });
    write_bytes(output, &permission.key);
    write_bytes(output, &permission.range_end);
}

pub(super) fn read_permission(reader: &mut Reader) -> Result<Permission, DecodeError> {
    let kind = match reader.byte()? {
        0 => PermissionKind::Read,
        1 => PermissionKind::Write,
        2 => PermissionKind::ReadWrite,
        tag => return Err(DecodeError::UnknownTag(tag)),
    };
    Ok(Permission { kind, key: reader.bytes()?, range_end: reader.bytes()? })
}

pub(super) fn read_secret(reader: &mut Reader) -> Result<TokenSecret, DecodeError> {
    let mut secret = TokenSecret::default();
    for byte in &mut secret.0 {
        *byte = reader.byte()?;
    }
    Ok(secret)
}

impl AuthCommand {
    pub(crate) fn write(&self, output: &mut Vec<u8>) {
        let tag = match self {
            AuthCommand::Enable { .. } => 0,
            AuthCommand::Disable => 1,
            AuthCommand::UserAdd { .. } => 2,
            AuthCommand::UserDelete { .. } => 3,
            AuthCommand::UserChangePassword { .. } => 4,
            AuthCommand::UserGrantRole { .. } => 5,
            AuthCommand::UserRevokeRole { .. } => 6,
            AuthCommand::RoleAdd { .. } => 7,
            AuthCommand::RoleDelete { .. } => 8,
            AuthCommand::RoleGrantPermission { .. } => 9,
            AuthCommand::RoleRevokePermission { .. } => 10,
        };
        output.push(FIRST_TAG + tag);
        match self {
            AuthCommand::Enable { secret } => output.extend_from_slice(&secret.0),
            AuthCommand::Disable => {}
            AuthCommand::UserAdd { name, password } => {
                write_text(output, name);
                write_password(output, password.as_ref());
            }
            AuthCommand::UserDelete { name }
            | AuthCommand::RoleAdd { name }
            | AuthCommand::RoleDelete { name } => write_text(output, name),
            AuthCommand::UserChangePassword { name, password } => {
                write_text(output, name);
                write_bytes(output, &password.0);
            }
            AuthCommand::UserGrantRole { user, role } | AuthCommand::UserRevokeRole { user, role } => {
                write_text(output, user);
                write_text(output, role);
            }
            AuthCommand::RoleGrantPermission { role, permission } => {
                write_text(output, role);
                write_permission(output, permission);
            }
            AuthCommand::RoleRevokePermission { role, key, range_end } => {
                write_text(output, role);
                write_bytes(output, key);
                write_bytes(output, range_end);
            }
        }
    }

    pub(crate) fn read(tag: u8, reader: &mut Reader) -> Result<AuthCommand, DecodeError> {
        Ok(match tag.wrapping_sub(FIRST_TAG) {
            0 => AuthCommand::Enable { secret: read_secret(reader)? },
            1 => AuthCommand::Disable,
            2 => AuthCommand::UserAdd { name: reader.text()?, password: read_password(reader)? },
            3 => AuthCommand::UserDelete { name: reader.text()? },
            4 => AuthCommand::UserChangePassword {
                name: reader.text()?,
                password: PasswordHash(reader.bytes()?),
            },
            5 => AuthCommand::UserGrantRole { user: reader.text()?, role: reader.text()? },
            6 => AuthCommand::UserRevokeRole { user: reader.text()?, role: reader.text()? },
            7 => AuthCommand::RoleAdd { name: reader.text()? },
            8 => AuthCommand::RoleDelete { name: reader.text()? },
            9 => AuthCommand::RoleGrantPermission {
                role: reader.text()?,
                permission: read_permission(reader)?,
            },
            10 => AuthCommand::RoleRevokePermission {
                role: reader.text()?,
                key: reader.bytes()?,
                range_end: reader.bytes()?,
            },
            _ => return Err(DecodeError::UnknownTag(tag)),
        })
    }

    /// Whether there may be more to keep after it.
    pub(super) fn adds(&self) -> bool {
        match self {
            AuthCommand::UserAdd { .. }
            | AuthCommand::UserChangePassword { .. }
            | AuthCommand::UserGrantRole { .. }
            | AuthCommand::RoleAdd { .. }
            | AuthCommand::RoleGrantPermission { .. } => true,
            AuthCommand::Enable { .. }
            | AuthCommand::Disable
            | AuthCommand::UserDelete { .. }
            | AuthCommand::UserRevokeRole { .. }
            | AuthCommand::RoleDelete { .. }
            | AuthCommand::RoleRevokePermission { .. } => false,
        }
    }

    /// Bytes that the command may add to the users and roles, or more.
    pub(super) fn size(&self) -> usize {
        let mut encoded = Vec::new();
        self.write(&mut encoded);
        encoded.len()
    }
}
