//! Users, roles and permissions: who may do what, when it counts, and that it all survives.

#![allow(clippy::unwrap_used)] // in a test a panic is the report
#![allow(clippy::needless_pass_by_value)] // a test says what it does and needs it no more

mod support;

use bytes::Bytes;
use duet_mvcc::{
    Actor, Applied, AuthCommand, AuthError, Command, Compare, CompareResult, CompareTarget, Error, KeyRange,
    MAX_AUTH_BYTES, PasswordHash, Permission, PermissionKind, PutRequest, Response, TokenSecret, TxnRequest,
    UserId,
};
use support::{Bench, bytes, delete, op_put, put, range, txn};

const SECRET: TokenSecret = TokenSecret([7; 32]);

fn hash(text: &str) -> PasswordHash {
    PasswordHash(bytes(text))
}

fn user_add(name: &str) -> AuthCommand {
    AuthCommand::UserAdd { name: name.into(), password: Some(hash("p")) }
}

fn role_add(name: &str) -> AuthCommand {
    AuthCommand::RoleAdd { name: name.into() }
}

fn give(user: &str, role: &str) -> AuthCommand {
    AuthCommand::UserGrantRole { user: user.into(), role: role.into() }
}

fn permit(role: &str, kind: PermissionKind, key: &str, end: &str) -> AuthCommand {
    let permission = Permission { kind, key: bytes(key), range_end: bytes(end) };
    AuthCommand::RoleGrantPermission { role: role.into(), permission }
}

/// A store with users, and the changes it takes.
struct Users(Bench);

impl Users {
    /// `root`, and `bob` who may do everything from a to c and read from c to e; users are on.
    fn on() -> Users {
        let mut users = Users(Bench::default());
        for command in [
            user_add("root"),
            role_add("root"),
            give("root", "root"),
            user_add("bob"),
            role_add("staff"),
            give("bob", "staff"),
            permit("staff", PermissionKind::ReadWrite, "a", "c"),
            permit("staff", PermissionKind::Read, "c", "e"),
        ] {
            users.plainly(Command::Auth(command)).result.unwrap();
        }
        users.plainly(Command::Auth(AuthCommand::Enable { secret: SECRET })).result.unwrap();
        users
    }

    fn plainly(&mut self, command: Command) -> Applied {
        self.0.apply(&command)
    }

    fn id(&self, name: &str) -> UserId {
        self.0.store.auth().id_of(name).unwrap()
    }

    fn by(&mut self, name: &str, command: Command) -> Result<Response, Error> {
        let actor = Actor::User(self.id(name));
        self.0.apply(&Command::As { actor, command: Box::new(command) }).result
    }

    fn root(&mut self, command: AuthCommand) -> Result<Response, Error> {
        self.by("root", Command::Auth(command))
    }
}

fn denied(result: Result<Response, Error>) -> bool {
    result == Err(Error::Auth(AuthError::PermissionDenied))
}

#[test]
fn a_put_needs_to_write_and_with_prev_kv_to_read() {
    let mut users = Users::on();
    assert!(users.by("bob", Command::Put(put("a", "1"))).is_ok());
    assert!(denied(users.by("bob", Command::Put(put("c", "1")))));
    users.root(permit("staff", PermissionKind::Write, "x", "")).unwrap();
    assert!(users.by("bob", Command::Put(put("x", "1"))).is_ok());
    let and_tell = PutRequest { prev_kv: true, ..put("x", "2") };
    assert!(denied(users.by("bob", Command::Put(and_tell.clone()))));
    assert!(denied(users.by("bob", Command::Txn(txn(vec![duet_mvcc::Operation::Put(and_tell)])))));
    assert!(users.by("root", Command::Put(put("anything", "1"))).is_ok());
}

#[test]
fn a_delete_needs_its_whole_range() {
    let mut users = Users::on();
    assert!(users.by("bob", Command::DeleteRange(delete("a", "c"))).is_ok());
    // No key is in it: it is asked for as its first key.
    assert!(users.by("bob", Command::DeleteRange(delete("b", "a"))).is_ok());
    for (key, end) in [("a", "d"), ("a", "\0"), ("c", ""), ("0", "b"), ("c", "a")] {
        assert!(denied(users.by("bob", Command::DeleteRange(delete(key, end)))), "{key} to {end}");
    }
}

