//! What was observed on a real etcd about leases, watch history and compaction: one test per observation that
//! concerns the data model, named after its number (L, W, C, M).

#![allow(clippy::unwrap_used)] // in a test a panic is the report

mod support;

use duet_mvcc::{
    Alarm, AlarmKind, Command, Error, ErrorCode, EventKind, EventLimits, HashKv, HashScope, HashWalk,
    KeyRange, MAX_LEASE_TTL_SECONDS, Operation, PutRequest, RangeRequest, Response, effective_ttl,
};
use support::*;

use EventKind::{Delete, Put};

fn watch(key: &str, end: &str) -> KeyRange {
    KeyRange::new(bytes(key), bytes(end))
}

#[test]
fn l1_to_l4_time_to_live() {
    assert_eq!([effective_ttl(1), effective_ttl(0), effective_ttl(-5)], [Ok(2), Ok(2), Ok(2)]);
    assert_eq!(effective_ttl(60), Ok(60));
    assert_eq!(effective_ttl(MAX_LEASE_TTL_SECONDS), Ok(9_000_000_000));
    let error = effective_ttl(MAX_LEASE_TTL_SECONDS + 1).unwrap_err();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        (ErrorCode::OutOfRange, "etcdserver: too large lease TTL")
    );
    assert_eq!(Bench::default().grant(1, MAX_LEASE_TTL_SECONDS + 1), Err(Error::LeaseTtlTooLarge));
}

#[test]
fn l5_an_id_is_granted_once() {
    let mut bench = Bench::default();
    let applied = bench.apply(&Command::LeaseGrant { id: 7777, ttl: 60 });
    assert_eq!(applied.result, Ok(Response::LeaseGrant { id: 7777, ttl: 60 }));
    assert_eq!(applied.revision, 1);
    assert_eq!(bench.grant(7777, 60), Err(Error::LeaseExists));
    assert_eq!(bench.grant(0, 60), Err(Error::LeaseNotFound));
    assert_eq!(bench.grant(-7, 60), Ok(()));
}

#[test]
fn l6_l7_an_unknown_lease() {
    let mut bench = Bench::default();
    let error = bench.apply(&Command::LeaseRevoke { id: 9 }).result.unwrap_err();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        (ErrorCode::NotFound, "etcdserver: requested lease not found")
    );
    assert_eq!(bench.store.lease_time_to_live(31337, true), None);
}

#[test]
fn l8_a_put_without_the_lease_detaches() {
    let mut bench = Bench::default();
    bench.grant(7, 60).unwrap();
    for key in ["l/3", "l/1", "l/2"] {
        bench.put_with_lease(key, 7).unwrap();
    }
    bench.put("l/3", "v");
    let info = bench.store.lease_time_to_live(7, true).unwrap();
    assert_eq!((info.granted_ttl, info.keys), (60, vec![bytes("l/1"), bytes("l/2")]));
    assert!(bench.store.lease_time_to_live(7, false).unwrap().keys.is_empty());
    // Moving to another lease, and deleting, detach as well.
    bench.grant(8, 60).unwrap();
    bench.put_with_lease("l/1", 8).unwrap();
    bench.delete("l/2", "");
    assert!(bench.store.lease_time_to_live(7, true).unwrap().keys.is_empty());
    assert_eq!(bench.store.lease_time_to_live(8, true).unwrap().keys, [bytes("l/1")]);
}

#[test]
fn l10_revoking_deletes_all_keys_at_one_revision() {
    let mut bench = Bench::default();
    bench.grant(7, 60).unwrap();
    bench.put_with_lease("l/2", 7).unwrap();
    bench.put_with_lease("l/1", 7).unwrap();
    let applied = bench.apply(&Command::LeaseRevoke { id: 7 });
    assert_eq!((applied.revision, applied.result), (4, Ok(Response::LeaseRevoke)));
    assert_eq!(outline(&applied.events), [(Delete, "l/1".into(), 4), (Delete, "l/2".into(), 4)]);
    let event = &applied.events[0].key_value;
    assert_eq!((event.version, event.create_revision, event.value.len(), event.lease), (0, 0, 0, 0));
    assert!(bench.store.leases().is_empty());
    // Without keys there is no revision.
    bench.grant(9, 60).unwrap();
    assert_eq!(bench.apply(&Command::LeaseRevoke { id: 9 }).revision, 4);
}

