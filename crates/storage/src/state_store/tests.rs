use duet_protocol::{Digest, Epoch, Lsn};

use super::*;
use crate::{
    RealDisk,
    testing::{Dice, FaultDisk, Unsynced},
};

const CACHE: usize = 1 << 20;

fn path() -> PathBuf {
    PathBuf::from("/data.redb")
}

fn position(lsn: u64) -> Position {
    Position { epoch: Epoch(1), lsn: Lsn(lsn), digest: Digest([u8::try_from(lsn % 251).unwrap(); 16]) }
}

fn key(number: u64) -> RowKey {
    let mut key = RowKey::default();
    key[..8].copy_from_slice(&number.to_be_bytes());
    key
}

/// Batch `n` writes rows of its own, overwrites row 0, and removes the first row of the batch before.
fn batch(n: u64) -> Batch {
    let value = |row: u64| Bytes::from(format!("value {n}/{row} {}", "x".repeat(200)));
    let mut puts: Vec<_> = (1..=8).map(|row| (key(n * 10 + row), value(row))).collect();
    puts.push((key(0), value(0)));
    let deletes = if n > 1 { vec![key((n - 1) * 10 + 1)] } else { Vec::new() };
    Batch { puts, deletes, meta: Some(Bytes::from(format!("meta {n}"))), applied: position(n * 10) }
}

fn rows_after(n: u64) -> Vec<(Vec<u8>, Bytes)> {
    let mut rows = std::collections::BTreeMap::new();
    for n in 1..=n {
        let batch = batch(n);
        rows.extend(batch.puts.into_iter().map(|(key, value)| (key.to_vec(), value)));
        for key in batch.deletes {
            rows.remove(key.as_slice());
        }
    }
    rows.into_iter().collect()
}

fn assert_holds(store: &StateStore, n: u64) {
    let rows = store.scan(&[], usize::MAX).unwrap();
    let rows: Vec<_> = rows.into_iter().map(|(key, value)| (key.to_vec(), value)).collect();
    assert_eq!(rows, rows_after(n));
    assert_eq!(store.applied(), if n == 0 { Position::EMPTY } else { position(n * 10) });
    assert_eq!(store.meta(), (n > 0).then(|| Bytes::from(format!("meta {n}"))));
    // Each value has a checksum of four bytes.
    let rows: u64 = rows_after(n).iter().map(|(_, value)| (ROW_KEY_BYTES + value.len() + 4) as u64).sum();
    let sizes = store.sizes().unwrap();
    assert_eq!(sizes.content, rows + store.meta().map_or(0, |meta| meta.len()) as u64);
    assert!(sizes.file > sizes.content);
}

fn open(disk: &FaultDisk) -> Result<StateStore, StateError> {
    StateStore::open(Arc::new(disk.clone()), &path(), CACHE)
}

#[test]
fn what_is_committed_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data.redb");
    for n in 0..4 {
        let store = StateStore::open(Arc::new(RealDisk), &path, CACHE).unwrap();
        assert_holds(&store, n);
        store.commit(&batch(n + 1)).unwrap();
        assert_holds(&store, n + 1);
    }
    let store = StateStore::open(Arc::new(RealDisk), &path, CACHE).unwrap();
    assert_eq!(store.get(&key(45)).unwrap().as_ref(), Some(&batch(4).puts[4].1));
    assert_eq!(store.get(&key(31)).unwrap(), None);
    assert_eq!(store.scan(&key(40), 2).unwrap().len(), 2);
    store.commit(&Batch { applied: position(50), ..Batch::default() }).unwrap();
    assert_eq!(store.meta(), Some(Bytes::from_static(b"meta 4")), "no new record leaves the old one");
}

#[test]
fn a_snapshot_stays_as_it_was_while_commits_go_on() {
    let disk = FaultDisk::new();
    let store = open(&disk).unwrap();
    for n in 1..=5 {
        store.commit(&batch(n)).unwrap();
    }
    let mut snapshot = store.snapshot().unwrap();
    let committer = store.clone();
    std::thread::scope(|scope| {
        scope.spawn(move || (6..12).for_each(|n| committer.commit(&batch(n)).unwrap()));
        let mut rows = Vec::new();
        loop {
            let chunk = snapshot.next_chunk(700).unwrap();
            assert!(chunk.len() <= 4);
            if chunk.is_empty() {
                break;
            }
            rows.extend(chunk.into_iter().map(|(key, value)| (key.to_vec(), value)));
        }
        assert_eq!(rows, rows_after(5));
        assert_eq!(snapshot.position(), position(50));
        assert_eq!(snapshot.meta(), Some(Bytes::from_static(b"meta 5")));
    });
    assert_holds(&store, 11);
}

