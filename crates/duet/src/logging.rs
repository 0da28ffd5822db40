//! The log of `serve` and `witness`: to standard error, as text for people or JSON for machines.

use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;
use crate::error::Failure;
use crate::terminal::Paint;

/// The environment variable with the filter.
const FILTER_VARIABLE: &str = "DUET_LOG";
/// What is logged by default: what an operator wants to have read after a night with a failover.
const DEFAULT_FILTER: &str = "info";

/// Begins to log. A second call in one process changes nothing.
pub fn start(format: LogFormat) -> Result<(), Failure> {
    let wanted = std::env::var(FILTER_VARIABLE).unwrap_or_else(|_| DEFAULT_FILTER.into());
    let filter = EnvFilter::try_new(&wanted).map_err(|_| {
        Failure::usage(
            format!("{FILTER_VARIABLE}={wanted} is not a log filter"),
            "for example DUET_LOG=debug, or DUET_LOG=info,duet_server=trace",
        )
    })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_target(false).with_ansi(Paint::stderr().is_on()).try_init().ok(),
        LogFormat::Json => log.json().flatten_event(true).try_init().ok(),
    };
    Ok(())
}
