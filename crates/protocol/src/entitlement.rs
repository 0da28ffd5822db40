//! Who may ask the witness to be primary alone (protocol section 3, *Entitlement*), and who is damaged (section 10).
//!
//! Pure functions of the own state, the log and a record. Traps 2, 4, 19, 20, 21 and 22 live here.

use crate::log_index::LogIndex;
use crate::planted::Bug;
use crate::{Conf, Lsn, OwnState, Position, WitnessId, WitnessRecord};

/// Whether an appliance may TAKE, and if not, why.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Entitlement {
    /// It is in the in-sync set of the newest configuration known to it and the witness.
    Member,
    /// The other shut down last, alone, at exactly this appliance's position (R6).
    Equal,
    /// It may not.
    Barred(Bar),
}

/// Why an appliance may not TAKE.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Bar {
    /// Its data directory was never part of the pair.
    Blank,
    /// The peer went on without it, and has not shut down softly.
    PeerWentOn,
    /// The peer shut down last, further on than this appliance is (R7).
    Behind(Position),
    /// The peer shut down last, at the same LSN or below, but with another history (R11).
    OtherHistory(Position),
    /// It has agreed to something newer that leaves it out.
    Agreed,
    /// It has agreed to another witness and does not know whether that is in force: the other may count on either.
    Moving,
    /// The newest configuration names another witness than the one that holds this record.
    Elsewhere,
}

impl Entitlement {
    /// Judges by the own state, the own (durable) log and the record that `register` holds.
    pub fn judge(own: &OwnState, log: &LogIndex, register: WitnessId, record: &WitnessRecord) -> Self {
        let newer = record.conf.epoch() > own.conf.epoch() && !Bug::RecordIgnored.planted();
        let newest = if newer { record.conf } else { own.conf };
        // Whoever proposed the tent has put it in force, and then only the new witness counts, or has dropped it.
        let moving = |tent: Conf| tent.epoch() > newest.epoch() && tent.witness() != newest.witness();
        if own.tent.is_some_and(moving) && !Bug::MoveBarsNobody.planted() {
            return Self::Barred(Bar::Moving);
        }
        if newest.witness() != register && !Bug::FormerWitnessEntitles.planted() {
            return Self::Barred(Bar::Elsewhere);
        }
        let member = newest.has(own.appliance, own.disk);
        let position = log.last();
        // Equality counts only while the witness itself holds the newest configuration (trap 20).
        let part = record.part.filter(|_| {
            let newest = record.conf == newest || Bug::OldRecordIsEqual.planted();
            newest && record.conf.primary() == own.appliance.peer()
        });
        // An empty log equals nobody: a blank disk never wins, however empty the other was.
        let same_lsn = Bug::BareLsnIsEqual.planted() && part.is_some_and(|part| part.lsn == position.lsn);
        let equal =
            (part == Some(position) || same_lsn) && (position.lsn > Lsn::ZERO || Bug::EmptyIsEqual.planted());
        if !member && !equal {
            return Self::Barred(if log.last_lsn() == Lsn::ZERO {
                Bar::Blank
            } else {
                match part {
                    None => Bar::PeerWentOn,
                    Some(part) if part.lsn > position.lsn => Bar::Behind(part),
                    Some(part) => Bar::OtherHistory(part),
                }
            });
        }
        let bound =
            own.tent.is_some_and(|tent| tent.epoch() > newest.epoch() && !tent.has(own.appliance, own.disk));
        let unbound = Bug::TentBarsNoMember.planted() && member || Bug::TentBarsNoEqual.planted() && !member;
        if bound && !unbound {
            return Self::Barred(Bar::Agreed);
        }
        if member { Self::Member } else { Self::Equal }
    }

    /// Whether it may.
    pub const fn may(self) -> bool {
        !matches!(self, Self::Barred(_))
    }
}

/// Whether the own disk has dropped writes: the witness remembers more than the log holds.
pub fn is_damaged(own: &OwnState, log: &LogIndex, record: &WitnessRecord) -> bool {
    if own.conf.is_none() {
        return false;
    }
    if log.last_lsn() < *record.floor.get(own.appliance) && !Bug::FloorIgnored.planted() {
        return true;
    }
    let parted_here = record.conf.has(own.appliance, own.disk)
        && record.conf.is_solo()
        && own.conf.epoch() <= record.conf.epoch();
    match record.part {
        Some(part) if parted_here && !Bug::LostPartIgnored.planted() => {
            log.at(part.lsn) != Some(part) && part.lsn >= log.base().lsn
        }
        _ => false,
    }
}
