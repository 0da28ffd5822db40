//! R12, step by step: an appliance dies at every durable step of every procedure (a failpoint kills it there), is started
//! again, and the pair heals by itself with nothing lost that was acknowledged. With a witness server the process is killed, with
//! a witness directory the power fails, and of what was not synced a part is lost.
//!
//! Two writers never rest meanwhile, so each procedure happens among writes.

use std::os::unix::process::ExitStatusExt;
use std::pin::Pin;
use std::time::{Duration, Instant};

use duet_protocol::ApplianceId;

use crate::client::Load;
use crate::harness::{A, B, PATIENCE, Pair, Witness, with_both_witnesses};
use crate::proxy::Line;

with_both_witnesses!(
    of_a_handover,
    of_a_secondary_that_leaves,
    of_a_rejoin,
    of_a_take,
    of_a_part,
    of_a_cold_start_without_a_witness,
    of_installing_a_copy,
    of_cutting_a_tail,
    of_making_a_pair,
);

/// Who dies, by its role when the procedure begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Victim {
    Primary,
    Secondary,
}
use Victim::{Primary, Secondary};

/// What is gone through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Procedure {
    Handover,
    Leave,
    Rejoin,
    TakeByPrimary,
    TakeBySecondary,
    Part,
    ColdStart,
    InstallCopy,
}

const OWN_STATE: [&str; 2] = ["own_state.save.before", "own_state.save.after"];
const LOG: [&str; 4] = ["log.append.before", "log.append.after", "log.sync.before", "log.sync.after"];
const WITNESS: [&str; 2] = ["witness.request.before", "witness.request.after"];
const CHECKPOINT: [&str; 2] = ["checkpoint.commit.before", "checkpoint.commit.after"];
const RECEIVE: [&str; 2] = ["snapshot.receive.before", "snapshot.receive.after"];
const INSTALL: [&str; 2] = ["snapshot.install.before", "snapshot.install.after"];

/// Between two looks at a procedure.
const POLL: Duration = Duration::from_millis(5);

/// A step may come more than once in a procedure: the first time must be reached, then on until it no longer is, at most
/// so often.
const TIMES: u32 = 3;

/// How an appliance dies, as its failpoints are told.
fn death(witness: Witness, seed: u32) -> String {
    match witness {
        Witness::Server => "exit".into(),
        Witness::Directory => format!("power:{seed}"),
    }
}

/// A pair that lives through one crash after the other.
struct Course {
    pair: Pair,
    load: Load,
    procedure: Procedure,
    witness: Witness,
    crashes: u32,
}

impl Course {
    async fn start(witness: Witness, procedure: Procedure, extra: &str) -> Self {
        let mut pair = Pair::lay_out(witness).await;
        pair.make_armable();
        if !extra.is_empty() {
            pair.configure(extra);
        }
        pair.start_new().await;
        let load = Load::start(&pair, "through all crashes", 2);
        Self { pair, load, procedure, witness, crashes: 0 }
    }

    /// Dies at each of `steps`: for the first time it is reached, the second, and so on.
    async fn die_at(&mut self, victim: Victim, steps: &[&str], times: u32) {
        for step in steps {
            for time in 1..=times {
                let start = Instant::now();
                let reached = self.once(victim, step, time).await;
                let procedure = self.procedure;
                println!(
                    "{procedure:?}, {victim:?} at {step}@{time}: {reached}, {} ms",
                    start.elapsed().as_millis()
                );
                assert!(
                    reached || time > 1,
                    "{procedure:?} of the {victim:?} never comes to {step}: no test of it"
                );
                if !reached {
                    break;
                }
                self.crashes += 1;
            }
        }
    }

    /// One time through. Whether the victim died at the step.
    async fn once(&mut self, victim: Victim, step: &str, time: u32) -> bool {
        let primary = self.pair.until_paired().await;
        self.load.goes_on(&self.pair, 5).await;
        self.prepare(primary).await;
        let victim = if victim == Primary { primary } else { primary.peer() };
        let death = death(self.witness, self.crashes);
        self.pair.arm(victim, &format!("{step}={death}@{time}"));
        self.begin(primary);
        self.settles(primary, victim).await;
        let reached = self.is_dead(victim);
        self.pair.disarm(victim);
        // Who was told to stop does so, whatever happened to the other.
        match self.procedure {
            Procedure::Handover | Procedure::Part => drop(self.pair.ends(primary).await),
            Procedure::Leave => drop(self.pair.ends(primary.peer()).await),
            _ => {}
        }
        self.heal().await;
        reached
    }

    fn is_dead(&mut self, victim: ApplianceId) -> bool {
        self.pair.process(victim).ended().is_some_and(|status| status.signal() == Some(9))
    }

