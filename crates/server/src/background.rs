//! Threads that have time: what they do is long and is waited for by nobody, and must not delay those who are.

/// How much they give way to the other threads, on the system's scale from 0 to 19: beside one of those, a tenth of a core is
/// left for them. That is enough for a checkpoint; one that falls behind makes writers wait at last.
const NICENESS: i32 = 10;

/// The calling thread gives way to others from now on. It should hold no lock that those need: it may be kept waiting
/// with it.
pub(crate) fn give_way() {
    // Linux sets it for one thread. To give way needs no right; should it be refused, all goes on as without.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS);
}

/// Does some work on a thread that gives way, and waits for it.
pub(crate) fn aside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("duet-aside".to_owned()).spawn_scoped(scope, || {
            give_way();
            work()
        });
        match thread.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(done)) => done,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(error) => panic!("no thread can be started: {error}"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_aside_gives_way_and_leaves_the_caller_alone() {
        let niceness = || rustix::process::getpriority_process(Some(rustix::thread::gettid())).unwrap();
        let mine = niceness();
        assert_eq!(aside(niceness), NICENESS.max(mine));
        assert_eq!(niceness(), mine);
    }

    #[test]
    fn a_panic_aside_is_the_callers() {
        let panic = std::panic::catch_unwind(|| aside(|| panic!("broken"))).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"broken"));
    }
}
