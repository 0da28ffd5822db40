//! Users, roles, permissions and logging in, by the simple tokens that both make if nothing else is chosen.

use duet_etcd_api::authpb::{Permission, UserAddOptions, permission::Type};
use duet_etcd_api::etcdserverpb as pb;
use duet_etcd_api::v3electionpb::election_client::ElectionClient;
use duet_etcd_api::v3electionpb::{CampaignRequest, LeaderRequest, ResignRequest};
use duet_etcd_api::v3lockpb::lock_client::LockClient;
use duet_etcd_api::v3lockpb::{LockRequest, UnlockRequest};
use pb::auth_client::AuthClient;
use pb::compare::{CompareResult, TargetUnion};
use pb::lease_client::LeaseClient;
use pb::request_op::Request::{self, RequestDeleteRange, RequestPut, RequestRange};

use tonic::Status;

use crate::caller::Caller;
use crate::harness::run;
use crate::play::{PASSWORD, Play, ROOT};
use crate::requests::{all, bytes, compact, compare, delete, get, grant, log_in, op, put, range, watch};
use crate::servers::{Servers, TARGET};
use crate::step::{Step, refusal};
use crate::user_step::UserStep;

pub const NOBODY: &str = "InvalidArgument \"etcdserver: user name is empty\"";
pub const BAD_TOKEN: &str = "Unauthenticated \"etcdserver: invalid auth token\"";
pub const DENIED: &str = "PermissionDenied \"etcdserver: permission denied\"";
const WRONG: &str = "InvalidArgument \"etcdserver: authentication failed, invalid user ID or password\"";

/// Both with passwords that are hashed quickly.
pub async fn start() -> Option<Servers> {
    Servers::start_with(&["bcrypt_cost = 4"], &["--bcrypt-cost=4"]).await
}

pub fn add(name: &str, password: &str) -> Step {
    Step::Users(UserStep::Add(pb::AuthUserAddRequest {
        name: name.to_owned(),
        password: password.to_owned(),
        ..Default::default()
    }))
}

fn change_password(name: &str, password: &str) -> Step {
    Step::Users(UserStep::ChangePassword(pb::AuthUserChangePasswordRequest {
        name: name.to_owned(),
        password: password.to_owned(),
        ..Default::default()
    }))
}

pub fn give(user: &str, role: &str) -> Step {
    Step::Users(UserStep::GrantRole { user: user.to_owned(), role: role.to_owned() })
}

fn take(user: &str, role: &str) -> Step {
    Step::Users(UserStep::RevokeRole { user: user.to_owned(), role: role.to_owned() })
}

pub fn add_role(role: &str) -> Step {
    Step::Users(UserStep::AddRole(role.to_owned()))
}

pub fn get_role(role: &str) -> Step {
    Step::Users(UserStep::GetRole(role.to_owned()))
}

pub fn permit(role: &str, kind: Type, key: &str, range_end: &str) -> Step {
    let permission = Permission { perm_type: kind.into(), key: bytes(key), range_end: bytes(range_end) };
    Step::Users(UserStep::Permit { role: role.to_owned(), permission: Some(permission) })
}

fn forbid(role: &str, key: &str, range_end: &str) -> Step {
    Step::Users(UserStep::Forbid(pb::AuthRoleRevokePermissionRequest {
        role: role.to_owned(),
        key: bytes(key),
        range_end: bytes(range_end),
    }))
}

/// Adds users without roles, and logs them in.
async fn add_and_log_in(play: &mut Play, names: &[&str]) {
    for name in names {
        play.step(add(name, PASSWORD)).await;
        play.step_says(log_in(name, PASSWORD), "aaaaaaaaaaaaaaaa.").await;
    }
}

