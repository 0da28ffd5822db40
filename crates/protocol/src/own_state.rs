//! What an appliance must remember besides its log (protocol section 3: META).
//!
//! One small record, replaced atomically and synced before anything that depends on it is done.

use crate::planted::Bug;
use crate::{ApplianceId, ClusterId, Conf, DiskId, Epoch, WitnessId};

/// The appliance's own durable state.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct OwnState {
    /// The pair this data belongs to.
    pub cluster: ClusterId,
    /// Which appliance of the pair this data belongs to.
    pub appliance: ApplianceId,
    /// Identity of this data directory.
    pub disk: DiskId,
    /// The newest configuration this appliance knows to be in force. Its epoch never falls (P1).
    pub conf: Conf,
    /// A newer configuration it has agreed to and does not know to be in force: binds at once, entitles to nothing (P2).
    pub tent: Option<Conf>,
    /// Highest epoch it ever used, agreed to or was told of (P1).
    pub max_epoch: Epoch,
    /// Epoch of the configuration under which it last tried to leave its position at the witness; zero: never.
    pub parted: Epoch,
    /// This data directory was in an in-sync set once. A blank one in the place of an old one cannot know what that one had
    /// agreed to, and so vouches for nothing until then (trap 21 of docs/protocol.md).
    pub joined: bool,
}

impl OwnState {
    /// The state of a blank data directory: it has no rights.
    pub const fn blank(cluster: ClusterId, appliance: ApplianceId, disk: DiskId) -> Self {
        Self {
            cluster,
            appliance,
            disk,
            conf: Conf::NONE,
            tent: None,
            max_epoch: Epoch::ZERO,
            parted: Epoch::ZERO,
            joined: false,
        }
    }

    /// Whoever is a member, or has agreed to be one, remembers from here on what its appliance agrees to.
    pub(crate) fn note_membership(&mut self) {
        let mine = |conf: Conf| conf.has(self.appliance, self.disk);
        self.joined |= mine(self.conf) || self.tent.is_some_and(mine);
    }

    /// The witness to ask: the one it has agreed to, even if that is not known to be in force. Whatever the answer, nothing is
    /// taken there or elsewhere before it is (see [`Self::is_moving`]).
    pub fn witness(&self) -> WitnessId {
        self.tent.unwrap_or(self.conf).witness()
    }

    /// It has agreed to another witness, and the other appliance may count on that one or on the present one.
    pub fn is_moving(&self) -> bool {
        self.tent.is_some_and(|tent| tent.witness() != self.conf.witness())
    }

    /// Whether it has parted under the configuration it holds; a newer one undoes that by itself.
    pub fn has_parted(&self) -> bool {
        !self.conf.is_none() && self.parted == self.conf.epoch() && !Bug::PartingForgotten.planted()
    }
}
