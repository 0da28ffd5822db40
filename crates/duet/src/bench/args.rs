//! `duet bench`: its commands, their flags, and the texts of `--help`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use crate::cli::{at_least_one, seconds};

/// `duet bench`
#[derive(Subcommand, Debug)]
pub enum BenchCommand {
    /// Writes: operations a second and latency
    Put(LoadArgs),
    /// Linearizable reads of one key each
    Get(LoadArgs),
    /// Duet beside etcd on this machine: same client, same load, interleaved
    Compare(CompareArgs),
    /// How long writes pause when an appliance is killed, cut off, stopped ..., and whether a write is lost
    Failover(FailoverArgs),
    /// What grows with the data: memory, disk, start, compaction, catching up; and what one more client, watch or lease costs
    Scale(ScaleArgs),
    /// A witness server with very many pairs: start, memory, steady state, a region that comes back at once
    Witness(WitnessLoadArgs),
}

/// `duet bench put`, `duet bench get`
#[derive(Args, Debug, Clone)]
pub struct LoadArgs {
    /// Servers with the etcd v3 API; connections are spread over them
    #[arg(long, value_name = "URL,...", value_delimiter = ',', default_value = "http://127.0.0.1:2379")]
    pub endpoints: Vec<String>,
    /// Concurrent clients, each with one request under way at a time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_one)]
    pub clients: usize,
    /// HTTP/2 connections the clients share [default: one for every 64 clients, and one for each endpoint]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub connections: Option<usize>,
    /// Bytes in a value
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    pub value_size: usize,
    /// Different keys
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = at_least_one)]
    pub keys: usize,
    /// How long to measure
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub seconds: Duration,
    /// How long to run before measuring
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub warmup: Duration,
    /// Open loop: this many operations a second whatever the answers; latency counts from the planned start
    #[arg(long, value_name = "OPS")]
    pub rate: Option<u64>,
    /// A request without an answer for so long is an error
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub timeout: Duration,
    /// (get) Read from whichever server is asked, possibly old data
    #[arg(long)]
    pub serializable: bool,
    /// For machines
    #[arg(long)]
    pub json: bool,
}

/// `duet bench compare`
#[derive(Args, Debug, Clone)]
pub struct CompareArgs {
    /// The etcd to compare with
    #[arg(long, value_name = "PATH", default_value = "etcd")]
    pub etcd: PathBuf,
    /// Numbers of clients
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,64,256", value_parser = at_least_one)]
    pub clients: Vec<usize>,
    /// What to measure
    #[arg(long, value_enum, value_delimiter = ',', default_value = "put,get")]
    pub ops: Vec<Operation>,
    /// Open loop too, but for ranges and watches: so many operations a second, whatever the answers; their latency counts
    /// from the planned start
    #[arg(long, value_name = "OPS,...", value_delimiter = ',', value_parser = rate)]
    pub rate: Vec<u64>,
    /// (watch) Watchers of the same keys; a write is done when all of them have its event
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = at_least_one)]
    pub watchers: usize,
    /// (watch-lag) Watchers of a key each, at half the highest rate of writes
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = at_least_one)]
    pub lag_watchers: usize,
    /// How long each measurement takes
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub seconds: Duration,
    /// How long to run before each measurement
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub warmup: Duration,
    /// How often all is repeated; the medians are compared
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = at_least_one)]
    pub rounds: usize,
    /// Bytes in a value
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    pub value_size: usize,
    /// Different keys
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = at_least_one)]
    pub keys: usize,
    /// Spread the clients over all members [default: all talk to the leader or primary]
    #[arg(long)]
    pub spread: bool,
    /// Which systems; --systems duet needs no etcd
    #[arg(long, value_enum, value_delimiter = ',', default_value = "duet,etcd3,etcd1")]
    pub systems: Vec<SystemName>,
    /// What all measurements share.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `duet bench failover`
