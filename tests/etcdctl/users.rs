//! Users on a pair: the same answers at both appliances, commands that go on through handovers, and tokens that outlive the
//! appliance that made them.

use bytes::Bytes;
use duet_etcd_api::etcdserverpb as pb;
use duet_etcd_api::etcdserverpb::auth_client::AuthClient;
use duet_etcd_api::etcdserverpb::cluster_client::ClusterClient;
use duet_etcd_api::etcdserverpb::watch_client::WatchClient;
use duet_protocol::ApplianceId;
use pb::watch_request::RequestUnion;
use tonic::{Code, Request, Status};

use crate::handover::{Loop, check};
use crate::harness::{A, B, Pair, Witness, run};
use crate::tool::{Etcdctl, is_installed};

/// A request with a token, if there is one.
fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if !token.is_empty() {
        request.metadata_mut().insert("token", token.parse().unwrap());
    }
    request
}

fn code<T>(answer: Result<T, Status>) -> (Code, String) {
    answer.err().map_or((Code::Ok, String::new()), |status| (status.code(), status.message().to_owned()))
}

fn auth(pair: &Pair, at: ApplianceId) -> AuthClient<tonic::transport::Channel> {
    AuthClient::new(pair.client(at).channel())
}

async fn log_in(pair: &Pair, at: ApplianceId, name: &str, password: &str) -> Result<String, Status> {
    let request = pb::AuthenticateRequest { name: name.into(), password: password.into() };
    Ok(auth(pair, at).authenticate(request).await?.into_inner().token)
}

async fn put(pair: &Pair, at: ApplianceId, token: &str, key: &'static str) -> (Code, String) {
    let request = pb::PutRequest { key: Bytes::from_static(key.as_bytes()), ..Default::default() };
    code(pair.client(at).kv().put(with(token, request)).await)
}

async fn get(
    pair: &Pair,
    at: ApplianceId,
    token: &str,
    key: &'static str,
    serializable: bool,
) -> (Code, String) {
    let key = Bytes::from_static(key.as_bytes());
    let request = pb::RangeRequest { key, serializable, ..Default::default() };
    code(pair.client(at).kv().range(with(token, request)).await)
}

/// A pair whose users log in quickly.
async fn start() -> Pair {
    let mut pair = Pair::lay_out(Witness::Server).await;
    pair.configure("bcrypt_cost = 4");
    pair.start_new().await;
    pair
}