#[test]
fn l11_l12_ignore_lease_and_the_list() {
    let mut bench = Bench::default();
    bench.grant(7778, 60).unwrap();
    bench.put_with_lease("l", 7778).unwrap();
    bench.put_request(PutRequest { ignore_lease: true, ..put("l", "w") }).unwrap();
    assert_eq!(bench.get("l").unwrap().lease, 7778);
    assert_eq!(bench.store.leases(), [7778]);
    assert_eq!(bench.store.lease_ttls(), [(7778, 60)]);
}

#[test]
fn w5_w6_events_as_they_happen() {
    let mut bench = Bench::default();
    let applied = bench.put_request(put("w", "1")).unwrap();
    let event = &applied.events[0].key_value;
    assert_eq!(outline(&applied.events), [(Put, "w".into(), 2)]);
    assert_eq!((event.version, event.create_revision, &event.value), (1, 2, &bytes("1")));
    let applied = bench.delete("w", "");
    let event = &applied.events[0].key_value;
    assert_eq!(outline(&applied.events), [(Delete, "w".into(), 3)]);
    assert_eq!((event.version, event.create_revision, event.value.len()), (0, 0, 0));
}

/// wt/2 and wt/1 in one transaction (2), wt/2 again (3), both deleted (4).
fn watched() -> Bench {
    let mut bench = Bench::default();
    bench.txn(txn(vec![op_put("wt/2"), op_put("wt/1")])).unwrap();
    bench.put("wt/2", "n");
    bench.delete("wt/", "wt0");
    bench
}

#[test]
fn w10_a_transactions_events_are_in_the_order_of_its_operations() {
    let events = watched().history(&watch("wt/", "wt0"), 2).unwrap();
    assert_eq!(outline(&events)[..2], [(Put, "wt/2".into(), 2), (Put, "wt/1".into(), 2)]);
}

#[test]
fn w11_w12_previous_values() {
    let bench = watched();
    let events = bench.history(&KeyRange::all(), 2).unwrap();
    let previous = events.iter().map(|event| bench.store.previous_key_value(event).unwrap());
    let values: Vec<_> = previous.map(|previous| previous.map(|key_value| key_value.value)).collect();
    assert_eq!(values, [None, None, Some(bytes("v")), Some(bytes("v")), Some(bytes("n"))]);
}

#[test]
fn w13_history_from_memory_and_from_the_engine() {
    let expected = [
        (Put, "wt/2".to_owned(), 2),
        (Put, "wt/1".to_owned(), 2),
        (Put, "wt/2".to_owned(), 3),
        (Delete, "wt/1".to_owned(), 4),
        (Delete, "wt/2".to_owned(), 4),
    ];
    let mut bench = watched();
    assert_eq!(outline(&bench.history(&KeyRange::all(), 1).unwrap()), expected);
    // While a checkpoint is being written, written but not finished, finished, and after a restart.
    let checkpoint = bench.store.begin_checkpoint();
    bench.put("later", "v");
    assert_eq!(outline(&bench.history(&watch("wt/", "wt0"), 2).unwrap()), expected);
    bench.engine.write(&checkpoint);
    assert_eq!(outline(&bench.history(&watch("wt/", "wt0"), 2).unwrap()), expected);
    bench.store.finish_checkpoint();
    assert_eq!(outline(&bench.history(&KeyRange::all(), 2).unwrap())[..5], expected);
    assert_eq!(outline(&bench.history(&KeyRange::all(), 3).unwrap())[..3], expected[2..]);
    bench.restart();
    assert_eq!(outline(&bench.history(&KeyRange::all(), 2).unwrap()), expected);
}

