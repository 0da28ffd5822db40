//! Watches the witness's record as an outsider, reading it as often as it can: during a handover it changes twice in a few milliseconds.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use duet_witness::Access;

use crate::error::Failure;
use crate::local::CLUSTER;
use crate::status::{Record, WitnessReader};

/// Between two reads of a record that is watched: shorter than any write of it takes.
const WATCH_INTERVAL: Duration = Duration::from_micros(300);

/// A reader of the demo's record at `url`.
pub fn open(url: &str) -> Result<WitnessReader, Failure> {
    WitnessReader::open(url, CLUSTER, &Access::default())
        .map_err(|reason| Failure::new(format!("the witness {url}: {reason}"), "please report it"))
}

/// Watches the record in the background and keeps each content it had.
pub struct WitnessWatch {
    seen: Arc<Mutex<Vec<Record>>>,
    task: tokio::task::JoinHandle<()>,
}

impl WitnessWatch {
    /// Begins to watch.
    pub fn start(url: &str) -> Result<Self, Failure> {
        let reader = open(url)?;
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
