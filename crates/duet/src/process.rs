//! Child processes that never outlive their parent: for the demo, the bench and the tests.
//!
//! Each child runs in a process group of its own (so that Ctrl-C at the terminal reaches only the parent, which then stops
//! the children in order) and writes its output to a file. Dropping a [`Running`] kills its group: return, error and panic
//! all end it. For a parent that is itself killed there is the *warden*: one more child, which is told the groups through
//! a pipe and kills those that are left when the pipe breaks.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, Write};
use std::net::TcpListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process_group, setrlimit};

use crate::error::{Failure, io_words};

/// How often a wait looks again: short beside every wait here, long beside the cost of a look.
const POLL: Duration = Duration::from_millis(5);
/// Ports come from here: below the range that Linux gives to outgoing connections, so none is taken in between.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// Lines of a log that are shown with a failure.
const TAIL_LINES: usize = 12;
/// The hidden command that runs the warden.
pub const WARDEN_COMMAND: &str = "warden";

/// Starts children, and has a warden that outlives a killed parent.
#[derive(Clone)]
pub struct Launcher {
    duet: PathBuf,
    warden: Arc<Warden>,
}

struct Warden {
    pipe: Mutex<ChildStdin>,
    child: Mutex<Child>,
}

impl Drop for Warden {
    fn drop(&mut self) {
        // Everything it watched is dropped by now: each `Running` holds the warden.
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        child.kill().ok();
        child.wait().ok();
    }
}

impl Launcher {
    /// A launcher; `duet` is the executable that appliances and the witness run.
    pub fn new(duet: impl Into<PathBuf>) -> Result<Self, Failure> {
        let duet = duet.into();
        let mut child = Command::new(&duet)
            .arg(WARDEN_COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| cannot_run(&duet, &error))?;
        let Some(pipe) = child.stdin.take() else {
            return Err(Failure::new("the warden has no pipe", "try again"));
        };
        Ok(Self { duet, warden: Arc::new(Warden { pipe: Mutex::new(pipe), child: Mutex::new(child) }) })
    }

    /// A launcher for children of this very executable.
    pub fn of_this_program() -> Result<Self, Failure> {
        let duet = std::env::current_exe().map_err(|error| {
            Failure::new(format!("cannot find this program's file: {}", io_words(&error)), "")
        })?;
        Self::new(duet)
    }

    /// The executable of appliances and the witness.
    pub fn duet(&self) -> &Path {
        &self.duet
    }

    /// Starts `program`, its output appended to `program.log`.
    pub fn start(&self, program: &Program) -> Result<Running, Failure> {
        let log = OpenOptions::new().create(true).append(true).open(&program.log).map_err(|error| {
            Failure::new(format!("{}: {}", program.log.display(), io_words(&error)), "give another --dir DIR")
        })?;
        let log_start = log.metadata().map_or(0, |meta| meta.len());
        let both = |file: &File| file.try_clone().map_or_else(|_| Stdio::null(), Stdio::from);
        let child = Command::new(&program.path)
            .args(&program.args)
            .envs(program.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(both(&log))
            .stderr(both(&log))
            .process_group(0)
            .spawn()
            .map_err(|error| cannot_run(&program.path, &error))?;
        let running = Running {
            name: program.name.clone(),
            log: program.log.clone(),
            log_start,
            child,
            ended: None,
            warden: self.warden.clone(),
        };
        running.tell_warden('+');
        Ok(running)
    }
}

fn cannot_run(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(
        format!("cannot run {}: {}", path.display(), io_words(error)),
        "check the path and its permissions",
    )
}

/// What to start.
#[derive(Clone, Debug)]
pub struct Program {
    /// What people call it: "appliance A".
    pub name: String,
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Additional environment.
    pub env: Vec<(OsString, OsString)>,
    /// Where its output goes.
    pub log: PathBuf,
}

/// A child process. Dropping it kills it.
pub struct Running {
    name: String,
    log: PathBuf,
    log_start: u64,
    child: Child,
    ended: Option<ExitStatus>,
    warden: Arc<Warden>,
}

impl Running {
    /// What people call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, or `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none()
            && let Ok(Some(status)) = self.child.try_wait()
        {
            self.ended = Some(status);
            self.tell_warden('-');
        }
        self.ended
    }

