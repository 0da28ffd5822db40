//! What pairs do to their witness: a slow look each in steady state, and all of a region at once after a power cut.

use std::sync::Arc;
use std::time::{Duration, Instant};

use duet_witness::client::ServerRegister;
use duet_witness::register::DEFAULT_DEADLINE;
use duet_witness::{ReadOutcome, Register, Version, WriteOutcome};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::super::report::Recorder;
use super::fleet::{Fleet, content};
use super::report::{Burst, Moment, Steady};
use super::subject::Subject;
use crate::error::Failure;

/// Longer than anything here should take: what an appliance would have given up is counted, not cut off.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often requests that have become due are sent.
const TICK: Duration = Duration::from_millis(5);
/// Reads under way at a time when all records are looked at in the end.
const READERS: usize = 64;

/// The looks of all pairs, evenly spread over the interval. Each pair keeps its connection as an appliance does: for as long as
/// the server lets it.
pub async fn steady(
    fleet: &Fleet,
    subject: &Subject,
    interval: Duration,
    time: Duration,
) -> Result<Steady, Failure> {
    let address = subject.address();
    let register = |pair| Arc::new(fleet.register(pair, &address, PATIENCE));
    let registers: Vec<Arc<ServerRegister>> = (0..fleet.len()).map(register).collect();
    let mut recorder = Recorder::new();
    let mut looks = JoinSet::new();
    let before = Moment::of(subject).await?;
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let begin = Instant::now();
    let mut sent: usize = 0;
    while begin.elapsed() < time {
        ticks.tick().await;
        let due = begin.elapsed().as_nanos() * fleet.len() as u128 / interval.as_nanos().max(1);
        while (sent as u128) < due {
            let register = Arc::clone(&registers[sent % registers.len()]);
            looks.spawn(async move {
                let begin = Instant::now();
                (register.read().await, begin.elapsed())
            });
            sent += 1;
        }
        while let Some(done) = looks.try_join_next() {
            note_look(&mut recorder, done);
        }
    }
    while let Some(done) = looks.join_next().await {
        note_look(&mut recorder, done);
    }
    let after = Moment::of(subject).await?;
    Ok(Steady { time: begin.elapsed(), recorder, before, after })
}

fn note_look(recorder: &mut Recorder, done: Result<(ReadOutcome, Duration), tokio::task::JoinError>) {
    match done {
        Ok((ReadOutcome::Record { .. }, latency)) => recorder.success(latency, Instant::now()),
        Ok((ReadOutcome::Absent, _)) => recorder.failure("no record".into()),
        Ok((ReadOutcome::Unknown(reason), _)) => recorder.failure(kind(&reason.to_string())),
        Err(_) => recorder.failure("a task broke off".into()),
    }
}

/// A reason without the address, so that equal ones are counted together.
fn kind(reason: &str) -> String {
    reason.split_once(' ').map_or(reason, |(_, rest)| rest).to_owned()
}

/// So many pairs at once, each as an appliance that has just started: a new connection, a look, a compare-and-set. The time
/// counts from the moment when all begin. The versions of what was written, by pair.
pub async fn burst(
    fleet: &Fleet,
    subject: &Subject,
    number: usize,
) -> Result<(Burst, Vec<Option<Version>>), Failure> {
    let address = subject.address();
    let before = Moment::of(subject).await?;
    let mut takes = JoinSet::new();
    let begin = Instant::now();
    for pair in 0..number {
        let register = fleet.register(pair, &address, PATIENCE);
        let next = content(fleet.name(pair), 2);
        takes.spawn(async move {
            let asked = Instant::now();
            let look = register.read().await;
            let looked = asked.elapsed();
            let asked = Instant::now();
            let outcome = match look {
                ReadOutcome::Record { version, .. } => register.compare_and_set(&version, next).await,
                ReadOutcome::Absent => WriteOutcome::Mismatch,
                ReadOutcome::Unknown(reason) => WriteOutcome::Unknown(reason),
            };
            (pair, outcome, [looked, asked.elapsed()], begin.elapsed())
        });
    }
    let mut versions = vec![None; number];
    let (mut recorder, mut requests) = (Recorder::new(), Recorder::new());
    let mut late = 0;
    while let Some(done) = takes.join_next().await {
        match done {
            Ok((pair, WriteOutcome::Swapped(version), each, all)) => {
                versions[pair] = Some(version);
                late += each.iter().filter(|request| **request > DEFAULT_DEADLINE).count() as u64;
                for request in each {
                    requests.success(request, Instant::now());
                }
                recorder.success(all, Instant::now());
            }
            Ok((_, WriteOutcome::Mismatch, ..)) => recorder.failure("mismatch".into()),
            Ok((_, WriteOutcome::Unknown(reason), ..)) => recorder.failure(kind(&reason.to_string())),
            Err(_) => recorder.failure("a task broke off".into()),
        }
    }
    let time = begin.elapsed();
    let after = Moment::of(subject).await?;
    Ok((Burst { time, late, recorder, requests, before, after }, versions))
}

/// How many of the writes that were answered are not there.
pub async fn lost(fleet: &Fleet, subject: &Subject, written: &[Option<Version>]) -> Result<u64, Failure> {
    let address = subject.address();
    let mut reads = JoinSet::new();
    let mut lost = 0;
    let mut judge = |found: Result<bool, tokio::task::JoinError>| lost += u64::from(!found.unwrap_or(false));
    for (pair, version) in written.iter().enumerate() {
        let Some(version) = version.clone() else { continue };
        let register = fleet.register(pair, &address, PATIENCE);
        if reads.len() >= READERS
            && let Some(found) = reads.join_next().await
        {
            judge(found);
        }
        reads.spawn(async move {
            matches!(register.read().await, ReadOutcome::Record { version: found, .. } if found == version)
        });
    }
    while let Some(found) = reads.join_next().await {
        judge(found);
    }
    Ok(lost)
}
