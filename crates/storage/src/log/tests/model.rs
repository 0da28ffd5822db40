//! A log together with what it must hold.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use duet_protocol::{Entry, Epoch, Lsn, Position};

use crate::{
    Log, LogError, LogOptions, Recovered,
    testing::{Dice, FaultDisk, Unsynced},
};

pub fn directory() -> PathBuf {
    PathBuf::from("/")
}

/// Small enough that scripts cross many segments.
pub const OPTIONS: LogOptions = LogOptions { segment_bytes: 5 * 4096 };

#[derive(Clone, Debug)]
pub enum Step {
    /// Entries of these sizes, under this many higher an epoch.
    Append(Vec<usize>, u64),
    Sync,
    /// Leaves this many per mille of the entries.
    Truncate(u64),
    Trim(u64),
    Reset,
    Prepare,
    /// A new process on the same machine.
    Restart,
    /// A power failure.
    Crash(Unsynced),
}

/// What must be on the disk.
#[derive(Clone, Debug)]
pub struct Model {
    /// Position before the first of `entries`.
    pub origin: Position,
    pub entries: Vec<Entry>,
    pub synced: Lsn,
    /// The log may begin anywhere from `base` to here.
    pub trimmed: Lsn,
    pub base: Lsn,
    /// Entries that were removed or lost once, to be appended again: if any, the next appends take them.
    pub again: Vec<Entry>,
}

impl Model {
    pub fn last(&self) -> Position {
        self.entries.last().map_or(self.origin, Entry::position)
    }

    pub fn position(&self, lsn: Lsn) -> Position {
        if lsn == self.origin.lsn { self.origin } else { self.entry(lsn).position() }
    }

    pub fn entry(&self, lsn: Lsn) -> &Entry {
        &self.entries[usize::try_from(lsn.0 - self.origin.lsn.0 - 1).unwrap()]
    }

    pub fn cut(&mut self, last: Lsn) {
        let count = usize::try_from(last.0 - self.origin.lsn.0).unwrap();
        self.again = self.entries.split_off(count);
    }
}

/// A log under test.
#[derive(Debug)]
pub struct Subject {
    pub disk: FaultDisk,
    pub log: Option<Log>,
    pub model: Model,
    pub epoch: u64,
    pub salt: u64,
}

impl Subject {
    pub fn new() -> Self {
        Self::on(FaultDisk::new())
    }

    pub fn on(disk: FaultDisk) -> Self {
        disk.set_tears_blocks(true);
        let log = Log::create(Arc::new(disk.clone()), &directory(), Position::EMPTY, OPTIONS).unwrap();
        let model = Model {
            origin: Position::EMPTY,
            entries: Vec::new(),
            synced: Lsn::ZERO,
            trimmed: Lsn::ZERO,
            base: Lsn::ZERO,
            again: Vec::new(),
        };
        Self { disk, log: Some(log), model, epoch: 1, salt: 0 }
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().unwrap()
    }

    /// Entries of the given sizes behind the last; at times ones that were removed before, byte for byte.
    pub fn entries(&mut self, sizes: &[usize], rise: u64) -> Vec<Entry> {
        let mut position = self.model.last();
        let mut entries = Vec::new();
        for size in sizes {
            self.salt += 1;
            let old = (rise == 0 && !self.model.again.is_empty()).then(|| self.model.again.remove(0));
            let entry = if let Some(old) = old.filter(|old| old.follows(&position)) {
                old
            } else {
                self.model.again.clear();
                self.epoch += rise;
                let mut dice = Dice(self.salt);
                let command: Vec<u8> = (0..*size).map(|_| dice.throw().to_le_bytes()[0]).collect();
                Entry::following(&position, Epoch(self.epoch.max(position.epoch.0)), Bytes::from(command))
            };
            position = entry.position();
            entries.push(entry);
        }
        entries
    }

