//! The witness: one record behind a compare-and-set, requests that come late or never, and replies that are lost.

use duet_protocol::{ApplianceId, PerAppliance, WitnessRead, WitnessRecord, WitnessWrite};

use super::clock::Time;

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

/// The witness.
#[derive(Debug)]
pub struct Witness {
    pub record: Option<WitnessRecord>,
    pub up: bool,
    pub reachable: PerAppliance<bool>,
    /// Every record it ever held, and since when.
    pub history: Vec<(Time, WitnessRecord)>,
    /// Since when it has answered everybody in good time.
    pub healthy_since: Option<Time>,
}

impl Witness {
    pub fn new(record: Option<WitnessRecord>) -> Self {
        let history = record.iter().map(|record| (0, record.clone())).collect();
        let reachable = PerAppliance { a: true, b: true };
        Self { record, up: true, reachable, history, healthy_since: Some(0) }
    }

    pub fn reached_by(&self, appliance: ApplianceId) -> bool {
        self.up && *self.reachable.get(appliance)
    }

    /// Carries out a request that has arrived.
    pub fn carry_out(&mut self, now: Time, ask: &Ask) -> Answer {
        match ask {
            Ask::Read => Answer::Read(self.record.clone().map_or(WitnessRead::Absent, WitnessRead::Record)),
            Ask::Create(record) => {
                let vacant = self.record.is_none();
                self.answer(now, vacant, record)
            }
            Ask::Swap { expected, record } => {
                let unchanged = self.record.as_ref().is_some_and(|held| held.revision == *expected);
                self.answer(now, unchanged, record)
            }
        }
    }

    fn answer(&mut self, now: Time, may: bool, record: &WitnessRecord) -> Answer {
        if !may {
            return Answer::Written(WitnessWrite::Mismatch);
        }
        self.history.push((now, record.clone()));
        self.record = Some(record.clone());
        Answer::Written(WitnessWrite::Swapped)
    }
}
