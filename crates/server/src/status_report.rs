//! What `duet status` and `GET /duet/v1/status` tell: one stable JSON document.
//!
//! Field names are part of the interface: they may be added to, never renamed.

use duet_protocol::{Conf, Position, WitnessRecord};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Everything a person or a tool may know of one appliance.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools)] // a report, not a state machine
pub struct StatusReport {
    /// The pair.
    pub cluster: ClusterReport,
    /// "A" or "B".
    pub appliance: String,
    /// starting, secondary, elect, primary, offering or stopped.
    pub role: String,
    /// For how long it has had that role, in milliseconds.
    pub since_ms: u64,
    /// Whether it takes writes and answers linearizable reads now.
    pub serving: bool,
    /// Its own last LSN.
    pub lsn: u64,
    /// Epoch of its last entry.
    pub epoch: u64,
    /// Digest of its history, 32 hexadecimal digits.
    pub digest: String,
    /// Its log is durable up to here.
    pub flushed: u64,
    /// Known to be committed up to here.
    pub committed: u64,
    /// Applied up to here.
    pub applied: u64,
    /// The data's revision (etcd's sense).
    pub revision: i64,
    /// The newest configuration known to be in force.
    pub conf: Option<ConfReport>,
    /// A newer one it has agreed to and does not know to be in force.
    pub tent: Option<ConfReport>,
    /// One it has proposed.
    pub pending: Option<ConfReport>,
    /// Highest epoch known.
    pub max_epoch: u64,
    /// Whether it left its position at the witness under its present configuration.
    pub parted: bool,
    /// The other appliance.
    pub peer: PeerReport,
    /// The witness.
    pub witness: WitnessReport,
    /// Why it waits, in one sentence.
    pub waiting: Option<String>,
    /// What it decided last, in one sentence.
    pub explanation: Option<String>,
    /// It is shutting down.
    pub leaving: bool,
    /// Its disk is known to have lost writes.
    pub damaged: bool,
    /// Version of the program.
    pub version: String,
    /// Where its data is.
    pub data_dir: String,
    /// Identity of its data directory, 32 hexadecimal digits.
    pub disk: String,
    /// Where its clients reach it.
    pub client_url: String,
}

/// Name and identity of the pair.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ClusterReport {
    /// Chosen by the operator.
    pub name: String,
    /// Drawn at random, 16 hexadecimal digits.
    pub id: String,
}

/// A configuration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConfReport {
    /// Its number.
    pub epoch: u64,
    /// "A" or "B".
    pub primary: String,
    /// Who is in sync: "A", "B" or both.
    pub in_sync: Vec<String>,
}

/// The other appliance, as far as this one knows.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct PeerReport {
    /// A connection is there.
    pub connected: bool,
    /// Its last LSN as far as known.
    pub lsn: Option<u64>,
    /// Epoch of its last entry as far as known.
    pub epoch: Option<u64>,
    /// Entries the secondary lacks: of the peer as seen by the primary, of this one as seen by a secondary.
    pub lag: Option<u64>,
    /// As primary: the peer's log is durable and equal up to here.
    pub matched: u64,
    /// How long ago it was last heard of, in milliseconds.
    pub heard_ms_ago: Option<u64>,
    /// It said that it is shutting down.
    pub leaving: bool,
    /// It is receiving a full copy from here.
    pub copying: bool,
    /// How far that has come.
    #[serde(default)]
    pub copy: Option<CopyReport>,
    /// Where its clients reach it.
    pub client_url: Option<String>,
    /// Why there is no connection, or what is wrong with it.
    pub error: Option<String>,
}

/// A copy on its way to the peer.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CopyReport {
    /// Bytes of rows that have left.
    pub bytes: u64,
    /// Bytes of all rows.
    pub of: u64,
    /// Bytes a second since this copy began.
    pub bytes_per_second: u64,
    /// Until the last row leaves, in seconds; `None` while nothing is known.
    pub seconds_left: Option<u64>,
}

/// The witness, as far as this appliance knows.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct WitnessReport {
    /// What sort it is: "server" or "directory".
    pub kind: String,
    /// Where it is.
    pub location: String,
    /// Whether the last request was answered.
    pub reachable: bool,
    /// What went wrong last, while it is not reachable.
    pub error: Option<String>,
    /// The record as last read.
    pub record: Option<Value>,
    /// How long ago it was read, in milliseconds.
    pub read_ms_ago: Option<u64>,
}

impl ConfReport {
    /// `None` for no configuration.
    pub fn of(conf: &Conf) -> Option<Self> {
        (!conf.is_none()).then(|| Self {
            epoch: conf.epoch().0,
            primary: conf.primary().to_string(),
            in_sync: duet_protocol::ApplianceId::ALL
                .into_iter()
                .filter(|appliance| conf.members().get(*appliance).is_some())
                .map(|appliance| appliance.to_string())
                .collect(),
        })
    }
}

/// A witness record in words people can read.
pub fn record_as_json(record: &WitnessRecord) -> Value {
    let note = |note: &Option<duet_protocol::Note>| {
        note.as_ref().map(|note| {
            let mut value = position_as_json(&note.position);
            value["was_primary"] = Value::Bool(note.was_primary);
            value
        })
    };
    json!({
        "cluster": record.cluster.to_string(),
        "revision": record.revision,
        "writer": record.writer.to_string(),
        "conf": ConfReport::of(&record.conf),
        "part": record.part.as_ref().map(position_as_json),
        "floor": { "A": record.floor.a.0, "B": record.floor.b.0 },
        "left": { "A": note(&record.left.a), "B": note(&record.left.b) },
    })
}

fn position_as_json(position: &Position) -> Value {
    json!({ "lsn": position.lsn.0, "epoch": position.epoch.0, "digest": position.digest.to_string() })
}
