//! A door for fuzzing (feature `fuzzing`): the parsers of this crate on bytes as a disk may give them back.
//!
//! Each function panics when a parser breaks its promise: that no bytes make it panic, that what it takes it would write the
//! same way, and that it takes nothing whose checksum is wrong. It returns whether it took the bytes as they are, whole.
//! Random bytes never get past a checksum, so each function also mends the checksum and looks again.

use std::{
    io::Read,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use duet_protocol::{
    ApplianceId, ClusterId, Conf, DiskId, Entry, Epoch, Lsn, OwnState, PerAppliance, Position, WitnessId,
};

use crate::{
    Log, LogOptions, ReadError, StateStore,
    disk::{Disk, OpenMode},
    log::fuzzing as log_parts,
    own_state,
    recovery::decode_position,
    testing::FaultDisk,
};

/// Small, so that a few entries fill several segments.
const OPTIONS: LogOptions = LogOptions { segment_bytes: 5 * 4096 };

/// Segment that the records of [`log_record_samples`] belong to.
const SEGMENT: u64 = 7;

/// Generation that [`own_state_samples`] have.
const GENERATION: u64 = 12;

/// A chain of entries of these sizes, from an empty log on.
fn entries(sizes: &[usize]) -> Vec<Entry> {
    let mut position = Position::EMPTY;
    let entry = |(index, size): (usize, &usize)| {
        let command = Bytes::from(vec![u8::try_from(index % 251).unwrap_or(0); *size]);
        let entry = Entry::following(&position, Epoch(1 + index as u64 / 3), command);
        position = entry.position();
        entry
    };
    sizes.iter().enumerate().map(entry).collect()
}

/// Valid records.
pub fn log_record_samples() -> Vec<Vec<u8>> {
    let record = |entry: &Entry| log_parts::encode_record(entry, SEGMENT, Lsn(0), 5);
    entries(&[0, 9, 300]).iter().map(record).collect()
}

/// One record of the log.
pub fn log_record(bytes: &[u8]) -> bool {
    let taken = log_parts::check_record(bytes, SEGMENT);
    if let Some(mended) = log_parts::mend_record(bytes) {
        log_parts::check_record(&mended, SEGMENT);
    }
    taken
}

/// Valid header blocks of segments.
pub fn segment_header_samples() -> Vec<Vec<u8>> {
    log_parts::header_samples()
}

/// The header block of a segment.
pub fn segment_header(bytes: &[u8]) -> bool {
    let taken = log_parts::check_header(bytes);
    if let Some(mended) = log_parts::mend_header(bytes) {
        log_parts::check_header(&mended);
    }
    taken
}

/// Valid own states.
pub fn own_state_samples() -> Vec<Vec<u8>> {
    let pair = Conf::pair(Epoch(5), ApplianceId::A, PerAppliance { a: DiskId(1), b: DiskId(u128::MAX) });
    let blank = OwnState::blank(ClusterId(3), ApplianceId::B, DiskId(9));
    let full = OwnState {
        conf: pair,
        tent: Some(Conf::solo(Epoch(8), ApplianceId::B, DiskId(9)).at(WitnessId(u32::MAX))),
        max_epoch: Epoch(8),
        parted: Epoch(4),
        joined: true,
        ..blank.clone()
    };
    [blank, full].iter().map(|state| own_state::encode(state, GENERATION)).collect()
}

/// A generation of the own state.
pub fn own_state(bytes: &[u8]) -> bool {
    let check = |bytes: &[u8]| {
        let state = own_state::decode(bytes, GENERATION).ok();
        if let Some(state) = &state {
            assert!(own_state::encode(state, GENERATION) == bytes, "a state has one form");
        }
        state.is_some()
    };
    let taken = check(bytes);
    let mut mended = bytes.to_vec();
    if own_state::mend(&mut mended) {
        check(&mended);
    }
    taken
}

/// The position that a state store says it was applied up to.
pub fn applied_position(bytes: &[u8]) -> bool {
    let mut fields = crate::fields::Fields(bytes);
    let position = decode_position(&mut fields).filter(|_| fields.is_done());
    if let Some(position) = position {
        assert!(crate::state_store::encode_position(&position) == bytes, "a position has one form");
    }
    position.is_some()
}

/// A log of several segments on a disk of its own, and what it holds.
fn sample_log() -> &'static (FaultDisk, Vec<Entry>) {
    static LOG: OnceLock<(FaultDisk, Vec<Entry>)> = OnceLock::new();
    LOG.get_or_init(|| {
        let disk = FaultDisk::new();
        let entries = entries(&[10, 100, 5000, 20, 4032, 300, 300, 300, 7, 4000, 4000, 90, 1]);
        let written = Log::create(Arc::new(disk.clone()), Path::new("/"), Position::EMPTY, OPTIONS).and_then(
            |mut log| entries.chunks(3).try_for_each(|group| log.append(group).and(log.sync().map(drop))),
        );
        assert!(written.is_ok(), "{written:?}");
        (disk, entries)
    })
}

