//! Users, roles and permissions, as part of the replicated state.
//!
//! Owns who exists and what each may do; the rules are etcd's. Passwords are checked and tokens made elsewhere (the
//! server's): here a user is a [`UserId`], which names a user together with its present password, so that whatever was
//! issued before a change of the password, or to a deleted user of the same name, names nobody any more. Changes count
//! up the auth revision and leave the keys' revision alone.

mod access;
mod checkpoint;
mod command;
mod error;
mod role;

use std::collections::{BTreeMap, BTreeSet};

use self::role::Role;
pub use self::{
    access::Access,
    command::{Actor, AuthCommand, PasswordHash, TokenSecret},
    error::AuthError,
    role::{Permission, PermissionKind},
};
pub(crate) use self::{
    access::authorize,
    command::{FIRST_TAG, LAST_TAG},
};
use crate::key_range::KeyRange;

/// Bytes that all users and roles may take together: all of them go into every checkpoint and are read at every start.
/// Enough for ten thousand users with a role each.
pub const MAX_AUTH_BYTES: usize = 2 << 20;

/// The user that has to exist before users are turned on, and the role that allows everything.
const ROOT: &str = "root";

/// The auth revision before anything was changed.
const INITIAL_REVISION: u64 = 1;

/// A user with its present password: the auth revision at which it was set. Never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(pub u64);

#[derive(Debug, Clone, PartialEq, Eq)]
struct User {
    id: UserId,
    password: Option<PasswordHash>,
    roles: BTreeSet<String>,
}

/// All users and roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    enabled: bool,
    revision: u64,
    secret: TokenSecret,
    users: BTreeMap<String, User>,
    roles: BTreeMap<String, Role>,
    /// The users' names by their ids.
    names: BTreeMap<UserId, String>,
}

impl Default for Auth {
    fn default() -> Auth {
        Auth {
            enabled: false,
            revision: INITIAL_REVISION,
            secret: TokenSecret::default(),
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
            names: BTreeMap::new(),
        }
    }
}

impl Auth {
    /// Whether every request must come from a user.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// The number of changes, as etcd counts them.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What tokens are made with.
    pub fn secret(&self) -> &TokenSecret {
        &self.secret
    }

    /// The present id of a user.
    pub fn id_of(&self, name: &str) -> Option<UserId> {
        self.users.get(name).map(|user| user.id)
    }

    /// The name behind an id; `None` if the user or its password is another one by now.
    pub fn name_of(&self, id: UserId) -> Option<&str> {
        self.names.get(&id).map(String::as_str)
    }

    /// The hash of a user's password; inside `None`: it has none. Outside: there is no such user.
    pub fn password(&self, name: &str) -> Option<Option<&PasswordHash>> {
        self.users.get(name).map(|user| user.password.as_ref())
    }

