//! The store against the naive model: random commands and reads, with checkpoints, power cuts, compaction steps and
//! cache sizes in between that must not show.

#![allow(clippy::unwrap_used)] // in a test a panic is the report

mod support;

use duet_mvcc::{
    Command, EmptySource, EventLimits, KeyRange, RangeRequest, Store, TxnLimits, validate_command,
    validate_range,
};
use proptest::prelude::*;
use std::sync::Arc;
use support::{Bench, generate, history_of, model::Model};

#[derive(Debug, Clone)]
enum Step {
    Apply(Command),
    /// The engine fails meanwhile: the command is carried out in full or not at all, and then again in peace.
    ApplyBroken(Command),
    Read(RangeRequest),
    /// Begins a checkpoint if none is under way, else takes it one step on: write, then finish.
    Checkpoint,
    /// Power cut: back to what the engine holds, then the log after it again.
    PowerCut,
    Compact(usize),
    CacheBytes(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => generate::command().prop_map(Step::Apply),
        4 => generate::command().prop_map(Step::ApplyBroken),
        10 => generate::range().prop_map(Step::Read),
        6 => Just(Step::Checkpoint),
        1 => Just(Step::PowerCut),
        4 => (1_usize..4).prop_map(Step::Compact),
        3 => (0_usize..600).prop_map(Step::CacheBytes),
    ]
}

/// The store under test with its log, a store that is never disturbed, and the model.
struct Run {
    bench: Bench,
    undisturbed: Store,
    model: Model,
    log: Vec<Command>,
    /// The checkpoint under way, with the length of the log that it covers; whether it is written.
    begun: Option<(duet_mvcc::Checkpoint, usize, bool)>,
    /// Length of the log that the engine covers.
    covered: usize,
}

impl Run {
    fn new() -> Run {
        let bench = Bench::default();
        let undisturbed = Store::new(Arc::new(EmptySource));
        Run { bench, undisturbed, model: Model::default(), log: Vec::new(), begun: None, covered: 0 }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Apply(command) | Step::ApplyBroken(command)
                if validate_command(&command, TxnLimits::default()).is_err() => {}
            Step::ApplyBroken(command) => {
                *self.bench.engine.broken.lock().unwrap() = true;
                let applied = self.bench.apply(&command);
                *self.bench.engine.broken.lock().unwrap() = false;
                if applied.result.as_ref().is_err_and(duet_mvcc::Error::is_fatal) {
                    assert_eq!(self.bench.store.state_digest(), self.undisturbed.state_digest());
                    return self.take(Step::Apply(command));
                }
                let expected = self.model.apply(&command);
                assert_eq!(applied, expected);
                assert_eq!(self.undisturbed.apply(&command), expected);
                self.log.push(command);
            }
            Step::Apply(command) => {
                let expected = self.model.apply(&command);
                assert_eq!(self.bench.apply(&command), expected);
                assert_eq!(self.undisturbed.apply(&command), expected);
                self.log.push(command);
            }
            Step::Read(request) => {
                assert!(validate_range(&request).is_ok());
                assert_eq!(self.bench.store.range(&request), self.model.range(&request));
            }
            Step::Checkpoint => match self.begun.take() {
                None => self.begun = Some((self.bench.store.begin_checkpoint(), self.log.len(), false)),
                Some((checkpoint, length, false)) => {
                    self.bench.engine.write(&checkpoint);
                    self.covered = length;
                    self.begun = Some((checkpoint, length, true));
                }
                Some((_, _, true)) => self.bench.store.finish_checkpoint(),
            },
            Step::PowerCut => {
                self.begun = None;
                self.bench.restart();
                for command in &self.log[self.covered..] {
                    self.bench.store.apply(command);
                }
            }
            Step::Compact(keys) => {
                self.bench.store.compact_step(keys);
            }
            Step::CacheBytes(bytes) => self.bench.store.set_cache_bytes(bytes),
        }
    }

    fn check(&self) {
        let (store, model) = (&self.bench.store, &self.model);
        assert_eq!((store.revision(), store.compacted_revision()), (model.revision(), model.compacted));
        assert_eq!(store.state_digest(), self.undisturbed.state_digest());
        assert_eq!(store.hash_kv(0), self.undisturbed.hash_kv(0));
        for revision in model.compacted.max(1)..=model.revision() {
            let request = RangeRequest { revision, ..support::range("\0", "\0") };
            assert_eq!(store.range(&request), model.range(&request));
        }
        let leases: Vec<(i64, i64)> = model.leases.iter().map(|(id, ttl)| (*id, *ttl)).collect();
        assert_eq!(store.lease_ttls(), leases);
        for (id, _) in leases {
            assert_eq!(store.lease_time_to_live(id, true).unwrap().keys, model.lease_keys(id));
        }

        let from = model.compacted.max(1);
        let visible: Vec<_> = model.events.iter().filter(|(event, _)| event.revision.main >= from).collect();
        for limits in [EventLimits::default(), EventLimits { max_events: 2, max_bytes: 30 }] {
            let history = history_of(store, &KeyRange::all(), from, limits).unwrap();
            assert!(history.iter().eq(visible.iter().map(|(event, _)| event)));
        }
        for (event, previous) in visible {
            let previous = previous.as_ref().filter(|previous| {
                event.revision.main > model.compacted || previous.mod_revision == event.revision.main
            });
            assert_eq!(store.previous_key_value(event).unwrap().as_ref(), previous);
        }
        if model.compacted > 0 {
            assert!(store.events(&KeyRange::all(), model.compacted - 1, EventLimits::default()).is_err());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_answers_like_the_model(steps in prop::collection::vec(step(), 1..250)) {
        let mut run = Run::new();
        for step in steps {
            run.take(step);
        }
        run.check();
        // Once more through the engine while the compaction may be under way, if no checkpoint is.
        for _ in 0..6 {
            run.take(Step::Checkpoint);
        }
        run.take(Step::PowerCut);
        run.check();
        // To the end of the compaction and once more through the engine.
        while run.bench.store.compact_step(3) {}
        run.check();
        for _ in 0..6 {
            run.take(Step::Checkpoint);
        }
        while run.begun.is_some() || run.bench.store.statistics().pending_deletes > 0 {
            run.take(Step::Checkpoint);
        }
        run.check();
        prop_assert_eq!(run.bench.engine.contents.lock().unwrap().records.len(), run.model.visible_records());
        run.take(Step::PowerCut);
        run.check();
    }
}