#[test]
fn everything_in_a_transaction_is_asked_for() {
    let mut users = Users::on();
    users.by("root", Command::Put(put("s", "secret"))).unwrap();
    let compare = |key: &str| Compare {
        result: CompareResult::Equal,
        target: CompareTarget::Value(bytes("secret")),
        key: bytes(key),
        range_end: Bytes::new(),
    };
    let nested = |inner: TxnRequest| txn(vec![duet_mvcc::Operation::Txn(inner)]);
    let reads = txn(vec![op_put("a"), duet_mvcc::Operation::Range(range("s", ""))]);
    let other_branch = TxnRequest { failure: vec![op_put("s")], ..txn(vec![op_put("a")]) };
    let asks = TxnRequest { compare: vec![compare("s")], ..txn(vec![op_put("a")]) };
    for refused in [
        txn(vec![op_put("s")]),
        reads,
        other_branch,
        asks,
        txn(vec![duet_mvcc::Operation::DeleteRange(delete("s", ""))]),
    ] {
        assert!(denied(users.by("bob", Command::Txn(refused.clone()))), "{refused:?}");
        assert!(denied(users.by("bob", Command::Txn(nested(nested(refused.clone()))))), "nested {refused:?}");
        let bob = users.id("bob");
        assert_eq!(users.0.store.authorize_txn(bob, &refused), Err(AuthError::PermissionDenied));
    }
    let allowed = TxnRequest { compare: vec![compare("d")], ..nested(txn(vec![op_put("a")])) };
    assert!(users.by("bob", Command::Txn(allowed)).is_ok());
    assert_eq!(users.0.get("s").unwrap().version, 1);
}

#[test]
fn leases_are_bound_to_their_keys() {
    let mut users = Users::on();
    assert!(users.by("bob", Command::LeaseGrant { id: 7, ttl: 60 }).is_ok());
    let leased = |key: &str| Command::Put(PutRequest { lease: 7, ..put(key, "1") });
    users.by("bob", leased("a")).unwrap();
    users.by("root", leased("s")).unwrap();
    assert!(denied(users.by("bob", leased("b"))), "it would let bob's key die with a stranger's");
    assert!(denied(users.by("bob", Command::LeaseRevoke { id: 7 })));
    assert_eq!(users.by("bob", Command::LeaseRevoke { id: 8 }), Err(Error::LeaseNotFound));
    let expired = Command::As { actor: Actor::Appliance, command: Box::new(Command::LeaseRevoke { id: 7 }) };
    assert_eq!(users.plainly(expired).result, Ok(Response::LeaseRevoke));
    assert_eq!(users.0.get("s"), None);
}

#[test]
fn management_is_roots() {
    let mut users = Users::on();
    for command in [
        Command::Compact { revision: 1 },
        Command::Auth(AuthCommand::Disable),
        Command::Auth(give("bob", "root")),
        Command::Auth(user_add("eve")),
        Command::Auth(permit("staff", PermissionKind::Read, "\0", "\0")),
    ] {
        let before = users.0.store.state_digest();
        assert!(denied(users.by("bob", command.clone())), "{command:?}");
        let plainly = users.plainly(command).result;
        assert_eq!(plainly, Err(Error::Auth(AuthError::UserEmpty)), "nobody is named");
        assert_eq!(users.0.store.state_digest(), before);
    }
    for (command, error) in [
        (AuthCommand::UserDelete { name: "root".into() }, AuthError::InvalidManagement),
        (AuthCommand::RoleDelete { name: "root".into() }, AuthError::InvalidManagement),
        (
            AuthCommand::UserRevokeRole { user: "root".into(), role: "root".into() },
            AuthError::InvalidManagement,
        ),
        (user_add("bob"), AuthError::UserExists),
        (user_add(""), AuthError::UserEmpty),
        (role_add(""), AuthError::RoleEmpty),
        (role_add("staff"), AuthError::RoleExists),
        (give("bob", "nosuch"), AuthError::RoleNotFound),
        (give("nosuch", "staff"), AuthError::UserNotFound),
        (permit("staff", PermissionKind::Read, "b", "a"), AuthError::InvalidManagement),
    ] {
        assert_eq!(users.root(command), Err(Error::Auth(error)));
    }
}

