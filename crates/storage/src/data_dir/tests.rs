use std::io::ErrorKind;

use duet_protocol::{ApplianceId, ClusterId, DiskId};

use super::*;
use crate::{
    RealDisk,
    testing::{FaultDisk, Unsynced},
};

fn identity() -> OwnState {
    OwnState::blank(ClusterId(5), ApplianceId::B, DiskId(6))
}

fn path() -> PathBuf {
    PathBuf::from("/data")
}

#[test]
fn a_directory_is_created_once_and_locked() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("data");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    assert!(DataDir::is_blank(&RealDisk, &path).unwrap());
    let missing = DataDir::open(Arc::clone(&disk), &path).unwrap_err();
    assert!(matches!(missing, DataDirError::Missing { .. }));
    std::fs::create_dir(&path).unwrap();
    let blank = DataDir::open(Arc::clone(&disk), &path).unwrap_err();
    assert!(matches!(blank, DataDirError::Blank { .. }));
    let first = DataDir::create(Arc::clone(&disk), &path, &identity()).unwrap();
    assert!(DataDir::exists(&RealDisk, &path).unwrap() && !DataDir::is_blank(&RealDisk, &path).unwrap());
    let error = DataDir::open(Arc::clone(&disk), &path).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{} is in use by another process; stop that process, or give each appliance a directory of its own",
            path.display()
        )
    );
    drop(first);
    let again = DataDir::create(Arc::clone(&disk), &path, &identity()).unwrap_err();
    assert!(matches!(again, DataDirError::AlreadyCreated { .. }));
    let second = DataDir::open(disk, &path).unwrap();
    assert_eq!(second.path(), path);
}

#[test]
fn a_file_above_the_directory_is_named() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    for outcome in
        [DataDir::is_blank(&RealDisk, &file.join("data")), DataDir::exists(&RealDisk, &file.join("data"))]
    {
        assert!(matches!(outcome, Err(DataDirError::NotADirectory { path }) if path == file));
    }
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let disk = FaultDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    disk.open(&path(), OpenMode::CreateNew).unwrap();
    let file = DataDir::create(Arc::clone(&shared), &path(), &identity()).unwrap_err();
    assert!(matches!(file, DataDirError::NotADirectory { .. }));
    let below = DataDir::create(Arc::clone(&shared), Path::new("/none/data"), &identity()).unwrap_err();
    assert!(matches!(below, DataDirError::Missing { path } if path == Path::new("/none")));
    let other = Path::new("/other");
    disk.create_dir(other).unwrap();
    disk.open(&other.join("holiday.jpg"), OpenMode::CreateNew).unwrap();
    for outcome in
        [DataDir::create(Arc::clone(&shared), other, &identity()), DataDir::open(Arc::clone(&shared), other)]
    {
        let error = outcome.unwrap_err();
        assert!(error.to_string().contains("it holds holiday.jpg"), "{error}");
    }
    assert_eq!(disk.list(other).unwrap(), ["holiday.jpg"]);
}

#[test]
fn a_mount_point_with_lost_and_found_is_blank() {
    let disk = FaultDisk::new();
    disk.create_dir(&path()).unwrap();
    disk.create_dir(&path().join("lost+found")).unwrap();
    DataDir::create(Arc::new(disk), &path(), &identity()).unwrap();
}

#[test]
fn a_directory_that_is_not_writable_is_said_to_be() {
    for kind in [ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem] {
        let disk = FaultDisk::new();
        disk.create_dir(&path()).unwrap();
        disk.fail_operation(3, kind, false);
        let error = DataDir::create(Arc::new(disk), &path(), &identity()).unwrap_err();
        assert!(matches!(error, DataDirError::NotWritable { .. }), "{error}");
    }
}

#[test]
fn a_newer_format_an_older_and_a_damaged_one_are_refused() {
    let disk = FaultDisk::new();
    drop(DataDir::create(Arc::new(disk.clone()), &path(), &identity()).unwrap());
    let format = path().join(FORMAT_FILE);
    disk.set_bytes(&format, b"duet data directory, format 3\n");
    let error = DataDir::open(Arc::new(disk.clone()), &path()).unwrap_err();
    assert!(error.to_string().contains("run the newer version"), "{error}");
    disk.set_bytes(&format, b"duet data directory, format 1\n");
    let error = DataDir::open(Arc::new(disk.clone()), &path()).unwrap_err();
    assert!(error.to_string().contains("start with a new data directory"), "{error}");
    disk.set_bytes(&format, b"duet data directory, format 0\n");
    let error = DataDir::open(Arc::new(disk.clone()), &path()).unwrap_err();
    assert!(matches!(error, DataDirError::Damaged { .. }));
    // A directory with entries does not become blank by losing that file.
    disk.open(&path().join(LOG).join("0000000000000001-00000000000000000000.seg"), OpenMode::Create).unwrap();
    disk.remove(&format).unwrap();
    let error = DataDir::is_blank(&disk, &path()).unwrap_err();
    assert!(matches!(error, DataDirError::Damaged { .. }));
}

/// The power fails at every step of a creation: afterwards the directory is complete or blank.
#[test]
fn a_creation_that_is_cut_short_can_be_done_again() {
    for seed in 0..6 {
        for step in 1.. {
            let disk = FaultDisk::new();
            disk.crash_at_change(step);
            let created = DataDir::create(Arc::new(disk.clone()), &path(), &identity());
            let over = created.is_ok();
            drop(created);
            disk.crash(if seed == 0 { Unsynced::Lost } else { Unsynced::Torn(seed * 97 + step) });
            assert!(!over || DataDir::exists(&disk, &path()).unwrap());
            if DataDir::is_blank(&disk, &path()).unwrap() {
                drop(DataDir::create(Arc::new(disk.clone()), &path(), &identity()).unwrap());
            }
            let directory = DataDir::open(Arc::new(disk.clone()), &path()).unwrap();
            let (_, state) = OwnStateFile::load(Arc::new(disk), &directory.state_path()).unwrap();
            assert_eq!(state, identity());
            if over {
                break;
            }
        }
    }
}

#[test]
fn whether_it_could_be_made_is_found_out_without_making_it() {
    let parent = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let path = parent.path().join("data");
    DataDir::probe(&disk, &path).unwrap();
    assert!(std::fs::read_dir(parent.path()).unwrap().next().is_none(), "nothing was made");
    let below = parent.path().join("not/there");
    assert!(
        matches!(DataDir::probe(&disk, &below), Err(DataDirError::Missing { path }) if path.ends_with("not"))
    );
    std::fs::create_dir(&path).unwrap();
    DataDir::probe(&disk, &path).unwrap();
    assert!(DataDir::is_blank(disk.as_ref(), &path).unwrap(), "still free");
    std::fs::write(path.join("beach.jpg"), "precious").unwrap();
    assert!(matches!(DataDir::probe(&disk, &path), Err(DataDirError::NotOurs { .. })));
}
