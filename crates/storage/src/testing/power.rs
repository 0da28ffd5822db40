//! The machine's own file system, under which a real process can lose its power.
//!
//! [`PowerDisk`] carries everything out at once on the real disk, so a process that is killed leaves what it wrote, as the
//! system's memory would. But it remembers what was there before each change until that is synced: bytes until a sync of
//! their file, names until a sync of their directory. [`PowerDisk::cut`] stops the disk and takes a random part of it back,
//! sector by sector and name by name, as far as a failing power might. After that the process must die at once.
//!
//! What an earlier process left counts as durable.

mod bytes;
mod names;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard},
};

use self::{bytes::FileMemory, names::Names};
use super::content::Dice;
use crate::disk::{Disk, DiskFile, OpenMode, PathKind, RealDisk};

/// What is to become of a change of the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is done.
    Done,
    /// There is no space, if it needs any.
    NoSpace,
    /// The power fails while it is under way; the dice begin with this seed.
    PowerFails(u64),
}

/// A file system under which the power can fail. Clones share it.
#[derive(Clone)]
pub struct PowerDisk {
    shared: Arc<Shared>,
}

struct Shared {
    real: RealDisk,
    fate: Box<dyn Fn() -> Fate + Send + Sync>,
    off: Box<dyn Fn() + Send + Sync>,
    /// Held shared by everything that looks at the disk or changes it, and for good by the end.
    power: RwLock<()>,
    names: Mutex<Names>,
    /// By inode.
    files: Mutex<BTreeMap<u64, Arc<Mutex<FileMemory>>>>,
}

/// A panic elsewhere changes nothing about what is remembered.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn no_space(fate: Fate, needed: bool) -> io::Result<()> {
    if fate == Fate::NoSpace && needed { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
}

impl PowerDisk {
    /// `fate` is asked before each change, `off` called when the power has failed: it must end the process.
    pub fn new(
        fate: impl Fn() -> Fate + Send + Sync + 'static,
        off: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let (fate, off) = (Box::new(fate), Box::new(off));
        let (power, names, files) = (RwLock::default(), Mutex::default(), Mutex::default());
        Self { shared: Arc::new(Shared { real: RealDisk, fate, off, power, names, files }) }
    }

    /// The power fails.
    pub fn cut(&self, seed: u64) {
        self.shared.cut(seed);
    }
}

impl Shared {
    fn has_power(&self) -> RwLockReadGuard<'_, ()> {
        self.power.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never gives the disk free again.
    fn cut(&self, seed: u64) {
        std::mem::forget(self.power.write().unwrap_or_else(PoisonError::into_inner));
        let mut dice = Dice(seed);
        let taken_back = lock(&self.files).values().try_for_each(|file| lock(file).cut(&mut dice));
        let taken_back = taken_back.and_then(|()| lock(&self.names).cut(&mut dice));
        assert!(taken_back.is_ok(), "what was not synced is taken back: {taken_back:?}");
        (self.off)();
    }

    /// What comes after a change, and what comes instead of a sync.
    fn end_of_change(&self, fate: Fate) {
        if let Fate::PowerFails(seed) = fate {
            self.cut(seed);
        }
    }

    /// What is remembered of the file with this name, which there is.
    fn memory(&self, path: &Path) -> io::Result<Arc<Mutex<FileMemory>>> {
        let mut files = lock(&self.files);
        files.retain(|_, file| Arc::strong_count(file) > 1 || !lock(file).is_clean());
        let inode = fs::metadata(path)?.ino();
        if let Some(known) = files.get(&inode) {
            return Ok(known.clone());
        }
        let memory = FileMemory::of(self.real.open(path, OpenMode::Existing)?)?;
        let memory = Arc::new(Mutex::new(memory));
        files.insert(inode, memory.clone());
        Ok(memory)
    }
}

impl fmt::Debug for PowerDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PowerDisk")
    }
}

