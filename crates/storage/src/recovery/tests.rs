use std::{collections::BTreeMap, path::Path};

use bytes::Bytes;
use duet_protocol::{ApplianceId, ClusterId, Conf, DiskId, Entry, Lsn};

use super::*;
use crate::{
    Batch, Disk,
    disk::OpenMode,
    testing::{FaultDisk, Unsynced},
};

const OPTIONS: RecoverOptions =
    RecoverOptions { log: LogOptions { segment_bytes: 4 * 4096 }, cache_bytes: 1 << 20 };

fn identity() -> OwnState {
    OwnState::blank(ClusterId(5), ApplianceId::A, DiskId(6))
}

fn path() -> &'static Path {
    Path::new("/data")
}

fn entries(count: u64) -> Vec<Entry> {
    let mut position = Position::EMPTY;
    (0..count)
        .map(|number| {
            let entry = Entry::following(
                &position,
                Epoch(1),
                Bytes::from(vec![7; usize::try_from(300 + number).unwrap()]),
            );
            position = entry.position();
            entry
        })
        .collect()
}

fn row(number: u64) -> (crate::RowKey, Bytes) {
    (u128::from(number).to_be_bytes(), Bytes::from(vec![1; 100]))
}

/// An appliance with entries 1 to 40 in its log, the first 20 in its state.
fn sample() -> FaultDisk {
    let disk = FaultDisk::new();
    let directory = DataDir::create(Arc::new(disk.clone()), path(), &identity()).unwrap();
    let mut parts = directory.recover(OPTIONS).unwrap();
    assert_eq!(parts.own_state, identity());
    let conf = Conf::solo(Epoch(1), ApplianceId::A, DiskId(6));
    parts.own_state_file.save(&OwnState { conf, max_epoch: Epoch(9), ..identity() }).unwrap();
    for entry in entries(40) {
        parts.log.append(&[entry]).unwrap();
        parts.log.sync().unwrap();
    }
    let applied = entries(20)[19].position();
    parts.store.commit(&Batch { puts: (1..=20).map(row).collect(), applied, ..Batch::default() }).unwrap();
    drop(parts);
    disk
}

fn recover(disk: &FaultDisk) -> Result<Parts, RecoverError> {
    DataDir::open(Arc::new(disk.clone()), path())?.recover(OPTIONS)
}

fn copy(directory: &DataDir) -> Result<ReadySnapshot, StateError> {
    let mut builder = directory.receive_snapshot()?;
    for number in 100..110 {
        let (key, value) = row(number);
        builder.put_chunk([(key.as_slice(), value.as_ref())])?;
    }
    builder.finish(copy_position(), Some(Bytes::from_static(b"copied")))
}

fn copy_position() -> Position {
    Position { epoch: Epoch(8), lsn: Lsn(900), digest: Digest([8; 16]) }
}

fn assert_old(parts: &Parts) {
    assert_eq!(parts.recovered.last(), entries(40)[39].position());
    assert_eq!(parts.store.applied(), entries(20)[19].position());
    assert_eq!(parts.store.scan(&[], 1000).unwrap().len(), 20);
}

fn assert_new(parts: &Parts) {
    assert_eq!((parts.recovered.base, parts.recovered.last()), (copy_position(), copy_position()));
    assert_eq!(parts.store.applied(), copy_position());
    assert_eq!(parts.store.meta(), Some(Bytes::from_static(b"copied")));
    assert_eq!(parts.store.scan(&[], 1000).unwrap().len(), 10);
}

#[test]
fn everything_is_there_after_a_power_failure() {
    let disk = sample();
    disk.crash(Unsynced::Lost);
    assert_old(&recover(&disk).unwrap());
}

