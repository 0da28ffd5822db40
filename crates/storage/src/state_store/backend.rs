//! The engine's file, through our [`Disk`](crate::disk::Disk).
//!
//! Locks are left to the data directory, whose lock covers the store.

use std::{io, sync::Arc};

use crate::{
    disk::{DiskFile, read_exact_at},
    planted::Bug,
};

/// A database file.
#[derive(Debug)]
pub(super) struct EngineFile(pub Arc<dyn DiskFile>);

impl redb::StorageBackend for EngineFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        read_exact_at(self.0.as_ref(), out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if Bug::EngineUnsynced.planted() { Ok(()) } else { self.0.sync_data() }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(data, offset)
    }
}