impl Disk for PowerDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let shared = &self.shared;
        let creates = mode != OpenMode::Existing && !path.exists();
        let fate = if creates { (shared.fate)() } else { Fate::Done };
        no_space(fate, creates)?;
        let opened = {
            let _power = shared.has_power();
            let mut names = lock(&shared.names);
            let file = shared.real.open(path, mode)?;
            if creates {
                names.created(path)?;
            }
            let memory = shared.memory(path)?;
            PowerFile { shared: shared.clone(), file, memory }
        };
        shared.end_of_change(fate);
        Ok(Arc::new(opened))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.change_names(true, |names, real| {
            real.create_dir(path)?;
            names.created_dir(path);
            Ok(())
        })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let _power = self.shared.has_power();
        let _names = lock(&self.shared.names);
        Ok(Names::visible(path, self.shared.real.list(path)?))
    }

    fn kind(&self, path: &Path) -> io::Result<Option<PathKind>> {
        let _power = self.shared.has_power();
        self.shared.real.kind(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change_names(false, |names, _| names.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change_names(false, |names, _| names.remove(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let shared = &self.shared;
        shared.end_of_change((shared.fate)());
        let syncing = {
            let _power = shared.has_power();
            lock(&shared.names).begin_sync()
        };
        shared.real.sync_dir(path)?;
        let _power = shared.has_power();
        lock(&shared.names).end_sync(path, syncing);
        Ok(())
    }
}

impl PowerDisk {
    fn change_names(
        &self,
        needs_space: bool,
        change: impl FnOnce(&mut Names, &RealDisk) -> io::Result<()>,
    ) -> io::Result<()> {
        let shared = &self.shared;
        let fate = (shared.fate)();
        no_space(fate, needs_space)?;
        let changed = {
            let _power = shared.has_power();
            change(&mut lock(&shared.names), &shared.real)
        };
        shared.end_of_change(fate);
        changed
    }
}

/// An open file.
struct PowerFile {
    shared: Arc<Shared>,
    file: Arc<dyn DiskFile>,
    memory: Arc<Mutex<FileMemory>>,
}

impl fmt::Debug for PowerFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PowerFile").field(&self.file).finish()
    }
}

impl PowerFile {
    fn change(
        &self,
        length_after: u64,
        remember: impl FnOnce(&mut FileMemory) -> io::Result<()>,
        change: impl FnOnce(&dyn DiskFile) -> io::Result<()>,
    ) -> io::Result<()> {
        let fate = (self.shared.fate)();
        let changed = {
            let _power = self.shared.has_power();
            let mut memory = lock(&self.memory);
            no_space(fate, length_after > self.file.len()?)?;
            remember(&mut memory)?;
            change(self.file.as_ref())
        };
        self.shared.end_of_change(fate);
        changed
    }

    fn sync(&self, sync: impl FnOnce(&dyn DiskFile) -> io::Result<()>) -> io::Result<()> {
        self.shared.end_of_change((self.shared.fate)());
        let syncing = {
            let _power = self.shared.has_power();
            lock(&self.memory).begin_sync()?
        };
        // The power may fail now: it is not known to have arrived.
        let synced = sync(self.file.as_ref());
        let _power = self.shared.has_power();
        lock(&self.memory).end_sync(syncing, synced.is_ok());
        synced
    }
}

impl DiskFile for PowerFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let _power = self.shared.has_power();
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let count = bytes.len() as u64;
        self.change(
            offset + count,
            |memory| memory.before_write(offset, count),
            |file| file.write_at(bytes, offset),
        )
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync(DiskFile::sync_data)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync(DiskFile::sync_all)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.change(bytes, |memory| memory.before_set_len(bytes), |file| file.set_len(bytes))
    }

    fn len(&self) -> io::Result<u64> {
        let _power = self.shared.has_power();
        self.file.len()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.file.drop_cache()
    }
}
