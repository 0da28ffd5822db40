//! Leases: never early, never for ever, never back.

use duet_checkers::{Answer, Outcome, Quiet, Request, Step, Txn};

use crate::support::{SECOND, Story, during};

const EARLY: &str = "no lease ends early";
const BACK: &str = "no lease comes back";

fn leased(key: &str) -> Request {
    Request::Txn(Txn::of(Step::Put { key: key.into(), value: "v".into(), lease: 7 }))
}

/// A lease of 5 s with two keys, renewed once after 3 s for another 5 s; it ran out, seen at 9 s.
fn story() -> Story {
    let mut story = Story::new();
    story.ask(during(0, 1), Request::Grant { lease: 7, ttl: 5 });
    story.ask(during(2, 3), leased("one"));
    story.ask(during(4, 5), leased("two"));
    let renewal = story.ask(during(3 * SECOND, 4 * SECOND), Request::KeepAlive { lease: 7 });
    let answer = Answer::Lease { revision: 3, ttl: Some(5) };
    story.history.operations[renewal].outcome = Outcome::Acknowledged { at: 4 * SECOND, answer };
    story.end_lease(7);
    story.get(during(8 * SECOND, 9 * SECOND), "one");
    story
}

#[test]
fn a_lease_that_runs_out_in_time() {
    story().is_good();
}

#[test]
fn a_lease_that_ends_before_the_grant_allows() {
    let mut story = story();
    story.history.operations.remove(3);
    story.history.operations[3].invoked = 4 * SECOND;
    story.history.operations[3].outcome = match story.history.operations[3].outcome.clone() {
        Outcome::Acknowledged { answer, .. } => Outcome::Acknowledged { at: 4_800_000_000, answer },
        other => other,
    };
    story.is_bad(
        EARLY,
        &["lease 7 ended at revision 4, seen at 4.800000 s", "get one", "grant lease 7 for 5 s"],
    );
}

#[test]
fn a_lease_that_ends_before_its_renewal_allows() {
    let mut story = story();
    story.history.operations[3].invoked = 5 * SECOND;
    story.is_bad(EARLY, &["lives until 9.900000 s by", "keep lease 7 alive"]);
}

#[test]
fn an_unanswered_renewal_binds_nobody() {
    let mut story = story();
    story.history.operations[3].invoked = 5 * SECOND;
    story.history.operations[3].outcome = Outcome::Unknown;
    story.is_good();
}

#[test]
fn only_one_of_two_keys_goes() {
    let mut story = story();
    story.history.changes.pop();
    story.history.operations.pop();
    story.is_bad("every change has a cause", &["one deleted at revision 4"]);
}

#[test]
fn a_key_takes_a_lease_that_ran_out() {
    let mut story = story();
    story.ask(during(9 * SECOND, 9 * SECOND), leased("three"));
    story.is_bad(BACK, &["lease 7 ran out at revision 4", "three"]);
}

fn revoked() -> Story {
    let mut story = Story::new();
    story.ask(during(0, 1), Request::Grant { lease: 7, ttl: 5 });
    story.ask(during(2, 3), leased("one"));
    story.ask(during(4, 5), Request::Revoke { lease: 7 });
    story
}

#[test]
fn a_revoked_lease_ends_at_once() {
    revoked().is_good();
    let mut story = Story::new();
    story.ask(during(0, 1), Request::Grant { lease: 7, ttl: 5 });
    story.ask(during(4, 5), Request::Revoke { lease: 7 });
    story.is_good();
}

#[test]
fn a_revoked_lease_keeps_a_key() {
    let mut story = revoked();
    story.history.changes.pop();
    let Outcome::Acknowledged { answer, .. } = &mut story.history.operations[2].outcome else {
        unreachable!()
    };
    *answer = Answer::Lease { revision: 2, ttl: None };
    story
        .is_bad("a revoked lease takes its keys along", &["revoke lease 7", "one lives by it at revision 2"]);
}

#[test]
fn a_revoked_lease_gets_a_key() {
    let mut story = revoked();
    story.ask(during(6, 7), leased("late"));
    story.is_bad(BACK, &["lease 7 was revoked at revision 3", "late"]);
}

#[test]
fn a_revoked_lease_is_renewed() {
    let mut story = revoked();
    story.ask(during(6, 7), Request::KeepAlive { lease: 7 });
    story.is_bad(BACK, &["keep lease 7 alive", "after [client 0 at A", "revoke lease 7"]);
}

#[test]
fn a_lease_lives_for_ever() {
    let mut story = Story::new();
    story.ask(during(0, 1), Request::Grant { lease: 7, ttl: 5 });
    story.ask(during(2, 3), leased("one"));
    story.history.quiet = Some(Quiet { since: 10 * SECOND, until: 20 * SECOND });
    story.is_good();
    story.history.quiet = Some(Quiet { since: 10 * SECOND, until: 26 * SECOND });
    story.is_bad("no lease lives for ever", &["lease 7 of 5 s", "one still lives by it at 26.000000 s"]);
}