    /// All users' names.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.users.keys().map(String::as_str)
    }

    /// A user's roles.
    ///
    /// # Errors
    /// [`AuthError::UserNotFound`].
    pub fn roles_of(&self, name: &str) -> Result<impl Iterator<Item = &str>, AuthError> {
        let user = self.users.get(name).ok_or(AuthError::UserNotFound)?;
        Ok(user.roles.iter().map(String::as_str))
    }

    /// All roles' names.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.roles.keys().map(String::as_str)
    }

    /// A role's permissions.
    ///
    /// # Errors
    /// [`AuthError::RoleNotFound`].
    pub fn permissions_of(&self, name: &str) -> Result<impl Iterator<Item = Permission>, AuthError> {
        Ok(self.roles.get(name).ok_or(AuthError::RoleNotFound)?.permissions())
    }

    /// Applies one change. A refused one changes nothing.
    pub(crate) fn apply(&mut self, command: &AuthCommand) -> Result<(), AuthError> {
        if command.adds() && self.encode().len() + command.size() > MAX_AUTH_BYTES {
            return Err(AuthError::TooLarge);
        }
        let before = self.revision;
        match command {
            AuthCommand::Enable { secret } => self.enable(*secret)?,
            AuthCommand::Disable => self.disable(),
            AuthCommand::UserAdd { name, password } => self.add_user(name, password.clone())?,
            AuthCommand::UserDelete { name } => self.delete_user(name)?,
            AuthCommand::UserChangePassword { name, password } => self.change_password(name, password)?,
            AuthCommand::UserGrantRole { user, role } => self.grant_role(user, role)?,
            AuthCommand::UserRevokeRole { user, role } => self.revoke_role(user, role)?,
            AuthCommand::RoleAdd { name } => self.add_role(name)?,
            AuthCommand::RoleDelete { name } => self.delete_role(name)?,
            AuthCommand::RoleGrantPermission { role, permission } => self.grant(role, permission)?,
            AuthCommand::RoleRevokePermission { role, key, range_end } => {
                let role = self.roles.get_mut(role).ok_or(AuthError::RoleNotFound)?;
                if !role.revoke(key, range_end) {
                    return Err(AuthError::PermissionNotGranted);
                }
                self.revision += 1;
            }
        }
        assert!(self.revision - before <= 1, "a change counts once");
        assert!(self.names.len() == self.users.len(), "every user has one id");
        Ok(())
    }

    fn enable(&mut self, secret: TokenSecret) -> Result<(), AuthError> {
        if self.enabled {
            return Ok(());
        }
        let root = self.users.get(ROOT).ok_or(AuthError::RootUserMissing)?;
        if !root.roles.contains(ROOT) {
            return Err(AuthError::RootRoleMissing);
        }
        self.secret = secret;
        self.enabled = true;
        Ok(())
    }

    fn disable(&mut self) {
        if self.enabled {
            self.enabled = false;
            self.revision += 1;
        }
    }

    fn add_user(&mut self, name: &str, password: Option<PasswordHash>) -> Result<(), AuthError> {
        if name.is_empty() {
            return Err(AuthError::UserEmpty);
        }
        if self.users.contains_key(name) {
            return Err(AuthError::UserExists);
        }
        self.revision += 1;
        let id = UserId(self.revision);
        self.names.insert(id, name.to_owned());
        self.users.insert(name.to_owned(), User { id, password, roles: BTreeSet::new() });
        Ok(())
    }

    fn delete_user(&mut self, name: &str) -> Result<(), AuthError> {
        if self.enabled && name == ROOT {
            return Err(AuthError::InvalidManagement);
        }
        let user = self.users.remove(name).ok_or(AuthError::UserNotFound)?;
        self.names.remove(&user.id);
        self.revision += 1;
        Ok(())
    }

    fn change_password(&mut self, name: &str, password: &PasswordHash) -> Result<(), AuthError> {
        let user = self.users.get_mut(name).ok_or(AuthError::UserNotFound)?;
        self.revision += 1;
        // A user without a password stays one.
        user.password = user.password.is_some().then(|| password.clone());
        self.names.remove(&user.id);
        user.id = UserId(self.revision);
        self.names.insert(user.id, name.to_owned());
        Ok(())
    }

    fn grant_role(&mut self, user: &str, role: &str) -> Result<(), AuthError> {
        let user = self.users.get_mut(user).ok_or(AuthError::UserNotFound)?;
        // The role `root` may be given before it is added.
        if role != ROOT && !self.roles.contains_key(role) {
            return Err(AuthError::RoleNotFound);
        }
        if user.roles.insert(role.to_owned()) {
            self.revision += 1;
        }
        Ok(())
    }

    fn revoke_role(&mut self, user: &str, role: &str) -> Result<(), AuthError> {
        if self.enabled && user == ROOT && role == ROOT {
            return Err(AuthError::InvalidManagement);
        }
        let user = self.users.get_mut(user).ok_or(AuthError::UserNotFound)?;
        if !user.roles.remove(role) {
            return Err(AuthError::RoleNotGranted);
        }
        self.revision += 1;
        Ok(())
    }

    fn add_role(&mut self, name: &str) -> Result<(), AuthError> {
        if name.is_empty() {
            return Err(AuthError::RoleEmpty);
        }
        if self.roles.contains_key(name) {
            return Err(AuthError::RoleExists);
        }
        self.roles.insert(name.to_owned(), Role::default());
        self.revision += 1;
        Ok(())
    }

    fn delete_role(&mut self, name: &str) -> Result<(), AuthError> {
        if self.enabled && name == ROOT {
            return Err(AuthError::InvalidManagement);
        }
        self.roles.remove(name).ok_or(AuthError::RoleNotFound)?;
        for user in self.users.values_mut() {
            user.roles.remove(name);
        }
        self.revision += 1;
        Ok(())
    }

    fn grant(&mut self, role: &str, permission: &Permission) -> Result<(), AuthError> {
        let range = KeyRange::new(permission.key.clone(), permission.range_end.clone());
        if permission.key.is_empty() || range.is_empty() {
            return Err(AuthError::InvalidManagement);
        }
        self.roles.get_mut(role).ok_or(AuthError::RoleNotFound)?.grant(permission);
        self.revision += 1;
        Ok(())
    }
}
