//! Users and roles in a checkpoint's meta.

use super::{
    Auth, INITIAL_REVISION, ROOT, User, UserId,
    command::{read_password, read_permission, read_secret, write_password, write_permission},
    role::Role,
};
use crate::codec::{DecodeError, Reader, write_bytes, write_unsigned};

impl Auth {
    /// Nothing was ever changed: then it takes no place in a checkpoint.
    pub(crate) fn is_untouched(&self) -> bool {
        self.revision == INITIAL_REVISION
    }

    /// The state's binary form: one state has one.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut output = Vec::new();
        output.push(u8::from(self.enabled));
        write_unsigned(&mut output, self.revision);
        output.extend_from_slice(&self.secret.0);
        write_unsigned(&mut output, self.roles.len() as u64);
        for (name, role) in &self.roles {
            write_bytes(&mut output, name.as_bytes());
            let permissions = role.permissions();
            write_unsigned(&mut output, permissions.len() as u64);
            for permission in permissions {
                write_permission(&mut output, &permission);
            }
        }
        write_unsigned(&mut output, self.users.len() as u64);
        for (name, user) in &self.users {
            write_bytes(&mut output, name.as_bytes());
            write_unsigned(&mut output, user.id.0);
            write_password(&mut output, user.password.as_ref());
            write_unsigned(&mut output, user.roles.len() as u64);
            for role in &user.roles {
                write_bytes(&mut output, role.as_bytes());
            }
        }
        output
    }

    /// Reads back [`Auth::encode`].
    pub(crate) fn decode(reader: &mut Reader) -> Result<Auth, DecodeError> {
        let enabled = match reader.byte()? {
            0 => false,
            1 => true,
            tag => return Err(DecodeError::UnknownTag(tag)),
        };
        let mut auth = Auth { enabled, revision: reader.unsigned()?, ..Auth::default() };
        // A larger one is damage; so every revision has a next one.
        if auth.revision <= INITIAL_REVISION || auth.revision > u64::MAX >> 1 {
            return Err(DecodeError::MalformedInteger);
        }
        auth.secret = read_secret(reader)?;
        for _ in 0..reader.length()? {
            let name = reader.text()?;
            let role = decode_role(reader)?;
            insert_last(&mut auth.roles, name, role)?;
        }
        for _ in 0..reader.length()? {
            let name = reader.text()?;
            let user = auth.decode_user(reader)?;
            if auth.names.insert(user.id, name.clone()).is_some() {
                return Err(DecodeError::Contradiction);
            }
            insert_last(&mut auth.users, name, user)?;
        }
        Ok(auth)
    }

    fn decode_user(&self, reader: &mut Reader) -> Result<User, DecodeError> {
        let id = UserId(reader.unsigned()?);
        if !(INITIAL_REVISION + 1..=self.revision).contains(&id.0) {
            return Err(DecodeError::Contradiction);
        }
        let mut user =
            User { id, password: read_password(reader)?, roles: std::collections::BTreeSet::new() };
        for _ in 0..reader.length()? {
            let role = reader.text()?;
            let exists = role == ROOT || self.roles.contains_key(&role);
            if !exists || user.roles.last().is_some_and(|last| *last >= role) {
                return Err(DecodeError::Contradiction);
            }
            user.roles.insert(role);
        }
        Ok(user)
    }
}

fn decode_role(reader: &mut Reader) -> Result<Role, DecodeError> {
    let mut permissions = Vec::new();
    for _ in 0..reader.length()? {
        permissions.push(read_permission(reader)?);
    }
    if !permissions.is_sorted_by(|left, right| (&left.key, &left.range_end) < (&right.key, &right.range_end))
    {
        return Err(DecodeError::Contradiction);
    }
    Ok(Role::of(&permissions))
}

/// Names come ascending, and are not empty: one state has one form.
fn insert_last<T>(
    map: &mut std::collections::BTreeMap<String, T>,
    name: String,
    value: T,
) -> Result<(), DecodeError> {
    if name.is_empty() || map.last_key_value().is_some_and(|(last, _)| *last >= name) {
        return Err(DecodeError::Contradiction);
    }
    map.insert(name, value);
    Ok(())
}
