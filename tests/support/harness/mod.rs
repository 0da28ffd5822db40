//! A pair on this machine as the tests need it: with either kind of witness, with lines that can be cut, and with words
//! for everything that can happen to an appliance.
//!
//! Every process is a [`Running`]: dropping the [`Pair`] kills them all, and a warden does if this process is killed.

mod appliances;
mod binary;
mod config;
mod ledger;
mod lines;
mod place;
mod port;
mod seen;
mod witness;

use std::path::{Path, PathBuf};
use std::time::Duration;

use duet::process::Running;
use duet_protocol::{ApplianceId, PerAppliance};
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::client::Client;
use super::proxy::Proxy;
use super::tap::Tap;
use port::Port;

pub use ledger::Ledger;
pub use place::{Place, Places};

pub use duet_protocol::ApplianceId::{A, B};

/// Name of every pair here; they do not meet.
pub const CLUSTER: &str = "claims";
/// How long anything may take before a test gives up. Far above any time that is promised: a busy machine is no failure.
pub const PATIENCE: Duration = Duration::from_secs(40);
/// Between two looks of a wait.
const POLL: Duration = Duration::from_millis(10);
/// How long an appliance may take to tell its status.
const STATUS_DEADLINE: Duration = Duration::from_secs(1);
/// Pairs that run at the same time in this process: they mostly wait, so somewhat more than there are cores.
const PAIRS_AT_ONCE: usize = 4;

static SLOTS: Semaphore = Semaphore::const_new(PAIRS_AT_ONCE);

/// The kinds of witness that every claim is tried with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Witness {
    /// `duet witness`.
    Server,
    /// A directory on a shared file system.
    Directory,
}

/// Runs a test to its end on a runtime of its own.
pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(test);
    runtime.shutdown_background();
}

/// For each `async fn claim(witness: Witness)` two tests: `claim::with_witness_server` and `claim::with_witness_directory`.
macro_rules! with_both_witnesses {
    ($($claim:ident),+ $(,)?) => {$(
        mod $claim {
            use $crate::harness::{Witness, run};

            #[test]
            fn with_witness_server() {
                run(super::$claim(Witness::Server));
            }

            #[test]
            fn with_witness_directory() {
                run(super::$claim(Witness::Directory));
            }
        }
    )+};
}
pub(crate) use with_both_witnesses;
struct Ports {
    client: Port,
    peer: Port,
}

/// What stands between an appliance and the rest of the world, if the test asked for it.
struct Lines {
    /// From this appliance to its peer.
    peer: Proxy,
    /// From this appliance to the witness server.
    witness: Option<Proxy>,
    /// From the other appliance to this one's client port, for what it passes on.
    forwarded: Proxy,
}

/// Two appliances and a witness.
pub struct Pair {
    witness: Witness,
    /// The URL of a witness that the test itself runs.
    own_witness: Option<String>,
    places: Places,
    dir: PathBuf,
    ports: PerAppliance<Ports>,
    witness_port: Port,
    witness_process: Option<Running>,
    witness_generation: u32,
    appliances: PerAppliance<Option<Running>>,
    environment: PerAppliance<Vec<(String, String)>>,
    /// Further lines of the configuration files.
    extra: String,
    lines: Option<PerAppliance<Lines>>,
    tap: Option<Tap>,
    clients: PerAppliance<Client>,
    _temporary: TempDir,
    _slot: SemaphorePermit<'static>,
}

impl Pair {
    /// Ports, directories and configuration files; nothing runs yet but the witness.
    pub async fn lay_out(witness: Witness) -> Self {
        Self::lay_out_at(witness, Places::default()).await
    }

    /// The same with the processes elsewhere.
    pub async fn lay_out_at(witness: Witness, places: Places) -> Self {
        let slot = SLOTS.acquire().await.unwrap();
        let temporary = TempDir::with_prefix("duet-claims-").unwrap();
        let dir = temporary.path().canonicalize().unwrap();
        let ports = || Ports { client: Port::reserve(), peer: Port::reserve() };
        let ports = PerAppliance { a: ports(), b: ports() };
        let client = |place: &Place, ports: &Ports| {
            Client::new(&format!("http://{}:{}", place.host, ports.client.number))
        };
        let mut pair = Self {
            witness,
            own_witness: None,
            clients: PerAppliance { a: client(&places.a, &ports.a), b: client(&places.b, &ports.b) },
            places,
            ports,
            witness_port: Port::reserve(),
            witness_process: None,
            witness_generation: 0,
            appliances: PerAppliance { a: None, b: None },
            environment: PerAppliance { a: Vec::new(), b: Vec::new() },
            extra: String::new(),
            lines: None,
            tap: None,
            dir,
            _temporary: temporary,
            _slot: slot,
        };
        for appliance in ApplianceId::ALL {
            let link = pair.witness_link(appliance);
            if witness == Witness::Directory {
                std::os::unix::fs::symlink(pair.witness_data(), link).unwrap();
            }
            pair.write_config(appliance);
        }
        pair.start_witness().await;
        pair
    }

    /// The same with lines that can be cut.
    pub async fn lay_out_with_lines(witness: Witness) -> Self {
        let mut pair = Self::lay_out(witness).await;
        let lines = async |appliance: ApplianceId| Lines {
            peer: Proxy::start(pair.ports.get(appliance.peer()).peer.number).await.unwrap(),
            witness: match witness {
                Witness::Server => Some(Proxy::start(pair.witness_port.number).await.unwrap()),
                Witness::Directory => None,
            },
            forwarded: Proxy::start(pair.ports.get(appliance).client.number).await.unwrap(),
        };
        let lines = PerAppliance { a: lines(A).await, b: lines(B).await };
        pair.lines = Some(lines);
        pair.write_configs();
        pair
    }

    /// A witness, a new pair, both in sync, A primary.
    pub async fn start(witness: Witness) -> Self {
        let mut pair = Self::lay_out(witness).await;
        pair.start_new().await;
        pair
    }

    /// The same with lines that can be cut.
    pub async fn start_with_lines(witness: Witness) -> Self {
        let mut pair = Self::lay_out_with_lines(witness).await;
        pair.start_new().await;
        pair
    }

    /// Makes the pair and starts both, A as primary.
    pub async fn start_new(&mut self) {
        self.init(A).await;
        self.start_appliance(A).await;
        self.until_primary(A).await;
        self.start_appliance(B).await;
        self.until_in_sync().await;
    }
}

/// "a" or "b".
pub fn letter(appliance: ApplianceId) -> String {
    appliance.to_string().to_lowercase()
}

/// Copies a directory with all below it. A socket that a killed process has left is nothing to copy.
pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy_dir(&entry.path(), &to);
        } else if kind.is_file() {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
