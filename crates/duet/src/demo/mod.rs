//! `duet demo`: a witness and two appliances as real processes on this machine, and a story of soft shutdowns, crashes and
//! returns. Each step checks what it tells, so `--script` is a test of the whole product as well.
//!
//! All processes end with this one: softly after the story or a Ctrl-C, at once when something failed.

mod client;
mod narrator;
mod stage;
mod story;
mod witness_watch;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use self::narrator::Narrator;
use self::stage::Stage;
use crate::cli::DemoArgs;
use crate::error::{Exit, Failure, io_words};
use crate::process::Launcher;
use crate::signals::StopRequests;
use crate::terminal::{Paint, print};

/// How long the processes may take to stop softly at the end.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// Runs `duet demo`.
pub async fn run(args: &DemoArgs) -> Result<Exit, Failure> {
    let mut stops = StopRequests::new()?;
    let place = Place::make(args)?;
    let launcher = Launcher::of_this_program()?;
    print(&format!("A witness and two appliances on this machine, in {}\n", place.path().display()));
    let began = Instant::now();
    let mut stage = Stage::new(launcher, place.path(), Narrator::new(!args.script))?;
    let played = tokio::select! {
        played = story::play(&mut stage) => played,
        _ = stops.next() => Err(Failure::interrupted()),
    };
    if let Err(failure) = played {
        if failure.exit != Exit::Interrupted {
            place.keep();
        }
        return Err(failure);
    }
    let steps = stage.tell.steps();
    if !args.script {
        print(&invitation(&stage, Paint::stdout()));
        stops.next().await;
        print("\nStopping softly ...\n");
    }
    tokio::select! {
        stopped = stage.pair.stop_softly(STOP_LIMIT) => stopped.inspect_err(|_| place.keep())?,
        _ = stops.next() => return Err(Failure::interrupted()),
    }
    if args.script {
        let seconds = began.elapsed().as_secs_f64();
        print(&format!("\n{}\n", Paint::stdout().green(format!("All {steps} steps held ({seconds:.1} s)."))));
    }
    Ok(Exit::Done)
}

fn invitation(stage: &Stage, paint: Paint) -> String {
    use duet_protocol::ApplianceId::{A, B};
    let (a, b) = (stage.pair.client_url(A), stage.pair.client_url(B));
    // As it was called here: after `cargo run` there is no `duet` on the path.
    let duet = std::env::args().next().unwrap_or_else(|| "duet".into());
    let lines = [
        format!("etcdctl --endpoints {a},{b} put greeting hello"),
        format!("etcdctl --endpoints {b} get greeting"),
        format!("etcdctl --endpoints {a} watch --prefix ''"),
        format!("{duet} status --endpoint {a} --endpoint {b} --watch"),
        format!("{duet} switchover --endpoint {a}"),
    ];
    let mut text = format!("\n{}\n\n", paint.bold("The pair is yours now. In another terminal, try:"));
    for line in lines {
        writeln!(text, "    {line}").ok();
    }
    text.push_str("\nCtrl-C stops everything softly.\n");
    text
}

/// Where data and logs are.
struct Place {
    path: PathBuf,
    temporary: std::cell::RefCell<Option<tempfile::TempDir>>,
}

impl Place {
    fn make(args: &DemoArgs) -> Result<Self, Failure> {
        if let Some(dir) = &args.dir {
            prepare(dir)?;
            let path = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
            return Ok(Self { path, temporary: std::cell::RefCell::default() });
        }
        let dir = tempfile::Builder::new().prefix("duet-demo-").tempdir().map_err(|error| {
            Failure::new(format!("no temporary directory: {}", io_words(&error)), "give --dir DIR")
        })?;
        let place = Self { path: dir.path().to_owned(), temporary: std::cell::RefCell::new(Some(dir)) };
        if args.keep {
            place.keep();
        }
        Ok(place)
    }

    fn path(&self) -> &Path {
        &self.path
    }

    /// Data and logs stay when the program ends.
    fn keep(&self) {
        if let Some(dir) = self.temporary.take() {
            let _path = dir.keep();
        }
    }
}

/// A given directory must be empty: old data would play another story.
fn prepare(dir: &Path) -> Result<(), Failure> {
    let failed = |error: &std::io::Error| {
        Failure::usage(format!("{}: {}", dir.display(), io_words(error)), "give another --dir DIR")
    };
    std::fs::create_dir_all(dir).map_err(|error| failed(&error))?;
    let mut entries = std::fs::read_dir(dir).map_err(|error| failed(&error))?;
    if entries.next().is_some() {
        return Err(Failure::usage(
            format!("{} is not empty", dir.display()),
            "give another --dir DIR, or empty it",
        ));
    }
    Ok(())
}
