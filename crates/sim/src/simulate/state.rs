//! The state machine of a process: the real store over the real state store, with the server's order of locks and reports.

use std::sync::Arc;

use bytes::Bytes;
use duet_mvcc::{Applied, Checkpoint, Command, EmptySource, Revision, RevisionSource, SourceError, Store};
use duet_protocol::{Entry, Position};
use duet_storage::{Batch, StateReader, StateStore};

use super::storage::{Failure, words};

/// Keys visited in one step of a compaction.
const COMPACT_KEYS: usize = 8;

/// Bytes of rows of a copy that are read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// A whole state.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    pub rows: Vec<(Bytes, Bytes)>,
    pub meta: Option<Bytes>,
}

/// The state machine of a running process.
pub struct StateMachine {
    pub store: Store,
    /// Where it stands.
    pub applied: Position,
    /// A checkpoint that is being written, and where it stands.
    checkpoint: Option<(Position, Checkpoint)>,
    pub compacting: bool,
}

/// The history a store reads: that of the state it was loaded from.
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

/// The store as the last checkpoint left it.
fn load(state: &StateStore) -> Result<Store, Failure> {
    let history = Arc::new(History(state.reader().map_err(words)?));
    let Some(meta) = state.meta() else { return Ok(Store::new(history)) };
    let (_, Rows { rows, .. }) = copy(state)?;
    let rows = rows.into_iter().map(|(key, value)| Ok((revision_of(&key)?, value)));
    let rows: Vec<(Revision, Bytes)> = rows.collect::<Result<_, SourceError>>().map_err(words)?;
    let mut store = Store::restore(history, &meta, rows.iter().cloned().map(Ok)).map_err(words)?;
    for (revision, record) in rows {
        store.warm(revision, record);
    }
    Ok(store)
}

fn revision_of(key: &[u8]) -> Result<Revision, SourceError> {
    Revision::from_key(key).ok_or_else(|| SourceError::new("a key of the state store is no revision"))
}

impl StateMachine {
    /// As a start loads it.
    pub fn open(state: &StateStore) -> Result<Self, Failure> {
        let store = load(state)?;
        Ok(Self { store, applied: state.applied(), checkpoint: None, compacting: true })
    }

    /// Another state has taken the place of the one there was.
    pub fn load(&mut self, state: &StateStore) -> Result<(), Failure> {
        assert!(self.checkpoint.is_none(), "nothing is written while a copy is installed");
        *self = Self::open(state)?;
        Ok(())
    }

    /// Applies one entry.
    pub fn apply(&mut self, entry: &Entry) -> Result<Applied, Failure> {
        let command = super::workload::command_of(entry)?;
        self.compacting |= matches!(command.inner(), Command::Compact { .. });
        let applied = self.store.apply(&command);
        match &applied.result {
            Err(error) if error.is_fatal() => Err(error.to_string()),
            _ => {
                self.applied = entry.position();
                Ok(applied)
            }
        }
    }

    /// A part of a compaction that is under way.
    pub fn compact_some(&mut self) {
        if self.compacting {
            self.compacting = self.store.compact_step(COMPACT_KEYS);
        }
    }

    /// Freezes what has changed since the last checkpoint. `false`: nothing has, or one is being written.
    pub fn begin_checkpoint(&mut self, state: &StateStore) -> bool {
        let unchanged =
            self.applied.lsn == state.applied().lsn && self.store.statistics().pending_deletes == 0;
        if unchanged || self.checkpoint.is_some() {
            return false;
        }
        self.checkpoint = Some((self.applied, self.store.begin_checkpoint()));
        true
    }

    /// Writes what was frozen; where it stands.
    pub fn finish_checkpoint(&mut self, state: &StateStore) -> Result<Option<Position>, Failure> {
        let Some((applied, checkpoint)) = self.checkpoint.take() else { return Ok(None) };
        let batch = Batch {
            puts: checkpoint.puts.iter().map(|(key, value)| (key.to_key(), value.clone())).collect(),
            deletes: checkpoint.deletes.iter().map(|revision| revision.to_key()).collect(),
            meta: Some(checkpoint.meta),
            applied,
        };
        state.commit(&batch).map_err(words)?;
        self.store.finish_checkpoint();
        Ok(Some(applied))
    }
}

impl std::fmt::Debug for StateMachine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateMachine").field("applied", &self.applied).finish_non_exhaustive()
    }
}

/// A copy of the state as of its last checkpoint, as it goes over the wire.
pub fn copy(state: &StateStore) -> Result<(Position, Rows), Failure> {
    let mut snapshot = state.snapshot().map_err(words)?;
    let mut rows = Vec::new();
    loop {
        let chunk = snapshot.next_chunk(CHUNK_BYTES).map_err(words)?;
        if chunk.is_empty() {
            break;
        }
        rows.extend(chunk);
    }
    Ok((snapshot.position(), Rows { rows, meta: snapshot.meta() }))
}

/// The state of a pair with a past: some keys, and revisions before them that are gone; and how it came to be.
pub fn history(lsn: u64) -> (Rows, Store, Vec<(Command, Applied)>) {
    let mut store = Store::new(Arc::new(EmptySource));
    let mut past = Vec::new();
    for command in super::workload::history(lsn) {
        let applied = store.apply(&command);
        assert!(applied.result.is_ok(), "the past was valid");
        past.push((command, applied));
    }
    let checkpoint = store.begin_checkpoint();
    let rows = checkpoint
        .puts
        .iter()
        .map(|(key, value)| (Bytes::copy_from_slice(&key.to_key()), value.clone()))
        .collect();
    (Rows { rows, meta: Some(checkpoint.meta) }, store, past)
}
