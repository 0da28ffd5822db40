//! Files for segments to come: zeroed ahead, or recycled from trimmed segments.
//!
//! A write into a block that was written before needs no change of the file's structure, so its sync is about twice as
//! quick; that is why segments are filled with zeros before their use, off the hot path. Zeros are written only while
//! there is no spare at all, but two are kept: so a log that is trimmed as it grows goes round in files it has, and writes
//! everything once. `spare-zeros` holds zeros behind its header block; `spare-stale` and `spare-stale-2` hold what an
//! earlier life left there; `spare.tmp` is not finished and is never used.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
};

use super::{BLOCK_BYTES, LogError};
use crate::{
    disk::{Disk, DiskFile, OpenMode},
    failure::{At, IoFailure},
    planted::Bug,
};

/// Spares that are kept: one to be used next, one more that a trim brings before that.
const SPARES: usize = 2;

/// Bytes of zeros in one write.
const ZEROS_BYTES: usize = 1 << 20;

/// After so many bytes of zeros they are synced, so that the log's own syncs never wait for a whole segment of them.
const ZEROS_PER_SYNC: u64 = 4 << 20;

const ZEROS: &str = "spare-zeros";
const STALE: [&str; SPARES] = ["spare-stale", "spare-stale-2"];
const UNFINISHED: &str = "spare.tmp";

/// Makes the next segment's file ahead of its use, on whatever thread calls it.
#[derive(Clone, Debug)]
pub struct Preparer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    segment_bytes: u64,
    /// Held while one is made. The first one is used first.
    spares: Mutex<Vec<Spare>>,
}

/// A file that is ready to become a segment.
#[derive(Debug)]
pub(super) struct Spare {
    pub path: PathBuf,
    pub file: Arc<dyn DiskFile>,
    pub file_bytes: u64,
    /// Whether it may hold bytes of an earlier life.
    pub stale: bool,
}

impl Preparer {
    /// Without a spare yet.
    pub(super) fn new(disk: Arc<dyn Disk>, directory: &Path, segment_bytes: u64) -> Self {
        assert!(segment_bytes >= 2 * BLOCK_BYTES, "a segment has a header block and room for records");
        assert!(segment_bytes.is_multiple_of(BLOCK_BYTES), "a segment is made of whole blocks");
        let directory = directory.to_owned();
        Self { shared: Arc::new(Shared { disk, directory, segment_bytes, spares: Mutex::default() }) }
    }

    /// Makes sure that a file lies ready for the next segment. `true`: it had to be made, of zeros.
    ///
    /// # Errors
    /// [`LogError::DiskFull`] and others are an early warning here: the log itself is not affected.
    pub fn prepare_next(&self) -> Result<bool, LogError> {
        let mut spares = self.lock();
        if !spares.is_empty() {
            return Ok(false);
        }
        let shared = &self.shared;
        let mut made = self.make(shared.segment_bytes)?;
        let ready = shared.directory.join(ZEROS);
        shared.disk.rename(&made.path, &ready).at("rename", &made.path)?;
        shared.disk.sync_dir(&shared.directory).at("sync", &shared.directory)?;
        made.path = ready;
        spares.push(made);
        Ok(true)
    }

    /// Hands the file for a segment of at least `bytes` to `turn`, which must give it another name; makes one if none lies
    /// ready. Nobody else makes a spare in the meantime.
    pub(super) fn turn_into<T>(
        &self,
        bytes: u64,
        turn: impl FnOnce(Spare) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        let mut spares = self.lock();
        let fitting = spares.iter().position(|spare| spare.file_bytes >= bytes);
        let file_bytes = bytes.next_multiple_of(BLOCK_BYTES).max(self.shared.segment_bytes);
        let taken = match fitting {
            Some(position) => spares.remove(position),
            None => self.make(file_bytes)?,
        };
        assert!(taken.file_bytes >= bytes, "the file is large enough");
        turn(taken)
    }

    /// Finds what an earlier process left; removes what is of no use.
    pub(super) fn adopt(&self) -> Result<(), LogError> {
        let shared = &self.shared;
        let mut spares = self.lock();
        for name in shared.disk.list(&shared.directory).at("list", &shared.directory)? {
            let path = shared.directory.join(&name);
            let stale = STALE.contains(&name.as_str());
            if name != ZEROS && name != UNFINISHED && !stale {
                continue;
            }
            if name != UNFINISHED && spares.len() < SPARES {
                let file = shared.disk.open(&path, OpenMode::Existing).at("open", &path)?;
                let file_bytes = file.len().at("measure", &path)?;
                if file_bytes == shared.segment_bytes {
                    spares.push(Spare { path, file, file_bytes, stale });
                    continue;
                }
            }
            shared.disk.remove(&path).at("remove", &path)?;
        }
        Ok(())
    }

    /// Gets rid of a segment that is not needed any more: it becomes a spare if there is room for one. Durable.
    pub(super) fn recycle(
        &self,
        path: &Path,
        file: &Arc<dyn DiskFile>,
        file_bytes: u64,
    ) -> Result<(), LogError> {
        let shared = &self.shared;
        let vacancy = match shared.spares.try_lock() {
            Ok(spares) => Some(spares),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            // One is being made: no need for another, and the writer does not wait for it.
            Err(TryLockError::WouldBlock) => None,
        };
        let mut vacancy =
            vacancy.filter(|spares| spares.len() < SPARES && file_bytes == shared.segment_bytes);
        let place = vacancy.as_ref().and_then(|spares| {
            let mut places = STALE.iter().map(|name| shared.directory.join(name));
            places.find(|place| spares.iter().all(|spare| spare.path != *place))
        });
        match &place {
            Some(place) => shared.disk.rename(path, place).at("rename", path)?,
            None => shared.disk.remove(path).at("remove", path)?,
        }
        if !Bug::RecycledUnsynced.planted() {
            shared.disk.sync_dir(&shared.directory).at("sync", &shared.directory)?;
        }
        if let (Some(spares), Some(path)) = (&mut vacancy, place) {
            spares.push(Spare { path, file: Arc::clone(file), file_bytes, stale: true });
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Spare>> {
        self.shared.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an unfinished file of zeros, durable but for its name.
    fn make(&self, file_bytes: u64) -> Result<Spare, LogError> {
        let shared = &self.shared;
        let path = shared.directory.join(UNFINISHED);
        let made = self.fill(&path, file_bytes);
        if made.is_err() {
            // Gives the space back; the error that matters is the one at hand.
            let _ = shared.disk.remove(&path);
        }
        Ok(Spare { file: made?, path, file_bytes, stale: false })
    }

    fn fill(&self, path: &Path, file_bytes: u64) -> Result<Arc<dyn DiskFile>, IoFailure> {
        let file = self.shared.disk.open(path, OpenMode::Create).at("create", path)?;
        file.set_len(0).at("empty", path)?;
        let chunk = u64::try_from(ZEROS_BYTES).unwrap_or(u64::MAX).min(file_bytes);
        let zeros = vec![0; usize::try_from(chunk).unwrap_or(ZEROS_BYTES)];
        let mut offset = 0;
        while offset < file_bytes {
            let count = (file_bytes - offset).min(chunk);
            let bytes = &zeros[..usize::try_from(count).unwrap_or(zeros.len())];
            file.write_at(bytes, offset).at("write", path)?;
            offset += count;
            if offset.is_multiple_of(ZEROS_PER_SYNC) {
                file.sync_data().at("sync", path)?;
            }
        }
        if !Bug::SpareUnsynced.planted() {
            file.sync_all().at("sync", path)?;
        }
        Ok(file)
    }
}