#[test]
fn a_command_counts_the_permissions_at_its_own_place() {
    let mut users = Users::on();
    let bob = Actor::User(users.id("bob"));
    let late = Command::As { actor: bob, command: Box::new(Command::Put(put("a", "late"))) };
    assert!(users.plainly(late.clone()).result.is_ok());
    let revoke =
        AuthCommand::RoleRevokePermission { role: "staff".into(), key: bytes("a"), range_end: bytes("c") };
    users.root(revoke.clone()).unwrap();
    assert!(denied(users.plainly(late.clone()).result), "proposed before, applied after");
    assert_eq!(users.root(revoke), Err(Error::Auth(AuthError::PermissionNotGranted)));
    users.root(give("bob", "root")).unwrap();
    assert!(users.plainly(late.clone()).result.is_ok());
    users.root(AuthCommand::UserChangePassword { name: "bob".into(), password: hash("q") }).unwrap();
    let gone = Err(Error::Auth(AuthError::InvalidToken));
    assert_eq!(users.plainly(late.clone()).result, gone, "whoever had the old password");
    users.root(AuthCommand::UserDelete { name: "bob".into() }).unwrap();
    users.root(user_add("bob")).unwrap();
    users.root(give("bob", "root")).unwrap();
    assert_eq!(users.plainly(late.clone()).result, gone, "another user of the same name");
    users.root(AuthCommand::Disable).unwrap();
    assert!(users.plainly(late).result.is_ok(), "nobody is asked any more");
}

#[test]
fn the_auth_revision_counts_as_etcds_does() {
    let mut users = Users(Bench::default());
    assert_eq!(users.0.store.auth().revision(), 1);
    let enable = || Command::Auth(AuthCommand::Enable { secret: SECRET });
    assert_eq!(users.plainly(enable()).result, Err(Error::Auth(AuthError::RootUserMissing)));
    users.plainly(Command::Auth(user_add("root"))).result.unwrap();
    assert_eq!(users.plainly(enable()).result, Err(Error::Auth(AuthError::RootRoleMissing)));
    for (command, revision) in [
        (give("root", "root"), 3),
        (give("root", "root"), 3),
        (role_add("root"), 4),
        (AuthCommand::UserAdd { name: "nobody".into(), password: None }, 5),
        (AuthCommand::Enable { secret: SECRET }, 5),
    ] {
        let applied = users.plainly(Command::Auth(command));
        assert_eq!((applied.result, applied.revision), (Ok(Response::Auth), 1), "no revision of the keys");
        assert_eq!(users.0.store.auth().revision(), revision);
    }
    let again = AuthCommand::Enable { secret: TokenSecret([8; 32]) };
    users.root(again).unwrap();
    assert_eq!(users.0.store.auth().secret(), &SECRET, "tokens stay valid");
    users.root(AuthCommand::UserChangePassword { name: "nobody".into(), password: hash("p") }).unwrap();
    assert_eq!(users.0.store.auth().password("nobody"), Some(None), "still none to log in with");
    users.root(AuthCommand::Disable).unwrap();
    users.plainly(Command::Auth(AuthCommand::Disable)).result.unwrap();
    assert_eq!(users.0.store.auth().revision(), 7);
}

#[test]
fn users_and_roles_survive_a_restart() {
    let mut users = Users::on();
    users.root(AuthCommand::UserAdd { name: "nobody".into(), password: None }).unwrap();
    users.0.checkpoint();
    let (digest, auth) = (users.0.store.state_digest(), users.0.store.auth().clone());
    users.0.restart();
    assert_eq!(users.0.store.auth(), &auth);
    assert_eq!(users.0.store.state_digest(), digest);
    assert!(users.by("bob", Command::Put(put("a", "1"))).is_ok());
    assert!(denied(users.by("bob", Command::Put(put("s", "1")))));
    users.root(role_add("one more")).unwrap();
    assert_ne!(users.0.store.state_digest(), digest, "users and roles are part of the state");
}

