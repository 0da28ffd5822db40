//! The witnesses: each one record behind a compare-and-set, requests that come late or never, and replies that are lost.

use duet_protocol::{ApplianceId, PerAppliance, WitnessId, WitnessRead, WitnessRecord, WitnessWrite};

use super::clock::Time;

/// How many registers there are. A pair that moves often comes back to one it had, with whatever is left there.
pub(crate) const REGISTERS: usize = 2;

/// The register of a witness.
pub(crate) const fn place_of(witness: WitnessId) -> usize {
    witness.0 as usize % REGISTERS
}

/// What an appliance asks of it.
#[derive(Clone, Debug)]
pub enum Ask {
    /// The record.
    Read,
    /// To hold this record, if it holds none.
    Create(WitnessRecord),
    /// To hold this record instead of the one of revision `expected`.
    Swap {
        /// The revision read.
        expected: u64,
        /// The new content.
        record: WitnessRecord,
    },
}

/// Which write of the record it is: never the same twice, even if the witness was set back. Appliances count revisions, the
/// server's port keeps for each the version it has heard of.
pub(crate) type Version = u64;

/// A request on its way.
#[derive(Clone, Debug)]
pub struct Request {
    /// Who asks.
    pub from: ApplianceId,
    /// In which life of its process.
    pub life: u64,
    /// To be quoted in the answer.
    pub ticket: u64,
    /// What it asks.
    pub ask: Ask,
    /// Which register.
    pub(crate) at: usize,
    /// Which write's record it wants to replace.
    pub(crate) version: Option<Version>,
    /// Whether the answer will reach the appliance.
    pub answered: bool,
}

/// What a test wants to become of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// As the network has it.
    Normal,
    /// It never arrives.
    Lost,
    /// It is carried out and nobody is told.
    Unanswered,
    /// It is carried out this much later and nobody is told.
    Late(Time),
}

/// The answer to a request.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "short-lived, one at a time")]
pub enum Answer {
    /// To a read.
    Read(WitnessRead),
    /// To a write.
    Written(WitnessWrite),
}

/// An answer on its way.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    /// Which register's.
    pub at: usize,
    pub answer: Answer,
    /// Revision and version of the record that it tells of.
    pub known: Option<(u64, Version)>,
}

/// The witness.
#[derive(Debug)]
pub struct Witness {
    pub record: Option<WitnessRecord>,
    pub up: bool,
    pub reachable: PerAppliance<bool>,
    /// Every record it ever held, and since when.
    pub history: Vec<(Time, WitnessRecord)>,
    /// Which write made each of them.
    versions: Vec<Version>,
    /// Which write made the record it holds.
    version: Version,
    writes: u64,
    /// Since when it has answered everybody in good time.
    pub healthy_since: Option<Time>,
}

impl Witness {
    pub fn new(record: Option<WitnessRecord>) -> Self {
        let history: Vec<_> = record.iter().map(|record| (0, record.clone())).collect();
        let reachable = PerAppliance { a: true, b: true };
        Self {
            record,
            up: true,
            reachable,
            versions: vec![0; history.len()],
            history,
            version: 0,
            writes: 0,
            healthy_since: Some(0),
        }
    }

    pub fn reached_by(&self, appliance: ApplianceId) -> bool {
        self.up && *self.reachable.get(appliance)
    }

    /// Carries out a request that has arrived.
    pub fn carry_out(&mut self, now: Time, request: &Request) -> Answer {
        match &request.ask {
            Ask::Read => Answer::Read(self.record.clone().map_or(WitnessRead::Absent, WitnessRead::Record)),
            Ask::Create(record) => {
                let vacant = self.record.is_none();
                self.answer(now, vacant, record)
            }
            Ask::Swap { record, .. } => {
                let unchanged = self.record.is_some() && request.version == Some(self.version);
                self.answer(now, unchanged, record)
            }
        }
    }

    fn answer(&mut self, now: Time, may: bool, record: &WitnessRecord) -> Answer {
        if !may {
            return Answer::Written(WitnessWrite::Mismatch);
        }
        self.writes += 1;
        self.hold(now, record.clone(), self.writes);
        Answer::Written(WitnessWrite::Swapped)
    }

    /// It holds again what it held as its record number `index`, version and all.
    pub fn set_back(&mut self, now: Time, index: usize) {
        let (_, record) = self.history[index].clone();
        self.hold(now, record, self.versions[index]);
    }

    /// An empty one is given its first record.
    pub fn seed(&mut self, now: Time, record: WitnessRecord) {
        assert!(self.record.is_none(), "only an empty one");
        self.writes += 1;
        self.hold(now, record, self.writes);
    }

    /// It holds this record, if what it held is still that of `version`.
    pub fn hold_if(&mut self, now: Time, version: Version, record: &WitnessRecord) -> bool {
        let unchanged = self.record.is_some() && version == self.version;
        matches!(self.answer(now, unchanged, record), Answer::Written(WitnessWrite::Swapped))
    }

    /// Which write made what it holds.
    pub const fn version(&self) -> Version {
        self.version
    }

    fn hold(&mut self, now: Time, record: WitnessRecord, version: Version) {
        self.version = version;
        self.versions.push(version);
        self.history.push((now, record.clone()));
        self.record = Some(record);
    }

    /// Revision and version of the record that this answer told of.
    pub fn told(&self, answer: &Answer) -> Option<(u64, Version)> {
        let tells =
            matches!(answer, Answer::Read(WitnessRead::Record(_)) | Answer::Written(WitnessWrite::Swapped));
        self.record.as_ref().filter(|_| tells).map(|record| (record.revision, self.version))
    }
}
