use std::sync::Arc;

use bytes::Bytes;
use duet_protocol::{Digest, Entry, Epoch, Lsn, Position};

use super::model::{OPTIONS, Step, Subject, directory};
use crate::{
    Log, LogError, Recovered,
    log::segment,
    testing::{FaultDisk, Unsynced},
};

fn open(disk: &FaultDisk) -> Result<(Log, Recovered), LogError> {
    Log::open(Arc::new(disk.clone()), &directory(), OPTIONS)
}

/// A synced log of several segments, with groups of one and of many records and a truncation inside.
fn sample(recycled: bool) -> Subject {
    let mut subject = Subject::new();
    if recycled {
        for _ in 0..12 {
            subject.step(&Step::Append(vec![500; 5], 0)).unwrap();
            subject.step(&Step::Sync).unwrap();
            subject.step(&Step::Trim(1000)).unwrap();
        }
    }
    for sizes in [vec![10], vec![100, 5000, 20], vec![4032], vec![300; 9], vec![7], vec![4000; 3]] {
        subject.step(&Step::Append(sizes, 0)).unwrap();
        subject.step(&Step::Sync).unwrap();
    }
    subject.step(&Step::Truncate(700)).unwrap();
    for sizes in [vec![200], vec![900; 3], vec![90], vec![50, 60]] {
        subject.step(&Step::Append(sizes, 1)).unwrap();
        subject.step(&Step::Sync).unwrap();
        subject.model.again.clear();
    }
    subject
}

/// Its records are all there; but nobody knows whether there were more.
#[test]
fn a_newest_segment_that_was_cut_short_is_damage() {
    let subject = sample(false);
    let newest = newest(&subject.disk);
    let bytes = subject.disk.bytes(&newest);
    for lost in [1, 4096] {
        let disk = subject.disk.branch();
        disk.set_bytes(&newest, &bytes[..bytes.len() - lost]);
        let opened = open(&disk);
        let is_seen =
            matches!(&opened, Err(LogError::Damaged(damage)) if damage.reason.contains("cut short"));
        assert!(is_seen, "{lost} bytes less: {opened:?}");
    }
}