#[derive(Args, Debug, Clone)]
pub struct FailoverArgs {
    /// What happens
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "kill,pause,cut,secondary,switchover,soft-stop,hog,stall,stall-secondary"
    )]
    pub kind: Vec<FailureKind>,
    /// How often each happens
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = at_least_one)]
    pub times: usize,
    /// An etcd of three members beside it: the installed one, or that at PATH
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = "etcd")]
    pub etcd: Option<PathBuf>,
    /// Writers, each with one request under way at a time [default: 8; 64 where nothing should fail]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub writers: Option<usize>,
    /// Writes a second, whatever the answers
    #[arg(long, value_name = "OPS", default_value_t = 1_000, value_parser = rate)]
    pub rate: u64,
    /// A request without an answer for so long has failed [default: 0.02; 2 where nothing should fail]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub patience: Option<Duration>,
    /// Bytes in a value
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    pub value_size: usize,
    /// What all measurements share.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `duet bench scale`
#[derive(Args, Debug, Clone)]
pub struct ScaleArgs {
    /// Numbers of keys
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "10000,1000000", value_parser = at_least_one)]
    pub keys: Vec<usize>,
    /// What to measure, besides filling, memory and disk
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "throughput,compaction,start,rejoin,copy,costs"
    )]
    pub parts: Vec<Part>,
    /// A single etcd beside it: the installed one, or that at PATH
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = "etcd")]
    pub etcd: Option<PathBuf>,
    /// Bytes in a value
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    pub value_size: usize,
    /// How long each load takes
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub seconds: Duration,
    /// Writes a second in the foreground of compaction, rejoin and copy
    #[arg(long, value_name = "OPS", default_value_t = 1_000, value_parser = rate)]
    pub rate: u64,
    /// Rest before memory is looked at
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    pub settle: Duration,
    /// (rejoin) How long the secondary is away
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub away: Duration,
    /// (costs) Clients, each with a connection
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = at_least_one)]
    pub connections: usize,
    /// (costs) Watches
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = at_least_one)]
    pub watches: usize,
    /// (costs) Leases
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = at_least_one)]
    pub leases: usize,
    /// What all measurements share.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `duet bench witness`
#[derive(Args, Debug, Clone)]
pub struct WitnessLoadArgs {
    /// Pairs that are registered, each with a record
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = at_least_one)]
    pub pairs: usize,
    /// Pairs that look and write at once, as after a power cut in a region
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = at_least_one)]
    pub burst: usize,
    /// How often each pair looks in steady state [default: as often as appliances do]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub interval: Option<Duration>,
    /// How long steady state is measured
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub seconds: Duration,
    /// What all measurements share.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// What happens to a pair, or to an etcd.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum FailureKind {
    /// The primary's process is killed (SIGKILL)
    Kill,
    /// The primary's process stands still (SIGSTOP), and goes on after the promotion
    Pause,
    /// The primary is cut off in silence from the other, the witness and its clients (not etcd)
    Cut,
    /// The secondary's process is killed
    Secondary,
    /// The secondary becomes primary by order (etcd: move-leader)
    Switchover,
    /// The primary is stopped softly (SIGTERM)
    SoftStop,
    /// All cores are busy with something else for 3 s: nobody should take over
    Hog,
    /// The primary's disk stands still: for 1 s nothing becomes durable there, and nobody should take over (not etcd)
    Stall,
    /// The same of the secondary's disk: it should stay in sync (not etcd)
    StallSecondary,
}

