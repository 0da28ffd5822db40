use std::io::ErrorKind;

use proptest::prelude::*;

use super::model::{OPTIONS, Step, Subject, directory, script};
use crate::{
    Log, LogError,
    testing::{Dice, FaultDisk, Unsynced},
};

fn run(steps: &[Step]) {
    let mut subject = Subject::new();
    for step in steps {
        subject.step(step).unwrap();
    }
    subject.step(&Step::Crash(Unsynced::Lost)).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any sequence of operations, restarts and power failures.
    #[test]
    fn the_log_holds_what_the_model_holds(seed: u64, length in 1_usize..120) {
        run(&script(seed, length));
    }
}

/// The fate of what was not synced, in turn.
fn fate(round: u64) -> Unsynced {
    match round % 4 {
        0 => Unsynced::Lost,
        1 => Unsynced::Kept,
        _ => Unsynced::Torn(round * 7919),
    }
}

/// The power fails during the n-th change, n = 1, 2, 3, ... until the script is over before.
#[test]
fn a_crash_at_any_change_loses_nothing_synced_and_serves_nothing_torn() {
    for seed in 0..12 {
        let steps = script(0x00C0_FFEE + seed, 60);
        for n in 1.. {
            let mut subject = Subject::new();
            subject.disk.crash_at_change(n);
            let mut failed = false;
            for step in &steps {
                // A power failure of the script itself would undo the one that is set.
                if matches!(step, Step::Crash(_) | Step::Restart) {
                    continue;
                }
                if subject.step(step).is_err() {
                    failed = true;
                    break;
                }
            }
            if !failed {
                break;
            }
            subject.log = None;
            subject.disk.crash(fate(n + seed));
            subject.reopen();
            for step in script(n, 12) {
                subject.step(&step).unwrap();
            }
            subject.step(&Step::Crash(Unsynced::Lost)).unwrap();
        }
    }
}

/// The power fails during the n-th change of a start after a power failure.
#[test]
fn a_crash_at_any_change_of_a_start_is_harmless() {
    for seed in 0..60 {
        let mut first = Subject::new();
        for step in script(0xBEEF + seed, 25) {
            first.step(&step).unwrap();
        }
        first.log = None;
        first.disk.crash(Unsynced::Torn(seed));
        for n in 1.. {
            let mut subject = Subject {
                disk: first.disk.branch(),
                log: None,
                model: first.model.clone(),
                ..Subject::new()
            };
            subject.disk.crash_at_change(n);
            let opened = Log::open(std::sync::Arc::new(subject.disk.clone()), &directory(), OPTIONS);
            let over = opened.is_ok();
            drop(opened);
            subject.disk.crash(fate(n));
            subject.reopen();
            subject.step(&Step::Append(vec![10, 20], 1)).unwrap();
            subject.step(&Step::Sync).unwrap();
            subject.step(&Step::Crash(Unsynced::Lost)).unwrap();
            if over {
                break;
            }
        }
    }
}

/// The n-th operation of any kind fails: the log stops for good, and a restart (with and without a power failure) finds
/// everything that was synced. What a restart reports is really on the disk, even after a failed sync.
#[test]
fn a_failed_operation_is_final_and_loses_nothing_synced() {
    for seed in 0..8 {
        let steps = script(0xFA11 + seed, 50);
        for n in 1.. {
            let mut subject = Subject::new();
            subject.disk.fail_operation(n, ErrorKind::Other, n % 2 == 0);
            let mut failed = false;
            for step in &steps {
                if matches!(step, Step::Crash(_) | Step::Restart) {
                    continue;
                }
                if let Err(error) = subject.step(step) {
                    assert!(!matches!(error, LogError::Damaged(_)), "{error}");
                    failed = true;
                    let log = subject.log.as_mut().unwrap();
                    if !matches!(step, Step::Prepare) {
                        assert!(matches!(log.sync(), Err(LogError::Poisoned)));
                        assert!(matches!(log.append(&[]), Err(LogError::Poisoned)));
                        let last = log.last().lsn;
                        assert!(matches!(log.trim(last), Err(LogError::Poisoned)));
                    }
                    break;
                }
            }
            if !failed {
                break;
            }
            subject.log = None;
            subject.disk.clear_faults();
            if n % 3 == 0 {
                subject.disk.crash(fate(n));
            }
            subject.reopen();
            subject.step(&Step::Crash(Unsynced::Lost)).unwrap();
        }
    }
}

