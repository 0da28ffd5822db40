//! The Auth service: users, roles, permissions and logging in.
//!
//! Changes are writes like any other and are refused where the log has its order; questions are linearizable reads.
//! Logging in is a read too: it writes nothing, so a flood of logins costs no LSN. The log holds hashes of passwords only.

use duet_etcd_api::authpb;
use duet_etcd_api::etcdserverpb as pb;
use duet_etcd_api::etcdserverpb::auth_client::AuthClient;
use duet_etcd_api::etcdserverpb::auth_server::Auth;
use duet_mvcc::{
    Access, Auth as Users, AuthCommand, AuthError, Command, Error, PasswordHash, Permission, PermissionKind,
    Response as Answer, TokenSecret,
};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::Api;
use super::call::Call;
use super::errors::{NO_PASSWORD_USER, VERIFY_ONLY, refused};
use super::forward::{AnswerFuture, ReadAt, Written};
use super::kv::{check_size, wrong_answer};
use super::permit::everything;
use crate::auth::Login;
use crate::etcd_snapshot::users::to_wire;

/// The Auth service.
#[derive(Clone)]
pub struct AuthService {
    api: Api,
}

impl AuthService {
    /// Serves with the shared parts.
    pub fn new(api: Api) -> AuthService {
        AuthService { api }
    }

    /// Makes a change; its answer is a header, here or at the primary.
    async fn change<F, A>(
        &self,
        call: &Call,
        command: AuthCommand,
        there: F,
    ) -> Result<ReadAt<pb::ResponseHeader, A::Value>, Status>
    where
        F: Fn(Channel, Call) -> A,
        A: AnswerFuture,
    {
        let applied = match self.api.write(call, Command::Auth(command), there).await? {
            Written::Here(applied) => applied,
            Written::There(answer) => return Ok(ReadAt::There(answer)),
        };
        match applied.result.map_err(|error| refused(&error))? {
            Answer::Auth => Ok(ReadAt::Here(self.api.header(applied.revision))),
            other => Err(wrong_answer(&other)),
        }
    }

    /// Asks the users and roles something that a user may know who `may`.
    async fn ask<T, F, A>(
        &self,
        call: &Call,
        may: impl Fn(&Access<'_>) -> Result<(), AuthError>,
        what: impl Fn(&Users) -> Result<T, AuthError>,
        there: F,
    ) -> Result<ReadAt<(pb::ResponseHeader, T), A::Value>, Status>
    where
        F: Fn(Channel, Call) -> A,
        A: AnswerFuture,
    {
        let read = self.api.read(
            call,
            |store| {
                self.api.permit(call, store, &may)?;
                Ok((store.revision(), what(store.auth())?))
            },
            there,
        );
        Ok(match read.await? {
            ReadAt::Here((revision, answer)) => ReadAt::Here((self.api.header(revision), answer)),
            ReadAt::There(answer) => ReadAt::There(answer),
        })
    }

    /// A token for a password that is right, or why there is none.
    async fn log_in(&self, password: String, login: Attempt) -> Result<String, Status> {
        let Attempt { who, password: hash } = login;
        if who.is_some() && hash.is_none() {
            return Err(NO_PASSWORD_USER.into());
        }
        let right = self.api.passwords().is_right(password, hash).await?;
        match who.filter(|_| right) {
            Some(who) => self.api.tokens().issue(&who).ok_or_else(|| VERIFY_ONLY.into()),
            None => Err(refused(&AuthError::AuthenticationFailed.into())),
        }
    }
}

/// Somebody who wants to log in, as the users are at that moment.
struct Attempt {
    who: Option<Login>,
    password: Option<PasswordHash>,
}

impl Attempt {
    fn of(users: &Users, name: &str) -> Result<Attempt, Error> {
        if !users.is_enabled() {
            return Err(AuthError::NotEnabled.into());
        }
        let who = users.id_of(name).map(|id| Login {
            name: name.to_owned(),
            id,
            auth_revision: users.revision(),
            secret: *users.secret(),
        });
        Ok(Attempt { who, password: users.password(name).flatten().cloned() })
    }
}

fn client(channel: Channel) -> AuthClient<Channel> {
    AuthClient::new(channel).max_decoding_message_size(usize::MAX)
}

/// Sends the same request to the primary.
macro_rules! there {
    ($request:ident, $method:ident) => {
        |channel, call: Call| {
            let request = call.forward($request.clone());
            async move { client(channel).$method(request).await }
        }
    };
}

/// A method that makes one change: the command of its request.
macro_rules! change {
    ($self:ident, $request:ident, $method:ident => $response:ident, $command:expr) => {
        change!($self, $request, call, $method => $response, $command)
    };
    ($self:ident, $request:ident, $call:ident, $method:ident => $response:ident, $command:expr) => {{
        let ($call, $request) = Call::of($request);
        check_size(&$request, $self.api.limits())?;
        let command = $command;
        Ok(Response::new(match $self.change(&$call, command, there!($request, $method)).await? {
            ReadAt::Here(header) => pb::$response { header: Some(header) },
            ReadAt::There(answer) => answer,
        }))
    }};
}

fn permission(wire: &authpb::Permission) -> Result<Permission, AuthError> {
    use authpb::permission::Type;
    let kind = match Type::try_from(wire.perm_type) {
        Ok(Type::Read) => PermissionKind::Read,
        Ok(Type::Write) => PermissionKind::Write,
        Ok(Type::Readwrite) => PermissionKind::ReadWrite,
        Err(_) => return Err(AuthError::InvalidManagement),
    };
    Ok(Permission { kind, key: wire.key.clone(), range_end: wire.range_end.clone() })
}

#[tonic::async_trait]
impl Auth for AuthService {
    async fn auth_enable(
        &self,
        request: Request<pb::AuthEnableRequest>,
    ) -> Result<Response<pb::AuthEnableResponse>, Status> {
        let secret = TokenSecret(rand::random());
        change!(self, request, auth_enable => AuthEnableResponse, AuthCommand::Enable { secret })
    }

