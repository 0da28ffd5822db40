//! What was compacted is gone, and what is left is as it was.

use duet_checkers::{Answer, Keys, Outcome, Request, StepAnswer};

use crate::support::{Story, during};

fn past(revision: i64) -> Request {
    Request::Past { keys: Keys::Prefix("k".into()), revision }
}

/// Three puts, a read of the second state, a compaction to it. What comes next is at index 5.
fn story() -> Story {
    let mut story = Story::new();
    for (number, value) in ["one", "two", "three"].iter().enumerate() {
        let from = 10 * u64::try_from(number).unwrap();
        story.put(during(from, from + 1), "k", value);
    }
    story.ask(during(40, 41), past(2));
    story.ask(during(50, 60), Request::Compact { revision: 3 });
    story
}

#[test]
fn reads_of_what_is_left() {
    let mut story = story();
    story.ask(during(70, 71), past(3));
    story.ask(during(80, 81), past(4));
    story.is_good();
}

#[test]
fn a_read_below_a_compaction_that_was_asked_meanwhile() {
    let mut story = story();
    story.ask(during(59, 71), past(2));
    story.is_good();
}

#[test]
fn a_read_below_a_compaction_is_refused() {
    let mut story = story();
    story.ask_in_vain(during(61, 62), past(2), true);
    story.is_good();
}

#[test]
fn a_read_below_a_compaction_is_answered() {
    let mut story = story();
    story.ask(during(61, 62), past(2));
    let words = ["get k* as of revision 2", "was answered after", "compact to revision 3", "it is below 3"];
    story.is_bad("what was compacted is gone", &words);
}

#[test]
fn a_lower_compaction_later_brings_nothing_back() {
    let mut story = story();
    story.ask(during(61, 62), Request::Compact { revision: 2 });
    story.ask(during(63, 64), past(2));
    story.is_bad("what was compacted is gone", &["compact to revision 3"]);
}

#[test]
fn a_read_of_the_past_finds_another_value() {
    let mut story = story();
    let index = story.ask(during(70, 71), past(3));
    let Outcome::Acknowledged { answer: Answer::Txn { steps, .. }, .. } =
        &mut story.history.operations[index].outcome
    else {
        unreachable!("it was answered")
    };
    let StepAnswer::Got(found) = &mut steps[0] else { unreachable!("a read") };
    found[0].1.value = "three".into();
    story.is_bad("answers are the state at their revision", &["at revision 3 it is: found k = \"two\""]);
}

#[test]
fn a_read_of_the_past_does_not_know_the_present() {
    let mut story = story();
    let index = story.ask(during(70, 71), past(3));
    let Outcome::Acknowledged { answer: Answer::Txn { revision, .. }, .. } =
        &mut story.history.operations[index].outcome
    else {
        unreachable!("it was answered")
    };
    *revision = 3;
    story.is_bad("no stale answer", &["as of revision 3"]);
}