    async fn prepare(&mut self, primary: ApplianceId) {
        let secondary = primary.peer();
        match self.procedure {
            Procedure::Rejoin | Procedure::Part => {
                self.pair.soft_stop(secondary).await;
                self.load.goes_on(&self.pair, 5).await;
            }
            Procedure::ColdStart => {
                self.pair.process(primary).kill();
                self.pair.crash(secondary).await;
                self.pair.ends(primary).await;
                self.pair.stop_witness();
            }
            Procedure::InstallCopy => {
                self.pair.soft_stop(secondary).await;
                let burst = Load::start(&self.pair, "burst", 16);
                burst.goes_on(&self.pair, 300).await;
                burst.stop().await;
                self.pair.until_checkpoint(primary).await;
            }
            Procedure::Handover
            | Procedure::Leave
            | Procedure::TakeByPrimary
            | Procedure::TakeBySecondary => {}
        }
    }

    fn begin(&mut self, primary: ApplianceId) {
        let secondary = primary.peer();
        match self.procedure {
            Procedure::Handover | Procedure::Part => self.pair.begin_soft_stop(primary),
            Procedure::Leave => self.pair.begin_soft_stop(secondary),
            Procedure::Rejoin | Procedure::InstallCopy => self.pair.launch(secondary),
            Procedure::TakeByPrimary => self.pair.process(secondary).kill(),
            Procedure::TakeBySecondary => self.pair.process(primary).kill(),
            Procedure::ColdStart => {
                self.pair.launch(primary);
                self.pair.launch(secondary);
            }
        }
    }

