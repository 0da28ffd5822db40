//! The story itself, step by step. Every step checks what it tells; the requirement it shows is named beside it.

use std::time::{Duration, Instant};

use duet_protocol::ApplianceId::{self, A, B};

use super::stage::{PATIENCE, Stage, WATCHED};
use super::witness_watch::WitnessWatch;
use crate::error::Failure;

/// How long the steady writer runs before and after an event.
const BEFORE_AND_AFTER: Duration = Duration::from_millis(400);

/// Plays the whole story; afterwards both appliances run and are in sync.
pub async fn play(stage: &mut Stage) -> Result<(), Failure> {
    start(stage).await?;
    write_through_both(stage).await?;
    first_soft_shutdown(stage).await?;
    writes_go_on(stage).await?;
    second_soft_shutdown(stage).await?;
    old_data_waits(stage).await?;
    newest_data_serves(stage).await?;
    rejoin(stage).await?;
    equal_data_either_serves(stage).await?;
    crash(stage).await?;
    crashed_one_returns(stage).await
}

async fn start(stage: &mut Stage) -> Result<(), Failure> {
    stage.tell.step("Start a witness and two appliances, A and B").await;
    stage.pair.start_new().await?;
    let view = stage.show().await;
    stage.require(view.primary().is_some_and(|primary| primary.appliance == "A"), || {
        "A is not primary".into()
    })?;
    stage.tell.held("A is primary, B its secondary, both in sync");
    Ok(())
}

/// R1, R2.
async fn write_through_both(stage: &mut Stage) -> Result<(), Failure> {
    stage.tell.step("Write through A, then through B, and read at both").await;
    let before = stage.lsn(A).await?;
    stage.put(A, "demo/through-a", "one").await?;
    stage.put(B, "demo/through-b", "two").await?;
    for through in ApplianceId::ALL {
        stage.get_is(through, "demo/through-a", "one").await?;
        stage.get_is(through, "demo/through-b", "two").await?;
    }
    let wanted = before + 2;
    let both = |view: &crate::status::PairView| {
        view.reports().count() == 2 && view.reports().all(|report| report.lsn == wanted)
    };
    stage.until(&format!("LSN X = LSN Y = {wanted}"), B, both).await?;
    stage.show().await;
    stage
        .tell
        .held(&format!("B passed its write on to A; each write raised both LSNs by one: X = Y = {wanted}"));
    Ok(())
}

/// R3, R4.
async fn first_soft_shutdown(stage: &mut Stage) -> Result<(), Failure> {
    stage.tell.step("Shut A down softly (SIGTERM) while a client keeps writing").await;
    let at_least = stage.lsn(A).await?;
    let watch = WitnessWatch::start(&stage.pair.witness_url())?;
    let writer = stage.write_steadily("handover", B);
    tokio::time::sleep(BEFORE_AND_AFTER).await;
    stage.stop(A).await?;
    stage.until_primary(B).await?;
    let cleared = stage
        .until_record("LSN X is cleared at the witness", |record| record.lsn_left_by("A").is_none())
        .await;
    tokio::time::sleep(BEFORE_AND_AFTER).await;
    let written = stage.check_written(writer, B).await?;
    let notes = watch.seen();
    let note = notes.iter().find_map(|record| record.note("A").cloned());
    let Some(note) = note else {
        let contents: Vec<String> = notes
            .iter()
            .map(|record| format!("revision {}: {}", record.revision, record.in_words()))
            .collect();
        let failure = stage.wrong("LSN X was never seen at the witness during the shutdown; it held");
        return Err(failure.with_details(contents.join("\n")));
    };
    cleared?;
    let y = stage.lsn(B).await?;
    stage.require(note.was_primary && note.lsn > at_least && note.lsn < y, || {
        format!("the witness was told LSN X {}, but A had at least {at_least} and B has {y} now", note.lsn)
    })?;
    stage.tell.held(&format!("during the shutdown the witness was told: LSN X {}", note.lsn));
    stage.tell.held("B is primary; LSN X is cleared at the witness");
    stage.tell.held(&written.in_words());
    stage.show().await;
    Ok(())
}

/// R4.
async fn writes_go_on(stage: &mut Stage) -> Result<(), Failure> {
    stage.tell.step("Writes go on at B alone: LSN Y grows, LSN X stands still").await;
    let before = stage.lsn(B).await?;
    for number in 0..10 {
        stage.put(B, &format!("demo/alone/{number}"), "at B").await?;
    }
    let after = stage.lsn(B).await?;
    stage.require(after == before + 10, || format!("10 writes took LSN Y from {before} to {after}"))?;
    stage.tell.held(&format!("LSN Y went from {before} to {after}"));
    Ok(())
}

/// R3.
async fn second_soft_shutdown(stage: &mut Stage) -> Result<(), Failure> {
    stage.tell.step("Shut B down softly too: nobody is left to take over").await;
    let y = stage.lsn(B).await?;
    stage.stop(B).await?;
    let record = stage.record().await?;
    stage.require(record.lsn_left_by("B") == Some(y), || {
        format!("the witness should hold LSN Y {y}, it holds: {}", record.in_words())
    })?;
    stage.show().await;
    stage.tell.held(&format!("the witness holds LSN Y {y}"));
    Ok(())
}

