//! The bytes of one file: what is on the medium, and above that what only the machine's memory holds.

use super::damage::{Injury, Misfortune};
use crate::simulate::random::Random;

/// Unit in bytes that the device writes as a whole.
const SECTOR_BYTES: usize = 512;

#[derive(Debug, Default)]
pub(super) struct Content {
    /// What a machine finds that was just switched on.
    medium: Vec<u8>,
    /// With everything written.
    length: usize,
    /// Written and not synced, in order.
    unsynced: Vec<Change>,
    /// Believed to be on the medium, and wrong there; reads are answered from memory until that is given up.
    cached: Vec<Write>,
    /// Where the medium is wrong, and what should be there.
    pub injuries: Vec<Injury>,
    pub locked_by: Option<(u64, u64)>,
}

#[derive(Clone, Debug)]
pub(super) struct Write {
    pub offset: usize,
    pub bytes: Box<[u8]>,
    /// What will become of it when it is synced.
    pub misfortune: Option<Misfortune>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(Write),
    /// A large write of nothing but zeros, which new segments are made of: from, to.
    Zeros(usize, usize),
    Length(usize),
}

/// Bytes from which on it is worth to look for zeros.
const ZEROS_BYTES: usize = 16 << 10;

impl Write {
    pub fn end(&self) -> usize {
        self.offset + self.bytes.len()
    }

    pub fn touches(&self, other: &Self) -> bool {
        self.offset < other.end() && other.offset < self.end()
    }

    pub fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.len() < self.end() {
            bytes.resize(self.end(), 0);
        }
        bytes[self.offset..self.end()].copy_from_slice(&self.bytes);
    }

    /// What of it lies in `buffer`, which begins at `start`.
    fn overlay(&self, buffer: &mut [u8], start: usize) {
        let (from, to) = (self.offset.max(start), self.end().min(start + buffer.len()));
        if from < to {
            buffer[from - start..to - start]
                .copy_from_slice(&self.bytes[from - self.offset..to - self.offset]);
        }
    }
}

impl Content {
    /// The length that a process sees.
    pub const fn length(&self) -> usize {
        self.length
    }

    pub fn is_doubtful(&self) -> bool {
        !self.injuries.is_empty() || !self.cached.is_empty()
    }

    pub fn medium_mut(&mut self) -> &mut Vec<u8> {
        &mut self.medium
    }

    pub fn read(&self, buffer: &mut [u8], offset: usize) -> usize {
        let length = self.length();
        let start = offset.min(length);
        let count = buffer.len().min(length - start);
        let buffer = &mut buffer[..count];
        let there = self.medium.get(start..).unwrap_or(&[]);
        let from_medium = count.min(there.len());
        buffer[..from_medium].copy_from_slice(&there[..from_medium]);
        buffer[from_medium..].fill(0);
        for write in &self.cached {
            write.overlay(buffer, start);
        }
        for change in &self.unsynced {
            match change {
                Change::Write(write) => write.overlay(buffer, start),
                Change::Zeros(from, to) => {
                    let (from, to) = ((*from).max(start), (*to).min(start + count));
                    if from < to {
                        buffer[from - start..to - start].fill(0);
                    }
                }
                Change::Length(length) => {
                    let kept = length.saturating_sub(start).min(count);
                    buffer[kept..].fill(0);
                }
            }
        }
        count
    }

    pub fn write(&mut self, offset: usize, bytes: &[u8], misfortune: Option<Misfortune>) {
        self.length = self.length.max(offset + bytes.len());
        let change = if misfortune.is_none() && bytes.len() >= ZEROS_BYTES && is_zero(bytes) {
            Change::Zeros(offset, offset + bytes.len())
        } else {
            Change::Write(Write { offset, bytes: bytes.into(), misfortune })
        };
        self.unsynced.push(change);
    }

    pub fn set_length(&mut self, length: usize) {
        self.length = length;
        self.unsynced.push(Change::Length(length));
    }

    /// Everything written goes to the medium, or whereto it is misled.
    pub fn sync(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            match change {
                Change::Length(length) => {
                    self.medium.resize(length, 0);
                    self.cached.retain(|write| write.end() <= length);
                    self.injuries.retain(|injury| injury.end() <= length);
                }
                Change::Zeros(from, to) => self.put_zeros(from, to),
                Change::Write(write) => {
                    self.cached.retain(|older| !older.touches(&write));
                    self.injuries.retain(|injury| !injury.is_touched(&write));
                    match write.misfortune {
                        None => write.apply(&mut self.medium),
                        Some(misfortune) => {
                            misfortune.strike(&write, &mut self.medium, &mut self.injuries);
                            self.cached.push(write);
                        }
                    }
                }
            }
        }
    }

    fn put_zeros(&mut self, from: usize, to: usize) {
        let there = to.min(self.medium.len());
        if from < there {
            self.medium[from..there].fill(0);
        }
        self.medium.resize(to.max(self.medium.len()), 0);
    }

    /// A failed sync: nothing was written, and nobody will try again; reads are answered from memory all the same.
    pub fn fail_sync(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            match change {
                Change::Length(length) => self.medium.resize(length, 0),
                Change::Zeros(_, to) => self.medium.resize(to.max(self.medium.len()), 0),
                Change::Write(write) => {
                    if self.medium.len() < write.end() {
                        self.medium.resize(write.end(), 0);
                    }
                    self.cached.push(write);
                }
            }
        }
        self.length = self.medium.len();
    }

    /// Memory is given up where it believes the medium to hold the same.
    pub fn drop_cache(&mut self) {
        self.cached.clear();
    }

    pub fn power_cut(&mut self, random: &mut Random) {
        self.cached.clear();
        self.locked_by = None;
        if self.unsynced.is_empty() {
            return;
        }
        self.settle(random);
        self.length = self.medium.len();
    }

    /// What was not synced meets its fate.
    fn settle(&mut self, random: &mut Random) {
        let mood = random.below(4);
        for change in std::mem::take(&mut self.unsynced) {
            let stays = match mood {
                0 => false,
                1 => true,
                _ => random.chance(500),
            };
            match change {
                Change::Length(length) if stays => self.medium.resize(length, 0),
                Change::Write(write) if stays => write.apply(&mut self.medium),
                Change::Zeros(from, to) if stays => self.put_zeros(from, to),
                Change::Write(write) if mood == 3 => tear(&write, &mut self.medium, random),
                Change::Length(_) | Change::Zeros(..) | Change::Write(_) => {}
            }
        }
    }
}

/// Each sector of the write reaches the medium or not.
fn tear(write: &Write, medium: &mut Vec<u8>, random: &mut Random) {
    let mut start = 0;
    while start < write.bytes.len() {
        let sector_end = (write.offset + start) / SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES;
        let end = write.bytes.len().min(sector_end - write.offset);
        if random.chance(500) {
            let bytes = write.bytes[start..end].into();
            Write { offset: write.offset + start, bytes, misfortune: None }.apply(medium);
        }
        start = end;
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
