//! A disk that stands still now and then, to measure what a pair makes of it (`duet bench failover --kind stall`).

use std::{io, path::Path, sync::Arc, thread, time::Duration};

use super::{Disk, DiskFile, OpenMode, PathKind};

/// How often a sync that stands still looks whether it may go on: short beside any stall.
const LOOK: Duration = Duration::from_millis(1);

/// Another disk on which nothing becomes durable while a certain file is there: each sync waits until it is gone.
#[derive(Clone, Debug)]
pub struct StallingDisk {
    disk: Arc<dyn Disk>,
    stall: Arc<Path>,
}

/// An open file of it.
#[derive(Debug)]
struct StallingFile {
    file: Arc<dyn DiskFile>,
    stall: Arc<Path>,
}

impl StallingDisk {
    /// `disk`, standing still while there is a file at `stall`.
    pub fn new(disk: Arc<dyn Disk>, stall: &Path) -> Self {
        Self { disk, stall: stall.into() }
    }
}

fn stand_still(stall: &Path) {
    while stall.exists() {
        thread::sleep(LOOK);
    }
}

impl Disk for StallingDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(path, mode)?;
        Ok(Arc::new(StallingFile { file, stall: self.stall.clone() }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.disk.list(path)
    }

    fn kind(&self, path: &Path) -> io::Result<Option<PathKind>> {
        self.disk.kind(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        stand_still(&self.stall);
        self.disk.sync_dir(path)
    }
}

impl DiskFile for StallingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        stand_still(&self.stall);
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        stand_still(&self.stall);
        self.file.sync_all()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.file.drop_cache()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RealDisk;

    #[test]
    fn a_sync_waits_while_the_file_is_there_and_writes_do_not() {
        let directory = tempfile::tempdir().unwrap();
        let stall = directory.path().join("stall");
        let disk = StallingDisk::new(Arc::new(RealDisk), &stall);
        let file = disk.open(&directory.path().join("data"), OpenMode::CreateNew).unwrap();
        std::fs::write(&stall, "").unwrap();
        file.write_at(b"written", 0).unwrap();
        let syncing = thread::spawn(move || file.sync_data());
        thread::sleep(20 * LOOK);
        assert!(!syncing.is_finished());
        std::fs::remove_file(&stall).unwrap();
        syncing.join().unwrap().unwrap();
        disk.sync_dir(directory.path()).unwrap();
    }
}
