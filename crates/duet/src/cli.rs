//! The command line: every command, flag and environment variable, and the texts of `--help`.
//!
//! Nothing is carried out here. A command line that cannot be understood becomes a [`Failure`] of two lines.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use duet_witness::server::{MAX_CONNECTIONS, MAX_CONNECTIONS_PER_ADDRESS, PAIR_REQUESTS_PER_SECOND};

use crate::bench::args::BenchCommand;
use crate::error::Failure;
use crate::process::WARDEN_COMMAND;

const AFTER_HELP: &str = "\
Start here:
  duet demo                  two appliances and a witness on this machine, with a guided story

Exit codes:
  0  done                    3  no appliance answered
  1  could not be done       4  (status) appliances answer, none takes writes
                                (witness check: 1 it is no witness, 3 it could not be tested)
  2  wrong command line      130  ended by the user
     or configuration

Environment: DUET_LOG sets the log level of serve and witness (info, debug, duet_server=trace), NO_COLOR turns colours off.";

/// The cluster management database for two machines, with the etcd v3 API.
#[derive(Parser, Debug)]
#[command(name = "duet", version, disable_help_subcommand = true, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands, in the order people need them.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Show it all on this machine: a witness and two appliances, and what happens when they stop, crash and return
    Demo(DemoArgs),
    /// Make a new pair: once, on the first appliance only
    Init(ApplianceArgs),
    /// Run an appliance (SIGTERM or SIGINT: soft shutdown)
    Serve(ServeArgs),
    /// Run a witness server, register its pairs; one serves many pairs; or test any witness
    Witness(WitnessArgs),
    /// Say who is primary, LSN X and Y, what the witness holds, and why an appliance waits
    Status(StatusArgs),
    /// Stop an appliance softly: it hands over, leaves its LSN at the witness, and ends
    Stop(OrderArgs),
    /// Make the secondary primary; both keep running
    Switchover(OrderArgs),
    /// Measure this or any other server with the etcd v3 API
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Print the version
    Version(VersionArgs),
    /// Ends child processes whose parent was killed
    #[command(name = WARDEN_COMMAND, hide = true)]
    Warden,
}

/// `duet demo`
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Play the story, check every step, end; exit code 0 only if every step held
    #[arg(long)]
    pub script: bool,
    /// Keep the data and the logs
    #[arg(long)]
    pub keep: bool,
    /// Where data and logs go; must be empty or not exist [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// The configuration of an appliance: a file, and flags and environment over it.
