//! What a person or a test may know of an appliance. Reading it changes nothing.

use alloc::string::String;

use crate::{ApplianceId, Conf, DiskId, Instant, Lsn, OwnState, Position, WitnessId, WitnessRecord};

/// What an appliance is doing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RoleName {
    /// Just started, or the primary is missing: looks for its place.
    Starting,
    /// Follows a primary.
    Secondary,
    /// Its promotion is won; it waits for its own promise to run out.
    Elect,
    /// Takes writes.
    Primary,
    /// A primary that has stopped taking writes in order to hand over.
    Offering,
    /// Soft shutdown complete or nearly so: serves nothing.
    Stopped,
}

impl RoleName {
    /// One lower-case word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Secondary => "secondary",
            Self::Elect => "elect",
            Self::Primary => "primary",
            Self::Offering => "offering",
            Self::Stopped => "stopped",
        }
    }
}

/// A snapshot of one appliance's view.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "a report of independent facts")]
pub struct Status {
    /// Which appliance.
    pub appliance: ApplianceId,
    /// What it is doing.
    pub role: RoleName,
    /// Its durable state.
    pub own: OwnState,
    /// The configuration it has proposed and that is not yet in force.
    pub pending: Option<Conf>,
    /// Where its log ends.
    pub last: Position,
    /// Its log is durable up to here.
    pub flushed: Lsn,
    /// Known to be committed up to here.
    pub committed: Lsn,
    /// Applied up to here.
    pub applied: Lsn,
    /// Whether linearizable reads are served here now.
    pub serves_reads: bool,
    /// Whether it is shutting down.
    pub leaving: bool,
    /// Whether its disk is known to have lost writes.
    pub damaged: bool,
    /// What it knows of the peer.
    pub peer: PeerStatus,
    /// The witness record as last read, and when.
    pub witness: Option<(WitnessRecord, Instant)>,
    /// Whether the last request to the witness was answered.
    pub witness_reachable: bool,
    /// Whether the witness was set back to an older record than it held.
    pub witness_set_back: bool,
    /// The witness that it is trying to agree upon with the peer.
    pub moving: Option<WitnessId>,
    /// Why it waits: one plain sentence from the decision table; `None` while it serves or follows.
    pub waiting: Option<String>,
}

/// What an appliance knows of its peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PeerStatus {
    /// A connection is there.
    pub connected: bool,
    /// When it was last heard of.
    pub heard: Option<Instant>,
    /// Where its log ends, as far as is known.
    pub position: Option<Position>,
    /// As primary: the peer's log is durable and equal up to here.
    pub matched: Lsn,
    /// As secondary: the primary's last LSN.
    pub last: Lsn,
    /// Its data directory.
    pub disk: Option<DiskId>,
    /// It said that it is shutting down.
    pub leaving: bool,
    /// It is receiving a full copy.
    pub copying: bool,
}
