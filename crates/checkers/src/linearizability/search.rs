//! The search for an order.

use std::collections::{BTreeMap, HashSet};

use crate::operation::{Answer, Operation};
use crate::txn::{Compare, Condition, Keys, Number, Step, StepAnswer, Txn};
use crate::{Outcome, Time};

/// What a key holds: its value and how often it was written.
type Held = BTreeMap<String, (String, i64)>;
/// The operations that have their place.
type Placed = Vec<u64>;

/// One operation in the search.
struct Item<'a> {
    operation: &'a Operation,
    txn: &'a Txn,
    invoked: Time,
    /// `None`: it may come at any later time, or never.
    answered: Option<(Time, bool, &'a [StepAnswer])>,
}

/// How deep the search came, for the sentence.
struct Stuck {
    placed: usize,
    sentence: String,
}

/// `Ok(true)`: there is an order. `Ok(false)`: not found within the budget. `Err`: there is none.
pub(super) fn order(operations: &[(&Operation, &Txn)], budget: usize) -> Result<bool, String> {
    let mut items: Vec<Item<'_>> = operations.iter().map(|(operation, txn)| item(operation, txn)).collect();
    items.sort_by_key(|item| item.invoked);
    let words = items.len().div_ceil(64);
    let mut seen: HashSet<(Placed, Held)> = HashSet::new();
    let mut open: Vec<(Placed, Held)> = vec![(vec![0; words], Held::new())];
    let mut stuck = Stuck { placed: 0, sentence: String::new() };
    while let Some((placed, held)) = open.pop() {
        if items.iter().enumerate().all(|(index, item)| item.answered.is_none() || has(&placed, index)) {
            return Ok(true);
        }
        if seen.len() >= budget {
            return Ok(false);
        }
        let ready = ready(&items, &placed);
        let before = open.len();
        for &index in ready.iter().rev() {
            for next in results(&items[index], &held) {
                let mut with = placed.clone();
                with[index / 64] |= 1 << (index % 64);
                let configuration = (with, next);
                if seen.insert(configuration.clone()) {
                    open.push(configuration);
                }
            }
        }
        let count = placed.iter().map(|word| word.count_ones() as usize).sum();
        if open.len() == before && count >= stuck.placed {
            stuck = Stuck { placed: count, sentence: describe(&items, &ready, &held) };
        }
    }
    Err(format!(
        "no order explains all {} operations; after {} of them {}",
        items.len(),
        stuck.placed,
        stuck.sentence
    ))
}

fn item<'a>(operation: &'a Operation, txn: &'a Txn) -> Item<'a> {
    let answered = match &operation.outcome {
        Outcome::Acknowledged { at, answer: Answer::Txn { succeeded, steps, .. } } => {
            Some((*at, *succeeded, steps.as_slice()))
        }
        _ => None,
    };
    Item { operation, txn, invoked: operation.invoked, answered }
}

fn has(placed: &Placed, index: usize) -> bool {
    placed[index / 64] & (1 << (index % 64)) != 0
}