/// All rows that a snapshot still gives.
fn rest(snapshot: &mut StateSnapshot) -> Vec<(Bytes, Bytes)> {
    let mut rows = Vec::new();
    loop {
        let chunk = snapshot.next_chunk(100).unwrap();
        if chunk.is_empty() {
            return rows;
        }
        rows.extend(chunk);
    }
}

#[test]
fn a_copy_is_resumed_where_its_rows_are_still_those_of_the_state() {
    let disk = FaultDisk::new();
    let store = open(&disk).unwrap();
    store.commit(&batch(1)).unwrap();
    store.commit(&batch(2)).unwrap();
    let all = rest(&mut store.snapshot().unwrap());
    for split in 1..=all.len() {
        let mut builder = SnapshotBuilder::create(Arc::new(disk.clone()), Path::new("/")).unwrap();
        assert_eq!(builder.mark(), None);
        builder.put_chunk(all[..split].iter().map(|(key, value)| (key.as_ref(), value.as_ref()))).unwrap();
        let mark = builder.mark().unwrap();
        let mut snapshot = store.snapshot().unwrap();
        assert!(snapshot.resume(&mark).unwrap());
        assert_eq!(rest(&mut snapshot), all[split..]);
        // A row more or less, another value, a row that is not there.
        let [rows, sum, bytes] = mark.tally;
        for tally in [[rows + 1, sum, bytes], [rows, sum + 1, bytes], [rows, sum, bytes + 1]] {
            assert!(!snapshot.resume(&CopyMark { tally, ..mark.clone() }).unwrap());
            assert_eq!(rest(&mut snapshot), all, "from the beginning");
        }
        let after = [mark.after.as_ref(), &[0]].concat().into();
        assert!(!snapshot.resume(&CopyMark { after, ..mark.clone() }).unwrap());
        // New rows behind it change nothing.
        assert!(store.snapshot().unwrap().resume(&mark).unwrap());
    }
    // A compaction has removed a row before the mark.
    let mut builder = SnapshotBuilder::create(Arc::new(disk.clone()), Path::new("/")).unwrap();
    builder.put_chunk(all.iter().map(|(key, value)| (key.as_ref(), value.as_ref()))).unwrap();
    let deletes = vec![all[0].0.as_ref().try_into().unwrap()];
    store.commit(&Batch { deletes, applied: position(30), ..Batch::default() }).unwrap();
    assert!(!store.snapshot().unwrap().resume(&builder.mark().unwrap()).unwrap());
}

/// The power fails during every change of a store's life: each commit is there as a whole or not at all.
#[test]
fn a_crash_at_any_change_leaves_whole_commits() {
    let mut dice = Dice(3);
    for n in 1.. {
        let disk = FaultDisk::new();
        disk.crash_at_change(n);
        let mut committed = 0;
        let outcome = open(&disk).and_then(|store| {
            for n in 1..=4 {
                store.commit(&batch(n))?;
                committed = n;
            }
            Ok(())
        });
        let triggered = !disk.is_fault_pending();
        disk.crash(match n % 3 {
            0 => Unsynced::Lost,
            1 => Unsynced::Kept,
            _ => Unsynced::Torn(dice.throw()),
        });
        let store = open(&disk).unwrap();
        let found = store.applied().lsn.0 / 10;
        assert!(found == committed || found == committed + 1, "{found} {committed}");
        assert_holds(&store, found);
        store.commit(&batch(found + 1)).unwrap();
        drop(store);
        disk.crash(Unsynced::Lost);
        assert_holds(&open(&disk).unwrap(), found + 1);
        if !triggered {
            outcome.unwrap();
            break;
        }
    }
}

#[test]
fn an_error_of_the_engine_is_final() {
    let disk = FaultDisk::new();
    let store = open(&disk).unwrap();
    store.commit(&batch(1)).unwrap();
    disk.fail_operation(2, std::io::ErrorKind::StorageFull, false);
    assert!(matches!(store.commit(&batch(2)), Err(StateError::DiskFull { operation: "commit" })));
    disk.clear_faults();
    assert!(matches!(store.commit(&batch(2)), Err(StateError::Poisoned)));
    assert!(matches!(store.get(&[]), Err(StateError::Poisoned)));
    drop(store);
    let store = open(&disk).unwrap();
    let found = store.applied().lsn.0 / 10;
    assert!((1..=2).contains(&found));
    assert_holds(&store, found);
}

