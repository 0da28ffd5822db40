use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use bytes::Bytes;
use duet_protocol::{Entry, Epoch, Lsn, Position};

use super::model::{OPTIONS, Step, Subject, directory};
use crate::{Log, LogError, LogOptions, ReadError, RealDisk, testing::Unsynced};

#[test]
fn an_empty_directory_has_no_log() {
    let disk = Arc::new(crate::testing::FaultDisk::new());
    assert!(matches!(Log::open(disk, &directory(), OPTIONS), Err(LogError::Missing { .. })));
}

#[test]
fn a_lone_write_takes_one_block_and_a_group_shares_blocks() {
    let mut subject = Subject::new();
    subject.step(&Step::Append(vec![10], 0)).unwrap();
    subject.step(&Step::Append(vec![10; 3], 0)).unwrap();
    let before = subject.disk.changes();
    subject.step(&Step::Sync).unwrap();
    subject.step(&Step::Sync).unwrap();
    assert_eq!(subject.disk.changes() - before, 1, "nothing new, nothing to sync");
    let path = subject.disk.files().pop().unwrap();
    let used = |subject: &Subject| {
        let bytes = subject.disk.bytes(&path);
        bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1
    };
    assert_eq!(used(&subject), 4096 + 4 * 74);
    subject.step(&Step::Append(vec![10], 0)).unwrap();
    assert_eq!(used(&subject), 2 * 4096 + 74);
}

#[test]
fn an_append_is_one_write() {
    let mut subject = Subject::new();
    let before = subject.disk.operations();
    subject.step(&Step::Append(vec![10; 40], 0)).unwrap();
    assert_eq!(subject.disk.operations() - before, 1);
}

#[test]
fn a_record_larger_than_a_segment_gets_a_segment_of_its_own() {
    let mut subject = Subject::new();
    for _ in 0..3 {
        subject.step(&Step::Append(vec![100_000], 0)).unwrap();
        subject.step(&Step::Append(vec![1], 0)).unwrap();
    }
    subject.step(&Step::Sync).unwrap();
    subject.step(&Step::Crash(Unsynced::Lost)).unwrap();
    assert_eq!(subject.log.as_ref().unwrap().last().lsn, Lsn(6));
}

#[test]
fn reading_outside_the_log_says_so() {
    let mut subject = Subject::new();
    for _ in 0..10 {
        subject.step(&Step::Append(vec![4000], 0)).unwrap();
        subject.step(&Step::Sync).unwrap();
    }
    let reader = subject.log.as_ref().unwrap().reader();
    assert!(matches!(reader.read(Lsn(11), 1), Err(ReadError::Beyond { last: Lsn(10), .. })));
    assert!(matches!(reader.read(Lsn(0), 1), Err(ReadError::Trimmed { first: Lsn(1), .. })));
    subject.step(&Step::Trim(500)).unwrap();
    let base = subject.log.as_ref().unwrap().base().lsn;
    assert!(base > Lsn::ZERO && base <= Lsn(5));
    assert!(matches!(reader.read(base, 1), Err(ReadError::Trimmed { .. })));
    assert_eq!(reader.read(base.next(), 4001).unwrap().len(), 2);
    subject.step(&Step::Truncate(500)).unwrap();
    let last = subject.log.as_ref().unwrap().last().lsn;
    assert!(matches!(reader.read(last.next(), 1), Err(ReadError::Beyond { .. })));
    assert_eq!(reader.last(), last);
}

#[test]
fn segments_are_recycled_and_a_truncation_gives_space_back() {
    let mut subject = Subject::new();
    for _ in 0..100 {
        subject.step(&Step::Append(vec![4000], 0)).unwrap();
        subject.step(&Step::Sync).unwrap();
        subject.step(&Step::Trim(1000)).unwrap();
    }
    assert!(subject.disk.files().len() <= 3, "{:?}", subject.disk.files());
    for _ in 0..10 {
        subject.step(&Step::Append(vec![10; 3], 0)).unwrap();
        subject.step(&Step::Sync).unwrap();
        subject.step(&Step::Truncate(900)).unwrap();
    }
    let log = subject.log.as_ref().unwrap();
    assert!(log.disk_bytes() < 14 * 2 * 4096 + OPTIONS.segment_bytes, "{}", log.disk_bytes());
    subject.step(&Step::Crash(Unsynced::Lost)).unwrap();
}