#[test]
fn w13_history_comes_in_whole_revisions() {
    let bench = watched();
    let limits = EventLimits { max_events: 1, max_bytes: 1 << 20 };
    let batch = bench.store.events(&KeyRange::all(), 2, limits).unwrap();
    assert_eq!((batch.events.len(), batch.next_revision), (2, 3));
    let limits = EventLimits { max_events: 100, max_bytes: 1 };
    let batch = bench.store.events(&KeyRange::all(), 4, limits).unwrap();
    assert_eq!((batch.events.len(), batch.next_revision), (2, 5));
}

#[test]
fn w13_a_narrow_watch_of_a_long_history_is_bounded_in_work() {
    let mut bench = Bench::default();
    bench.put("needle", "v");
    for _ in 0..10_000 {
        bench.put("hay", "v");
    }
    bench.put("needle", "w");
    for checkpointed in [false, true] {
        if checkpointed {
            bench.checkpoint();
        }
        let batch = bench.store.events(&watch("needle", ""), 2, EventLimits::default()).unwrap();
        assert_eq!(batch.events.len(), 1);
        assert!(batch.next_revision < bench.store.revision());
        assert_eq!(bench.history(&watch("needle", ""), 2).unwrap().len(), 2);
    }
}

#[test]
fn w16_w17_a_watch_from_the_future() {
    let mut bench = Bench::default();
    let batch = bench.store.events(&watch("fut", ""), 4, EventLimits::default()).unwrap();
    assert_eq!((batch.events.len(), batch.next_revision), (0, 4));
    for value in ["1", "2", "3"] {
        bench.put("fut", value);
    }
    let batch = bench.store.events(&watch("fut", ""), batch.next_revision, EventLimits::default()).unwrap();
    assert_eq!(outline(&batch.events), [(Put, "fut".into(), 4)]);
    assert_eq!(batch.events[0].key_value.version, 3);
}

#[test]
fn w18_w19_w20_watched_ranges() {
    let mut bench = Bench::default();
    bench.put("anykey", "v");
    assert!(watch("b", "a").is_empty() && watch("b", "b").is_empty());
    let batch = bench.store.events(&watch("b", "a"), 1, EventLimits::default()).unwrap();
    assert_eq!((batch.events.len(), batch.next_revision), (0, 3));
    assert_eq!(bench.history(&watch("", "\0"), 1).unwrap().len(), 1);
    assert_eq!(bench.history(&watch("", ""), 1).unwrap().len(), 0);
}

#[test]
fn w21_a_negative_start() {
    let result = Bench::default().store.events(&KeyRange::all(), -1, EventLimits::default());
    assert_eq!(result, Err(Error::Compacted { compacted_revision: -1 }));
}

/// c put at 2, 3, 4, deleted at 5, another key at 6.
fn compactable() -> Bench {
    let mut bench = Bench::default();
    for value in ["1", "2", "3"] {
        bench.put("c", value);
    }
    bench.delete("c", "");
    bench.put("d", "v");
    bench
}

fn finish(bench: &mut Bench) {
    while bench.store.compact_step(1) {}
}

/// Runs a check as soon as the compaction took effect, after its removal, after a checkpoint and after a restart.
fn in_every_phase(bench: &mut Bench, check: impl Fn(&mut Bench)) {
    check(bench);
    finish(bench);
    check(bench);
    bench.checkpoint();
    check(bench);
    bench.restart();
    check(bench);
}

#[test]
fn c1_c2_c3_reading_around_the_compact_revision() {
    let mut bench = compactable();
    let applied = bench.apply(&Command::Compact { revision: 4 });
    assert_eq!((applied.revision, applied.result, applied.events.len()), (6, Ok(Response::Compact), 0));
    in_every_phase(&mut bench, |bench| {
        let at = |revision| bench.range(&RangeRequest { revision, ..range("c", "") });
        assert_eq!(at(4).unwrap().kvs[0].value, bytes("3"));
        assert_eq!(at(3), Err(Error::Compacted { compacted_revision: 4 }));
        assert_eq!(bench.store.compacted_revision(), 4);
    });
}