    async fn auth_disable(
        &self,
        request: Request<pb::AuthDisableRequest>,
    ) -> Result<Response<pb::AuthDisableResponse>, Status> {
        change!(self, request, auth_disable => AuthDisableResponse, AuthCommand::Disable)
    }

    async fn auth_status(
        &self,
        request: Request<pb::AuthStatusRequest>,
    ) -> Result<Response<pb::AuthStatusResponse>, Status> {
        let (call, request) = Call::of(request);
        let what = |users: &Users| Ok((users.is_enabled(), users.revision()));
        let asked = self.ask(&call, everything, what, there!(request, auth_status));
        Ok(Response::new(match asked.await? {
            ReadAt::Here((header, (enabled, auth_revision))) => {
                pb::AuthStatusResponse { header: Some(header), enabled, auth_revision }
            }
            ReadAt::There(answer) => answer,
        }))
    }

    async fn authenticate(
        &self,
        request: Request<pb::AuthenticateRequest>,
    ) -> Result<Response<pb::AuthenticateResponse>, Status> {
        let (call, request) = Call::of(request);
        let read = self.api.read(
            &call,
            |store| Ok((store.revision(), Attempt::of(store.auth(), &request.name)?)),
            there!(request, authenticate),
        );
        let (revision, attempt) = match read.await? {
            ReadAt::Here(answer) => answer,
            ReadAt::There(answer) => return Ok(Response::new(answer)),
        };
        let logged_in = tokio::time::timeout_at(call.deadline, self.log_in(request.password, attempt));
        let token = logged_in.await.map_err(|_| call.timed_out())??;
        Ok(Response::new(pb::AuthenticateResponse { header: Some(self.api.header(revision)), token }))
    }

    async fn user_add(
        &self,
        request: Request<pb::AuthUserAddRequest>,
    ) -> Result<Response<pb::AuthUserAddResponse>, Status> {
        change!(self, request, user_add => AuthUserAddResponse, {
            let without = request.options.as_ref().is_some_and(|options| options.no_password);
            let password =
                if without { None } else { Some(self.api.passwords().hash(request.password.clone()).await?) };
            AuthCommand::UserAdd { name: request.name.clone(), password }
        })
    }

    async fn user_get(
        &self,
        request: Request<pb::AuthUserGetRequest>,
    ) -> Result<Response<pb::AuthUserGetResponse>, Status> {
        let (call, request) = Call::of(request);
        let may =
            |access: &Access<'_>| if access.name() == request.name { Ok(()) } else { access.everything() };
        let what = |users: &Users| Ok(users.roles_of(&request.name)?.map(str::to_owned).collect());
        Ok(Response::new(match self.ask(&call, may, what, there!(request, user_get)).await? {
            ReadAt::Here((header, roles)) => pb::AuthUserGetResponse { header: Some(header), roles },
            ReadAt::There(answer) => answer,
        }))
    }

    async fn user_list(
        &self,
        request: Request<pb::AuthUserListRequest>,
    ) -> Result<Response<pb::AuthUserListResponse>, Status> {
        let (call, request) = Call::of(request);
        let what = |users: &Users| Ok(users.users().map(str::to_owned).collect());
        let asked = self.ask(&call, everything, what, there!(request, user_list));
        Ok(Response::new(match asked.await? {
            ReadAt::Here((header, users)) => pb::AuthUserListResponse { header: Some(header), users },
            ReadAt::There(answer) => answer,
        }))
    }

