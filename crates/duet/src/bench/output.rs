//! Where a measurement puts its data, and what it leaves behind: JSON, Markdown, plots; and under which conditions it ran.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

use super::args::OutputArgs;
use super::floors::{self, Floors};
use crate::error::{Failure, io_words};
use crate::terminal::print;

/// File systems that keep everything in memory, by the number `statfs` gives: tmpfs and ramfs.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// Where the data of a measurement goes; a temporary directory is removed with it.
pub enum Base {
    /// Removed when this is dropped.
    Temporary(tempfile::TempDir),
    /// Chosen by the user, and left there.
    Given(PathBuf),
}

impl Base {
    /// As the command line says.
    pub fn of(args: &OutputArgs) -> Result<Self, Failure> {
        let Some(dir) = &args.dir else {
            let dir = tempfile::Builder::new().prefix("duet-bench-").tempdir();
            return dir.map(Self::Temporary).map_err(|error| {
                Failure::new(
                    format!("the temporary directory: {}", io_words(&error)),
                    "give another --dir DIR",
                )
            });
        };
        std::fs::create_dir_all(dir).map_err(|error| unusable(dir, &error, "--dir"))?;
        Ok(Self::Given(dir.clone()))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        match self {
            Self::Temporary(dir) => dir.path(),
            Self::Given(path) => path,
        }
    }
}

fn unusable(path: &Path, error: &std::io::Error, flag: &str) -> Failure {
    Failure::new(format!("{}: {}", path.display(), io_words(error)), format!("give another {flag} DIR"))
}

/// Under which conditions something was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Conditions {
    /// The command that repeats it.
    pub command: String,
    /// Duet's version.
    pub duet_version: String,
    /// The commit of the repository it was run in.
    pub commit: Option<String>,
    /// Whether Duet is a release build.
    pub optimised: bool,
    /// etcd's version.
    pub etcd_version: Option<String>,
    /// Processor cores.
    pub cores: usize,
    /// Linux's release.
    pub kernel: String,
    /// Processes that ran or waited to run in the last 1, 5 and 15 minutes before.
    pub load_average_before: String,
    /// Whether the data lay in memory: durability costs nothing there, and the figures mean little.
    pub disk_is_memory: bool,
    /// What the machine itself can do.
    pub floors: Floors,
}

impl Conditions {
    /// Looks and probes; `dir` is where the data will be. Takes about a second.
    pub async fn probe(dir: &Path, etcd_version: Option<String>) -> Result<Self, Failure> {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let load = read("/proc/loadavg");
        let path = dir.to_owned();
        let floors = tokio::task::spawn_blocking(move || floors::probe(&path)).await;
        let args: Vec<String> = std::env::args().skip(1).collect();
        Ok(Self {
            command: format!("duet {}", args.join(" ")),
            duet_version: env!("CARGO_PKG_VERSION").into(),
            commit: commit(),
            optimised: !cfg!(debug_assertions),
            etcd_version,
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            kernel: read("/proc/sys/kernel/osrelease"),
            load_average_before: load.split_whitespace().take(3).collect::<Vec<_>>().join(" "),
            disk_is_memory: is_in_memory(dir),
            floors: floors.map_err(|_| Failure::new("probing broke off", "try again"))??,
        })
    }

    /// The sentences a reader needs first.
    pub fn in_words(&self) -> Vec<String> {
        let build = if self.optimised { "release build" } else { "DEBUG BUILD: not for comparison" };
        let commit = self.commit.as_ref().map_or_else(String::new, |commit| format!(", commit {commit}"));
        let etcd = self.etcd_version.as_deref().unwrap_or("not measured");
        let (fsync, round_trip) = (&self.floors.fsync_ms, &self.floors.round_trip_ms);
        let mut lines = vec![
            format!("Duet {} ({build}{commit}), etcd {etcd}", self.duet_version),
            format!(
                "{} cores, Linux {}, load average before: {}",
                self.cores, self.kernel, self.load_average_before
            ),
            format!(
                "fsync of 4 KiB p50 {:.3} ms, p99 {:.3} ms; loopback round trip from idle p50 {:.3} ms, p99 {:.3} ms",
                fsync.p50, fsync.p99, round_trip.p50, round_trip.p99
            ),
        ];
        if self.disk_is_memory {
            lines.push(
                "THE DATA LIES IN MEMORY (tmpfs): durability costs nothing here; give --dir DIR on a disk"
                    .into(),
            );
        }
        lines
    }

    /// The same for a report.
    pub fn markdown(&self) -> String {
        format!("{}.\n\nCommand: `{}`\n", self.in_words().join(".\n"), self.command)
    }
}

/// The commit of the repository around the working directory, with a mark if files were changed since.
fn commit() -> Option<String> {
    let output = Command::new("git").args(["describe", "--always", "--dirty"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let commit = text.trim();
    (output.status.success() && !commit.is_empty()).then(|| commit.to_owned())
}

fn is_in_memory(dir: &Path) -> bool {
    let kind = rustix::fs::statfs(dir).ok().and_then(|fs| u64::try_from(fs.f_type).ok());
    kind.is_some_and(|kind| IN_MEMORY.contains(&kind))
}

/// A finished measurement in all its forms.
pub struct Document {
    /// For a terminal.
    pub text: String,
    /// For machines.
    pub json: String,
    /// For docs; a plot is shown as `![title](name.svg)`.
    pub markdown: String,
    /// Names without `.svg`, and pictures.
    pub plots: Vec<(String, String)>,
}

impl Document {
    /// Prints it, and writes the report if one is wanted.
    pub fn deliver(&self, args: &OutputArgs) -> Result<(), Failure> {
        if let Some(dir) = &args.report {
            self.write(dir)?;
        }
        print(if args.json { &self.json } else { &self.text });
        Ok(())
    }

    fn write(&self, dir: &Path) -> Result<(), Failure> {
        let failed = |error: &std::io::Error| unusable(dir, error, "--report");
        std::fs::create_dir_all(dir).map_err(|error| failed(&error))?;
        let mut files =
            vec![("report.md".to_owned(), &self.markdown), ("report.json".to_owned(), &self.json)];
        files.extend(self.plots.iter().map(|(name, svg)| (format!("{name}.svg"), svg)));
        for (name, text) in files {
            std::fs::write(dir.join(name), text).map_err(|error| failed(&error))?;
        }
        Ok(())
    }
}

/// A value as JSON for people who look at it, too.
pub fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_written_into_a_directory_that_need_not_exist() {
        let dir = tempfile::tempdir().unwrap();
        let document = Document {
            text: String::new(),
            json: "{}\n".into(),
            markdown: "# x\n".into(),
            plots: vec![("put".into(), "<svg/>".into())],
        };
        let report = dir.path().join("a/b");
        document.write(&report).unwrap();
        assert_eq!(std::fs::read_to_string(report.join("put.svg")).unwrap(), "<svg/>");
        assert_eq!(std::fs::read_to_string(report.join("report.json")).unwrap(), "{}\n");
        let in_the_way = document.write(&report.join("report.md")).unwrap_err();
        assert!(in_the_way.remedy.contains("--report"), "{in_the_way:?}");
    }

    #[test]
    fn what_is_no_file_system_in_memory_is_not_taken_for_one() {
        assert!(!is_in_memory(Path::new("/proc")));
        assert!(!is_in_memory(Path::new("/no/such/directory")));
    }
}
