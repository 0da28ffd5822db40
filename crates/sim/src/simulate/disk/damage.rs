//! What a bad disk does: fails, loses, misplaces and changes what it was given.

use std::path::Path;

use super::bytes::Write;
use super::{Node, SimDisk, lock};
use crate::simulate::random::Random;

/// Name of the state store's file.
const STATE_STORE: &str = "data.redb";

/// Unit in bytes by which a write goes astray.
const BLOCK_BYTES: usize = 4096;

/// Which files a mishap befalls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Files {
    /// The segments of the log.
    Log,
    /// The state store.
    State,
}

impl Files {
    /// To which a file belongs.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let named = path.file_name().is_some_and(|name| name == STATE_STORE);
        let is_log = path.extension().is_some_and(|end| end == "seg");
        if is_log { Some(Self::Log) } else { named.then_some(Self::State) }
    }
}

/// Something that a disk is to do wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mishap {
    /// The next sync of a file fails.
    FailSync,
    /// The next write to these files is acknowledged and never reaches the medium.
    DropWrite(Files),
    /// Of the next write to these files some sectors never reach the medium.
    TearWrite(Files),
    /// The next write to these files reaches another block of its file.
    MisdirectWrite(Files),
}

/// What becomes of one write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Misfortune {
    Dropped,
    Torn,
    Misdirected(u64),
}

/// Mishaps that are still to come.
#[derive(Debug, Default)]
pub(super) struct Armed {
    fail_sync: bool,
    misfortune: Option<(Files, Misfortune)>,
}

/// A place where the medium is wrong.
#[derive(Clone, Debug)]
pub(super) struct Injury {
    offset: usize,
    right: Box<[u8]>,
}

impl Injury {
    pub fn end(&self) -> usize {
        self.offset + self.right.len()
    }

    /// Whether the write covers a part of it.
    pub fn is_touched(&self, write: &Write) -> bool {
        write.offset < self.end() && self.offset < write.end()
    }
}

impl Armed {
    pub fn fails_sync(&mut self) -> bool {
        std::mem::take(&mut self.fail_sync)
    }

    /// What becomes of a write to one of these files.
    pub fn meets(&mut self, files: Option<Files>) -> Option<Misfortune> {
        let (_, misfortune) = self.misfortune.take_if(|(meant, _)| Some(*meant) == files)?;
        Some(misfortune)
    }

    pub fn is_any(&self) -> bool {
        self.fail_sync || self.misfortune.is_some()
    }

    pub fn forget_failures(&mut self) {
        self.fail_sync = false;
        self.misfortune = None;
    }
}

impl Misfortune {
    /// Carries out a write wrongly.
    pub fn strike(self, write: &Write, medium: &mut Vec<u8>, injuries: &mut Vec<Injury>) {
        if medium.len() < write.end() {
            medium.resize(write.end(), 0);
        }
        if medium[write.offset..write.end()] != *write.bytes {
            injuries.push(Injury { offset: write.offset, right: write.bytes.clone() });
        }
        match self {
            Self::Dropped => {}
            Self::Torn => {
                let half = write.bytes.len() / 2 / 512 * 512;
                let bytes = write.bytes[half..].into();
                Write { offset: write.offset + half, bytes, misfortune: None }.apply(medium);
            }
            Self::Misdirected(dice) => {
                let blocks = medium.len() / BLOCK_BYTES;
                let length = write.bytes.len().min(BLOCK_BYTES);
                let block = usize::try_from(dice).unwrap_or(0) % blocks.max(1) * BLOCK_BYTES;
                let to = block..(block + length).min(medium.len());
                if to.start < write.end() && write.offset < to.end {
                    return; // to where it belongs, or into itself: as good as dropped
                }
                injuries.push(Injury { offset: to.start, right: medium[to.clone()].into() });
                medium[to.clone()].copy_from_slice(&write.bytes[..to.len()]);
            }
        }
    }
}

impl SimDisk {
    /// From now on the disk waits for an occasion.
    pub fn arm(&self, mishap: Mishap, random: &mut Random) {
        let armed = &mut lock(&self.shared).armed;
        match mishap {
            Mishap::FailSync => armed.fail_sync = true,
            Mishap::DropWrite(files) => armed.misfortune = Some((files, Misfortune::Dropped)),
            Mishap::TearWrite(files) => armed.misfortune = Some((files, Misfortune::Torn)),
            Mishap::MisdirectWrite(files) => {
                armed.misfortune = Some((files, Misfortune::Misdirected(random.bits() >> 8)));
            }
        }
    }

    /// One bit of these files changes on the medium, somewhere in what was written. `false`: there are none.
    pub fn flip_bit(&self, files: Files, random: &mut Random) -> bool {
        let shared = lock(&self.shared);
        let segments: Vec<_> = shared
            .names
            .iter()
            .filter(|(path, _)| Files::of(path) == Some(files))
            .filter_map(|(_, node)| match node {
                Node::File(content) => Some(content.clone()),
                Node::Directory => None,
            })
            .collect();
        let Some(last) = segments.len().checked_sub(1) else { return false };
        let index = usize::try_from(random.within((0, last as u64))).unwrap_or(last);
        let mut content = lock(&segments[index]);
        let medium = content.medium_mut();
        let written = medium.iter().rposition(|byte| *byte != 0).map_or(0, |place| place + 1);
        if written == 0 {
            return false;
        }
        let offset = usize::try_from(random.below(written as u64)).unwrap_or(0);
        let right = Box::from([medium[offset]]);
        medium[offset] ^= 1 << random.below(8);
        content.injuries.push(Injury { offset, right });
        true
    }

    /// Whether the medium is wrong anywhere, or not what the memory says, or about to be.
    pub fn is_doubtful(&self) -> bool {
        let shared = lock(&self.shared);
        let wrong = shared.contents().iter().any(|content| lock(content).is_doubtful());
        wrong || shared.armed.is_any() || shared.capacity.is_some()
    }

    /// Whether the medium is wrong anywhere, or the next write will make it so.
    pub fn is_harmed(&self) -> bool {
        lock(&self.shared).armed.misfortune.is_some() || self.is_injured()
    }

    /// Whether the medium is wrong anywhere.
    pub fn is_injured(&self) -> bool {
        lock(&self.shared).contents().iter().any(|content| !lock(content).injuries.is_empty())
    }

    /// Nothing more goes wrong.
    pub fn disarm(&self) {
        lock(&self.shared).armed.forget_failures();
    }

    /// Everything on the medium is made right again.
    pub fn heal(&self) {
        let shared = lock(&self.shared);
        for content in shared.contents() {
            let mut content = lock(&content);
            for injury in std::mem::take(&mut content.injuries) {
                Write { offset: injury.offset, bytes: injury.right, misfortune: None }
                    .apply(content.medium_mut());
            }
        }
    }
}
