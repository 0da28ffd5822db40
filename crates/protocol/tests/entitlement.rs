//! Who may ask the witness to be primary alone, and whose disk has lost writes: the traps, one by one.

use bytes::Bytes;
use duet_protocol::entitlement::{Bar, Entitlement, is_damaged};
use duet_protocol::{
    ApplianceId, ClusterId, Conf, Digest, DiskId, Entry, Epoch, LogIndex, Lsn, OwnState, PerAppliance,
    Position, RecoveredLog, WitnessId, WitnessRecord,
};

const A: ApplianceId = ApplianceId::A;
const B: ApplianceId = ApplianceId::B;
const FIRST: WitnessId = WitnessId::FIRST;
const SECOND: WitnessId = WitnessId(1);
const DISKS: PerAppliance<DiskId> = PerAppliance { a: DiskId(1), b: DiskId(2) };

fn both(epoch: u64) -> Conf {
    Conf::pair(Epoch(epoch), A, DISKS)
}

fn solo(epoch: u64, appliance: ApplianceId) -> Conf {
    Conf::solo(Epoch(epoch), appliance, *DISKS.get(appliance))
}

/// B's view: it holds `conf` and a log of `lsn` entries of epoch 1.
fn b_with(conf: Conf, lsn: u64) -> (OwnState, LogIndex) {
    let mut log = LogIndex::new(RecoveredLog { base: Position::EMPTY, stamps: Vec::new() });
    for _ in 0..lsn {
        log.push(&Entry::following(&log.last(), Epoch(1), Bytes::from_static(b"write")));
    }
    let own = OwnState { conf, max_epoch: conf.epoch(), ..OwnState::blank(ClusterId(9), B, DISKS.b) };
    (own, log)
}

fn record(conf: Conf, part: Option<Position>) -> WitnessRecord {
    WitnessRecord {
        cluster: ClusterId(9),
        revision: 5,
        writer: A,
        conf,
        part,
        floor: PerAppliance::default(),
        left: PerAppliance::default(),
    }
}

#[test]
fn a_member_of_the_newest_configuration_may() {
    let (own, log) = b_with(both(1), 2);
    assert_eq!(Entitlement::judge(&own, &log, FIRST, &record(both(1), None)), Entitlement::Member);
}

#[test]
fn the_newer_of_both_configurations_counts() {
    let (own, log) = b_with(both(1), 2);
    let dropped = record(solo(3, A), None);
    assert_eq!(Entitlement::judge(&own, &log, FIRST, &dropped), Entitlement::Barred(Bar::PeerWentOn));
    let (own, log) = b_with(solo(4, B), 2);
    assert_eq!(Entitlement::judge(&own, &log, FIRST, &record(solo(3, A), None)), Entitlement::Member);
}

#[test]
fn another_disk_in_the_same_appliance_inherits_nothing() {
    let (mut own, log) = b_with(both(1), 2);
    own.disk = DiskId(77);
    assert!(!Entitlement::judge(&own, &log, FIRST, &record(both(1), None)).may());
}

#[test]
fn equality_is_of_positions_not_of_lsns() {
    let (own, log) = b_with(both(1), 3);
    let here = log.last();
    let judge = |part| Entitlement::judge(&own, &log, FIRST, &record(solo(3, A), Some(part)));
    assert_eq!(judge(here), Entitlement::Equal);
    let further = Position { lsn: Lsn(4), ..here };
    assert_eq!(judge(further), Entitlement::Barred(Bar::Behind(further)));
    let other = Position { digest: Digest([9; 16]), ..here };
    assert_eq!(judge(other), Entitlement::Barred(Bar::OtherHistory(other)));
    let other_epoch = Position { epoch: Epoch(2), ..here };
    assert_eq!(judge(other_epoch), Entitlement::Barred(Bar::OtherHistory(other_epoch)));
}

