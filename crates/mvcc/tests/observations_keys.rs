//! What was observed on a real etcd about single keys, errors, ranges and deletes: one test per observation, named
//! after its number in the list of observations (H, E, R, D).

#![allow(clippy::unwrap_used)] // in a test a panic is the report

mod support;

use duet_mvcc::{
    DeleteRangeRequest, Error, ErrorCode, PutRequest, RangeRequest, Response, SortOrder, SortTarget,
};
use support::*;

fn refused<T: std::fmt::Debug>(result: Result<T, Error>, code: ErrorCode, text: &str) {
    let error = result.unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), (code, text));
}

const NO_KEY: &str = "etcdserver: key is not provided";

#[test]
fn h1_an_empty_store_is_at_revision_1() {
    assert_eq!(Bench::default().range(&range("x", "")).unwrap().revision, 1);
}

#[test]
fn h3_a_put_takes_one_revision() {
    assert_eq!(Bench::default().put("a", "v"), 2);
}

#[test]
fn h4_first_put() {
    let mut bench = Bench::default();
    bench.put("a", "v");
    let found = bench.get("a").unwrap();
    assert_eq!((found.create_revision, found.mod_revision, found.version, found.lease), (2, 2, 1, 0));
}

#[test]
fn h5_second_put() {
    let mut bench = Bench::default();
    bench.put("a", "v");
    bench.put("a", "w");
    let found = bench.get("a").unwrap();
    assert_eq!((found.create_revision, found.mod_revision, found.version), (2, 3, 2));
}

#[test]
fn h6_deleting_nothing_takes_no_revision() {
    let mut bench = Bench::default();
    let applied = bench.delete("a", "");
    let Ok(Response::DeleteRange(response)) = applied.result else { panic!() };
    assert_eq!((applied.revision, response.deleted, response.revision), (1, 0, 1));
    assert!(applied.events.is_empty());
}

#[test]
fn h7_a_key_created_again_starts_anew() {
    let mut bench = Bench::default();
    bench.put("a", "v");
    bench.put("a", "v");
    bench.delete("a", "");
    bench.put("a", "v");
    let found = bench.get("a").unwrap();
    assert_eq!((found.version, found.create_revision), (1, found.mod_revision));
}

#[test]
fn h8_h9_previous_value_only_if_asked_for_and_there() {
    let mut bench = Bench::default();
    let previous = |bench: &mut Bench, prev_kv| {
        let applied = bench.put_request(PutRequest { prev_kv, ..put("a", "v") }).unwrap();
        let Ok(Response::Put(response)) = applied.result else { panic!() };
        response.prev_kv.map(|key_value| key_value.value)
    };
    assert_eq!(previous(&mut bench, true), None);
    assert_eq!(previous(&mut bench, true), Some(bytes("v")));
    assert_eq!(previous(&mut bench, false), None);
}

#[test]
fn e1_e2_e3_empty_keys() {
    let mut bench = Bench::default();
    refused(bench.put_request(put("", "v")), ErrorCode::InvalidArgument, NO_KEY);
    refused(bench.range(&range("", "")), ErrorCode::InvalidArgument, NO_KEY);
    refused(bench.delete_request(delete("", "")), ErrorCode::InvalidArgument, NO_KEY);
}

#[test]
fn e4_to_e7_ignore_value_and_lease() {
    let mut bench = Bench::default();
    let ignore_value = PutRequest { ignore_value: true, ..put("a", "") };
    let ignore_lease = PutRequest { ignore_lease: true, ..put("a", "v") };
    let with_value = PutRequest { ignore_value: true, ..put("a", "v") };
    let with_lease = PutRequest { lease: 5, ..ignore_lease.clone() };
    let invalid = ErrorCode::InvalidArgument;
    refused(bench.put_request(with_value), invalid, "etcdserver: value is provided");
    refused(bench.put_request(ignore_value.clone()), invalid, "etcdserver: key not found");
    refused(bench.put_request(with_lease), invalid, "etcdserver: lease is provided");
    refused(bench.put_request(ignore_lease.clone()), invalid, "etcdserver: key not found");
    assert_eq!(bench.store.revision(), 1);

    // A deleted key is as missing as one that never was.
    bench.put("a", "v");
    bench.delete("a", "");
    refused(bench.put_request(ignore_value.clone()), invalid, "etcdserver: key not found");
    refused(bench.put_request(ignore_lease), invalid, "etcdserver: key not found");

    bench.put("a", "kept");
    bench.put_request(ignore_value).unwrap();
    let found = bench.get("a").unwrap();
    assert_eq!((found.value, found.version), (bytes("kept"), 2));
}

#[test]
fn e8_unknown_lease() {
    let mut bench = Bench::default();
    refused(bench.put_with_lease("a", 9), ErrorCode::NotFound, "etcdserver: requested lease not found");
    // On a single put the lease is looked at before the key (in a transaction it is the other way round).
    let both = PutRequest { ignore_value: true, lease: 9, ..put("a", "") };
    assert_eq!(bench.put_request(both), Err(Error::LeaseNotFound));
}