/// Those that may come next: nobody who has no place yet was answered before they began.
fn ready(items: &[Item<'_>], placed: &Placed) -> Vec<usize> {
    let waiting = || items.iter().enumerate().filter(|(index, _)| !has(placed, *index));
    let first_answer =
        waiting().filter_map(|(_, item)| item.answered.map(|(at, ..)| at)).min().unwrap_or(Time::MAX);
    let mut ready: Vec<usize> =
        waiting().filter(|(_, item)| item.invoked <= first_answer).map(|(index, _)| index).collect();
    // Who was answered first is likely to come first; what nobody was told of may never have been.
    ready.sort_by_key(|index| items[*index].answered.map_or(Time::MAX, |(at, ..)| at));
    ready
}

/// Every state that the operation may leave behind, if its answer is what it was.
fn results(item: &Item<'_>, held: &Held) -> Vec<Held> {
    let holds = conditions_hold(&item.txn.conditions, held);
    let branches: &[bool] = match (holds, item.answered) {
        (Some(holds), Some((_, said, _))) if holds != said => &[],
        (None, Some((_, true, _))) | (Some(true), _) => &[true],
        (None, Some((_, false, _))) | (Some(false), _) => &[false],
        (None, None) => &[true, false],
    };
    let mut found = Vec::new();
    for &branch in branches {
        let steps = if branch { &item.txn.then } else { &item.txn.otherwise };
        let mut next = held.clone();
        let right = match item.answered {
            Some((_, _, answers)) => {
                answers.len() == steps.len()
                    && steps.iter().zip(answers).all(|(step, answer)| take(step, Some(answer), &mut next))
            }
            None => steps.iter().all(|step| take(step, None, &mut next)),
        };
        if right {
            found.push(next);
        }
    }
    found
}

/// `None`: that depends on revisions, which are not believed here.
fn conditions_hold(conditions: &[Condition], held: &Held) -> Option<bool> {
    let mut open = false;
    for condition in conditions {
        let found = held.get(&condition.key);
        let holds = match &condition.compare {
            Compare::Value(value) => Some(found.is_some_and(|(held, _)| held == value)),
            Compare::Version(version) => Some(found.map_or(0, |(_, version)| *version) == *version),
            Compare::CreateRevision(0) | Compare::ModRevision(0) => Some(found.is_none()),
            Compare::CreateRevision(_) | Compare::ModRevision(_) => found.is_none().then_some(false),
            Compare::Above(Number::Version, than) => Some(found.map_or(0, |(_, version)| *version) > *than),
            Compare::Below(Number::Version, than) => Some(found.map_or(0, |(_, version)| *version) < *than),
            Compare::Lease(lease) => found.is_none().then_some(*lease == 0),
            Compare::Above(_, than) => found.is_none().then_some(0 > *than),
            Compare::Below(_, than) => found.is_none().then_some(0 < *than),
        };
        match holds {
            Some(false) => return Some(false),
            Some(true) => {}
            None => open = true,
        }
    }
    (!open).then_some(true)
}

/// Carries out one step; whether it would answer that.
fn take(step: &Step, answer: Option<&StepAnswer>, held: &mut Held) -> bool {
    match step {
        Step::Get(keys) => match answer {
            Some(StepAnswer::Got(found)) => {
                let mut right = named(keys, held);
                found.iter().all(|(key, given)| {
                    right.next().is_some_and(|(name, (value, version))| {
                        name == key && *value == given.value && *version == given.version
                    })
                }) && right.next().is_none()
            }
            Some(_) => false,
            None => true,
        },
        Step::Put { key, value, .. } => {
            let entry = held.entry(key.clone()).or_default();
            *entry = (value.clone(), entry.1 + 1);
            answer.is_none_or(|answer| *answer == StepAnswer::Put)
        }
        Step::Delete(keys) => {
            let before = held.len();
            held.retain(|key, _| !keys.has(key));
            let deleted = i64::try_from(before - held.len()).unwrap_or(i64::MAX);
            answer.is_none_or(|answer| *answer == StepAnswer::Deleted(deleted))
        }
    }
}

fn named<'a>(keys: &'a Keys, held: &'a Held) -> impl Iterator<Item = (&'a String, &'a (String, i64))> {
    held.iter().filter(|(key, _)| keys.has(key))
}

/// The operations that do not fit where the search came furthest.
fn describe(items: &[Item<'_>], ready: &[usize], held: &Held) -> String {
    let state: Vec<String> =
        held.iter().map(|(key, (value, version))| format!("{key} = {value:?} (version {version})")).collect();
    let state = if state.is_empty() { "nothing is there".to_owned() } else { state.join(", ") };
    let waiting: Vec<String> = ready.iter().map(|index| items[*index].operation.to_string()).collect();
    format!("{state}, and none of these fits: {}", waiting.join("; "))
}
