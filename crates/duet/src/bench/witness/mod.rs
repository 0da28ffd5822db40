//! `duet bench witness`: one witness server with very many pairs. The slow looks of all of them in steady state, a region that
//! comes back from a power cut at once, a crash in the end; and what that takes of one core, of memory and of the disk.

mod fleet;
mod load;
mod report;
mod subject;

use std::path::PathBuf;

use duet_protocol::limits::WITNESS_INTERVAL;

use self::fleet::Fleet;
use self::load::{burst, steady};
use self::report::{Measured, Moment};
use self::subject::Subject;
use super::args::WitnessLoadArgs;
use super::output::{Base, Conditions};
use super::proc_stat::Memory;
use crate::error::{Exit, Failure};
use crate::process::{Launcher, raise_open_files};
use crate::signals::StopRequests;
use crate::terminal::Progress;

/// Runs `duet bench witness`; Ctrl-C ends it and the server.
pub async fn run(args: &WitnessLoadArgs) -> Result<Exit, Failure> {
    raise_open_files();
    if args.burst > args.pairs {
        return Err(Failure::usage(
            "--burst: more than there are pairs",
            "give more --pairs or a smaller --burst",
        ));
    }
    let mut stops = StopRequests::new()?;
    let measured = tokio::select! {
        measured = measure(args) => measured?,
        _ = stops.next() => return Err(Failure::interrupted()),
    };
    measured.document().deliver(&args.output)?;
    measured.verdict()
}

async fn measure(args: &WitnessLoadArgs) -> Result<Measured, Failure> {
    let interval = args.interval.unwrap_or(WITNESS_INTERVAL);
    let base = Base::of(&args.output)?;
    let dir: PathBuf = base.path().join("witness");
    let launcher = Launcher::of_this_program()?;
    let mut progress = Progress::new();
    progress.say("probing disk and loopback ...");
    let conditions = Conditions::probe(base.path(), None).await?;

    progress.say(&format!("making {} pairs", args.pairs));
    let fleet = Fleet::make(args.pairs, &dir)?;
    progress.say("starting");
    let mut subject = Subject::start(launcher, &dir).await?;
    let started = Moment::of(&subject).await?;

    progress.say(&format!("steady state for {:.0} s", args.seconds.as_secs_f64()));
    let calm = steady(&fleet, &subject, interval, args.seconds).await?;
    let memory_steady = subject.memory();

    progress.say(&format!("{} pairs at once", args.burst));
    let (burst, versions) = burst(&fleet, &subject, args.burst).await?;
    let memory_burst = subject.memory();

    progress.say("kill -9, start, and every record");
    let start_seconds = subject.start_seconds();
    subject.kill_and_start().await?;
    let lost = load::lost(&fleet, &subject, &versions).await?;
    Ok(Measured {
        conditions,
        pairs: args.pairs,
        interval_seconds: interval.as_secs_f64(),
        pinned: subject.pinned(),
        file_bytes: subject.file_bytes(),
        start_seconds,
        start_after_kill_seconds: subject.start_seconds(),
        memory_started: started.memory,
        memory_steady,
        memory_burst,
        memory_restarted: Memory::of(&[subject.pid()]),
        steady: calm,
        burst,
        lost,
    })
}
