//! The changes alone: dense revisions, contents that follow from one another.

use duet_checkers::{ChangeKind, KeyValue};

use crate::support::{Story, during};

fn story() -> Story {
    let mut story = Story::new();
    story.put(during(1, 2), "k", "1");
    story.put(during(3, 4), "k", "2");
    story.delete(during(5, 6), "k");
    story.put(during(7, 8), "k", "3");
    story
}

fn change(story: &mut Story, index: usize) -> &mut KeyValue {
    match &mut story.history.changes[index].kind {
        ChangeKind::Put(now) => now,
        ChangeKind::Delete => unreachable!("a put"),
    }
}

#[test]
fn a_key_that_comes_goes_and_comes() {
    story().is_good();
}

#[test]
fn a_revision_is_missing() {
    let mut story = story();
    story.history.changes.remove(1);
    story.is_bad("dense revisions", &["k deleted at revision 4", "after revision 2"]);
}

#[test]
fn revisions_go_backwards() {
    let mut story = story();
    story.history.changes.swap(1, 2);
    story.is_bad("dense revisions", &["k deleted at revision 4", "after revision 2"]);
}

#[test]
fn the_first_revision_is_two() {
    let mut story = story();
    story.history.changes[0].revision = 1;
    story.is_bad("dense revisions", &["after revision 1"]);
}

#[test]
fn a_version_is_wrong() {
    let mut story = story();
    change(&mut story, 1).version = 5;
    story.is_bad("content follows from the changes", &["version 5", "should be", "version 2"]);
}

#[test]
fn a_create_revision_survives_a_delete() {
    let mut story = story();
    change(&mut story, 3).create_revision = 2;
    story.is_bad("content follows from the changes", &["created at 2", "should be \"3\" (written at 5)"]);
}

#[test]
fn what_is_not_there_is_deleted() {
    let mut story = story();
    story.history.changes[0].kind = ChangeKind::Delete;
    story.is_bad("content follows from the changes", &["k deleted at revision 2 was not there"]);
}

#[test]
fn one_revision_changes_a_key_twice() {
    let mut story = story();
    let again = story.history.changes[3].clone();
    story.history.changes.push(again);
    story.is_bad("one change a revision", &["second change"]);
}
