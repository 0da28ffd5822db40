//! An appliance that was away and comes back while writes go on: with its data, or with none.

use std::time::{Duration, Instant};

use duet_protocol::ApplianceId;
use serde::Serialize;

use super::super::load::{self, Plan};
use super::super::report::{Report, count};
use super::super::schedule::Window;
use super::super::workload::KEY_BYTES;
use super::subject::{Subject, both_in_sync};
use crate::error::{Failure, io_words};
use crate::local::Pair;

/// A copy of any size measured here is done long before.
const LIMIT: Duration = Duration::from_mins(10);
const POLL: Duration = Duration::from_millis(10);

/// A return.
#[derive(Clone, Debug, Serialize)]
pub struct Return {
    /// From the start of the process until both are in sync again.
    pub seconds: f64,
    /// Writes it had missed; none for a full copy.
    pub missed: u64,
    /// Bytes of all keys and values.
    pub stored_bytes: u64,
    /// What writers saw meanwhile.
    pub foreground: Report,
    /// What they saw before, with the other appliance away.
    pub alone: Report,
}

impl Return {
    /// Missed writes caught up in a second.
    pub fn writes_per_second(&self) -> f64 {
        count(self.missed) / self.seconds.max(1e-9)
    }

    /// Keys and values copied in a second, in MiB.
    pub fn mib_per_second(&self) -> f64 {
        count(self.stored_bytes) / f64::from(1 << 20) / self.seconds.max(1e-9)
    }
}

/// The secondary is killed, misses writes for some time, and comes back.
pub async fn rejoin(subject: &mut Subject, plan: Plan, away: Duration) -> Result<Return, Failure> {
    let (primary, secondary) = roles(subject).await?;
    pair(subject)?.crash(secondary);
    let alone = load::run(Plan { seconds: away, ..plan.clone() }).await?;
    come_back(subject, primary, plan, alone).await
}

/// The secondary is killed and loses its disk.
pub async fn copy(subject: &mut Subject, plan: Plan) -> Result<Return, Failure> {
    let (primary, secondary) = roles(subject).await?;
    pair(subject)?.crash(secondary);
    let data = pair(subject)?.data_dir(secondary);
    std::fs::remove_dir_all(&data)
        .map_err(|error| Failure::new(format!("{}: {}", data.display(), io_words(&error)), "try again"))?;
    let alone = load::run(plan.clone()).await?;
    let back = come_back(subject, primary, plan, alone).await?;
    Ok(Return { missed: 0, ..back })
}

async fn come_back(
    subject: &mut Subject,
    primary: ApplianceId,
    plan: Plan,
    alone: Report,
) -> Result<Return, Failure> {
    let window = Window::default();
    let stored_bytes = (plan.keys * (KEY_BYTES + plan.value_size)) as u64;
    let work = load::run_in(plan, window.clone());
    let back = async {
        window.opened().await;
        let pair = pair(subject)?;
        let start = Instant::now();
        pair.launch(primary.peer())?;
        while !both_in_sync(pair).await {
            if start.elapsed() > LIMIT {
                return Err(pair.failure(primary.peer(), "did not come back"));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(start.elapsed())
    };
    let (foreground, back) = tokio::join!(work, back);
    let (seconds, missed) = (back?.as_secs_f64(), alone.operations);
    Ok(Return { seconds, missed, stored_bytes, foreground: foreground?, alone })
}

fn pair(subject: &mut Subject) -> Result<&mut Pair, Failure> {
    subject.pair().ok_or_else(|| Failure::new("only a pair has a secondary", "please report it"))
}

/// Who is primary, and who is not.
async fn roles(subject: &mut Subject) -> Result<(ApplianceId, ApplianceId), Failure> {
    let view = pair(subject)?.look().await;
    let is_b = view.primary().is_some_and(|report| report.appliance == "B");
    let primary = if is_b { ApplianceId::B } else { ApplianceId::A };
    Ok((primary, primary.peer()))
}
