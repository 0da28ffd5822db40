//! `duet init`: the one order by which an operator makes a pair, on one of the two appliances.
//!
//! First a directory's mark as a witness, then the data directory, then the witness's record, by create-if-absent. It may be repeated after a crash at any point: the
//! record names the disk that was meant, and only a disk that was never in use may create it.

use duet_protocol::{ApplianceId, ClusterId, Conf, DiskId, Epoch, OwnState, PerAppliance, WitnessRecord};
use duet_witness::register::DEFAULT_DEADLINE;
use duet_witness::{ClusterName, ReadOutcome, Register, WitnessUrl, WriteOutcome, directory, record};
use tokio::sync::oneshot;

use crate::config::Config;
use crate::data::{DataError, Place, draw_cluster, draw_disk};
use crate::error::InitError;
use crate::failpoint;

/// What init has made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InitReport {
    /// Name of the pair.
    pub cluster_name: String,
    /// Identity of the pair.
    pub cluster: ClusterId,
    /// The appliance that may begin as primary.
    pub appliance: ApplianceId,
    /// Identity of its data directory.
    pub disk: DiskId,
    /// An earlier init had already done all of it.
    pub was_done: bool,
}

/// Makes the pair, with this appliance as its first primary.
///
/// # Errors
/// Nothing was made, or it may be repeated; see [`InitError`].
pub async fn init(config: &Config) -> Result<InitReport, InitError> {
    let name = cluster_name(config)?;
    let register = config.witness.register(name.clone(), &config.witness_access, DEFAULT_DEADLINE);
    let init = Init { config, name, register };
    init.run().await
}

struct Init<'a> {
    config: &'a Config,
    name: ClusterName,
    register: Box<dyn Register>,
}

impl Init<'_> {
    async fn run(&self) -> Result<InitReport, InitError> {
        let place = Place::new(self.config);
        self.prepare_witness().await?;
        let record = self.read().await?;
        let own = if place.is_blank()? {
            if let Some(record) = record {
                return Err(InitError::PairExists { cluster: record.cluster.to_string() });
            }
            place.create(draw_cluster(), draw_disk())?
        } else {
            let (_lock, own) = place.open()?;
            match record {
                Some(record) if is_of(&record, &own) => return Ok(self.report(&own, true)),
                Some(record) => return Err(InitError::PairExists { cluster: record.cluster.to_string() }),
                None if own.conf.is_none() && own.max_epoch == Epoch::ZERO => own,
                None => {
                    let (path, cluster) = (self.config.data.clone(), own.cluster.to_string());
                    return Err(InitError::InUse { path, cluster });
                }
            }
        };
        failpoint::reach("init.data.after");
        self.create(&own).await?;
        failpoint::reach("init.record.after");
        Ok(self.report(&own, false))
    }

    /// Marks a directory as a witness: this is the operator's one act, with the share mounted.
    async fn prepare_witness(&self) -> Result<(), InitError> {
        let WitnessUrl::Directory { path } = self.config.witness.clone() else { return Ok(()) };
        let (done, outcome) = oneshot::channel();
        // A thread of its own: one that hangs in a dead file system is left behind.
        let prepare = move || {
            let _ = done.send(directory::prepare(&path));
        };
        std::thread::Builder::new()
            .name("duet-init".to_owned())
            .spawn(prepare)
            .map_err(|error| self.witness(error.to_string()))?;
        match tokio::time::timeout(DEFAULT_DEADLINE, outcome).await {
            Ok(Ok(prepared)) => prepared.map_err(|error| self.witness(error.to_string())),
            Ok(Err(_)) => Err(self.witness("marking it broke".to_owned())),
            Err(_) => {
                Err(self.witness("it did not answer in time: is the file system's server up?".to_owned()))
            }
        }
    }

    async fn create(&self, own: &OwnState) -> Result<(), InitError> {
        let record = first_record(own);
        let unknown = match self.register.create(record::encode(&self.name, &record)).await {
            WriteOutcome::Swapped(_) => return Ok(()),
            WriteOutcome::Mismatch => None,
            WriteOutcome::Unknown(reason) => Some(reason),
        };
        match (self.read().await?, unknown) {
            (Some(found), _) if is_of(&found, own) => Ok(()),
            (Some(found), _) => Err(InitError::PairExists { cluster: found.cluster.to_string() }),
            (None, Some(reason)) => Err(self.witness(reason.to_string())),
            (None, None) => Err(self.witness("its record came and went".to_owned())),
        }
    }

    async fn read(&self) -> Result<Option<WitnessRecord>, InitError> {
        match self.register.read().await {
            ReadOutcome::Record { bytes, .. } => match record::decode(&self.name, None, &bytes) {
                Ok(record) => Ok(Some(record)),
                Err(error) => Err(self.witness(error.to_string())),
            },
            ReadOutcome::Absent => Ok(None),
            ReadOutcome::Unknown(reason) => Err(self.witness(reason.to_string())),
        }
    }

    fn report(&self, own: &OwnState, was_done: bool) -> InitReport {
        InitReport {
            cluster_name: self.config.cluster.clone(),
            cluster: own.cluster,
            appliance: own.appliance,
            disk: own.disk,
            was_done,
        }
    }

    fn witness(&self, reason: String) -> InitError {
        InitError::Witness { witness: self.config.witness.to_string(), reason }
    }
}

impl From<DataError> for InitError {
    fn from(error: DataError) -> Self {
        match error {
            DataError::Wrong(wrong) => Self::WrongData(wrong),
            DataError::Storage { reason, remedy } => Self::Storage { reason, remedy },
        }
    }
}

/// The checked name; the configuration's check has seen to it already.
pub(crate) fn cluster_name(config: &Config) -> Result<ClusterName, InitError> {
    config.cluster.parse().map_err(|error: duet_witness::ClusterNameError| InitError::Witness {
        witness: config.witness.to_string(),
        reason: error.to_string(),
    })
}

/// Whether a record is the one that init makes for this data directory, or what became of it.
fn is_of(record: &WitnessRecord, own: &OwnState) -> bool {
    record.cluster == own.cluster && record.conf.has(own.appliance, own.disk)
}

/// The record of a new pair: this appliance may begin, alone.
fn first_record(own: &OwnState) -> WitnessRecord {
    let epoch = own.appliance.fresh_epoch(Epoch::ZERO);
    WitnessRecord {
        cluster: own.cluster,
        revision: 1,
        writer: own.appliance,
        conf: Conf::solo(epoch, own.appliance, own.disk),
        part: None,
        floor: PerAppliance::default(),
        left: PerAppliance::default(),
    }
}