#[test]
fn users_are_turned_on_and_off_alike() {
    run(async {
        let Some(servers) = start().await else { return };
        let mut play = Play::with_the_whole_store(&servers).await;
        let knows_status = servers.version >= TARGET;
        for round in ["no user", "no role", "ready"] {
            play.step_says(
                log_in(ROOT, PASSWORD),
                "FailedPrecondition \"etcdserver: authentication is not enabled\"",
            )
            .await;
            if knows_status {
                play.step(Step::Users(UserStep::Status)).await;
            }
            play.step(Step::Users(UserStep::Disable)).await;
            match round {
                "no user" => {
                    let refused = "FailedPrecondition \"etcdserver: root user does not exist\"";
                    play.step_says(Step::Users(UserStep::Enable), refused).await;
                    play.step(add(ROOT, PASSWORD)).await;
                }
                "no role" => {
                    let refused = "FailedPrecondition \"etcdserver: root user does not have root role\"";
                    play.step_says(Step::Users(UserStep::Enable), refused).await;
                    play.step(give(ROOT, ROOT)).await;
                }
                _ => {}
            }
        }
        // The role may be given before there is one.
        play.step_says(get_role(ROOT), "FailedPrecondition \"etcdserver: role name not found\"").await;
        play.step(add("steward", PASSWORD)).await;
        play.step(give("steward", ROOT)).await;
        play.step(Step::Users(UserStep::Enable)).await;
        play.step_says(Step::Users(UserStep::Enable), NOBODY).await;
        play.step(log_in(ROOT, PASSWORD)).await;
        play.step(Step::As(ROOT)).await;
        play.step(Step::Users(UserStep::Enable)).await;
        if knows_status {
            play.step_says(Step::Users(UserStep::Status), "enabled: true").await;
        }
        for change in [
            Step::Users(UserStep::Delete(ROOT.to_owned())),
            take(ROOT, ROOT),
            Step::Users(UserStep::DeleteRole(ROOT.to_owned())),
        ] {
            play.step_says(change, "InvalidArgument \"etcdserver: invalid auth management\"").await;
        }
        play.step(Step::Users(UserStep::Disable)).await;
        play.step_says(Step::Put(put("k", "open again")), "PutResponse").await;
        // A token ends with the users, also when they come back.
        play.step(Step::Users(UserStep::Enable)).await;
        play.step_says(Step::Put(put("k", "v")), BAD_TOKEN).await;
        play.step(log_in(ROOT, PASSWORD)).await;
        play.step(Step::As(ROOT)).await;
        play.step_says(Step::Put(put("k", "v")), "PutResponse").await;
        play.step(Step::Users(UserStep::Disable)).await;
        if knows_status {
            play.step(Step::Users(UserStep::Status)).await;
        }
        for change in [
            Step::Users(UserStep::Delete(ROOT.to_owned())),
            Step::Users(UserStep::List),
            Step::Users(UserStep::ListRoles),
        ] {
            play.step(change).await;
        }
    });
}

#[test]
fn users_and_roles_are_managed_alike() {
    run(async {
        let Some(servers) = start().await else { return };
        let mut play = Play::with_users(&servers).await;
        for step in [
            add("ann", "a"),
            add("ann", "b"),
            add("", "a"),
            add("bob", ""),
            Step::Users(UserStep::Get("nobody".to_owned())),
            Step::Users(UserStep::Delete("nobody".to_owned())),
            change_password("nobody", "p"),
            give("nobody", "staff"),
            give("ann", "staff"),
            add_role("staff"),
            add_role("staff"),
            add_role(""),
            give("ann", "staff"),
            give("ann", "staff"),
            give("nobody", "staff"),
            give("ann", ""),
            take("ann", "other"),
            take("bob", "staff"),
            take("nobody", "staff"),
            add_role("a second"),
            give("ann", "a second"),
            Step::Users(UserStep::Get("ann".to_owned())),
            Step::Users(UserStep::List),
            Step::Users(UserStep::ListRoles),
            get_role("staff"),
            get_role("nothing"),
            permit("nothing", Type::Read, "k", ""),
            permit("staff", Type::Readwrite, "k", ""),
            permit("staff", Type::Read, "k", ""),
            permit("staff", Type::Write, "m", "n"),
            permit("staff", Type::Read, "m", "n"),
            permit("staff", Type::Read, "a", "\0"),
            permit("staff", Type::Read, "0", "9"),
            get_role("staff"),
            forbid("staff", "m", "o"),
            forbid("staff", "m", "n"),
            forbid("staff", "m", "n"),
            forbid("nothing", "k", ""),
            get_role("staff"),
            Step::Users(UserStep::DeleteRole("a second".to_owned())),
            Step::Users(UserStep::DeleteRole("a second".to_owned())),
            Step::Users(UserStep::Get("ann".to_owned())),
            Step::Users(UserStep::Delete("bob".to_owned())),
            Step::Users(UserStep::List),
        ] {
            play.step(step).await;
        }
        play.end().await;
    });
}