#[test]
fn a_file_that_is_no_database_is_damaged_and_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data.redb");
    let disk: Arc<dyn Disk> = Arc::new(crate::RealDisk);
    drop(StateStore::open(Arc::clone(&disk), &path, 1 << 20).unwrap());
    let good = std::fs::read(&path).unwrap();
    let foreign = vec![0x55; 70_000];
    for bytes in [&foreign[..], &good[..100], &good[..good.len() / 2], b""] {
        std::fs::write(&path, bytes).unwrap();
        let error = StateStore::open(Arc::clone(&disk), &path, 1 << 20).unwrap_err();
        assert!(matches!(error, StateError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("data.redb"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "left as it is");
    }
    std::fs::write(&path, good).unwrap();
    StateStore::open(disk, &path, 1 << 20).unwrap();
}

/// Everything that a start and a copy look at.
fn read_everything(path: &Path) -> Result<(Facts, Vec<(Bytes, Bytes)>), StateError> {
    let store = StateStore::open(Arc::new(RealDisk), path, CACHE)?;
    let mut snapshot = store.snapshot()?;
    let mut rows = Vec::new();
    loop {
        let chunk = snapshot.next_chunk(4096)?;
        if chunk.is_empty() {
            return Ok((store.current().facts.clone(), rows));
        }
        rows.extend(chunk);
    }
}

/// An old page in the place of a newer one is a sound page: what it lacks or still holds, only the tally tells.
#[test]
fn rows_that_are_missing_or_came_back_are_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data.redb");
    let store = StateStore::open(Arc::new(RealDisk), &path, CACHE).unwrap();
    (1..=2).for_each(|n| store.commit(&batch(n)).unwrap());
    drop(store);
    let (deleted, kept) = (batch(1).puts.swap_remove(0), batch(1).puts.swap_remove(1));
    // Each of the two has its own, true checksum.
    let change = |(key, value): &(RowKey, Bytes), is_there: bool| {
        let transaction = Database::open(&path).unwrap().begin_write().unwrap();
        {
            let mut rows = transaction.open_table(ROWS).unwrap();
            if is_there {
                rows.insert(key.as_slice(), seal(key, value).as_slice()).unwrap();
            } else {
                rows.remove(key.as_slice()).unwrap();
            }
        }
        transaction.commit().unwrap();
        read_everything(&path).map(|(_, rows)| rows.len())
    };
    let rows = rows_after(2).len();
    let noticed = |outcome| matches!(outcome, Err(StateError::Damaged { reason }) if reason.contains("rows are missing"));
    assert!(noticed(change(&kept, false)));
    assert!(matches!(change(&kept, true), Ok(count) if count == rows));
    assert!(noticed(change(&deleted, true)));
    assert!(matches!(change(&deleted, false), Ok(count) if count == rows));
}

/// A flipped bit anywhere, or an old block in the place of any, is found, or has changed nothing that counts.
#[test]
fn no_damage_of_the_file_is_taken_for_data() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data.redb");
    let store = StateStore::open(Arc::new(RealDisk), &path, CACHE).unwrap();
    store.commit(&batch(1)).unwrap();
    drop(store);
    let old = std::fs::read(&path).unwrap();
    let store = StateStore::open(Arc::new(RealDisk), &path, CACHE).unwrap();
    (2..=6).for_each(|n| store.commit(&batch(n)).unwrap());
    drop(store);
    let whole = std::fs::read(&path).unwrap();
    let right = read_everything(&path).unwrap();
    assert_eq!(right.1.len(), rows_after(6).len());
    let mut dice = Dice(7);
    let (mut found, mut tried) = (0, 0);
    let mut judge = |damaged: &[u8]| {
        std::fs::write(&path, damaged).unwrap();
        tried += 1;
        match read_everything(&path) {
            Err(_) => found += 1,
            Ok((facts, rows)) => {
                assert_eq!((facts.applied, &facts.meta), (right.0.applied, &right.0.meta));
                assert_eq!(rows, right.1);
            }
        }
    };
    // Where a row or a fact lies, and here and there.
    let used: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    for at in used.iter().step_by(used.len() / 400 + 1) {
        let mut damaged = whole.clone();
        damaged[*at] ^= 1 << (dice.throw() % 8);
        judge(&damaged);
    }
    for block in (0..old.len()).step_by(4096) {
        let end = (block + 4096).min(old.len());
        if old[block..end] != whole[block..end] {
            let mut damaged = whole.clone();
            damaged[block..end].copy_from_slice(&old[block..end]);
            judge(&damaged);
        }
    }
    assert!(tried > 200 && found > tried / 4, "{found} of {tried}: the damage must meet something");
}
