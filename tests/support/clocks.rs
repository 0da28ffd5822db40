//! Clocks that tell another time than the machine's: where the monotonic ones begin (a time namespace, as after a reboot),
//! and the wall clock, which may jump at any moment (libfaketime).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

/// A command under which the monotonic clocks of a process are ahead of the machine's; `None` where the system cannot.
pub fn ahead(offset: Duration) -> Option<Vec<String>> {
    static ALLOWED: OnceLock<bool> = OnceLock::new();
    let allowed = *ALLOWED.get_or_init(|| {
        let far = under(Duration::from_secs(FAR));
        let uptime = Command::new(&far[0]).args(&far[1..]).args(["cat", "/proc/uptime"]).output();
        let text = uptime.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let seconds = text.ok().and_then(|text| text.split('.').next()?.parse::<u64>().ok());
        seconds.is_some_and(|seconds| seconds >= FAR)
    });
    allowed.then(|| under(offset))
}

/// More seconds than any machine under test has been up.
const FAR: u64 = 1_000_000_000;

fn under(offset: Duration) -> Vec<String> {
    let seconds = offset.as_secs().to_string();
    ["unshare", "--time", "--boottime", &seconds, "--monotonic", &seconds].map(String::from).into()
}

/// A wall clock for some process, which a test sets.
pub struct WallClock {
    file: PathBuf,
    library: PathBuf,
}

impl WallClock {
    /// Kept in `file`; `None` where libfaketime is not installed.
    pub fn new(file: PathBuf) -> Option<Self> {
        let folders = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
        let library =
            folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|path| path.exists())?;
        let clock = Self { file, library };
        clock.set("+0");
        Some(clock)
    }

    /// What a process must have in its environment.
    pub fn environment(&self) -> [(&'static str, String); 4] {
        let text = |path: &Path| path.display().to_string();
        [
            ("LD_PRELOAD", text(&self.library)),
            ("FAKETIME_TIMESTAMP_FILE", text(&self.file)),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }

    /// So much from the machine's, at this moment: "+3600", "-3600" seconds.
    pub fn set(&self, offset: &str) {
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{offset}\n")).unwrap();
        std::fs::rename(new, &self.file).unwrap();
    }
}
