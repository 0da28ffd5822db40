//! The binary under test.

use std::path::Path;
use std::sync::OnceLock;

use duet::process::Launcher;

/// The copy's name, and this process's id.
const PREFIX: &str = "duet-under-test.run-";

/// The binary under test (or that of `DUET_TEST_BINARY`), copied once: a build that goes on meanwhile does not change what
/// is tested.
pub(super) fn launcher() -> Launcher {
    static LAUNCHER: OnceLock<Launcher> = OnceLock::new();
    let start = || {
        let name = format!("{PREFIX}{}", std::process::id());
        let mine = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let built = std::env::var_os("DUET_TEST_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_duet").into());
        std::fs::copy(built, &mine).unwrap();
        forget_older_runs(&mine);
        Launcher::new(mine).unwrap()
    };
    LAUNCHER.get_or_init(start).clone()
}

/// Removes the binaries of runs whose process is gone.
fn forget_older_runs(mine: &Path) {
    for entry in std::fs::read_dir(env!("CARGO_TARGET_TMPDIR")).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix(PREFIX) else { continue };
        if entry.path() != mine && !Path::new("/proc").join(pid).exists() {
            std::fs::remove_file(entry.path()).ok();
        }
    }
}
