//! One call of the Auth service.

use duet_etcd_api::authpb;
use duet_etcd_api::etcdserverpb as pb;
use pb::auth_client::AuthClient;

use crate::caller::Caller;
use crate::step::{Answer, said};
use crate::terms::Terms;

/// What is asked.
#[derive(Clone, PartialEq, Debug)]
pub enum UserStep {
    Enable,
    Disable,
    Status,
    Add(pb::AuthUserAddRequest),
    Get(String),
    List,
    Delete(String),
    ChangePassword(pb::AuthUserChangePasswordRequest),
    GrantRole { user: String, role: String },
    RevokeRole { user: String, role: String },
    AddRole(String),
    GetRole(String),
    ListRoles,
    DeleteRole(String),
    Permit { role: String, permission: Option<authpb::Permission> },
    Forbid(pb::AuthRoleRevokePermissionRequest),
}

impl UserStep {
    /// Whether it may change something.
    pub fn changes(&self) -> bool {
        !matches!(
            self,
            UserStep::Status | UserStep::Get(_) | UserStep::List | UserStep::GetRole(_) | UserStep::ListRoles
        )
    }

    pub async fn call(&self, caller: Caller, terms: &Terms) -> Answer {
        let mut auth = AuthClient::new(caller);
        macro_rules! answer {
            ($call:expr) => {
                said($call.await, |answer| {
                    let header = answer.header;
                    terms.header_back(&mut answer.header);
                    header
                })
            };
        }
        match self.clone() {
            UserStep::Enable => answer!(auth.auth_enable(pb::AuthEnableRequest {})),
            UserStep::Disable => answer!(auth.auth_disable(pb::AuthDisableRequest {})),
            UserStep::Status => answer!(auth.auth_status(pb::AuthStatusRequest {})),
            UserStep::Add(request) => answer!(auth.user_add(request)),
            UserStep::Get(name) => answer!(auth.user_get(pb::AuthUserGetRequest { name })),
            UserStep::List => answer!(auth.user_list(pb::AuthUserListRequest {})),
            UserStep::Delete(name) => answer!(auth.user_delete(pb::AuthUserDeleteRequest { name })),
            UserStep::ChangePassword(request) => answer!(auth.user_change_password(request)),
            UserStep::GrantRole { user, role } => {
                answer!(auth.user_grant_role(pb::AuthUserGrantRoleRequest { user, role }))
            }
            UserStep::RevokeRole { user: name, role } => {
                answer!(auth.user_revoke_role(pb::AuthUserRevokeRoleRequest { name, role }))
            }
            UserStep::AddRole(name) => answer!(auth.role_add(pb::AuthRoleAddRequest { name })),
            UserStep::GetRole(role) => {
                let answer = auth.role_get(pb::AuthRoleGetRequest { role }).await;
                said(answer, |answer| (answer.header, terms.permissions_back(answer)).0)
            }
            UserStep::ListRoles => answer!(auth.role_list(pb::AuthRoleListRequest {})),
            UserStep::DeleteRole(role) => answer!(auth.role_delete(pb::AuthRoleDeleteRequest { role })),
            UserStep::Permit { role: name, permission } => {
                let perm = permission.map(|permission| terms.permission(&permission));
                answer!(auth.role_grant_permission(pb::AuthRoleGrantPermissionRequest { name, perm }))
            }
            UserStep::Forbid(request) => {
                answer!(auth.role_revoke_permission(pb::AuthRoleRevokePermissionRequest {
                    role: request.role,
                    key: terms.key(&request.key),
                    range_end: terms.range_end(&request.range_end),
                }))
            }
        }
    }
}
