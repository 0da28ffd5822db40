//! The one record the witness holds for a pair. It never sees user data.
//!
//! Every write is conditional on the revision read and raises it by one, so no two contents are ever alike. `part` is
//! what equality is judged by (R5-R7); `left` is information for people and tests and entitles nobody (R3, R4);
//! `floor` holds committed LSNs only, so a sound log is never below its own.

use crate::{ApplianceId, ClusterId, Conf, Lsn, PerAppliance, Position};

/// The record at the witness. Its configuration names the register it belongs to; one that names another is what a former
/// witness is left with, so that whoever comes there knows.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct WitnessRecord {
    /// The pair it belongs to.
    pub cluster: ClusterId,
    /// Raised by one with every write.
    pub revision: u64,
    /// Who wrote this content.
    pub writer: ApplianceId,
    /// The newest configuration the witness was told of.
    pub conf: Conf,
    /// The position at which `conf`'s primary parted; only ever with a solo configuration (P8).
    pub part: Option<Position>,
    /// For each appliance an LSN its log must reach: less means that its disk lost writes.
    pub floor: PerAppliance<Lsn>,
    /// For each appliance the note it left at its last soft shutdown.
    pub left: PerAppliance<Option<Note>>,
}

/// What an appliance leaves at the witness when it shuts down softly.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Note {
    /// Where its log ended: LSN X or Y.
    pub position: Position,
    /// Whether it was the primary when the shutdown began.
    pub was_primary: bool,
}
