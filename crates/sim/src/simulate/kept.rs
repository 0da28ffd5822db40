//! What an appliance has said to be durable. The next start must find it, whatever happened in between; only damage that the
//! simulation itself did to the disk is an excuse.

use std::collections::VecDeque;

use duet_protocol::{Entry, Lsn, OwnState, Position};
use duet_storage::Recovered;

use super::storage::Found;

/// What one disk holds for sure.
#[derive(Clone, Debug)]
pub struct Kept {
    pub own: OwnState,
    /// An own state that is being saved: it may be there after a crash.
    own_under_way: Option<OwnState>,
    pub base: Position,
    entries: VecDeque<Position>,
    /// Entries up to here must be there; those above may be being truncated.
    sure: Lsn,
    /// Truncations that were asked for and are not done.
    truncations: usize,
    /// The state store's last checkpoint.
    pub checkpoint: Position,
    /// A copy that is being installed: it may be there after a crash.
    installing: Option<Position>,
}

impl Kept {
    /// Own state, and state and log at `base`.
    pub fn new(own: OwnState, base: Position) -> Self {
        Self {
            own,
            own_under_way: None,
            base,
            entries: VecDeque::new(),
            sure: base.lsn,
            truncations: 0,
            checkpoint: base,
            installing: None,
        }
    }

    /// Where the durable log ends.
    pub fn last(&self) -> Position {
        self.entries.back().copied().unwrap_or(self.base)
    }

    fn index(&self, lsn: Lsn) -> Option<usize> {
        usize::try_from(lsn.0.checked_sub(self.base.lsn.0 + 1)?).ok()
    }

    /// The position at `lsn`, if it is durable and not trimmed away.
    pub fn at(&self, lsn: Lsn) -> Option<Position> {
        if lsn == self.base.lsn { Some(self.base) } else { self.entries.get(self.index(lsn)?).copied() }
    }

    pub fn begin_save(&mut self, own: &OwnState) {
        self.own_under_way = Some(own.clone());
    }

    pub fn saved(&mut self) {
        if let Some(own) = self.own_under_way.take() {
            self.own = own;
        }
    }

    pub fn begin_truncation(&mut self, last: Lsn) {
        self.sure = self.sure.min(last);
        self.truncations += 1;
    }

    pub const fn begin_installation(&mut self, position: Position) {
        self.installing = Some(position);
    }

    pub fn written(&mut self, entries: &[Entry]) {
        for entry in entries {
            assert!(entry.lsn == self.last().lsn.next(), "R1: LSNs are dense");
            self.entries.push_back(entry.position());
        }
        self.settle();
    }

    pub fn truncated(&mut self, last: Lsn) {
        self.entries.truncate(self.index(last.next()).unwrap_or(0));
        self.truncations -= 1;
        self.settle();
    }

    /// What is being truncated may be there or not.
    fn settle(&mut self) {
        if self.truncations == 0 {
            self.sure = self.last().lsn;
        }
    }

    pub fn trimmed(&mut self, base: Position) {
        if let Some(index) = self.index(base.lsn) {
            self.entries.drain(..=index);
            self.base = base;
        }
    }

    pub fn installed(&mut self, position: Position) {
        let own_under_way = self.own_under_way.take();
        *self =
            Self { own_under_way, truncations: self.truncations, ..Self::new(self.own.clone(), position) };
    }

    pub const fn checkpointed(&mut self, position: Position) {
        self.checkpoint = position;
    }

    /// A start has found this: all that was said to be durable must be in it.
    pub fn check(&self, found: &Found, applied: Position) -> Result<(), String> {
        if found.own != self.own && Some(&found.own) != self.own_under_way.as_ref() {
            return Err("the own state that was saved is not there".into());
        }
        if self.installing.is_some_and(|position| found.log.base == position && applied == position) {
            return Ok(());
        }
        let sure = self.at(self.sure);
        if sure.is_none_or(|sure| found.log.base.lsn > sure.lsn || found.log.position(sure.lsn) != Some(sure))
        {
            return Err(format!(
                "the log was durable up to LSN {}, and LSN {} to {} were found",
                self.sure,
                found.log.base.lsn,
                found.log.last().lsn
            ));
        }
        if applied.lsn < self.checkpoint.lsn {
            return Err(format!("the checkpoint at {} is gone, {applied} was found", self.checkpoint));
        }
        Ok(())
    }

    /// From now on this is what there is.
    pub fn learn(&mut self, own: OwnState, log: &Recovered, applied: Position) {
        *self = Self::new(own, log.base);
        self.checkpoint = applied;
        for (stamp, lsn) in log.stamps.iter().zip(log.base.lsn.0 + 1..) {
            self.entries.push_back(Position { epoch: stamp.epoch, lsn: Lsn(lsn), digest: stamp.digest });
        }
        self.sure = self.last().lsn;
    }
}
