//! Loading the store from the state store: at a start, and when a copy was installed.
//!
//! One thread reads and sorts the rows, this one takes them into the store's index. Only keys and places are kept; values
//! stay where they are, but for the newest ones, which fill the cache.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use bytes::Bytes;
use duet_mvcc::{
    DEFAULT_CACHE_BYTES, RestoreError, RestoreRun, Restoring, Revision, RevisionSource, SourceError, Store,
};
use duet_storage::{StateError, StateReader, StateSnapshot, StateStore};

use super::StateFailure;

/// Bytes of rows read from the state store at once.
const READ_BYTES: usize = 1 << 20;

/// Sorted runs that wait for the index: with the ones in work a dozen megabytes.
const WAITING_RUNS: usize = 1;

/// Rows read at once for the cache.
const WARM_ROWS: usize = 1_000;

/// The state that a store was loaded from, as it reads its history from there. Not whatever state is in use: while a copy is
/// installed, the old store's readers must not find the new state's rows.
struct History(StateReader);

impl RevisionSource for History {
    fn get(&self, revision: Revision) -> Result<Option<Bytes>, SourceError> {
        self.0.get(&revision.to_key()).map_err(|error| SourceError::new(error.to_string()))
    }

    fn scan(&self, from: Revision, max: usize) -> Result<Vec<(Revision, Bytes)>, SourceError> {
        let rows = self.0.scan(&from.to_key(), max).map_err(|error| SourceError::new(error.to_string()))?;
        rows.into_iter().map(|(key, value)| Ok((revision_of(&key)?, value))).collect()
    }
}

fn revision_of(key: &[u8]) -> Result<Revision, SourceError> {
    Revision::from_key(key).ok_or_else(|| SourceError::new("a key of the state store is no revision"))
}

/// The store as the state store's last checkpoint left it.
pub(super) fn load(state: &StateStore) -> Result<Store, StateFailure> {
    let history = Arc::new(History(state.reader()?));
    let Some(meta) = state.meta() else {
        return Ok(Store::new(history));
    };
    let mut restoring = Restoring::begin(history, &meta)?;
    let mut rows = Rows::new(state.snapshot()?);
    let (ready, runs) = sync_channel(WAITING_RUNS);
    let newest = std::thread::scope(|scope| {
        let reading = scope.spawn(move || rows.read_all(&ready));
        let added = runs.into_iter().try_for_each(|run| restoring.add(&run));
        // Whatever the reader met comes first: a run that is missing explains what the store misses.
        let newest = reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        added.map_err(StateFailure::from).and(Ok(newest))
    })?;
    let mut store = restoring.finish()?;
    warm(&mut store, &state.reader()?, newest)?;
    Ok(store)
}

/// All rows of the state store, on their way into runs.
struct Rows {
    snapshot: StateSnapshot,
    run: RestoreRun,
    /// Where the newest rows begin that fill the cache.
    newest: Newest,
}

impl Rows {
    fn new(snapshot: StateSnapshot) -> Rows {
        Rows { snapshot, run: RestoreRun::default(), newest: Newest::default() }
    }

    /// Reads all rows; at the end the state store says whether these were all. The answer is where the newest begin.
    fn read_all(&mut self, ready: &SyncSender<RestoreRun>) -> Result<Revision, StateFailure> {
        loop {
            let Rows { snapshot, run, newest } = self;
            let mut failed = None;
            let more = snapshot.visit_chunk(READ_BYTES, |key, record| {
                if failed.is_none() {
                    failed = add(run, newest, key, record).err();
                }
            })?;
            if let Some(error) = failed {
                return Err(error.into());
            }
            if (self.run.is_full() || !more) && ready.send(std::mem::take(&mut self.run).sorted()).is_err() {
                // The store has refused a run and says why.
                return Ok(Revision::ZERO);
            }
            if !more {
                return Ok(self.newest.first());
            }
        }
    }
}

fn add(run: &mut RestoreRun, newest: &mut Newest, key: &[u8], record: &[u8]) -> Result<(), RestoreError> {
    let revision = revision_of(key)?;
    newest.note(revision, record.len());
    run.add(revision, record)
}

/// Remembers where the newest rows begin that together fill the cache, to within a step.
#[derive(Default)]
struct Newest {
    /// Where each step begins, and the bytes of its rows.
    steps: VecDeque<(Revision, usize)>,
    /// Of all steps.
    bytes: usize,
}

impl Newest {
    /// Bytes of a step.
    const STEP_BYTES: usize = DEFAULT_CACHE_BYTES / 32;

    fn note(&mut self, revision: Revision, bytes: usize) {
        self.bytes += bytes;
        match self.steps.back_mut() {
            Some((_, sum)) if *sum < Self::STEP_BYTES => *sum += bytes,
            _ => self.steps.push_back((revision, bytes)),
        }
        while let Some((_, sum)) = self.steps.front()
            && self.bytes - sum >= DEFAULT_CACHE_BYTES
        {
            self.bytes -= sum;
            self.steps.pop_front();
        }
    }

    fn first(&self) -> Revision {
        self.steps.front().map_or(Revision::ZERO, |(revision, _)| *revision)
    }
}

/// Fills the cache with the newest rows.
fn warm(store: &mut Store, rows: &StateReader, mut from: Revision) -> Result<(), StateError> {
    loop {
        let chunk = rows.scan(&from.to_key(), WARM_ROWS)?;
        let is_last = chunk.len() < WARM_ROWS;
        for (key, record) in chunk {
            let Some(revision) = Revision::from_key(&key) else { continue };
            if !store.warm(revision, record) {
                return Ok(());
            }
            from = Revision::new(revision.main, revision.sub + 1);
        }
        if is_last {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_rows_that_fill_the_cache_are_found() {
        const ROW: usize = 1_000;
        for rows in [0, 1, 30_000, 200_000] {
            let mut newest = Newest::default();
            for number in 1..=rows {
                newest.note(Revision::new(number, 0), ROW);
            }
            assert!(newest.steps.len() < 64, "a few steps, not all rows");
            let first = newest.first().main;
            if rows == 0 {
                assert_eq!(first, 0);
                continue;
            }
            let found = usize::try_from(rows - first + 1).unwrap() * ROW;
            let all = usize::try_from(rows).unwrap() * ROW;
            assert!(found >= all.min(DEFAULT_CACHE_BYTES), "{found} of {all} bytes");
            assert!(found <= DEFAULT_CACHE_BYTES + 2 * Newest::STEP_BYTES, "{found} of {all} bytes");
        }
    }
}