#[test]
fn users_and_roles_together_are_bounded() {
    let mut users = Users::on();
    let long = "n".repeat(1 << 20);
    users.root(role_add(&long)).unwrap();
    let refused = users.root(user_add(&long));
    assert_eq!(refused, Err(Error::Auth(AuthError::TooLarge)));
    assert!(long.len() < MAX_AUTH_BYTES);
    users.root(AuthCommand::RoleDelete { name: long.clone() }).unwrap();
    assert!(users.root(user_add(&long)).is_ok());
}

mod model {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    /// What was granted, as it was said.
    #[derive(Default)]
    struct Naive {
        permissions: BTreeMap<(String, Bytes, Bytes), PermissionKind>,
        roles: BTreeSet<String>,
    }

    fn contains(start: &Bytes, end: &Bytes, key: &[u8]) -> bool {
        KeyRange::new(start.clone(), end.clone()).contains(key)
    }

    impl Naive {
        fn allows(&self, write: bool, start: &Bytes, end: &Bytes) -> bool {
            let wanted = if write { PermissionKind::Write } else { PermissionKind::Read };
            let of_bob = self.permissions.iter().filter(|((role, ..), kind)| {
                self.roles.contains(role) && (**kind == wanted || **kind == PermissionKind::ReadWrite)
            });
            let ranges: Vec<(&Bytes, &Bytes)> = of_bob.map(|((_, key, end), _)| (key, end)).collect();
            // The first key that is not covered is the first one asked for, or the first one behind some permission.
            let behind = |(key, end): &(&Bytes, &Bytes)| {
                if end.is_empty() { Bytes::from([key.as_ref(), b"\0"].concat()) } else { (*end).clone() }
            };
            let candidates = std::iter::once(start.clone()).chain(ranges.iter().map(behind));
            candidates
                .filter(|key| key == start || contains(start, end, key))
                .all(|key| ranges.iter().any(|(from, to)| contains(from, to, &key)))
        }

        fn take(&mut self, command: &AuthCommand) {
            match command {
                AuthCommand::RoleGrantPermission {
                    role,
                    permission: Permission { kind, key, range_end },
                } => {
                    self.permissions.insert((role.clone(), key.clone(), range_end.clone()), *kind);
                }
                AuthCommand::RoleRevokePermission { role, key, range_end } => {
                    self.permissions.remove(&(role.clone(), key.clone(), range_end.clone()));
                }
                AuthCommand::UserGrantRole { role, .. } => drop(self.roles.insert(role.clone())),
                AuthCommand::UserRevokeRole { role, .. } => drop(self.roles.remove(role)),
                AuthCommand::RoleDelete { name } => {
                    self.roles.remove(name);
                    self.permissions.retain(|(role, ..), _| role != name);
                }
                AuthCommand::RoleAdd { .. } => {}
                other => panic!("not generated: {other:?}"),
            }
        }
    }