#[derive(Args, Debug, Default, Clone)]
pub struct ApplianceArgs {
    /// Configuration file (TOML); flags and environment go over it
    #[arg(long, value_name = "FILE", env = "DUET_CONFIG")]
    pub config: Option<PathBuf>,
    /// Name of the pair, the same on both appliances
    #[arg(long, value_name = "NAME", env = "DUET_CLUSTER")]
    pub cluster: Option<String>,
    /// Which of the two this is: A or B
    #[arg(long, value_name = "A|B", env = "DUET_APPLIANCE")]
    pub appliance: Option<String>,
    /// Data directory
    #[arg(long, value_name = "DIR", env = "DUET_DATA")]
    pub data: Option<PathBuf>,
    /// Where clients are served, for example 0.0.0.0:2379
    #[arg(long, value_name = "ADDR", env = "DUET_CLIENT_LISTEN")]
    pub client_listen: Option<String>,
    /// The address clients are told [default: made of --client-listen]
    #[arg(long, value_name = "URL", env = "DUET_CLIENT_URL")]
    pub client_url: Option<String>,
    /// Where the other appliance is listened for, for example 0.0.0.0:2380
    #[arg(long, value_name = "ADDR", env = "DUET_PEER_LISTEN")]
    pub peer_listen: Option<String>,
    /// The other appliance's --peer-listen
    #[arg(long, value_name = "ADDR", env = "DUET_PEER")]
    pub peer: Option<String>,
    /// The witness: http://HOST:PORT, dir:/PATH/ON/A/SHARED/FILE/SYSTEM, s3://, az://, gs:// or etcd://
    #[arg(long, value_name = "URL", env = "DUET_WITNESS")]
    pub witness: Option<String>,
    /// File with the pair's token at a witness server; the token itself may be in DUET_WITNESS_TOKEN instead
    #[arg(long, value_name = "FILE", env = "DUET_WITNESS_TOKEN_FILE")]
    pub witness_token_file: Option<PathBuf>,
    /// How users log in, as in etcd: simple, or jwt,pub-key=FILE,priv-key=FILE,sign-method=RS256,ttl=10m [default: simple]
    #[arg(long, value_name = "SPEC", env = "DUET_AUTH_TOKEN")]
    pub auth_token: Option<String>,
    /// Seconds after which an unused simple token ends [default: 300]
    #[arg(long, value_name = "SECONDS", env = "DUET_AUTH_TOKEN_TTL")]
    pub auth_token_ttl: Option<u64>,
    /// Cost of a new password's bcrypt hash [default: 10]
    #[arg(long, value_name = "4..31", env = "DUET_BCRYPT_COST")]
    pub bcrypt_cost: Option<u32>,
    /// Bytes that the data may take, then the alarm NOSPACE is raised; 0: 2 GiB, negative: no limit
    #[arg(long, value_name = "BYTES", env = "DUET_QUOTA_BACKEND_BYTES", allow_negative_numbers = true)]
    pub quota_backend_bytes: Option<i64>,
    /// Largest request in bytes [default: 1572864]
    #[arg(long, value_name = "BYTES", env = "DUET_MAX_REQUEST_BYTES")]
    pub max_request_bytes: Option<u64>,
    /// Most operations in each part of a transaction [default: 128]
    #[arg(long, value_name = "NUMBER", env = "DUET_MAX_TXN_OPS")]
    pub max_txn_ops: Option<u64>,
    /// Streams that one connection may have open [default: 16384]
    #[arg(long, value_name = "NUMBER", env = "DUET_MAX_CONCURRENT_STREAMS")]
    pub max_concurrent_streams: Option<u64>,
    /// After this time of quiet a connection is asked whether it still lives [default: 10s]
    #[arg(long, value_name = "TIME", env = "DUET_GRPC_KEEPALIVE_INTERVAL")]
    pub grpc_keepalive_interval: Option<String>,
    /// A connection that does not answer for this time is closed [default: 20s]
    #[arg(long, value_name = "TIME", env = "DUET_GRPC_KEEPALIVE_TIMEOUT")]
    pub grpc_keepalive_timeout: Option<String>,
    /// What --auto-compaction-retention counts: periodic or revision [default: periodic]
    #[arg(long, value_name = "MODE", env = "DUET_AUTO_COMPACTION_MODE")]
    pub auto_compaction_mode: Option<String>,
    /// History that is kept when it is compacted by itself: hours, a time (30m), or revisions; 0: it is not [default: 0]
    #[arg(long, value_name = "AMOUNT", env = "DUET_AUTO_COMPACTION_RETENTION")]
    pub auto_compaction_retention: Option<String>,
}

/// `duet serve`
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// The appliance.
    #[command(flatten)]
    pub appliance: ApplianceArgs,
    /// The log.
    #[command(flatten)]
    pub log: LogArgs,
    /// For `duet bench failover`: the disk stands still while there is a file here
    #[arg(long, value_name = "PATH", hide = true)]
    pub stall_file: Option<PathBuf>,
}

/// How to log.
#[derive(Args, Debug, Clone, Copy)]
pub struct LogArgs {
    /// Form of the log on standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text, env = "DUET_LOG_FORMAT")]
    pub log_format: LogFormat,
}

/// Form of the log.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// For people
    Text,
    /// For machines: one JSON object a line
    Json,
}

