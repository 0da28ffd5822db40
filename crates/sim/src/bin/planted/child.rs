//! Runs a child process with a limit of processor time.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often a running child is looked at: its time is known this exactly.
const LOOK: Duration = Duration::from_millis(10);

/// A child that does nothing for so long hangs. Far above any pause of a loaded machine.
const HANGS: Duration = Duration::from_mins(3);

/// Ticks of the processor time that the system reports (`USER_HZ`, the same on every Linux).
const TICKS_PER_SECOND: u64 = 100;

/// What came of it.
pub struct Ended {
    /// Its exit code, or why it has none.
    pub code: Result<i32, String>,
    /// What it printed, to either stream.
    pub output: String,
    /// Processor time, its children's included as far as they have ended.
    pub cpu: Duration,
}

/// Runs it to its end, or until it prints a line that is enough.
pub fn run(mut command: Command, limit: Duration, is_enough: fn(&str) -> bool) -> Result<Ended, String> {
    let (reader, writer) = std::io::pipe().map_err(|error| format!("no pipe: {error}"))?;
    let errors = writer.try_clone().map_err(|error| format!("no pipe: {error}"))?;
    command.stdin(Stdio::null()).stdout(writer).stderr(errors);
    let mut child = command.spawn().map_err(|error| format!("cannot run {command:?}: {error}"))?;
    drop(command); // it holds the writing ends
    let enough = AtomicBool::new(false);
    let listen = || {
        let mut text = String::new();
        for line in BufReader::new(reader).split(b'\n') {
            let line = line.map_err(|error| format!("cannot read a child's output: {error}"))?;
            let line = String::from_utf8_lossy(&line);
            text.extend([&line, "\n"]);
            enough.fetch_or(is_enough(&line), Ordering::Relaxed);
        }
        Ok::<_, String>(text)
    };
    std::thread::scope(|scope| {
        let printed = scope.spawn(listen);
        let (code, cpu) = watch(&mut child, limit, &enough)?;
        let output = printed.join().map_err(|_| "the reader of a child's output failed")??;
        Ok(Ended { code, output, cpu })
    })
}

fn watch(
    child: &mut Child,
    limit: Duration,
    enough: &AtomicBool,
) -> Result<(Result<i32, String>, Duration), String> {
    let failed = |error: std::io::Error| format!("cannot wait for a child: {error}");
    let (mut cpu, mut moved) = (Duration::ZERO, Instant::now());
    loop {
        // Before it is waited for: its last figures are gone with it.
        let (used, is_stopped) = figures(child.id()).unwrap_or((cpu, false));
        if used > cpu || is_stopped {
            (cpu, moved) = (used, Instant::now());
        }
        if let Some(status) = child.try_wait().map_err(failed)? {
            return Ok((code(status), cpu));
        }
        let end = [
            (enough.load(Ordering::Relaxed), "it has said enough"),
            (cpu > limit, "it took too long"),
            (moved.elapsed() > HANGS, "it hung"),
        ];
        if let Some((_, why)) = end.into_iter().find(|(is_so, _)| *is_so) {
            child.kill().map_err(failed)?;
            child.wait().map_err(failed)?;
            return Ok((Err(why.into()), cpu));
        }
        std::thread::sleep(LOOK);
    }
}

fn code(status: ExitStatus) -> Result<i32, String> {
    status.code().ok_or_else(|| format!("it died: {status}"))
}

/// Processor time of a process and its children that were waited for, and whether somebody has stopped it for a while
/// (proc(5): fields 14 to 17 and 3 of `stat`).
fn figures(process: u32) -> Option<(Duration, bool)> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks =
        fields.split(' ').skip(11).take(4).map(|field| field.parse::<u64>().unwrap_or(0)).sum::<u64>();
    Some((Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND), fields.starts_with('T')))
}