#[test]
fn a_copy_takes_the_place_of_state_and_log() {
    let disk = sample();
    let directory = DataDir::open(Arc::new(disk.clone()), path()).unwrap();
    let mut parts = directory.recover(OPTIONS).unwrap();
    let mut before = parts.store.snapshot().unwrap();
    let ready = copy(&directory).unwrap();
    directory.install(ready, &parts.store, &mut parts.log).unwrap();
    assert_eq!(parts.log.base(), copy_position());
    assert_eq!(parts.store.scan(&[], 1000).unwrap().len(), 10);
    assert_eq!(before.next_chunk(1 << 20).unwrap().len(), 20, "an old snapshot stays what it was");
    let entry = Entry::following(&copy_position(), Epoch(8), Bytes::from_static(b"next"));
    parts.log.append(std::slice::from_ref(&entry)).unwrap();
    parts.log.sync().unwrap();
    parts.store.commit(&Batch { applied: entry.position(), ..Batch::default() }).unwrap();
    drop((parts, before, directory));
    disk.crash(Unsynced::Lost);
    let parts = recover(&disk).unwrap();
    assert_eq!((parts.recovered.last(), parts.store.applied()), (entry.position(), entry.position()));
}

/// The power fails at every change of receiving and installing a copy, and again at every change of the start after it.
#[test]
fn an_installation_that_is_cut_short_is_undone_or_completed() {
    let origin = sample();
    let (mut old, mut new) = (0, 0);
    for n in 1.. {
        let disk = origin.branch();
        let directory = DataDir::open(Arc::new(disk.clone()), path()).unwrap();
        let mut parts = directory.recover(OPTIONS).unwrap();
        disk.crash_at_change(n);
        let installed = copy(&directory)
            .map_err(RecoverError::from)
            .and_then(|ready| directory.install(ready, &parts.store, &mut parts.log));
        drop((parts, directory));
        disk.crash(if n % 2 == 0 { Unsynced::Lost } else { Unsynced::Torn(n) });
        let torn = disk.branch();
        let parts = recover(&disk).unwrap();
        if parts.recovered.base == copy_position() {
            assert_new(&parts);
            new += 1;
        } else {
            assert!(installed.is_err());
            assert_old(&parts);
            old += 1;
        }
        let outcome = parts.recovered.base;
        drop(parts);
        assert!(disk.files().iter().all(|file| !file.to_string_lossy().contains("incoming")));
        for step in 1.. {
            let disk = torn.branch();
            disk.crash_at_change(step);
            let over = recover(&disk).is_ok();
            disk.crash(Unsynced::Torn(step + n));
            assert_eq!(recover(&disk).unwrap().recovered.base, outcome, "{n} {step}");
            if over {
                break;
            }
        }
        if installed.is_ok() {
            break;
        }
    }
    assert!(old > 3 && new > 3, "{old} {new}");
}

#[test]
fn a_copy_can_be_installed_over_damage() {
    let disk = sample();
    let log = disk.files().into_iter().find(|file| file.extension().is_some_and(|end| end == "seg")).unwrap();
    disk.flip(&log, 4096 + 100, 1);
    assert!(matches!(recover(&disk), Err(RecoverError::Log(LogError::Damaged(_)))));
    let directory = DataDir::open(Arc::new(disk.clone()), path()).unwrap();
    let ready = copy(&directory).unwrap();
    assert_new(&directory.install_over_damage(ready, OPTIONS).unwrap());
    drop(directory);
    disk.crash(Unsynced::Lost);
    assert_new(&recover(&disk).unwrap());
}