/// `duet witness`
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct WitnessArgs {
    /// Something else than to serve.
    #[command(subcommand)]
    pub command: Option<WitnessCommand>,
    /// Where appliances reach it
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7900", env = "DUET_WITNESS_LISTEN")]
    pub listen: String,
    /// Data directory
    #[arg(long, value_name = "DIR", env = "DUET_WITNESS_DATA", required = true)]
    pub data: Option<PathBuf>,
    /// Serve pairs that are not registered too, from wherever they come [default: on loopback only]
    #[arg(long, env = "DUET_WITNESS_OPEN")]
    pub open: bool,
    /// Serve registered pairs only, on loopback too
    #[arg(long, conflicts_with = "open")]
    pub closed: bool,
    /// Connections at a time; 13 KiB of memory each
    #[arg(long, value_name = "N", default_value_t = MAX_CONNECTIONS, value_parser = at_least_one)]
    pub max_connections: usize,
    /// Connections at a time from one address; loopback is not counted
    #[arg(long, value_name = "N", default_value_t = MAX_CONNECTIONS_PER_ADDRESS, value_parser = at_least_one)]
    pub max_connections_per_address: usize,
    /// Requests a second that a registered pair may make in the long run
    #[arg(long, value_name = "N", default_value_t = PAIR_REQUESTS_PER_SECOND, value_parser = clap::value_parser!(u32).range(1..))]
    pub pair_requests: u32,
    /// The log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Orders and questions to a witness.
#[derive(Subcommand, Debug)]
pub enum WitnessCommand {
    /// Test a witness of any kind before it is relied on: does it compare and set, how fast, what is not allowed
    Check(CheckArgs),
    /// Register a pair: prints its token, which is kept nowhere else
    Add(PairArgs),
    /// Print a new token for a pair; the one before holds until `end-old`
    Rotate(RotateArgs),
    /// End the token before the newest
    EndOld(PairArgs),
    /// Register a pair no more, and remove its record
    Remove(PairArgs),
    /// List the pairs and when they were here last
    List(ListArgs),
    /// Write tokens and records into one file, while the witness serves or not
    Backup(BackupArgs),
    /// Make a data directory out of a backup
    Restore(RestoreArgs),
    /// Say how a witness server is: pairs, answers, connections, disk
    Status(WitnessStatusArgs),
}

/// The data of a witness: its server is reached through it.
#[derive(Args, Debug, Clone)]
pub struct WitnessDataArgs {
    /// Data directory of the witness, on this machine
    #[arg(long, value_name = "DIR", env = "DUET_WITNESS_DATA")]
    pub data: PathBuf,
}

/// `duet witness add`, `remove`, `end-old`
#[derive(Args, Debug)]
pub struct PairArgs {
    /// Name of the pair, as in its configuration
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Where.
    #[command(flatten)]
    pub at: WitnessDataArgs,
}

/// `duet witness rotate`
#[derive(Args, Debug)]
pub struct RotateArgs {
    /// Which pair.
    #[command(flatten)]
    pub pair: PairArgs,
    /// End all older tokens at once: somebody else has one
    #[arg(long)]
    pub now: bool,
}

/// `duet witness list`
#[derive(Args, Debug)]
pub struct ListArgs {
    /// Where.
    #[command(flatten)]
    pub at: WitnessDataArgs,
    /// For machines
    #[arg(long)]
    pub json: bool,
}

/// `duet witness backup`
#[derive(Args, Debug)]
pub struct BackupArgs {
    /// The file to write
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Where.
    #[command(flatten)]
    pub at: WitnessDataArgs,
}

/// `duet witness restore`
#[derive(Args, Debug)]
pub struct RestoreArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Where.
    #[command(flatten)]
    pub at: WitnessDataArgs,
    /// Restore the records too. Only if the old witness was stopped before the backup was made and never ran again: an old
    /// record may let an appliance serve that lacks writes
    #[arg(long)]
    pub with_records: bool,
}

/// `duet witness status`
#[derive(Args, Debug)]
pub struct WitnessStatusArgs {
    /// The witness server: http://HOST:PORT
    #[arg(value_name = "URL")]
    pub url: String,
    /// For machines
    #[arg(long)]
    pub json: bool,
}

/// `duet witness check`
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// The witness, as in an appliance's configuration; secrets come from files or the environment
    #[arg(value_name = "URL")]
    pub url: String,
    /// Read the record of this pair, too
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// File with a token for a witness server
    #[arg(long, value_name = "FILE", env = "DUET_WITNESS_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// For machines
    #[arg(long)]
    pub json: bool,
}

/// Where the appliances are.
#[derive(Args, Debug, Clone)]
pub struct EndpointArgs {
    /// Client address of an appliance; give it twice for both [default: http://127.0.0.1:2379]
    #[arg(long = "endpoint", value_name = "URL", env = "DUET_ENDPOINTS", value_delimiter = ',')]
    pub endpoints: Vec<String>,
    /// Take the address from an appliance's configuration file
    #[arg(long, value_name = "FILE", env = "DUET_CONFIG", conflicts_with = "endpoints")]
    pub config: Option<PathBuf>,
}

/// `duet status`
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// Whom to ask.
    #[command(flatten)]
    pub endpoints: EndpointArgs,
    /// For machines
    #[arg(long)]
    pub json: bool,
    /// Show it again and again until Ctrl-C
    #[arg(long)]
    pub watch: bool,
}

/// `duet stop`, `duet switchover`
#[derive(Args, Debug)]
pub struct OrderArgs {
    /// Whom to ask.
    #[command(flatten)]
    pub endpoints: EndpointArgs,
    /// How long to wait for it to be done
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub timeout: Duration,
}

/// `duet version`
#[derive(Args, Debug)]
pub struct VersionArgs {
    /// For machines
    #[arg(long)]
    pub json: bool,
}

pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "a number of seconds is needed, for example 5 or 0.5".to_owned())
}

pub(crate) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("a whole number from 1 on is needed".to_owned()),
    }
}

/// What a command line comes to.
#[derive(Debug)]
pub enum Parsed {
    /// Something to carry out.
    Run(Box<Cli>),
    /// Something to print: help or version.
    Print(String),
}

