//! `duet bench failover`: how long writes pause when something happens to a real pair, and to an etcd of three members.
//!
//! Writers at a fixed rate, dense beside the pauses that are looked for; something happens in their midst; the pause is the
//! longest time between two successes around it. Afterwards everything that was acknowledged has to be there.

pub mod probe;
pub mod report;
pub mod scene;

use std::time::{Duration, Instant};

use self::probe::{Probe, ProbePlan, Seen, lost};
use self::report::{Event, Failovers};
use self::scene::{HOG_TIME, Scene};
use super::args::{FailoverArgs, FailureKind, SystemName};
use super::etcd;
use super::output::{Base, Conditions};
use crate::error::{Exit, Failure};
use crate::process::Launcher;
use crate::signals::StopRequests;
use crate::terminal::Progress;

/// Writes run so long before, to show the pauses that come without any reason.
const BEFORE: Duration = Duration::from_millis(500);
/// And so long at least after: a system may go on for a moment and pause then.
const AFTER: Duration = Duration::from_secs(1);
/// Writes succeed again when the last success is not longer ago than this.
const FLOWING: Duration = Duration::from_millis(50);
/// And so long after that.
const TAIL: Duration = Duration::from_millis(300);
/// No pause here is as long, unless service does not come back at all.
const LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);
/// Patience of a writer while service is cut off: short beside the pause, or the writer's own patience is measured.
const SHORT_PATIENCE: Duration = Duration::from_millis(20);
/// While nothing may fail: a request that takes longer has failed, whatever the pause.
const LONG_PATIENCE: Duration = Duration::from_secs(2);
/// Writers that give up soon, and those that wait for long: some of these may hang, and the others show that service is back.
const IMPATIENT_WRITERS: usize = 8;
const PATIENT_WRITERS: usize = 64;

/// Runs `duet bench failover`; Ctrl-C ends it and every process it started.
pub async fn run(args: &FailoverArgs) -> Result<Exit, Failure> {
    let mut stops = StopRequests::new()?;
    let failovers = tokio::select! {
        failovers = measure(args) => failovers?,
        _ = stops.next() => return Err(Failure::interrupted()),
    };
    failovers.document().deliver(&args.output)?;
    let lost: u64 = failovers.events.iter().map(|event| event.lost).sum();
    if lost > 0 {
        let what = format!("{lost} acknowledged writes are not there any more");
        return Err(Failure::new(what, "this must never happen; see the report"));
    }
    Ok(Exit::Done)
}

async fn measure(args: &FailoverArgs) -> Result<Failovers, Failure> {
    let etcd_version = args.etcd.as_deref().map(etcd::version).transpose()?;
    let base = Base::of(&args.output)?;
    let launcher = Launcher::of_this_program()?;
    let mut progress = Progress::new();
    progress.say("probing disk and loopback ...");
    let conditions = Conditions::probe(base.path(), etcd_version).await?;
    let mut events = Vec::new();
    for kind in &args.kind {
        let systems = [Some(SystemName::Duet), args.etcd.as_ref().map(|_| SystemName::Etcd3)];
        for system in systems.into_iter().flatten().filter(|system| kind.happens_to(*system)) {
            let dir = base.path().join(format!("{system:?}-{}", kind.name()).to_lowercase());
            let mut note = |what: &str| progress.say(&format!("{}: {}: {what}", kind.name(), system.words()));
            note("starting");
            let mut scene = match &args.etcd {
                Some(etcd) if system != SystemName::Duet => Scene::etcd(&launcher, etcd, &dir).await?,
                _ => Scene::pair(&launcher, &dir, *kind).await?,
            };
            for time in 1..=args.times {
                note(&format!("{time} of {}", args.times));
                events.push(happen(args, *kind, system, time, &mut scene).await?);
            }
            drop(scene);
            std::fs::remove_dir_all(&dir).ok();
        }
    }
    Ok(Failovers { conditions, rate: args.rate, times: args.times, events })
}

/// One time: writes, the event in their midst, and whether they are all there.
async fn happen(
    args: &FailoverArgs,
    kind: FailureKind,
    system: SystemName,
    time: usize,
    scene: &mut Scene,
) -> Result<Event, Failure> {
    scene.until_whole().await?;
    let (leader, whom) = (scene.aim(FailureKind::Kill).await?, scene.aim(kind).await?);
    let prefix = format!("duet-gap-{}-{time}/", kind.name());
    let (patience, writers) = if kind.is_planned() {
        (LONG_PATIENCE, PATIENT_WRITERS)
    } else {
        (SHORT_PATIENCE, IMPATIENT_WRITERS)
    };
    let probe = Probe::start(ProbePlan {
        endpoints: scene.urls(),
        prefix: prefix.clone(),
        writers: args.writers.unwrap_or(writers),
        rate: args.rate,
        patience: args.patience.unwrap_or(patience),
        value_size: args.value_size,
    });
    tokio::time::sleep(BEFORE).await;
    let struck = Instant::now();
    scene.strike(kind, whom).await?;
    tokio::time::sleep(if kind == FailureKind::Hog { HOG_TIME } else { AFTER }).await;
    while probe.silence() > FLOWING && struck.elapsed() < LIMIT {
        tokio::time::sleep(POLL).await;
    }
    tokio::time::sleep(TAIL).await;
    let seen = probe.stop().await?;
    scene.mend(kind, whom).await?;
    scene.until_whole().await?;
    let new_leader = scene.aim(FailureKind::Kill).await? != leader;
    let lost = lost(scene.urls(), prefix, seen.acknowledged.clone()).await?;
    let (before, gap) = gaps(&seen.successes, struck);
    let Some(gap) = gap.filter(|_| struck.elapsed() < LIMIT + AFTER) else {
        return Err(never_again(kind, system, &seen));
    };
    let ms = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
    Ok(Event {
        kind,
        system,
        time,
        writers: args.writers.unwrap_or(writers),
        gap_ms: ms(gap),
        gap_before_ms: ms(before),
        acknowledged: seen.acknowledged.len() as u64,
        failed: seen.failures.values().sum(),
        failures: seen.failures,
        new_leader,
        lost: lost.len() as u64,
    })
}

/// The longest time between two successes before something happened, and from then on.
fn gaps(successes: &[Instant], struck: Instant) -> (Duration, Option<Duration>) {
    let steps = || successes.windows(2).map(|pair| (pair[1], pair[1] - pair[0]));
    let before = steps().filter(|(at, _)| *at <= struck).map(|(_, gap)| gap).max();
    let after = steps().filter(|(at, _)| *at > struck).map(|(_, gap)| gap).max();
    (before.unwrap_or_default(), after)
}

fn never_again(kind: FailureKind, system: SystemName, seen: &Seen) -> Failure {
    let kinds: Vec<String> =
        seen.failures.iter().map(|(kind, number)| format!("{number} × {kind}")).collect();
    Failure::new(
        format!("{}: no write succeeded within {} s after {}", system.words(), LIMIT.as_secs(), kind.name()),
        "see the logs with --dir DIR",
    )
    .with_details(kinds.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_is_the_longest_that_ends_after_the_event() {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let successes: Vec<Instant> = [0, 7, 8, 10, 90, 91, 100].map(at).into();
        let millis = Duration::from_millis;
        assert_eq!(gaps(&successes, at(9)), (millis(7), Some(millis(80))));
        assert_eq!(gaps(&successes, at(50)), (millis(7), Some(millis(80))), "it began before");
        assert_eq!(gaps(&successes, at(200)), (millis(80), None), "nothing succeeded any more");
        assert_eq!(gaps(&[], start), (Duration::ZERO, None));
    }
}
