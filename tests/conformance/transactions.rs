//! Transactions: comparisons, nesting, what they refuse, and that a refused one changes nothing.

use duet_etcd_api::etcdserverpb as pb;
use pb::compare::{CompareResult, TargetUnion};
use pb::request_op::Request::{RequestDeleteRange, RequestPut, RequestRange, RequestTxn};

use crate::harness::run;
use crate::play::Play;
use crate::requests::{all, compare, delete, get, op, put, puts, range};
use crate::servers::Servers;
use crate::step::Step;

const RESULTS: [CompareResult; 4] =
    [CompareResult::Equal, CompareResult::Greater, CompareResult::Less, CompareResult::NotEqual];

fn with(compare: pb::Compare) -> Step {
    Step::Txn(pb::TxnRequest {
        compare: vec![compare],
        success: vec![op(RequestRange(get("k")))],
        failure: vec![op(RequestRange(get("none")))],
    })
}

#[test]
fn every_comparison_of_every_target() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        let mut play = Play::begin(&servers).await;
        play.step(crate::requests::grant(1, 100)).await;
        play.step(Step::Put(put("k", "m"))).await;
        play.step(Step::Put(pb::PutRequest { lease: 1, ..put("k", "n") })).await;
        play.step(Step::Put(put("l", "m"))).await;
        for key in ["k", "none"] {
            for result in RESULTS {
                for number in [-1, 0, 1, 2, 3] {
                    for target in [
                        TargetUnion::Version(number),
                        TargetUnion::CreateRevision(number),
                        TargetUnion::ModRevision(number),
                        TargetUnion::Lease(number),
                    ] {
                        play.step(with(compare(key, target, result))).await;
                    }
                }
                for value in ["", "m", "n", "nn"] {
                    play.step(with(compare(key, TargetUnion::Value(value.into()), result))).await;
                }
            }
        }
        play.end().await;
    });
}

#[test]
fn comparisons_of_ranges_and_odd_comparisons() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        let mut play = Play::begin(&servers).await;
        for (key, value) in [("r/1", "a"), ("r/2", "a"), ("r/2", "b"), ("s", "c")] {
            play.step(Step::Put(put(key, value))).await;
        }
        for range_end in ["r0", "\0", "r/", "r/2"] {
            for result in RESULTS {
                for target in [
                    TargetUnion::Version(1),
                    TargetUnion::Version(0),
                    TargetUnion::Value("a".into()),
                    TargetUnion::ModRevision(2),
                ] {
                    let compare =
                        pb::Compare { range_end: range_end.into(), ..compare("r/", target, result) };
                    play.step(with(compare)).await;
                }
            }
        }
        play.step_says(
            with(compare("", TargetUnion::Version(0), CompareResult::Equal)),
            "key is not provided",
        )
        .await;
        let odd = compare("s", TargetUnion::Value("c".into()), CompareResult::Equal);
        for target in 0..5 {
            play.step(with(pb::Compare { target, ..odd.clone() })).await;
            play.step(with(pb::Compare { target, target_union: None, ..odd.clone() })).await;
        }
        play.end().await;
    });
}

#[test]
fn operations_see_those_before_them_and_share_one_revision() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        let mut play = Play::begin(&servers).await;
        let txn = all([
            RequestPut(put("a", "1")),
            RequestPut(pb::PutRequest { prev_kv: true, ..put("b", "2") }),
            RequestRange(range("a", "c")),
            RequestDeleteRange(delete("c", "d")),
        ]);
        play.step(Step::Txn(txn)).await;
        play.step(Step::Range(range("a", "c"))).await;
        play.step(Step::Txn(all([RequestRange(get("a"))]))).await;
        play.step(Step::Txn(all([RequestDeleteRange(delete("none", ""))]))).await;
        play.step(Step::Txn(all([RequestRange(pb::RangeRequest { revision: 1, ..get("a") })]))).await;
        play.step(Step::Txn(all([
            RequestDeleteRange(delete("a", "c")),
            RequestDeleteRange(delete("b", "")),
        ])))
        .await;
        let seen_inside = pb::TxnRequest {
            compare: vec![compare("n", TargetUnion::Version(0), CompareResult::Greater)],
            success: vec![op(RequestPut(put("in", "saw the outer put")))],
            failure: vec![op(RequestPut(put("in", "did not")))],
        };
        play.step(Step::Txn(all([RequestPut(put("n", "1")), RequestTxn(seen_inside)]))).await;
        play.step(Step::Range(get("in"))).await;
        play.end().await;
    });
}