    fn key() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(prop::sample::select(vec![0_u8, b'a', b'b', b'c']), 1..3).prop_map(Bytes::from)
    }

    fn end() -> impl Strategy<Value = Bytes> {
        prop_oneof![2 => Just(Bytes::new()), 1 => Just(Bytes::from_static(b"\0")), 6 => key()]
    }

    fn role() -> impl Strategy<Value = String> {
        prop::sample::select(vec!["one".to_owned(), "two".to_owned()])
    }

    fn kind() -> impl Strategy<Value = PermissionKind> {
        use PermissionKind::{Read, ReadWrite, Write};
        prop::sample::select(vec![Read, Write, ReadWrite])
    }

    fn change() -> impl Strategy<Value = AuthCommand> {
        let user = || "bob".to_owned();
        prop_oneof![
            8 => (role(), kind(), key(), end()).prop_map(|(role, kind, key, range_end)| {
                AuthCommand::RoleGrantPermission { role, permission: Permission { kind, key, range_end } }
            }),
            4 => (role(), key(), end()).prop_map(|(role, key, range_end)| {
                AuthCommand::RoleRevokePermission { role, key, range_end }
            }),
            2 => role().prop_map(move |role| AuthCommand::UserGrantRole { user: user(), role }),
            1 => role().prop_map(move |role| AuthCommand::UserRevokeRole { user: user(), role }),
            1 => role().prop_map(|name| AuthCommand::RoleDelete { name }),
            2 => role().prop_map(|name| AuthCommand::RoleAdd { name }),
        ]
    }

    /// A change, whether a restart follows, and what bob wants to do then.
    type Step = (AuthCommand, bool, Vec<(bool, Bytes, Bytes)>);

    fn step() -> impl Strategy<Value = Step> {
        (change(), any::<bool>(), prop::collection::vec((any::<bool>(), key(), end()), 6))
    }

    fn any_change() -> impl Strategy<Value = AuthCommand> {
        let password = || prop::option::of(key().prop_map(PasswordHash));
        prop_oneof![
            4 => change(),
            1 => any::<[u8; 32]>().prop_map(|secret| AuthCommand::Enable { secret: TokenSecret(secret) }),
            1 => Just(AuthCommand::Disable),
            1 => (role(), password()).prop_map(|(name, password)| AuthCommand::UserAdd { name, password }),
            1 => role().prop_map(|name| AuthCommand::UserDelete { name }),
            1 => (role(), key()).prop_map(|(name, password)| {
                AuthCommand::UserChangePassword { name, password: PasswordHash(password) }
            }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn changes_come_back(
            change in any_change(),
            user in 0..u64::MAX,
            cut in any::<prop::sample::Index>(),
            damage in any::<u8>(),
        ) {
            let actor = if user == 0 { Actor::Appliance } else { Actor::User(UserId(user)) };
            let command = Command::As { actor, command: Box::new(Command::Auth(change)) };
            let encoded = command.encode();
            prop_assert_eq!(Command::decode(&encoded), Ok(command));
            let cut = cut.index(encoded.len());
            prop_assert!(Command::decode(&encoded.slice(..cut)).is_err());
            let mut damaged = encoded.to_vec();
            damaged[cut] = damage;
            let damaged = Bytes::from(damaged);
            if let Ok(decoded) = Command::decode(&damaged) {
                prop_assert_eq!(decoded.encode(), damaged, "one command has one form");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn permissions_are_what_was_granted(steps in prop::collection::vec(step(), 1..40)) {
            let mut users = Users(Bench::default());
            for command in [user_add("root"), give("root", "root"), user_add("bob"), role_add("one"), role_add("two")] {
                users.plainly(Command::Auth(command)).result.unwrap();
            }
            users.plainly(Command::Auth(AuthCommand::Enable { secret: SECRET })).result.unwrap();
            let mut naive = Naive::default();
            for (change, restart, wishes) in steps {
                // Of a permission that exists, rather than any.
                let change = match (change, naive.permissions.keys().next().cloned()) {
                    (AuthCommand::RoleRevokePermission { .. }, Some((role, key, range_end))) => {
                        AuthCommand::RoleRevokePermission { role, key, range_end }
                    }
                    (change, _) => change,
                };
                if users.root(change.clone()).is_ok() {
                    naive.take(&change);
                }
                if restart {
                    users.0.checkpoint();
                    users.0.restart();
                }
                let bob = users.id("bob");
                for (write, key, end) in wishes {
                    let allowed = if write {
                        let delete = duet_mvcc::DeleteRangeRequest { key: key.clone(), range_end: end.clone(), prev_kv: false };
                        users.0.store.authorize(bob, &Command::DeleteRange(delete))
                    } else {
                        let range = KeyRange::new(key.clone(), end.clone());
                        users.0.store.auth().access(bob).and_then(|access| access.read(&range))
                    };
                    prop_assert_eq!(allowed.is_ok(), naive.allows(write, &key, &end), "{} {:?} {:?}", write, key, end);
                }
            }
        }
    }
}
