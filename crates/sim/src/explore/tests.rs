//! The exploration CI runs, and the proof that the oracle sees: every rule broken on purpose is caught.

use std::time::Duration;

use duet_protocol::Action;

use super::node::Stimulus;
use super::search::Limits;
use super::start::without_messages;
use super::{Bounds, Explorer, QUICK, Report, Search, Start, Tamper, World};

fn told(report: &Report) -> String {
    report.found.iter().map(|found| found.text.as_str()).collect()
}

#[test]
fn every_quick_campaign_is_safe_and_leads_to_service() {
    let limits = Limits { states: 250_000, ..Limits::default() };
    for campaign in QUICK {
        let outcome = campaign.run(&limits, 300);
        println!("{}", campaign.row(&outcome));
        let found: String = outcome.found().map(|found| found.text.as_str()).collect();
        assert!(found.is_empty(), "{}: {found}", campaign.name);
        assert!(outcome.report.states > 1_000 && outcome.ways_out.expected > 50, "{}", campaign.name);
    }
}

#[test]
fn disks_that_lost_writes_and_blank_ones_are_met() {
    let one = Bounds { writes: 1, crashes: 1, attempts: 1, ..Bounds::NONE };
    for (bounds, mark) in [
        (Bounds { damages: 1, ..one }, "disk lost durable entries"),
        (Bounds { blanks: 1, ..one }, "disk replaced"),
    ] {
        let mut search = Search::new(bounds, None);
        let report = search.run(Start::Pair, &Limits { states: 150_000, ..Limits::default() });
        assert!(report.found.is_empty(), "{}", told(&report));
        assert!(search.explorer.coverage.count(mark) > 0, "{mark}");
    }
}

/// The one branch that walks hardly ever reach: A holds an entry of an older epoch at an LSN below the new primary's base.
fn conflict_below_the_base(search: &mut Search) {
    let explorer = &mut search.explorer;
    let (a, b) = (0, 1);
    let mut world = explorer.start(Start::Pair);
    let take = |explorer: &mut Explorer, world: &World| {
        let [record, _] = explorer.witnesses.get(world.witness).records;
        explorer.go(world, b, Stimulus::Attempt(Action::Take, record))
    };
    world = explorer.go(&world, a, Stimulus::Write(0));
    world = explorer.go(&world, a, Stimulus::Flush(1)); // never reaches B
    world = explorer.go(&world, a, Stimulus::Jump);
    world = explorer.go(&world, b, Stimulus::Jump);
    world = take(explorer, &world);
    world = explorer.go(&world, b, Stimulus::Write(1));
    world = explorer.go(&world, b, Stimulus::Flush(1));
    world = explorer.go(&world, b, Stimulus::Crash);
    world = explorer.go(&world, b, Stimulus::Restart);
    world = explorer.go(&world, a, Stimulus::Jump);
    world = explorer.go(&world, b, Stimulus::Jump);
    world = without_messages(&world);
    world = take(explorer, &world);
    for listener in [a, b, a] {
        world = explorer.hear_all(&world, listener);
    }
    let reached = explorer.coverage.count("truncated at a conflict") > 0;
    assert!(reached, "{}", super::trace::state(explorer, &world));
}

#[test]
fn random_walks_reach_every_rule_and_are_safe() {
    let bounds = Bounds {
        writes: 3,
        crashes: 3,
        softs: 2,
        leaves: 1,
        attempts: 6,
        reconnects: 1,
        late: 2,
        reads: 1,
        notes: 1,
        losses: 1,
        foreigns: 1,
        inits: 0,
        damages: 0,
        blanks: 0,
        moves: 2,
        checkpoints: true,
        trims: true,
        messages: 2,
    };
    let mut search = Search::new(bounds, None);
    search.explorer.keeps_all = true; // dead messages are delivered, too
    conflict_below_the_base(&mut search);
    for seed in 1..200 {
        let report = search.walk(Start::Pair, seed, 50, 300, &Limits::default());
        assert!(report.found.is_empty(), "{}", told(&report));
        if search.explorer.coverage.missing().is_empty() {
            return;
        }
    }
    panic!("never reached: {:?}", search.explorer.coverage.missing());
}

#[test]
fn every_broken_rule_is_caught() {
    for tamper in Tamper::ALL {
        let mut search;
        let limits = Limits { time: Duration::from_secs(30), ..Limits::default() };
        let report = if tamper == Tamper::BareLsn {
            let bounds = Bounds { writes: 2, softs: 1, attempts: 2, messages: 0, ..Bounds::NONE };
            search = Search::new(bounds, Some(tamper));
            search.run(Start::Pair, &limits)
        } else {
            let bounds =
                Bounds { writes: 2, crashes: 2, softs: 1, attempts: 4, late: 1, messages: 2, ..Bounds::NONE };
            search = Search::new(bounds, Some(tamper));
            search.walk(Start::Pair, 1, 100_000, 400, &limits)
        };
        assert!(!report.found.is_empty(), "{tamper:?} is not caught");
    }
}
