//! `duet init` and `duet serve`: the configuration put together from file, environment and flags, and the life of an
//! appliance between its start and its soft shutdown.

use duet_server::config::{Config, ConfigError, Settings};
use duet_server::{ExitReason, InitError, Server, StartError};

use crate::cli::{ApplianceArgs, ServeArgs};
use crate::error::{Exit, Failure, without_numbers};
use crate::logging;
use crate::signals::{StopRequest, StopRequests};
use crate::terminal::print;

/// Most threads for the network side: beyond that the one write path is what limits.
const NETWORK_THREADS_MAX: usize = 4;

/// Threads for the network side: half of the cores, as the write path has threads of its own. Two where one is enough cost a
/// tenth of the throughput in wake-ups.
pub fn network_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / 2).clamp(1, NETWORK_THREADS_MAX)
}

/// The environment variable that may hold the pair's token at a witness server.
pub const WITNESS_TOKEN: &str = "DUET_WITNESS_TOKEN";

const CONFIG_HELP: &str = "see: duet serve --help";

/// The configuration: flags and environment (clap has merged them, flags first) over the file.
pub fn config(args: &ApplianceArgs) -> Result<Config, Failure> {
    let file = match &args.config {
        Some(path) => Settings::read(path).map_err(|error| config_failure(&error, None))?,
        None => Settings::default(),
    };
    let given = given(args);
    Config::check(given.clone().over(file)).map_err(|error| config_failure(&error, Some(&given)))
}

/// What flags and environment say.
fn given(args: &ApplianceArgs) -> Settings {
    let args = args.clone();
    Settings {
        cluster: args.cluster,
        appliance: args.appliance,
        data: args.data,
        client_listen: args.client_listen,
        client_url: args.client_url,
        peer_listen: args.peer_listen,
        peer: args.peer,
        witness: args.witness,
        witness_token_file: args.witness_token_file,
        // Not a flag: everybody on a machine sees the flags of its processes.
        witness_token: std::env::var(WITNESS_TOKEN).ok().filter(|token| !token.is_empty()),
        auth_token: args.auth_token,
        auth_token_ttl: args.auth_token_ttl,
        bcrypt_cost: args.bcrypt_cost,
        quota_backend_bytes: args.quota_backend_bytes,
        max_request_bytes: args.max_request_bytes,
        max_txn_ops: args.max_txn_ops,
        max_concurrent_streams: args.max_concurrent_streams,
        grpc_keepalive_interval: args.grpc_keepalive_interval,
        grpc_keepalive_timeout: args.grpc_keepalive_timeout,
        auto_compaction_mode: args.auto_compaction_mode,
        auto_compaction_retention: args.auto_compaction_retention,
        ..Settings::default()
    }
}

fn config_failure(error: &ConfigError, given: Option<&Settings>) -> Failure {
    match error {
        ConfigError::Read { path, reason } => Failure::usage(
            format!("cannot read {}: {}", path.display(), crate::error::io_words(reason)),
            "give another --config FILE, or every field as a flag",
        ),
        ConfigError::Value { field, value, allowed, .. } if given.is_some_and(|given| sets(given, field)) => {
            if *field == "witness_token" {
                return Failure::usage(format!("{WITNESS_TOKEN}: {allowed}"), CONFIG_HELP);
            }
            let flag = field.replace('_', "-");
            Failure::usage(format!("--{flag} {value}: {allowed}"), CONFIG_HELP)
        }
        _ => Failure::usage(without_numbers(&error.to_string()), CONFIG_HELP),
    }
}

/// Whether a field comes from a flag or the environment, so that the file is not to blame.
fn sets(given: &Settings, field: &str) -> bool {
    match field {
        "cluster" => given.cluster.is_some(),
        "appliance" => given.appliance.is_some(),
        "data" => given.data.is_some(),
        "client_listen" => given.client_listen.is_some(),
        "client_url" => given.client_url.is_some(),
        "peer_listen" => given.peer_listen.is_some(),
        "peer" => given.peer.is_some(),
        "witness" => given.witness.is_some(),
        "witness_token_file" => given.witness_token_file.is_some(),
        "witness_token" => given.witness_token.is_some(),
        "auth_token" => given.auth_token.is_some(),
        "auth_token_ttl" => given.auth_token_ttl.is_some(),
        "bcrypt_cost" => given.bcrypt_cost.is_some(),
        "max_request_bytes" => given.max_request_bytes.is_some(),
        "max_txn_ops" => given.max_txn_ops.is_some(),
        "max_concurrent_streams" => given.max_concurrent_streams.is_some(),
        "grpc_keepalive_interval" => given.grpc_keepalive_interval.is_some(),
        "grpc_keepalive_timeout" => given.grpc_keepalive_timeout.is_some(),
        "auto_compaction_mode" => given.auto_compaction_mode.is_some(),
        "auto_compaction_retention" => given.auto_compaction_retention.is_some(),
        _ => false,
    }
}

