//! What was observed on a real etcd about transactions: one test per observation, named after its number (T).

#![allow(clippy::unwrap_used)] // in a test a panic is the report

mod support;

use duet_mvcc::{
    Command, CompareResult, CompareTarget, Error, KeyRange, Operation, OperationResponse, PutRequest,
    RangeRequest, TxnLimits, TxnRequest, validate_txn,
};
use support::*;

fn check(request: &TxnRequest) -> Result<(), Error> {
    validate_txn(request, TxnLimits::default())
}

fn puts(count: usize, prefix: &str) -> Vec<Operation> {
    (0..count).map(|number| op_put(&format!("{prefix}{number}"))).collect()
}

fn succeeds(bench: &mut Bench, key: &str, end: &str, target: CompareTarget, result: CompareResult) -> bool {
    let request = TxnRequest { compare: vec![compare(key, end, target, result)], ..TxnRequest::default() };
    bench.txn(request).unwrap().succeeded
}

#[test]
fn t1_t2_one_revision_for_all() {
    let mut bench = Bench::default();
    let response =
        bench.txn(txn(vec![op_put("a"), op_put("b"), op_range("a", ""), op_delete("missing", "")])).unwrap();
    assert_eq!(response.revision, 2);
    assert_eq!(response.responses.iter().map(inner_revision).collect::<Vec<_>>(), [2, 2, 2, 2]);
    let OperationResponse::Range(inner) = &response.responses[2] else { panic!() };
    assert_eq!((inner.count, &inner.kvs[0].value), (1, &bytes("v")));
    let OperationResponse::DeleteRange(inner) = &response.responses[3] else { panic!() };
    assert_eq!(inner.deleted, 0);
    assert_eq!(bench.get("a").unwrap().mod_revision, bench.get("b").unwrap().mod_revision);
}

#[test]
fn t1_headers_before_the_first_write_and_of_nested_transactions() {
    // Seen on etcd: a range before the first write carries the old revision, a nested transaction none.
    let mut bench = Bench::default();
    let request = txn(vec![op_range("a", ""), op_put("a"), op_txn(vec![op_range("a", ""), op_put("c")])]);
    let response = bench.txn(request).unwrap();
    assert_eq!(response.responses.iter().map(inner_revision).collect::<Vec<_>>(), [1, 2, 0]);
    let OperationResponse::Txn(nested) = &response.responses[2] else { panic!() };
    assert_eq!(nested.responses.iter().map(inner_revision).collect::<Vec<_>>(), [2, 2]);
}

#[test]
fn t3_read_only_transactions_take_no_revision() {
    let mut bench = Bench::default();
    bench.put("a", "v");
    let request = txn(vec![op_range("a", ""), op_txn(vec![op_range("a", "")])]);
    assert!(request.is_read_only());
    let response = bench.txn(request.clone()).unwrap();
    assert_eq!((response.succeeded, response.revision, inner_revision(&response.responses[0])), (true, 2, 2));
    // The same through the log.
    let applied = bench.apply(&Command::Txn(request));
    assert_eq!(applied.result, Ok(duet_mvcc::Response::Txn(response)));
    assert_eq!(applied.revision, 2);
    assert!(!txn(vec![op_txn(vec![op_put("a")])]).is_read_only());
}

#[test]
fn t4_t5_transactions_that_change_nothing() {
    let mut bench = Bench::default();
    assert_eq!(bench.txn(txn(vec![op_delete("missing", "")])).unwrap().revision, 1);
    let response = bench.txn(TxnRequest::default()).unwrap();
    assert_eq!((response.succeeded, response.responses.len()), (true, 0));
}

#[test]
fn t6_t7_a_key_is_changed_once() {
    assert_eq!(check(&txn(vec![op_put("a"), op_put("a")])), Err(Error::DuplicateKey));
    for delete in [op_delete("a", ""), op_delete("A", "b"), op_delete("a", "a\0")] {
        assert_eq!(check(&txn(vec![op_put("a"), delete.clone()])), Err(Error::DuplicateKey));
        assert_eq!(check(&txn(vec![delete, op_put("a")])), Err(Error::DuplicateKey));
    }
    assert_eq!(check(&txn(vec![op_put("b"), op_delete("a", "b")])), Ok(()));
    assert_eq!(check(&txn(vec![op_put("b"), op_delete("z", "a")])), Ok(()));
}

#[test]
fn t8_t9_what_may_repeat() {
    assert_eq!(check(&txn(vec![op_delete("a", "c"), op_delete("b", "d"), op_delete("b", "")])), Ok(()));
    let both = TxnRequest { success: vec![op_put("a")], failure: vec![op_put("a")], ..TxnRequest::default() };
    assert_eq!(check(&both), Ok(()));
}