    /// Waits until the procedure is over or the victim is dead.
    async fn settles(&mut self, primary: ApplianceId, victim: ApplianceId) {
        let start = Instant::now();
        loop {
            if self.is_dead(victim) || self.is_over(primary).await {
                return;
            }
            if start.elapsed() > PATIENCE {
                let diagnosis = self.pair.diagnosis().await;
                panic!("{:?} does not come to an end\n{diagnosis}", self.procedure);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn is_over(&mut self, primary: ApplianceId) -> bool {
        let secondary = primary.peer();
        let in_sync = async |pair: &Pair, appliance: ApplianceId, count: usize| {
            pair.try_status(appliance).await.is_ok_and(|status| {
                status.role == "primary"
                    && status.serving
                    && status.conf.is_some_and(|conf| conf.in_sync.len() == count)
            })
        };
        match self.procedure {
            Procedure::Handover | Procedure::Part => !self.pair.is_running(primary),
            Procedure::Leave => !self.pair.is_running(secondary),
            Procedure::TakeByPrimary => in_sync(&self.pair, primary, 1).await,
            Procedure::TakeBySecondary => in_sync(&self.pair, secondary, 1).await,
            Procedure::Rejoin | Procedure::ColdStart | Procedure::InstallCopy => {
                in_sync(&self.pair, primary, 2).await || in_sync(&self.pair, secondary, 2).await
            }
        }
    }

    /// Starts again whatever is not there, and waits until the pair is whole and takes writes.
    async fn heal(&mut self) {
        let start = Instant::now();
        while self.pair.paired().await.is_none() {
            for appliance in [A, B] {
                self.pair.revive(appliance).await;
            }
            if start.elapsed() > PATIENCE {
                let diagnosis = self.pair.diagnosis().await;
                panic!("the pair does not heal after a crash in {:?}\n{diagnosis}", self.procedure);
            }
            tokio::time::sleep(POLL).await;
        }
        self.load.goes_on(&self.pair, 5).await;
        if self.procedure == Procedure::ColdStart {
            self.pair.start_witness().await;
            self.pair.until_record("the pair", |record| record.conf.is_pair()).await;
        }
    }

    /// Nothing was lost.
    async fn finish(self) {
        let outcome = self.load.stop().await;
        println!("{:?}: {} crashes", self.procedure, self.crashes);
        self.pair.until_in_sync().await;
        for appliance in [A, B] {
            outcome.is_in(&self.pair.client(appliance).everything_here().await.unwrap());
        }
    }
}

/// A course to be gone through, boxed as it is large.
type Boxed = Pin<Box<dyn Future<Output = ()>>>;

/// Two courses at the same time: they mostly wait.
async fn both(one: Boxed, other: Boxed) {
    tokio::join!(one, other);
}

/// One course: who dies at which steps.
fn course(
    witness: Witness,
    procedure: Procedure,
    victim: Victim,
    steps: &'static [&'static [&'static str]],
) -> Boxed {
    Box::pin(async move {
        let mut course = Course::start(witness, procedure, "").await;
        for steps in steps {
            // Once is enough where it comes again with every write.
            let times = if steps[0].starts_with("log.") || **steps == CHECKPOINT { 1 } else { TIMES };
            course.die_at(victim, steps, times).await;
        }
        course.finish().await;
    })
}

async fn of_a_handover(witness: Witness) {
    both(
        course(witness, Procedure::Handover, Primary, &[&OWN_STATE, &WITNESS, &CHECKPOINT]),
        course(witness, Procedure::Handover, Secondary, &[&OWN_STATE, &LOG]),
    )
    .await;
}

async fn of_a_secondary_that_leaves(witness: Witness) {
    both(
        course(witness, Procedure::Leave, Secondary, &[&OWN_STATE, &WITNESS, &CHECKPOINT]),
        course(witness, Procedure::Leave, Primary, &[&OWN_STATE, &LOG]),
    )
    .await;
}

async fn of_a_rejoin(witness: Witness) {
    both(
        course(witness, Procedure::Rejoin, Secondary, &[&OWN_STATE, &LOG]),
        course(witness, Procedure::Rejoin, Primary, &[&OWN_STATE, &LOG]),
    )
    .await;
}

async fn of_a_take(witness: Witness) {
    both(
        course(witness, Procedure::TakeByPrimary, Primary, &[&OWN_STATE, &WITNESS]),
        course(witness, Procedure::TakeBySecondary, Secondary, &[&OWN_STATE, &WITNESS]),
    )
    .await;
}

async fn of_a_part(witness: Witness) {
    both(
        course(witness, Procedure::Part, Primary, &[&OWN_STATE, &CHECKPOINT]),
        course(witness, Procedure::Part, Primary, &[&WITNESS]),
    )
    .await;
}

async fn of_a_cold_start_without_a_witness(witness: Witness) {
    both(
        course(witness, Procedure::ColdStart, Primary, &[&OWN_STATE]),
        course(witness, Procedure::ColdStart, Secondary, &[&OWN_STATE]),
    )
    .await;
}

async fn of_installing_a_copy(witness: Witness) {
    both(Box::pin(of_receiving_a_copy(witness)), Box::pin(of_sending_a_copy(witness))).await;
}

/// Short logs, so that one that was away for some writes needs a copy.
const SHORT_LOG: &str = "retain_entries = 20";

/// The secondary dies again and again on the way to one copy, and when it is let in behind it.
async fn of_receiving_a_copy(witness: Witness) {
    let mut course = Course::start(witness, Procedure::InstallCopy, SHORT_LOG).await;
    let primary = course.pair.until_paired().await;
    let secondary = primary.peer();
    course.prepare(primary).await;
    for step in [&RECEIVE[..], &INSTALL, &OWN_STATE].concat() {
        course.pair.arm(secondary, &format!("{step}={}", death(witness, course.crashes)));
        course.pair.launch(secondary);
        course.settles(primary, secondary).await;
        let diagnosis = course.pair.diagnosis().await;
        assert!(course.is_dead(secondary), "it never comes to {step}: no test of it\n{diagnosis}");
        course.pair.ends(secondary).await;
        course.crashes += 1;
    }
    course.pair.disarm(secondary);
    course.heal().await;
    course.finish().await;
}

/// The primary dies while the secondary gets its copy.
async fn of_sending_a_copy(witness: Witness) {
    let mut course = Course::start(witness, Procedure::InstallCopy, SHORT_LOG).await;
    course.die_at(Primary, &OWN_STATE[..1], 1).await;
    course.finish().await;
}

/// A primary that was deposed comes back with a tail and dies while it cuts it off.
async fn of_cutting_a_tail(witness: Witness) {
    let mut pair = Pair::lay_out_with_lines(witness).await;
    pair.make_armable();
    pair.start_new().await;
    for (step, seed) in ["log.truncate.before", "log.truncate.after"].into_iter().zip(0..) {
        let deposed = pair.until_in_sync().await.0;
        let deposed = if deposed.appliance == "A" { A } else { B };
        let successor = deposed.peer();
        pair.client(deposed).put("step", step).await.unwrap();
        pair.set_witness_line(deposed, Line::Cut);
        pair.set_peer_lines(Line::Cut);
        let before = pair.status(deposed).await.flushed;
        let client = pair.client(deposed).clone();
        let attempt = tokio::spawn(async move { client.put_within("tail", step, PATIENCE).await.is_ok() });
        pair.until_status(deposed, "has a tail", |status| status.flushed > before).await;
        pair.until_primary(successor).await;
        pair.crash(deposed).await;
        assert!(!attempt.await.unwrap(), "acknowledged by the deposed primary alone");
        pair.set_witness_line(deposed, Line::Open);
        pair.set_peer_lines(Line::Open);
        pair.arm(deposed, &format!("{step}={}", death(witness, seed)));
        pair.launch(deposed);
        pair.ends(deposed).await;
        pair.disarm(deposed);
        pair.start_appliance(deposed).await;
        pair.until_in_sync().await;
        for appliance in [A, B] {
            assert_eq!(pair.client(appliance).get_here("tail").await.unwrap(), None);
            assert_eq!(pair.client(appliance).get("step").await.unwrap().as_deref(), Some(step));
        }
    }
}

/// `duet init` dies, is given again, and makes the pair.
async fn of_making_a_pair(witness: Witness) {
    for (step, seed) in ["init.data.after", "init.record.after"].into_iter().zip(0..) {
        let mut pair = Pair::lay_out(witness).await;
        let point = format!("{step}={}", death(witness, seed));
        let (status, _) = pair.try_init(A, &[("DUET_FAILPOINT", &point), ("DUET_POWER", "1")]).await;
        assert!(!status.success(), "it dies at {step}");
        let made = pair.try_record().await.unwrap().is_some();
        assert_eq!(made, step == "init.record.after");
        pair.start_new().await;
        pair.client(B).put("made", step).await.unwrap();
        pair.until_in_sync().await;
        assert_eq!(pair.client(A).get("made").await.unwrap().as_deref(), Some(step));
    }
}
