//! A disk in memory that fails, tears and forgets on command.
//!
//! [`FaultDisk`] promises exactly what [`Disk`] promises and nothing more: bytes are durable after a sync of their file,
//! names after a sync of their directory. Everything else is at the mercy of [`FaultDisk::crash`], sector by sector and
//! name by name. A failed sync loses what it should have written for good, though reads still show it, as on Linux.
//! The same seed gives the same crash.

mod content;
pub mod power;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::disk::{Disk, DiskFile, OpenMode, PathKind};
pub use content::Dice;
use content::{ByteChange, Content};

/// What becomes of everything that was not synced when the power fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unsynced {
    /// All of it is lost.
    Lost,
    /// All of it has reached the disk (a killed process, not a power failure).
    Kept,
    /// Each sector and each name change is lost or kept as the seed says.
    Torn(u64),
}

/// A file system in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct FaultDisk {
    world: Arc<Mutex<World>>,
}

#[derive(Debug, Default)]
struct World {
    /// Raised by each crash; handles of an earlier era are dead.
    era: u64,
    /// Operations begun, of any kind.
    operations: u64,
    /// Operations begun that change something.
    changes: u64,
    failure: Option<Failure>,
    crash_at: Option<u64>,
    off: bool,
    capacity: Option<u64>,
    tears_blocks: bool,
    next_handle: u64,
    names: BTreeMap<PathBuf, Place>,
    durable: BTreeMap<PathBuf, Place>,
    pending: Vec<NameChange>,
}

#[derive(Clone, Copy, Debug)]
struct Failure {
    at: u64,
    forever: bool,
    kind: io::ErrorKind,
}

#[derive(Clone, Debug)]
enum Place {
    Directory,
    File(Arc<Mutex<Content>>),
}

#[derive(Debug)]
enum NameChange {
    Set(PathBuf, Place),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, Place),
}

/// What an operation is to do, as far as faults are concerned.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Go,
    /// The power fails while it is under way.
    Crash,
    Fail(io::ErrorKind),
}

/// The world's lock; a panic in a test that held it changes nothing about it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn machine_off() -> io::Error {
    io::Error::other("the machine is off")
}

impl FaultDisk {
    /// An empty disk with a root directory `/`.
    pub fn new() -> Self {
        let disk = Self::default();
        {
            let mut world = lock(&disk.world);
            world.names.insert(PathBuf::from("/"), Place::Directory);
            world.durable.insert(PathBuf::from("/"), Place::Directory);
        }
        disk
    }