#[test]
fn t10_t11_t12_a_key_is_changed_once_over_nesting() {
    assert_eq!(check(&txn(vec![op_put("a"), op_txn(vec![op_put("a")])])), Err(Error::DuplicateKey));
    let either = Operation::Txn(TxnRequest {
        success: vec![op_put("a")],
        failure: vec![op_put("a")],
        ..TxnRequest::default()
    });
    assert_eq!(check(&txn(vec![either.clone()])), Ok(()));
    assert_eq!(check(&txn(vec![either, op_put("a")])), Err(Error::DuplicateKey));
    assert_eq!(
        check(&txn(vec![op_txn(vec![op_put("a")]), op_txn(vec![op_put("a")])])),
        Err(Error::DuplicateKey)
    );
    assert_eq!(check(&txn(vec![op_put("a"), op_txn(vec![op_delete("a", "")])])), Err(Error::DuplicateKey));
    assert_eq!(check(&txn(vec![op_txn(vec![op_put("a")]), op_delete("a", "")])), Err(Error::DuplicateKey));
    let delete_then_put = txn(vec![op_txn(vec![op_delete("a", "")]), op_txn(vec![op_put("a")])]);
    assert_eq!(check(&delete_then_put), Err(Error::DuplicateKey));
}

#[test]
fn t12_what_etcd_lets_pass_happens_in_order() {
    // Both seen on etcd: a delete nested after a nested put, and a delete without an upper end.
    let mut bench = Bench::default();
    bench.put("x", "old");
    let response = bench.txn(txn(vec![op_txn(vec![op_put("x")]), op_txn(vec![op_delete("x", "")])])).unwrap();
    assert_eq!(response.revision, 3);
    assert_eq!(bench.get("x"), None);
    bench.txn(txn(vec![op_delete("a", "\0"), op_put("z")])).unwrap();
    bench.txn(txn(vec![op_delete("a", "\0"), op_put("z")])).unwrap();
    let found = bench.get("z").unwrap();
    assert_eq!((found.version, found.create_revision), (1, 5));

    // Each event's previous value is the one before that event.
    let history = bench.history(&KeyRange::all(), 3).unwrap();
    let previous = |event| bench.store.previous_key_value(event).unwrap().map(|key_value| key_value.value);
    let values: Vec<_> =
        history.iter().map(|event| (event.revision.main, event.revision.sub, previous(event))).collect();
    assert_eq!(
        values,
        [
            (3, 0, Some(bytes("old"))),
            (3, 1, Some(bytes("v"))),
            (4, 0, None),
            (5, 0, Some(bytes("v"))),
            (5, 1, None)
        ]
    );

    // After compacting at it, only what lies inside the revision itself is known.
    bench.compact(3).unwrap();
    let previous: Vec<_> =
        history[..2].iter().map(|event| bench.store.previous_key_value(event).unwrap().is_some()).collect();
    assert_eq!(previous, [false, true]);
    while bench.store.compact_step(1) {}
    assert_eq!(bench.history(&KeyRange::all(), 3).unwrap(), history);
}

#[test]
fn t13_to_t17_counts() {
    assert_eq!(check(&txn(puts(128, "a"))), Ok(()));
    assert_eq!(check(&txn(puts(129, "a"))), Err(Error::TooManyOperations));
    let condition = compare("a", "", CompareTarget::Version(0), CompareResult::Equal);
    let request = TxnRequest { compare: vec![condition; 129], ..TxnRequest::default() };
    assert_eq!(check(&request), Err(Error::TooManyOperations));
    let request = TxnRequest { success: puts(128, "a"), failure: puts(128, "a"), ..TxnRequest::default() };
    assert_eq!(check(&request), Ok(()));
    let nested = |outer: usize, inner| {
        let mut operations = puts(outer - 1, "a");
        operations.push(op_txn(puts(inner, "b")));
        txn(operations)
    };
    assert_eq!(check(&nested(100, 100)), Err(Error::TooManyOperations));
    assert_eq!(check(&nested(100, 28)), Ok(()));
    assert_eq!(
        validate_txn(&txn(puts(3, "a")), TxnLimits { max_operations: 2 }),
        Err(Error::TooManyOperations)
    );
}

#[test]
fn nesting_is_bounded() {
    let mut request = TxnRequest::default();
    for _ in 0..100 {
        request = txn(vec![Operation::Txn(request)]);
    }
    assert_eq!(check(&request), Err(Error::TooManyOperations));
}

