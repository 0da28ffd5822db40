//! What the system knows: CPU time and memory of a process, from `/proc`; bytes written to a disk, from `/sys`.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

/// Linux counts the CPU time of processes in hundredths of a second, on every architecture Duet runs on.
const TICK: Duration = Duration::from_millis(10);
/// Written to `clear_refs`, it lets the highest resident memory begin anew.
const RESET_PEAK: &str = "5";
/// Linux counts what disks write in sectors of this size, whatever theirs is.
const SECTOR: u64 = 512;

/// CPU time of a process with all its threads, user and system; zero when it is gone.
pub fn cpu_time(pid: u32) -> Duration {
    ticks(&read(pid, "stat")).map_or(Duration::ZERO, |ticks| TICK * ticks)
}

/// User and system ticks in a `/proc/PID/stat` line. The name in parentheses may itself hold anything.
fn ticks(stat: &str) -> Option<u32> {
    let after_name = stat.rsplit_once(") ")?.1;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

/// Memory of processes, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Memory {
    /// Resident now, files that are mapped included.
    pub resident: u64,
    /// Resident now and backed by no file: what cannot be had back by forgetting a file's pages.
    pub anonymous: u64,
    /// The highest resident since it was reset.
    pub peak: u64,
}

impl Memory {
    /// Of some processes together; one that is gone has none.
    pub fn of(pids: &[u32]) -> Self {
        let each = pids.iter().map(|pid| read(*pid, "status")).map(|status| Self {
            resident: kib(&status, "VmRSS:"),
            anonymous: kib(&status, "RssAnon:"),
            peak: kib(&status, "VmHWM:"),
        });
        each.fold(Self::default(), |sum, one| Self {
            resident: sum.resident + one.resident,
            anonymous: sum.anonymous + one.anonymous,
            peak: sum.peak + one.peak,
        })
    }
}

/// Lets the peak begin anew.
pub fn reset_peaks(pids: &[u32]) {
    for pid in pids {
        // Where the system does not allow it, the peak is that of the process's whole life: never too low.
        std::fs::write(format!("/proc/{pid}/clear_refs"), RESET_PEAK).ok();
    }
}

/// Bytes written until now to the disk on which `dir` is, by anybody; none where the system does not tell.
///
/// What `/proc/PID/io` counts for a process is no use here: for a small write it counts the whole large folio of the page
/// cache (up to 2 MiB) as written.
pub fn disk_written(dir: &Path) -> Option<u64> {
    let device = std::fs::metadata(dir).ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let text = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
    sectors_written(&text).map(|sectors| sectors * SECTOR)
}

/// The seventh number of a disk's statistics.
fn sectors_written(stat: &str) -> Option<u64> {
    stat.split_whitespace().nth(6)?.parse().ok()
}

fn read(pid: u32, file: &str) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default()
}

/// The size behind a name at the beginning of a line, in bytes; zero without one.
fn kib(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let kib: Option<u64> = line.split_whitespace().next().and_then(|number| number.parse().ok());
    kib.map_or(0, |kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let line = "17 (a b) c) S 1 17 17 0 -1 4194560 10 0 0 0 123 45 0 0 20 0 4 0 999 0 0";
        assert_eq!(ticks(line), Some(168));
        assert_eq!(ticks("garbage"), None);
        assert_eq!(kib("Name:\tx\nVmRSS:\t  2048 kB\nRssAnon:\t 8 kB\n", "VmRSS:"), 2_097_152);
        assert_eq!(kib("VmRSS: much\n", "VmRSS:"), 0);
        let disk = "  84 12 3096 7 9251 4410 871234 5512 0 3000 5600 0 0 0 0 0 0\n";
        assert_eq!(sectors_written(disk), Some(871_234));
        assert_eq!(sectors_written("1 2 3"), None);
    }

    #[test]
    fn this_process_has_memory_and_one_that_is_gone_has_none() {
        let own = Memory::of(&[std::process::id()]);
        assert!(own.resident > 0 && own.anonymous > 0 && own.peak >= own.anonymous, "{own:?}");
        assert_eq!(Memory::of(&[u32::MAX]), Memory::default());
        assert_eq!(cpu_time(u32::MAX), Duration::ZERO);
    }
}
