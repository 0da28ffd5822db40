//! What came of a call, where a test knows what should.

use std::time::Duration;

use duet_witness::{ReadOutcome, Reason, Version, WriteOutcome};

/// Generous: the tests of promises must not fail because the machine is busy.
pub const PATIENT: Duration = Duration::from_mins(1);

#[track_caller]
pub fn reason_of_read(outcome: ReadOutcome) -> Reason {
    match outcome {
        ReadOutcome::Unknown(reason) => reason,
        other => panic!("expected Unknown, got {other:?}"),
    }
}

#[track_caller]
pub fn reason_of_write(outcome: WriteOutcome) -> Reason {
    match outcome {
        WriteOutcome::Unknown(reason) => reason,
        other => panic!("expected Unknown, got {other:?}"),
    }
}

#[track_caller]
pub fn swapped(outcome: WriteOutcome) -> Version {
    match outcome {
        WriteOutcome::Swapped(version) => version,
        other => panic!("expected Swapped, got {other:?}"),
    }
}
