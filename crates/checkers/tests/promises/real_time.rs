//! Revisions agree with real time.

use duet_checkers::{Answer, Keys, Outcome, Request, StepAnswer, Txn};

use crate::support::{Story, When, during};

const STALE: &str = "no stale answer";
const ORDER: &str = "revisions follow real time";

/// The read of `story` is answered from an older revision.
fn make_stale(story: &mut Story, index: usize, revision: i64) {
    let found = story.state_at(revision).get("k").map(|held| ("k".to_owned(), held.clone()));
    let Outcome::Acknowledged { answer, .. } = &mut story.history.operations[index].outcome else {
        unreachable!()
    };
    *answer =
        Answer::Txn { revision, succeeded: true, steps: vec![StepAnswer::Got(found.into_iter().collect())] };
}

#[test]
fn a_read_that_overlaps_a_write_may_come_before_it() {
    let mut story = Story::new();
    story.put(during(1, 2), "k", "old");
    story.put(during(3, 10), "k", "new");
    let read = story.get(When { client: 1, from: 5, to: 6 }, "k");
    story.is_good();
    make_stale(&mut story, read, 2);
    story.is_good();
}

#[test]
fn a_read_after_an_answered_write_is_stale() {
    let mut story = Story::new();
    story.put(during(1, 2), "k", "old");
    story.put(during(3, 4), "k", "new");
    let read = story.get(When { client: 1, from: 5, to: 6 }, "k");
    story.is_good();
    make_stale(&mut story, read, 2);
    story.is_bad(STALE, &["client 1 at B", "found k = \"old\"", "after [client 0 at A", "put k = \"new\""]);
}

#[test]
fn a_read_after_another_read_is_stale() {
    let mut story = Story::new();
    story.put(during(1, 2), "k", "old");
    story.put(during(3, 100), "k", "new");
    story.get(during(10, 11), "k");
    let read = story.get(during(12, 13), "k");
    story.is_good();
    make_stale(&mut story, read, 2);
    story.is_bad(STALE, &["found k = \"old\"", "found k = \"new\""]);
}

#[test]
fn a_serializable_read_may_be_old() {
    let mut story = Story::new();
    story.put(during(1, 2), "k", "old");
    story.put(during(3, 4), "k", "new");
    story.get_old(during(5, 6), "k", 2);
    story.get(during(7, 8), "k");
    story.is_good();
}

#[test]
fn nobody_sees_a_write_before_it_is_asked() {
    let mut story = Story::new();
    story.put(during(1, 2), "k", "old");
    story.put(during(30, 40), "k", "new");
    story.get_old(during(5, 6), "k", 3);
    story.is_bad(ORDER, &["put k = \"new\"", "wrote revision 3, but revision 3 was seen", "as it is here"]);
}

#[test]
fn no_watch_shows_a_write_before_it_is_asked() {
    let mut story = Story::new();
    story.put(during(1, 2), "k", "old");
    story.put(during(30, 40), "k", "new");
    story.watch(Keys::One("k".into()), 1, 31);
    story.is_good();
    story.history.watches[0].events[1].at = 29;
    story.is_bad(ORDER, &["put k = \"new\"", "the watch of k by client 9"]);
}

#[test]
fn two_writes_one_after_the_other_in_the_wrong_order() {
    let mut story = Story::new();
    story.put(during(30, 40), "k", "second");
    story.put(during(1, 2), "k", "first");
    story.is_bad(ORDER, &["put k = \"second\"", "put k = \"first\""]);
}

#[test]
fn an_unknown_write_cannot_have_been_done_before_it_was_asked() {
    let mut story = Story::new();
    story.ask_unheard(during(30, 40), Request::Txn(Txn::put("k", "early")));
    story.put(during(1, 2), "k", "first");
    story.is_bad(ORDER, &["k = \"early\"", "seen before", "outcome unknown"]);
}

#[test]
fn an_unknown_write_may_be_done_late() {
    let mut story = Story::new();
    story.put(during(10, 20), "k", "first");
    story.put(during(30, 40), "k", "second");
    story.ask_unheard(during(1, 2), Request::Txn(Txn::put("k", "late")));
    story.is_good();
}
