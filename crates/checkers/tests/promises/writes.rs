//! Acknowledged writes are there, failed ones never, unknown ones at most once.

use duet_checkers::{Answer, ChangeKind, Keys, Outcome, Request, Step, Txn};

use crate::support::{SECOND, Story, during};

const LOST: &str = "no acknowledged write is lost";
const TWICE: &str = "no write is done twice";

fn put(key: &str, value: &str) -> Request {
    Request::Txn(Txn::put(key, value))
}

/// Two acknowledged writes, one that nobody was told of and that was done, one that was not.
fn story() -> Story {
    let mut story = Story::new();
    story.put(during(10, 20), "a", "one");
    story.ask_unheard(during(30, 40), put("a", "two"));
    story.ask_in_vain(during(30, 40), put("b", "never done"), false);
    story.ask_in_vain(during(30, 40), put("b", "refused"), true);
    story.put(during(50, 60), "b", "three");
    story
}

#[test]
fn every_change_has_its_cause() {
    story().is_good();
}

#[test]
fn an_acknowledged_write_is_lost() {
    let mut story = story();
    story.history.changes.pop();
    story.is_bad("answers are the state at their revision", &["put b = \"three\"", "above the last one"]);
    story.is_bad(LOST, &["put b = \"three\"", "there is no revision 4"]);
}

#[test]
fn an_acknowledged_write_is_replaced_by_another() {
    let mut story = story();
    let ChangeKind::Put(now) = &mut story.history.changes[2].kind else { unreachable!() };
    now.value = "somebody else's".into();
    story.is_bad(LOST, &["client 0 at A", "put b = \"three\"", "what is there is b = \"somebody else's\""]);
}

#[test]
fn two_writes_were_told_the_same_revision() {
    let mut story = story();
    let double = story.history.operations[0].clone();
    story.history.operations.push(double);
    story.is_bad("one write a revision", &["put a = \"one\"", "both told revision 2"]);
}

#[test]
fn a_failed_write_appears() {
    let mut story = story();
    story.history.operations[1].outcome = Outcome::Failed { at: 40 };
    story.is_bad("no failed write appears", &["a = \"two\"", "client 0 at A", "failed"]);
}

#[test]
fn an_unknown_write_appears_twice() {
    let mut story = story();
    story.ask_unheard(during(70, 80), put("a", "two"));
    story.history.operations.pop();
    story.is_bad(TWICE, &["a = \"two\"", "at revision 5", "was done at revision 3 already"]);
}

#[test]
fn an_acknowledged_write_appears_twice() {
    let mut story = story();
    story.ask_unheard(during(70, 80), put("b", "three"));
    story.history.operations.pop();
    story.is_bad(TWICE, &["at revision 5", "as if [client 0 at A", "done again"]);
}

#[test]
fn a_change_without_a_cause() {
    let mut story = story();
    story.put(during(70, 80), "ghost", "boo");
    story.history.operations.pop();
    story.is_bad("every change has a cause", &["ghost = \"boo\""]);
}

#[test]
fn half_a_transaction_is_lost() {
    let mut story = Story::new();
    let both = Txn {
        then: vec![
            Step::Put { key: "x".into(), value: "1".into(), lease: 0 },
            Step::Put { key: "y".into(), value: "1".into(), lease: 0 },
        ],
        ..Txn::default()
    };
    story.ask(during(1, 2), Request::Txn(both));
    story.is_good();
    story.history.changes.pop();
    story.is_bad(LOST, &["put x = \"1\", put y = \"1\""]);
}

#[test]
fn deletes_of_unknown_outcome_are_told_apart() {
    let mut story = Story::new();
    story.put(during(1, 2), "k", "1");
    story.ask_unheard(during(3, 4), Request::Txn(Txn::delete("k")));
    story.put(during(5, 6), "k", "2");
    story.ask_unheard(during(7, 8), Request::Txn(Txn::delete("k")));
    story.is_good();
    // One delete cannot have done both.
    story.history.operations.pop();
    story.is_bad(TWICE, &["k deleted at revision 5", "delete k", "revision 3 already"]);
}

#[test]
fn a_delete_that_hit_a_key_with_a_lease_is_not_mistaken_for_the_leases_end() {
    let mut story = Story::new();
    story.ask(during(1, 2), Request::Grant { lease: 7, ttl: 60 });
    let leased = Step::Put { key: "k".into(), value: "1".into(), lease: 7 };
    story.ask(during(3, 4), Request::Txn(Txn::of(leased.clone())));
    story.ask_unheard(during(5, 6), Request::Txn(Txn::of(Step::Delete(Keys::Prefix("k".into())))));
    story.ask(during(7, 8), Request::Txn(Txn::of(leased)));
    story.is_good();
    // The same delete by nobody would be the end of the lease, and too early.
    story.history.operations.remove(2);
    story.is_bad("no lease ends early", &["lease 7 ended at revision 3"]);
}

#[test]
fn a_revoke_answered_at_a_later_revision_is_the_cause_all_the_same() {
    let mut story = Story::new();
    story.ask(during(1, 2), Request::Grant { lease: 7, ttl: 60 });
    let leased = Step::Put { key: "k".into(), value: "1".into(), lease: 7 };
    story.ask(during(3, 4), Request::Txn(Txn::of(leased)));
    let revoke = story.ask(during(5, SECOND), Request::Revoke { lease: 7 });
    story.put(during(6, 7), "other", "1");
    let answer = Answer::Lease { revision: 4, ttl: None };
    story.history.operations[revoke].outcome = Outcome::Acknowledged { at: SECOND, answer };
    story.is_good();
}
