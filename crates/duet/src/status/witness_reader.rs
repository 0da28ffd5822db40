//! Reads a pair's record at its witness as an outsider. Reading changes nothing, and the witness does not mind.

use duet_server::status_report::record_as_json;
use duet_witness::{Access, ClusterName, ReadOutcome, Register};

use super::Record;
use crate::error::without_numbers;

/// A reader of one pair's record.
pub struct WitnessReader {
    register: Box<dyn Register>,
    name: ClusterName,
}

impl WitnessReader {
    /// A reader of the record of `cluster` at `location`; connects later.
    pub fn open(location: &str, cluster: &str, access: &Access) -> Result<Self, String> {
        let name: ClusterName = cluster.parse().map_err(|error| format!("{error}"))?;
        let register = duet_witness::open(location, cluster, access).map_err(|error| error.to_string())?;
        Ok(Self { register, name })
    }

    /// The record as it is now.
    pub async fn read(&self) -> Result<Record, String> {
        match self.register.read().await {
            ReadOutcome::Record { bytes, .. } => {
                let record = duet_witness::record::decode(&self.name, None, &bytes)
                    .map_err(|error| error.to_string())?;
                serde_json::from_value(record_as_json(&record))
                    .map_err(|_| "the record has another form".into())
            }
            ReadOutcome::Absent => Err("the witness holds no record of this pair".into()),
            ReadOutcome::Unknown(reason) => Err(without_numbers(&reason.to_string())),
        }
    }
}
