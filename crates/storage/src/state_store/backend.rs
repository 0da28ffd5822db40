//! The engine's file, through our [`Disk`](crate::disk::Disk).
//!
//! Locks are left to the data directory, whose lock covers the store.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    disk::{DiskFile, read_exact_at},
    planted::Bug,
};

/// Bytes written to the engine's file before they are sent on to the disk. A commit writes tens of MiB, and the log, on the
/// same disk as a rule, must not wait behind all of them: with one sync at the end, a write in a hundred waited for 20 ms.
const WRITE_BURST_BYTES: usize = 1 << 20;

/// A database file.
#[derive(Debug)]
pub(super) struct EngineFile {
    file: Arc<dyn DiskFile>,
    /// Bytes written since the last sync.
    unsynced: AtomicUsize,
}

impl EngineFile {
    pub(super) fn new(file: Arc<dyn DiskFile>) -> Self {
        Self { file, unsynced: AtomicUsize::new(0) }
    }
}

impl redb::StorageBackend for EngineFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        read_exact_at(self.file.as_ref(), out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if Bug::EngineUnsynced.planted() { Ok(()) } else { self.file.sync_data() }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(data, offset)?;
        if self.unsynced.fetch_add(data.len(), Ordering::Relaxed) + data.len() >= WRITE_BURST_BYTES {
            self.unsynced.store(0, Ordering::Relaxed);
            self.file.sync_data()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use redb::StorageBackend;

    use super::*;
    use crate::{
        disk::{Disk, OpenMode},
        testing::{FaultDisk, Unsynced},
    };

    #[test]
    fn what_waits_for_the_disk_is_never_more_than_a_burst() {
        let (disk, path) = (FaultDisk::new(), Path::new("/data.redb"));
        let file = disk.open(path, OpenMode::CreateNew).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let file = EngineFile::new(file);
        let page = [7; 4096];
        let pages = 2 * WRITE_BURST_BYTES / page.len() + 1;
        for place in 0..pages {
            file.write((place * page.len()) as u64, &page).unwrap();
        }
        disk.crash(Unsynced::Lost);
        assert_eq!(disk.bytes(path).len(), 2 * WRITE_BURST_BYTES);
    }
}
