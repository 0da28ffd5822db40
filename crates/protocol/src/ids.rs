//! The names and numbers everything else is written in.
//!
//! Newtypes, so that an LSN can never be passed where an epoch is meant. Nothing here decides anything.

use core::fmt;

/// Last sequence number: the place of an entry in a log. Dense: 1, 2, 3, ... Zero means "before the first entry".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The place before the first entry.
    pub const ZERO: Self = Self(0);

    /// No log gets here: a million entries a second for more than a hundred thousand years.
    pub const MAX: Self = Self(1 << 62);

    /// An LSN that was read somewhere; `None` above [`Self::MAX`], so that there is always a next one.
    pub const fn checked(number: u64) -> Option<Self> {
        if number <= Self::MAX.0 { Some(Self(number)) } else { None }
    }

    /// The LSN after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The LSN before this one; zero stays zero.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of a configuration. A uses odd ones, B even ones, each for at most one attempt,
/// so one epoch never names two configurations (P4). Zero: no configuration was ever known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Epoch(pub u64);

impl Epoch {
    /// No configuration.
    pub const ZERO: Self = Self(0);

    /// No pair gets here.
    pub const MAX: Self = Self(1 << 62);

    /// An epoch that was read somewhere; `None` above [`Self::MAX`], so that there is always a fresh one.
    pub const fn checked(number: u64) -> Option<Self> {
        if number <= Self::MAX.0 { Some(Self(number)) } else { None }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One of the two appliances of a pair.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ApplianceId {
    /// The first appliance; its LSN is X.
    A,
    /// The second appliance; its LSN is Y.
    B,
}

impl ApplianceId {
    /// Both appliances.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// The other appliance of the pair.
    #[must_use]
    pub const fn peer(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// The least epoch above `floor` that this appliance may use for an attempt of its own.
    #[must_use]
    pub const fn fresh_epoch(self, floor: Epoch) -> Epoch {
        let odd = matches!(self, Self::A);
        let next = floor.0 + 1;
        if (next % 2 == 1) == odd { Epoch(next) } else { Epoch(next + 1) }
    }
}

impl fmt::Display for ApplianceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::B => "B",
        })
    }
}

/// Identity of one data directory, drawn at random when it is made. Membership belongs to the directory, not to
/// the appliance's name: a blank or replaced disk inherits no rights.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DiskId(pub u128);

impl fmt::Display for DiskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Identity of one pair, drawn at random when it is first made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClusterId(pub u64);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Which register "the witness" is: the pair's first one, and one more for each that took its place. Never used again for
/// another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct WitnessId(pub u32);

impl WitnessId {
    /// The one the pair was made with.
    pub const FIRST: Self = Self(0);

    /// The one that takes its place; `None`: no pair gets there.
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(next) => Some(Self(next)),
            None => None,
        }
    }
}

impl fmt::Display for WitnessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// 128 bits that stand for a whole history: each entry's digest covers the one before it (BLAKE3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Digest(pub [u8; 16]);

impl Digest {
    /// The digest of the empty history.
    pub const EMPTY: Self = Self([0; 16]);
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// One value for each appliance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PerAppliance<T> {
    /// A's value.
    pub a: T,
    /// B's value.
    pub b: T,
}

impl<T> PerAppliance<T> {
    /// The value of `appliance`.
    pub const fn get(&self, appliance: ApplianceId) -> &T {
        match appliance {
            ApplianceId::A => &self.a,
            ApplianceId::B => &self.b,
        }
    }

    /// The value of `appliance`, to change it.
    pub const fn get_mut(&mut self, appliance: ApplianceId) -> &mut T {
        match appliance {
            ApplianceId::A => &mut self.a,
            ApplianceId::B => &mut self.b,
        }
    }
}