#[test]
fn lost_writes_are_told_from_the_instances_of_the_counter() {
    let lost = |outcome: Result<Parts, RecoverError>, words: &str| match outcome {
        Err(error @ RecoverError::LostWrites { .. }) => assert!(error.to_string().contains(words), "{error}"),
        other => panic!("{other:?}"),
    };
    // The newest segments are gone.
    let disk = sample();
    let mut segments: Vec<_> =
        disk.files().into_iter().filter(|file| file.extension().is_some_and(|end| end == "seg")).collect();
    while segments.len() > 2 {
        disk.remove(&segments.pop().unwrap()).unwrap();
    }
    lost(recover(&disk), "ends before");
    // The oldest segments are gone, and those the state does not need.
    let disk = sample();
    let log = Path::new("/data/log");
    let mut segments: Vec<_> =
        disk.list(log).unwrap().into_iter().filter(|name| name.ends_with("seg")).collect();
    segments.sort();
    let needed = |name: &String| name.split_once('-').unwrap().1[..20].parse::<u64>().unwrap() <= 20;
    for name in segments.iter().filter(|name| needed(name)) {
        disk.remove(&log.join(name)).unwrap();
    }
    lost(recover(&disk), "begins after");
    // The state store was lost: a new, empty one can be filled from the log as long as nothing was trimmed.
    let disk = sample();
    disk.remove(Path::new("/data/data.redb")).unwrap();
    assert_eq!(recover(&disk).unwrap().store.applied(), Position::EMPTY);
    // The log of another history.
    let disk = sample();
    let other: Vec<Entry> = {
        let mut position = Position::EMPTY;
        (0..30)
            .map(|_| {
                let entry = Entry::following(&position, Epoch(2), Bytes::new());
                position = entry.position();
                entry
            })
            .collect()
    };
    let mut foreign = Log::create(Arc::new(disk.clone()), log, Position::EMPTY, OPTIONS.log).unwrap();
    foreign.append(&other).unwrap();
    foreign.sync().unwrap();
    drop(foreign);
    lost(recover(&disk), "different histories");
    // An older own state.
    let disk = sample();
    let directory = Path::new("/data/state");
    let (mut file, state) = OwnStateFile::load(Arc::new(disk.clone()), directory).unwrap();
    file.save(&OwnState { max_epoch: Epoch::ZERO, conf: Conf::NONE, ..state }).unwrap();
    lost(recover(&disk), "newer than the appliance's own state");
    // The whole log is gone.
    let disk = sample();
    for name in disk.list(log).unwrap() {
        disk.remove(&log.join(name)).unwrap();
    }
    assert!(matches!(recover(&disk), Err(RecoverError::Log(LogError::Missing { .. }))));
}

/// Whoever looks into a refusal later must find everything as it was: the torn tail, a copy that was arriving, no new state.
#[test]
fn a_refusal_changes_nothing() {
    let segments = |disk: &FaultDisk| -> Vec<_> {
        disk.files().into_iter().filter(|file| file.extension().is_some_and(|end| end == "seg")).collect()
    };
    let write = |disk: &FaultDisk, file: &Path, bytes: &[u8], offset| {
        disk.open(file, OpenMode::Create).unwrap().write_at(bytes, offset).unwrap();
    };
    let store = Path::new("/data/data.redb");
    let refused = |disk: &FaultDisk, words: &str| {
        // The engine writes in its own file when it opens and closes it.
        let bytes = |file: &Path| if file == store { Vec::new() } else { disk.bytes(file) };
        let contents = || -> BTreeMap<_, _> {
            disk.files().into_iter().map(|file| (file.clone(), bytes(&file))).collect()
        };
        let before = contents();
        let error = recover(disk).unwrap_err();
        assert!(matches!(error, RecoverError::LostWrites { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(contents() == before, "changed: {:?} to {:?}", before.keys(), contents().keys());
    };
    let incoming = Path::new("/data/incoming.redb");
    // The newest segments are gone, and behind the last record that is left something was torn.
    let disk = sample();
    for lost in &segments(&disk)[2..] {
        disk.remove(lost).unwrap();
    }
    write(&disk, &segments(&disk)[1], b"torn", OPTIONS.log.segment_bytes - 4);
    write(&disk, incoming, b"a part of it", 0);
    refused(&disk, "ends before");
    // The state is gone, and the log does not reach back to the beginning.
    let disk = sample();
    disk.remove(store).unwrap();
    let base = entries(40)[30].position();
    Log::create(Arc::new(disk.clone()), Path::new("/data/log"), base, OPTIONS.log).unwrap();
    write(&disk, incoming, b"a part of it", 0);
    refused(&disk, "begins after");
}

#[test]
fn a_damaged_marker_is_damage() {
    let disk = sample();
    disk.open(Path::new("/data/installing"), OpenMode::Create).unwrap();
    assert!(matches!(recover(&disk), Err(RecoverError::DataDir(DataDirError::Damaged { .. }))));
}
