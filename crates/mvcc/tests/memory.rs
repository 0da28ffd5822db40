//! How much memory a key costs: the figure behind the goal for memory.

#![allow(clippy::unwrap_used)] // in a test a panic is the report

mod support;

use bytes::Bytes;
use duet_mvcc::{Command, PutRequest};
use support::{Bench, bytes, range};

/// Bytes of index for each key of 32 bytes, which come in order or scattered.
fn bytes_per_key(keys: u64, scattered: bool) -> usize {
    let mut bench = Bench::default();
    bench.store.set_cache_bytes(0);
    for number in 0..keys {
        let number = if scattered { number.wrapping_mul(0x9e37_79b9_7f4a_7c15) } else { number };
        let key = format!("/registry/pods/x{number:016x}");
        assert_eq!(key.len(), 32);
        bench.put(&key, "v");
    }
    assert_eq!(bench.store.statistics().index_keys, usize::try_from(keys).unwrap());
    bench.store.index_bytes() / usize::try_from(keys).unwrap()
}

#[test]
fn a_key_of_32_bytes_costs_less_than_110() {
    let (ordered, scattered) = (bytes_per_key(100_000, false), bytes_per_key(100_000, true));
    assert!(ordered < 110 && scattered < 110, "{ordered} bytes per key in order, {scattered} scattered");
}

#[test]
fn a_request_frame_is_not_kept_alive() {
    // A megabyte arrives, ten bytes of it are the key and the value: they are copied out of it.
    let mut bench = Bench::default();
    let frame = Bytes::from(vec![b'x'; 1 << 20]);
    let request = PutRequest { key: frame.slice(..5), value: frame.slice(5..10), ..PutRequest::default() };
    let applied = bench.store.apply(&Command::Put(request));
    let found = bench.range(&range("xxxxx", "")).unwrap().kvs.remove(0);
    assert_eq!(found.value, bytes("xxxxx"));
    for kept in
        [&found.key, &found.value, &applied.events[0].key_value.key, &applied.events[0].key_value.value]
    {
        assert!(!frame.as_ptr_range().contains(&kept.as_ptr()));
    }
}

#[test]
fn after_a_compaction_deleted_keys_cost_nothing() {
    let mut bench = Bench::default();
    for number in 0..10_000 {
        bench.put(&format!("k/{number:05}"), "v");
    }
    let full = bench.store.index_bytes();
    bench.delete("k/0", "k/09");
    bench.delete("k/", "k/00");
    for number in (0..10_000).step_by(10) {
        bench.delete(&format!("k/{number:05}"), "");
    }
    let revision = bench.store.revision();
    bench.compact(revision).unwrap();
    while bench.store.compact_step(64) {}
    bench.put("k/99999", "v");
    bench.compact(revision + 1).unwrap();
    while bench.store.compact_step(64) {}
    let left = bench.store.statistics().index_keys;
    assert!(left <= 1000 + 1, "{left} keys left");
    assert!(bench.store.index_bytes() < full / 5);
}