/// Reads a command line; `args` begins with the program's name.
pub fn parse<I, T>(args: I) -> Result<Parsed, Failure>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString>,
{
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    match Cli::try_parse_from(&args) {
        Ok(cli) => Ok(Parsed::Run(Box::new(cli))),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                Ok(Parsed::Print(format!("{}\n", error.render().to_string().trim_end())))
            }
            _ => Err(in_two_lines(&error, &command_in(&args))),
        },
    }
}

/// clap's report, cut down to what happened and what to do.
fn in_two_lines(error: &clap::Error, command: &str) -> Failure {
    let help = format!("see: {command} --help");
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        || error.kind() == ErrorKind::MissingSubcommand
    {
        let remedy = if command == "duet" { "try: duet demo, or see: duet --help".to_owned() } else { help };
        return Failure::usage(format!("{command} needs a command"), remedy);
    }
    let text = error.render().to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let what = first.trim_start_matches("error: ").split_whitespace().collect::<Vec<_>>().join(" ");
    let suggestion =
        [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue]
            .into_iter()
            .find_map(|kind| error.get(kind).and_then(first_string));
    let remedy = match suggestion {
        Some(suggestion) => format!("did you mean {suggestion}? {help}"),
        None => help,
    };
    Failure::usage(what, remedy)
}

fn first_string(value: &ContextValue) -> Option<String> {
    match value {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => texts.first().cloned(),
        _ => None,
    }
}

/// The command that the arguments begin with: "duet bench put".
fn command_in(args: &[OsString]) -> String {
    let root = Cli::command();
    let (mut command, mut names) = (&root, vec!["duet"]);
    for arg in args.iter().skip(1) {
        let Some(next) = arg.to_str().and_then(|name| command.find_subcommand(name)) else { break };
        names.push(next.get_name());
        command = next;
    }
    names.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    /// Arguments, what is said, what is advised.
    const WRONG: [(&[&str], &str, &str); 12] = [
        (&["duet"], "duet needs a command", "try: duet demo, or see: duet --help"),
        (&["duet", "bench"], "duet bench needs a command", "see: duet bench --help"),
        (&["duet", "sever"], "unrecognized subcommand 'sever'", "did you mean serve? see: duet --help"),
        (
            &["duet", "serve", "--dta", "x"],
            "unexpected argument '--dta' found",
            "did you mean --data? see: duet serve --help",
        ),
        (&["duet", "demo", "now"], "unexpected argument 'now' found", "see: duet demo --help"),
        (
            &["duet", "witness"],
            "the following required arguments were not provided: --data <DIR>",
            "see: duet witness --help",
        ),
        (
            &["duet", "serve", "--log-format", "xml"],
            "invalid value 'xml' for '--log-format <LOG_FORMAT>' [possible values: text, json]",
            "see: duet serve --help",
        ),
        (
            &["duet", "bench", "put", "--clients", "0"],
            "invalid value '0' for '--clients <N>': a whole number from 1 on is needed",
            "see: duet bench put --help",
        ),
        (
            &["duet", "bench", "get", "--seconds", "soon"],
            "invalid value 'soon' for '--seconds <SECONDS>': a number of seconds is needed, for example 5 or 0.5",
            "see: duet bench get --help",
        ),
        (&["duet", "stop", "--timeout", "-1"], "unexpected argument '-1' found", "see: duet stop --help"),
        (
            &["duet", "status", "--endpoint", "http://h:1", "--config", "f"],
            "the argument '--endpoint <URL>' cannot be used with '--config <FILE>'",
            "see: duet status --help",
        ),
        (
            &["duet", "demo", "--dir"],
            "a value is required for '--dir <DIR>' but none was supplied",
            "see: duet demo --help",
        ),
    ];

    #[test]
    fn a_wrong_command_line_is_told_in_two_lines_and_code_2() {
        for (args, what, remedy) in WRONG {
            let failure = parse(args).expect_err(&args.join(" "));
            assert_eq!((failure.what.as_str(), failure.remedy.as_str()), (what, remedy), "{args:?}");
            assert_eq!(failure.exit as u8, 2, "{args:?}");
        }
    }

    #[test]
    fn help_and_version_are_no_errors() {
        for args in [&["duet", "--help"][..], &["duet", "serve", "--help"], &["duet", "--version"]] {
            assert!(matches!(parse(args), Ok(Parsed::Print(_))), "{args:?}");
        }
        let Ok(Parsed::Print(help)) = parse(["duet", "--help"]) else { panic!("help") };
        assert!(help.contains("Exit codes") && !help.contains("warden"), "{help}");
    }
}