#[test]
fn e9_future_revision() {
    let request = RangeRequest { revision: 2, ..range("a", "") };
    refused(
        Bench::default().range(&request),
        ErrorCode::OutOfRange,
        "etcdserver: mvcc: required revision is a future revision",
    );
}

#[test]
fn e10_a_negative_revision_is_the_current_one() {
    let mut bench = Bench::default();
    bench.put("a", "v");
    let request = RangeRequest { revision: -5, ..range("a", "") };
    assert_eq!(bench.range(&request).unwrap().count, 1);
}

#[test]
fn e11_sort_numbers_from_the_wire() {
    assert_eq!(SortOrder::from_wire(7), SortOrder::None);
    assert_eq!(SortTarget::from_wire(4), Ok(SortTarget::Value));
    // Where etcd 3.5 crashes.
    refused(SortTarget::from_wire(5), ErrorCode::InvalidArgument, "etcdserver: invalid sort option");
}

/// r/1 ... r/7 with values 7 ... 1, and r/3 put once more with the largest value.
fn seven() -> Bench {
    let mut bench = Bench::default();
    for number in 1..=7 {
        bench.put(&format!("r/{number}"), &format!("{}", 8 - number));
        if number == 2 {
            // So that mod revisions differ from the order of the keys.
            bench.put("other", "x");
        }
    }
    bench.put("r/3", "9");
    bench
}

fn all() -> RangeRequest {
    range("r/", "r0")
}

#[test]
fn r1_r2_limit() {
    let bench = seven();
    let response = bench.range(&RangeRequest { limit: 3, ..all() }).unwrap();
    assert_eq!(
        (keys(&response), response.more, response.count),
        (vec!["r/1".into(), "r/2".into(), "r/3".into()], true, 7)
    );
    let response = bench.range(&RangeRequest { limit: 7, ..all() }).unwrap();
    assert_eq!((response.more, response.count), (false, 7));
    let response = bench.range(&RangeRequest { limit: -1, ..all() }).unwrap();
    assert_eq!((response.more, response.kvs.len()), (false, 7));
}

#[test]
fn r3_r4_count_only() {
    let bench = seven();
    for limit in [0, 2] {
        let response = bench.range(&RangeRequest { count_only: true, limit, ..all() }).unwrap();
        assert_eq!((response.kvs.len(), response.more, response.count), (0, false, 7));
    }
    let request = RangeRequest { count_only: true, min_mod_revision: 100, ..all() };
    assert_eq!(bench.range(&request).unwrap().count, 7);
}

#[test]
fn r5_keys_only() {
    let bench = seven();
    let response = bench.range(&RangeRequest { keys_only: true, ..range("r/1", "") }).unwrap();
    assert!(response.kvs[0].value.is_empty());
    assert_eq!(response.kvs[0].mod_revision, 2);
    // Values leave after the sorting by them.
    let by_value = RangeRequest { keys_only: true, sort_target: SortTarget::Value, ..all() };
    let response = bench.range(&by_value).unwrap();
    assert_eq!(keys(&response)[0], "r/7");
    assert!(response.kvs.iter().all(|key_value| key_value.value.is_empty()));
}

#[test]
fn r6_r7_r10_ranges_without_keys() {
    let bench = seven();
    for (key, end) in [("r/5", "r/1"), ("r/5", "r/5"), ("\0", "")] {
        let response = bench.range(&range(key, end)).unwrap();
        assert_eq!((response.count, response.kvs.len()), (0, 0));
    }
}

#[test]
fn r8_r9_open_ends() {
    let bench = seven();
    assert_eq!(keys(&bench.range(&range("r/6", "\0")).unwrap()), ["r/6", "r/7"]);
    assert_eq!(bench.range(&range("\0", "\0")).unwrap().count, 8);
}

#[test]
fn r11_empty_key_with_an_end() {
    refused(seven().range(&range("", "\0")), ErrorCode::InvalidArgument, NO_KEY);
}

fn sorted(sort_order: SortOrder, sort_target: SortTarget, limit: i64) -> (Vec<String>, bool, i64) {
    let response = seven().range(&RangeRequest { sort_order, sort_target, limit, ..all() }).unwrap();
    (keys(&response), response.more, response.count)
}

fn numbered<const N: usize>(order: [i32; N]) -> Vec<String> {
    order.iter().map(|number| format!("r/{number}")).collect()
}

#[test]
fn r12_descending_by_key() {
    let expected = (vec!["r/7".to_owned(), "r/6".to_owned()], true, 7);
    assert_eq!(sorted(SortOrder::Descend, SortTarget::Key, 2), expected);
}

