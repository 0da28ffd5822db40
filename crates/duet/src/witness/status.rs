//! `duet witness status`: how a witness server is, from its own counters.

use std::fmt::Write as _;
use std::time::Duration;

use duet_witness::server::status::WitnessStatus;

use crate::cli::WitnessStatusArgs;
use crate::error::{Exit, Failure};
use crate::http;
use crate::terminal::print;

/// Where a witness server tells it.
const PATH: &str = "/status";
/// It answers from memory.
const DEADLINE: Duration = Duration::from_secs(5);

/// Runs `duet witness status`.
pub async fn run(args: &WitnessStatusArgs) -> Result<Exit, Failure> {
    let status = ask(&args.url).await?;
    print(&if args.json {
        serde_json::to_string_pretty(&status).unwrap_or_default() + "\n"
    } else {
        let mut text = String::new();
        for (name, value) in status.facts() {
            let _ = writeln!(text, "{name:12}  {value}");
        }
        text
    });
    Ok(Exit::Done)
}

/// The status of the witness server at a URL.
pub async fn ask(url: &str) -> Result<WitnessStatus, Failure> {
    let body = http::get(url, PATH, DEADLINE).await.map_err(|error| {
        Failure::unreachable(
            format!("{url}: {error}"),
            "for example: duet witness status http://127.0.0.1:7900",
        )
    })?;
    serde_json::from_slice(&body).map_err(|_| {
        Failure::unreachable(format!("{url}: what answers there is no witness of this version"), "")
    })
}
