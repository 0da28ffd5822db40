//! The bytes of a file in memory and on the medium, and what a power failure makes of those that were not synced.

use super::Unsynced;

/// Unit in bytes that a device writes as a whole.
pub(super) const SECTOR_BYTES: usize = 512;

/// Unit in bytes that a device with large sectors reads, changes and writes, and may lose in between.
const BLOCK_BYTES: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Content {
    pub current: Vec<u8>,
    pub durable: Vec<u8>,
    pub pending: Vec<ByteChange>,
    pub locked_by: Option<u64>,
}

#[derive(Clone, Debug)]
pub(super) enum ByteChange {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Content {
    pub fn copy(&self) -> Self {
        Self {
            current: self.current.clone(),
            durable: self.durable.clone(),
            pending: self.pending.clone(),
            locked_by: None,
        }
    }

    pub fn change(&mut self, change: ByteChange) {
        change.apply(&mut self.current);
        self.pending.push(change);
    }

    pub fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            change.apply(&mut self.durable);
        }
    }

    pub fn settle(&mut self, unsynced: Unsynced, tears_blocks: bool, dice: &mut Dice) {
        for change in std::mem::take(&mut self.pending) {
            match unsynced {
                Unsynced::Lost => {}
                Unsynced::Kept => change.apply(&mut self.durable),
                Unsynced::Torn(_) => {
                    change.apply_torn(&mut self.durable, dice);
                    if tears_blocks && dice.below(4) == 0 {
                        change.destroy_blocks(&mut self.durable);
                    }
                }
            }
        }
        self.current.clone_from(&self.durable);
        self.locked_by = None;
    }
}

impl ByteChange {
    pub fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Length(length) => bytes.resize(*length, 0),
            Self::Write(offset, data) => {
                if bytes.len() < offset + data.len() {
                    bytes.resize(offset + data.len(), 0);
                }
                bytes[*offset..offset + data.len()].copy_from_slice(data);
            }
        }
    }

    /// Destroys the first and the last block that a write touches.
    fn destroy_blocks(&self, bytes: &mut [u8]) {
        let Self::Write(offset, data) = self else { return };
        for touched in [*offset, (offset + data.len()).saturating_sub(1)] {
            let start = touched / BLOCK_BYTES * BLOCK_BYTES;
            let end = bytes.len().min(start + BLOCK_BYTES);
            if let Some(block) = bytes.get_mut(start..end) {
                block.fill(0xEE);
            }
        }
    }

    /// Applies some sectors: none, all, or each by a throw of the dice.
    fn apply_torn(&self, bytes: &mut Vec<u8>, dice: &mut Dice) {
        let mood = dice.below(4);
        match self {
            _ if mood == 0 => {}
            _ if mood == 1 => self.apply(bytes),
            Self::Length(_) => {
                if dice.flip() {
                    self.apply(bytes);
                }
            }
            Self::Write(offset, data) => {
                let mut start = 0;
                while start < data.len() {
                    let sector_end = (offset + start) / SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES;
                    let end = data.len().min(sector_end - offset);
                    if dice.flip() {
                        Self::Write(offset + start, data[start..end].to_vec()).apply(bytes);
                    }
                    start = end;
                }
            }
        }
    }
}

/// A small generator of repeatable chance (SplitMix64).
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// The next 64 bits.
    pub fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// One of two.
    pub fn flip(&mut self) -> bool {
        self.throw() & 1 == 1
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.throw() % bound
    }
}
