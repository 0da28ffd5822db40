//! Who saw which revision when: the floors that real time puts below later operations.

use crate::Time;
use crate::history::History;
use crate::operation::moment;

/// Where a revision was seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Operation(usize),
    Watch(usize),
    Report(usize),
}

/// Somebody saw a revision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Sight {
    at: Time,
    revision: i64,
    source: Source,
}

/// Sights in the order of time, each the highest so far.
#[derive(Clone, Debug, Default)]
struct Heights(Vec<Sight>);

impl Heights {
    fn of(mut sights: Vec<Sight>) -> Self {
        sights.sort_by_key(|sight| sight.at);
        let mut heights: Vec<Sight> = Vec::new();
        for sight in sights {
            if heights.last().is_none_or(|last| sight.revision > last.revision) {
                heights.push(sight);
            }
        }
        Self(heights)
    }

    fn before(&self, at: Time) -> Option<Sight> {
        let later = self.0.partition_point(|sight| sight.at < at);
        later.checked_sub(1).map(|last| self.0[last])
    }

    fn first(&self, revision: i64) -> Option<Sight> {
        self.0.get(self.0.partition_point(|sight| sight.revision < revision)).copied()
    }
}

/// Everything that was seen.
pub(crate) struct Observed<'a> {
    history: &'a History,
    /// By whatever must be linearizable: writes, reads.
    linear: Heights,
    /// By anybody, in any way: what was seen has happened.
    any: Heights,
}

/// A revision that was known, and a word on who knew it.
pub(crate) struct Floor {
    pub(crate) revision: i64,
    pub(crate) seen_by: String,
}

impl<'a> Observed<'a> {
    pub(crate) fn of(history: &'a History) -> Self {
        let (mut linear, mut any) = (Vec::new(), Vec::new());
        for (index, operation) in history.operations.iter().enumerate() {
            let Some((at, answer)) = operation.acknowledged() else { continue };
            let sight = Sight { at, revision: answer.revision(), source: Source::Operation(index) };
            any.push(sight);
            if operation.is_linearizable() {
                linear.push(sight);
            }
        }
        for (index, watch) in history.watches.iter().enumerate() {
            any.extend(watch.events.iter().map(|event| Sight {
                at: event.at,
                revision: event.change.revision,
                source: Source::Watch(index),
            }));
        }
        for (index, report) in history.reports.iter().enumerate() {
            let sight = |(_, revision)| Sight { at: report.at, revision, source: Source::Report(index) };
            any.extend(report.applied.map(sight));
        }
        Self { history, linear: Heights::of(linear), any: Heights::of(any) }
    }

    /// The highest revision that a linearizable operation had been told before `at`.
    pub(crate) fn linear_before(&self, at: Time) -> Option<Floor> {
        self.linear.before(at).map(|sight| self.floor(sight))
    }

    /// The highest revision that anybody had seen before `at`.
    pub(crate) fn seen_before(&self, at: Time) -> Option<Floor> {
        self.any.before(at).map(|sight| self.floor(sight))
    }

    /// When this revision or a later one was seen first, by whomever.
    pub(crate) fn first_seen(&self, revision: i64) -> Option<(Time, String)> {
        self.any.first(revision).map(|sight| (sight.at, self.floor(sight).seen_by))
    }

    fn floor(&self, sight: Sight) -> Floor {
        let at = moment(sight.at);
        let seen_by = match sight.source {
            Source::Operation(index) => self.history.operations[index].to_string(),
            Source::Watch(index) => {
                let watch = &self.history.watches[index];
                format!("the watch of {} by client {} at {at}", watch.keys, watch.client)
            }
            Source::Report(index) => {
                format!("the report of {} at {at}", self.history.reports[index].appliance)
            }
        };
        Floor { revision: sight.revision, seen_by }
    }
}
