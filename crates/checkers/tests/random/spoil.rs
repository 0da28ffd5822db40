//! Ways to spoil a good history, each of which must be noticed.

use duet_checkers::{
    Answer, ChangeKind, History, KeyValue, Operation, Outcome, Report, Request, Step, StepAnswer, Time,
    WatchEvent,
};
use duet_protocol::ApplianceId::B;
use duet_protocol::Digest;

/// Ways to spoil a history; `false`: there is nothing there to spoil in this way.
pub type Spoil = fn(&mut History, usize) -> bool;

pub const SPOILS: [(&str, Spoil); 12] = [
    ("a change is left out", drop_change),
    ("a change has another value", |history, pick| change_value(history, pick, |value| value.push('!'))),
    ("an acknowledged put is said to have failed", fail_put),
    ("a change is done again at the end", repeat_change),
    ("a read finds another value", spoil_read),
    ("a linearizable read is older than one before it", stale_read),
    ("an event is left out", |history, pick| edit_watch(history, pick, |watch, at| drop(watch.remove(at)))),
    ("an event comes twice", |history, pick| {
        edit_watch(history, pick, |watch, at| watch.insert(at, watch[at].clone()))
    }),
    ("two events change places", swap_events),
    ("a write was seen before it was asked", late_asked),
    ("an appliance has another digest", spoil_digest),
    ("an appliance has another revision", spoil_revision),
];

fn nth<T>(items: Vec<T>, pick: usize) -> Option<T> {
    let count = items.len();
    items.into_iter().nth(pick.checked_rem(count)?)
}

fn drop_change(history: &mut History, pick: usize) -> bool {
    // Not the last: a store that stopped before the last change is a good one, if nobody was told.
    if history.changes.len() < 2 {
        return false;
    }
    let index = pick % (history.changes.len() - 1);
    history.changes.remove(index);
    true
}

fn change_value(history: &mut History, pick: usize, change: fn(&mut String)) -> bool {
    let puts = history.changes.iter_mut().filter_map(|change| match &mut change.kind {
        ChangeKind::Put(now) => Some(now),
        ChangeKind::Delete => None,
    });
    let Some(now) = nth(puts.collect(), pick) else { return false };
    change(&mut now.value);
    true
}

fn fail_put(history: &mut History, pick: usize) -> bool {
    let writes = history.operations.iter_mut().filter(|operation| {
        matches!(&operation.outcome, Outcome::Acknowledged { answer: Answer::Txn { steps, .. }, .. }
            if steps.contains(&StepAnswer::Put))
    });
    let Some(operation) = nth(writes.collect(), pick) else { return false };
    operation.outcome = Outcome::Failed { at: Time::MAX };
    true
}

fn repeat_change(history: &mut History, pick: usize) -> bool {
    let Some(mut again) = nth(history.changes.clone(), pick) else { return false };
    let ChangeKind::Put(now) = &mut again.kind else { return false };
    let last = history.changes.iter().rev().find(|change| change.key == again.key);
    let revision = history.changes.last().unwrap().revision + 1;
    let before = last.and_then(|change| match &change.kind {
        ChangeKind::Put(now) => Some(now),
        ChangeKind::Delete => None,
    });
    *now = KeyValue::after(before, &now.value, now.lease, revision);
    again.revision = revision;
    history.changes.push(again);
    true
}

/// A read: whether it is linearizable, when it was asked, its revision, what it found.
type Read<'a> = (bool, Time, &'a mut i64, &'a mut Vec<StepAnswer>);

fn read(operation: &mut Operation) -> Option<Read<'_>> {
    let linear = matches!(&operation.request, Request::Txn(txn) if matches!(txn.then[..], [Step::Get(_)]));
    let old = matches!(operation.request, Request::Serializable(_));
    match &mut operation.outcome {
        Outcome::Acknowledged { answer: Answer::Txn { revision, steps, .. }, .. } if linear || old => {
            Some((linear, operation.invoked, revision, steps))
        }
        _ => None,
    }
}

fn reads(history: &mut History) -> Vec<Read<'_>> {
    history.operations.iter_mut().filter_map(read).collect()
}

fn spoil_read(history: &mut History, pick: usize) -> bool {
    let Some((_, _, _, steps)) = nth(reads(history), pick) else { return false };
    let StepAnswer::Got(found) = &mut steps[0] else { return false };
    match found.first_mut() {
        Some((_, held)) => held.value.push('!'),
        None => return false,
    }
    true
}

fn stale_read(history: &mut History, pick: usize) -> bool {
    let floors: Vec<(Time, i64)> = history
        .operations
        .iter()
        .filter(|operation| matches!(operation.request, Request::Txn(_)))
        .filter_map(|operation| operation.acknowledged().map(|(at, answer)| (at, answer.revision())))
        .collect();
    let floor = |at: Time| floors.iter().filter(|(seen, _)| *seen < at).map(|(_, revision)| *revision).max();
    let linear = reads(history).into_iter().filter(|(linear, at, ..)| *linear && floor(*at).is_some());
    let Some((_, at, revision, _)) = nth(linear.collect(), pick) else { return false };
    *revision = floor(at).unwrap() - 1;
    true
}

fn edit_watch(history: &mut History, pick: usize, edit: impl Fn(&mut Vec<WatchEvent>, usize)) -> bool {
    let watched = history.watches.iter_mut().filter(|watch| !watch.events.is_empty());
    let Some(watch) = nth(watched.collect(), pick) else { return false };
    let at = pick % watch.events.len();
    edit(&mut watch.events, at);
    true
}

fn swap_events(history: &mut History, pick: usize) -> bool {
    let watched = history.watches.iter_mut().filter(|watch| watch.events.len() > 1);
    let Some(watch) = nth(watched.collect(), pick) else { return false };
    let at = pick % (watch.events.len() - 1);
    watch.events.swap(at, at + 1);
    true
}

fn late_asked(history: &mut History, pick: usize) -> bool {
    let shown = history.watches.last().map_or(0, |watch| watch.events.first().map_or(0, |event| event.at));
    let writes = history.operations.iter_mut().filter(|operation| {
        matches!(&operation.outcome, Outcome::Acknowledged { answer: Answer::Txn { steps, .. }, .. }
            if steps.contains(&StepAnswer::Put))
    });
    let Some(operation) = nth(writes.collect(), pick) else { return false };
    operation.invoked = shown + 1;
    true
}

fn spoil_digest(history: &mut History, pick: usize) -> bool {
    let twice = |report: &Report| report.appliance == B;
    let told = history.reports.iter_mut().rev().filter(|report| twice(report)).take(1);
    let Some(report) = nth(told.collect(), pick) else { return false };
    let (lsn, epoch, _) = report.last.unwrap();
    report.last = Some((lsn, epoch, Digest([255; 16])));
    true
}

fn spoil_revision(history: &mut History, _: usize) -> bool {
    let Some(report) = history.reports.last_mut() else { return false };
    let (lsn, revision) = report.applied.unwrap();
    report.applied = Some((lsn, revision + 1));
    true
}
