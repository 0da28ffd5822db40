//! What the system knows of a process: CPU time and resident memory, from `/proc`.

use std::time::Duration;

/// Linux counts the CPU time of processes in hundredths of a second, on every architecture Duet runs on.
const TICK: Duration = Duration::from_millis(10);

/// CPU time of a process with all its threads, user and system; zero when it is gone.
pub fn cpu_time(pid: u32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    ticks(&text).map_or(Duration::ZERO, |ticks| TICK * ticks)
}

/// User and system ticks in a `/proc/PID/stat` line. The name in parentheses may itself hold anything.
fn ticks(stat: &str) -> Option<u32> {
    let after_name = stat.rsplit_once(") ")?.1;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

/// Resident memory of a process in bytes; zero when it is gone.
pub fn resident_bytes(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    resident(&text).unwrap_or(0)
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let line = "17 (a b) c) S 1 17 17 0 -1 4194560 10 0 0 0 123 45 0 0 20 0 4 0 999 0 0";
        assert_eq!(ticks(line), Some(168));
        assert_eq!(ticks("garbage"), None);
        assert_eq!(resident("Name:\tx\nVmRSS:\t  2048 kB\n"), Some(2_097_152));
        assert!(resident_bytes(std::process::id()) > 0);
    }
}