/// Every byte of every segment is inverted in turn: the log says that it is damaged and leaves the disk alone, or it holds
/// everything; only the very last group may be taken for a torn tail.
#[test]
fn no_flipped_byte_is_ever_overlooked() {
    for recycled in [false, true] {
        let subject = sample(recycled);
        let last = subject.model.last();
        let last_group = Lsn(last.lsn.0 - 1);
        let (mut damaged, mut cut, mut whole) = (0, 0, 0);
        let newest = newest(&subject.disk);
        for path in subject.disk.files() {
            let bytes = subject.disk.bytes(&path);
            for (offset, byte) in bytes.iter().enumerate() {
                if *byte == 0 && offset % 61 != 0 {
                    continue;
                }
                let disk = subject.disk.branch();
                disk.flip(&path, offset, if offset % 2 == 0 { 0x01 } else { 0xff });
                let before = disk.branch();
                match open(&disk) {
                    Err(LogError::Damaged(damage)) => {
                        damaged += 1;
                        assert!(damage.first_lost <= last.lsn, "{damage}");
                        assert!(damage.valid_after >= damage.first_lost, "{damage}");
                        for file in before.files() {
                            assert_eq!(before.bytes(&file), disk.bytes(&file), "nothing is modified");
                        }
                        assert_eq!(before.files(), disk.files());
                    }
                    Ok((log, recovered)) => {
                        let end = recovered.last().lsn;
                        if end < last.lsn {
                            cut += 1;
                            assert!(path == newest, "{}", path.display());
                            assert!(end.next() >= last_group, "byte {offset} cost LSN {}", end.next());
                            assert_eq!(recovered.torn.unwrap().at_lsn, end.next());
                        } else {
                            whole += 1;
                        }
                        let mut check =
                            Subject { disk, log: Some(log), model: subject.model.clone(), ..Subject::new() };
                        check.read_all(recovered.base.lsn, end);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
        assert!(damaged > 5000 && cut > 100 && whole > 100, "{damaged} {cut} {whole}");
    }
}

fn newest(disk: &FaultDisk) -> std::path::PathBuf {
    let is_segment = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "seg");
    disk.files().into_iter().rfind(is_segment).unwrap()
}

/// A reader finds a flipped byte too, and says which LSN is lost.
#[test]
fn a_reader_never_serves_a_damaged_record() {
    let mut subject = Subject::new();
    subject.step(&Step::Append(vec![100; 3], 0)).unwrap();
    subject.step(&Step::Sync).unwrap();
    let reader = subject.log.as_ref().unwrap().reader();
    let record = segment::HEADER_BYTES + 164;
    for offset in record..record + 164 {
        subject.disk.flip(&newest(&subject.disk), offset, 4);
        assert_eq!(reader.read(Lsn(1), 0).unwrap().len(), 1);
        let error = reader.read(Lsn(2), 0).unwrap_err();
        assert!(
            matches!(&error, crate::ReadError::Damaged(damage) if damage.first_lost == Lsn(2)),
            "{error}"
        );
        subject.disk.flip(&newest(&subject.disk), offset, 4);
    }
    assert_eq!(reader.read(Lsn(2), 1000).unwrap().len(), 2);
}

/// A sound record in another one's place: its write went astray while the log was open.
#[test]
fn a_reader_never_serves_a_record_for_another() {
    let mut subject = Subject::new();
    subject.step(&Step::Append(vec![100; 3], 0)).unwrap();
    subject.step(&Step::Sync).unwrap();
    let reader = subject.log.as_ref().unwrap().reader();
    let path = newest(&subject.disk);
    let mut bytes = subject.disk.bytes(&path);
    let second = segment::HEADER_BYTES + 164;
    bytes.copy_within(second + 164..second + 2 * 164, second);
    subject.disk.set_bytes(&path, &bytes);
    assert_eq!(reader.read(Lsn(1), 1000).unwrap().len(), 1, "as far as it is sound");
    let error = reader.read(Lsn(2), 0).unwrap_err();
    assert!(matches!(&error, crate::ReadError::Damaged(damage) if damage.first_lost == Lsn(2)), "{error}");
    assert_eq!(reader.read(Lsn(3), 0).unwrap().len(), 1);
}

#[test]
fn damage_names_what_is_lost_and_what_is_there() {
    let mut subject = Subject::new();
    for _ in 0..3 {
        subject.step(&Step::Append(vec![100], 0)).unwrap();
        subject.step(&Step::Sync).unwrap();
    }
    subject.disk.flip(&newest(&subject.disk), 2 * 4096 + 80, 1);
    let Err(LogError::Damaged(damage)) = open(&subject.disk) else { panic!("damage is seen") };
    assert_eq!((damage.offset, damage.first_lost, damage.valid_after), (4096 + 164, Lsn(2), Lsn(3)));
    assert_eq!(
        LogError::Damaged(damage).to_string(),
        "the log is damaged: a record is invalid at byte 4260 of \
         /0000000000000001-00000000000000000000.seg: entries from LSN 2 are lost, entries from LSN 3 are there"
    );
}

#[test]
fn a_missing_segment_is_damage() {
    let subject = sample(false);
    let segments: Vec<_> = subject.disk.files();
    assert!(segments.len() >= 3);
    for missing in 0..segments.len() {
        let disk = subject.disk.branch();
        crate::Disk::remove(&disk, &segments[missing]).unwrap();
        let opened = open(&disk);
        if missing == 0 {
            // To the log alone this looks as if it had been trimmed; the state's position tells.
            assert!(opened.unwrap().1.base.lsn > Lsn::ZERO);
        } else if missing + 1 < segments.len() {
            assert!(matches!(opened, Err(LogError::Damaged(_))), "{missing}: {opened:?}");
        }
    }
}

#[test]
fn a_newer_format_is_refused() {
    let subject = sample(false);
    let path = newest(&subject.disk);
    let mut bytes = subject.disk.bytes(&path);
    bytes[12] = 9;
    let crc = crc32c::crc32c(&bytes[12..segment::HEADER_BYTES]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    subject.disk.set_bytes(&path, &bytes);
    assert!(matches!(open(&subject.disk), Err(LogError::NewerFormat { format: 9, .. })));
}

/// A new log can be begun over a damaged one, and the old one never comes back.
#[test]
fn a_log_begun_over_a_damaged_one_supersedes_it() {
    let subject = sample(false);
    subject.disk.flip(&subject.disk.files()[0], 4096 + 70, 1);
    assert!(matches!(open(&subject.disk), Err(LogError::Damaged(_))));
    let base = Position { lsn: Lsn(5000), ..subject.model.last() };
    for n in 1.. {
        let disk = subject.disk.branch();
        disk.crash_at_change(n);
        let created = Log::create(Arc::new(disk.clone()), &directory(), base, OPTIONS);
        let over = created.is_ok();
        drop(created);
        disk.crash(Unsynced::Torn(n));
        match open(&disk) {
            Ok((_, recovered)) => assert_eq!(recovered, Recovered { base, stamps: Vec::new(), torn: None }),
            Err(error) => assert!(!over && matches!(error, LogError::Damaged(_)), "{n}: {error}"),
        }
        if over {
            break;
        }
    }
}

#[test]
fn an_entry_whose_digest_is_not_true_to_its_history_is_damage() {
    let disk = Subject::new().disk;
    let mut log = Log::create(Arc::new(disk.clone()), &directory(), Position::EMPTY, OPTIONS).unwrap();
    let first = Entry::following(&Position::EMPTY, Epoch(1), Bytes::from_static(b"first"));
    let second = Entry::following(&first.position(), Epoch(1), Bytes::from_static(b"second"));
    let untrue = Entry { digest: Digest([7; 16]), ..second };
    log.append(&[first, untrue]).unwrap();
    log.sync().unwrap();
    drop(log);
    let Err(LogError::Damaged(damage)) = open(&disk) else { panic!("the untrue digest is overlooked") };
    assert_eq!((damage.first_lost, damage.valid_after), (Lsn(2), Lsn(3)));
}
