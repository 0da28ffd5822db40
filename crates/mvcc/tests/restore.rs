//! What a checkpoint left comes back as it was, and damage is refused instead of served.

#![allow(clippy::unwrap_used)] // in a test a panic is the report

mod support;

use std::sync::Arc;

use bytes::Bytes;
use duet_mvcc::{
    Alarm, AlarmKind, Command, EmptySource, Error, Response, RestoreError, RestoreRun, Restoring, Revision,
    SourceError, Store,
};
use support::{Bench, op_put, txn};

type Records = Vec<(Revision, Bytes)>;

/// A checkpoint with leases, several versions and a delete.
fn checkpointed() -> (Bench, Bytes, Records) {
    let mut bench = Bench::default();
    bench.grant(7, 60).unwrap();
    bench.put_with_lease("a", 7).unwrap();
    bench.put("b", "1");
    bench.put("b", "2");
    bench.delete("b", "");
    bench.txn(txn(vec![op_put("c"), op_put("d")])).unwrap();
    let checkpoint = bench.store.begin_checkpoint();
    bench.engine.write(&checkpoint);
    bench.store.finish_checkpoint();
    let records = checkpoint.puts.to_vec();
    (bench, checkpoint.meta, records)
}

fn restore(meta: &Bytes, records: Records) -> Result<Store, RestoreError> {
    Store::restore(Arc::new(EmptySource), meta, records.into_iter().map(Ok))
}

#[test]
fn everything_comes_back() {
    let (mut bench, _, _) = checkpointed();
    let before =
        (bench.store.state_digest().unwrap(), bench.store.hash_kv(0).unwrap(), bench.store.revision());
    bench.restart();
    assert_eq!(
        (bench.store.state_digest().unwrap(), bench.store.hash_kv(0).unwrap(), bench.store.revision()),
        before
    );
    assert_eq!(bench.store.lease_time_to_live(7, true).unwrap().keys, [Bytes::from_static(b"a")]);
}

#[test]
fn a_large_compaction_is_spread_over_checkpoints_and_restarts() {
    let mut bench = Bench::default();
    for round in 0..4 {
        for number in 0..30_000 {
            bench.put(&format!("k/{number:05}"), &format!("{round}"));
        }
    }
    bench.checkpoint();
    bench.compact(bench.store.revision()).unwrap();
    while bench.store.compact_step(1000) {}
    assert_eq!(bench.store.statistics().pending_deletes, 90_000);
    let left = |bench: &Bench| bench.engine.contents.lock().unwrap().records.len();
    bench.checkpoint();
    assert!(left(&bench) > 30_000 && left(&bench) < 120_000);
    let digest = bench.store.state_digest().unwrap();
    bench.restart();
    assert_eq!(bench.store.state_digest().unwrap(), digest);
    while bench.store.compact_step(1000) {}
    bench.checkpoint();
    assert_eq!((left(&bench), bench.store.statistics().pending_deletes), (30_000, 0));
    bench.restart();
    assert_eq!(bench.store.state_digest().unwrap(), digest);
    assert!(!bench.store.compact_step(1000));
}

#[test]
fn a_store_without_records_comes_back() {
    let mut bench = Bench::default();
    bench.grant(7, 60).unwrap();
    bench.checkpoint();
    bench.restart();
    assert_eq!((bench.store.revision(), bench.store.leases()), (1, vec![7]));
    bench.checkpoint();
}

#[test]
fn alarms_come_back_and_a_store_without_them_keeps_the_first_format() {
    let mut bench = Bench::default();
    bench.grant(7, 60).unwrap();
    let alarms = [(AlarmKind::NoSpace, 11), (AlarmKind::NoSpace, u64::MAX), (AlarmKind::Corrupt, 11)];
    let alarms = alarms.map(|(kind, member)| Alarm { kind, member });
    let before = bench.store.state_digest().unwrap();
    for alarm in alarms {
        assert_eq!(bench.apply(&Command::RaiseAlarm(alarm)).result, Ok(Response::Alarm(Some(alarm))));
    }
    assert_ne!(bench.store.state_digest().unwrap(), before);
    bench.checkpoint();
    bench.restart();
    assert_eq!(bench.store.alarms().collect::<Vec<_>>(), alarms);
    assert_eq!(bench.grant(8, 60), Err(Error::Corrupt));
    let meta = bench.store.begin_checkpoint().meta;
    for length in 0..meta.len() {
        assert!(matches!(restore(&meta.slice(..length), Vec::new()), Err(RestoreError::Meta(_))));
    }
    bench.store.finish_checkpoint();
    assert_eq!(meta[0], 2);
    for alarm in alarms {
        assert_eq!(bench.apply(&Command::ClearAlarm(alarm)).result, Ok(Response::Alarm(Some(alarm))));
        assert_eq!(bench.apply(&Command::ClearAlarm(alarm)).result, Ok(Response::Alarm(None)));
    }
    assert_eq!(bench.store.begin_checkpoint().meta[0], 1, "the first version can read it");
    assert_eq!(bench.store.state_digest().unwrap(), before);
}

