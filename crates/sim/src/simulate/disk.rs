//! An appliance's disk: what is durable, what is only written, and what a crash leaves of that.
//!
//! The own state is replaced atomically. Writes to the log become durable in order; a crash keeps some prefix of those
//! under way, down to part of one append.

use std::collections::VecDeque;

use duet_protocol::{ApplianceId, ClusterId, DiskId, Entry, Lsn, OwnState, Position, RecoveredLog, Stamp};

use super::random::Random;

/// A log: `base`, then dense entries.
#[derive(Clone, Debug)]
pub struct Log {
    pub base: Position,
    pub entries: VecDeque<Entry>,
}

impl Log {
    pub fn last(&self) -> Position {
        self.entries.back().map_or(self.base, Entry::position)
    }

    fn index(&self, lsn: Lsn) -> Option<usize> {
        usize::try_from(lsn.0.checked_sub(self.base.lsn.0 + 1)?).ok()
    }

    pub fn get(&self, lsn: Lsn) -> Option<&Entry> {
        self.entries.get(self.index(lsn)?)
    }

    /// The position at `lsn`, if it is not trimmed away.
    pub fn at(&self, lsn: Lsn) -> Option<Position> {
        if lsn == self.base.lsn { Some(self.base) } else { self.get(lsn).map(Entry::position) }
    }

    fn carry_out(&mut self, write: &LogWrite) {
        match write {
            LogWrite::Append(entries) => {
                for entry in entries {
                    assert!(entry.follows(&self.last()), "an append follows the log's last entry");
                    self.entries.push_back(entry.clone());
                }
            }
            LogWrite::Truncate(last) => {
                let keep = self.index(last.next()).expect("truncation stays above the base");
                self.entries.truncate(keep);
            }
            LogWrite::Trim(upto) => {
                if let Some(index) = self.index(*upto) {
                    self.base = self.entries[index].position();
                    self.entries.drain(..=index);
                }
            }
            LogWrite::Install(position) => *self = Self { base: *position, entries: VecDeque::new() },
        }
    }
}

/// One write to the log.
#[derive(Clone, Debug)]
pub enum LogWrite {
    Append(Vec<Entry>),
    Truncate(Lsn),
    Trim(Lsn),
    /// A whole copy takes the place of log and state.
    Install(Position),
}

/// One disk.
#[derive(Clone, Debug)]
pub struct Disk {
    pub own: OwnState,
    pub durable: Log,
    /// As the running process sees it: with everything written.
    pub written: Log,
    /// The state machine's durable checkpoint.
    pub checkpoint: Position,
    /// Written, not durable; each with the generation that is current after it.
    queue: VecDeque<(u64, LogWrite)>,
    /// How many of them the sync under way covers; zero: none is under way.
    syncing: usize,
    generation: u64,
}

/// What a finished sync made durable.
#[derive(Debug)]
pub struct Synced {
    pub generation: u64,
    pub last: Lsn,
    pub installed: Option<Position>,
    pub fresh: Vec<Entry>,
}

impl Disk {
    pub fn blank(cluster: ClusterId, appliance: ApplianceId, disk: DiskId) -> Self {
        Self::with_history(OwnState::blank(cluster, appliance, disk), Position::EMPTY)
    }

    /// A disk that holds the state at `position` and no log before it.
    pub fn with_history(own: OwnState, position: Position) -> Self {
        let log = Log { base: position, entries: VecDeque::new() };
        Self {
            own,
            durable: log.clone(),
            written: log,
            checkpoint: position,
            queue: VecDeque::new(),
            syncing: 0,
            generation: 0,
        }
    }

    pub fn write(&mut self, write: LogWrite, generation: Option<u64>) {
        if let Some(generation) = generation {
            assert!(generation >= self.generation, "generations never fall");
            self.generation = generation;
        }
        self.written.carry_out(&write);
        self.queue.push_back((self.generation, write));
    }

    /// Begins to sync all that is written. False: there is nothing, or a sync is under way.
    pub fn begin_sync(&mut self) -> bool {
        if self.syncing > 0 || self.queue.is_empty() {
            return false;
        }
        self.syncing = self.queue.len();
        true
    }

    pub fn end_sync(&mut self) -> Synced {
        let mut synced =
            Synced { generation: self.generation, last: Lsn::ZERO, installed: None, fresh: Vec::new() };
        for _ in 0..core::mem::take(&mut self.syncing) {
            let (generation, write) = self.queue.pop_front().expect("what is being synced is in the queue");
            self.make_durable(&write);
            synced.generation = generation;
            match write {
                LogWrite::Install(position) => synced.installed = Some(position),
                LogWrite::Append(entries) => synced.fresh.extend(entries),
                LogWrite::Truncate(_) | LogWrite::Trim(_) => {}
            }
        }
        synced.last = self.durable.last().lsn;
        synced
    }

    fn make_durable(&mut self, write: &LogWrite) {
        self.durable.carry_out(write);
        if let LogWrite::Install(position) = write {
            self.checkpoint = *position;
        }
    }

    /// The process has ended: of what was not durable some prefix stays.
    pub fn crash(&mut self, random: &mut Random) {
        let mut whole = random.below(self.queue.len() as u64 + 1);
        if random.chance(300) {
            whole = 0;
        }
        for (_, write) in core::mem::take(&mut self.queue) {
            if whole > 0 {
                self.make_durable(&write);
                whole -= 1;
                continue;
            }
            if let LogWrite::Append(mut entries) = write {
                let kept = random.below(entries.len() as u64 + 1);
                entries.truncate(usize::try_from(kept).expect("a length"));
                self.durable.carry_out(&LogWrite::Append(entries));
            }
            break;
        }
        self.syncing = 0;
        self.generation = 0;
        self.written = self.durable.clone();
        assert!(self.checkpoint.lsn >= self.durable.base.lsn, "the log reaches back to the checkpoint");
    }

    /// The last entries vanish, and with them the checkpoint that held them.
    pub fn lose(&mut self, count: u64) {
        let keep = self.durable.entries.len().saturating_sub(usize::try_from(count).expect("a small number"));
        self.durable.entries.truncate(keep);
        self.written = self.durable.clone();
        if self.checkpoint.lsn > self.durable.last().lsn {
            self.checkpoint = self.durable.base;
        }
    }

    /// The log as a restarted process finds it.
    pub fn recovered(&self) -> RecoveredLog {
        let stamps = self
            .durable
            .entries
            .iter()
            .map(|entry| Stamp {
                epoch: entry.epoch,
                digest: entry.digest,
                bytes: u32::try_from(entry.command.len()).expect("commands are small here"),
            })
            .collect();
        RecoveredLog { base: self.durable.base, stamps }
    }
}