    async fn user_delete(
        &self,
        request: Request<pb::AuthUserDeleteRequest>,
    ) -> Result<Response<pb::AuthUserDeleteResponse>, Status> {
        change!(self, request, user_delete => AuthUserDeleteResponse, {
            AuthCommand::UserDelete { name: request.name.clone() }
        })
    }

    async fn user_change_password(
        &self,
        request: Request<pb::AuthUserChangePasswordRequest>,
    ) -> Result<Response<pb::AuthUserChangePasswordResponse>, Status> {
        change!(self, request, user_change_password => AuthUserChangePasswordResponse, {
            let password = self.api.passwords().hash(request.password.clone()).await?;
            AuthCommand::UserChangePassword { name: request.name.clone(), password }
        })
    }

    async fn user_grant_role(
        &self,
        request: Request<pb::AuthUserGrantRoleRequest>,
    ) -> Result<Response<pb::AuthUserGrantRoleResponse>, Status> {
        change!(self, request, user_grant_role => AuthUserGrantRoleResponse, {
            AuthCommand::UserGrantRole { user: request.user.clone(), role: request.role.clone() }
        })
    }

    async fn user_revoke_role(
        &self,
        request: Request<pb::AuthUserRevokeRoleRequest>,
    ) -> Result<Response<pb::AuthUserRevokeRoleResponse>, Status> {
        change!(self, request, user_revoke_role => AuthUserRevokeRoleResponse, {
            AuthCommand::UserRevokeRole { user: request.name.clone(), role: request.role.clone() }
        })
    }

    async fn role_add(
        &self,
        request: Request<pb::AuthRoleAddRequest>,
    ) -> Result<Response<pb::AuthRoleAddResponse>, Status> {
        change!(self, request, role_add => AuthRoleAddResponse, {
            AuthCommand::RoleAdd { name: request.name.clone() }
        })
    }

    async fn role_get(
        &self,
        request: Request<pb::AuthRoleGetRequest>,
    ) -> Result<Response<pb::AuthRoleGetResponse>, Status> {
        let (call, request) = Call::of(request);
        let may =
            |access: &Access<'_>| if access.has_role(&request.role) { Ok(()) } else { access.everything() };
        let what = |users: &Users| Ok(users.permissions_of(&request.role)?.map(to_wire).collect());
        Ok(Response::new(match self.ask(&call, may, what, there!(request, role_get)).await? {
            ReadAt::Here((header, perm)) => pb::AuthRoleGetResponse { header: Some(header), perm },
            ReadAt::There(answer) => answer,
        }))
    }

    async fn role_list(
        &self,
        request: Request<pb::AuthRoleListRequest>,
    ) -> Result<Response<pb::AuthRoleListResponse>, Status> {
        let (call, request) = Call::of(request);
        let what = |users: &Users| Ok(users.roles().map(str::to_owned).collect());
        let asked = self.ask(&call, everything, what, there!(request, role_list));
        Ok(Response::new(match asked.await? {
            ReadAt::Here((header, roles)) => pb::AuthRoleListResponse { header: Some(header), roles },
            ReadAt::There(answer) => answer,
        }))
    }

    async fn role_delete(
        &self,
        request: Request<pb::AuthRoleDeleteRequest>,
    ) -> Result<Response<pb::AuthRoleDeleteResponse>, Status> {
        change!(self, request, role_delete => AuthRoleDeleteResponse, {
            AuthCommand::RoleDelete { name: request.role.clone() }
        })
    }

    async fn role_grant_permission(
        &self,
        request: Request<pb::AuthRoleGrantPermissionRequest>,
    ) -> Result<Response<pb::AuthRoleGrantPermissionResponse>, Status> {
        change!(self, request, call, role_grant_permission => AuthRoleGrantPermissionResponse, {
            let wire = request.perm.as_ref().ok_or(AuthError::PermissionNotGiven);
            let permission = match wire.and_then(permission) {
                Ok(permission) => permission,
                Err(error) => {
                    // Who may not do it at all is not told what is wrong with it.
                    self.api.require_root(&call)?;
                    return Err(refused(&error.into()));
                }
            };
            AuthCommand::RoleGrantPermission { role: request.name.clone(), permission }
        })
    }

    async fn role_revoke_permission(
        &self,
        request: Request<pb::AuthRoleRevokePermissionRequest>,
    ) -> Result<Response<pb::AuthRoleRevokePermissionResponse>, Status> {
        change!(self, request, role_revoke_permission => AuthRoleRevokePermissionResponse, {
            AuthCommand::RoleRevokePermission {
                role: request.role.clone(),
                key: request.key.clone(),
                range_end: request.range_end.clone(),
            }
        })
    }
}