#[test]
fn a_failed_sync_is_not_made_good_by_a_later_one() {
    let mut subject = Subject::new();
    subject.step(&Step::Append(vec![100], 0)).unwrap();
    subject.step(&Step::Sync).unwrap();
    subject.step(&Step::Append(vec![200], 0)).unwrap();
    subject.disk.fail_operation(1, ErrorKind::Other, false);
    assert!(
        matches!(subject.step(&Step::Sync), Err(LogError::Failed(failure)) if failure.operation == "sync")
    );
    assert!(matches!(subject.step(&Step::Sync), Err(LogError::Poisoned)));
    // The bytes are still in memory, and not on the disk: a new process must not count them.
    subject.reopen();
    assert_eq!(subject.log.as_ref().unwrap().last().lsn.0, 1);
}

#[test]
fn a_full_disk_is_said_to_be_full_and_the_log_goes_on_after_space_was_made() {
    let disk = FaultDisk::new();
    disk.set_capacity(Some(3 * OPTIONS.segment_bytes));
    let mut subject = Subject::on(disk);
    let error = loop {
        let outcome = subject.step(&Step::Append(vec![1000], 0)).and_then(|()| subject.step(&Step::Sync));
        if let Err(error) = outcome {
            break error;
        }
    };
    let LogError::DiskFull { path } = &error else { panic!("{error}") };
    assert!(path.starts_with(directory()) && error.to_string().contains("disk is full"));
    assert!(matches!(subject.step(&Step::Sync), Err(LogError::Poisoned)));
    subject.disk.set_capacity(None);
    subject.reopen();
    subject.step(&Step::Append(vec![1000; 20], 0)).unwrap();
    subject.step(&Step::Sync).unwrap();
    subject.step(&Step::Crash(Unsynced::Lost)).unwrap();
}

#[test]
fn preparing_ahead_warns_of_a_full_disk_without_harm() {
    let disk = FaultDisk::new();
    let mut subject = Subject::on(disk);
    subject.disk.set_capacity(Some(OPTIONS.segment_bytes + 4096));
    assert!(matches!(subject.step(&Step::Prepare), Err(LogError::DiskFull { .. })));
    subject.step(&Step::Append(vec![100], 0)).unwrap();
    subject.step(&Step::Sync).unwrap();
    subject.step(&Step::Crash(Unsynced::Lost)).unwrap();
}

/// Later blocks of an unfinished group reach the disk, earlier ones do not: a torn tail, not damage.
#[test]
fn a_group_of_which_only_later_blocks_reached_the_disk_is_cut() {
    for seed in 0..300 {
        let mut subject = Subject::new();
        subject.step(&Step::Append(vec![300], 0)).unwrap();
        subject.step(&Step::Sync).unwrap();
        // The second record begins at a block.
        subject.step(&Step::Append(vec![4096 - 64, 300, 300], 0)).unwrap();
        subject.step(&Step::Append(vec![Dice(seed).below(4000).try_into().unwrap(), 64], 0)).unwrap();
        subject.step(&Step::Crash(Unsynced::Torn(seed))).unwrap();
        // The first of them again, byte for byte and in its old place: what followed it then must not come back.
        subject.step(&Step::Append(vec![0; 1], 0)).unwrap();
        subject.step(&Step::Sync).unwrap();
        subject.step(&Step::Crash(Unsynced::Lost)).unwrap();
        subject.step(&Step::Append(vec![0; 2], 0)).unwrap();
        subject.step(&Step::Crash(Unsynced::Torn(seed + 1))).unwrap();
    }
}

/// A record in the middle of a group is lost, and the next one stands at the very place where a new group could begin.
#[test]
fn a_record_behind_a_lost_one_is_not_taken_for_the_next() {
    let mut cut_in_the_middle = 0;
    for seed in 0..300 {
        let mut subject = Subject::new();
        subject.step(&Step::Append(vec![300], 0)).unwrap();
        // Ends where its block ends.
        subject.step(&Step::Append(vec![4096 - 364 - 64, 300], 0)).unwrap();
        subject.step(&Step::Crash(Unsynced::Torn(seed))).unwrap();
        cut_in_the_middle += u32::from(subject.log.as_ref().unwrap().last().lsn.0 == 1);
    }
    assert!(cut_in_the_middle > 10);
}
