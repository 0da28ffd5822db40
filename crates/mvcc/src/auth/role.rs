//! Roles: named sets of permissions.
//!
//! Owns the merging of a role's permissions, done when they change and not when they are asked for. Invariant: the
//! merged spans follow from the permissions alone.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{key_range::KeyRange, planted::Bug, spans::Spans};

/// What a permission allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PermissionKind {
    /// Reading.
    Read,
    /// Changing.
    Write,
    /// Both.
    ReadWrite,
}

/// What a role may do with a range of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    /// What is allowed.
    pub kind: PermissionKind,
    /// First key.
    pub key: Bytes,
    /// As in [`RangeRequest::range_end`](crate::RangeRequest::range_end).
    pub range_end: Bytes,
}

/// One role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Role {
    permissions: BTreeMap<(Bytes, Bytes), PermissionKind>,
    read: Spans,
    write: Spans,
}

impl Role {
    /// A role with these permissions.
    pub(crate) fn of(permissions: &[Permission]) -> Role {
        let range = |permission: &Permission| (permission.key.clone(), permission.range_end.clone());
        let permissions = permissions.iter().map(|permission| (range(permission), permission.kind)).collect();
        let mut role = Role { permissions, ..Role::default() };
        role.merge();
        role
    }

    /// Adds a permission; one for exactly the same range is replaced.
    pub(crate) fn grant(&mut self, permission: &Permission) {
        let range = (permission.key.clone(), permission.range_end.clone());
        self.permissions.insert(range, permission.kind);
        self.merge();
    }

    /// Takes the permission for exactly this range away; `false` if there is none.
    pub(crate) fn revoke(&mut self, key: &Bytes, range_end: &Bytes) -> bool {
        let revoked = self.permissions.remove(&(key.clone(), range_end.clone())).is_some();
        if !Bug::RevokedPermissionKept.planted() {
            self.merge();
        }
        revoked
    }

    fn merge(&mut self) {
        (self.read, self.write) = (Spans::default(), Spans::default());
        for ((key, range_end), kind) in &self.permissions {
            let range = KeyRange::new(key.clone(), range_end.clone());
            if matches!(kind, PermissionKind::Read | PermissionKind::ReadWrite) {
                self.read.insert(&range);
            }
            if matches!(kind, PermissionKind::Write | PermissionKind::ReadWrite) {
                self.write.insert(&range);
            }
        }
    }

    /// What may be read.
    pub(crate) fn readable(&self) -> &Spans {
        &self.read
    }

    /// What may be changed.
    pub(crate) fn writable(&self) -> &Spans {
        &self.write
    }

    /// All permissions, by their first key.
    pub(crate) fn permissions(&self) -> impl ExactSizeIterator<Item = Permission> {
        self.permissions.iter().map(|((key, range_end), kind)| Permission {
            kind: *kind,
            key: key.clone(),
            range_end: range_end.clone(),
        })
    }
}