#[test]
fn c4_to_c7_compacting_again() {
    let mut bench = compactable();
    assert_eq!(bench.compact(-5), Err(Error::Compacted { compacted_revision: -1 }));
    bench.compact(4).unwrap();
    for revision in [4, 3, 0, -1] {
        assert_eq!(bench.compact(revision), Err(Error::Compacted { compacted_revision: 4 }));
    }
    assert_eq!(bench.compact(7), Err(Error::FutureRevision));
    // On a store that never was compacted, 0 is taken once.
    let mut bench = Bench::default();
    assert_eq!(bench.compact(0), Ok(()));
    assert_eq!(bench.compact(0), Err(Error::Compacted { compacted_revision: 0 }));
}

#[test]
fn c9_c10_watching_around_the_compact_revision() {
    let mut bench = compactable();
    bench.compact(4).unwrap();
    in_every_phase(&mut bench, |bench| {
        let history = |from| bench.history(&watch("c", ""), from);
        assert_eq!(history(3), Err(Error::Compacted { compacted_revision: 4 }));
        let events = history(4).unwrap();
        assert_eq!(outline(&events), [(Put, "c".into(), 4), (Delete, "c".into(), 5)]);
        assert_eq!(events[0].key_value.version, 3);
        // The value before the compact revision is gone, the one at it is not.
        assert_eq!(bench.store.previous_key_value(&events[0]), Ok(None));
        assert_eq!(bench.store.previous_key_value(&events[1]).unwrap().unwrap().value, bytes("3"));
    });
}

#[test]
fn c11_c12_compacting_at_a_delete() {
    let mut bench = compactable();
    bench.compact(5).unwrap();
    in_every_phase(&mut bench, |bench| {
        assert_eq!(bench.range(&RangeRequest { revision: 5, ..range("c", "") }).unwrap().count, 0);
        assert_eq!(outline(&bench.history(&watch("c", ""), 5).unwrap()), [(Delete, "c".into(), 5)]);
    });
    // One revision further it goes, and the key with it.
    bench.compact(6).unwrap();
    finish(&mut bench);
    assert_eq!(bench.store.statistics().index_keys, 1);
    bench.checkpoint();
    assert_eq!(bench.engine.contents.lock().unwrap().records.len(), 1);
}

#[test]
fn c13_a_transaction_reading_below() {
    let mut bench = compactable();
    bench.compact(4).unwrap();
    let old = Operation::Range(RangeRequest { revision: 3, ..range("c", "") });
    assert_eq!(bench.txn(txn(vec![old.clone()])), Err(Error::Compacted { compacted_revision: 4 }));
    assert_eq!(bench.txn(txn(vec![op_put("x"), old])), Err(Error::Compacted { compacted_revision: 4 }));
    assert_eq!(bench.get("x"), None);
}

#[test]
fn c14_compacting_at_the_current_revision() {
    let mut bench = compactable();
    bench.compact(6).unwrap();
    in_every_phase(&mut bench, |bench| {
        assert_eq!(bench.get("d").unwrap().value, bytes("v"));
        assert_eq!(outline(&bench.history(&KeyRange::all(), 6).unwrap()), [(Put, "d".into(), 6)]);
    });
}

#[test]
fn a_compaction_goes_on_after_a_restart() {
    let mut bench = Bench::default();
    for round in 0..3 {
        for number in 0..300 {
            bench.put(&format!("k/{number:03}"), &format!("{round}"));
        }
    }
    bench.compact(901).unwrap();
    assert!(bench.store.compact_step(10));
    bench.checkpoint();
    assert!(bench.engine.contents.lock().unwrap().records.len() > 300);
    bench.restart();
    finish(&mut bench);
    assert!(!bench.store.compact_step(10));
    bench.checkpoint();
    assert_eq!(bench.engine.contents.lock().unwrap().records.len(), 300);
    assert_eq!(bench.store.statistics().pending_deletes, 0);
}