#[test]
fn passwords_and_tokens_are_taken_alike() {
    run(async {
        let Some(servers) = start().await else { return };
        let mut play = Play::with_users(&servers).await;
        play.step(add("ann", PASSWORD)).await;
        for (name, password) in [("ann", "wrong"), ("ann", ""), ("nobody", PASSWORD), ("", ""), ("ann", "PW")]
        {
            play.step_says(log_in(name, password), WRONG).await;
        }
        // The hash of a password is the server's business.
        let hashed = pb::AuthUserAddRequest {
            name: "hash".to_owned(),
            password: PASSWORD.to_owned(),
            hashed_password: "JDJhJDA0JGFiYw==".to_owned(),
            ..Default::default()
        };
        play.step(Step::Users(UserStep::Add(hashed))).await;
        play.step_says(log_in("hash", PASSWORD), "aaaaaaaaaaaaaaaa.").await;
        let without = pb::AuthUserAddRequest {
            name: "cert".to_owned(),
            options: Some(UserAddOptions { no_password: true }),
            ..Default::default()
        };
        play.step(Step::Users(UserStep::Add(without))).await;
        for password in ["", PASSWORD] {
            play.step(log_in("cert", password)).await;
        }
        play.step(add("empty", "")).await;
        play.step(log_in("empty", "")).await;
        play.step_says(log_in("ann", PASSWORD), "aaaaaaaaaaaaaaaa.").await;
        play.step(Step::As("ann")).await;
        play.step_says(Step::Put(put("k", "v")), DENIED).await;
        play.step(Step::As(ROOT)).await;
        play.step(add_role("staff")).await;
        play.step(permit("staff", Type::Readwrite, "k", "")).await;
        play.step(give("ann", "staff")).await;
        // A role counts for a token that is older.
        play.step(Step::As("ann")).await;
        play.step_says(Step::Put(put("k", "v")), "PutResponse").await;
        play.step_says(Step::Put(put("l", "v")), DENIED).await;
        // A password does not.
        play.step(Step::As(ROOT)).await;
        play.step(change_password("ann", "new")).await;
        play.step(Step::As("ann")).await;
        play.step_says(Step::Put(put("k", "v")), BAD_TOKEN).await;
        play.step_says(log_in("ann", PASSWORD), WRONG).await;
        play.step_says(Step::Put(put("k", "v")), BAD_TOKEN).await;
        play.step(log_in("ann", "new")).await;
        play.step_says(Step::Put(put("k", "v")), "PutResponse").await;
        // Neither does a user of the same name.
        play.step(Step::As(ROOT)).await;
        play.step(Step::Users(UserStep::Delete("ann".to_owned()))).await;
        play.step(add("ann", "new")).await;
        play.step(give("ann", "staff")).await;
        play.step(Step::As("ann")).await;
        play.step_says(Step::Put(put("k", "v")), BAD_TOKEN).await;
        play.step(Step::As(ROOT)).await;
        play.step(change_password(ROOT, "new")).await;
        play.step_says(Step::Put(put("k", "v")), BAD_TOKEN).await;
        play.step(log_in(ROOT, "new")).await;
        play.step_says(Step::Put(put("k", "v")), "PutResponse").await;
        play.end().await;
    });
}

