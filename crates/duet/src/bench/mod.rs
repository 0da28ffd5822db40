//! `duet bench`: one lean client that measures Duet and etcd alike.

pub mod args;
pub mod compare;
pub mod compare_report;
pub mod etcd;
pub mod failover;
pub mod floors;
pub mod lane;
pub mod load;
pub mod output;
pub mod proc_stat;
pub mod report;
pub mod scale;
pub mod schedule;
pub mod svg;
pub mod systems;
pub mod watch_load;
pub mod witness;
pub mod workload;

use self::args::{LoadArgs, Operation};
use self::load::Plan;
use crate::error::{Exit, Failure};
use crate::terminal::{Paint, Progress, print};

/// Runs `duet bench put` or `duet bench get`.
pub async fn run_load(operation: Operation, args: &LoadArgs) -> Result<Exit, Failure> {
    let plan = Plan::of(operation, args)?;
    let mut progress = Progress::new();
    if !args.json {
        let seconds = (plan.warmup + plan.seconds).as_secs_f64();
        progress.say(&format!(
            "measuring for {seconds:.0} s: {} clients at {}",
            plan.clients,
            plan.endpoints.join(", ")
        ));
    }
    let report = load::run(plan).await?;
    drop(progress);
    if args.json {
        print(&(serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"));
    } else {
        print(&report.render(Paint::stdout()));
    }
    if report.operations == 0 {
        return Err(Failure::new("no operation succeeded", "see the errors above; try: duet status"));
    }
    Ok(Exit::Done)
}
