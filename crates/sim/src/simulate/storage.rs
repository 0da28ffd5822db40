//! What a process holds of its disk: the real data directory, own state, log and state store, used in the order in which the
//! server's threads use them.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use duet_protocol::{ClusterId, Entry, Lsn, OwnState, Position};
use duet_storage::{
    DataDir, Log, LogOptions, LogReader, OwnStateFile, Parts, ReadError, ReadySnapshot, RecoverError,
    RecoverOptions, Recovered, StateStore,
};

use super::disk::SimDisk;
use super::machine::Arriving;
use super::state::{Rows, StateMachine};
use super::tail::Tail;

/// Where the data directory is.
pub const DIRECTORY: &str = "/duet";

/// Memory of the state store's cache in bytes.
const CACHE_BYTES: usize = 1 << 20;

/// Bytes of entries read from the log at once.
const READ_BYTES: usize = 64 << 10;

/// Something to be done with the log, as the server's log thread knows it.
#[derive(Debug)]
pub enum Job {
    Append { generation: u64, entries: Vec<Entry> },
    Truncate { generation: u64, last: Lsn },
    Trim { upto: Lsn },
    Install { generation: u64, position: Position, copy: ReadySnapshot },
}

/// What a job has made durable.
#[derive(Debug)]
pub enum Done {
    Written {
        generation: u64,
        entries: Vec<Entry>,
    },
    Truncated {
        generation: u64,
        lsn: Lsn,
    },
    Trimmed,
    Installed(Position),
    /// A checkpoint that was under way had to be completed first.
    Checkpointed(Position),
}

/// Why a process ends that is not told to: words for the record.
pub type Failure = String;

/// An open data directory.
#[derive(Debug)]
pub struct Storage {
    pub directory: DataDir,
    pub own: OwnStateFile,
    pub log: Log,
    pub reader: LogReader,
    pub state: StateStore,
    pub tail: Tail,
    waiting: VecDeque<Job>,
    /// How many of them are being worked off.
    taken: usize,
}

/// What a start found.
#[derive(Debug)]
pub struct Found {
    pub own: OwnState,
    pub log: Recovered,
}

pub fn options(segment_bytes: u64) -> RecoverOptions {
    RecoverOptions { log: LogOptions { segment_bytes }, cache_bytes: CACHE_BYTES }
}

/// Makes a data directory that holds `own` and, if there is a history, the state at `base` and no log before it.
pub fn make(disk: &SimDisk, own: &OwnState, base: Position, history: &Rows, options: RecoverOptions) {
    let made = || {
        let blank = OwnState::blank(own.cluster, own.appliance, own.disk);
        let directory = DataDir::create(Arc::new(disk.clone()), Path::new(DIRECTORY), &blank)?;
        let Parts { mut own_state_file, mut log, store, .. } = directory.recover(options)?;
        if base != Position::EMPTY {
            let mut builder = directory.receive_snapshot()?;
            builder.put_chunk(history.rows.iter().map(|(key, value)| (key.as_ref(), value.as_ref())))?;
            let ready = builder.finish(base, history.meta.clone())?;
            directory.install(ready, &store, &mut log)?;
        }
        if *own != blank {
            own_state_file.save(own)?;
        }
        Ok::<(), RecoverError>(())
    };
    made().expect("a healthy disk takes a new data directory");
    disk.kill();
    disk.sync_everything();
}

/// Takes the last entries of a log away, up to `count`, and a state store that knows of them if it can be made anew. How many
/// went: none of a disk that is damaged already and does not open.
pub fn lose_last(disk: &SimDisk, count: u64, options: RecoverOptions) -> u64 {
    // It is the losing that is wanted here, not another failure while it is arranged.
    disk.disarm();
    let lose = || {
        let directory = DataDir::open(Arc::new(disk.clone()), Path::new(DIRECTORY))?;
        let Parts { mut log, store, .. } = directory.recover(options)?;
        let (base, last, applied) = (log.base(), log.last().lsn, store.applied().lsn);
        let lowest = if base == Position::EMPTY { base.lsn } else { applied };
        let keep = Lsn(last.0.saturating_sub(count)).max(lowest);
        log.truncate(keep)?;
        Ok::<_, RecoverError>((last.0 - keep.0, applied > keep))
    };
    let (lost, forgets_state) = lose().unwrap_or_default();
    disk.kill();
    if forgets_state {
        disk.destroy(&Path::new(DIRECTORY).join("data.redb"));
    }
    disk.sync_everything();
    lost
}

impl Storage {
    /// As a start does it.
    pub fn open(
        disk: &SimDisk,
        cluster: ClusterId,
        options: RecoverOptions,
        tail: usize,
    ) -> Result<(Self, Found), RecoverError> {
        let directory = DataDir::open(Arc::new(disk.clone()), Path::new(DIRECTORY))?;
        let parts = directory.recover(options)?;
        let Parts { own_state_file, own_state, log, recovered, store } = parts;
        assert!(own_state.cluster == cluster, "the disk belongs to this pair");
        let storage = Self {
            directory,
            own: own_state_file,
            reader: log.reader(),
            state: store,
            tail: Tail::new(log.last().lsn, tail),
            log,
            waiting: VecDeque::new(),
            taken: 0,
        };
        Ok((storage, Found { own: own_state, log: recovered }))
    }