#[test]
fn a_key_twice_is_refused_where_etcd_refuses_it() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        let mut play = Play::begin(&servers).await;
        let inner = |key: &str| RequestTxn(all([RequestPut(put(key, "in"))]));
        let refused = "InvalidArgument \"etcdserver: duplicate key given in txn request\"";
        for txn in [
            all([RequestPut(put("d", "1")), RequestPut(put("d", "2"))]),
            all([RequestPut(put("d", "1")), RequestDeleteRange(delete("a", "z"))]),
            all([RequestDeleteRange(delete("a", "z")), RequestPut(put("d", "1"))]),
            all([RequestPut(put("d", "1")), inner("d")]),
            all([inner("d"), inner("d")]),
            all([RequestDeleteRange(delete("a", "z")), inner("d")]),
        ] {
            play.step_says(Step::Txn(txn), refused).await;
        }
        let either = pb::TxnRequest {
            success: vec![op(RequestPut(put("d", "1")))],
            failure: vec![op(RequestPut(put("d", "2")))],
            ..Default::default()
        };
        play.step(Step::Txn(either.clone())).await;
        play.step(Step::Txn(all([RequestTxn(either)]))).await;
        play.step(Step::Txn(all([
            RequestDeleteRange(delete("a", "z")),
            RequestDeleteRange(delete("d", "")),
        ])))
        .await;
        play.step(Step::Txn(all([inner("e"), inner("f")]))).await;
        play.end().await;
    });
}

#[test]
fn the_limit_on_operations_counts_as_etcds() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        let mut play = Play::begin(&servers).await;
        let too_many = "InvalidArgument \"etcdserver: too many operations in txn request\"";
        let success = |count| pb::TxnRequest { success: puts(count), ..Default::default() };
        play.step(Step::Txn(success(128))).await;
        play.step_says(Step::Txn(success(129)), too_many).await;
        play.step(Step::Txn(pb::TxnRequest { failure: puts(128), ..success(128) })).await;
        play.step_says(Step::Txn(pb::TxnRequest { failure: puts(129), ..Default::default() }), too_many)
            .await;
        let comparison = compare("k", TargetUnion::Version(0), CompareResult::Equal);
        let comparing =
            |count| pb::TxnRequest { compare: vec![comparison.clone(); count], ..Default::default() };
        play.step(Step::Txn(comparing(128))).await;
        play.step_says(Step::Txn(comparing(129)), too_many).await;
        let mut nested = success(100);
        let inner = (100..200).map(|number| op(RequestPut(put(&format!("k{number}"), "v"))));
        nested
            .success
            .push(op(RequestTxn(pb::TxnRequest { success: inner.collect(), ..Default::default() })));
        play.step_says(Step::Txn(nested), too_many).await;
        play.end().await;
    });
}

#[test]
fn a_transaction_that_fails_changes_nothing() {
    run(async {
        let Some(servers) = Servers::start().await else { return };
        let mut play = Play::begin(&servers).await;
        let future = RequestRange(pb::RangeRequest { revision: 1000, ..get("a") });
        let before = RequestPut(put("half", "done"));
        play.step_says(Step::Txn(all([future.clone()])), "future revision").await;
        play.step_says(Step::Txn(all([before.clone(), future])), "future revision").await;
        let unknown = RequestPut(pb::PutRequest { lease: 9, ..put("l", "v") });
        play.step_says(Step::Txn(all([before.clone(), unknown])), "requested lease not found").await;
        play.step_says(Step::Txn(all([before.clone(), RequestPut(put("", "v"))])), "key is not provided")
            .await;
        let missing = RequestPut(pb::PutRequest { ignore_value: true, ..put("none", "") });
        play.step(Step::Txn(all([before, missing]))).await;
        play.step(Step::Range(range("a", "z"))).await;
        play.step(Step::Txn(pb::TxnRequest {
            success: vec![pb::RequestOp::default()],
            ..Default::default()
        }))
        .await;
        play.step(Step::Txn(pb::TxnRequest::default())).await;
        play.end().await;
    });
}
