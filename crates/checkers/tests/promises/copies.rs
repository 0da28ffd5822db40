//! Equal data on both appliances, dense LSNs.

use duet_checkers::Applied;
use duet_protocol::ApplianceId::{A, B};
use duet_protocol::{Digest, Lsn};

use crate::support::{Story, during};

const EQUAL: &str = "both appliances hold the same";
const DENSE: &str = "LSNs are dense";

fn story() -> Story {
    let mut story = Story::new();
    for (index, key) in ["a", "b", "c"].into_iter().enumerate() {
        let at = 10 * u64::try_from(index).unwrap();
        story.put(during(at + 1, at + 2), key, "v");
        story.report(A, at + 3);
        story.report(B, at + 4);
    }
    let applied = |(appliance, life, lsn): (_, u64, u64)| Applied {
        appliance,
        life,
        lsn: Lsn(lsn),
        digest: Digest([u8::try_from(lsn).unwrap(); 16]),
        revision: i64::try_from(lsn + 1).unwrap(),
    };
    let lives = [(A, 1, 1), (B, 1, 1), (A, 1, 2), (A, 1, 3), (B, 2, 2), (B, 2, 3)];
    story.history.applied = lives.into_iter().map(applied).collect();
    story
}

#[test]
fn equal_copies() {
    story().is_good();
}

#[test]
fn two_digests_at_one_position() {
    let mut story = story();
    let (lsn, epoch, _) = story.history.reports[3].last.unwrap();
    story.history.reports[3].last = Some((lsn, epoch, Digest([9; 16])));
    story.is_bad(
        EQUAL,
        &["digest at LSN 2 of epoch 1", "B at 0.000000 s has 0909", "A at 0.000000 s has 0202"],
    );
}

#[test]
fn another_epoch_may_have_another_history() {
    let mut story = story();
    let (lsn, _, _) = story.history.reports[3].last.unwrap();
    story.history.reports[3].last = Some((lsn, duet_protocol::Epoch(4), Digest([9; 16])));
    story.is_good();
}

#[test]
fn two_hashes_at_one_revision() {
    let mut story = story();
    story.history.reports[5].hash.as_mut().unwrap().hash = 77;
    story.is_bad(EQUAL, &["hash at revision 4 compacted to 0", "has 77", "has 4"]);
}

#[test]
fn two_revisions_at_one_lsn() {
    let mut story = story();
    story.history.reports[5].applied = Some((Lsn(3), 3));
    story.is_bad(EQUAL, &["B at", "has revision 3 at LSN 3", "has revision 4 at LSN 3"]);
}

#[test]
fn more_revisions_than_lsns() {
    let mut story = story();
    story.history.reports.truncate(4);
    story.history.reports[3].applied = Some((Lsn(3), 5));
    story.is_bad(EQUAL, &["has revision 5 at LSN 3"]);
}

#[test]
fn an_lsn_is_left_out() {
    let mut story = story();
    story.history.applied.remove(2);
    story.is_bad(DENSE, &["A in its life 1 applied LSN 3 after LSN 1"]);
}

#[test]
fn an_lsn_is_applied_twice_in_one_life() {
    let mut story = story();
    let again = story.history.applied[2];
    story.history.applied.insert(3, again);
    story.is_bad(DENSE, &["applied LSN 2 after LSN 2"]);
}

#[test]
fn two_entries_are_applied_at_one_lsn() {
    let mut story = story();
    story.history.applied[4].digest = Digest([9; 16]);
    story.is_bad(EQUAL, &["digest at LSN 2", "B in its life 2", "A in its life 1"]);
}

#[test]
fn one_entry_gives_two_revisions() {
    let mut story = story();
    story.history.applied[2].revision = 4;
    story.history.applied.truncate(3);
    story.is_bad("dense revisions", &["from revision 2 to revision 4 by LSN 2"]);
}
