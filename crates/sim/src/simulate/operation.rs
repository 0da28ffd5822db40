//! One operation of a client, and what became of it.

use duet_checkers::{self as seen, Answer, Request};
use duet_protocol::{ApplianceId, Lsn};

use super::clock::Time;

/// What became of an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Open,
    Acknowledged,
    /// Never done, never to be done.
    Refused,
    /// The client was told at this time that nobody knows.
    Unknown(Time),
}

/// One operation.
#[derive(Debug)]
pub(crate) struct Operation {
    pub client: Option<usize>,
    pub turn: u64,
    pub target: ApplianceId,
    /// A test's own, not a client's.
    pub of_test: bool,
    /// What it does follows from this.
    pub dice: u64,
    pub outcome: Outcome,
    /// Where it is in the true history.
    pub lsn: Option<Lsn>,
    pub invoked: Time,
    /// What it asks, once that is drawn and if the checkers know such a thing.
    pub request: Option<Request>,
    /// What its client was told, and when.
    pub answer: Option<Answer>,
    pub settled: Time,
    /// It ends this lease for the lease clock of an appliance, in this life.
    pub clock: Option<(ApplianceId, u64, i64)>,
}

impl Operation {
    /// For the checkers. What a lease clock does nobody has asked for: it is to be explained.
    pub fn seen(&self) -> Option<seen::Operation> {
        let at = self.settled;
        let outcome = match (self.outcome, &self.answer) {
            (Outcome::Acknowledged, Some(answer)) => {
                seen::Outcome::Acknowledged { at, answer: answer.clone() }
            }
            // The data model said no.
            (Outcome::Acknowledged, None) | (Outcome::Refused, _) => seen::Outcome::Failed { at },
            (Outcome::Open | Outcome::Unknown(_), _) => seen::Outcome::Unknown,
        };
        let client = self.client.map_or(Some(0), |client| u32::try_from(client).ok());
        Some(seen::Operation {
            client: client?.saturating_add(1),
            appliance: self.target,
            request: self.request.clone().filter(|_| self.clock.is_none())?,
            invoked: self.invoked,
            outcome,
        })
    }
}
