//! Reads the witness's record as an outsider, as often as it can: during a handover it changes twice in a few milliseconds.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use duet_server::status_report::record_as_json;
use duet_witness::{ClusterName, ReadOutcome, Register};

use crate::error::Failure;
use crate::local::CLUSTER;
use crate::status::Record;

/// Between two reads of a record that is watched: shorter than any write of it takes.
const WATCH_INTERVAL: Duration = Duration::from_micros(300);

/// A reader of the record.
pub struct WitnessReader {
    register: Box<dyn Register>,
    name: ClusterName,
}

impl WitnessReader {
    /// A reader of the demo's record at `url`.
    pub fn open(url: &str) -> Result<Self, Failure> {
        let failed =
            |reason: String| Failure::new(format!("the witness {url}: {reason}"), "please report it");
        let name: ClusterName = CLUSTER.parse().map_err(|error| failed(format!("{error}")))?;
        let register = duet_witness::open(url, CLUSTER).map_err(|error| failed(error.to_string()))?;
        Ok(Self { register, name })
    }

    /// The record as it is now.
    pub async fn read(&self) -> Result<Record, String> {
        match self.register.read().await {
            ReadOutcome::Record { bytes, .. } => {
                let record =
                    duet_witness::record::decode(&self.name, None, &bytes).map_err(|e| e.to_string())?;
                serde_json::from_value(record_as_json(&record))
                    .map_err(|_| "the record has another form".into())
            }
            ReadOutcome::Absent => Err("the witness holds no record".into()),
            ReadOutcome::Unknown(reason) => Err(reason.to_string()),
        }
    }
}

/// Watches the record in the background and keeps each content it had.
pub struct WitnessWatch {
    seen: Arc<Mutex<Vec<Record>>>,
    task: tokio::task::JoinHandle<()>,
}

impl WitnessWatch {
    /// Begins to watch.
    pub fn start(url: &str) -> Result<Self, Failure> {
        let reader = WitnessReader::open(url)?;
        let seen = Arc::new(Mutex::new(Vec::<Record>::new()));
        let into = seen.clone();
        let task = tokio::spawn(async move {
            loop {
                if let Ok(record) = reader.read().await {
                    let mut seen = into.lock().unwrap_or_else(PoisonError::into_inner);
                    if seen.last().is_none_or(|last| last.revision != record.revision) {
                        seen.push(record);
                    }
                }
                tokio::time::sleep(WATCH_INTERVAL).await;
            }
        });
        Ok(Self { seen, task })
    }

    /// Every content so far, in order.
    pub fn seen(&self) -> Vec<Record> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for WitnessWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
