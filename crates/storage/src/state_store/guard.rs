//! What the engine does with a damaged file: at some pages it meets what it takes for impossible, and panics. Here that
//! becomes an error like any other damage, so that a person is told what to do.

use std::{
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
};

use redb::Database;

use super::EngineResult;

/// Calls the engine. Whoever gets the error goes on with nothing of what the call had in its hands.
pub(super) fn guarded<T>(call: impl FnOnce() -> EngineResult<T>) -> EngineResult<T> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|_| Err(redb::Error::Corrupted("the engine panicked".to_owned())))
}

/// An open database. The engine writes when it closes one, and may find the damage only then.
#[derive(Debug)]
pub(super) struct GuardedDatabase(Option<Database>);

impl GuardedDatabase {
    pub fn new(database: Database) -> Self {
        Self(Some(database))
    }
}

impl Deref for GuardedDatabase {
    type Target = Database;

    fn deref(&self) -> &Database {
        self.0.as_ref().unwrap_or_else(|| unreachable!("only the end takes it"))
    }
}

impl Drop for GuardedDatabase {
    fn drop(&mut self) {
        let database = self.0.take();
        // Everything that counts was durable before, and nobody is left to be told.
        let _ = guarded(|| {
            drop(database);
            Ok(())
        });
    }
}