    /// SIGTERM: a soft shutdown.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// SIGKILL: a crash.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
    }

    /// SIGSTOP: alive, and silent.
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT: goes on after a pause.
    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
    }

    fn signal(&mut self, signal: Signal) {
        // A process that has ended and was waited for has no id any more: another one may have it.
        if self.ended().is_none()
            && let Some(group) = group_of(self.child.id())
        {
            kill_process_group(group, signal).ok();
        }
    }

    /// Waits until it has ended.
    pub async fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if start.elapsed() >= limit {
                return None;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// What it has written since it was started.
    pub fn output(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        let start = usize::try_from(self.log_start).unwrap_or(0).min(bytes.len());
        String::from_utf8_lossy(&bytes[start..]).into_owned()
    }

    /// A failure that names this process and shows the end of its log.
    pub fn failure(&mut self, what: &str) -> Failure {
        let state = match self.ended() {
            Some(status) => exit_in_words(status),
            None => "still running".into(),
        };
        Failure::new(format!("{} {what} ({state})", self.name), format!("its log: {}", self.log.display()))
            .with_details(last_lines(&self.output()))
    }

    fn tell_warden(&self, sign: char) {
        let mut pipe = self.warden.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(pipe, "{sign}{}", self.child.id()).ok();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.signal(Signal::KILL);
            if let Ok(status) = self.child.wait() {
                self.ended = Some(status);
                self.tell_warden('-');
            }
        }
    }
}

/// Lets this process and its children have as many open files as the system allows: each connection is one.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // Where that is refused the usual limit will do for all but a thousand connections, which say what they miss.
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).ok();
}

/// The end of a log: enough to see what went wrong.
pub fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// "exit code 1", "killed by signal 9".
pub fn exit_in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended".into(),
    }
}

fn group_of(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// The warden's life: reads `+PID` and `-PID` until the pipe breaks, then kills the groups that are left.
pub fn run_warden(input: impl BufRead) {
    let mut groups: Vec<u32> = Vec::new();
    for line in input.lines().map_while(Result::ok) {
        match line.split_at_checked(1) {
            Some(("+", pid)) => groups.extend(pid.parse::<u32>().ok()),
            Some(("-", pid)) => groups.retain(|known| known.to_string() != pid),
            _ => {}
        }
    }
    for group in groups.into_iter().filter_map(group_of) {
        kill_process_group(group, Signal::KILL).ok();
    }
}

/// A loopback port that nothing uses now and that this process has not given before.
pub fn free_port() -> Result<u16, Failure> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let span = PORTS.end - PORTS.start;
    let offset = first_place(std::process::id(), span);
    for _ in 0..span {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + (offset + step % span) % span;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Failure::new("no free port on 127.0.0.1", "end some servers and try again"))
}

/// Where a process begins to look for ports. A port is free until its server listens, so processes that start together
/// begin far from each other.
fn first_place(pid: u32, span: u16) -> u16 {
    /// A prime that is far from every fraction of the span with a small denominator.
    const STRIDE: u32 = 7_919;
    u16::try_from(pid % u32::from(span) * STRIDE % u32::from(span)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_that_start_together_look_for_ports_far_from_each_other() {
        let span = PORTS.end - PORTS.start;
        let mut places: Vec<u16> = (4_711..4_711 + 32).map(|pid| first_place(pid, span)).collect();
        places.sort_unstable();
        let nearest = places.windows(2).map(|pair| pair[1] - pair[0]).min();
        assert!(nearest.is_some_and(|ports| ports >= 100), "{nearest:?}");
    }

    #[test]
    fn ports_are_free_and_never_given_twice() {
        let ports: std::collections::HashSet<u16> = (0..50).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 50);
        assert!(ports.iter().all(|port| PORTS.contains(port)));
    }

    #[test]
    fn the_warden_kills_what_is_left_and_nothing_else() {
        let spawn = || Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
        let (mut left, mut ended) = (spawn(), spawn());
        let script = format!("+{}\n+{}\n-{}\nnoise\n", left.id(), ended.id(), ended.id());
        run_warden(script.as_bytes());
        assert_eq!(left.wait().unwrap().signal(), Some(9));
        assert!(ended.try_wait().unwrap().is_none(), "it was signed off");
        ended.kill().unwrap();
        ended.wait().unwrap();
    }
}
