//! The door to the disk: every file operation of this crate goes through [`Disk`] and [`DiskFile`].
//!
//! The traits are as narrow as the log, the own state and the state store allow, and they keep apart what the system
//! keeps apart: data is durable after `sync_data`, a name after `sync_dir` of its directory, never before. The simulator
//! and [`crate::testing::FaultDisk`](../testing/struct.FaultDisk.html) rely on that.

mod real;
mod stalling;

use std::{fmt::Debug, io, path::Path, sync::Arc};

pub use real::RealDisk;
pub use stalling::StallingDisk;

/// A file system, or something that behaves like one.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// What the system says; `NotFound`, `AlreadyExists` by `mode`.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;

    /// Makes a directory; its parent must exist.
    ///
    /// # Errors
    /// What the system says.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Names of what is in a directory, in no order.
    ///
    /// # Errors
    /// What the system says.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// What there is at `path`; `None` when nothing is.
    ///
    /// # Errors
    /// What the system says, if it is not that nothing is there.
    fn kind(&self, path: &Path) -> io::Result<Option<PathKind>>;

    /// Gives a file another name, replacing what has that name. Atomic; durable after `sync_dir`.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Durable after `sync_dir`.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes creations, renames and removals in a directory durable.
    ///
    /// # Errors
    /// What the system says; the state of the directory on disk is then unknown.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
}

/// An open file. Reads and writes name their place, so that threads share it without a cursor.
pub trait DiskFile: Debug + Send + Sync + 'static {
    /// Reads up to `buffer.len()` bytes at `offset`; fewer only at the end of the file.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// What the system says; any part may then have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the bytes written so far durable, and the length as far as it is needed to read them.
    ///
    /// # Errors
    /// What the system says; what is on disk is then unknown, and a later success proves nothing about it.
    fn sync_data(&self) -> io::Result<()>;

    /// Like `sync_data`, with all other attributes.
    ///
    /// # Errors
    /// As `sync_data`.
    fn sync_all(&self) -> io::Result<()>;

    /// Cuts or lengthens the file; new bytes read as zeros.
    ///
    /// # Errors
    /// What the system says.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// Length of the file in bytes.
    ///
    /// # Errors
    /// What the system says.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// What the system says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Takes the file's exclusive advisory lock, held until the last handle to this open file is dropped.
    /// `false`: somebody else holds it.
    ///
    /// # Errors
    /// What the system says.
    fn try_lock(&self) -> io::Result<bool>;

    /// Forgets cached bytes that are already on disk, so that the next reads see the medium and not the memory of an
    /// earlier, failed write.
    ///
    /// # Errors
    /// What the system says.
    fn drop_cache(&self) -> io::Result<()>;
}

/// How to open a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenMode {
    /// It must exist.
    Existing,
    /// It is made when it does not exist.
    Create,
    /// It must not exist.
    CreateNew,
}

/// What a path leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PathKind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A device, a socket, something else.
    Other,
}

/// Reads exactly `buffer.len()` bytes at `offset`.
pub(crate) fn read_exact_at(file: &dyn DiskFile, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let got = file.read_at(buffer, offset)?;
    if got == buffer.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Reads a whole small file.
pub(crate) fn read_whole(disk: &dyn Disk, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::Existing)?;
    let length = usize::try_from(file.len()?).map_err(|_| io::ErrorKind::FileTooLarge)?;
    if length > limit {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = vec![0; length];
    read_exact_at(file.as_ref(), &mut bytes, 0)?;
    Ok(bytes)
}
