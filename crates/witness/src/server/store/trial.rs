//! Opens the data file without touching it: what the engine writes while it opens and checks goes to memory.
//!
//! The engine repairs a file that was not closed when it opens it. Of a damaged file nothing must be changed, as a
//! person may still want to rescue it; so it is first opened here, and for real only if it is sound.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

/// Bytes that are kept together.
const PAGE_BYTES: usize = 4096;

/// A file below, changes in memory above.
#[derive(Debug)]
pub(super) struct Trial {
    file: File,
    changes: Mutex<Changes>,
}

#[derive(Debug)]
struct Changes {
    /// Changed pages by number.
    pages: BTreeMap<u64, Vec<u8>>,
    len: u64,
    /// The file counts up to here; behind it there are changes and zeros.
    file_len: u64,
}

impl Trial {
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        let changes = Changes { pages: BTreeMap::new(), len, file_len: len };
        Ok(Self { file, changes: Mutex::new(changes) })
    }

    /// Whether the file has no bytes: the engine would make a new database of it.
    pub fn is_empty(&self) -> bool {
        self.changes().len == 0
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A page as it is now.
    fn page(&self, changes: &Changes, number: u64) -> Result<Vec<u8>> {
        if let Some(page) = changes.pages.get(&number) {
            return Ok(page.clone());
        }
        let mut page = vec![0; PAGE_BYTES];
        let start = number * PAGE_BYTES as u64;
        let there = changes.file_len.saturating_sub(start).min(PAGE_BYTES as u64);
        let there = usize::try_from(there).unwrap_or(PAGE_BYTES);
        self.file.read_exact_at(&mut page[..there], start)?;
        Ok(page)
    }
}

/// Page, place in it and length of each piece of a range.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let place = usize::try_from(at % PAGE_BYTES as u64).unwrap_or(0);
        let piece = (len - done).min(PAGE_BYTES - place);
        done += piece;
        (piece > 0).then_some((at / PAGE_BYTES as u64, place, piece))
    })
}

impl StorageBackend for Trial {
    fn len(&self) -> Result<u64> {
        Ok(self.changes().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let changes = self.changes();
        if offset + out.len() as u64 > changes.len {
            return Err(Error::from(ErrorKind::UnexpectedEof));
        }
        let mut done = 0;
        for (number, place, piece) in pieces(offset, out.len()) {
            let page = self.page(&changes, number)?;
            out[done..done + piece].copy_from_slice(&page[place..place + piece]);
            done += piece;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        let mut changes = self.changes();
        changes.len = len;
        if len < changes.file_len {
            changes.file_len = len;
            let (last, rest) =
                (len / PAGE_BYTES as u64, usize::try_from(len % PAGE_BYTES as u64).unwrap_or(0));
            changes.pages.retain(|number, _| *number <= last);
            if let Some(page) = changes.pages.get_mut(&last) {
                page[rest..].fill(0);
            }
        }
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let mut changes = self.changes();
        let mut done = 0;
        for (number, place, piece) in pieces(offset, data.len()) {
            let mut page = self.page(&changes, number)?;
            page[place..place + piece].copy_from_slice(&data[done..done + piece]);
            changes.pages.insert(number, page);
            done += piece;
        }
        changes.len = changes.len.max(offset + data.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_seen_here_and_not_in_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let content: Vec<u8> = (0..10_000_u32).map(|number| u8::try_from(number % 251).unwrap()).collect();
        std::fs::write(&path, &content).unwrap();
        let trial = Trial::open(&path).unwrap();
        let mut expected = content.clone();
        let read = |expected: &[u8]| {
            for (offset, len) in [(0, 10), (4090, 20), (1, 8500), (9990, 10), (0, 0)] {
                let mut out = vec![0; len];
                trial.read(offset as u64, &mut out).unwrap();
                assert_eq!(out, expected[offset..offset + len]);
            }
        };
        read(&expected);
        for (offset, len) in [(4000, 200), (0, 1), (9999, 1), (100, 9000)] {
            trial.write(offset as u64, &vec![0xEE; len]).unwrap();
            expected[offset..offset + len].fill(0xEE);
            read(&expected);
        }
        assert!(trial.read(9_999, &mut [0; 2]).is_err(), "behind the end");
        // Cut and grown again: zeros, not what was there.
        trial.set_len(5000).unwrap();
        trial.set_len(10_000).unwrap();
        expected[5000..].fill(0);
        read(&expected);
        assert_eq!(trial.len().unwrap(), 10_000);
        assert_eq!(std::fs::read(&path).unwrap(), content);
    }
}
