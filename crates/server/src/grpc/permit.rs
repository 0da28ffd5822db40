//! Whether the caller may have what it asks for; asked only while users are on.
//!
//! A write takes its owner along: what counts is asked when it is applied, in the order of the log. Here it is asked too, so
//! that what would be refused there does not fill the log. A read is asked on the state that answers it. Who calls is said
//! by a token; a client certificate's common name will be another way to say so, in [`Api::caller`] and nowhere else.

use duet_mvcc::{Access, Actor, Auth, AuthError, Command, Error, Store, TxnRequest, UserId};
use tonic::{Code, Status};

use super::Api;
use super::call::Call;
use super::errors::refused;

/// Why a command is not proposed.
pub enum NotOwned {
    /// The caller may not have it carried out.
    Refused(AuthError),
    /// It looks so here, but somebody else may be primary and know better.
    NotPrimary,
}

/// What only the role `root` may.
pub fn everything(access: &Access<'_>) -> Result<(), AuthError> {
    access.everything()
}

impl Api {
    /// Who calls.
    fn caller(&self, call: &Call, auth: &Auth) -> Result<UserId, AuthError> {
        self.tokens().identify(auth, call.token().ok_or(AuthError::UserEmpty)?)
    }

    /// The command as it is proposed now: while users are on, in the caller's name.
    pub fn owned(&self, call: &Call, command: &Command) -> Result<Command, NotOwned> {
        if !self.handle().users_are_on() {
            return Ok(command.clone());
        }
        let guard = self.handle().read_permit();
        let owner = {
            let store = self.handle().store().read();
            if !store.auth().is_enabled() {
                return Ok(command.clone());
            }
            self.caller(call, store.auth()).and_then(|user| store.authorize(user, command).map(|()| user))
        };
        match owner {
            Ok(user) => Ok(Command::As { actor: Actor::User(user), command: Box::new(command.clone()) }),
            Err(error) if guard.is_ok_and(|guard| guard.still_valid().is_ok()) => {
                Err(NotOwned::Refused(error))
            }
            Err(_) => Err(NotOwned::NotPrimary),
        }
    }

    /// Whether the caller may have something of this state: `may` says so of a user.
    pub fn permit(
        &self,
        call: &Call,
        store: &Store,
        may: impl FnOnce(&Access<'_>) -> Result<(), AuthError>,
    ) -> Result<(), Error> {
        let auth = store.auth();
        if !auth.is_enabled() {
            return Ok(());
        }
        let user = self.caller(call, auth)?;
        Ok(may(&auth.access(user)?)?)
    }

    /// The same for a transaction that only reads.
    pub fn permit_txn(&self, call: &Call, store: &Store, request: &TxnRequest) -> Result<(), Error> {
        if !store.auth().is_enabled() {
            return Ok(());
        }
        let user = self.caller(call, store.auth())?;
        Ok(store.authorize_txn(user, request)?)
    }

    /// The same for what is this appliance's own, by what it knows.
    pub fn permit_here(
        &self,
        call: &Call,
        may: impl FnOnce(&Access<'_>) -> Result<(), AuthError>,
    ) -> Result<(), Error> {
        if !self.handle().users_are_on() {
            return Ok(());
        }
        self.permit(call, &self.handle().store().read(), may)
    }

    /// Whether the caller is any user.
    pub fn require_user(&self, call: &Call) -> Result<(), Status> {
        self.permit_here(call, |_| Ok(())).map_err(|error| refused(&error))
    }

    /// Whether the caller has the role `root`.
    pub fn require_root(&self, call: &Call) -> Result<(), Status> {
        self.permit_here(call, everything).map_err(|error| refused(&error))
    }

    /// The same with the answer that etcd gives where it forgets to translate its own: another prefix, no code.
    pub fn require_root_bluntly(&self, call: &Call) -> Result<(), Status> {
        self.permit_here(call, everything).map_err(|error| {
            let text = error.to_string();
            Status::new(Code::Unknown, text.replacen("etcdserver:", "auth:", 1))
        })
    }
}
