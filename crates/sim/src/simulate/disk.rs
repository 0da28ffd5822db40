//! The disk under the real storage code: a file system in memory that knows what is durable.
//!
//! Bytes are durable after a sync of their file, names after a sync of their directory. A killed process leaves everything
//! it wrote to the next one, durable or not; a power cut keeps any part of what was not synced, sector by sector and name
//! by name. Damage (a write that was acknowledged and never reached the medium, or another place of it; a flipped bit)
//! shows when the memory of the machine does not cover it any more, and can be undone.

mod bytes;
mod damage;
mod files;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::random::Random;
use bytes::Content;
use damage::Armed;
pub use damage::{Files, Mishap};

/// A disk. Clones share it.
#[derive(Clone, Debug)]
pub struct SimDisk {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Raised whenever a process ends: its open files and locks are gone.
    era: u64,
    next_handle: u64,
    /// Changes that are still carried out before the process is dead; `None`: it lives.
    changes_left: Option<u64>,
    /// Bytes of all files together that fit; `None`: no limit.
    capacity: Option<u64>,
    armed: Armed,
    names: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    unsynced: Vec<NameChange>,
}

#[derive(Clone, Debug)]
enum Node {
    Directory,
    File(Arc<Mutex<Content>>),
}

#[derive(Debug)]
enum NameChange {
    Set(PathBuf, Node),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, Node),
}

/// One thread at a time uses a world; a panic that is reported as a failure leaves nobody behind to be misled.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn dead() -> io::Error {
    io::Error::other("the process is dead")
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Self::Set(path, node) => {
                names.insert(path.clone(), node.clone());
            }
            Self::Remove(path) => {
                names.remove(path);
            }
            Self::Rename(from, to, node) => {
                names.remove(from);
                names.insert(to.clone(), node.clone());
            }
        }
    }

    fn is_in(&self, directory: &Path) -> bool {
        match self {
            Self::Set(path, _) | Self::Remove(path) => path.parent() == Some(directory),
            Self::Rename(from, to, _) => from.parent() == Some(directory) || to.parent() == Some(directory),
        }
    }
}

impl Default for SimDisk {
    fn default() -> Self {
        let root = BTreeMap::from([(PathBuf::from("/"), Node::Directory)]);
        let shared = Shared { names: root.clone(), durable: root, ..Shared::default() };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }
}

impl SimDisk {
    /// From now on the process is dying: only so many changes more reach the disk.
    pub fn cut_after(&self, changes: u64) {
        lock(&self.shared).changes_left = Some(changes);
    }

    /// The process is dead: what it had open is closed. What it wrote stays, in memory or on the medium.
    pub fn kill(&self) {
        let mut shared = lock(&self.shared);
        shared.era += 1;
        shared.changes_left = None;
        shared.armed.forget_failures();
    }

    /// The power fails: of what was not synced any part stays.
    pub fn power_cut(&self, random: &mut Random) {
        self.kill();
        let mut shared = lock(&self.shared);
        let mood = random.below(3);
        for change in std::mem::take(&mut shared.unsynced) {
            if mood == 0 || (mood == 1 && random.chance(500)) {
                change.apply(&mut shared.durable);
            }
        }
        shared.names = shared.durable.clone();
        for content in shared.contents() {
            lock(&content).power_cut(random);
        }
    }

    /// How many bytes all files have.
    pub fn used(&self) -> u64 {
        lock(&self.shared).used()
    }

    /// No more than so many bytes fit from now on.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        lock(&self.shared).capacity = bytes;
    }

    /// Removes a file at once and for good, as nobody should.
    pub fn destroy(&self, path: &Path) {
        let mut shared = lock(&self.shared);
        shared.names.remove(path);
        shared.durable.remove(path);
    }

    /// Everything there is becomes durable.
    pub fn sync_everything(&self) {
        let mut shared = lock(&self.shared);
        for change in std::mem::take(&mut shared.unsynced) {
            change.apply(&mut shared.durable);
        }
        for content in shared.contents() {
            lock(&content).sync();
        }
    }
}

impl Shared {
    fn contents(&self) -> Vec<Arc<Mutex<Content>>> {
        let content = |node: &Node| match node {
            Node::File(content) => Some(Arc::clone(content)),
            Node::Directory => None,
        };
        self.names.values().filter_map(content).collect()
    }

    fn used(&self) -> u64 {
        self.contents().iter().map(|content| lock(content).length() as u64).sum()
    }

    /// Whether a change is still carried out, and whether the process lives to hear of it.
    fn begin_change(&mut self) -> io::Result<()> {
        match &mut self.changes_left {
            None => Ok(()),
            Some(0) => Err(dead()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    fn change_name(&mut self, change: NameChange) -> io::Result<()> {
        self.begin_change()?;
        change.apply(&mut self.names);
        self.unsynced.push(change);
        Ok(())
    }

    fn has_room(&self, more: usize) -> bool {
        more == 0 || self.capacity.is_none_or(|capacity| self.used() + more as u64 <= capacity)
    }
}
