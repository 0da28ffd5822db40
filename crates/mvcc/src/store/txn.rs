//! etcd's transactions: conditions, checks and operations.
//!
//! Owns their three phases. First all conditions, nested ones too, are decided against the state before the
//! transaction: the path. Then the operations on the path are checked, puts before ranges, which decides the error
//! that a client sees. Only then they run, at one revision.

use super::{
    Store,
    transaction::{Outcome, Transaction},
};
use crate::{
    error::Error,
    planted::Bug,
    request::{Operation, OperationResponse, PutRequest, Response, TxnRequest, TxnResponse},
};

/// For each transaction on the way, outermost first and then in order of the operations: did its conditions hold?
struct Path {
    decisions: Vec<bool>,
    next: usize,
}

impl Path {
    /// The decision of the next transaction, and the operations to run for it.
    fn take<'request>(&mut self, request: &'request TxnRequest) -> (bool, &'request [Operation]) {
        let succeeded = self.decisions[self.next];
        self.next += 1;
        (succeeded, branch(request, succeeded))
    }

    /// Back to the outermost transaction, after all of the path was walked.
    fn rewind(&mut self) {
        assert!(self.next == self.decisions.len(), "every phase walks the whole path");
        self.next = 0;
    }
}

fn branch(request: &TxnRequest, succeeded: bool) -> &[Operation] {
    if succeeded { &request.success } else { &request.failure }
}

impl Store {
    pub(super) fn apply_txn(&mut self, request: &TxnRequest) -> Outcome {
        let mut path = self.decide(request)?;
        if !Bug::PutsUnchecked.planted() {
            self.check_puts(request, &mut path)?;
            path.rewind();
        }
        self.check_ranges(request, &mut path)?;
        path.rewind();
        let (response, events) = self.transact(|transaction| {
            let response = transaction.txn(request, &mut path)?;
            Ok(TxnResponse { revision: transaction.newest(), ..response })
        })?;
        path.rewind();
        Ok((Response::Txn(response), events))
    }

    /// Runs a transaction for which [`TxnRequest::is_read_only`] holds, without replication.
    ///
    /// # Errors
    /// As [`Store::range`], for the operations of the branches taken.
    ///
    /// # Panics
    /// If the transaction is not read-only: the caller chose the wrong door.
    pub fn read_only_txn(&self, request: &TxnRequest) -> Result<TxnResponse, Error> {
        let mut path = self.decide(request)?;
        self.check_ranges(request, &mut path)?;
        path.rewind();
        let response = self.read_txn(request, &mut path)?;
        Ok(TxnResponse { revision: self.revision, ..response })
    }

    fn read_txn(&self, request: &TxnRequest, path: &mut Path) -> Result<TxnResponse, Error> {
        let (succeeded, operations) = path.take(request);
        let mut responses = Vec::with_capacity(operations.len());
        for operation in operations {
            responses.push(match operation {
                Operation::Range(request) => OperationResponse::Range(self.range_at(request, self.revision)?),
                Operation::Txn(request) => OperationResponse::Txn(self.read_txn(request, path)?),
                Operation::Put(_) | Operation::DeleteRange(_) => {
                    panic!("a transaction with writes goes through apply")
                }
            });
        }
        Ok(TxnResponse { revision: 0, succeeded, responses })
    }

    /// Decides the conditions of all transactions on the way.
    fn decide(&self, request: &TxnRequest) -> Result<Path, Error> {
        let mut decisions = Vec::new();
        self.decide_into(request, &mut decisions)?;
        Ok(Path { decisions, next: 0 })
    }

    fn decide_into(&self, request: &TxnRequest, decisions: &mut Vec<bool>) -> Result<(), Error> {
        let mut succeeded = true;
        for compare in &request.compare {
            if !self.holds(compare)? {
                succeeded = false;
                break;
            }
        }
        decisions.push(succeeded);
        for operation in branch(request, succeeded) {
            if let Operation::Txn(nested) = operation {
                self.decide_into(nested, decisions)?;
            }
        }
        Ok(())
    }

    fn check_puts(&self, request: &TxnRequest, path: &mut Path) -> Result<(), Error> {
        let (_, operations) = path.take(request);
        for operation in operations {
            match operation {
                Operation::Put(request) => self.check_put(request)?,
                Operation::Txn(request) => self.check_puts(request, path)?,
                Operation::Range(_) | Operation::DeleteRange(_) => {}
            }
        }
        Ok(())
    }

    fn check_put(&self, request: &PutRequest) -> Result<(), Error> {
        let keeps = request.ignore_value || request.ignore_lease;
        if keeps && !self.index.get(&request.key).is_some_and(|entry| entry.head().is_live()) {
            return Err(Error::KeyNotFound);
        }
        if request.lease != 0 && !self.leases.exists(request.lease) {
            return Err(Error::LeaseNotFound);
        }
        Ok(())
    }

    fn check_ranges(&self, request: &TxnRequest, path: &mut Path) -> Result<(), Error> {
        let (_, operations) = path.take(request);
        for operation in operations {
            match operation {
                Operation::Range(request) => self.check_revision_in_txn(request.revision)?,
                Operation::Txn(request) => self.check_ranges(request, path)?,
                Operation::Put(_) | Operation::DeleteRange(_) => {}
            }
        }
        Ok(())
    }
}

impl Transaction<'_> {
    /// Runs the operations on the path.
    fn txn(&mut self, request: &TxnRequest, path: &mut Path) -> Result<TxnResponse, Error> {
        let (mut succeeded, mut operations) = path.take(request);
        if Bug::CompareAfterChange.planted() {
            let held = |compare| self.store.holds(compare).unwrap_or(false);
            succeeded = request.compare.iter().all(held);
            operations = branch(request, succeeded);
        }
        let mut responses = Vec::with_capacity(operations.len());
        for operation in operations {
            responses.push(match operation {
                Operation::Range(request) => {
                    OperationResponse::Range(self.store.range_at(request, self.newest())?)
                }
                Operation::Put(request) => OperationResponse::Put(self.put(request)?),
                Operation::DeleteRange(request) => {
                    OperationResponse::DeleteRange(self.delete_range(request)?)
                }
                Operation::Txn(request) => OperationResponse::Txn(self.txn(request, path)?),
            });
        }
        Ok(TxnResponse { revision: 0, succeeded, responses })
    }
}
