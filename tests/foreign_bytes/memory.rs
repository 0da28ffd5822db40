//! How much memory this process has ever asked for.

/// More than this may not be asked for while a parser is fed, in bytes: its samples are small, and the largest limit of a
/// parser is a frame of 8 MiB, while a length that is believed asks for 4 GiB. The rest is room for other tests' threads, for
/// each of which the system's allocator sets 64 MiB of addresses aside.
const ROOM: u64 = 2 << 30;

/// The most virtual memory so far, in bytes: memory that was asked for and never touched counts.
pub fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Panics if much has been asked for since the peak was `before`.
#[track_caller]
pub fn assert_bounded(before: u64) {
    let more = peak() - before;
    assert!(more < ROOM, "{} MiB were asked for", more >> 20);
}