/// What a limit in bytes keeps: whole segments, the newest ones.
#[test]
fn the_newest_entries_are_counted_by_the_space_of_their_segments() {
    let mut subject = Subject::new();
    let reader = subject.log.as_ref().unwrap().reader();
    assert_eq!(reader.entries_within(u64::MAX), 0);
    for _ in 0..6 {
        subject.step(&Step::Append(vec![4000; 2], 0)).unwrap();
        subject.step(&Step::Sync).unwrap();
    }
    let segments = subject.disk.files().len() as u64;
    assert!(segments >= 3, "{segments}");
    let all = reader.entries_within(segments * OPTIONS.segment_bytes);
    assert_eq!(all, 12);
    let newest = reader.entries_within(0);
    assert_eq!(newest, reader.entries_within(OPTIONS.segment_bytes), "never less than one segment");
    let two = reader.entries_within(3 * OPTIONS.segment_bytes - 1);
    assert!(0 < newest && newest < two && two < all, "{newest} {two} {all}");
}

/// In the rhythm of an appliance: prepared well before it is needed, trimmed when a segment more is full.
#[test]
fn a_log_that_is_trimmed_as_it_grows_goes_round_in_its_files() {
    let directory = tempfile::tempdir().unwrap();
    let options = LogOptions { segment_bytes: 16 * 4096 };
    let mut log = Log::create(Arc::new(RealDisk), directory.path(), Position::EMPTY, options).unwrap();
    let preparer = log.preparer();
    let mut zeroed = Vec::new();
    for round in 0..160_u64 {
        let entry = Entry::following(&log.last(), Epoch(1), Bytes::from(vec![1; 2 * 4096 - 500]));
        log.append(&[entry]).unwrap();
        let last = log.sync().unwrap();
        if preparer.prepare_next().unwrap() {
            zeroed.push(round);
        }
        if round % 8 == 7 {
            log.trim(Lsn(last.0.saturating_sub(6))).unwrap();
        }
    }
    assert!(zeroed.len() <= 6, "of 23 segments, zeros were written in the rounds {zeroed:?}");
    let files = std::fs::read_dir(directory.path()).unwrap().count();
    assert!(files <= 5, "{files} files");
    drop(log);
    Log::open(Arc::new(RealDisk), directory.path(), options).unwrap();
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), files, "a start keeps the spares");
}

/// One writer that appends, truncates and trims, and readers that may find entries gone but never wrong ones.
#[test]
fn readers_beside_the_writer_get_true_entries() {
    let directory = tempfile::tempdir().unwrap();
    let options = LogOptions { segment_bytes: 16 * 4096 };
    let mut log = Log::create(Arc::new(RealDisk), directory.path(), Position::EMPTY, options).unwrap();
    let stop = AtomicBool::new(false);
    let preparer = log.preparer();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                preparer.prepare_next().unwrap();
                thread::yield_now();
            }
        });
        for _ in 0..2 {
            let reader = log.reader();
            let stop = &stop;
            scope.spawn(move || {
                let mut read = 0_u64;
                while !stop.load(Ordering::Relaxed) || read == 0 {
                    let from = Lsn(reader.base().lsn.0 + 1 + read % 7);
                    match reader.read(from, 5000) {
                        Ok(entries) => {
                            for (index, entry) in entries.iter().enumerate() {
                                assert_eq!(entry.lsn.0, from.0 + index as u64);
                                assert_eq!(&entry.command[..8], entry.lsn.0.to_le_bytes());
                                read += 1;
                            }
                        }
                        Err(ReadError::Trimmed { .. } | ReadError::Beyond { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        let mut position = Position::EMPTY;
        for round in 0..400_u64 {
            let mut entries = Vec::new();
            for index in 0..=(round % 17) {
                let mut command = (position.lsn.0 + 1).to_le_bytes().to_vec();
                command.resize(usize::try_from(8 + index * 50).unwrap(), 1);
                let entry = Entry::following(&position, Epoch(1 + round / 50), Bytes::from(command));
                position = entry.position();
                entries.push(entry);
            }
            log.append(&entries).unwrap();
            assert_eq!(log.sync().unwrap(), position.lsn);
            log.trim(Lsn(position.lsn.0.saturating_sub(400))).unwrap();
            if round % 60 == 59 {
                log.truncate(Lsn(position.lsn.0 - 5)).unwrap();
                position = log.last();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let last = log.last();
    drop(log);
    let (_, recovered) = Log::open(Arc::new(RealDisk), directory.path(), options).unwrap();
    assert_eq!((recovered.last(), recovered.torn), (last, None));
}