#[test]
fn equality_needs_the_witness_to_hold_the_newest_configuration() {
    let (own, log) = b_with(solo(5, A), 3);
    let old = record(solo(3, A), Some(log.last()));
    assert!(!Entitlement::judge(&own, &log, FIRST, &old).may());
}

#[test]
fn a_blank_disk_equals_nobody_however_empty_the_other_is() {
    let (own, log) = b_with(Conf::NONE, 0);
    let empty = record(solo(1, A), Some(Position::EMPTY));
    assert_eq!(Entitlement::judge(&own, &log, FIRST, &empty), Entitlement::Barred(Bar::Blank));
}

#[test]
fn a_newer_tent_without_me_bars_membership_and_equality() {
    let (mut own, log) = b_with(both(1), 3);
    own.tent = Some(solo(3, A));
    assert_eq!(
        Entitlement::judge(&own, &log, FIRST, &record(both(1), None)),
        Entitlement::Barred(Bar::Agreed)
    );
    let (mut own, log) = b_with(solo(3, A), 3);
    own.tent = Some(solo(5, A));
    let parted = record(solo(3, A), Some(log.last()));
    assert_eq!(Entitlement::judge(&own, &log, FIRST, &parted), Entitlement::Barred(Bar::Agreed));
    own.tent = Some(Conf::pair(Epoch(5), A, DISKS));
    assert_eq!(
        Entitlement::judge(&own, &log, FIRST, &parted),
        Entitlement::Equal,
        "a tent with me in it is no bar"
    );
}

/// The other has put the tent in force, and then counts on the second witness; or dropped it, and then on the first.
#[test]
fn a_tent_with_another_witness_bars_at_both() {
    let (mut own, log) = b_with(both(1), 3);
    own.tent = Some(both(3).at(SECOND));
    let stale = record(both(1), None);
    for register in [FIRST, SECOND] {
        assert_eq!(Entitlement::judge(&own, &log, register, &stale), Entitlement::Barred(Bar::Moving));
    }
    let equal = record(solo(2, A), Some(log.last()));
    assert_eq!(Entitlement::judge(&own, &log, FIRST, &equal), Entitlement::Barred(Bar::Moving));
    // That very agreement, or a later one, at the new witness: it is in force.
    let (own, log) = b_with(both(3).at(SECOND), 3);
    assert_eq!(Entitlement::judge(&own, &log, SECOND, &stale), Entitlement::Member);
}

#[test]
fn a_former_witness_entitles_nobody() {
    let (own, log) = b_with(both(3).at(SECOND), 3);
    let former = record(both(1), None);
    assert_eq!(Entitlement::judge(&own, &log, FIRST, &former), Entitlement::Barred(Bar::Elsewhere));
    // One who has slept through it all finds the mark there.
    let (own, log) = b_with(both(1), 3);
    let marked = record(both(3).at(SECOND), None);
    assert_eq!(Entitlement::judge(&own, &log, FIRST, &marked), Entitlement::Barred(Bar::Elsewhere));
}

#[test]
fn a_log_below_its_floor_has_lost_writes() {
    let (own, log) = b_with(both(1), 3);
    let mut known = record(both(1), None);
    known.floor.b = Lsn(3);
    assert!(!is_damaged(&own, &log, &known));
    known.floor.b = Lsn(4);
    assert!(is_damaged(&own, &log, &known));
    known.floor = PerAppliance { a: Lsn(9), b: Lsn(0) };
    assert!(!is_damaged(&own, &log, &known), "the other's floor");
}

#[test]
fn a_log_without_the_position_its_own_appliance_parted_at_has_lost_writes() {
    let (own, log) = b_with(solo(2, B), 3);
    let here = log.last();
    assert!(!is_damaged(&own, &log, &record(solo(2, B), Some(here))));
    let further = Position { lsn: Lsn(4), ..here };
    assert!(is_damaged(&own, &log, &record(solo(2, B), Some(further))));
    let (later, log) = b_with(solo(4, B), 3);
    assert!(!is_damaged(&later, &log, &record(solo(2, B), Some(further))), "it went on since");
}
