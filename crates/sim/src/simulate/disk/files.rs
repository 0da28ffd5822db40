//! The disk as the storage code knows it.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use duet_storage::disk::{OpenMode, PathKind};
use duet_storage::{Disk, DiskFile};

use super::bytes::Content;
use super::damage::Files;
use super::{NameChange, Node, Shared, SimDisk, dead, lock};

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut shared = lock(&self.shared);
        let content = match shared.names.get(path) {
            Some(Node::Directory) => return Err(io::ErrorKind::IsADirectory.into()),
            Some(Node::File(_)) if mode == OpenMode::CreateNew => {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            Some(Node::File(content)) => Arc::clone(content),
            None if mode == OpenMode::Existing => return Err(io::ErrorKind::NotFound.into()),
            None => {
                let parent = path.parent().and_then(|parent| shared.names.get(parent));
                if !matches!(parent, Some(Node::Directory)) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                let content = Arc::new(Mutex::new(Content::default()));
                let node = Node::File(Arc::clone(&content));
                shared.change_name(NameChange::Set(path.to_owned(), node))?;
                content
            }
        };
        shared.next_handle += 1;
        let (era, handle, files) = (shared.era, shared.next_handle, Files::of(path));
        Ok(Arc::new(OpenFile { shared: Arc::clone(&self.shared), content, era, handle, files }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut shared = lock(&self.shared);
        if shared.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !path.parent().is_some_and(|parent| shared.names.contains_key(parent)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        shared.change_name(NameChange::Set(path.to_owned(), Node::Directory))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let shared = lock(&self.shared);
        match shared.names.get(path) {
            Some(Node::Directory) => {}
            Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
            None => return Err(io::ErrorKind::NotFound.into()),
        }
        let inside = shared.names.keys().filter(|name| name.parent() == Some(path));
        Ok(inside.filter_map(|name| Some(name.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn kind(&self, path: &Path) -> io::Result<Option<PathKind>> {
        let shared = lock(&self.shared);
        Ok(shared.names.get(path).map(|node| match node {
            Node::Directory => PathKind::Directory,
            Node::File(_) => PathKind::File,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut shared = lock(&self.shared);
        let node = shared.names.get(from).cloned().ok_or(io::ErrorKind::NotFound)?;
        shared.change_name(NameChange::Rename(from.to_owned(), to.to_owned(), node))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut shared = lock(&self.shared);
        match shared.names.get(path) {
            Some(Node::File(_)) => {}
            Some(Node::Directory) => return Err(io::ErrorKind::IsADirectory.into()),
            None => return Err(io::ErrorKind::NotFound.into()),
        }
        shared.change_name(NameChange::Remove(path.to_owned()))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let shared = &mut *lock(&self.shared);
        shared.begin_change()?;
        let durable = &mut shared.durable;
        shared.unsynced.retain(|change| {
            let done = change.is_in(path);
            if done {
                change.apply(durable);
            }
            !done
        });
        Ok(())
    }
}

/// A file that a process has open.
#[derive(Debug)]
struct OpenFile {
    shared: Arc<Mutex<Shared>>,
    content: Arc<Mutex<Content>>,
    /// Of the process that opened it.
    era: u64,
    handle: u64,
    files: Option<Files>,
}

impl OpenFile {
    fn shared(&self) -> io::Result<MutexGuard<'_, Shared>> {
        let shared = lock(&self.shared);
        if shared.era == self.era { Ok(shared) } else { Err(dead()) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut shared = self.shared()?;
        shared.begin_change()?;
        if shared.armed.fails_sync() {
            lock(&self.content).fail_sync();
            return Err(io::Error::other("the device reports an error"));
        }
        lock(&self.content).sync();
        Ok(())
    }
}

fn place(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

impl DiskFile for OpenFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let _shared = self.shared()?;
        Ok(lock(&self.content).read(buffer, place(offset)?))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = place(offset)?;
        let mut shared = self.shared()?;
        shared.begin_change()?;
        let length = lock(&self.content).length();
        if !shared.has_room((offset + bytes.len()).saturating_sub(length)) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let misfortune = shared.armed.meets(self.files);
        lock(&self.content).write(offset, bytes, misfortune);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let bytes = place(bytes)?;
        let mut shared = self.shared()?;
        shared.begin_change()?;
        let length = lock(&self.content).length();
        if !shared.has_room(bytes.saturating_sub(length)) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if bytes != length {
            lock(&self.content).set_length(bytes);
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let _shared = self.shared()?;
        Ok(lock(&self.content).length() as u64)
    }

    fn try_lock(&self) -> io::Result<bool> {
        let _shared = self.shared()?;
        let mut content = lock(&self.content);
        let me = (self.era, self.handle);
        if content.locked_by.is_some_and(|(era, handle)| era == self.era && handle != self.handle) {
            return Ok(false);
        }
        content.locked_by = Some(me);
        Ok(true)
    }

    fn drop_cache(&self) -> io::Result<()> {
        let _shared = self.shared()?;
        lock(&self.content).drop_cache();
        Ok(())
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        let mut content = lock(&self.content);
        if content.locked_by == Some((self.era, self.handle)) {
            content.locked_by = None;
        }
    }
}