    /// Limits the bytes of all files together; `None`: no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        lock(&self.world).capacity = bytes;
    }

    /// A torn write may also destroy what was in its blocks before, as devices do that emulate small sectors. The state
    /// store's engine does not stand that (it takes overwriting a part of a block to be safe); the log must.
    pub fn set_tears_blocks(&self, tears: bool) {
        lock(&self.world).tears_blocks = tears;
    }

    /// Operations begun so far, reads included.
    pub fn operations(&self) -> u64 {
        lock(&self.world).operations
    }

    /// Operations begun so far that change something.
    pub fn changes(&self) -> u64 {
        lock(&self.world).changes
    }

    /// Lets the `n`-th operation from now fail with `kind`, and all later ones too if `forever`.
    pub fn fail_operation(&self, n: u64, kind: io::ErrorKind, forever: bool) {
        let mut world = lock(&self.world);
        world.failure = Some(Failure { at: world.operations + n, forever, kind });
    }

    /// Lets the power fail during the `n`-th changing operation from now. Nothing works until [`FaultDisk::crash`].
    pub fn crash_at_change(&self, n: u64) {
        let mut world = lock(&self.world);
        world.crash_at = Some(world.changes + n);
    }

    /// Whether the failure or crash that was set has not come yet.
    pub fn is_fault_pending(&self) -> bool {
        let world = lock(&self.world);
        let failure = world.failure.is_some_and(|failure| world.operations < failure.at);
        failure || (world.crash_at.is_some() && !world.off)
    }

    /// Power off and on: what was not synced meets its fate, open files and locks are gone, no fault is set any more.
    pub fn crash(&self, unsynced: Unsynced) {
        let mut world = lock(&self.world);
        let mut dice = Dice(if let Unsynced::Torn(seed) = unsynced { seed } else { 0 });
        for change in std::mem::take(&mut world.pending) {
            if unsynced == Unsynced::Kept || (unsynced != Unsynced::Lost && dice.flip()) {
                change.apply(&mut world.durable);
            }
        }
        world.names = world.durable.clone();
        let tears_blocks = world.tears_blocks;
        for place in world.names.values() {
            if let Place::File(content) = place {
                lock(content).settle(unsynced, tears_blocks, &mut dice);
            }
        }
        world.era += 1;
        world.off = false;
        world.failure = None;
        world.crash_at = None;
    }

    /// Forgets faults that were set.
    pub fn clear_faults(&self) {
        let mut world = lock(&self.world);
        world.failure = None;
        world.crash_at = None;
    }

    /// Inverts the bits of `mask` in one byte of a file, on the medium and in memory.
    pub fn flip(&self, path: &Path, offset: usize, mask: u8) {
        let content = self.content(path);
        let mut content = lock(&content);
        if let Some(byte) = content.current.get_mut(offset) {
            *byte ^= mask;
        }
        if let Some(byte) = content.durable.get_mut(offset) {
            *byte ^= mask;
        }
    }

    /// The bytes of a file as a reader sees them.
    pub fn bytes(&self, path: &Path) -> Vec<u8> {
        lock(&self.content(path)).current.clone()
    }

    /// Replaces a file's bytes, durably.
    pub fn set_bytes(&self, path: &Path, bytes: &[u8]) {
        let content = self.content(path);
        let mut content = lock(&content);
        content.current = bytes.to_vec();
        content.durable = bytes.to_vec();
        content.pending.clear();
    }

    /// All files there are.
    pub fn files(&self) -> Vec<PathBuf> {
        let world = lock(&self.world);
        let is_file = |place: &Place| matches!(place, Place::File(_));
        world.names.iter().filter(|(_, place)| is_file(place)).map(|(path, _)| path.clone()).collect()
    }

    /// A copy of this disk as it is, synced or not, for another branch of a test. Faults are not copied.
    #[must_use]
    pub fn branch(&self) -> Self {
        let world = lock(&self.world);
        let mut copies: BTreeMap<usize, Place> = BTreeMap::new();
        let mut copy = |place: &Place| match place {
            Place::Directory => Place::Directory,
            Place::File(content) => copies
                .entry(Arc::as_ptr(content) as usize)
                .or_insert_with(|| Place::File(Arc::new(Mutex::new(lock(content).copy()))))
                .clone(),
        };
        let names = world.names.iter().map(|(path, place)| (path.clone(), copy(place))).collect();
        let durable = world.durable.iter().map(|(path, place)| (path.clone(), copy(place))).collect();
        let pending = world
            .pending
            .iter()
            .map(|change| match change {
                NameChange::Set(path, place) => NameChange::Set(path.clone(), copy(place)),
                NameChange::Remove(path) => NameChange::Remove(path.clone()),
                NameChange::Rename(from, to, place) => {
                    NameChange::Rename(from.clone(), to.clone(), copy(place))
                }
            })
            .collect();
        let (capacity, tears_blocks) = (world.capacity, world.tears_blocks);
        let world = World { capacity, tears_blocks, names, durable, pending, ..World::default() };
        Self { world: Arc::new(Mutex::new(world)) }
    }

    fn content(&self, path: &Path) -> Arc<Mutex<Content>> {
        match lock(&self.world).names.get(path) {
            Some(Place::File(content)) => Arc::clone(content),
            _ => panic!("no file {} on the disk of this test", path.display()),
        }
    }

    fn change_name(&self, change: NameChange) -> io::Result<()> {
        let mut world = lock(&self.world);
        let verdict = world.begin(true)?;
        if let Verdict::Fail(kind) = verdict {
            return Err(kind.into());
        }
        change.apply(&mut world.names);
        world.pending.push(change);
        if verdict == Verdict::Crash { Err(machine_off()) } else { Ok(()) }
    }
}

