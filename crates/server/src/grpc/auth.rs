//! The Auth service: users and roles are off, and cannot be turned on yet.

use duet_etcd_api::etcdserverpb as pb;
use duet_etcd_api::etcdserverpb::auth_server::Auth;
use tonic::{Request, Response, Status};

use super::Api;
use super::errors::{AUTH_NOT_BUILT, AUTH_NOT_ENABLED};

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
}

/// What etcd calls the auth store's revision before anything was changed.
const INITIAL_AUTH_REVISION: u64 = 1;

macro_rules! auth {
    ($($method:ident: $request:ident => $response:ident;)*) => {
        #[tonic::async_trait]
        impl Auth for AuthService {
            async fn auth_status(
                &self,
                _: Request<pb::AuthStatusRequest>,
            ) -> Result<Response<pb::AuthStatusResponse>, Status> {
                let header = Some(self.api.header(self.api.revision()));
                let auth_revision = INITIAL_AUTH_REVISION;
                Ok(Response::new(pb::AuthStatusResponse { header, enabled: false, auth_revision }))
            }

            async fn authenticate(
                &self,
                _: Request<pb::AuthenticateRequest>,
            ) -> Result<Response<pb::AuthenticateResponse>, Status> {
                Err(AUTH_NOT_ENABLED.into())
            }

            async fn user_list(
                &self,
                _: Request<pb::AuthUserListRequest>,
            ) -> Result<Response<pb::AuthUserListResponse>, Status> {
                let header = Some(self.api.header(self.api.revision()));
                Ok(Response::new(pb::AuthUserListResponse { header, users: Vec::new() }))
            }

            async fn role_list(
                &self,
                _: Request<pb::AuthRoleListRequest>,
            ) -> Result<Response<pb::AuthRoleListResponse>, Status> {
                let header = Some(self.api.header(self.api.revision()));
                Ok(Response::new(pb::AuthRoleListResponse { header, roles: Vec::new() }))
            }

            $(async fn $method(&self, _: Request<pb::$request>) -> Result<Response<pb::$response>, Status> {
                Err(AUTH_NOT_BUILT.into())
            })*
        }
    };
}

auth! {
    auth_enable: AuthEnableRequest => AuthEnableResponse;
    auth_disable: AuthDisableRequest => AuthDisableResponse;
    user_add: AuthUserAddRequest => AuthUserAddResponse;
    user_get: AuthUserGetRequest => AuthUserGetResponse;
    user_delete: AuthUserDeleteRequest => AuthUserDeleteResponse;
    user_change_password: AuthUserChangePasswordRequest => AuthUserChangePasswordResponse;
    user_grant_role: AuthUserGrantRoleRequest => AuthUserGrantRoleResponse;
    user_revoke_role: AuthUserRevokeRoleRequest => AuthUserRevokeRoleResponse;
    role_add: AuthRoleAddRequest => AuthRoleAddResponse;
    role_get: AuthRoleGetRequest => AuthRoleGetResponse;
    role_delete: AuthRoleDeleteRequest => AuthRoleDeleteResponse;
    role_grant_permission: AuthRoleGrantPermissionRequest => AuthRoleGrantPermissionResponse;
    role_revoke_permission: AuthRoleRevokePermissionRequest => AuthRoleRevokePermissionResponse;
}
