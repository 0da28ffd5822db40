//! The bytes of one file that are not synced: what the medium may hold instead of them.

use std::{collections::BTreeMap, io, sync::Arc};

use super::super::content::{self, Dice};
use crate::disk::DiskFile;

/// Unit in bytes that arrives on the medium as a whole.
const SECTOR_BYTES: u64 = content::SECTOR_BYTES as u64;

/// A sector as it was; `None`: zeros, or beyond the end of the file.
type Sector = Option<Box<[u8]>>;

/// What a file was before the changes that are not durable yet.
#[derive(Debug)]
pub(super) struct FileMemory {
    /// A handle of its own: the others' locks end with them.
    file: Arc<dyn DiskFile>,
    /// Oldest first. Each begins with a sync; the last one takes what comes now. While a sync is under way what came
    /// before it is in one layer and what comes meanwhile in the next.
    layers: Vec<Layer>,
    /// A sync failed: nobody knows what the medium holds, and no later success tells.
    doubtful: bool,
}

#[derive(Debug)]
struct Layer {
    number: u64,
    /// Length of the file when the layer began.
    length: u64,
    /// Each sector that was changed since, as it was when the layer began.
    sectors: BTreeMap<u64, Sector>,
}

/// A sync that is under way: the last layer that it makes durable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Syncing(u64);

impl FileMemory {
    /// Everything in the file counts as durable.
    pub fn of(file: Arc<dyn DiskFile>) -> io::Result<Self> {
        let layer = Layer { number: 0, length: file.len()?, sectors: BTreeMap::new() };
        Ok(Self { file, layers: vec![layer], doubtful: false })
    }

    pub fn is_clean(&self) -> bool {
        let unchanged =
            |layer: &Layer| layer.sectors.is_empty() && self.file.len().ok() == Some(layer.length);
        self.layers.iter().all(unchanged)
    }

    /// Remembers what is about to be written over.
    pub fn before_write(&mut self, offset: u64, bytes: u64) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let sectors = offset / SECTOR_BYTES..(offset + bytes).div_ceil(SECTOR_BYTES);
        let Some(layer) = self.layers.last_mut() else { return Ok(()) };
        if sectors.clone().all(|sector| layer.sectors.contains_key(&sector)) {
            return Ok(());
        }
        let count = usize::try_from((sectors.end - sectors.start) * SECTOR_BYTES)
            .map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut old = vec![0; count];
        self.file.read_at(&mut old, sectors.start * SECTOR_BYTES)?;
        for (sector, bytes) in sectors.zip(old.chunks(content::SECTOR_BYTES)) {
            let old = || bytes.iter().any(|byte| *byte != 0).then(|| bytes.into());
            layer.sectors.entry(sector).or_insert_with(old);
        }
        Ok(())
    }

    /// Remembers what is about to be cut off.
    pub fn before_set_len(&mut self, length: u64) -> io::Result<()> {
        let now = self.file.len()?;
        self.before_write(length, now.saturating_sub(length))
    }

    /// Everything so far is on its way to the medium.
    pub fn begin_sync(&mut self) -> io::Result<Syncing> {
        let length = self.file.len()?;
        let last = self.layers.last().map_or(0, |layer| layer.number);
        self.layers.push(Layer { number: last + 1, length, sectors: BTreeMap::new() });
        Ok(Syncing(last))
    }

    /// It has arrived, or not.
    pub fn end_sync(&mut self, syncing: Syncing, arrived: bool) {
        self.doubtful |= !arrived;
        if !self.doubtful {
            self.layers.retain(|layer| layer.number > syncing.0);
        }
    }

    /// The power fails: each sector is what it was when it was durable, what it is now, or something in between.
    pub fn cut(&self, dice: &mut Dice) -> io::Result<()> {
        let luck = match dice.below(4) {
            0 => Luck::NothingArrived,
            1 => return Ok(()),
            _ => Luck::SomeArrived,
        };
        let now = self.file.len()?;
        let lengths: Vec<u64> = self.layers.iter().map(|layer| layer.length).chain([now]).collect();
        let length = *luck.pick(&lengths, dice);
        if length != now {
            self.file.set_len(length)?;
        }
        let mut sectors: BTreeMap<u64, Vec<Option<&Sector>>> = BTreeMap::new();
        for (sector, old) in self.layers.iter().flat_map(|layer| &layer.sectors) {
            sectors.entry(*sector).or_default().push(Some(old));
        }
        for (sector, mut versions) in sectors {
            // As it is now.
            versions.push(None);
            let offset = sector * SECTOR_BYTES;
            let room = usize::try_from(length.saturating_sub(offset).min(SECTOR_BYTES)).unwrap_or(0);
            if let (Some(old), 1..) = (luck.pick(&versions, dice), room) {
                let zeros = vec![0; room];
                self.file.write_at(old.as_deref().map_or(&zeros[..], |old| &old[..room]), offset)?;
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Luck {
    NothingArrived,
    SomeArrived,
}

impl Luck {
    /// One of the versions of something, the oldest first.
    fn pick<'a, T>(self, versions: &'a [T], dice: &mut Dice) -> &'a T {
        let count = u64::try_from(versions.len()).unwrap_or(u64::MAX);
        match self {
            Self::NothingArrived => &versions[0],
            Self::SomeArrived => &versions[usize::try_from(dice.below(count)).unwrap_or(0)],
        }
    }
}