#[test]
fn a_large_transaction_is_checked_quickly() {
    // Thousands of puts and deletes, nested so that the counts pass: no pairwise comparison.
    let level = |name: String| op_txn((0..60).map(|number| op_put(&format!("p{name}/{number}"))).collect());
    let deletes =
        |name: String| op_txn((0..60).map(|number| op_delete(&format!("d{name}/{number}"), "")).collect());
    let branch = |outer: i32| {
        let inner = (0..20)
            .flat_map(|inner| [level(format!("{outer}/{inner}")), deletes(format!("{outer}/{inner}"))]);
        op_txn(inner.collect())
    };
    assert_eq!(check(&txn((0..20).map(branch).collect())), Ok(()));
}

#[test]
fn t18_t19_empty_keys() {
    assert_eq!(check(&txn(vec![op_put("")])), Err(Error::EmptyKey));
    assert_eq!(check(&txn(vec![op_txn(vec![op_range("", "\0")])])), Err(Error::EmptyKey));
    let condition = compare("", "", CompareTarget::Version(0), CompareResult::Equal);
    let request = TxnRequest { compare: vec![condition], ..TxnRequest::default() };
    assert_eq!(check(&request), Err(Error::EmptyKey));
}

#[test]
fn t20_t21_a_range_in_the_future_stops_all() {
    let mut bench = Bench::default();
    bench.put("a", "v");
    let future = Operation::Range(RangeRequest { revision: 3, ..range("a", "") });
    assert_eq!(bench.txn(txn(vec![future.clone()])), Err(Error::FutureRevision));
    let digest = bench.store.state_digest().unwrap();
    // The transaction's own revision is the future, too.
    assert_eq!(bench.txn(txn(vec![op_put("b"), future.clone()])), Err(Error::FutureRevision));
    assert_eq!((bench.store.revision(), bench.get("b")), (2, None));
    assert_eq!(bench.store.state_digest().unwrap(), digest);
    // In the branch not taken it does not matter.
    let request = TxnRequest { success: vec![op_put("b")], failure: vec![future], ..TxnRequest::default() };
    bench.txn(request).unwrap();
    // A range at an old revision, after a write in the same transaction, sees the old state.
    let old = Operation::Range(RangeRequest { revision: 2, ..range("a", "") });
    let response = bench.txn(txn(vec![op_put("a"), old])).unwrap();
    let OperationResponse::Range(inner) = &response.responses[1] else { panic!() };
    assert_eq!((inner.kvs[0].mod_revision, inner.revision), (2, 4));
}

#[test]
fn a_negative_revision_in_a_transaction_was_compacted_once_anything_was() {
    let mut bench = Bench::default();
    bench.put("a", "1");
    let read = |revision| txn(vec![Operation::Range(RangeRequest { revision, ..range("a", "") })]);
    assert!(bench.txn(read(-1)).is_ok());
    assert_eq!(bench.txn(read(-2)), Err(Error::Compacted { compacted_revision: -1 }));
    bench.compact(2).unwrap();
    assert_eq!(bench.txn(read(-1)), Err(Error::Compacted { compacted_revision: 2 }));
    assert!(bench.txn(read(0)).is_ok());
    // Outside of a transaction it is the current one.
    assert!(bench.store.range(&RangeRequest { revision: -1, ..range("a", "") }).is_ok());
}

#[test]
fn t22_an_unknown_lease_stops_all() {
    let mut bench = Bench::default();
    let put_with = Operation::Put(PutRequest { lease: 77, ..put("b", "v") });
    assert_eq!(bench.txn(txn(vec![op_put("a"), put_with.clone()])), Err(Error::LeaseNotFound));
    assert_eq!((bench.store.revision(), bench.get("a")), (1, None));
    // Puts are checked before ranges, and a put's key before its lease.
    let future = Operation::Range(RangeRequest { revision: 99, ..range("a", "") });
    assert_eq!(bench.txn(txn(vec![future, put_with])), Err(Error::LeaseNotFound));
    let both = Operation::Put(PutRequest { lease: 77, ignore_value: true, ..put("b", "") });
    assert_eq!(bench.txn(txn(vec![both])), Err(Error::KeyNotFound));
}

#[test]
fn an_operation_that_fails_half_way_is_taken_back() {
    // The delete makes the key vanish under the put that wants to keep its value: found only while running.
    let mut bench = Bench::default();
    bench.grant(7, 60).unwrap();
    bench.put_with_lease("k/1", 7).unwrap();
    bench.put("k/2", "v");
    bench.delete("k/2", "");
    let before = (bench.store.state_digest().unwrap(), bench.store.revision(), bench.store.statistics());
    let keep = Operation::Put(PutRequest { ignore_value: true, ..put("k/1", "") });
    let new = op_put("k/0");
    assert_eq!(
        bench.txn(txn(vec![new, op_put("k/2"), op_delete("k/1", "\0"), keep])),
        Err(Error::KeyNotFound)
    );
    let after = (bench.store.state_digest().unwrap(), bench.store.revision(), bench.store.statistics());
    assert_eq!((before.0, before.1, before.2.index_keys), (after.0, after.1, after.2.index_keys));
    assert_eq!(before.2.pending_bytes, after.2.pending_bytes);
    assert_eq!(bench.store.lease_time_to_live(7, true).unwrap().keys, [bytes("k/1")]);
    // What comes next at the same revision numbers reads its own records.
    bench.put("k/9", "next");
    assert_eq!(bench.get("k/9").unwrap().value, bytes("next"));
}

