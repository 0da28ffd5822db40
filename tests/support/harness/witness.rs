//! The witness: started, stopped, emptied, set back, and read.

use std::path::{Path, PathBuf};
use std::time::Instant;

use duet::process::Running;
use duet_protocol::{ApplianceId, WitnessRecord};
use duet_witness::{Access, ReadOutcome, Register};

use super::super::tap::Tap;
use super::binary::launcher;
use super::{CLUSTER, PATIENCE, POLL, Pair, Witness, copy_dir, letter};

impl Pair {
    pub(super) fn witness_data(&self) -> PathBuf {
        self.dir.join("witness")
    }

    /// What an appliance's configuration names as the witness directory: a symbolic link, the test's way to "unmount" it.
    pub(super) fn witness_link(&self, appliance: ApplianceId) -> PathBuf {
        self.dir.join(format!("witness-as-{}-sees-it", letter(appliance)))
    }

    pub(super) fn witness_url(&self) -> String {
        if let Some(url) = &self.own_witness {
            return url.clone();
        }
        match self.witness {
            Witness::Server => format!("http://{}:{}", self.places.witness.host, self.witness_port.number),
            Witness::Directory => format!("dir:{}", self.witness_data().display()),
        }
    }

    /// Puts a tap on the witness server, for both appliances; before the pair is started.
    pub async fn tap_witness(&mut self) -> Tap {
        assert_eq!(self.witness, Witness::Server, "a directory has no line to tap");
        let tap = Tap::start(self.witness_port.number, CLUSTER).await;
        self.tap = Some(tap.clone());
        self.write_configs();
        tap
    }

    /// Starts the witness, or mounts it again.
    pub async fn start_witness(&mut self) {
        match self.witness {
            Witness::Server => {
                let listen = format!("{}:{}", self.places.witness.host, self.witness_port.number);
                let data = self.witness_data().display().to_string();
                let program = self.program(
                    &self.places.witness,
                    "the witness",
                    "witness.log",
                    // Open: in the namespaces it does not listen on loopback.
                    &["witness", "--open", "--listen", &listen, "--data", &data],
                );
                let mut running = launcher().start(&program).unwrap();
                let start = Instant::now();
                while tokio::net::TcpStream::connect(&listen).await.is_err() {
                    let ended = running.ended().is_some();
                    assert!(
                        !ended && start.elapsed() < PATIENCE,
                        "the witness does not start: {}",
                        running.output()
                    );
                    tokio::time::sleep(POLL).await;
                }
                self.witness_process = Some(running);
            }
            Witness::Directory => {
                let (away, here) = (self.dir.join("witness-away"), self.witness_data());
                if away.exists() {
                    std::fs::rename(away, here).unwrap();
                } else {
                    std::fs::create_dir_all(&here).unwrap();
                    duet_witness::directory::prepare(&here).unwrap();
                }
            }
        }
    }

    /// Kills the witness server, or unmounts the directory.
    pub fn stop_witness(&mut self) {
        match self.witness {
            Witness::Server => drop(self.witness_process.take()),
            Witness::Directory => {
                std::fs::rename(self.witness_data(), self.dir.join("witness-away")).unwrap();
            }
        }
    }

    /// The witness server's process.
    pub fn witness_process(&mut self) -> &mut Running {
        self.witness_process.as_mut().expect("the witness server was started")
    }

    /// Loses everything the stopped witness held.
    pub fn wipe_witness(&mut self) {
        self.witness_generation += 1;
        let lost = self.dir.join(format!("witness-lost-{}", self.witness_generation));
        let from = match self.witness {
            Witness::Server => self.witness_data(),
            Witness::Directory => self.dir.join("witness-away"),
        };
        std::fs::rename(from, lost).unwrap();
    }

    /// Copies what the stopped witness holds.
    pub fn save_witness(&self, into: &Path) {
        let from = match self.witness {
            Witness::Server => self.witness_data(),
            Witness::Directory => self.dir.join("witness-away"),
        };
        copy_dir(&from, into);
    }

    /// The stopped witness holds what was saved before.
    pub fn restore_witness(&mut self, from: &Path) {
        self.wipe_witness();
        let to = match self.witness {
            Witness::Server => self.witness_data(),
            Witness::Directory => self.dir.join("witness-away"),
        };
        copy_dir(from, &to);
    }

    /// The record as any outsider can read it; `None` if there is none, an error if the witness does not answer.
    pub async fn try_record(&self) -> Result<Option<WitnessRecord>, String> {
        let register: Box<dyn Register> =
            duet_witness::open(&self.witness_url(), CLUSTER, &Access::default()).unwrap();
        match register.read().await {
            ReadOutcome::Record { bytes, .. } => {
                let name = CLUSTER.parse().unwrap();
                duet_witness::record::decode(&name, None, &bytes).map(Some).map_err(|error| error.to_string())
            }
            ReadOutcome::Absent => Ok(None),
            ReadOutcome::Unknown(reason) => Err(reason.to_string()),
        }
    }

    /// The record.
    pub async fn record(&self) -> WitnessRecord {
        self.try_record().await.unwrap().expect("the witness holds a record")
    }

    /// Waits for a content of the record.
    pub async fn until_record(&self, what: &str, holds: impl Fn(&WitnessRecord) -> bool) -> WitnessRecord {
        let probe = async || self.try_record().await.ok().flatten().filter(&holds);
        self.until(&format!("the witness holds {what}"), probe).await
    }
}
