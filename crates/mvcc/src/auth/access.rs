//! What a user may do.
//!
//! Owns the rules by which a request is permitted. They are asked under the same order in which the request is carried
//! out: a change when it is applied, a read on the state that it reads. So a permission that was taken away counts for
//! everything after it, on both appliances.

use super::{Actor, Auth, AuthError, ROOT, Role, UserId};
use crate::{
    command::Command,
    key_range::KeyRange,
    lease::Leases,
    planted::Bug,
    request::{DeleteRangeRequest, Operation, PutRequest, RangeRequest, TxnRequest},
    spans::{Spans, cover},
};

/// One user's permissions at one moment.
pub struct Access<'auth> {
    name: &'auth str,
    is_root: bool,
    role_names: Vec<&'auth str>,
    roles: Vec<&'auth Role>,
}

impl Auth {
    /// What a user may do now.
    ///
    /// # Errors
    /// [`AuthError::InvalidToken`] if the id is nobody's any more.
    pub fn access(&self, id: UserId) -> Result<Access<'_>, AuthError> {
        let name = self.names.get(&id).ok_or(AuthError::InvalidToken)?;
        let user = self.users.get(name).ok_or(AuthError::InvalidToken)?;
        let role_names: Vec<&str> = user.roles.iter().map(String::as_str).collect();
        let roles = role_names.iter().filter_map(|name| self.roles.get(*name)).collect();
        Ok(Access { name, is_root: user.roles.contains(ROOT), role_names, roles })
    }
}

impl Access<'_> {
    /// The user's name.
    pub fn name(&self) -> &str {
        self.name
    }

    /// Whether the user has a role.
    pub fn has_role(&self, role: &str) -> bool {
        self.role_names.contains(&role)
    }

    /// Everything: what the role `root` has.
    ///
    /// # Errors
    /// [`AuthError::PermissionDenied`].
    pub fn everything(&self) -> Result<(), AuthError> {
        if self.is_root { Ok(()) } else { Err(AuthError::PermissionDenied) }
    }

    /// Reading a range.
    ///
    /// # Errors
    /// [`AuthError::PermissionDenied`].
    pub fn read(&self, range: &KeyRange) -> Result<(), AuthError> {
        self.covered(range, Role::readable)
    }

    fn write(&self, range: &KeyRange) -> Result<(), AuthError> {
        self.covered(range, Role::writable)
    }

    fn covered(&self, range: &KeyRange, of: fn(&Role) -> &Spans) -> Result<(), AuthError> {
        if self.is_root {
            return Ok(());
        }
        let unions: Vec<&Spans> = self.roles.iter().map(|role| of(role)).collect();
        if cover(&unions, range) { Ok(()) } else { Err(AuthError::PermissionDenied) }
    }

    /// Answering a range.
    ///
    /// # Errors
    /// [`AuthError::PermissionDenied`].
    pub fn range(&self, request: &RangeRequest) -> Result<(), AuthError> {
        self.read(&KeyRange::new(request.key.clone(), request.range_end.clone()))
    }

    fn put(&self, request: &PutRequest, leases: &Leases) -> Result<(), AuthError> {
        let key = KeyRange::Single(request.key.clone());
        self.write(&key)?;
        if request.prev_kv {
            self.read(&key)?;
        }
        // Who hangs a key on a lease can end the lease's other keys, and they his.
        self.lease(request.lease, leases)
    }

    fn delete_range(&self, request: &DeleteRangeRequest) -> Result<(), AuthError> {
        let range = KeyRange::new(request.key.clone(), request.range_end.clone());
        self.write(&range)?;
        if request.prev_kv { self.read(&range) } else { Ok(()) }
    }

    /// Writing every key of a lease; one that does not exist has none.
    fn lease(&self, id: i64, leases: &Leases) -> Result<(), AuthError> {
        let mut keys = leases.keys(id).into_iter().flatten();
        keys.try_for_each(|key| self.write(&KeyRange::Single(bytes::Bytes::copy_from_slice(key))))
    }

    /// Both branches with all that is nested in them: which of them runs is known too late, and is an answer too.
    pub(crate) fn txn(&self, request: &TxnRequest, leases: &Leases) -> Result<(), AuthError> {
        for compare in &request.compare {
            self.read(&KeyRange::new(compare.key.clone(), compare.range_end.clone()))?;
        }
        for operation in request.success.iter().chain(&request.failure) {
            match operation {
                Operation::Range(request) => self.range(request)?,
                Operation::Put(request) => self.put(request, leases)?,
                Operation::DeleteRange(request) => self.delete_range(request)?,
                Operation::Txn(_) if Bug::NestedTxnUnchecked.planted() => {}
                Operation::Txn(request) => self.txn(request, leases)?,
            }
        }
        Ok(())
    }
}

/// Whether a command may be carried out for somebody; `None` did not say who he is.
pub(crate) fn authorize(
    auth: &Auth,
    leases: &Leases,
    actor: Option<Actor>,
    command: &Command,
) -> Result<(), AuthError> {
    if !auth.enabled {
        return Ok(());
    }
    let access = match actor {
        None => return Err(AuthError::UserEmpty),
        Some(Actor::Appliance) => return Ok(()),
        Some(Actor::User(id)) => auth.access(id)?,
    };
    match command {
        Command::Put(request) => access.put(request, leases),
        Command::DeleteRange(request) => access.delete_range(request),
        Command::Txn(request) => access.txn(request, leases),
        Command::Compact { .. } | Command::RaiseAlarm(_) | Command::ClearAlarm(_) | Command::Auth(_) => {
            access.everything()
        }
        Command::LeaseGrant { .. } => Ok(()),
        Command::LeaseRevoke { id } => access.lease(*id, leases),
        Command::As { .. } => Err(AuthError::PermissionDenied),
    }
}
