//! Watches: ordered, gapless, nothing twice, nothing that never happened, resumable anywhere.

use duet_checkers::{ChangeKind, Keys, Request, Step, Txn, Watch};

use crate::support::{Story, during};

const GAP: &str = "watches have no gap";
const HAPPENED: &str = "watches show what happened";
const WHOLE: &str = "watches show whole revisions";

/// Seven revisions on the keys w/1 and w/2, two of them in one transaction, and one on another key; a watch of each.
fn story() -> Story {
    let mut story = Story::new();
    story.put(during(1, 2), "w/1", "a");
    story.put(during(3, 4), "other", "b");
    story.put(during(5, 6), "w/1", "c");
    let both = vec![
        Step::Put { key: "w/1".into(), value: "d".into(), lease: 0 },
        Step::Put { key: "w/2".into(), value: "d".into(), lease: 0 },
    ];
    story.ask(during(7, 8), Request::Txn(Txn { then: both, ..Txn::default() }));
    story.delete(during(9, 10), "w/1");
    story.put(during(11, 12), "w/1", "e");
    story
}

fn watched(keys: &str, from: i64) -> Story {
    let mut story = story();
    story.watch(Keys::Prefix(keys.into()), from, 20);
    story
}

fn watch(story: &mut Story) -> &mut Watch {
    &mut story.history.watches[0]
}

#[test]
fn a_watch_from_any_revision_is_good() {
    for from in 1..9 {
        watched("w/", from).is_good();
        watched("", from).is_good();
    }
}

#[test]
fn a_watch_that_ended_early_is_good() {
    for kept in [0, 1, 2, 4, 5, 6] {
        let mut story = watched("w/", 1);
        watch(&mut story).events.truncate(kept);
        watch(&mut story).complete_to = 0;
        story.is_good();
    }
}

#[test]
fn a_watch_without_previous_contents_is_good() {
    let mut story = watched("w/", 1);
    watch(&mut story).with_previous = false;
    watch(&mut story).events.iter_mut().for_each(|event| event.previous = None);
    story.is_good();
}

#[test]
fn a_previous_content_may_be_missing_once_it_is_compacted() {
    let without = |compacted: i64| {
        let mut story = watched("w/", 1);
        story.ask(during(13, 14), Request::Compact { revision: compacted });
        // "c" at revision 4.
        watch(&mut story).events[1].previous = None;
        story
    };
    without(4).is_good();
    without(3).is_bad("watches show what was before", &["w/1 = \"c\"", "nothing before it"]);
}

#[test]
fn an_event_is_left_out() {
    let mut story = watched("w/", 1);
    watch(&mut story).events.remove(1);
    story
        .is_bad(GAP, &["watch of w/*", "was shown w/1 = \"d\"", "before it comes w/1 = \"c\"", "revision 4"]);
}

#[test]
fn the_first_event_after_a_resumption_is_left_out() {
    let mut story = watched("w/", 4);
    watch(&mut story).events.remove(0);
    story.is_bad(GAP, &["from revision 4", "before it comes w/1 = \"c\""]);
}

#[test]
fn the_last_event_is_left_out_although_it_was_waited_for() {
    let mut story = watched("w/", 1);
    watch(&mut story).events.pop();
    story.is_bad(GAP, &["was not shown w/1 = \"e\"", "complete up to 7"]);
}

#[test]
fn an_event_comes_twice() {
    let mut story = watched("w/", 1);
    let again = watch(&mut story).events[1].clone();
    watch(&mut story).events.insert(2, again);
    story.is_bad("watches show nothing twice", &["was shown w/1 = \"c\"", "again"]);
}

#[test]
fn events_are_out_of_order() {
    let mut story = watched("w/", 1);
    watch(&mut story).events.swap(0, 1);
    story.is_bad(GAP, &["was shown w/1 = \"c\"", "before it comes w/1 = \"a\""]);
    let mut story = watched("w/", 1);
    watch(&mut story).events.swap(4, 5);
    watch(&mut story).events.remove(4);
    watch(&mut story).events.insert(4, story_event());
    story.is_bad("watches are in order", &["was shown w/1 deleted at revision 3 after w/2 = \"d\""]);
}

fn story_event() -> duet_checkers::WatchEvent {
    let mut event = watched("w/", 1).history.watches[0].events[4].clone();
    event.change.revision = 3;
    event
}

#[test]
fn an_event_from_before_the_beginning() {
    let mut story = watched("w/", 4);
    let mut earlier = watched("w/", 1);
    let early = watch(&mut earlier).events.remove(0);
    watch(&mut story).events.insert(0, early);
    story.is_bad("watches begin where they are asked to", &["from revision 4", "w/1 = \"a\""]);
}

#[test]
fn an_event_of_another_key() {
    let mut story = watched("w/", 1);
    let mut all = watched("", 1);
    let other = watch(&mut all).events.remove(1);
    watch(&mut story).events.insert(1, other);
    story.is_bad(HAPPENED, &["was shown other = \"b\""]);
}

#[test]
fn an_event_of_a_write_that_never_happened() {
    let mut story = watched("w/", 1);
    let events = &mut watch(&mut story).events;
    let mut ghost = events[5].clone();
    ghost.change.revision = 8;
    ghost.message = 8;
    events.push(ghost);
    story.is_bad(HAPPENED, &["w/1 = \"e\" (written at 7) at revision 8", "never happened"]);
}

#[test]
fn an_event_with_another_value() {
    let mut story = watched("w/", 1);
    let ChangeKind::Put(now) = &mut watch(&mut story).events[1].change.kind else { unreachable!() };
    now.value = "x".into();
    story.is_bad(HAPPENED, &["was shown w/1 = \"x\"", "what happened is w/1 = \"c\""]);
}

#[test]
fn half_a_transaction() {
    let mut story = watched("w/", 1);
    watch(&mut story).events.truncate(3);
    watch(&mut story).complete_to = 0;
    story.is_bad(WHOLE, &["a part of revision 5 only", "w/2 = \"d\""]);
}

#[test]
fn a_transaction_in_two_messages() {
    let mut story = watched("w/", 1);
    watch(&mut story).events[3].message = 99;
    story.is_bad(WHOLE, &["revision 5 in two messages"]);
}

#[test]
fn a_wrong_previous_content() {
    let mut story = watched("w/", 1);
    watch(&mut story).events[2].previous = watch(&mut story).events[1].previous.clone();
    story.is_bad("watches show what was before", &["w/1 = \"d\"", "with \"a\"", "before it was \"c\""]);
    let mut story = watched("w/", 1);
    watch(&mut story).events[4].previous = None;
    story.is_bad("watches show what was before", &["w/1 deleted", "with nothing", "before it was \"d\""]);
}