/// Runs `duet init`.
pub async fn init(args: &ApplianceArgs) -> Result<Exit, Failure> {
    let config = config(args)?;
    match duet_server::init(&config).await {
        Ok(_) => {
            print(&format!(
                "The pair {} is made; appliance {} is its first member.\n\
                 Start both appliances now: duet serve --config FILE on each. The other one needs no init.\n",
                config.cluster, config.appliance
            ));
            Ok(Exit::Done)
        }
        Err(error) => Err(init_failure(&error)),
    }
}

fn init_failure(error: &InitError) -> Failure {
    Failure::new(without_numbers(&error.to_string()), error.advice().unwrap_or_default())
}

fn start_failure(error: &StartError) -> Failure {
    Failure::new(without_numbers(&error.to_string()), error.advice().unwrap_or_default())
}

/// Runs `duet serve` until a soft shutdown is complete.
pub async fn serve(args: &ServeArgs) -> Result<Exit, Failure> {
    let config = Config { stall_file: args.stall_file.clone(), ..config(&args.appliance)? };
    logging::start(args.log.log_format)?;
    if let Some(stall) = &config.stall_file {
        tracing::warn!(
            "for measurements only: the disk stands still while there is a file {}",
            stall.display()
        );
    }
    // First of all, so that a signal during the start is a soft shutdown too.
    let mut stops = StopRequests::new()?;
    let server = tokio::select! {
        started = Server::start(config) => started.map_err(|error| start_failure(&error))?,
        // A blank appliance may wait for ever, and nothing has begun that could be handed over.
        _ = stops.next() => {
            tracing::info!("stopped before the start was complete");
            return Ok(Exit::Done);
        }
    };
    let handle = server.handle();
    let mut ended = std::pin::pin!(server.wait());
    loop {
        tokio::select! {
            reason = &mut ended => return match reason {
                ExitReason::Stopped => Ok(Exit::Done),
                ExitReason::Fatal(what) => Err(Failure::new(what, "its data is kept; mend the cause and start it again")),
            },
            request = stops.next() => match request {
                StopRequest::Softly => {
                    tracing::info!("shutting down softly");
                    handle.shutdown();
                }
                StopRequest::Impatient => eprintln!("still handing over; Ctrl-C once more ends it at once, like a crash"),
                StopRequest::AtOnce => std::process::exit(Exit::Interrupted as i32),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "cluster = \"demo\"\nappliance = \"A\"\ndata = \"/var/lib/duet\"\n\
        client_listen = \"127.0.0.1:2379\"\npeer_listen = \"127.0.0.1:2380\"\npeer = \"127.0.0.1:3380\"\n\
        witness = \"http://127.0.0.1:7900\"\n";

    fn file(text: &str) -> (tempfile::TempDir, ApplianceArgs) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.toml");
        std::fs::write(&path, text).unwrap();
        (dir, ApplianceArgs { config: Some(path), ..ApplianceArgs::default() })
    }

    #[test]
    fn flags_go_over_the_file_field_by_field() {
        let (_dir, mut args) = file(FILE);
        let from_file = config(&args).unwrap();
        assert_eq!(from_file.cluster, "demo");
        args.cluster = Some("shop".into());
        args.client_listen = Some("127.0.0.1:4444".into());
        let over = config(&args).unwrap();
        assert_eq!((over.cluster.as_str(), over.client_url.as_str()), ("shop", "http://127.0.0.1:4444"));
        assert_eq!(over.peer_listen, from_file.peer_listen);
    }

    #[test]
    fn flags_alone_will_do() {
        let (_dir, args) = file("");
        let alone = ApplianceArgs {
            cluster: Some("demo".into()),
            appliance: Some("B".into()),
            data: Some("/d".into()),
            client_listen: Some("127.0.0.1:1".into()),
            peer_listen: Some("127.0.0.1:2".into()),
            peer: Some("127.0.0.1:3".into()),
            witness: Some("dir:/w".into()),
            ..ApplianceArgs::default()
        };
        assert!(config(&alone).is_ok());
        assert!(config(&ApplianceArgs { config: args.config, ..alone }).is_ok());
    }

    #[test]
    fn mistakes_name_the_flag_or_the_line() {
        let (_dir, mut args) = file(&FILE.replace("\"A\"", "\"C\""));
        let failure = config(&args).unwrap_err();
        assert!(failure.what.contains("a.toml, line 2"), "{}", failure.what);
        assert_eq!(failure.exit, Exit::Usage);
        args.appliance = Some("D".into());
        let failure = config(&args).unwrap_err();
        assert!(failure.what.starts_with("--appliance D: "), "{}", failure.what);
        args.config = Some("/nonexistent/x.toml".into());
        let failure = config(&args).unwrap_err();
        assert_eq!(failure.what, "cannot read /nonexistent/x.toml: it does not exist");
        let failure = config(&ApplianceArgs::default()).unwrap_err();
        assert!(failure.what.contains("missing field"), "{}", failure.what);
    }
}