/// R5, R7.
async fn old_data_waits(stage: &mut Stage) -> Result<(), Failure> {
    stage.tell.step("Start A alone: its data is older than what B has").await;
    stage.pair.start(A).await?;
    let view = stage
        .until("A says why it waits", A, |view| {
            view.report("A").is_some_and(|report| report.waiting.is_some())
        })
        .await?;
    let start = Instant::now();
    while start.elapsed() < WATCHED {
        let status = stage.pair.status(A).await.map_err(|reason| stage.wrong(&format!("A: {reason}")))?;
        stage.require(!status.serving && status.role != "primary", || "A serves with old data".into())?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let refused = stage.client(A).put_within("demo/too-early", "no", Duration::from_secs(1)).await;
    stage.require(refused.is_err(), || "A took a write with old data".into())?;
    let x = stage.lsn(A).await?;
    let y = stage.record().await?.lsn_left_by("B").unwrap_or(0);
    stage.require(x < y, || format!("LSN X {x} is not below LSN Y {y}"))?;
    stage.show().await;
    let latest = stage.pair.status(A).await.ok().and_then(|status| status.waiting);
    let sentence =
        latest.or_else(|| view.report("A").and_then(|report| report.waiting.clone())).unwrap_or_default();
    stage.tell.held(&format!("A says: {sentence}"));
    stage.tell.held(&format!("X < Y ({x} < {y}): A is not promoted and takes no writes"));
    stage.stop(A).await
}

/// R5, R6.
async fn newest_data_serves(stage: &mut Stage) -> Result<(), Failure> {
    stage.tell.step("Start B alone instead: nobody has more than B").await;
    stage.pair.start(B).await?;
    stage.until_primary(B).await?;
    stage.put(B, "demo/b-alone", "yes").await?;
    stage.get_is(B, "demo/alone/9", "at B").await?;
    stage.show().await;
    stage.tell.held("B is primary by itself and takes writes");
    Ok(())
}

/// R8, R9, R10.
async fn rejoin(stage: &mut Stage) -> Result<(), Failure> {
    stage.tell.step("Start A again: B lives and has more, so B stays primary and A catches up").await;
    stage.pair.start(A).await?;
    let x = stage.lsn(A).await?;
    let view = stage.until_in_sync(A).await?;
    stage.require(view.primary().is_some_and(|primary| primary.appliance == "B"), || {
        "B is not primary".into()
    })?;
    let y = stage.lsn(B).await?;
    stage.get_is(A, "demo/b-alone", "yes").await?;
    stage.show().await;
    stage.tell.held(&format!("A came with LSN X {x} and has everything now: X = Y = {y}, in sync again"));
    Ok(())
}

/// R6.
async fn equal_data_either_serves(stage: &mut Stage) -> Result<(), Failure> {
    stage
        .tell
        .step("Stop the secondary A, then the primary B, with no write in between: their data is equal")
        .await;
    stage.stop(A).await?;
    let y = stage.lsn(B).await?;
    stage.stop(B).await?;
    let record = stage.record().await?;
    stage.require(record.lsn_left_by("B") == Some(y), || {
        format!("the witness should hold LSN Y {y}, it holds: {}", record.in_words())
    })?;
    stage.show().await;
    for alone in [A, B] {
        stage.pair.start(alone).await?;
        stage.until_primary(alone).await?;
        let lsn = stage.lsn(alone).await?;
        stage.require(lsn == y, || format!("{alone} has LSN {lsn}, the data was at {y}"))?;
        stage.tell.held(&format!("{alone} alone: equal to what the witness holds ({y}), so it serves"));
        stage.stop(alone).await?;
    }
    stage.pair.start(B).await?;
    stage.pair.start(A).await?;
    let view = stage.until_in_sync(A).await?;
    stage.require(view.primary().is_some(), || "no primary".into())?;
    stage.show().await;
    stage.tell.held("both started: a pair again");
    Ok(())
}

/// R12.
async fn crash(stage: &mut Stage) -> Result<(), Failure> {
    let (primary, secondary) = roles(stage).await?;
    stage.tell.step(&format!("Kill the primary {primary} (kill -9) while a client keeps writing")).await;
    let writer = stage.write_steadily("crash", secondary);
    tokio::time::sleep(BEFORE_AND_AFTER).await;
    stage.pair.crash(primary);
    stage.until_primary(secondary).await?;
    tokio::time::sleep(BEFORE_AND_AFTER).await;
    let written = stage.check_written(writer, secondary).await?;
    stage.show().await;
    stage.tell.held(&format!("{secondary} took over by itself"));
    stage.tell.held(&written.in_words());
    stage.require(written.longest_pause < PATIENCE, || "writes paused too long".into())
}

/// R10, R11.
async fn crashed_one_returns(stage: &mut Stage) -> Result<(), Failure> {
    let view = stage.pair.look().await;
    let back = if view.primary().is_some_and(|primary| primary.appliance == "A") { B } else { A };
    stage
        .tell
        .step(&format!("Start {back} again: it drops what was never acknowledged, and catches up"))
        .await;
    stage.pair.start(back).await?;
    let view = stage.until_in_sync(back).await?;
    let same = view.report("A").map(|report| &report.digest) == view.report("B").map(|report| &report.digest);
    stage.require(same, || "the histories of A and B differ".into())?;
    stage.show().await;
    stage.tell.held("both have the same history and are in sync again");
    Ok(())
}

async fn roles(stage: &Stage) -> Result<(ApplianceId, ApplianceId), Failure> {
    let view = stage.pair.look().await;
    match view.primary().map(|primary| primary.appliance.as_str()) {
        Some("A") => Ok((A, B)),
        Some(_) => Ok((B, A)),
        None => Err(stage.wrong("no appliance is primary")),
    }
}
