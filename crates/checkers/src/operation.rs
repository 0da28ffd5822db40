//! What a client asked, when, and what came of it.

use std::fmt;

use duet_protocol::ApplianceId;

use crate::{Keys, StepAnswer, Time, Txn};

/// One request of one client.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Who asked.
    pub client: u32,
    /// Where.
    pub appliance: ApplianceId,
    /// What.
    pub request: Request,
    /// Just before it was sent.
    pub invoked: Time,
    /// What came of it.
    pub outcome: Outcome,
}

/// What may be asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// A transaction; a put, a delete or a linearizable read is one with a single step.
    Txn(Txn),
    /// A read of whatever the appliance has, old or not. The transaction has no writes.
    Serializable(Txn),
    /// A linearizable read of an earlier state.
    Past {
        /// Which keys.
        keys: Keys,
        /// The state after this revision.
        revision: i64,
    },
    /// Everything that a later revision has replaced by now is forgotten.
    Compact {
        /// The state after this revision, and all later ones, can still be read.
        revision: i64,
    },
    /// A new lease.
    Grant {
        /// Its number.
        lease: i64,
        /// Its time to live, in seconds.
        ttl: i64,
    },
    /// The lease is to live on for its time to live from now.
    KeepAlive {
        /// Its number.
        lease: i64,
    },
    /// The lease ends now, and every key that is attached to it.
    Revoke {
        /// Its number.
        lease: i64,
    },
}

/// What came of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It was answered.
    Acknowledged {
        /// When the client had the answer.
        at: Time,
        /// The answer.
        answer: Answer,
    },
    /// It was refused: it was not done and never will be.
    Failed {
        /// When the client heard of it.
        at: Time,
    },
    /// Nobody knows: it may have been done, and may still be later.
    Unknown,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// To a transaction.
    Txn {
        /// The revision in the answer's header.
        revision: i64,
        /// Whether all conditions held.
        succeeded: bool,
        /// One for each step of the branch that was taken.
        steps: Vec<StepAnswer>,
    },
    /// To a compaction.
    Compacted {
        /// The revision in the answer's header.
        revision: i64,
    },
    /// To everything about leases.
    Lease {
        /// The revision in the answer's header.
        revision: i64,
        /// The time to live it has now, in seconds; `None`: there is no such lease.
        ttl: Option<i64>,
    },
}

impl Answer {
    /// The revision in the answer's header.
    pub const fn revision(&self) -> i64 {
        match self {
            Self::Txn { revision, .. } | Self::Compacted { revision } | Self::Lease { revision, .. } => {
                *revision
            }
        }
    }
}

impl Operation {
    /// When the client heard of it, and the answer.
    pub const fn acknowledged(&self) -> Option<(Time, &Answer)> {
        match &self.outcome {
            Outcome::Acknowledged { at, answer } => Some((*at, answer)),
            Outcome::Failed { .. } | Outcome::Unknown => None,
        }
    }

    /// Whether real time says which revisions it may be answered with.
    pub(crate) const fn is_linearizable(&self) -> bool {
        matches!(self.request, Request::Txn(_) | Request::Past { .. })
    }

    /// Whether its answer says that it changed something. (A revoked lease does not tell.)
    pub(crate) fn has_written(&self) -> bool {
        matches!(&self.outcome, Outcome::Acknowledged { answer: Answer::Txn { steps, .. }, .. }
            if steps.iter().any(StepAnswer::has_written))
    }
}

struct Moment(Time);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06} s", self.0 / 1_000_000_000, self.0 / 1_000 % 1_000_000)
    }
}

/// For a sentence: "1.234567 s".
pub(crate) fn moment(at: Time) -> impl fmt::Display {
    Moment(at)
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[client {} at {}, {}", self.client, self.appliance, moment(self.invoked))?;
        match &self.outcome {
            Outcome::Acknowledged { at, .. } | Outcome::Failed { at } => write!(f, " to {}", moment(*at))?,
            Outcome::Unknown => f.write_str(" on")?,
        }
        write!(f, ": {}", self.request)?;
        match &self.outcome {
            Outcome::Acknowledged { answer, .. } => write!(f, "; {answer}]"),
            Outcome::Failed { .. } => f.write_str("; failed]"),
            Outcome::Unknown => f.write_str("; outcome unknown]"),
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Txn(txn) => txn.fmt(f),
            Self::Serializable(txn) => write!(f, "{txn} as it is here"),
            Self::Past { keys, revision } => write!(f, "get {keys} as of revision {revision}"),
            Self::Compact { revision } => write!(f, "compact to revision {revision}"),
            Self::Grant { lease, ttl } => write!(f, "grant lease {lease} for {ttl} s"),
            Self::KeepAlive { lease } => write!(f, "keep lease {lease} alive"),
            Self::Revoke { lease } => write!(f, "revoke lease {lease}"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Txn { revision, succeeded, steps } => {
                if !succeeded {
                    f.write_str("conditions did not hold, ")?;
                }
                for step in steps {
                    write!(f, "{step}, ")?;
                }
                write!(f, "at revision {revision}")
            }
            Self::Compacted { revision } => write!(f, "compacted, at revision {revision}"),
            Self::Lease { revision, ttl: Some(ttl) } => write!(f, "{ttl} s to live, at revision {revision}"),
            Self::Lease { revision, ttl: None } => write!(f, "no such lease, at revision {revision}"),
        }
    }
}
