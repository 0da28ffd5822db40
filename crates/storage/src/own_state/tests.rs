use std::io;

use duet_protocol::Epoch;

use super::*;
use crate::testing::{FaultDisk, Unsynced};

fn state(epoch: u64) -> OwnState {
    let disks = PerAppliance { a: DiskId(7), b: DiskId(u128::MAX) };
    OwnState {
        conf: Conf::pair(Epoch(epoch), ApplianceId::B, disks),
        tent: epoch.is_multiple_of(2).then(|| Conf::solo(Epoch(epoch + 1), ApplianceId::A, DiskId(7))),
        max_epoch: Epoch(epoch + 1),
        parted: Epoch(epoch / 2),
        joined: epoch.is_multiple_of(3),
        ..OwnState::blank(ClusterId(0x1234_5678_9abc_def0), ApplianceId::A, DiskId(7))
    }
}

fn directory() -> PathBuf {
    PathBuf::from("/")
}

#[test]
fn a_saved_state_is_loaded_and_two_generations_are_kept() {
    let disk = FaultDisk::new();
    let blank = OwnState::blank(ClusterId(1), ApplianceId::B, DiskId(2));
    let mut file = OwnStateFile::create(Arc::new(disk.clone()), &directory(), &blank).unwrap();
    let (_, loaded) = OwnStateFile::load(Arc::new(disk.clone()), &directory()).unwrap();
    assert_eq!(loaded, blank);
    for epoch in 1..20 {
        file.save(&state(epoch)).unwrap();
        disk.crash(Unsynced::Lost);
        let loaded;
        (file, loaded) = OwnStateFile::load(Arc::new(disk.clone()), &directory()).unwrap();
        assert_eq!(loaded, state(epoch));
        file.save(&state(epoch)).unwrap();
        assert_eq!(disk.files().len(), 2);
    }
}

/// The power fails at every step of saving: the old state or the new one is there, the new one if saving returned.
#[test]
fn a_crash_at_any_step_leaves_the_old_or_the_new_state() {
    for seed in 0..8 {
        for step in 1.. {
            let disk = FaultDisk::new();
            let mut file = OwnStateFile::create(Arc::new(disk.clone()), &directory(), &state(1)).unwrap();
            file.save(&state(2)).unwrap();
            disk.crash_at_change(step);
            let saved = file.save(&state(3));
            let unsynced = match seed {
                0 => Unsynced::Lost,
                1 => Unsynced::Kept,
                seed => Unsynced::Torn(seed * 1000 + step),
            };
            let triggered = !disk.is_fault_pending();
            disk.crash(unsynced);
            let (_, loaded) = OwnStateFile::load(Arc::new(disk.clone()), &directory()).unwrap();
            if saved.is_ok() {
                assert_eq!(loaded, state(3));
            } else {
                assert!(loaded == state(2) || loaded == state(3), "step {step}");
            }
            if !triggered {
                break;
            }
        }
    }
}

#[test]
fn a_damaged_newest_generation_is_an_error_and_never_the_older_one() {
    let disk = FaultDisk::new();
    let mut file = OwnStateFile::create(Arc::new(disk.clone()), &directory(), &state(1)).unwrap();
    file.save(&state(2)).unwrap();
    let newest = path_of(&directory(), 2);
    for offset in 0..disk.bytes(&newest).len() {
        for mask in [1, 0x80, 0xff] {
            disk.flip(&newest, offset, mask);
            let loaded = OwnStateFile::load(Arc::new(disk.clone()), &directory());
            assert!(matches!(loaded, Err(OwnStateError::Damaged { .. })), "byte {offset}: {loaded:?}");
            disk.flip(&newest, offset, mask);
        }
    }
    for length in [0, 5, HEADER_BYTES, 60, FILE_BYTES_MAX + 1] {
        let good = disk.bytes(&newest);
        let mut bytes = good.clone();
        bytes.resize(length, 0);
        disk.set_bytes(&newest, &bytes);
        let loaded = OwnStateFile::load(Arc::new(disk.clone()), &directory());
        assert!(matches!(loaded, Err(OwnStateError::Damaged { .. })), "{length}: {loaded:?}");
        disk.set_bytes(&newest, &good);
    }
    assert!(OwnStateFile::load(Arc::new(disk), &directory()).is_ok());
}

#[test]
fn a_newer_format_is_refused_and_a_missing_state_is_said_to_be_missing() {
    let disk = FaultDisk::new();
    let loaded = OwnStateFile::load(Arc::new(disk.clone()), &directory());
    assert!(matches!(loaded, Err(OwnStateError::Missing { .. })));
    OwnStateFile::create(Arc::new(disk.clone()), &directory(), &state(1)).unwrap();
    let path = path_of(&directory(), 1);
    let mut bytes = disk.bytes(&path);
    bytes[8..10].copy_from_slice(&(FORMAT + 1).to_le_bytes());
    let crc = checksum(&bytes[..16], &bytes[20..]);
    bytes[16..20].copy_from_slice(&crc.to_le_bytes());
    disk.set_bytes(&path, &bytes);
    let loaded = OwnStateFile::load(Arc::new(disk), &directory());
    assert!(matches!(loaded, Err(OwnStateError::NewerFormat { format: 3, .. })));
}

#[test]
fn a_failed_save_is_final() {
    for step in 1..=7 {
        let disk = FaultDisk::new();
        let mut file = OwnStateFile::create(Arc::new(disk.clone()), &directory(), &state(1)).unwrap();
        disk.fail_operation(step, io::ErrorKind::StorageFull, false);
        let first = file.save(&state(2));
        if disk.is_fault_pending() {
            first.unwrap();
            continue;
        }
        assert!(matches!(first, Err(OwnStateError::DiskFull { .. })), "{step} {first:?}");
        assert!(matches!(file.save(&state(2)), Err(OwnStateError::Poisoned)));
    }
}

/// The process is killed at any step of saving and started again: what it then acts on survives a power cut, although it is not
/// saved again.
#[test]
fn a_state_that_was_loaded_is_durable() {
    for step in 1.. {
        let disk = FaultDisk::new();
        let mut file = OwnStateFile::create(Arc::new(disk.clone()), &directory(), &state(1)).unwrap();
        disk.fail_operation(step, io::ErrorKind::Interrupted, true);
        let _ = file.save(&state(2));
        let triggered = !disk.is_fault_pending();
        drop(file);
        disk.clear_faults();
        let (_, acted_on) = OwnStateFile::load(Arc::new(disk.clone()), &directory()).unwrap();
        disk.crash(Unsynced::Lost);
        let (_, after) = OwnStateFile::load(Arc::new(disk.clone()), &directory()).unwrap();
        assert_eq!(after, acted_on, "step {step}");
        if !triggered {
            assert_eq!(acted_on, state(2));
            return;
        }
    }
}
