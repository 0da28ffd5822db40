//! Places at which a test may stop or delay a real process; nothing at all without the cargo feature `failpoints`.
//!
//! `DUET_FAILPOINT="name=exit"` kills the process (as `kill -9` does) when it reaches `name`; `name=exit@3` when it gets
//! there for the third time; `name=sleep:250` delays it by 250 ms every time. Several are separated by commas. The names are
//! those of [`NAMES`]: one before and one after every durable step. `DUET_FAILPOINT_FILE=/path` names a file with the same
//! text instead, looked at whenever a place is reached: a test writes it when the moment has come, and the counts begin then.

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

/// Called at the place `name`.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub(crate) fn reach(_name: &'static str) {}

/// Called at the place `name`.
#[cfg(feature = "failpoints")]
pub(crate) fn reach(name: &'static str) {
    use std::sync::atomic::Ordering;
    assert!(NAMES.contains(&name), "{name} is missing in the list of failpoints");
    for point in active::points().iter().filter(|point| point.name == name) {
        let times = point.reached.fetch_add(1, Ordering::SeqCst) + 1;
        match point.action {
            active::Action::Sleep(time) => std::thread::sleep(time),
            active::Action::Exit { at } if times == at => {
                let _ =
                    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
                std::thread::park();
            }
            active::Action::Exit { .. } => {}
        }
    }
}

#[cfg(feature = "failpoints")]
mod active {
    use std::ffi::OsString;
    use std::sync::{Arc, LazyLock, Mutex, PoisonError, atomic::AtomicU64};
    use std::time::Duration;

    pub(super) enum Action {
        Exit { at: u64 },
        Sleep(Duration),
    }

    pub(super) struct Point {
        pub(super) name: String,
        pub(super) action: Action,
        pub(super) reached: AtomicU64,
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
    pub(super) fn points() -> Arc<Vec<Point>> {
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
            let action = match (action.strip_prefix("exit"), action.strip_prefix("sleep:")) {
                (Some(""), _) => Action::Exit { at: 1 },
                (Some(at), _) => Action::Exit { at: at.strip_prefix('@')?.parse().ok()? },
                (None, Some(time)) => Action::Sleep(Duration::from_millis(time.parse().ok()?)),
                (None, None) => return None,
            };
            let known = super::NAMES.contains(&name);
            known.then(|| Point { name: name.to_owned(), action, reached: AtomicU64::new(0) })
        });
        point.unwrap_or_else(|| {
            panic!("DUET_FAILPOINT: \"{part}\" is not name=exit, name=exit@N or name=sleep:MS")
        })
    }
}