    /// Carries out a step; on an error the model holds what may and must be there.
    pub fn step(&mut self, step: &Step) -> Result<(), LogError> {
        match step {
            Step::Append(sizes, rise) => {
                let entries = self.entries(sizes, *rise);
                self.model.entries.extend(entries.iter().cloned());
                self.log().append(&entries)?;
                assert_eq!(self.log().last(), self.model.last());
            }
            Step::Sync => {
                let synced = self.log().sync()?;
                self.model.synced = synced;
                assert_eq!(synced, self.model.last().lsn);
            }
            Step::Truncate(share) => {
                let (base, last) = (self.log().base().lsn.0, self.model.last().lsn.0);
                let to = Lsn(base + (last - base) * share / 1000);
                // From the moment it begins, what is above may be gone.
                let synced = self.model.synced;
                self.model.synced = synced.min(to);
                self.log().truncate(to)?;
                self.model.cut(to);
                self.model.synced = to;
            }
            Step::Trim(share) => {
                let (base, last) = (self.log().base().lsn.0, self.model.synced.0);
                let to = Lsn(base + last.saturating_sub(base) * share / 1000);
                self.model.trimmed = self.model.trimmed.max(to);
                self.log().trim(to)?;
                self.model.base = self.log().base().lsn;
                assert!(self.model.base <= self.model.trimmed);
            }
            Step::Reset => {
                let next = Entry::following(&self.model.last(), Epoch(self.epoch + 1), Bytes::new());
                let base = Position { lsn: Lsn(next.lsn.0 + 100), ..next.position() };
                let outcome = self.log().reset(base);
                self.epoch += 1;
                if let Err(error) = outcome {
                    self.model.again = vec![Entry {
                        lsn: base.lsn,
                        epoch: base.epoch,
                        digest: base.digest,
                        command: Bytes::from_static(b"reset"),
                    }];
                    return Err(error);
                }
                self.begin_anew(base);
            }
            Step::Prepare => {
                self.log().prepare_next()?;
            }
            Step::Restart => {
                self.log = None;
                self.reopen();
            }
            Step::Crash(unsynced) => {
                self.log = None;
                self.disk.crash(*unsynced);
                self.reopen();
            }
        }
        Ok(())
    }

    fn begin_anew(&mut self, base: Position) {
        self.model.origin = base;
        self.model.entries.clear();
        self.model.again.clear();
        (self.model.synced, self.model.trimmed, self.model.base) = (base.lsn, base.lsn, base.lsn);
    }

    /// Opens the log and compares it with the model, which then holds what was found.
    pub fn reopen(&mut self) {
        self.log = None;
        let (log, recovered) =
            Log::open(Arc::new(self.disk.clone()), &directory(), OPTIONS).expect("nothing is damaged");
        self.log = Some(log);
        let reset_to = self.model.again.first().filter(|entry| entry.command == "reset");
        if let Some(base) = reset_to.map(Entry::position)
            && recovered.base == base
        {
            assert!(recovered.stamps.is_empty());
            self.begin_anew(base);
        }
        self.compare(&recovered);
        let last = recovered.last().lsn;
        self.model.cut(last);
        self.model.synced = last;
        self.model.base = recovered.base.lsn;
    }

    fn compare(&mut self, recovered: &Recovered) {
        let model = &self.model;
        let last = recovered.last();
        assert!(recovered.base.lsn >= model.base && recovered.base.lsn <= model.trimmed, "{recovered:?}");
        assert_eq!(recovered.base, model.position(recovered.base.lsn));
        assert!(last.lsn >= model.synced, "{} was synced, the log ends at {last}", model.synced);
        assert!(last.lsn <= model.last().lsn, "{last} was never appended");
        for (index, stamp) in recovered.stamps.iter().enumerate() {
            let entry = model.entry(Lsn(recovered.base.lsn.0 + 1 + index as u64));
            assert_eq!((stamp.epoch, stamp.digest), (entry.epoch, entry.digest));
            assert_eq!(stamp.bytes as usize, entry.command.len());
        }
        if let Some(torn) = recovered.torn {
            assert_eq!(torn.at_lsn, last.lsn.next());
        }
        self.read_all(recovered.base.lsn, last.lsn);
    }

    /// Everything can be read back.
    pub fn read_all(&mut self, base: Lsn, last: Lsn) {
        let reader = self.log.as_ref().unwrap().reader();
        let mut next = base.next();
        while next <= last {
            for entry in reader.read(next, 3000).unwrap() {
                assert_eq!(&entry, self.model.entry(next));
                next = next.next();
            }
        }
        assert_eq!(next, last.next());
    }
}

/// A script by chance.
pub fn script(seed: u64, length: usize) -> Vec<Step> {
    let mut dice = Dice(seed);
    (0..length).map(|_| random_step(&mut dice)).collect()
}

fn random_step(dice: &mut Dice) -> Step {
    match dice.below(20) {
        0..=7 => {
            let count = 1 + dice.below(1 + dice.clone().below(8));
            let sizes = (0..count)
                .map(|_| match dice.below(12) {
                    0 => 0,
                    1 => 4096 - 64,
                    2 => 5000,
                    3 if dice.below(6) == 0 => 30_000,
                    _ => usize::try_from(dice.below(600)).unwrap(),
                })
                .collect();
            Step::Append(sizes, u64::from(dice.below(10) == 0))
        }
        8..=12 => Step::Sync,
        13 => Step::Truncate(dice.below(1001)),
        14 | 15 => Step::Trim(dice.below(1001)),
        16 if dice.below(4) == 0 => Step::Reset,
        16 => Step::Prepare,
        17 => Step::Restart,
        _ => Step::Crash(match dice.below(4) {
            0 => Unsynced::Lost,
            1 => Unsynced::Kept,
            _ => Unsynced::Torn(dice.throw()),
        }),
    }
}
