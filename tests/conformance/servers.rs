//! A real etcd and a pair, side by side.

use std::path::PathBuf;
use std::time::Duration;

use duet::bench::etcd::{EtcdCluster, version};
use duet::process::Launcher;
use tonic::transport::{Channel, Endpoint};

use crate::harness::{A, B, Pair, Witness};

/// Names another etcd than the one that is installed.
const ETCD: &str = "DUET_TEST_ETCD_SERVER";

/// Makes a missing etcd a failure.
const REQUIRED: &str = "DUET_TEST_REQUIRE_ETCD";

/// Longer than any one call takes: no answer is a difference, not an endless test.
pub const CALL: Duration = Duration::from_secs(30);

/// The first version whose behaviour Duet has throughout.
pub const TARGET: Version = Version(3, 5, 0);

/// The first ones of 3.5: they name a refused watch otherwise than those before and after, let anybody compact, and forget the
/// deletion at whose revision they compact.
const EARLY: std::ops::RangeInclusive<Version> = TARGET..=Version(3, 5, 1);

/// Major, minor and patch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Version(u32, u32, u32);

impl Version {
    fn parse(text: &str) -> Version {
        let numbers: Vec<u32> = text.split('.').map(|number| number.parse().expect("a number")).collect();
        let [major, minor, patch] = numbers[..] else { panic!("not a version: {text}") };
        Version(major, minor, patch)
    }
}

/// Both, running.
pub struct Servers {
    _pair: Pair,
    _etcd: EtcdCluster,
    /// What the etcd is.
    pub version: Version,
    /// Channels to the one etcd member.
    pub etcd: Vec<Channel>,
    /// Channels to the two appliances: calls go to one and the other in turn.
    pub duet: Vec<Channel>,
}

fn etcd() -> PathBuf {
    std::env::var_os(ETCD).map_or_else(|| "etcd".into(), PathBuf::from)
}

fn channel(url: &str) -> Channel {
    Endpoint::from_shared(url.to_owned()).unwrap().connect_lazy()
}

impl Servers {
    /// Whether the etcd is one of the first of 3.5.
    pub fn is_early(&self) -> bool {
        EARLY.contains(&self.version)
    }

    /// Starts both with empty stores; nothing, with a word, where there is no etcd.
    pub async fn start() -> Option<Servers> {
        Self::start_with(&[], &[]).await
    }

    /// The same with lines for Duet's configuration files and flags for etcd.
    pub async fn start_with(lines: &[&str], flags: &[&str]) -> Option<Servers> {
        let etcd = etcd();
        let version = match version(&etcd) {
            Ok(version) => version,
            Err(failure) => {
                assert!(std::env::var_os(REQUIRED).is_none(), "{REQUIRED} is set, but: {failure:?}");
                println!("skipped: {failure:?}");
                return None;
            }
        };
        println!("compared with etcd {version}");
        let mut pair = Pair::lay_out(Witness::Server).await;
        for line in lines {
            pair.configure(line);
        }
        pair.start_new().await;
        let launcher = Launcher::new(env!("CARGO_BIN_EXE_duet")).unwrap();
        let cluster =
            EtcdCluster::start_with(&launcher, &etcd, &pair.dir().join("etcd"), 1, flags).await.unwrap();
        Some(Servers {
            version: Version::parse(&version),
            etcd: cluster.urls().iter().map(|url| channel(url)).collect(),
            duet: [A, B].map(|appliance| channel(&pair.client_url(appliance))).into(),
            _etcd: cluster,
            _pair: pair,
        })
    }
}
