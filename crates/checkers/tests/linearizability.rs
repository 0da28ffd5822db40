//! The search for an order from values alone: small histories that have one, and such that have none.

#![allow(clippy::unwrap_used)] // in a test a panic is the report

mod support;

use duet_checkers::linearizability::{Found, check};
use duet_checkers::{
    Answer, Compare, Condition, Keys, Operation, Outcome, Request, Step, StepAnswer, Time, Txn,
};
use support::{Story, When, during};

const BUDGET: usize = 100_000;

fn accepted(operations: &[Operation]) -> Found {
    let found = check(operations, BUDGET).unwrap();
    assert_eq!(found.given_up, 0);
    found
}

fn refused(operations: &[Operation], words: &[&str]) {
    let violation = check(operations, BUDGET).expect_err("there is no order");
    for word in words {
        assert!(violation.sentence.contains(word), "\"{word}\" is not in: {violation}");
    }
}

/// A read by client 1 that found `value`, written as often as `version` says.
fn found(story: &mut Story, (from, to): (Time, Time), value: Option<(&str, i64)>) {
    let read = story.get(When { client: 1, from, to }, "k");
    let content = value.map(|(value, version)| {
        let mut held = story.state_at(story.revision()).get("k").unwrap().clone();
        (held.value, held.version) = (value.to_owned(), version);
        ("k".to_owned(), held)
    });
    let Outcome::Acknowledged { answer: Answer::Txn { steps, .. }, .. } =
        &mut story.history.operations[read].outcome
    else {
        unreachable!()
    };
    steps[0] = StepAnswer::Got(content.into_iter().collect());
}

#[test]
fn reads_beside_a_write_may_see_it_or_not_but_not_in_turn() {
    let mut story = Story::new();
    story.put(during(1, 2), "k", "old");
    story.put(during(10, 50), "k", "new");
    found(&mut story, (11, 12), Some(("old", 1)));
    found(&mut story, (13, 14), Some(("new", 2)));
    accepted(&story.history.operations);
    found(&mut story, (15, 16), Some(("old", 1)));
    refused(&story.history.operations, &["client 1 at B", "get k; found k = \"old\""]);
}

#[test]
fn a_read_after_a_write_sees_it() {
    let mut story = Story::new();
    story.put(during(1, 2), "k", "old");
    story.put(during(3, 4), "k", "new");
    found(&mut story, (5, 6), Some(("old", 1)));
    refused(&story.history.operations, &["k = \"new\" (version 2)", "found k = \"old\""]);
}

#[test]
fn an_unknown_write_may_be_seen_late_or_never_but_stays_seen() {
    let mut story = Story::new();
    story.put(during(1, 2), "k", "old");
    story.ask_unheard(during(3, 4), Request::Txn(Txn::put("k", "new")));
    found(&mut story, (5, 6), Some(("old", 1)));
    accepted(&story.history.operations);
    found(&mut story, (7, 8), Some(("new", 2)));
    accepted(&story.history.operations);
    found(&mut story, (9, 10), Some(("old", 1)));
    refused(&story.history.operations, &["found k = \"old\""]);
}

#[test]
fn an_unknown_write_is_not_done_twice() {
    let mut story = Story::new();
    story.ask_unheard(during(1, 2), Request::Txn(Txn::put("k", "ghost")));
    found(&mut story, (3, 4), Some(("ghost", 1)));
    story.delete(during(5, 6), "k");
    story.put(during(7, 8), "k", "other");
    accepted(&story.history.operations);
    found(&mut story, (9, 10), Some(("ghost", 1)));
    refused(&story.history.operations, &["found k = \"ghost\""]);
}

#[test]
fn a_failed_write_is_not_seen() {
    let mut story = Story::new();
    story.put(during(1, 2), "k", "old");
    story.ask_in_vain(during(3, 4), Request::Txn(Txn::put("k", "refused")), true);
    found(&mut story, (5, 6), Some(("refused", 2)));
    refused(&story.history.operations, &["found k = \"refused\""]);
}

