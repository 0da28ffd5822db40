//! What an appliance without a role does: the start-up and failover table (protocol sections 6, 7 and 9).
//!
//! One row per situation, first match wins, each with the sentence a person is told. A test walks every combination of
//! inputs: the table is total and no row is dead. The table in docs/protocol.md is printed from here.

use alloc::format;
use alloc::string::{String, ToString};

use crate::appliance::Appliance;
use crate::entitlement::{Bar, Entitlement};
use crate::role::{Follower, Inquiry, Role};
use crate::{Position, limits, log_index::LogIndex};

/// All that the decision depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Situation {
    /// What is wrong with, or special about, the own data.
    pub data: Data,
    /// What the peer is doing.
    pub peer: PeerSeen,
    /// Whether it has promised a primary not to begin yet.
    pub promised: bool,
    /// What the witness says.
    pub witness: WitnessSeen,
    /// Whether it may go on by itself, needing neither witness nor peer.
    pub alone: Alone,
}

/// The own data.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Data {
    /// Nothing is known against it.
    Sound,
    /// A new data directory: no configuration was ever known.
    Blank,
    /// The disk dropped writes.
    Damaged,
    /// It is not the primary's history.
    Diverged,
    /// A full copy is being installed.
    Installing,
}

/// The peer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PeerSeen {
    /// It does not answer, or is about to stop.
    Silent,
    /// It is primary.
    Primary,
    /// It waits too; both logs are equal and this appliance is to begin, with both in sync.
    EqualAndMine,
    /// It waits too; this appliance is to begin.
    Mine,
    /// It waits too and is to begin.
    Theirs,
    /// It was to begin and has not in good time.
    TheirsLate,
    /// It waits too, with a new data directory: it cannot say what the old one had agreed to.
    New,
}

/// The witness.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum WitnessSeen {
    /// Not asked yet since the primary went missing.
    Unasked,
    /// It does not answer.
    Silent,
    /// It answers and has no record.
    Absent,
    /// It holds the record of another pair.
    Foreign,
    /// This appliance was in sync: it may ask to be primary alone.
    Member,
    /// The peer shut down last at this very position: the same.
    Equal,
    /// It may not: the peer shut down last, further on.
    Behind,
    /// It may not: the peer shut down last, with another history.
    OtherHistory,
    /// It may not: the peer went on without it.
    PeerWentOn,
    /// It may not: it has agreed that the peer goes on without it.
    Agreed,
    /// It was set back to an older record than it held.
    SetBack,
    /// It may not, whatever any witness says: it has agreed to another one, and the peer may count on that or on this one.
    Moving,
}

/// Whether BEGIN ALONE is possible.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Alone {
    /// It is the only one in sync.
    May,
    /// It was, but has left its position at the witness: the peer may have taken over.
    Parted,
    /// It has agreed to something newer.
    Agreed,
    /// Another appliance is in sync, or this one is not.
    No,
}

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Move {
    /// Follow the primary.
    Follow,
    /// Wait; the reason is for a person.
    Wait,
    /// Read the witness and, if entitled, ask it to be primary alone.
    Take,
    /// Go on alone, under the same configuration.
    BeginAlone,
    /// Agree with the peer to begin with both in sync.
    ColdPair,
    /// Agree with the peer to begin alone.
    ColdSolo,
}

/// One row.
pub struct Row {
    /// Its name in docs and tests.
    pub name: &'static str,
    /// When it applies (and no row above does).
    pub when: fn(&Situation) -> bool,
    /// The same in words.
    pub condition: &'static str,
    /// What is done.
    pub then: Move,
    /// Why, for a person.
    pub reason: &'static str,
}