    /// Something for the log's thread.
    pub fn push(&mut self, job: Job) {
        match &job {
            Job::Append { entries, .. } => self.tail.push(entries),
            Job::Truncate { generation, last } => self.tail.truncate(*generation, *last),
            Job::Install { generation, position, .. } => self.tail.reset(*generation, position.lsn),
            Job::Trim { .. } => {}
        }
        self.waiting.push_back(job);
    }

    /// The log's thread takes all that waits. `false`: it is busy, or nothing waits.
    pub fn take_jobs(&mut self) -> bool {
        if self.taken > 0 || self.waiting.is_empty() {
            return false;
        }
        self.taken = self.waiting.len();
        true
    }

    /// What waits is taken, busy or not: the process is on its way out.
    pub fn take_rest(&mut self) {
        self.taken = self.waiting.len();
    }

    /// Works off what was taken: appends that follow each other become one write and one sync.
    pub fn work_off(&mut self, machine: &mut StateMachine, done: &mut Vec<Done>) -> Result<(), Failure> {
        let mut gathered: Vec<Entry> = Vec::new();
        let mut current = 0;
        for _ in 0..std::mem::take(&mut self.taken) {
            let job = self.waiting.pop_front().expect("what was taken waits");
            match job {
                Job::Append { generation, entries } => {
                    current = generation;
                    gathered.extend(entries);
                }
                Job::Truncate { generation, last } => {
                    self.settle(&mut gathered, current, done)?;
                    self.log.truncate(last).map_err(words)?;
                    current = generation;
                    let lsn = self.log.synced();
                    self.tail.flushed(generation, lsn);
                    done.push(Done::Truncated { generation, lsn });
                }
                Job::Trim { upto } => {
                    self.settle(&mut gathered, current, done)?;
                    self.log.trim(upto).map_err(words)?;
                    done.push(Done::Trimmed);
                }
                Job::Install { generation, position, copy } => {
                    self.settle(&mut gathered, current, done)?;
                    current = generation;
                    if let Some(position) = machine.finish_checkpoint(&self.state)? {
                        done.push(Done::Checkpointed(position));
                    }
                    assert!(copy.position() == position, "the copy that the core has seen is installed");
                    self.directory.install(copy, &self.state, &mut self.log).map_err(words)?;
                    machine.load(&self.state)?;
                    done.push(Done::Installed(position));
                }
            }
        }
        self.settle(&mut gathered, current, done)
    }

    fn settle(
        &mut self,
        gathered: &mut Vec<Entry>,
        generation: u64,
        done: &mut Vec<Done>,
    ) -> Result<(), Failure> {
        if gathered.is_empty() {
            return Ok(());
        }
        self.log.append(gathered).map_err(words)?;
        let lsn = self.log.sync().map_err(words)?;
        self.tail.flushed(generation, lsn);
        done.push(Done::Written { generation, entries: std::mem::take(gathered) });
        Ok(())
    }

    /// Whether a copy waits for its installation.
    pub fn is_installing(&self) -> bool {
        self.waiting.iter().any(|job| matches!(job, Job::Install { .. }))
    }

    /// Makes a copy durable beside the state there is.
    pub fn store_copy(&self, copy: &Arriving) -> Result<ReadySnapshot, Failure> {
        let Arriving { position, rows, .. } = copy;
        let build = || {
            let mut builder = self.directory.receive_snapshot()?;
            builder.put_chunk(rows.rows.iter().map(|(key, value)| (key.as_ref(), value.as_ref())))?;
            builder.finish(*position, rows.meta.clone())
        };
        build().map_err(words)
    }

    /// The entries `first..=last` for the peer; `None` when the log does not hold them (any more).
    pub fn entries_to_send(&self, first: Lsn, last: Lsn) -> Result<Option<Vec<Entry>>, Failure> {
        if first > last {
            return Ok(Some(Vec::new()));
        }
        if let Some(entries) = self.tail.get(first, last) {
            return Ok(Some(entries));
        }
        let mut entries: Vec<Entry> = Vec::new();
        let mut next = first;
        while next <= last {
            match self.reader.read(next, READ_BYTES) {
                Ok(read) => entries.extend(read.into_iter().take_while(|entry| entry.lsn <= last)),
                Err(ReadError::Trimmed { .. } | ReadError::Beyond { .. }) => return Ok(None),
                Err(error @ (ReadError::Damaged(_) | ReadError::Failed(_))) => return Err(error.to_string()),
            }
            next = Lsn(first.0 + entries.len() as u64);
        }
        Ok(Some(entries))
    }

    /// The next entries to apply: from `first` to `last` at most, at least one.
    pub fn entries_to_apply(&self, first: Lsn, last: Lsn) -> Result<Vec<Entry>, Failure> {
        if let Some(entries) = self.tail.run(first, last) {
            return Ok(entries);
        }
        let mut entries = self.reader.read(first, READ_BYTES).map_err(words)?;
        entries.retain(|entry| entry.lsn <= last);
        Ok(entries)
    }
}

/// An error as the record of a process's end.
pub fn words(error: impl std::fmt::Display) -> Failure {
    error.to_string()
}
