//! Every answer is the state at its revision.

use duet_checkers::{Answer, Compare, Condition, Keys, Number, Outcome, Request, Step, StepAnswer, Txn};

use crate::support::{Story, during};

const PROMISE: &str = "answers are the state at their revision";

fn answer(story: &mut Story, index: usize) -> &mut Answer {
    match &mut story.history.operations[index].outcome {
        Outcome::Acknowledged { answer, .. } => answer,
        _ => unreachable!("it was answered"),
    }
}

fn steps(story: &mut Story, index: usize) -> &mut Vec<StepAnswer> {
    match answer(story, index) {
        Answer::Txn { steps, .. } => steps,
        Answer::Lease { .. } | Answer::Compacted { .. } => unreachable!("a transaction"),
    }
}

fn if_absent(key: &str, value: &str) -> Request {
    Request::Txn(Txn {
        conditions: vec![Condition { key: key.into(), compare: Compare::CreateRevision(0) }],
        then: vec![Step::Put { key: key.into(), value: value.into(), lease: 0 }],
        otherwise: vec![Step::Get(Keys::One(key.into()))],
    })
}

/// 0: put, 1: get, 2: a lock taken, 3: a lock not taken, 4: get of a prefix, 5: delete, 6: an old read.
fn story() -> Story {
    let mut story = Story::new();
    story.put(during(1, 2), "k", "v");
    story.get(during(3, 4), "k");
    story.ask(during(5, 6), if_absent("lock", "mine"));
    story.ask(during(7, 8), if_absent("lock", "yours"));
    story.ask(during(9, 10), Request::Txn(Txn::of(Step::Get(Keys::Prefix(String::new())))));
    story.delete(during(11, 12), "k");
    story.get_old(during(13, 14), "k", 2);
    story
}

#[test]
fn right_answers() {
    story().is_good();
}

#[test]
fn a_read_finds_another_value() {
    let mut story = story();
    let StepAnswer::Got(found) = &mut steps(&mut story, 1)[0] else { unreachable!() };
    found[0].1.value = "w".into();
    story.is_bad(PROMISE, &["get k; found k = \"w\"", "at revision 2 it is: found k = \"v\""]);
}

#[test]
fn a_read_finds_nothing() {
    let mut story = story();
    steps(&mut story, 1)[0] = StepAnswer::Got(Vec::new());
    story.is_bad(PROMISE, &["get k; found nothing", "found k = \"v\""]);
}

#[test]
fn a_prefix_read_leaves_a_key_out() {
    let mut story = story();
    let StepAnswer::Got(found) = &mut steps(&mut story, 4)[0] else { unreachable!() };
    found.pop();
    story.is_bad(PROMISE, &["get *; found k = \"v\"", "and lock = \"mine\""]);
}

#[test]
fn two_take_one_lock() {
    let mut story = story();
    story.put(during(15, 16), "lock", "yours");
    let taken = Answer::Txn { revision: 5, succeeded: true, steps: vec![StepAnswer::Put] };
    *answer(&mut story, 3) = taken;
    story.history.operations.pop();
    story.is_bad(PROMISE, &["put lock = \"yours\"", "the conditions did not hold at revision 4"]);
}

#[test]
fn a_condition_that_held_is_said_not_to() {
    let mut story = story();
    let found = steps(&mut story, 3).clone();
    *answer(&mut story, 2) = Answer::Txn { revision: 1, succeeded: false, steps: found };
    story.is_bad(PROMISE, &["put lock = \"mine\"", "conditions held at revision 1"]);
}

#[test]
fn a_delete_counts_wrong() {
    let mut story = story();
    steps(&mut story, 5)[0] = StepAnswer::Deleted(2);
    story.is_bad(PROMISE, &["delete k; deleted 2", "it is: deleted 1"]);
}

#[test]
fn an_old_read_shows_what_never_was() {
    let mut story = story();
    let StepAnswer::Got(found) = &mut steps(&mut story, 6)[0] else { unreachable!() };
    found.clear();
    story.is_bad(PROMISE, &["get k as it is here; found nothing", "found k = \"v\""]);
}

#[test]
fn a_revision_that_never_was() {
    let mut story = story();
    let Answer::Txn { revision, .. } = answer(&mut story, 1) else { unreachable!() };
    *revision = 9;
    story.is_bad(PROMISE, &["get k", "above the last one, 4"]);
}

#[test]
fn the_answer_to_another_question() {
    let mut story = story();
    *answer(&mut story, 1) = Answer::Lease { revision: 2, ttl: Some(3) };
    story.is_bad(PROMISE, &["get k", "another question"]);
}

/// 0-2: puts of a to c, 3: written when a was created above revision 2 and lives by no lease, which is not so; 4: a range.
fn compared() -> Story {
    let mut story = Story::new();
    for (at, key) in [(1, "a"), (3, "b"), (5, "c")] {
        story.put(during(at, at + 1), key, "v");
    }
    let compares =
        [Compare::Above(Number::CreateRevision, 2), Compare::Lease(0), Compare::Below(Number::Version, 2)];
    let conditions = compares.map(|compare| Condition { key: "a".into(), compare }).to_vec();
    let range = Keys::Range("a".into(), "c".into());
    let (then, otherwise) = (vec![Step::Delete(range.clone())], vec![Step::Get(range.clone())]);
    story.ask(during(7, 8), Request::Txn(Txn { conditions, then, otherwise }));
    story.ask(during(9, 10), Request::Txn(Txn::of(Step::Delete(range))));
    story
}

#[test]
fn numbers_are_compared_and_ranges_are_half_open() {
    let mut story = compared();
    let StepAnswer::Got(found) = &steps(&mut story, 3)[0] else { unreachable!("the conditions do not hold") };
    assert_eq!(found.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(steps(&mut story, 4), &[StepAnswer::Deleted(2)]);
    story.is_good();
}

#[test]
fn a_range_finds_one_key_too_many() {
    let mut story = compared();
    let StepAnswer::Got(found) = &mut steps(&mut story, 3)[0] else {
        unreachable!("the conditions do not hold")
    };
    let mut more = found[0].clone();
    more.0 = "c".into();
    found.push(more);
    story.is_bad(PROMISE, &["get a..c", "at revision 4 it is"]);
}

#[test]
fn a_comparison_comes_out_wrong() {
    let mut story = compared();
    let Answer::Txn { succeeded, .. } = answer(&mut story, 3) else { unreachable!("a transaction") };
    *succeeded = true;
    story.is_bad(
        PROMISE,
        &["the create revision of a is above 2", "the conditions did not hold at revision 4"],
    );
}
