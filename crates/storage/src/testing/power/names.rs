//! The names that are not durable yet: creations, renames and removals since the last sync of their directory.
//!
//! A file that loses its name must be able to get it back, so each file of such a change has a second name, a hidden one,
//! until the directory is synced.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use super::super::content::Dice;

/// Beginning of the hidden names.
const HIDDEN: &str = ".unsynced-";

/// Changes of names in their order.
#[derive(Debug, Default)]
pub(super) struct Names {
    changes: Vec<(u64, Change)>,
    next: u64,
}

/// A change that was made. Files go by their hidden names.
#[derive(Debug)]
enum Change {
    Directory(PathBuf),
    Create { path: PathBuf, file: PathBuf },
    Rename { from: PathBuf, to: PathBuf, file: PathBuf, replaced: Option<PathBuf> },
    Remove { path: PathBuf, file: PathBuf },
}

impl Change {
    fn path(&self) -> &Path {
        match self {
            Self::Directory(path) | Self::Create { path, .. } | Self::Remove { path, .. } => path,
            Self::Rename { to, .. } => to,
        }
    }

    fn hidden(&self) -> impl Iterator<Item = &PathBuf> {
        let (first, second) = match self {
            Self::Directory(_) => (None, None),
            Self::Create { file, .. } | Self::Remove { file, .. } => (Some(file), None),
            Self::Rename { file, replaced, .. } => (Some(file), replaced.as_ref()),
        };
        first.into_iter().chain(second)
    }
}

/// A sync that is under way: the changes before this number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Syncing(u64);

impl Names {
    fn push(&mut self, change: Change) {
        self.changes.push((self.next, change));
        self.next += 1;
    }

    /// Gives a file its hidden name.
    fn hide(&mut self, path: &Path) -> io::Result<PathBuf> {
        self.next += 1;
        let hidden = path.with_file_name(format!("{HIDDEN}{}-{}", std::process::id(), self.next));
        fs::hard_link(path, &hidden)?;
        Ok(hidden)
    }

    pub fn created_dir(&mut self, path: &Path) {
        self.push(Change::Directory(path.to_owned()));
    }

    pub fn created(&mut self, path: &Path) -> io::Result<()> {
        let file = self.hide(path)?;
        self.push(Change::Create { path: path.to_owned(), file });
        Ok(())
    }

    pub fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        assert_eq!(from.parent(), to.parent(), "files stay in their directories");
        let replaced = if to.exists() { Some(self.hide(to)?) } else { None };
        let file = self.hide(from)?;
        fs::rename(from, to)?;
        self.push(Change::Rename { from: from.to_owned(), to: to.to_owned(), file, replaced });
        Ok(())
    }

    pub fn remove(&mut self, path: &Path) -> io::Result<()> {
        let file = self.hide(path)?;
        fs::remove_file(path)?;
        self.push(Change::Remove { path: path.to_owned(), file });
        Ok(())
    }

    /// Of what is found in a directory: everything but the hidden names. Those of an earlier life are removed.
    pub fn visible(directory: &Path, names: Vec<String>) -> Vec<String> {
        let (hidden, visible): (Vec<String>, Vec<String>) =
            names.into_iter().partition(|name| name.starts_with(HIDDEN));
        let ours = format!("{HIDDEN}{}-", std::process::id());
        for name in hidden.iter().filter(|name| !name.starts_with(&ours)) {
            fs::remove_file(directory.join(name)).ok();
        }
        visible
    }

    pub const fn begin_sync(&self) -> Syncing {
        Syncing(self.next)
    }

    /// The changes in `directory` before the sync are durable.
    pub fn end_sync(&mut self, directory: &Path, syncing: Syncing) {
        let durable = |(number, change): &mut (u64, Change)| {
            *number < syncing.0 && change.path().parent() == Some(directory)
        };
        for (_, change) in self.changes.extract_if(.., durable) {
            change.hidden().for_each(|hidden| drop(fs::remove_file(hidden)));
        }
    }

    /// The power fails: each change is durable or was never made.
    pub fn cut(&mut self, dice: &mut Dice) -> io::Result<()> {
        let changes = std::mem::take(&mut self.changes);
        let mut files = before(&changes);
        let mut directories_lost = Vec::new();
        for (_, change) in &changes {
            if dice.flip() {
                make(change, &mut files);
            } else if let Change::Directory(path) = change {
                directories_lost.push(path);
            }
        }
        for path in files.keys().filter(|path| path.exists()) {
            fs::remove_file(path)?;
        }
        for (path, file) in &files {
            if let Some(file) = file {
                fs::hard_link(file, path)?;
            }
        }
        for hidden in changes.iter().flat_map(|(_, change)| change.hidden()) {
            fs::remove_file(hidden)?;
        }
        directories_lost.into_iter().filter(|path| path.exists()).try_for_each(fs::remove_dir_all)
    }
}

/// Which file had each name before any of the changes.
fn before(changes: &[(u64, Change)]) -> BTreeMap<PathBuf, Option<PathBuf>> {
    let mut files = BTreeMap::new();
    let mut first = |path: &PathBuf, file: Option<&PathBuf>| {
        files.entry(path.clone()).or_insert_with(|| file.cloned());
    };
    for (_, change) in changes {
        match change {
            Change::Directory(_) => {}
            Change::Create { path, .. } => first(path, None),
            Change::Remove { path, file } => first(path, Some(file)),
            Change::Rename { from, to, file, replaced } => {
                first(from, Some(file));
                first(to, replaced.as_ref());
            }
        }
    }
    files
}

fn make(change: &Change, files: &mut BTreeMap<PathBuf, Option<PathBuf>>) {
    match change {
        Change::Directory(_) => {}
        Change::Create { path, file } => drop(files.insert(path.clone(), Some(file.clone()))),
        Change::Remove { path, .. } => drop(files.insert(path.clone(), None)),
        Change::Rename { from, to, file, .. } => {
            files.insert(from.clone(), None);
            files.insert(to.clone(), Some(file.clone()));
        }
    }
}
