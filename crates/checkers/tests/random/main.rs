//! Random histories of a store that does one thing after the other, with clients that overlap as they like, are accepted;
//! the same histories with one thing changed at random are refused.

#![allow(clippy::unwrap_used)] // in a test a panic is the report

mod play;
mod spoil;
#[path = "../support/mod.rs"]
mod support;

use duet_checkers::{check, linearizability};
use play::{Act, Fate, Kind, Play, act};
use proptest::prelude::*;
use spoil::SPOILS;

/// Steps of the search for an order; more than these histories need.
const BUDGET: usize = 20_000;

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn good_histories_are_accepted(acts in prop::collection::vec(act(), 1..80)) {
        let story = Play::of(&acts);
        let found = check(&story.history);
        prop_assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn a_good_history_has_an_order_by_values_alone(acts in prop::collection::vec(act(), 1..25)) {
        let story = Play::of(&acts);
        let found = linearizability::check(&story.history.operations, BUDGET);
        prop_assert!(found.is_ok(), "{found:?}");
    }

    #[test]
    fn spoiled_histories_are_refused(
        acts in prop::collection::vec(act(), 1..60),
        pick in any::<prop::sample::Index>(),
    ) {
        let story = Play::of(&acts);
        let pick = pick.index(1 << 20);
        for (name, spoil) in SPOILS {
            let mut history = story.history.clone();
            if spoil(&mut history, pick) {
                prop_assert!(!check(&history).is_empty(), "not noticed: {name}");
            }
        }
    }
}

/// The spoils are not idle: a short history offers something to each.
#[test]
fn every_spoil_finds_something_to_spoil() {
    let kinds = [Kind::Put, Kind::Put, Kind::Get, Kind::Put, Kind::Get, Kind::Watch(2), Kind::Report];
    let acts = kinds.map(|kind| Act { kind, fate: Fate::Answered, client: 0, key: 1, before: 0, after: 0 });
    let story = Play::of(&acts);
    for (name, spoil) in SPOILS {
        for pick in 0..3 {
            let mut history = story.history.clone();
            assert!(spoil(&mut history, pick), "nothing to spoil: {name}");
            assert!(!check(&history).is_empty(), "not noticed: {name}");
        }
    }
}

/// A lease may have run out at a revision, and somebody's unheard delete may have come then: if the lease is used later, it
/// was the delete. (Found by the first test here.)
#[test]
fn an_unheard_delete_is_not_taken_for_the_end_of_a_lease() {
    let of = |kind, key, fate| Act { kind, fate, client: 0, key, before: 0, after: 0 };
    let mut acts = vec![of(Kind::Grant, 0, Fate::Answered)];
    acts.extend(std::iter::repeat_n(of(Kind::Put, 0, Fate::Answered), 21));
    acts.push(of(Kind::PutWithLease, 0, Fate::Answered));
    acts.extend(std::iter::repeat_n(of(Kind::Put, 1, Fate::Answered), 4));
    acts.push(of(Kind::Delete, 0, Fate::DoneUnheard));
    // Answered when the lease could have run out: nobody has seen the delete before.
    acts.push(Act { after: 2, ..of(Kind::PutWithLease, 0, Fate::Answered) });
    acts.push(Act { after: 1, ..of(Kind::Put, 1, Fate::Answered) });
    acts.push(of(Kind::Put, 0, Fate::Answered));
    let found = check(&Play::of(&acts).history);
    assert!(found.is_empty(), "{found:?}");
}