/// The table.
pub const TABLE: &[Row] = &[
    Row {
        name: "installing",
        when: |s| s.data == Data::Installing,
        condition: "a full copy is being installed",
        then: Move::Wait,
        reason: "A full copy of the primary's data is being installed; until it is complete this appliance cannot serve.",
    },
    Row {
        name: "diverged",
        when: |s| s.data == Data::Diverged,
        condition: "the own history is not the primary's",
        then: Move::Wait,
        reason: "Its data has the same LSN as the primary's but another history: it is not this pair's data, or was changed. \
                 Nothing is copied over it. To replace it by a full copy, move the data directory away and start again.",
    },
    Row {
        name: "follow",
        when: |s| s.peer == PeerSeen::Primary,
        condition: "the peer is primary",
        then: Move::Follow,
        reason: "The peer is primary: it follows.",
    },
    Row {
        name: "blank",
        when: |s| s.data == Data::Blank,
        condition: "the data directory is new",
        then: Move::Wait,
        reason: "Its data directory is new and empty: it waits for the primary and copies everything from it.",
    },
    Row {
        name: "damaged",
        when: |s| s.data == Data::Damaged,
        condition: "the disk dropped writes",
        then: Move::Wait,
        reason: "Its disk has lost writes that the witness knows of: it waits for its peer and is repaired from it.",
    },
    Row {
        name: "promised",
        when: |s| s.promised,
        condition: "a promise to a primary is running, or may be since before the start",
        then: Move::Wait,
        reason: "It may have promised a primary not to begin before a moment is over.",
    },
    Row {
        name: "cold-pair",
        when: |s| s.peer == PeerSeen::EqualAndMine && s.alone != Alone::May,
        condition: "both wait, both logs are equal, this one was primary",
        then: Move::ColdPair,
        reason: "Both appliances are here with equal data: it begins, both in sync.",
    },
    Row {
        name: "cold-solo",
        when: |s| s.peer == PeerSeen::Mine && s.alone != Alone::May,
        condition: "both wait, this one has more or is the only one in sync",
        then: Move::ColdSolo,
        reason: "Both appliances are here and this one has everything: it begins, the other catches up.",
    },
    Row {
        name: "courtesy",
        when: |s| s.peer == PeerSeen::Theirs,
        condition: "both wait, the other is to begin",
        then: Move::Wait,
        reason: "Both appliances are here; the other one is to begin.",
    },
    Row {
        name: "ask",
        when: |s| s.witness == WitnessSeen::Unasked,
        condition: "the witness was not asked yet",
        then: Move::Take,
        reason: "It asks the witness.",
    },
    Row {
        name: "member",
        when: |s| s.witness == WitnessSeen::Member,
        condition: "the witness answers and this one was in sync",
        then: Move::Take,
        reason: "It has every acknowledged write: it asks the witness to be primary alone.",
    },
    Row {
        name: "equal",
        when: |s| s.witness == WitnessSeen::Equal,
        condition: "the witness answers and the other shut down last at this position",
        then: Move::Take,
        reason: "Its data equals what the other had when it shut down last: it asks the witness to be primary alone.",
    },
    Row {
        name: "foreign",
        when: |s| s.witness == WitnessSeen::Foreign,
        condition: "the witness holds the record of another pair",
        then: Move::Wait,
        reason: "The witness holds the record of another pair: either this data does not belong here, or the witness's address \
                 is wrong. Check both.",
    },
    Row {
        name: "alone",
        when: |s| s.alone == Alone::May,
        condition: "this one alone was in sync and has not parted",
        then: Move::BeginAlone,
        reason: "It alone has every acknowledged write: it goes on without witness and peer.",
    },
    Row {
        name: "behind",
        when: |s| s.witness == WitnessSeen::Behind,
        condition: "the other shut down last, further on",
        then: Move::Wait,
        reason: "The other appliance shut down last and has newer data: it waits for the other.",
    },
    Row {
        name: "other-history",
        when: |s| s.witness == WitnessSeen::OtherHistory,
        condition: "the other shut down last, with another history",
        then: Move::Wait,
        reason: "The other appliance shut down last and its history differs from this one's, whatever the LSN: it waits for \
                 the other.",
    },
    Row {
        name: "peer-went-on",
        when: |s| s.witness == WitnessSeen::PeerWentOn,
        condition: "the other went on without this one",
        then: Move::Wait,
        reason: "The other appliance went on without this one and may have newer data: it waits for the other.",
    },
    Row {
        name: "moving",
        when: |s| s.witness == WitnessSeen::Moving,
        condition: "this one has agreed to another witness, and does not know whether the other has made it so",
        then: Move::Wait,
        reason: "It has agreed to another witness and does not know which of the two the other appliance counts on: it waits \
                 for the other.",
    },
    Row {
        name: "agreed",
        when: |s| s.witness == WitnessSeen::Agreed || s.alone == Alone::Agreed,
        condition: "this one has agreed that the other goes on without it",
        then: Move::Wait,
        reason: "It has agreed that the other appliance goes on without it, and does not know how far that went: it waits for \
                 the other.",
    },
    Row {
        name: "new-peer",
        when: |s| s.peer == PeerSeen::New && s.witness == WitnessSeen::Silent,
        condition: "the peer's data directory is new, and the witness does not answer",
        then: Move::Wait,
        reason: "The other appliance has a new data directory and cannot say whether its old one went on. It waits for the \
                 witness.",
    },
    Row {
        name: "parted",
        when: |s| s.alone == Alone::Parted,
        condition: "this one shut down last, and the witness does not answer",
        then: Move::Wait,
        reason: "It shut down last and left its LSN at the witness; the other may have taken over since. It waits for the \
                 witness or the other.",
    },
    Row {
        name: "absent",
        when: |s| s.witness == WitnessSeen::Absent,
        condition: "the witness has no record",
        then: Move::Wait,
        reason: "The witness answers but holds no record of this pair, so it cannot say whether the other went on. It waits \
                 for the other.",
    },
    Row {
        name: "set-back",
        when: |s| s.witness == WitnessSeen::SetBack,
        condition: "the witness has an older record than it had before",
        then: Move::Wait,
        reason: "The witness was set back to an old copy of its record, so it cannot say whether the other went on. It waits \
                 for the other.",
    },
    Row {
        name: "silent",
        when: |s| s.witness == WitnessSeen::Silent,
        condition: "neither the other nor the witness answers",
        then: Move::Wait,
        reason: "Neither the other appliance nor the witness answers, and the other may have gone on: it waits for either.",
    },
];

