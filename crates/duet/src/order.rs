//! `duet stop` and `duet switchover`: gives the order and waits until it is carried out, so that a script may go on.

use std::time::{Duration, Instant};

use crate::cli::OrderArgs;
use crate::error::{Exit, Failure};
use crate::http;
use crate::local::in_sync;
use crate::status::{PairView, ask, look, lsn_name};
use crate::terminal::{Progress, print};

/// Orders are accepted at once; carrying them out is waited for separately.
const ORDER_DEADLINE: Duration = Duration::from_secs(5);
/// How long an appliance may take to tell its status.
const STATUS_DEADLINE: Duration = Duration::from_secs(2);
/// How often it is looked whether the order is carried out.
const POLL: Duration = Duration::from_millis(20);

const STOP_PATH: &str = "/duet/v1/stop";
/// Where an appliance is told to hand over.
pub const SWITCHOVER_PATH: &str = "/duet/v1/switchover";

/// Runs `duet stop`.
pub async fn stop(args: &OrderArgs, endpoints: &[String]) -> Result<Exit, Failure> {
    let [endpoint] = endpoints else {
        return Err(Failure::usage("stop takes one appliance at a time", "give one --endpoint URL"));
    };
    let before = ask(endpoint, STATUS_DEADLINE).await.map_err(|reason| silent(endpoint, &reason))?;
    give(endpoint, STOP_PATH).await?;
    let letter = &before.appliance;
    let mut progress = Progress::new();
    progress.say(&format!("{letter} ({}) is shutting down softly ...", before.role));
    let start = Instant::now();
    let mut lsn = before.lsn;
    loop {
        match ask(endpoint, STATUS_DEADLINE).await {
            Ok(report) => lsn = report.lsn,
            Err(_) => break,
        }
        if start.elapsed() > args.timeout {
            let what = format!("{letter} has not stopped after {} s", args.timeout.as_secs_f64());
            return Err(Failure::new(what, "it goes on stopping; see: duet status"));
        }
        tokio::time::sleep(POLL).await;
    }
    drop(progress);
    print(&format!("{letter} has stopped at {} {lsn}.\n", lsn_name(letter)));
    Ok(Exit::Done)
}

/// Runs `duet switchover`.
pub async fn switchover(args: &OrderArgs, endpoints: &[String]) -> Result<Exit, Failure> {
    let before = look(endpoints).await;
    let Some(primary) = before.primary() else {
        return Err(no_primary(&before, endpoints));
    };
    give(&primary.client_url, SWITCHOVER_PATH).await?;
    let mut progress = Progress::new();
    progress.say(&format!("{} hands over ...", primary.appliance));
    let both: Vec<String> = [Some(&primary.client_url), primary.peer.client_url.as_ref()]
        .into_iter()
        .flatten()
        .cloned()
        .collect();
    let start = Instant::now();
    loop {
        let now = look(&both).await;
        let new = now.primary().filter(|new| new.appliance != primary.appliance);
        if let Some(new) = new.filter(|_| in_sync(&now)) {
            let epoch = new.conf.as_ref().map_or(0, |conf| conf.epoch);
            drop(progress);
            print(&format!(
                "{} is primary now (epoch {epoch}), {} its secondary.\n",
                new.appliance, primary.appliance
            ));
            return Ok(Exit::Done);
        }
        if let Some(new) = new.filter(|_| start.elapsed() > args.timeout) {
            let what =
                format!("{} is primary now, but {} is not in sync yet", new.appliance, primary.appliance);
            return Err(Failure::new(what, "see: duet status --watch"));
        }
        if start.elapsed() > args.timeout {
            let what =
                format!("{} has not handed over after {} s", primary.appliance, args.timeout.as_secs_f64());
            return Err(Failure::new(what, "is the other appliance up and in sync? see: duet status"));
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn give(endpoint: &str, path: &str) -> Result<(), Failure> {
    match http::post(endpoint, path, ORDER_DEADLINE).await {
        Ok(_) => Ok(()),
        Err(http::HttpError::Refused { code: 403, .. }) => Err(Failure::new(
            format!("{endpoint} takes orders from its own machine only"),
            "run this command on that appliance",
        )),
        Err(error) => Err(silent(endpoint, &error.to_string())),
    }
}

fn silent(endpoint: &str, reason: &str) -> Failure {
    Failure::unreachable(
        format!("{endpoint}: {reason}"),
        "is the appliance running? give its address with --endpoint",
    )
}

fn no_primary(view: &PairView, endpoints: &[String]) -> Failure {
    if view.speaker().is_none() {
        return silent(&endpoints.join(", "), "no appliance answers");
    }
    Failure::new("no appliance is primary now", "see: duet status")
}
