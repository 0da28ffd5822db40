//! What an appliance holds only while it has a role. A change of role drops the old role's data, so nothing of it can be
//! used by mistake: a proposal dies with the role that made it (P11), a lease with the primary that held it.

use crate::time::Duration;
use crate::{Conf, Heartbeat, Instant, Lsn, Position, Proposal, WitnessId};

/// The volatile role. `Elect` has won its promotion and waits for its own promise to run out.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Role {
    Follower(Follower),
    Elect,
    Primary(Primary),
    Stopped,
}

/// Starting, waiting, or following a primary.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Follower {
    /// What is known of the primary of the own configuration, once it has been heard in this role.
    pub leader: Option<Leader>,
    /// A cold start it has proposed.
    pub pending: Option<Pending>,
    /// Since when there has been no primary to follow.
    pub since: Instant,
    /// It has begun to ask the witness since the primary went missing, and what came of it.
    pub inquiry: Inquiry,
    /// A received copy is being installed: no right is exercised meanwhile.
    pub installing: Option<Position>,
    /// The primary's entry at this LSN has the same epoch but another history.
    pub diverged: Option<Lsn>,
}

/// The primary as its secondary sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Leader {
    /// When its last append came.
    pub heard: Instant,
    /// To be returned with the next acknowledgement.
    pub heartbeat: Heartbeat,
    /// The own log equals the primary's up to here.
    pub proved: Lsn,
    /// The primary has committed up to here.
    pub committed: Lsn,
    /// The primary's last LSN.
    pub last: Lsn,
}

/// What a follower without a primary has learned from the witness since then.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum Inquiry {
    /// No answer is to be had yet.
    #[default]
    Unasked,
    /// It did not answer, or with nothing that can be trusted.
    Silent,
    /// It answered and has no record.
    Absent,
    /// It answered with the record of another pair.
    Foreign,
    /// It answered with a record older than one it held before.
    SetBack,
    /// It answered; the record is in `WitnessPort::last`.
    Answered,
}

/// A primary, or (`offering`) one that has stopped in order to hand over.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not states of one machine")]
pub(crate) struct Primary {
    /// The last LSN when the own epoch began.
    pub base: Lsn,
    /// Reads wait until this much is applied: the last LSN when it began as primary.
    pub read_floor: Lsn,
    /// It has stopped taking writes and reads and offers the peer to take over.
    pub offering: bool,
    /// What it has proposed to the peer.
    pub pending: Option<Pending>,
    /// It has dropped a proposal of another witness, which the peer may hold: the pair is to be renewed, or the peer could not go
    /// on by itself.
    pub stray_move: bool,
    /// The secondary's log is durable and equal up to here.
    pub matched: Lsn,
    /// The next LSN to send.
    pub next: Lsn,
    /// When the newest append that was answered without a wish to have entries again was sent.
    pub proved: Instant,
    /// Answers to appends sent before this do not move `next` back once more.
    pub rewound: Instant,
    /// Linearizable reads need `now` below this while the peer is in sync.
    pub lease_until: Instant,
    /// When the configuration came in force or the last acknowledgement arrived, whichever is later.
    pub acknowledged: Instant,
    /// The secondary has acknowledged something in this configuration.
    pub follows: bool,
    /// What was committed at the last connection or change of configuration: a secondary in sync holds that much.
    pub sure: Lsn,
    /// The secondary turned out to lack committed entries: its disk lost writes (P10).
    pub peer_damaged: bool,
    /// Acknowledgements are held back since then so that a nearly equal secondary can be let in.
    pub closing: Option<Instant>,
    /// A whole copy is being sent to the peer.
    pub copying: bool,
    /// When the secondary's log last grew on its disk, or had no need to.
    pub moved: Instant,
    /// What it asks the secondary to promise: longer for one that is far away.
    pub promise: Duration,
    /// When the last heartbeat went out.
    pub beat: Instant,
    /// When it began under this configuration.
    pub since: Instant,
}

/// The agreements.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Agreement {
    /// L: the secondary leaves the in-sync set.
    Leave,
    /// R: the secondary joins it; of a pair, the same pair by a new agreement.
    Rejoin,
    /// M: the same pair, with this witness.
    Move(WitnessId),
    /// H: the secondary becomes primary alone.
    Handover,
    /// C1: of two starting appliances the coordinator becomes primary alone.
    ColdSolo,
    /// C2: of two equal starting appliances the coordinator becomes primary, both in sync.
    ColdPair,
}

/// A proposal under way (`pend`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Pending {
    pub agreement: Agreement,
    pub proposal: Proposal,
    /// When it was first sent.
    pub since: Instant,
    /// When it was last sent.
    pub sent: Instant,
}

impl Pending {
    pub const fn conf(&self) -> Conf {
        self.proposal.conf
    }
}

impl Role {
    pub(crate) fn follower(since: Instant) -> Self {
        Self::Follower(Follower { since, ..Follower::default() })
    }

    pub(crate) const fn pending(&self) -> Option<&Pending> {
        match self {
            Self::Follower(follower) => follower.pending.as_ref(),
            Self::Primary(primary) => primary.pending.as_ref(),
            Self::Elect | Self::Stopped => None,
        }
    }

    pub(crate) const fn pending_mut(&mut self) -> Option<&mut Option<Pending>> {
        match self {
            Self::Follower(follower) => Some(&mut follower.pending),
            Self::Primary(primary) => Some(&mut primary.pending),
            Self::Elect | Self::Stopped => None,
        }
    }
}
