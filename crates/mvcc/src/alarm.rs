//! Alarms: conditions that a member has raised, and that stay until somebody takes them back.
//!
//! Owns which alarms there are and what they forbid. They are replicated state: both appliances refuse the same
//! commands from the same entry on, whoever is primary. What raises them (a quota, a comparison) is the server's.

use std::collections::BTreeSet;

use crate::{
    command::Command,
    error::Error,
    request::{Operation, PutRequest, TxnRequest},
};

/// Alarms that can be raised at once. Members are two; a client may name others, as in etcd, but not without end.
pub const MAX_ALARMS: usize = 64;

/// What a put is counted as besides its key and value, in bytes; etcd's figure for a record's overhead.
const PUT_OVERHEAD_BYTES: u64 = 256;

/// What a lease is counted as, in bytes; etcd's figure.
const LEASE_BYTES: u64 = 64;

/// What is the matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlarmKind {
    /// The store is full: nothing may be added, everything may be removed.
    NoSpace,
    /// The members' copies are not the same: nothing may be changed.
    Corrupt,
}

/// One alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alarm {
    /// What is the matter.
    pub kind: AlarmKind,
    /// With which member.
    pub member: u64,
}

/// All alarms that are raised.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    raised: BTreeSet<Alarm>,
}

impl Alarms {
    pub(crate) fn is_empty(&self) -> bool {
        self.raised.is_empty()
    }

    /// Ascending by kind, then member.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = Alarm> {
        self.raised.iter().copied()
    }

    /// Raises one; one that is raised already stays as it is.
    pub(crate) fn raise(&mut self, alarm: Alarm) -> Result<(), Error> {
        if self.raised.len() >= MAX_ALARMS && !self.raised.contains(&alarm) {
            return Err(Error::TooManyAlarms);
        }
        self.raised.insert(alarm);
        Ok(())
    }

    /// Takes one back; whether it was raised.
    pub(crate) fn clear(&mut self, alarm: Alarm) -> bool {
        self.raised.remove(&alarm)
    }

    /// Why a command may not be carried out now.
    pub(crate) fn refusal(&self, command: &Command) -> Option<Error> {
        if self.raised.is_empty() {
            return None;
        }
        let is_raised = |kind| self.raised.iter().any(|alarm| alarm.kind == kind);
        // What a person needs who sets it right; etcd's list.
        let management =
            matches!(command, Command::RaiseAlarm(_) | Command::ClearAlarm(_) | Command::Auth(_));
        if is_raised(AlarmKind::Corrupt) && !management {
            return Some(Error::Corrupt);
        }
        (is_raised(AlarmKind::NoSpace) && command.quota_bytes() > 0).then_some(Error::NoSpace)
    }
}

impl Command {
    /// What the command can add to the store at most, in bytes as etcd counts them; 0 for one that adds nothing and is
    /// therefore carried out however full the store is.
    pub fn quota_bytes(&self) -> u64 {
        match self {
            Command::Put(request) => of_put(request),
            Command::Txn(request) => of_txn(request),
            Command::LeaseGrant { .. } => LEASE_BYTES,
            Command::DeleteRange(_)
            | Command::Compact { .. }
            | Command::LeaseRevoke { .. }
            | Command::RaiseAlarm(_)
            | Command::ClearAlarm(_)
            | Command::Auth(_) => 0,
            Command::As { command, .. } => command.quota_bytes(),
        }
    }
}

fn of_put(request: &PutRequest) -> u64 {
    PUT_OVERHEAD_BYTES + request.key.len() as u64 + request.value.len() as u64
}

/// The larger of the two branches: which one is taken is not known yet.
fn of_txn(request: &TxnRequest) -> u64 {
    let of_branch = |branch: &[Operation]| branch.iter().map(of_operation).sum::<u64>();
    of_branch(&request.success).max(of_branch(&request.failure))
}

fn of_operation(operation: &Operation) -> u64 {
    match operation {
        Operation::Put(request) => of_put(request),
        Operation::Txn(request) => of_txn(request),
        Operation::Range(_) | Operation::DeleteRange(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn put(value: usize) -> PutRequest {
        PutRequest {
            key: Bytes::from_static(b"key"),
            value: Bytes::from(vec![0; value]),
            ..PutRequest::default()
        }
    }

    #[test]
    fn commands_are_counted_as_etcd_counts_them() {
        assert_eq!(Command::Put(put(100)).quota_bytes(), 256 + 103);
        assert_eq!(Command::LeaseGrant { id: 1, ttl: 2 }.quota_bytes(), 64);
        let nested = TxnRequest { failure: vec![Operation::Put(put(7))], ..TxnRequest::default() };
        let txn = TxnRequest {
            success: vec![Operation::Put(put(0)), Operation::Put(put(1))],
            failure: vec![Operation::Txn(nested), Operation::Put(put(500))],
            ..TxnRequest::default()
        };
        assert_eq!(Command::Txn(txn).quota_bytes(), (256 + 10) + (256 + 503));
        assert_eq!(Command::Compact { revision: 3 }.quota_bytes(), 0);
    }

    #[test]
    fn alarms_are_bounded_and_the_same_one_is_one() {
        let mut alarms = Alarms::default();
        for member in 0..MAX_ALARMS as u64 {
            assert_eq!(alarms.raise(Alarm { kind: AlarmKind::NoSpace, member }), Ok(()));
        }
        let first = Alarm { kind: AlarmKind::NoSpace, member: 0 };
        assert_eq!(alarms.raise(first), Ok(()));
        assert_eq!(alarms.iter().len(), MAX_ALARMS);
        assert_eq!(alarms.raise(Alarm { kind: AlarmKind::Corrupt, member: 0 }), Err(Error::TooManyAlarms));
        assert!(alarms.clear(first) && !alarms.clear(first));
        assert_eq!(alarms.raise(Alarm { kind: AlarmKind::Corrupt, member: 0 }), Ok(()));
    }
}
