//! The differences that are meant, each as it is told in docs/etcd-api.md. A difference that is gone fails here.

use duet_etcd_api::authpb::permission::Type;
use duet_etcd_api::etcdserverpb as pb;
use pb::compare::{CompareResult, TargetUnion};
use pb::kv_client::KvClient;
use pb::maintenance_client::MaintenanceClient;
use pb::request_op::Request::{RequestPut, RequestRange, RequestTxn};
use tonic::Code;

use crate::harness::run;
use crate::play::{PASSWORD, Play};
use crate::requests::{all, compare, get, grant, log_in, op, put, watch};
use crate::servers::Servers;
use crate::step::{Step, refusal};
use crate::user_step::UserStep;
use crate::users;

#[test]
fn an_unknown_comparison_result_is_refused() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        let mut play = Play::begin(&servers).await;
        play.step(Step::Put(put("k", "v"))).await;
        let odd = pb::Compare { result: 9, ..compare("k", TargetUnion::Version(77), CompareResult::Equal) };
        let txn =
            pb::TxnRequest { compare: vec![odd], success: vec![op(RequestRange(get("k")))], failure: vec![] };
        let difference = play.step_differs(Step::Txn(txn)).await;
        assert!(difference.etcd.contains("succeeded: true"), "{difference}");
        assert!(difference.duet.starts_with("InvalidArgument \"duet: "), "{difference}");
        play.end().await;
    });
}

#[test]
fn an_unknown_sort_target_is_refused_and_ends_etcd() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        let odd = pb::RangeRequest { sort_target: 9, sort_order: 1, ..get("k") };
        for appliance in &servers.duet {
            let mut client = KvClient::new(appliance.clone());
            client.put(put("k", "v")).await.unwrap();
            let status = client.range(odd.clone()).await.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{}", refusal(&status));
            client.range(get("k")).await.unwrap();
        }
        let mut client = KvClient::new(servers.etcd[0].clone());
        client.put(put("k", "v")).await.unwrap();
        client.range(odd).await.unwrap_err();
        let status = client.range(get("k")).await.unwrap_err();
        // Nothing listens any more, or the connection breaks while it is tried.
        let is_gone = matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled);
        assert!(is_gone, "etcd lives on: {}", refusal(&status));
    });
}

#[test]
fn older_etcds_watch_from_negative_revisions() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        let mut play = Play::begin(&servers).await;
        play.step(Step::Watch(pb::WatchCreateRequest { start_revision: -1, ..watch("c", "") })).await;
        let (etcd, duet) = play.told();
        let refused = ["created, refused etcdserver: mvcc: required revision has been compacted".to_owned()];
        assert_eq!(duet[&-1], refused);
        // 3.4 and the first of 3.5 take it for a watch from now on.
        let taken = etcd.get(&0).is_some_and(|told| told[0] == "created ");
        assert!(taken || etcd[&-1] == refused, "{etcd:?}");
    });
}

#[test]
fn what_etcds_let_through_needs_a_user_and_a_permission() {
    run(async {
        let Some(servers) = users::start().await else { return };
        let mut play = Play::with_users(&servers).await;
        play.step(users::add("ann", PASSWORD)).await;
        play.step(users::add_role("staff")).await;
        play.step(users::give("ann", "staff")).await;
        play.step(users::permit("staff", Type::Readwrite, "k", "")).await;
        play.step(log_in("ann", PASSWORD)).await;
        play.step(grant(1, 1000)).await;
        play.step(grant(2, 1000)).await;
        play.step(Step::Put(pb::PutRequest { lease: 1, ..put("x", "v") })).await;
        let nested = Step::Txn(all([RequestTxn(all([RequestPut(put("x", "v")), RequestRange(get("k"))]))]));
        let with_lease = Step::Txn(all([RequestPut(pb::PutRequest { lease: 1, ..put("k", "v") })]));
        // From here on the two have not the same history.
        for (who, answer) in [("", users::NOBODY), ("stranger", users::BAD_TOKEN), ("ann", users::DENIED)] {
            play.step(Step::As(who)).await;
            for step in [nested.clone(), with_lease.clone(), Step::TimeToLive(1)] {
                play.step_says_here(step, answer).await;
            }
        }
        for (who, answer) in [("", users::NOBODY), ("stranger", users::BAD_TOKEN)] {
            play.step(Step::As(who)).await;
            for step in [
                grant(3, 1000),
                Step::Leases,
                Step::TimeToLive(2),
                Step::Revoke(2),
                Step::Revoke(9),
                Step::Txn(all([])),
            ] {
                play.step_says_here(step, answer).await;
            }
        }
        for nobody in play.callers("").1 {
            let list = MaintenanceClient::new(nobody).alarm(pb::AlarmRequest::default()).await;
            assert_eq!(list.err().map(|status| refusal(&status)).as_deref(), Some(users::NOBODY));
        }
        play.tidy_up().await;
    });
}

#[test]
fn a_permission_is_for_some_key_and_replaces_the_one_for_its_range() {
    run(async {
        let Some(servers) = users::start().await else { return };
        let mut play = Play::with_users(&servers).await;
        play.step(users::add_role("other")).await;
        play.step(users::permit("other", Type::Readwrite, "k", "")).await;
        play.step(users::permit("other", Type::Write, "k", "l")).await;
        play.step(users::permit("other", Type::Read, "k", "l")).await;
        // etcd looks at one permission with the same first key only, and here finds another one.
        let difference = play.step_differs(users::get_role("other")).await;
        assert!(difference.etcd.contains("perm_type: Write"), "{difference}");
        assert!(!difference.duet.contains("perm_type: Write"), "{difference}");
        for (key, range_end) in [("", ""), ("b", "a"), ("b", "b")] {
            let refused = "InvalidArgument \"etcdserver: invalid auth management\"";
            play.step_says_here(users::permit("other", Type::Read, key, range_end), refused).await;
        }
        play.tidy_up().await;
    });
}

#[test]
fn granting_no_permission_is_refused_and_ends_some_etcds() {
    run(async {
        let Some(servers) = users::start().await else { return };
        let mut play = Play::with_users(&servers).await;
        let none = UserStep::Permit { role: "staff".to_owned(), permission: None };
        let refused = "InvalidArgument \"etcdserver: permission not given\"";
        play.step_says_here(Step::Users(none), refused).await;
    });
}

#[test]
fn the_size_of_a_write_is_looked_at_before_its_token() {
    run(async {
        let Some(servers) = users::start().await else { return };
        let mut play = Play::with_users(&servers).await;
        play.step(Step::As("stranger")).await;
        let large = Step::Put(pb::PutRequest { value: vec![b'v'; 1_600_000].into(), ..put("k", "") });
        let difference = play.try_step(&large).await.unwrap_err().to_string();
        for told in ["invalid auth token", "request is too large"] {
            assert!(difference.contains(told), "not {told}");
        }
        play.tidy_up().await;
    });
}