/// What a user may do who may read `r`, write `w`, and both from `b` to `c`.
fn everything_about_keys() -> Vec<Step> {
    let mut steps = Vec::new();
    for (key, range_end) in [
        ("r", ""),
        ("w", ""),
        ("b", ""),
        ("bz", ""),
        ("b", "c"),
        ("b", "d"),
        ("a", "\0"),
        ("b", "\0"),
        ("x", ""),
        ("", ""),
    ] {
        steps.push(Step::Range(range(key, range_end)));
        steps.push(Step::Range(pb::RangeRequest { serializable: true, ..range(key, range_end) }));
        steps.push(Step::Delete(delete(key, range_end)));
        steps.push(Step::Delete(pb::DeleteRangeRequest { prev_kv: false, ..delete(key, range_end) }));
        steps.push(Step::Watch(watch(key, range_end)));
    }
    for key in ["r", "w", "b", "x"] {
        steps.push(Step::Put(put(key, "v")));
        steps.push(Step::Put(pb::PutRequest { prev_kv: true, ..put(key, "v") }));
        steps.push(Step::Put(pb::PutRequest { ignore_value: true, ..put(key, "") }));
        steps.push(Step::Put(pb::PutRequest { lease: 9, ..put(key, "no lease") }));
        for request in
            [RequestRange(get(key)), RequestPut(put(key, "v")), RequestDeleteRange(delete(key, ""))]
        {
            steps.push(Step::Txn(all([request.clone()])));
            steps
                .push(Step::Txn(pb::TxnRequest { failure: vec![op(request.clone())], ..Default::default() }));
            steps.push(Step::Txn(all([RequestRange(get("r")), request])));
        }
        let asked = compare(key, TargetUnion::Version(0), CompareResult::Equal);
        let txn = |request: Request| pb::TxnRequest {
            compare: vec![asked.clone()],
            success: vec![op(request)],
            ..Default::default()
        };
        steps.push(Step::Txn(txn(RequestPut(put("w", "v")))));
        steps.push(Step::Txn(txn(RequestRange(get("r")))));
        steps.push(Step::Txn(pb::TxnRequest { compare: vec![asked], ..Default::default() }));
    }
    steps
}

#[test]
fn requests_are_permitted_alike() {
    run(async {
        let Some(servers) = start().await else { return };
        let mut play = Play::with_users(&servers).await;
        add_and_log_in(&mut play, &["ann", "idle"]).await;
        play.step(add_role("staff")).await;
        play.step(give("ann", "staff")).await;
        play.step(permit("staff", Type::Read, "r", "")).await;
        play.step(permit("staff", Type::Write, "w", "")).await;
        // Two that together are one.
        play.step(permit("staff", Type::Readwrite, "b", "bm")).await;
        play.step(add_role("other")).await;
        play.step(give("ann", "other")).await;
        play.step(permit("staff", Type::Readwrite, "bm", "c")).await;
        play.step(permit("other", Type::Read, "c", "ca")).await;
        for (who, answer) in
            [("", NOBODY), ("stranger", BAD_TOKEN), ("idle", DENIED), ("ann", "Response"), (ROOT, "Response")]
        {
            play.step(Step::As(who)).await;
            play.step_says(Step::Put(put("w", "v")), answer).await;
            for step in everything_about_keys() {
                if servers.is_early() && matches!(step, Step::Watch(_)) {
                    continue;
                }
                play.step(step).await;
            }
            play.settle().await;
        }
        play.end().await;
    });
}

