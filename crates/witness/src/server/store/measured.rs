//! The data file as the engine sees it; counts what goes to the disk. The directory's lock keeps other processes away.

use std::fs::{File, OpenOptions};
use std::io::Result;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use redb::StorageBackend;

use super::super::meter::Meter;

/// A file, and who counts.
pub(super) struct Measured {
    file: File,
    meter: Arc<Meter>,
}

impl Measured {
    pub fn open(path: &Path, meter: Arc<Meter>) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self { file, meter })
    }
}

impl std::fmt::Debug for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.file.fmt(f)
    }
}

impl StorageBackend for Measured {
    fn len(&self) -> Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> Result<()> {
        let start = Instant::now();
        self.file.sync_data()?;
        self.meter.syncs.note(start.elapsed());
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.file.write_all_at(data, offset)?;
        self.meter.bytes_written.fetch_add(data.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}
