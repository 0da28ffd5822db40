//! Random sequences with users: changes of users, roles and permissions among requests of any kind, by whoever has
//! logged in before.
//!
//! Left out is what no user is asked for in some or all versions of etcd (see `differences`): leases, transactions in
//! transactions, requests that name no key; and ranges that end before they begin.

use duet_etcd_api::authpb::Permission;
use duet_etcd_api::etcdserverpb as pb;
use pb::request_op::Request;
use prost::Message;

use crate::generate::Generator;
use crate::play::ROOT;
use crate::step::Step;
use crate::user_step::UserStep;

const USERS: [&str; 3] = ["ann", "bob", ROOT];
const ROLES: [&str; 3] = ["staff", "guest", ROOT];
const PASSWORDS: [&str; 2] = ["pw", "other"];

/// No two with the same first key: of those etcd keeps some twice.
const RANGES: [(&str, &str); 6] =
    [("a", "b"), ("a/", "a0"), ("b", ""), ("b\0", "\0"), ("c", "zz"), ("zz", "")];

/// The sequence of a seed, for a `Play::with_users`.
pub fn sequence(seed: u64) -> Vec<Step> {
    let mut generator = Generator::new(seed);
    let length = generator.random.within(30..80);
    // Something to begin with; the steps take it apart again.
    let mut steps = Vec::new();
    for (user, role) in [("ann", "staff"), ("bob", "guest")] {
        let request = pb::AuthUserAddRequest {
            name: user.to_owned(),
            password: PASSWORDS[0].to_owned(),
            ..Default::default()
        };
        steps.push(Step::Users(UserStep::Add(request)));
        steps.push(Step::Users(UserStep::AddRole(role.to_owned())));
        steps.push(Step::Users(generator.permit(role)));
        steps.push(Step::Users(UserStep::GrantRole { user: user.to_owned(), role: role.to_owned() }));
        steps.push(generator.log_in(user));
    }
    steps.extend((0..length).map(|_| generator.users_step()));
    steps
}

/// Whether a range ends before it begins. What etcd then asks for depends on the shape of the tree that it keeps a user's
/// permissions in.
fn is_backward(key: &[u8], end: &[u8]) -> bool {
    !end.is_empty() && end != b"\0" && end <= key
}

fn goes_backward(operation: &pb::RequestOp) -> bool {
    match &operation.request {
        Some(Request::RequestRange(range)) => is_backward(&range.key, &range.range_end),
        Some(Request::RequestDeleteRange(delete)) => is_backward(&delete.key, &delete.range_end),
        _ => false,
    }
}

/// Larger requests are refused for that, or for their token: see `differences`.
const SMALL_BYTES: usize = 1_000_000;

/// Whether all versions ask the same before they do it.
fn is_asked_alike(step: &Step) -> bool {
    match step {
        Step::Put(put) => put.encoded_len() < SMALL_BYTES,
        Step::Range(range) => !is_backward(&range.key, &range.range_end),
        Step::Delete(delete) => !is_backward(&delete.key, &delete.range_end),
        Step::Watch(watch) => !is_backward(&watch.key, &watch.range_end),
        Step::Grant(_) | Step::Revoke(_) | Step::Leases | Step::TimeToLive(_) | Step::Compact(_) => false,
        Step::Txn(request) => {
            let mut operations = request.success.iter().chain(&request.failure);
            let odd = operations.any(|operation| {
                matches!(operation.request, Some(Request::RequestTxn(_))) || goes_backward(operation)
            });
            let odd =
                odd || request.compare.iter().any(|compare| is_backward(&compare.key, &compare.range_end));
            let names_no_key =
                request.compare.is_empty() && request.success.is_empty() && request.failure.is_empty();
            !odd && !names_no_key && request.encoded_len() < SMALL_BYTES
        }
        _ => true,
    }
}

impl Generator {
    fn users_step(&mut self) -> Step {
        match self.random.within(0..100) {
            0..55 => loop {
                let step = self.step();
                if is_asked_alike(&step) {
                    return step;
                }
            },
            55..72 => Step::As(self.random.pick(&["", "stranger", "ann", "ann", "bob", "bob", ROOT, ROOT])),
            72..82 => {
                let name = self.user();
                self.log_in(&name)
            }
            _ => Step::Users(self.change()),
        }
    }

    fn user(&mut self) -> String {
        self.random.pick(&USERS).to_owned()
    }

    fn role(&mut self) -> String {
        self.random.pick(&ROLES).to_owned()
    }

    fn log_in(&mut self, name: &str) -> Step {
        let password = if self.random.percent(80) { PASSWORDS[0] } else { PASSWORDS[1] };
        Step::LogIn(pb::AuthenticateRequest { name: name.to_owned(), password: password.to_owned() })
    }

    fn permit(&mut self, role: &str) -> UserStep {
        let (key, range_end) = self.random.pick(&RANGES);
        let permission = Permission {
            perm_type: self.random.pick(&[0, 1, 2, 2]),
            key: key.into(),
            range_end: range_end.into(),
        };
        UserStep::Permit { role: role.to_owned(), permission: Some(permission) }
    }

    fn change(&mut self) -> UserStep {
        let password = self.random.pick(&PASSWORDS).to_owned();
        match self.random.within(0..16) {
            0 => UserStep::Enable,
            1 => UserStep::Disable,
            2 => UserStep::Add(pb::AuthUserAddRequest { name: self.user(), password, ..Default::default() }),
            3 => UserStep::Get(self.user()),
            4 => UserStep::List,
            5 => UserStep::Delete(self.user()),
            6 => UserStep::ChangePassword(pb::AuthUserChangePasswordRequest {
                name: self.user(),
                password,
                ..Default::default()
            }),
            7 | 8 => UserStep::GrantRole { user: self.user(), role: self.role() },
            9 => UserStep::RevokeRole { user: self.user(), role: self.role() },
            10 => UserStep::AddRole(self.role()),
            11 => UserStep::GetRole(self.role()),
            12 => UserStep::ListRoles,
            13 => UserStep::DeleteRole(self.role()),
            14 => {
                let role = self.role();
                self.permit(&role)
            }
            _ => {
                let (key, range_end) = self.random.pick(&RANGES);
                UserStep::Forbid(pb::AuthRoleRevokePermissionRequest {
                    role: self.role(),
                    key: key.into(),
                    range_end: range_end.into(),
                })
            }
        }
    }
}
