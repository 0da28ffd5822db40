//! Places at which a test may stop or delay a real process; nothing at all without the cargo feature `failpoints`.
//!
//! `DUET_FAILPOINT="name=exit"` kills the process (as `kill -9` does) when it reaches `name`; `name=exit@3` when it gets
//! there for the third time; `name=sleep:250` delays it by 250 ms every time. Several are separated by commas. The names are
//! those of [`NAMES`]: one before and one after every durable step. `DUET_FAILPOINT_FILE=/path` names a file with the same
//! text instead, looked at whenever a place is reached: a test writes it when the moment has come, and the counts begin then.
//!
//! With `DUET_POWER=1` the process has a disk that remembers what is not synced (`duet_storage::testing::power`). There
//! `name=power:17@3` is a failure of the power, which takes back what the dice of seed 17 say, and [`DISK_CHANGE`], before
//! each change of the disk, is one more place; `disk.change=full` is a disk without space.

#[cfg(all(feature = "failpoints", not(debug_assertions)))]
compile_error!("the feature `failpoints` is for test builds, never for a release");

/// Every failpoint there is.
pub const NAMES: [&str; 18] = [
    "own_state.save.before",
    "own_state.save.after",
    "log.append.before",
    "log.append.after",
    "log.sync.before",
    "log.sync.after",
    "log.truncate.before",
    "log.truncate.after",
    "witness.request.before",
    "witness.request.after",
    "checkpoint.commit.before",
    "checkpoint.commit.after",
    "snapshot.receive.before",
    "snapshot.receive.after",
    "snapshot.install.before",
    "snapshot.install.after",
    "init.data.after",
    "init.record.after",
];

/// Before each change of a disk that remembers what is not synced.
pub const DISK_CHANGE: &str = "disk.change";

#[cfg(feature = "failpoints")]
pub(crate) use active::{disk, reach};

/// Called at the place `name`.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub(crate) fn reach(_name: &'static str) {}

/// The disk of this process.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn disk() -> std::sync::Arc<dyn duet_storage::Disk> {
    std::sync::Arc::new(duet_storage::RealDisk)
}

#[cfg(feature = "failpoints")]
mod active {
    use std::ffi::OsString;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, LazyLock, Mutex, PoisonError};
    use std::time::Duration;

    use duet_storage::testing::power::{Fate, PowerDisk};
    use duet_storage::{Disk, RealDisk};

    use super::{DISK_CHANGE, NAMES};

    /// Called at the place `name`.
    pub(crate) fn reach(name: &'static str) {
        assert!(NAMES.contains(&name), "{name} is missing in the list of failpoints");
        if let Fate::PowerFails(seed) = fate_at(name) {
            let disk = POWER_DISK.as_ref();
            disk.expect("DUET_POWER=1 gives the disk under which power can fail").cut(seed);
        }
    }

    /// The disk of this process.
    pub(crate) fn disk() -> Arc<dyn Disk> {
        match &*POWER_DISK {
            Some(disk) => Arc::new(disk.clone()),
            None => Arc::new(RealDisk),
        }
    }

    static POWER_DISK: LazyLock<Option<PowerDisk>> = LazyLock::new(|| {
        let wanted = std::env::var_os("DUET_POWER").is_some_and(|value| value == "1");
        wanted.then(|| PowerDisk::new(|| fate_at(DISK_CHANGE), die))
    });

    /// As `kill -9` does.
    fn die() {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::thread::park();
    }

    fn fate_at(name: &str) -> Fate {
        let mut fate = Fate::Done;
        for point in points().iter().filter(|point| point.name == name) {
            let times = point.reached.fetch_add(1, Ordering::SeqCst) + 1;
            match point.action {
                Action::Sleep(time) => std::thread::sleep(time),
                Action::Exit { at } if times == at => die(),
                Action::Power { seed, at } if times == at => fate = Fate::PowerFails(seed),
                Action::Exit { .. } | Action::Power { .. } => {}
                Action::Full => fate = Fate::NoSpace,
            }
        }
        fate
    }

    enum Action {
        Exit { at: u64 },
        Power { seed: u64, at: u64 },
        Sleep(Duration),
        Full,
    }

    struct Point {
        name: String,
        action: Action,
        reached: AtomicU64,
    }

    /// The points of one text.
    struct Armed {
        text: String,
        points: Arc<Vec<Point>>,
    }

    static FILE: LazyLock<Option<OsString>> = LazyLock::new(|| std::env::var_os("DUET_FAILPOINT_FILE"));

    static ARMED: LazyLock<Mutex<Armed>> =
        LazyLock::new(|| Mutex::new(armed(std::env::var("DUET_FAILPOINT").unwrap_or_default())));

    /// What is armed now.
    fn points() -> Arc<Vec<Point>> {
        let mut current = ARMED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &*FILE {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            if text != current.text {
                *current = armed(text);
            }
        }
        current.points.clone()
    }

    fn armed(text: String) -> Armed {
        let points = text.split(',').filter(|part| !part.is_empty()).map(parse).collect();
        Armed { text, points: Arc::new(points) }
    }

    fn parse(part: &str) -> Point {
        let point = part.split_once('=').and_then(|(name, action)| {
            let known = NAMES.contains(&name) || name == DISK_CHANGE;
            let point = |action| Point { name: name.to_owned(), action, reached: AtomicU64::new(0) };
            parse_action(name, action).filter(|_| known).map(point)
        });
        point.unwrap_or_else(|| {
            panic!(
                "DUET_FAILPOINT: \"{part}\" is not name=exit, name=power:SEED (both with @N or without), name=sleep:MS \
                 or {DISK_CHANGE}=full"
            )
        })
    }

    fn parse_action(name: &str, text: &str) -> Option<Action> {
        if text == "full" {
            return (name == DISK_CHANGE).then_some(Action::Full);
        }
        if let Some(time) = text.strip_prefix("sleep:") {
            return Some(Action::Sleep(Duration::from_millis(time.parse().ok()?)));
        }
        let (what, at) = text.split_once('@').unwrap_or((text, "1"));
        let at = at.parse().ok()?;
        match what.strip_prefix("power:") {
            Some(seed) => Some(Action::Power { seed: seed.parse().ok()?, at }),
            None => (what == "exit").then_some(Action::Exit { at }),
        }
    }
}