impl FailureKind {
    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Cut => "cut",
            Self::Secondary => "secondary",
            Self::Switchover => "switchover",
            Self::SoftStop => "soft-stop",
            Self::Hog => "hog",
            Self::Stall => "stall",
            Self::StallSecondary => "stall-secondary",
        }
    }

    /// What happens, in words.
    pub const fn words(self, system: SystemName) -> &'static str {
        match (self, system) {
            (Self::Kill, SystemName::Duet) => "primary killed",
            (Self::Kill, _) => "leader killed",
            (Self::Pause, SystemName::Duet) => "primary paused",
            (Self::Pause, _) => "leader paused",
            (Self::Cut, _) => "primary cut off",
            (Self::Secondary, SystemName::Duet) => "secondary killed",
            (Self::Secondary, _) => "follower killed",
            (Self::Switchover, SystemName::Duet) => "switchover",
            (Self::Switchover, _) => "move-leader",
            (Self::SoftStop, SystemName::Duet) => "primary stopped softly",
            (Self::SoftStop, _) => "leader stopped (SIGTERM)",
            (Self::Hog, _) => "all cores busy",
            (Self::Stall, _) => "primary's disk stands still",
            (Self::StallSecondary, _) => "secondary's disk stands still",
        }
    }

    /// Whether no request should fail: somebody wants it, or nothing is broken.
    pub const fn is_planned(self) -> bool {
        match self {
            Self::Switchover | Self::SoftStop | Self::Hog | Self::Stall | Self::StallSecondary => true,
            Self::Kill | Self::Pause | Self::Cut | Self::Secondary => false,
        }
    }

    /// Whether it happens to the secondary, or to a follower.
    pub const fn is_of_secondary(self) -> bool {
        matches!(self, Self::Secondary | Self::StallSecondary)
    }

    /// Whether it needs a disk that can be made to stand still.
    pub const fn stalls(self) -> bool {
        matches!(self, Self::Stall | Self::StallSecondary)
    }

    /// Whether it can be done to a system here.
    pub const fn happens_to(self, system: SystemName) -> bool {
        matches!(system, SystemName::Duet) || !(matches!(self, Self::Cut) || self.stalls())
    }
}

/// A part of `duet bench scale`.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// Writes and reads a second
    Throughput,
    /// How long a compaction takes, and what writers see of it
    Compaction,
    /// From kill -9 of all copies to the first answer
    Start,
    /// (pair) The secondary comes back after --away
    Rejoin,
    /// (pair) The secondary comes back without its data
    Copy,
    /// Memory of a client, a watch, a lease
    Costs,
}

/// Where data and results of a measurement go.
#[derive(Args, Debug, Clone)]
pub struct OutputArgs {
    /// Where data goes; the disk below it is part of what is measured [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Write report.md, report.json and plots (SVG) into this directory
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,
    /// For machines
    #[arg(long)]
    pub json: bool,
}

/// What to measure.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Operation {
    /// Writes
    Put,
    /// Linearizable reads
    Get,
    /// Reads from the server that is asked, possibly of old data
    Serializable,
    /// Transactions: a comparison and a write
    Txn,
    /// Four linearizable reads to a write
    Mixed,
    /// Linearizable reads of 1,000 keys at a time
    Range,
    /// Events a second to --watchers
    Watch,
    /// How late events are at --lag-watchers
    WatchLag,
}

impl Operation {
    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Serializable => "serializable",
            Self::Txn => "txn",
            Self::Mixed => "mixed",
            Self::Range => "range",
            Self::Watch => "watch",
            Self::WatchLag => "watch-lag",
        }
    }

    /// What they are, as the title of a plot.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Put => "Writes",
            Self::Get => "Linearizable reads",
            Self::Serializable => "Serializable reads",
            Self::Txn => "Transactions: compare and write",
            Self::Mixed => "Mixed: four reads to a write",
            Self::Range => "Ranges of 1,000 keys",
            Self::Watch => "Events to watchers of the same keys",
            Self::WatchLag => "Events to watchers of a key each, half the highest rate",
        }
    }

    /// Whether it finds nothing to do without keys written before.
    pub const fn needs_keys(self) -> bool {
        !matches!(self, Self::Put | Self::Watch | Self::WatchLag)
    }
}

/// What is compared.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize)]
pub enum SystemName {
    /// Two appliances and a witness
    #[serde(rename = "Duet pair")]
    Duet,
    /// etcd with three members
    #[serde(rename = "etcd, 3 members")]
    Etcd3,
    /// etcd with one member
    #[serde(rename = "etcd, 1 member")]
    Etcd1,
}

impl SystemName {
    /// What people call it.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Duet => "Duet pair",
            Self::Etcd3 => "etcd, 3 members",
            Self::Etcd1 => "etcd, 1 member",
        }
    }

    /// Its colour in plots: Duet stands out.
    pub const fn colour(self) -> &'static str {
        match self {
            Self::Duet => "#0b6e99",
            Self::Etcd3 => "#e0a458",
            Self::Etcd1 => "#b8c0c8",
        }
    }
}

/// Operations a second; a rate of none would measure nothing.
fn rate(text: &str) -> Result<u64, String> {
    at_least_one(text).map(|rate| rate as u64)
}
