//! A witness in memory, for the tests of others: as strict as the real ones, and it can be made unreachable.
//!
//! Nothing is durable here; never use it for a pair.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::register::too_large;
use crate::{BoxFuture, ReadOutcome, Reason, Register, Version, WriteOutcome};

/// A witness that lives as long as its last clone or register.
#[derive(Clone, Default)]
pub struct MemoryWitness {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    records: HashMap<String, (Version, Bytes)>,
    unreachable: bool,
}

impl MemoryWitness {
    /// A reachable witness without records.
    pub fn new() -> Self {
        Self::default()
    }

    /// The register of a cluster.
    pub fn register(&self, cluster: &str) -> MemoryRegister {
        MemoryRegister { witness: self.clone(), cluster: cluster.to_owned() }
    }

    /// From now on all calls are carried out (true) or answered with `Unknown` and not carried out (false).
    pub fn set_reachable(&self, reachable: bool) {
        self.with(|state| state.unreachable = !reachable);
    }

    /// Loses all records.
    pub fn wipe(&self) {
        self.with(|state| state.records.clear());
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        // A poisoned lock means that a test has panicked already; the state is whole all the same.
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One record of a [`MemoryWitness`].
pub struct MemoryRegister {
    witness: MemoryWitness,
    cluster: String,
}

impl MemoryRegister {
    fn write(&self, expected: Option<&Version>, bytes: Bytes) -> WriteOutcome {
        if let Some(reason) = too_large(bytes.len()) {
            return WriteOutcome::Unknown(reason);
        }
        self.witness.with(|state| {
            if state.unreachable {
                return WriteOutcome::Unknown(unreachable());
            }
            if state.records.get(&self.cluster).map(|(version, _)| version) != expected {
                return WriteOutcome::Mismatch;
            }
            match Version::draw() {
                Ok(version) => {
                    state.records.insert(self.cluster.clone(), (version.clone(), bytes));
                    WriteOutcome::Swapped(version)
                }
                Err(reason) => WriteOutcome::Unknown(reason),
            }
        })
    }
}

impl Register for MemoryRegister {
    fn read(&self) -> BoxFuture<'_, ReadOutcome> {
        Box::pin(async {
            self.witness.with(|state| {
                if state.unreachable {
                    return ReadOutcome::Unknown(unreachable());
                }
                match state.records.get(&self.cluster).cloned() {
                    Some((version, bytes)) => ReadOutcome::Record { version, bytes },
                    None => ReadOutcome::Absent,
                }
            })
        })
    }

    fn create(&self, bytes: Bytes) -> BoxFuture<'_, WriteOutcome> {
        Box::pin(async { self.write(None, bytes) })
    }

    fn compare_and_set(&self, expected: &Version, bytes: Bytes) -> BoxFuture<'_, WriteOutcome> {
        let expected = expected.clone();
        Box::pin(async move { self.write(Some(&expected), bytes) })
    }

    fn describe(&self) -> String {
        format!("witness in memory, cluster {}", self.cluster)
    }
}

fn unreachable() -> Reason {
    Reason::new("the witness in memory was made unreachable by the test")
}
