//! What Linux tells of this process. Elsewhere nothing is told.

use super::text::Page;

/// Linux counts the CPU time of processes in hundredths of a second, on every architecture Duet runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Adds the usual `process_*` lines.
pub(crate) fn describe(page: &mut Page) {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
    if let Some(stat) = Stat::of(&read("stat")) {
        let seconds = ticks(stat.cpu_ticks);
        page.counter("process_cpu_seconds_total", "User and system time of this process.", seconds);
        let size = stat.virtual_bytes;
        page.gauge("process_virtual_memory_bytes", "Address space of this process.", size);
        let system = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        if let Some(boot) = field(&system, "btime ").and_then(|text| text.parse::<u64>().ok()) {
            let started = ticks(stat.started_ticks) + ticks(boot * 100);
            page.gauge("process_start_time_seconds", "When this process started, in Unix time.", started);
        }
    }
    if let Some(kib) = field(&read("status"), "VmRSS:").and_then(|text| text.parse::<u64>().ok()) {
        page.gauge("process_resident_memory_bytes", "Memory of this process.", kib * 1024);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        page.gauge("process_open_fds", "Open files and connections.", open.count());
    }
    if let Some(most) = field(&read("limits"), "Max open files").and_then(|text| text.parse::<u64>().ok()) {
        page.gauge("process_max_fds", "Most of them that may be open.", most);
    }
}

#[allow(clippy::cast_precision_loss)] // hundredths of seconds; exact for millions of years
fn ticks(count: u64) -> f64 {
    count as f64 / TICKS_PER_SECOND
}

/// The first word after `name` at the start of a line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()
}

/// The part of `/proc/self/stat` that is told.
#[derive(PartialEq, Eq, Debug)]
struct Stat {
    cpu_ticks: u64,
    started_ticks: u64,
    virtual_bytes: u64,
}

impl Stat {
    /// The name in parentheses may itself hold anything.
    fn of(line: &str) -> Option<Stat> {
        let fields: Vec<&str> = line.rsplit_once(") ")?.1.split_whitespace().collect();
        let number = |place: usize| fields.get(place)?.parse::<u64>().ok();
        Some(Stat {
            cpu_ticks: number(11)? + number(12)?,
            started_ticks: number(19)?,
            virtual_bytes: number(20)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let line = "17 (a b) c) S 1 17 17 0 -1 4194560 10 0 0 0 123 45 0 0 20 0 4 0 999 8192 7";
        let expected = Stat { cpu_ticks: 168, started_ticks: 999, virtual_bytes: 8192 };
        assert_eq!(Stat::of(line), Some(expected));
        assert_eq!(Stat::of("garbage"), None);
        assert_eq!(field("cpu 1 2\nbtime 17 x\n", "btime "), Some("17"));
    }

    #[test]
    fn this_process_is_described() {
        let mut page = Page::default();
        describe(&mut page);
        let text = page.finish();
        for name in
            ["cpu_seconds_total", "resident_memory_bytes", "start_time_seconds", "open_fds", "max_fds"]
        {
            assert!(text.contains(&format!("\nprocess_{name} ")), "{name}: {text}");
        }
    }
}