/// The row that applies.
pub fn decide(situation: &Situation) -> &'static Row {
    match TABLE.iter().find(|row| (row.when)(situation)) {
        Some(row) => row,
        None => panic!("the decision table is total"),
    }
}

impl Appliance {
    /// The present situation of a follower.
    pub(crate) fn situation(&self) -> Situation {
        let Role::Follower(follower) = &self.role else {
            panic!("only a follower decides");
        };
        let data = if follower.installing.is_some() {
            Data::Installing
        } else if follower.diverged.is_some() {
            Data::Diverged
        } else if self.own.conf.is_none()
            || (self.log.last() == Position::EMPTY && !self.is_me(&self.own.conf))
        {
            Data::Blank
        } else if self.is_damaged() {
            Data::Damaged
        } else {
            Data::Sound
        };
        let witness = match follower.inquiry {
            Inquiry::Unasked => WitnessSeen::Unasked,
            Inquiry::Foreign => WitnessSeen::Foreign,
            _ if self.own.is_moving() => WitnessSeen::Moving,
            Inquiry::Silent => WitnessSeen::Silent,
            Inquiry::Absent => WitnessSeen::Absent,
            Inquiry::SetBack => WitnessSeen::SetBack,
            Inquiry::Answered => self.witness_seen(),
        };
        let peer = if follower.leader.is_some() { PeerSeen::Primary } else { self.peer_seen(follower) };
        Situation { data, peer, promised: self.promise_until > self.now, witness, alone: self.alone() }
    }