/// Edits of the files of a directory, read from fuzzed bytes: which file, where, and what is done there.
fn edit(disk: &FaultDisk, mut edits: &[u8]) -> Vec<PathBuf> {
    const EDITS_MAX: usize = 8;
    let paths = disk.files();
    for _ in 0..EDITS_MAX {
        let mut head = [0; 5];
        if edits.read_exact(&mut head).is_err() {
            break;
        }
        let [file, low, high, kind, value] = head;
        let path = &paths[usize::from(file) % paths.len()];
        let mut bytes = disk.bytes(path);
        let length = bytes.len().max(1);
        let at = usize::from(u16::from_le_bytes([low, high])) % length;
        let here = at..bytes.len().min(at + 8);
        match kind % 7 {
            0 => bytes[here].iter_mut().take(1).for_each(|byte| *byte = value),
            1 => bytes[here].iter_mut().take(1).for_each(|byte| *byte ^= 1 << (value % 8)),
            2 => bytes[here].fill(value),
            3 => bytes[here].iter_mut().take(8).skip(1).for_each(|byte| *byte = 0xff),
            4 => bytes.truncate(at),
            5 => {
                let from = usize::from(value) * 64 % length;
                let block = bytes[from..bytes.len().min(from + 256)].to_vec();
                bytes.iter_mut().skip(at).zip(block).for_each(|(to, from)| *to = from);
            }
            _ => bytes = disk.bytes(&paths[usize::from(value) % paths.len()]),
        }
        disk.set_bytes(path, &bytes);
    }
    paths
}

/// The log's files with some edits, with the checksums as they come or all mended: what opens holds what was written, entry
/// for entry, whatever was lost.
pub fn log_files(edits: &[u8]) {
    let (sample, entries) = sample_log();
    let Some((mend, edits)) = edits.split_first() else { return };
    let disk = sample.branch();
    for path in edit(&disk, edits) {
        if mend % 2 == 1 {
            let mut bytes = disk.bytes(&path);
            log_parts::mend_segment(&mut bytes);
            disk.set_bytes(&path, &bytes);
        }
    }
    let Ok((log, recovered)) = Log::open(Arc::new(disk), Path::new("/"), OPTIONS) else { return };
    let (mut next, last) = (recovered.base.lsn.next(), recovered.last().lsn);
    while next <= last {
        let read = match log.reader().read(next, 1 << 20) {
            Ok(read) => read,
            Err(ReadError::Beyond { .. } | ReadError::Trimmed { .. }) => panic!("LSN {next} was recovered"),
            Err(ReadError::Damaged(_) | ReadError::Failed(_)) => return,
        };
        for entry in read {
            let place = usize::try_from(entry.lsn.0 - 1).ok();
            assert!(
                place.and_then(|place| entries.get(place)) == Some(&entry),
                "LSN {} is another",
                entry.lsn
            );
            next = entry.lsn.next();
        }
    }
}

/// A state store of some hundred rows on a disk of its own.
fn sample_store() -> &'static FaultDisk {
    static STORE: OnceLock<FaultDisk> = OnceLock::new();
    STORE.get_or_init(|| {
        let disk = FaultDisk::new();
        let store = StateStore::open(Arc::new(disk.clone()), Path::new(STORE_FILE), 1 << 20);
        let written = store.and_then(|store| {
            let mut batch = crate::Batch { meta: Some(Bytes::from_static(b"meta")), ..Default::default() };
            let row = |row: u32| (u128::from(row).to_be_bytes(), Bytes::from(vec![7; 40]));
            batch.puts = (0..400).map(row).collect();
            batch.applied.lsn = Lsn(9);
            store.commit(&batch)
        });
        assert!(written.is_ok(), "{written:?}");
        disk
    })
}

/// Where [`sample_store`] is.
const STORE_FILE: &str = "/data.redb";

/// The state store's file with some edits: it opens and can be read, or says that it is damaged.
pub fn state_store_file(edits: &[u8]) {
    let disk = sample_store().branch();
    edit(&disk, edits);
    let path = Path::new(STORE_FILE);
    assert!(disk.open(path, OpenMode::Existing).is_ok(), "edits remove nothing");
    let Ok(store) = StateStore::open(Arc::new(disk), path, 1 << 20) else { return };
    if store.scan(&[], 1000).is_ok()
        && let Ok(mut snapshot) = store.snapshot()
    {
        while snapshot.next_chunk(4096).is_ok_and(|chunk| !chunk.is_empty()) {}
    }
}