#[test]
fn a_second_compaction_starts_over() {
    let mut bench = Bench::default();
    for _ in 0..2 {
        for number in 0..300 {
            bench.put(&format!("k/{number:03}"), "v");
        }
    }
    bench.compact(301).unwrap();
    assert!(bench.store.compact_step(200));
    bench.compact(601).unwrap();
    finish(&mut bench);
    bench.checkpoint();
    assert_eq!(bench.engine.contents.lock().unwrap().records.len(), 300);
}

#[test]
fn m2_m3_hashing_the_history() {
    let mut bench = compactable();
    assert_eq!(bench.store.hash_kv(7), Err(Error::FutureRevision));
    let at_5 = bench.store.hash_kv(5).unwrap();
    bench.put("e", "v");
    assert_eq!(bench.store.hash_kv(5).unwrap().hash, at_5.hash);
    let now = bench.store.hash_kv(0).unwrap();
    assert_eq!((now.hash_revision, now.compacted_revision), (7, -1));
    assert_ne!(now.hash, at_5.hash);
    bench.compact(4).unwrap();
    assert_eq!(bench.store.hash_kv(3), Err(Error::Compacted { compacted_revision: 4 }));
    let expected = bench.store.hash_kv(0).unwrap();
    assert_ne!(expected.hash, now.hash);
    in_every_phase(&mut bench, |bench| assert_eq!(bench.store.hash_kv(0).unwrap(), expected));
}

#[test]
fn a_hash_in_slices_is_the_hash_whatever_happens_in_between() {
    let mut bench = compactable();
    bench.grant(7, 60).unwrap();
    for scope in [HashScope::History { revision: 0 }, HashScope::State] {
        let expected = bench.store.hash(scope).unwrap();
        let mut walk = HashWalk::begin(&bench.store, scope).unwrap();
        assert_eq!(walk.step(&bench.store, 1), Ok(None));
        bench.put("later", "v");
        bench.checkpoint();
        assert_eq!(walk.step(&bench.store, 2), Ok(None));
        let done = finished(&mut walk, &bench);
        match scope {
            HashScope::History { .. } => assert_eq!(done.hash, expected.hash),
            HashScope::State => assert_eq!(done, bench.store.hash(scope).unwrap()),
        }
    }
    // A compaction in between: as if the walk had begun after it.
    let mut walk = HashWalk::begin(&bench.store, HashScope::History { revision: 0 }).unwrap();
    let mut older = HashWalk::begin(&bench.store, HashScope::History { revision: 3 }).unwrap();
    for walk in [&mut walk, &mut older] {
        assert_eq!(walk.step(&bench.store, 1), Ok(None));
    }
    bench.compact(5).unwrap();
    assert_eq!(older.step(&bench.store, 2), Err(Error::Compacted { compacted_revision: 5 }));
    assert_eq!(finished(&mut walk, &bench), bench.store.hash_kv(0).unwrap());
}

#[test]
fn the_hash_of_the_state_sees_what_is_no_history() {
    let mut bench = compactable();
    let hash = |bench: &Bench| bench.store.hash(HashScope::State).unwrap().hash;
    let mut seen = vec![hash(&bench)];
    bench.grant(7, 60).unwrap();
    seen.push(hash(&bench));
    bench.apply(&Command::RaiseAlarm(Alarm { kind: AlarmKind::NoSpace, member: 1 }));
    seen.push(hash(&bench));
    bench.compact(2).unwrap();
    seen.push(hash(&bench));
    let different: std::collections::BTreeSet<u32> = seen.iter().copied().collect();
    assert_eq!(different.len(), seen.len(), "{seen:?}");
    let expected = hash(&bench);
    in_every_phase(&mut bench, |bench| assert_eq!(hash(bench), expected));
}

fn finished(walk: &mut HashWalk, bench: &Bench) -> HashKv {
    loop {
        if let Some(hash) = walk.step(&bench.store, 1).unwrap() {
            return hash;
        }
    }
}
