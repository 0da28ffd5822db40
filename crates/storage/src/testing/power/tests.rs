use std::{
    collections::BTreeSet,
    fs, panic,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

use tempfile::TempDir;

use super::*;

/// A directory on the machine's disk, and the power over it.
struct Machine {
    directory: TempDir,
    disk: PowerDisk,
}

impl Machine {
    fn new() -> Self {
        Self { directory: TempDir::new().unwrap(), disk: PowerDisk::new(|| Fate::Done, || ()) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn open(&self, name: &str) -> Arc<dyn DiskFile> {
        self.disk.open(&self.path(name), OpenMode::Create).unwrap()
    }

    fn sync_dir(&self) {
        self.disk.sync_dir(self.directory.path()).unwrap();
    }

    /// The power fails; every name with what its file holds.
    fn cut(self, seed: u64) -> Vec<(String, Vec<u8>)> {
        self.disk.cut(seed);
        let entries = fs::read_dir(self.directory.path()).unwrap().map(Result::unwrap);
        let mut found: Vec<_> = entries
            .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
            .collect();
        found.sort();
        found
    }
}

/// What 80 failures of the power leave of the same work.
fn outcomes(work: impl Fn(&Machine)) -> BTreeSet<Vec<(String, Vec<u8>)>> {
    let outcome = |seed| {
        let machine = Machine::new();
        work(&machine);
        machine.cut(seed)
    };
    (0..80).map(outcome).collect()
}

fn file(name: &str, bytes: &[u8]) -> (String, Vec<u8>) {
    (name.to_owned(), bytes.to_vec())
}

#[test]
fn what_was_synced_stays() {
    let left = outcomes(|machine| {
        let one = machine.open("one");
        one.write_at(&[1; 2000], 0).unwrap();
        one.sync_data().unwrap();
        machine.disk.rename(&machine.path("one"), &machine.path("two")).unwrap();
        machine.sync_dir();
    });
    assert_eq!(left, BTreeSet::from([vec![file("two", &[1; 2000])]]));
}

#[test]
fn a_name_that_was_not_synced_is_there_or_not() {
    let left = outcomes(|machine| {
        machine.open("old").sync_data().unwrap();
        machine.sync_dir();
        machine.open("new");
    });
    let old = file("old", &[]);
    assert_eq!(left, BTreeSet::from([vec![old.clone()], vec![file("new", &[]), old]]));
}

#[test]
fn a_file_that_was_replaced_comes_back_or_not() {
    let left = outcomes(|machine| {
        for (name, byte) in [("state", 1), ("state.new", 2)] {
            let file = machine.open(name);
            file.write_at(&[byte], 0).unwrap();
            file.sync_data().unwrap();
        }
        machine.sync_dir();
        machine.disk.rename(&machine.path("state.new"), &machine.path("state")).unwrap();
    });
    let before = vec![file("state", &[1]), file("state.new", &[2])];
    assert_eq!(left, BTreeSet::from([before, vec![file("state", &[2])]]));
}

#[test]
fn a_file_that_was_removed_comes_back_or_not() {
    let left = outcomes(|machine| {
        let gone = machine.open("gone");
        gone.write_at(b"here", 0).unwrap();
        gone.sync_data().unwrap();
        machine.sync_dir();
        machine.disk.remove(&machine.path("gone")).unwrap();
    });
    assert_eq!(left, BTreeSet::from([vec![], vec![file("gone", b"here")]]));
}

#[test]
fn a_write_that_was_not_synced_arrives_sector_by_sector() {
    let left = outcomes(|machine| {
        let file = machine.open("file");
        file.write_at(&[1; 1024], 0).unwrap();
        file.sync_data().unwrap();
        machine.sync_dir();
        file.write_at(&[2; 1024], 0).unwrap();
    });
    let half = |first, second| vec![file("file", &[[first; 512], [second; 512]].concat())];
    assert_eq!(left, BTreeSet::from([half(1, 1), half(1, 2), half(2, 1), half(2, 2)]));
}

/// A file as the medium may have it: of each sector and of the length every version since the last sync.
struct Model {
    now: Vec<u8>,
    lengths: Vec<usize>,
    versions: Vec<Vec<[u8; 512]>>,
}

impl Model {
    const SECTORS: usize = 8;

    fn new() -> Self {
        Self { now: Vec::new(), lengths: vec![0], versions: vec![vec![[0; 512]]; Self::SECTORS] }
    }

    fn sectors(&self) -> Vec<[u8; 512]> {
        let mut whole = self.now.clone();
        whole.resize(Self::SECTORS * 512, 0);
        whole.chunks(512).map(|sector| sector.try_into().unwrap()).collect()
    }

    fn changed(&mut self) {
        self.lengths.push(self.now.len());
        let now = self.sectors();
        for (versions, now) in self.versions.iter_mut().zip(now) {
            versions.push(now);
        }
    }

    fn synced(&mut self) {
        self.lengths = vec![self.now.len()];
        self.versions = self.sectors().into_iter().map(|now| vec![now]).collect();
    }

    fn allows(&self, found: &[u8]) -> bool {
        let may_be = |(sector, versions): (&[u8], &Vec<[u8; 512]>)| {
            versions.iter().any(|version| version.starts_with(sector))
        };
        self.lengths.contains(&found.len()) && found.chunks(512).zip(&self.versions).all(may_be)
    }
}

#[test]
fn random_work_leaves_only_what_a_medium_may_hold() {
    let mut taken_back = 0;
    for seed in 0..200 {
        let (mut dice, mut model, machine) = (Dice(seed), Model::new(), Machine::new());
        let file = machine.open("file");
        machine.sync_dir();
        for step in 1..=20 {
            match dice.below(5) {
                0 => {
                    file.sync_data().unwrap();
                    model.synced();
                    continue;
                }
                1 => {
                    let length = usize::try_from(dice.below(4096)).unwrap();
                    file.set_len(length as u64).unwrap();
                    model.now.resize(length, 0);
                }
                _ => {
                    let offset = usize::try_from(dice.below(3000)).unwrap();
                    let bytes = vec![step; usize::try_from(1 + dice.below(1000)).unwrap()];
                    file.write_at(&bytes, offset as u64).unwrap();
                    let end = offset + bytes.len();
                    model.now.resize(model.now.len().max(end), 0);
                    model.now[offset..end].copy_from_slice(&bytes);
                }
            }
            model.changed();
        }
        let found = machine.cut(seed);
        let [(_, found)] = &found[..] else { panic!("seed {seed}: one file") };
        assert!(model.allows(found), "seed {seed}");
        taken_back += u64::from(*found != model.now);
    }
    assert!(taken_back > 50, "the power takes something back: {taken_back}");
}

#[test]
fn the_power_fails_at_the_change_that_fate_has_chosen() {
    let directory = TempDir::new().unwrap();
    let changes = AtomicU64::new(0);
    let fate = move || match changes.fetch_add(1, Ordering::SeqCst) {
        2 => Fate::PowerFails(7),
        _ => Fate::Done,
    };
    let disk = PowerDisk::new(fate, || panic!("the power is off"));
    let file = disk.open(&directory.path().join("file"), OpenMode::Create).unwrap();
    file.write_at(b"whole", 0).unwrap();
    let third = panic::catch_unwind(panic::AssertUnwindSafe(|| file.sync_data()));
    assert_eq!(third.unwrap_err().downcast_ref(), Some(&"the power is off"));
}

#[test]
fn without_space_nothing_grows_and_what_is_there_can_be_changed() {
    let directory = TempDir::new().unwrap();
    let full = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let fate = {
        let full = full.clone();
        move || if full.load(Ordering::SeqCst) { Fate::NoSpace } else { Fate::Done }
    };
    let disk = PowerDisk::new(fate, || ());
    let file = disk.open(&directory.path().join("file"), OpenMode::Create).unwrap();
    file.write_at(b"before", 0).unwrap();
    full.store(true, Ordering::SeqCst);
    file.write_at(b"BE", 0).unwrap();
    let refused = [
        file.write_at(b"and more", 6),
        file.set_len(7),
        disk.create_dir(&directory.path().join("directory")),
        disk.open(&directory.path().join("other"), OpenMode::Create).map(drop),
    ];
    for refused in refused {
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
    file.sync_data().unwrap();
    assert_eq!(fs::read(directory.path().join("file")).unwrap(), b"BEfore");
}

#[test]
fn hidden_names_of_an_earlier_life_are_swept() {
    let machine = Machine::new();
    fs::write(machine.path(".unsynced-0-1"), b"").unwrap();
    machine.open("new");
    assert_eq!(machine.disk.list(machine.directory.path()).unwrap(), ["new"]);
    assert!(!machine.path(".unsynced-0-1").exists());
    machine.sync_dir();
    assert_eq!(fs::read_dir(machine.directory.path()).unwrap().count(), 1);
}