    fn witness_seen(&self) -> WitnessSeen {
        let Some((record, _)) = &self.witness.last else { return WitnessSeen::Silent };
        match Entitlement::judge(&self.own, &self.log, self.witness.id, record) {
            Entitlement::Member => WitnessSeen::Member,
            Entitlement::Equal => WitnessSeen::Equal,
            Entitlement::Barred(Bar::Behind(_)) => WitnessSeen::Behind,
            Entitlement::Barred(Bar::OtherHistory(_)) => WitnessSeen::OtherHistory,
            Entitlement::Barred(Bar::PeerWentOn | Bar::Blank | Bar::Elsewhere) => WitnessSeen::PeerWentOn,
            Entitlement::Barred(Bar::Agreed) => WitnessSeen::Agreed,
            Entitlement::Barred(Bar::Moving) => WitnessSeen::Moving,
        }
    }

    fn alone(&self) -> Alone {
        let conf = &self.own.conf;
        if !(conf.is_solo() && self.is_me(conf)) {
            Alone::No
        } else if self.own.tent.is_some() {
            Alone::Agreed
        } else if self.own.has_parted() {
            Alone::Parted
        } else {
            Alone::May
        }
    }

    /// Who of two waiting appliances begins: the one in the in-sync set; of two, the one further on; of two equal ones, the
    /// last primary.
    fn peer_seen(&self, follower: &Follower) -> PeerSeen {
        let Some(firm) = self.peer.firm.filter(|firm| self.peer.connected && !firm.leaving) else {
            return PeerSeen::Silent;
        };
        if self.peer_is_silent(limits::MISS) || self.peer.disk.is_none() {
            return PeerSeen::Silent;
        }
        let conf = &self.own.conf;
        let mine = self.is_me(conf);
        let theirs = conf.has(self.me.peer(), firm.disk) && !firm.damaged;
        let position = self.log.last();
        // What counts is that two of {A, B, witness} know of it: a disk that was not there then knows nothing.
        let vouches = if conf.is_pair() { conf.has(self.me.peer(), firm.disk) } else { firm.joined };
        let late = self.now.since(follower.since) > limits::COLD_START_COURTESY;
        let leave_it = if late { PeerSeen::TheirsLate } else { PeerSeen::Theirs };
        match (mine, theirs) {
            // They will adopt the newer configuration first.
            _ if firm.conf != *conf => leave_it,
            (false, false) => PeerSeen::Silent,
            (true, false) if !vouches => PeerSeen::New,
            (true, false) => PeerSeen::Mine,
            (true, true) if firm.position == position => {
                if conf.primary() == self.me {
                    PeerSeen::EqualAndMine
                } else {
                    leave_it
                }
            }
            (true, true) if position.is_ahead_of(&firm.position) => PeerSeen::Mine,
            (_, true) => leave_it,
        }
    }

    /// The reason with the numbers a person wants to see.
    pub(crate) fn explain(&self, row: &Row) -> String {
        let peer = self.me.peer();
        let me = self.me;
        let (own, theirs) = match me {
            crate::ApplianceId::A => ("X", "Y"),
            crate::ApplianceId::B => ("Y", "X"),
        };
        let last = self.log.last_lsn();
        let part = self.witness.last.as_ref().and_then(|(record, _)| record.part);
        match (row.name, part) {
            ("behind", Some(part)) => format!(
                "{me} is at LSN {own} = {last}, but {peer} shut down last at LSN {theirs} = {}: {own} < {theirs}. {me} waits for \
                 {peer}.",
                part.lsn
            ),
            ("other-history", Some(part)) => format!(
                "{me} is at LSN {own} = {last} (epoch {}), {peer} shut down last at LSN {theirs} = {} (epoch {}) with a \
                 different history. {me} waits for {peer}.",
                LogIndex::last(&self.log).epoch,
                part.lsn,
                part.epoch
            ),
            ("peer-went-on", _) => format!(
                "{peer} went on without {me} (at LSN {own} = {last}) and may have newer data. {me} waits for {peer}."
            ),
            _ => row.reason.to_string(),
        }
    }
}
