//! A watch shows every change of its keys from its first revision on: in order, none left out, none twice, whole
//! revisions, each as it truly was, with what was there before unless that is compacted. So it can be resumed at any
//! revision.

use crate::compactions::{self, Compactions};
use crate::history::{Change, History, Watch, WatchEvent};
use crate::truth::Truth;
use crate::violation::{Verdict, Violation};

pub(crate) fn check(history: &History, truth: &Truth) -> Verdict {
    let compactions = compactions::that_may_be_done(history);
    history.watches.iter().try_for_each(|watch| check_one(watch, truth, &compactions))
}

fn check_one(watch: &Watch, truth: &Truth, compactions: &Compactions) -> Verdict {
    let first = watch.from.max(0);
    let expected: Vec<&Change> = truth
        .revisions()
        .filter(|(revision, _)| *revision >= first)
        .flat_map(|(_, changes)| changes)
        .filter(|change| watch.keys.has(&change.key))
        .collect();
    for (index, event) in watch.events.iter().enumerate() {
        check_event(watch, index, event, expected.get(index).copied())?;
        check_previous(watch, event, truth, compactions)?;
    }
    let shown = watch.events.len();
    let Some(next) = expected.get(shown) else { return Ok(()) };
    if next.revision <= watch.complete_to {
        let sentence = format!(
            "{} was not shown {next}, although it is complete up to {}",
            name(watch),
            watch.complete_to
        );
        return Err(Violation::new("watches have no gap", sentence));
    }
    if watch.events.last().is_some_and(|last| last.change.revision == next.revision) {
        let sentence =
            format!("{} was shown a part of revision {} only: {next} is missing", name(watch), next.revision);
        return Err(Violation::new("watches show whole revisions", sentence));
    }
    Ok(())
}

fn check_event(watch: &Watch, index: usize, event: &WatchEvent, expected: Option<&Change>) -> Verdict {
    let change = &event.change;
    let before = index.checked_sub(1).map(|before| &watch.events[before]);
    if let Some(before) = before.filter(|before| before.change.revision > change.revision) {
        let sentence = format!("{} was shown {change} after {}", name(watch), before.change);
        return Err(Violation::new("watches are in order", sentence));
    }
    if expected != Some(change) {
        return Err(wrong(watch, index, change, expected));
    }
    let split = before
        .is_some_and(|before| before.change.revision == change.revision && before.message != event.message);
    if split {
        let sentence = format!("{} was shown revision {} in two messages", name(watch), change.revision);
        return Err(Violation::new("watches show whole revisions", sentence));
    }
    Ok(())
}

/// The event is not the one that comes next: which mistake is it?
fn wrong(watch: &Watch, index: usize, change: &Change, expected: Option<&Change>) -> Violation {
    let name = name(watch);
    if watch.events[..index].iter().any(|event| event.change == *change) {
        return Violation::new("watches show nothing twice", format!("{name} was shown {change} again"));
    }
    if change.revision < watch.from {
        return Violation::new("watches begin where they are asked to", format!("{name} was shown {change}"));
    }
    match expected {
        Some(expected) if expected.revision < change.revision => Violation::new(
            "watches have no gap",
            format!("{name} was shown {change}, but before it comes {expected}"),
        ),
        Some(expected) => Violation::new(
            "watches show what happened",
            format!("{name} was shown {change}, but what happened is {expected}"),
        ),
        None => Violation::new(
            "watches show what happened",
            format!("{name} was shown {change}, which never happened"),
        ),
    }
}

fn check_previous(watch: &Watch, event: &WatchEvent, truth: &Truth, compactions: &Compactions) -> Verdict {
    if event.previous.is_none() && compactions.may_have_taken(event.change.revision - 1, event.at) {
        return Ok(());
    }
    let before = truth.at(&event.change.key, event.change.revision - 1).filter(|_| watch.with_previous);
    if event.previous.as_ref() == before {
        return Ok(());
    }
    let words = |held: Option<&crate::KeyValue>| held.map_or("nothing".to_owned(), ToString::to_string);
    let sentence = format!(
        "{} was shown {} with {} before it, but before it was {}",
        name(watch),
        event.change,
        words(event.previous.as_ref()),
        words(before),
    );
    Err(Violation::new("watches show what was before", sentence))
}

fn name(watch: &Watch) -> String {
    format!(
        "the watch of {} from revision {} by client {} at {}",
        watch.keys, watch.from, watch.client, watch.appliance
    )
}