#[test]
fn leases_and_compactions_are_permitted_alike() {
    run(async {
        let Some(servers) = start().await else { return };
        let mut play = Play::with_users(&servers).await;
        add_and_log_in(&mut play, &["ann", "bob"]).await;
        for (role, key) in [("a", "ann/"), ("b", "bob/")] {
            play.step(add_role(role)).await;
            play.step(permit(role, Type::Readwrite, key, key.replace('/', "0").as_str())).await;
        }
        play.step(give("ann", "a")).await;
        play.step(give("bob", "b")).await;
        for (who, id) in [("ann", 1), ("bob", 2)] {
            play.step(Step::As(who)).await;
            play.step(grant(id, 1000)).await;
            play.step_says(
                Step::Put(pb::PutRequest { lease: id, ..put(&format!("{who}/1"), "v") }),
                "PutResponse",
            )
            .await;
        }
        for who in ["", "stranger", "ann"] {
            play.step(Step::As(who)).await;
            play.step(Step::KeepAlive(2)).await;
            // Who may not write the lease's other keys hangs none on it, and does not revoke it.
            play.step(Step::Put(pb::PutRequest { lease: 2, ..put("ann/2", "v") })).await;
            play.step(Step::Revoke(2)).await;
            // Not at the first revision: whether it is compacted already is asked first by some.
            play.step(Step::Put(put("ann/3", "v"))).await;
        }
        play.step_says(Step::Revoke(2), DENIED).await;
        play.step_says(Step::Revoke(7), "NotFound").await;
        play.step_says(Step::Revoke(1), "LeaseRevokeResponse").await;
        for (who, answer) in [("", NOBODY), ("stranger", BAD_TOKEN)] {
            play.step(Step::As(who)).await;
            play.step_says(Step::Revoke(2), answer).await;
        }
        if servers.version >= TARGET && !servers.is_early() {
            for (who, answer) in [("", NOBODY), ("stranger", BAD_TOKEN), ("ann", DENIED)] {
                play.step(Step::As(who)).await;
                play.step_says(compact(1), answer).await;
            }
        }
        play.step(Step::As(ROOT)).await;
        play.step_says(compact(1), "CompactionResponse").await;
        play.step(Step::Revoke(2)).await;
        play.step(Step::Leases).await;
        play.end().await;
    });
}

/// Users may look at themselves and at their roles; everything else is root's.
#[test]
fn management_is_permitted_alike() {
    run(async {
        let Some(servers) = start().await else { return };
        let mut play = Play::with_users(&servers).await;
        add_and_log_in(&mut play, &["ann"]).await;
        play.step(add_role("staff")).await;
        play.step(add_role("other")).await;
        play.step(give("ann", "staff")).await;
        for who in ["", "stranger", "ann", ROOT] {
            play.step(Step::As(who)).await;
            for step in [
                Step::Users(UserStep::Enable),
                Step::Users(UserStep::Get("ann".to_owned())),
                Step::Users(UserStep::Get(ROOT.to_owned())),
                Step::Users(UserStep::Get("nobody".to_owned())),
                Step::Users(UserStep::List),
                get_role("staff"),
                get_role("other"),
                get_role("nothing"),
                Step::Users(UserStep::ListRoles),
                add("ann", "x"),
                add("", "x"),
                change_password("nobody", "x"),
                give("ann", "nothing"),
                take("ann", "nothing"),
                Step::Users(UserStep::Delete("nobody".to_owned())),
                add_role("staff"),
                Step::Users(UserStep::DeleteRole("nothing".to_owned())),
                permit("nothing", Type::Read, "k", ""),
                forbid("nothing", "k", ""),
                forbid("staff", "k", ""),
            ] {
                play.step(step).await;
            }
        }
        for who in ["", "stranger", "ann"] {
            play.step(Step::As(who)).await;
            let said = play.step(Step::Users(UserStep::Disable)).await;
            assert!(!said.contains("Response"), "{who}: {said}");
        }
        play.end().await;
    });
}