#[test]
fn damaged_meta_is_refused() {
    let (_, meta, records) = checkpointed();
    assert!(restore(&meta, records.clone()).is_ok());
    for length in 0..meta.len() {
        assert!(matches!(restore(&meta.slice(..length), records.clone()), Err(RestoreError::Meta(_))));
    }
    let mut longer = meta.to_vec();
    longer.push(0);
    assert!(restore(&Bytes::from(longer), records.clone()).is_err());
    // A revision that has no next one, and no compaction before it.
    let endless = [&[1, 0xfe][..], &[0xff; 8], &[1, 1, 0, 0]].concat();
    assert!(matches!(restore(&Bytes::from(endless), Vec::new()), Err(RestoreError::Meta(_))));
    let mut unknown = meta.to_vec();
    unknown[0] = 99;
    assert!(restore(&Bytes::from(unknown), records).is_err());
}

#[test]
fn damaged_records_are_refused() {
    let (_, meta, records) = checkpointed();
    let with = |change: fn(&mut Records)| {
        let mut records = records.clone();
        change(&mut records);
        restore(&meta, records).err()
    };
    assert!(matches!(with(|records| records.swap(0, 1)), Some(RestoreError::OutOfOrder(_))));
    assert!(matches!(with(|records| records[5].0.main = 99), Some(RestoreError::OutOfOrder(_))));
    assert!(matches!(with(|records| records[0].1 = Bytes::new()), Some(RestoreError::Record { .. })));
    // A put of b without the one before it, and a delete twice.
    assert!(matches!(
        with(|records| records[2].1 = records[1].1.clone()),
        Some(RestoreError::Contradiction(_))
    ));
    assert!(matches!(
        with(|records| records[2].1 = records[3].1.clone()),
        Some(RestoreError::Contradiction(_))
    ));
    assert!(matches!(
        with(|records| records[4].1 = records[5].1.clone()),
        Some(RestoreError::Contradiction(_))
    ));
    // A version that no key can have so early.
    let version_9 = |records: &mut Records| {
        let mut record = records[0].1.to_vec();
        record[2] = 9;
        records[0].1 = Bytes::from(record);
    };
    assert!(matches!(with(version_9), Some(RestoreError::Contradiction(_))));
    // A key on a lease that does not exist.
    let other = Bench::default().store.begin_checkpoint().meta;
    let mut meta = meta.to_vec();
    meta.truncate(4);
    meta.push(0);
    assert!(restore(&other, records.clone()).is_err());
    assert!(matches!(restore(&Bytes::from(meta), records), Err(RestoreError::Contradiction(_))));
}

fn run(records: &[(Revision, Bytes)]) -> RestoreRun {
    let mut run = RestoreRun::default();
    for (revision, record) in records {
        run.add(*revision, record).unwrap();
    }
    run.sorted()
}

#[test]
fn runs_are_taken_in_their_order_only() {
    let (bench, meta, records) = checkpointed();
    let begin = || Restoring::begin(Arc::new(EmptySource), &meta).unwrap();
    for split in 0..=records.len() {
        let (first, second) = (run(&records[..split]), run(&records[split..]));
        let mut restoring = begin();
        restoring.add(&first).unwrap();
        restoring.add(&second).unwrap();
        let restored = restoring.finish().unwrap();
        assert_eq!(restored.revision(), bench.store.revision());
        assert_eq!(restored.statistics().index_keys, bench.store.statistics().index_keys);
        if 0 < split && split < records.len() {
            let mut restoring = begin();
            restoring.add(&second).map_or_else(
                |error| assert!(matches!(error, RestoreError::Contradiction(_)), "{error}"),
                |()| assert!(matches!(restoring.add(&first), Err(RestoreError::OutOfOrder(_)))),
            );
        }
    }
}

#[test]
fn the_cache_is_filled_with_what_is_latest_while_there_is_room() {
    let (_, meta, records) = checkpointed();
    let mut store = restore(&meta, records.clone()).unwrap();
    assert_eq!(store.statistics().cached_bytes, 0);
    for (revision, record) in &records {
        assert!(store.warm(*revision, record.clone()));
    }
    // a, c and d: not the first b, nor its delete.
    let latest = [0, 4, 5].map(|index: usize| records[index].1.len());
    let one = store.statistics().cached_bytes - latest.iter().sum::<usize>();
    assert!(one > 0 && one.is_multiple_of(3), "three records, each with what it costs beside its bytes");
    for (revision, record) in &records {
        assert!(store.warm(*revision, record.clone()));
    }
    assert_eq!(store.statistics().cached_bytes, one + latest.iter().sum::<usize>(), "nothing twice");
    let mut small = restore(&meta, records.clone()).unwrap();
    small.set_cache_bytes(latest[0] + one / 3);
    assert!(small.warm(records[0].0, records[0].1.clone()));
    assert!(!small.warm(records[4].0, records[4].1.clone()), "there is no room for a second one");
    assert_eq!(small.statistics().cached_bytes, latest[0] + one / 3);
}

#[test]
fn an_engine_that_fails_is_reported() {
    let (_, meta, _) = checkpointed();
    let failing = vec![Err(SourceError::new("unreadable page"))];
    let result = Store::restore(Arc::new(EmptySource), &meta, failing);
    assert!(matches!(result, Err(RestoreError::Source(_))));
}

#[test]
#[should_panic(expected = "one checkpoint at a time")]
fn a_second_checkpoint_waits_for_the_first() {
    let mut bench = Bench::default();
    bench.store.begin_checkpoint();
    bench.store.begin_checkpoint();
}