#[test]
fn r13_ascending_by_value() {
    let expected = (vec!["r/7".to_owned(), "r/6".to_owned(), "r/5".to_owned()], true, 7);
    assert_eq!(sorted(SortOrder::Ascend, SortTarget::Value, 3), expected);
}

#[test]
fn r14_r15_by_version_ties_stay_in_key_order() {
    assert_eq!(sorted(SortOrder::Descend, SortTarget::Version, 0).0, numbered([3, 1, 2, 4, 5, 6, 7]));
    assert_eq!(sorted(SortOrder::Ascend, SortTarget::Version, 0).0, numbered([1, 2, 4, 5, 6, 7, 3]));
}

#[test]
fn r16_no_order_with_a_target_ascends() {
    assert_eq!(sorted(SortOrder::None, SortTarget::Value, 0).0, numbered([7, 6, 5, 4, 2, 1, 3]));
    // With a limit, the first four keys are sorted, and the first three of them are told.
    assert_eq!(sorted(SortOrder::None, SortTarget::Value, 3), (numbered([4, 2, 1]), true, 7));
}

#[test]
fn r17_descending_by_mod() {
    assert_eq!(sorted(SortOrder::Descend, SortTarget::Mod, 0).0, numbered([3, 7, 6, 5, 4, 2, 1]));
}

#[test]
fn r18_r19_r20_filters_come_before_the_limit_and_leave_the_count() {
    let bench = seven();
    // r/5 was put at revision 7: r/1 2, r/2 3, other 4, r/3 5 (again 10), r/4 6.
    let request = RangeRequest { min_mod_revision: 7, ..all() };
    let response = bench.range(&request).unwrap();
    assert_eq!(
        (keys(&response), response.count, response.more),
        (vec!["r/3".into(), "r/5".into(), "r/6".into(), "r/7".into()], 7, false)
    );
    let response = bench.range(&RangeRequest { limit: 2, ..request }).unwrap();
    assert_eq!((keys(&response), response.count, response.more), (vec!["r/3".into(), "r/5".into()], 7, true));
    let response = bench.range(&RangeRequest { max_create_revision: 6, limit: 2, ..all() }).unwrap();
    assert_eq!((keys(&response), response.count, response.more), (vec!["r/1".into(), "r/2".into()], 7, true));
    // Filters need no value, but the answer has it.
    assert!(response.kvs.iter().all(|key_value| !key_value.value.is_empty()));
}

#[test]
fn r21_keys_are_ordered_by_bytes() {
    let mut bench = Bench::default();
    let order = ["o/", "o/\0", "o/Z", "o/a", "o/a\0", "o/\u{ff}"];
    for key in order.iter().rev() {
        bench.put(key, "v");
    }
    assert_eq!(keys(&bench.range(&range("o/", "o0")).unwrap()), order);
}

#[test]
fn r22_r23_the_past() {
    let bench = seven();
    let response = bench.range(&RangeRequest { revision: 5, ..range("r/3", "") }).unwrap();
    assert_eq!(response.kvs[0].value, bytes("5"));
    assert_eq!(response.revision, 10);
    let response = bench.range(&RangeRequest { revision: 4, ..all() }).unwrap();
    assert_eq!((keys(&response), response.count), (vec!["r/1".into(), "r/2".into()], 2));
}

#[test]
fn d1_deleting_six_keys() {
    let mut bench = Bench::default();
    for number in 1..=6 {
        bench.put(&format!("d/{number}"), "v");
    }
    let before = bench.store.revision();
    let applied = bench.delete_request(DeleteRangeRequest { prev_kv: true, ..delete("d/", "d0") }).unwrap();
    let Ok(Response::DeleteRange(response)) = applied.result else { panic!() };
    assert_eq!((applied.revision - before, response.deleted, response.prev_kvs.len()), (1, 6, 6));
    assert_eq!(response.prev_kvs[0].key, bytes("d/1"));
    assert_eq!(bench.range(&range("d/", "d0")).unwrap().count, 0);
}

#[test]
fn every_error_has_etcds_text_and_code() {
    use ErrorCode::*;
    let table = [
        (Error::TooManyOperations, InvalidArgument, "etcdserver: too many operations in txn request"),
        (Error::DuplicateKey, InvalidArgument, "etcdserver: duplicate key given in txn request"),
        (Error::RequestTooLarge, InvalidArgument, "etcdserver: request is too large"),
        (Error::NoSpace, ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
        (
            Error::Compacted { compacted_revision: 3 },
            OutOfRange,
            "etcdserver: mvcc: required revision has been compacted",
        ),
        (Error::LeaseExists, FailedPrecondition, "etcdserver: lease already exists"),
        (Error::LeaseTtlTooLarge, OutOfRange, "etcdserver: too large lease TTL"),
    ];
    for (error, code, text) in table {
        assert!(!error.is_fatal());
        refused(Err::<(), Error>(error), code, text);
    }
}