#[test]
fn t23_comparing_a_missing_key() {
    use CompareResult::{Equal, NotEqual};
    use CompareTarget::{Create, Lease, Mod, Value, Version};
    let mut bench = Bench::default();
    for target in [Version(0), Create(0), Mod(0), Lease(0)] {
        assert!(succeeds(&mut bench, "missing", "", target, Equal));
    }
    assert!(!succeeds(&mut bench, "missing", "", Value(bytes("")), Equal));
    assert!(!succeeds(&mut bench, "missing", "", Value(bytes("x")), NotEqual));
    bench.put("gone", "v");
    bench.delete("gone", "");
    assert!(succeeds(&mut bench, "gone", "", Version(0), Equal));
    assert!(!succeeds(&mut bench, "gone", "", Value(bytes("x")), NotEqual));
}

#[test]
fn t24_comparing_a_range() {
    use CompareResult::{Equal, Greater, Less, NotEqual};
    use CompareTarget::{Mod, Value, Version};
    let mut bench = Bench::default();
    bench.put("r/1", "a");
    bench.put("r/2", "b");
    bench.put("r/2", "b");
    assert!(succeeds(&mut bench, "r/", "r0", Version(0), Greater));
    assert!(!succeeds(&mut bench, "r/", "r0", Version(1), Equal));
    assert!(succeeds(&mut bench, "s/", "s0", Version(0), Equal));
    assert!(!succeeds(&mut bench, "s/", "s0", Version(0), Greater));
    assert!(succeeds(&mut bench, "r/", "r0", Value(bytes("c")), Less));
    assert!(!succeeds(&mut bench, "r/", "r0", Value(bytes("b")), NotEqual));
    assert!(succeeds(&mut bench, "r/2", "", Mod(4), Equal));
    assert!(succeeds(&mut bench, "z", "a", Version(0), Equal));
}

#[test]
fn t25_nested_conditions_are_decided_before_anything_runs() {
    let mut bench = Bench::default();
    let nested = Operation::Txn(TxnRequest {
        compare: vec![compare("a", "", CompareTarget::Version(0), CompareResult::Greater)],
        success: vec![op_put("seen")],
        failure: vec![op_put("unseen")],
    });
    let response = bench.txn(txn(vec![op_put("a"), nested])).unwrap();
    let OperationResponse::Txn(nested) = &response.responses[1] else { panic!() };
    assert!(!nested.succeeded);
    assert_eq!((bench.get("seen"), bench.get("unseen").is_some()), (None, true));
}

#[test]
fn sibling_transactions_follow_their_own_decisions() {
    let mut bench = Bench::default();
    bench.put("yes", "v");
    let nested = |key: &str, name: &str, inner: Vec<Operation>| {
        let mut success = vec![op_put(&format!("{name}/success"))];
        success.extend(inner);
        Operation::Txn(TxnRequest {
            compare: vec![compare(key, "", CompareTarget::Version(0), CompareResult::Greater)],
            success,
            failure: vec![op_put(&format!("{name}/failure"))],
        })
    };
    let inner = nested("no", "1a", vec![]);
    let request =
        txn(vec![nested("yes", "1", vec![inner]), nested("no", "2", vec![]), nested("yes", "3", vec![])]);
    bench.txn(request).unwrap();
    let found = keys(&bench.range(&range("0", "9")).unwrap());
    assert_eq!(found, ["1/success", "1a/failure", "2/failure", "3/success"]);
}

#[test]
fn a_storage_failure_inside_a_transaction_changes_nothing() {
    let mut bench = Bench::default();
    bench.store.set_cache_bytes(0);
    bench.put("a", "v");
    bench.checkpoint();
    *bench.engine.broken.lock().unwrap() = true;
    let error = bench.txn(txn(vec![op_put("b"), op_delete("b0", ""), op_range("a", "")])).unwrap_err();
    assert!(error.is_fatal());
    assert_eq!(bench.store.revision(), 2);
    *bench.engine.broken.lock().unwrap() = false;
    assert_eq!(bench.get("b"), None);
    assert_eq!(bench.put("b", "w"), 3);
    assert_eq!(bench.get("b").unwrap().value, bytes("w"));
}