/// `root`, and `bob` who may do everything with keys that begin with one of `prefixes`.
async fn turn_on_users(pair: &Pair, prefixes: &[&'static str]) {
    let mut auth = auth(pair, A);
    for name in ["root", "bob"] {
        let request =
            pb::AuthUserAddRequest { name: name.into(), password: "pw".into(), ..Default::default() };
        auth.user_add(request).await.unwrap();
    }
    for name in ["root", "staff"] {
        auth.role_add(pb::AuthRoleAddRequest { name: name.into() }).await.unwrap();
    }
    for (user, role) in [("root", "root"), ("bob", "staff")] {
        let request = pb::AuthUserGrantRoleRequest { user: user.into(), role: role.into() };
        auth.user_grant_role(request).await.unwrap();
    }
    for prefix in prefixes {
        let permission = duet_etcd_api::authpb::Permission {
            perm_type: duet_etcd_api::authpb::permission::Type::Readwrite.into(),
            key: Bytes::from_static(prefix.as_bytes()),
            range_end: Bytes::from(format!("{}0", prefix.trim_end_matches('/'))),
        };
        let request = pb::AuthRoleGrantPermissionRequest { name: "staff".into(), perm: Some(permission) };
        auth.role_grant_permission(request).await.unwrap();
    }
    auth.auth_enable(pb::AuthEnableRequest {}).await.unwrap();
    // What an appliance answers by itself follows as soon as it has applied it.
    for at in [A, B] {
        let refused = async || (get(pair, at, "", "any", true).await.0 != Code::Ok).then_some(());
        pair.until("users are on at both", refused).await;
    }
}

const NO_USER: (Code, &str) = (Code::InvalidArgument, "etcdserver: user name is empty");
const DENIED: (Code, &str) = (Code::PermissionDenied, "etcdserver: permission denied");
const BAD_TOKEN: (Code, &str) = (Code::Unauthenticated, "etcdserver: invalid auth token");

#[track_caller]
#[allow(clippy::needless_pass_by_value)] // what comes straight from a call
fn same(seen: (Code, String), expected: (Code, &str), what: &str) {
    assert_eq!((seen.0, seen.1.as_str()), expected, "{what}");
}

#[test]
fn commands_of_a_user_succeed_through_switchovers() {
    run(async {
        if !is_installed() {
            return;
        }
        let mut pair = start().await;
        turn_on_users(&pair, &["at-a/", "at-b/"]).await;
        let [at_a, at_b] = [A, B].map(|appliance| Etcdctl::new(&[pair.client_url(appliance)]).by("bob:pw"));
        let (first, second) = (Loop::start(at_a.clone(), "at-a"), Loop::start(at_b.clone(), "at-b"));
        for (from, to) in [(A, B), (B, A)] {
            first.goes_on(&pair).await;
            second.goes_on(&pair).await;
            pair.order(from, "switchover").await.unwrap();
            pair.until_primary(to).await;
            pair.until_in_sync().await;
        }
        first.goes_on(&pair).await;
        second.goes_on(&pair).await;
        let (in_a, in_b) = (first.stop().await, second.stop().await);
        check(&at_b, "at-a", in_a).await;
        check(&at_a, "at-b", in_b).await;
        // Nobody else got in meanwhile, and the one who is primary next knows it too.
        pair.soft_stop(A).await;
        let refused = at_b.run(&["put", "elsewhere", "x"]).await.error();
        assert!(refused.contains("etcdserver: permission denied"), "{refused}");
        let nobody = Etcdctl::new(&[pair.client_url(B)]).run(&["get", "at-a/"]).await.error();
        assert!(nobody.contains("etcdserver: user name is empty"), "{nobody}");
    });
}

#[test]
fn a_token_outlives_its_appliance_and_ends_with_its_password() {
    run(async {
        let mut pair = start().await;
        turn_on_users(&pair, &["k/"]).await;
        let token = log_in(&pair, A, "bob", "pw").await.unwrap();
        let (letters, number) = token.split_once('.').unwrap();
        assert!(letters.len() == 16 && letters.bytes().all(|byte| byte.is_ascii_alphabetic()), "{token}");
        assert!(number.bytes().all(|byte| byte.is_ascii_digit()), "{token}");
        for at in [A, B] {
            assert_eq!(put(&pair, at, &token, "k/1").await.0, Code::Ok);
            assert_eq!(get(&pair, at, &token, "k/1", true).await.0, Code::Ok);
            same(put(&pair, at, &token, "l").await, DENIED, "outside");
        }
        let root = log_in(&pair, B, "root", "pw").await.unwrap();
        pair.crash(A).await;
        pair.until_primary(B).await;
        assert_eq!(put(&pair, B, &token, "k/2").await.0, Code::Ok, "the other one made the token");
        let request = pb::AuthUserChangePasswordRequest {
            name: "bob".into(),
            password: "new".into(),
            ..Default::default()
        };
        auth(&pair, B).user_change_password(with(&root, request)).await.unwrap();
        same(put(&pair, B, &token, "k/3").await, BAD_TOKEN, "another password");
        pair.start_appliance(A).await;
        pair.until_in_sync().await;
        same(put(&pair, A, &token, "k/3").await, BAD_TOKEN, "at the one that made it");
        let wrong = (Code::InvalidArgument, "etcdserver: authentication failed, invalid user ID or password");
        same(code(log_in(&pair, A, "bob", "pw").await), wrong, "the old password");
        let token = log_in(&pair, A, "bob", "new").await.unwrap();
        assert_eq!(put(&pair, B, &token, "k/3").await.0, Code::Ok);
        assert_eq!(put(&pair, A, &root, "anything").await.0, Code::Ok, "its password is the same");
        auth(&pair, A).auth_disable(with(&root, pb::AuthDisableRequest {})).await.unwrap();
        assert_eq!(put(&pair, B, "", "anything").await.0, Code::Ok);
        assert_eq!(put(&pair, B, &token, "anything").await.0, Code::Ok, "a token is not looked at");
        auth(&pair, B).auth_enable(pb::AuthEnableRequest {}).await.unwrap();
        same(put(&pair, B, &token, "k/4").await, BAD_TOKEN, "from before users were off");
    });
}

#[test]
fn a_full_copy_brings_the_users_along() {
    run(async {
        let mut pair = Pair::lay_out(Witness::Server).await;
        pair.configure("retain_entries = 10");
        pair.configure("bcrypt_cost = 4");
        pair.start_new().await;
        turn_on_users(&pair, &["k/"]).await;
        let token = log_in(&pair, A, "bob", "pw").await.unwrap();
        pair.soft_stop(B).await;
        pair.until_primary(A).await;
        std::fs::remove_dir_all(pair.data(B)).unwrap();
        for _ in 0..3 {
            assert_eq!(put(&pair, A, &token, "k/1").await.0, Code::Ok);
        }
        pair.start_appliance(B).await;
        pair.until_in_sync().await;
        let denied =
            async || (get(&pair, B, &token, "s", true).await.0 == Code::PermissionDenied).then_some(());
        pair.until("B knows the users by itself", denied).await;
        assert_eq!(get(&pair, B, &token, "k/1", true).await.0, Code::Ok);
        pair.soft_stop(A).await;
        pair.until_primary(B).await;
        assert_eq!(put(&pair, B, &token, "k/1").await.0, Code::Ok);
        same(put(&pair, B, &token, "s").await, DENIED, "after the handover");
    });
}

/// Opens a watch, and gives its first answer.
async fn first_of_watch(pair: &Pair, at: ApplianceId, token: &str, key: &'static str) -> pb::WatchResponse {
    let request = pb::WatchCreateRequest { key: Bytes::from_static(key.as_bytes()), ..Default::default() };
    let (requests, receiver) = tokio::sync::mpsc::channel(1);
    let create = RequestUnion::CreateRequest(request);
    requests.send(pb::WatchRequest { request_union: Some(create) }).await.unwrap();
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut client = WatchClient::new(pair.client(at).channel());
    let mut answers = client.watch(with(token, stream)).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap()
}

#[test]
fn both_answer_as_etcd_does_to_whoever_asks() {
    run(async {
        let pair = start().await;
        let disabled = (Code::FailedPrecondition, "etcdserver: authentication is not enabled");
        same(code(log_in(&pair, B, "root", "pw").await), disabled, "off");
        turn_on_users(&pair, &["k/"]).await;
        let bob = log_in(&pair, B, "bob", "pw").await.unwrap();
        let root = log_in(&pair, A, "root", "pw").await.unwrap();
        let blunt = |text| (Code::Unknown, text);
        for at in [A, B] {
            for (token, answer) in [("", NO_USER), ("bad", BAD_TOKEN), ("AAAAAAAAAAAAAAAA.7", BAD_TOKEN)] {
                same(put(&pair, at, token, "k/1").await, answer, "put");
                same(get(&pair, at, token, "k/1", false).await, answer, "linearizable");
                same(get(&pair, at, token, "k/1", true).await, answer, "serializable");
            }
            let mut authorization =
                Request::new(pb::RangeRequest { key: Bytes::from_static(b"k/1"), ..Default::default() });
            authorization.metadata_mut().insert("authorization", bob.parse().unwrap());
            assert_eq!(code(pair.client(at).kv().range(authorization).await).0, Code::Ok);
            let mut maintenance = pair.client(at).maintenance();
            let mut members = ClusterClient::new(pair.client(at).channel());
            let mut auth = auth(&pair, at);
            for (token, plain, bluntly) in [
                ("", NO_USER, blunt("auth: user name is empty")),
                (bob.as_str(), DENIED, blunt("auth: permission denied")),
            ] {
                same(code(maintenance.status(with(token, pb::StatusRequest {})).await), plain, "status");
                let hash = pb::HashKvRequest { revision: 0 };
                same(code(maintenance.hash_kv(with(token, hash)).await), bluntly, "hash");
                same(
                    code(maintenance.defragment(with(token, pb::DefragmentRequest {})).await),
                    bluntly,
                    "defragment",
                );
                same(
                    code(maintenance.snapshot(with(token, pb::SnapshotRequest {})).await),
                    bluntly,
                    "snapshot",
                );
                same(
                    code(auth.auth_status(with(token, pb::AuthStatusRequest {})).await),
                    plain,
                    "auth status",
                );
                same(code(auth.user_list(with(token, pb::AuthUserListRequest {})).await), plain, "user list");
                let compact = pb::CompactionRequest { revision: 1, physical: false };
                same(code(pair.client(at).kv().compact(with(token, compact)).await), plain, "compact");
                let remove = pb::MemberRemoveRequest { id: 1 };
                same(code(members.member_remove(with(token, remove)).await), plain, "member remove");
                let (status, text) = plain;
                let watch = first_of_watch(&pair, at, token, "s").await;
                assert_eq!((watch.watch_id, watch.created, watch.canceled), (-1, true, true));
                assert_eq!(watch.cancel_reason, format!("rpc error: code = {status:?} desc = {text}"));
            }
            let list = pb::MemberListRequest { linearizable: true };
            same(code(members.member_list(with("", list)).await), NO_USER, "member list");
            assert_eq!(code(members.member_list(with(&bob, list)).await).0, Code::Ok);
            let grant = pb::LeaseGrantRequest { ttl: 60, id: 0 };
            assert_eq!(code(pair.client(at).lease().lease_grant(with(&bob, grant)).await).0, Code::Ok);
            assert!(!first_of_watch(&pair, at, &bob, "k/1").await.canceled);
            let status = auth.auth_status(with(&root, pb::AuthStatusRequest {})).await.unwrap().into_inner();
            assert!(status.enabled);
            assert_eq!(code(maintenance.status(with(&root, pb::StatusRequest {})).await).0, Code::Ok);
        }
    });
}

/// JSON web tokens with a secret that both appliances have: good at both and after a failover, gone with the password.
#[test]
fn a_json_web_token_outlives_the_appliance_that_made_it() {
    run(async {
        let mut pair = Pair::lay_out(Witness::Server).await;
        let secret = pair.dir().join("secret");
        std::fs::write(&secret, "known to both appliances").unwrap();
        pair.configure("bcrypt_cost = 4");
        pair.configure(&format!(
            "auth_token = \"jwt,priv-key={},sign-method=HS256,ttl=10m\"",
            secret.display()
        ));
        pair.start_new().await;
        turn_on_users(&pair, &["bob/"]).await;
        let token = log_in(&pair, B, "bob", "pw").await.unwrap();
        assert_eq!(token.split('.').count(), 3, "{token}");
        for at in [A, B] {
            same(put(&pair, at, &token, "bob/1").await, (Code::Ok, ""), "his own key");
            same(put(&pair, at, &token, "other").await, DENIED, "another one's key");
            let (head, signature) = token.rsplit_once('.').unwrap();
            let forged = format!("{head}.{}", signature.chars().rev().collect::<String>());
            same(put(&pair, at, &forged, "bob/1").await, BAD_TOKEN, "a forged one");
        }
        pair.until_paired().await;
        pair.crash(A).await;
        pair.until_primary(B).await;
        same(put(&pair, B, &token, "bob/2").await, (Code::Ok, ""), "after a failover");
        let root = log_in(&pair, B, "root", "pw").await.unwrap();
        let change = pb::AuthUserChangePasswordRequest {
            name: "bob".into(),
            password: "new".into(),
            ..Default::default()
        };
        auth(&pair, B).user_change_password(with(&root, change)).await.unwrap();
        same(put(&pair, B, &token, "bob/3").await, BAD_TOKEN, "the password was changed");
    });
}