/// Both find the counter at a version and write the next.
fn count_up(story: &mut Story, when: When, version: i64, value: &str) {
    let request = Txn {
        conditions: vec![Condition { key: "k".into(), compare: Compare::Version(version) }],
        then: vec![Step::Put { key: "k".into(), value: value.into(), lease: 0 }],
        otherwise: vec![],
    };
    story.ask(when, Request::Txn(request));
}

#[test]
fn of_two_that_compare_one_wins() {
    let mut story = Story::new();
    count_up(&mut story, during(1, 10), 0, "mine");
    count_up(&mut story, When { client: 1, from: 2, to: 9 }, 0, "yours");
    accepted(&story.history.operations);
    let won = story.history.operations[0].outcome.clone();
    story.history.operations[1].outcome = won;
    refused(&story.history.operations, &["if k has version 0"]);
}

#[test]
fn a_condition_on_a_revision_is_believed_but_what_it_did_is_not() {
    let compare = Compare::ModRevision(2);
    let change = Txn {
        conditions: vec![Condition { key: "k".into(), compare }],
        then: vec![Step::Put { key: "k".into(), value: "changed".into(), lease: 0 }],
        otherwise: vec![Step::Get(Keys::One("k".into()))],
    };
    let mut story = Story::new();
    story.put(during(1, 2), "k", "old");
    story.ask(during(3, 4), Request::Txn(change));
    found(&mut story, (5, 6), Some(("changed", 2)));
    accepted(&story.history.operations);
    found(&mut story, (7, 8), Some(("old", 1)));
    refused(&story.history.operations, &["found k = \"old\""]);
}

#[test]
fn keys_are_joined_by_transactions_and_prefixes() {
    let mut story = Story::new();
    story.put(during(1, 2), "a/1", "x");
    story.put(during(1, 2), "a/2", "x");
    story.put(during(1, 2), "b", "x");
    assert_eq!(accepted(&story.history.operations).orders, 3);
    story.ask(during(3, 4), Request::Txn(Txn::of(Step::Get(Keys::Prefix("a/".into())))));
    assert_eq!(accepted(&story.history.operations).orders, 2);
    // Half of a transaction seen, the other half not.
    let both = vec![
        Step::Put { key: "a/1".into(), value: "y".into(), lease: 0 },
        Step::Put { key: "b".into(), value: "y".into(), lease: 0 },
    ];
    story.ask(during(5, 6), Request::Txn(Txn { then: both, ..Txn::default() }));
    let old = story.get(during(7, 8), "b");
    assert_eq!(accepted(&story.history.operations).orders, 1);
    let Outcome::Acknowledged { answer: Answer::Txn { steps, .. }, .. } =
        &mut story.history.operations[old].outcome
    else {
        unreachable!()
    };
    let StepAnswer::Got(content) = &mut steps[0] else { unreachable!() };
    (content[0].1.value, content[0].1.version) = ("x".into(), 1);
    refused(&story.history.operations, &["b = \"y\"", "found b = \"x\""]);
}

#[test]
fn keys_with_leases_are_left_out() {
    let mut story = Story::new();
    let leased = Step::Put { key: "k".into(), value: "v".into(), lease: 7 };
    story.ask(during(1, 2), Request::Txn(Txn::of(leased)));
    story.put(during(1, 2), "other", "v");
    let found = accepted(&story.history.operations);
    assert_eq!((found.orders, found.left_out), (1, 1));
}

#[test]
fn a_search_that_takes_too_long_is_given_up() {
    let mut story = Story::new();
    for client in 0..12 {
        story.put(When { client, from: 1, to: 1000 }, "k", &client.to_string());
    }
    found(&mut story, (2000, 2001), Some(("nobody's", 12)));
    let given_up = check(&story.history.operations, 500).unwrap();
    assert_eq!((given_up.orders, given_up.given_up), (0, 1));
}
