//! The configuration: who is primary, who must hold every acknowledged write, and which register is the witness.
//!
//! Only three forms exist: none (epoch zero), the primary alone (*solo*), both. The primary is always a member, by
//! construction. Members are named with their disk, so a blank disk in an appliance of the same name has no rights.

use core::fmt;

use crate::planted::Bug;
use crate::{ApplianceId, DiskId, Epoch, PerAppliance, WitnessId};

/// {epoch, primary, `in_sync`, witness}. In force once two of {A, B, witness} have stored it; the witness is the one it names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Conf {
    epoch: Epoch,
    primary: ApplianceId,
    members: PerAppliance<Option<DiskId>>,
    witness: WitnessId,
}

impl Conf {
    /// What an appliance holds before it has ever heard of a configuration: nobody has any right by it.
    pub const NONE: Self = Self {
        epoch: Epoch::ZERO,
        primary: ApplianceId::A,
        members: PerAppliance { a: None, b: None },
        witness: WitnessId::FIRST,
    };

    /// `primary` alone is in sync; with the first witness.
    pub fn solo(epoch: Epoch, primary: ApplianceId, disk: DiskId) -> Self {
        assert!(epoch > Epoch::ZERO, "a configuration has an epoch");
        let mut members = PerAppliance::default();
        *members.get_mut(primary) = Some(disk);
        Self { epoch, primary, members, witness: WitnessId::FIRST }
    }

    /// Both are in sync; with the first witness.
    pub fn pair(epoch: Epoch, primary: ApplianceId, disks: PerAppliance<DiskId>) -> Self {
        assert!(epoch > Epoch::ZERO, "a configuration has an epoch");
        assert!(disks.a != disks.b, "two appliances cannot share one disk");
        let members = PerAppliance { a: Some(disks.a), b: Some(disks.b) };
        Self { epoch, primary, members, witness: WitnessId::FIRST }
    }

    /// The same with this witness.
    #[must_use]
    pub fn at(self, witness: WitnessId) -> Self {
        assert!(!self.is_none() || witness == WitnessId::FIRST, "no configuration names no witness");
        Self { witness, ..self }
    }

    /// Rebuilds a configuration from its stored parts; `None` when they are no configuration.
    pub fn from_parts(
        epoch: Epoch,
        primary: ApplianceId,
        members: PerAppliance<Option<DiskId>>,
        witness: WitnessId,
    ) -> Option<Self> {
        let conf = Self { epoch, primary, members, witness };
        let empty = members.a.is_none() && members.b.is_none();
        let sound = if epoch == Epoch::ZERO {
            empty && primary == ApplianceId::A && witness == WitnessId::FIRST
        } else {
            members.get(primary).is_some() && (members.a.is_none() || members.a != members.b)
        };
        sound.then_some(conf)
    }

    /// Its number.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Who is primary. Meaningless for [`Conf::NONE`].
    pub const fn primary(&self) -> ApplianceId {
        self.primary
    }

    /// The disk of each member of the in-sync set.
    pub const fn members(&self) -> &PerAppliance<Option<DiskId>> {
        &self.members
    }

    /// The register that it means by "the witness".
    pub const fn witness(&self) -> WitnessId {
        self.witness
    }

    /// Whether `appliance`, with this very disk, is in the in-sync set.
    pub fn has(&self, appliance: ApplianceId, disk: DiskId) -> bool {
        *self.members.get(appliance) == Some(disk)
            || (Bug::MemberByName.planted() && self.members.get(appliance).is_some())
    }

    /// Whether the in-sync set is the primary alone.
    pub const fn is_solo(&self) -> bool {
        self.members.a.is_some() != self.members.b.is_some()
    }

    /// Whether both are in the in-sync set.
    pub const fn is_pair(&self) -> bool {
        self.members.a.is_some() && self.members.b.is_some()
    }

    /// Whether this is no configuration at all.
    pub fn is_none(&self) -> bool {
        self.epoch == Epoch::ZERO
    }
}

impl fmt::Display for Conf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() {
            return f.write_str("none");
        }
        let in_sync = match (self.members.a, self.members.b) {
            (Some(_), Some(_)) => "A, B",
            (Some(_), None) => "A",
            _ => "B",
        };
        write!(f, "epoch {}: primary {}, in sync {{{in_sync}}}", self.epoch, self.primary)?;
        if self.witness == WitnessId::FIRST { Ok(()) } else { write!(f, ", witness {}", self.witness) }
    }
}