/// A watch is asked when it is taken up; what is taken away later does not end it.
#[test]
fn a_running_watch_keeps_what_it_had() {
    run(async {
        let Some(servers) = start().await else { return };
        let mut play = Play::with_users(&servers).await;
        add_and_log_in(&mut play, &["ann"]).await;
        play.step(add_role("staff")).await;
        play.step(give("ann", "staff")).await;
        play.step(permit("staff", Type::Readwrite, "k", "l")).await;
        play.step(Step::As("ann")).await;
        play.step(Step::Watch(watch("k", "l"))).await;
        play.step(Step::Put(put("k1", "1"))).await;
        play.step(Step::As(ROOT)).await;
        play.step(forbid("staff", "k", "l")).await;
        play.step(Step::Put(put("k1", "2"))).await;
        play.step(Step::As("ann")).await;
        if !servers.is_early() {
            play.step(Step::Watch(watch("k", "l"))).await;
        }
        play.step_says(Step::Put(put("k1", "3")), DENIED).await;
        play.step(Step::As(ROOT)).await;
        play.step(change_password("ann", "new")).await;
        play.step(Step::Put(put("k1", "4"))).await;
        play.step(Step::Users(UserStep::Delete("ann".to_owned()))).await;
        play.step(Step::Put(put("k1", "5"))).await;
        let told = play.settle().await;
        let values = told.values().flatten().filter(|line| line.contains("value: ")).count();
        assert_eq!(values, 4, "{told:#?}");
        play.end().await;
    });
}

/// How a call ended, in words.
fn ended<T>(answer: Result<T, Status>) -> String {
    answer.err().map_or("done".to_owned(), |status| refusal(&status))
}

/// What becomes of a lock and of an election, each with a lease that there is.
async fn lock_and_lead(caller: Caller) -> [String; 5] {
    let mut locks = LockClient::new(caller.clone());
    let locked = locks.lock(LockRequest { name: bytes("jobs"), lease: 7 }).await;
    let key = locked.as_ref().map_or(bytes("jobs/7"), |locked| locked.get_ref().key.clone());
    let unlocked = locks.unlock(UnlockRequest { key }).await;
    let mut elections = ElectionClient::new(caller);
    let campaign = CampaignRequest { name: bytes("boss"), lease: 7, value: bytes("v") };
    let elected = elections.campaign(campaign).await;
    let leader = elections.leader(LeaderRequest { name: bytes("boss") }).await;
    let key = elected.as_ref().ok().and_then(|elected| elected.get_ref().leader.clone());
    let resigned = elections.resign(ResignRequest { leader: key }).await;
    [ended(locked), ended(unlocked), ended(elected), ended(leader), ended(resigned)]
}

#[test]
fn locks_and_elections_are_permitted_alike() {
    run(async {
        let Some(servers) = start().await else { return };
        let mut play = Play::with_users(&servers).await;
        add_and_log_in(&mut play, &["ann", "bob"]).await;
        play.step(add_role("staff")).await;
        play.step(give("ann", "staff")).await;
        for (key, range_end) in [("jobs/", "jobs0"), ("boss/", "boss0")] {
            // Not below the sequence's own prefix.
            let permission = Permission {
                perm_type: Type::Readwrite.into(),
                key: bytes(key),
                range_end: bytes(range_end),
            };
            for callers in <[_; 2]>::from(play.callers(ROOT)) {
                let request = pb::AuthRoleGrantPermissionRequest {
                    name: "staff".to_owned(),
                    perm: Some(permission.clone()),
                };
                AuthClient::new(callers[0].clone()).role_grant_permission(request).await.unwrap();
            }
        }
        for callers in <[_; 2]>::from(play.callers(ROOT)) {
            let request = pb::LeaseGrantRequest { ttl: 600, id: 7 };
            LeaseClient::new(callers[0].clone()).lease_grant(request).await.unwrap();
        }
        for who in ["", "bob", "ann", ROOT] {
            let (etcd, duet) = play.callers(who);
            let said = lock_and_lead(etcd[0].clone()).await;
            assert_eq!(
                said.iter().all(|said| said == "done"),
                ["ann", ROOT].contains(&who),
                "{who}: {said:?}"
            );
            for caller in duet {
                assert_eq!(lock_and_lead(caller).await, said, "{who}");
            }
        }
        play.tidy_up().await;
    });
}