impl World {
    /// Counts an operation and finds out what is to become of it.
    fn begin(&mut self, changes: bool) -> io::Result<Verdict> {
        if self.off {
            return Err(machine_off());
        }
        self.operations += 1;
        self.changes += u64::from(changes);
        if changes && self.crash_at == Some(self.changes) {
            self.off = true;
            return Ok(Verdict::Crash);
        }
        match self.failure {
            Some(failure)
                if self.operations == failure.at || (failure.forever && self.operations > failure.at) =>
            {
                Ok(Verdict::Fail(failure.kind))
            }
            _ => Ok(Verdict::Go),
        }
    }

    /// For an operation that changes nothing.
    fn look(&mut self) -> io::Result<()> {
        match self.begin(false)? {
            Verdict::Fail(kind) => Err(kind.into()),
            Verdict::Go | Verdict::Crash => Ok(()),
        }
    }

    fn used(&self) -> u64 {
        let length = |place: &Place| match place {
            Place::File(content) => lock(content).current.len() as u64,
            Place::Directory => 0,
        };
        self.names.values().map(length).sum()
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, Place>) {
        match self {
            Self::Set(path, place) => {
                names.insert(path.clone(), place.clone());
            }
            Self::Remove(path) => {
                names.remove(path);
            }
            Self::Rename(from, to, place) => {
                names.remove(from);
                names.insert(to.clone(), place.clone());
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

impl Disk for FaultDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut world = lock(&self.world);
        let there = world.names.get(path).cloned();
        let creates = there.is_none() && mode != OpenMode::Existing;
        let verdict = world.begin(creates)?;
        if let Verdict::Fail(kind) = verdict {
            return Err(kind.into());
        }
        let content = match there {
            Some(Place::Directory) => return Err(io::ErrorKind::IsADirectory.into()),
            Some(Place::File(_)) if mode == OpenMode::CreateNew => {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            Some(Place::File(content)) => content,
            None if !creates => return Err(io::ErrorKind::NotFound.into()),
            None => {
                let parent = path.parent().and_then(|parent| world.names.get(parent));
                if !matches!(parent, Some(Place::Directory)) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                let content = Arc::new(Mutex::new(Content::default()));
                let change = NameChange::Set(path.to_owned(), Place::File(Arc::clone(&content)));
                change.apply(&mut world.names);
                world.pending.push(change);
                content
            }
        };
        if verdict == Verdict::Crash {
            return Err(machine_off());
        }
        world.next_handle += 1;
        let (era, handle) = (world.era, world.next_handle);
        Ok(Arc::new(FaultFile { world: Arc::clone(&self.world), content, era, handle }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let (there, parent) = {
            let world = lock(&self.world);
            let parent = path.parent().is_some_and(|parent| world.names.contains_key(parent));
            (world.names.contains_key(path), parent)
        };
        if there || !parent {
            let kind = if there { io::ErrorKind::AlreadyExists } else { io::ErrorKind::NotFound };
            return Err(kind.into());
        }
        self.change_name(NameChange::Set(path.to_owned(), Place::Directory))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut world = lock(&self.world);
        world.look()?;
        match world.names.get(path) {
            Some(Place::Directory) => {}
            Some(Place::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
            None => return Err(io::ErrorKind::NotFound.into()),
        }
        let inside = world.names.keys().filter(|name| name.parent() == Some(path));
        Ok(inside.filter_map(|name| Some(name.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn kind(&self, path: &Path) -> io::Result<Option<PathKind>> {
        let mut world = lock(&self.world);
        world.look()?;
        Ok(world.names.get(path).map(|place| match place {
            Place::Directory => PathKind::Directory,
            Place::File(_) => PathKind::File,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let place = lock(&self.world).names.get(from).cloned();
        let place = place.ok_or(io::ErrorKind::NotFound)?;
        self.change_name(NameChange::Rename(from.to_owned(), to.to_owned(), place))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match lock(&self.world).names.get(path) {
            Some(Place::File(_)) => {}
            Some(Place::Directory) => return Err(io::ErrorKind::IsADirectory.into()),
            None => return Err(io::ErrorKind::NotFound.into()),
        }
        self.change_name(NameChange::Remove(path.to_owned()))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = lock(&self.world);
        match world.begin(true)? {
            Verdict::Go => {}
            Verdict::Crash => return Err(machine_off()),
            Verdict::Fail(kind) => return Err(kind.into()),
        }
        let (done, pending): (Vec<_>, Vec<_>) =
            std::mem::take(&mut world.pending).into_iter().partition(|change| change.is_in(path));
        world.pending = pending;
        for change in done {
            change.apply(&mut world.durable);
        }
        Ok(())
    }
}

/// An open file of a [`FaultDisk`].
#[derive(Debug)]
struct FaultFile {
    world: Arc<Mutex<World>>,
    content: Arc<Mutex<Content>>,
    era: u64,
    handle: u64,
}

impl FaultFile {
    fn world(&self) -> io::Result<MutexGuard<'_, World>> {
        let world = lock(&self.world);
        if world.era == self.era { Ok(world) } else { Err(machine_off()) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.world()?;
        match world.begin(true)? {
            Verdict::Go => {
                lock(&self.content).sync();
                Ok(())
            }
            Verdict::Crash => Err(machine_off()),
            Verdict::Fail(kind) => {
                lock(&self.content).pending.clear();
                Err(kind.into())
            }
        }
    }

    /// Whether `more` bytes fit on the disk.
    fn has_room(world: &World, more: usize) -> bool {
        more == 0 || world.capacity.is_none_or(|capacity| world.used() + more as u64 <= capacity)
    }
}

impl DiskFile for FaultFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.world()?.look()?;
        let content = lock(&self.content);
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.current.len());
        let count = buffer.len().min(content.current.len() - start);
        buffer[..count].copy_from_slice(&content.current[start..start + count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut world = self.world()?;
        let verdict = world.begin(true)?;
        let length = lock(&self.content).current.len();
        if !Self::has_room(&world, (offset + bytes.len()).saturating_sub(length)) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut content = lock(&self.content);
        match verdict {
            Verdict::Go => {
                content.change(ByteChange::Write(offset, bytes.to_vec()));
                Ok(())
            }
            Verdict::Crash => {
                content.change(ByteChange::Write(offset, bytes.to_vec()));
                Err(machine_off())
            }
            Verdict::Fail(kind) => {
                content.change(ByteChange::Write(offset, bytes[..bytes.len() / 2].to_vec()));
                Err(kind.into())
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let bytes = usize::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut world = self.world()?;
        let verdict = world.begin(true)?;
        let length = lock(&self.content).current.len();
        if !Self::has_room(&world, bytes.saturating_sub(length)) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        match verdict {
            Verdict::Fail(kind) => Err(kind.into()),
            Verdict::Go | Verdict::Crash => {
                lock(&self.content).change(ByteChange::Length(bytes));
                if verdict == Verdict::Crash { Err(machine_off()) } else { Ok(()) }
            }
        }
    }

    fn len(&self) -> io::Result<u64> {
        self.world()?.look()?;
        Ok(lock(&self.content).current.len() as u64)
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.world()?.look()?;
        let mut content = lock(&self.content);
        if content.locked_by.is_some_and(|holder| holder != self.handle) {
            return Ok(false);
        }
        content.locked_by = Some(self.handle);
        Ok(true)
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.world()?.look()?;
        let mut content = lock(&self.content);
        let mut medium = content.durable.clone();
        content.pending.iter().for_each(|change| change.apply(&mut medium));
        content.current = medium;
        Ok(())
    }
}

impl Drop for FaultFile {
    fn drop(&mut self) {
        let mut content = lock(&self.content);
        if content.locked_by == Some(self.handle) {
            content.locked_by = None;
        }
    }
}
