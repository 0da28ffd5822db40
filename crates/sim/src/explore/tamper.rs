//! Rules broken on purpose, from outside the core: each must be caught by the oracle, or the oracle is blind.

/// One broken rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tamper {
    /// A crash loses the tent (trap 2).
    TentLost,
    /// A crash loses the highest epoch used (trap 10).
    EpochsForgotten,
    /// A crash loses the mark of having parted (trap 18).
    PartingForgotten,
    /// The last save of the own state is never durable, though reported so.
    SaveLies,
    /// An acknowledgement gives a lease from its receipt (trap 17).
    LeaseFromReceipt,
    /// A compare-and-set is applied whatever the revision (trap 23).
    UnconditionalWrite,
    /// A secondary's log is reported durable before it is.
    SecondaryFlushLies,
    /// A primary's log is reported durable before it is.
    PrimaryFlushLies,
    /// A restarted appliance presumes no promise (trap 15).
    NoPromiseAtStart,
    /// A proposal is delivered as if it were computed from the receiver's configuration (trap 5).
    BaseUnbound,
    /// An append is delivered as if it were sent under the receiver's configuration (trap 26).
    OldAppendRevived,
    /// The witness keeps `part` when the configuration changes (trap 22).
    PartKept,
    /// A position is compared by its bare LSN (trap 19).
    BareLsn,
    /// An acknowledgement claims everything the primary has.
    MatchInflated,
}

impl Tamper {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::TentLost,
        Self::EpochsForgotten,
        Self::PartingForgotten,
        Self::SaveLies,
        Self::LeaseFromReceipt,
        Self::UnconditionalWrite,
        Self::SecondaryFlushLies,
        Self::PrimaryFlushLies,
        Self::NoPromiseAtStart,
        Self::BaseUnbound,
        Self::OldAppendRevived,
        Self::PartKept,
        Self::BareLsn,
        Self::MatchInflated,
    ];
}
