//! The searches that are run as one: a quick list for every change, a deep one as a command.
//!
//! Each bounds another side of the world, because all of them at once are too many states. What only their combination can
//! reach is left to the random walks.

use std::time::Duration;

use super::search::{Found, Limits, Report, Search};
use super::situations::WaysOut;
use super::world::{Bounds, Start};

/// One search.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// What it is about.
    pub name: &'static str,
    /// Where it starts.
    pub start: Start,
    /// What may happen.
    pub bounds: Bounds,
}

/// What came of it.
pub struct Outcome {
    /// Of the search.
    pub report: Report,
    /// Of the search for ways out.
    pub ways_out: WaysOut,
}

impl Outcome {
    /// Everything that was found, of either kind.
    pub fn found(&self) -> impl Iterator<Item = &Found> {
        self.report.found.iter().chain(&self.ways_out.stuck)
    }
}

const ONE: Bounds = Bounds { attempts: 1, ..Bounds::NONE };

/// For every change: all of each within the bounds, in seconds.
pub const QUICK: &[Campaign] = &[
    Campaign {
        name: "a write and a crash",
        start: Start::Pair,
        bounds: Bounds { writes: 1, crashes: 1, ..ONE },
    },
    Campaign {
        name: "a disk that lost writes",
        start: Start::Pair,
        bounds: Bounds { writes: 1, crashes: 1, damages: 1, ..ONE },
    },
    Campaign { name: "a replaced disk", start: Start::Pair, bounds: Bounds { crashes: 1, blanks: 1, ..ONE } },
    Campaign {
        name: "the first start",
        start: Start::Empty,
        bounds: Bounds { inits: 2, losses: 1, late: 1, ..ONE },
    },
    Campaign {
        name: "another pair's record",
        start: Start::Pair,
        bounds: Bounds { crashes: 1, foreigns: 1, ..ONE },
    },
    Campaign {
        name: "an emptied witness",
        start: Start::Pair,
        bounds: Bounds { crashes: 1, losses: 1, ..ONE },
    },
    Campaign { name: "parting", start: Start::Solo, bounds: Bounds { writes: 1, softs: 1, ..ONE } },
    Campaign { name: "a note", start: Start::Pair, bounds: Bounds { leaves: 1, notes: 1, ..ONE } },
    Campaign { name: "another witness", start: Start::Pair, bounds: Bounds { crashes: 1, moves: 1, ..ONE } },
    Campaign { name: "both down", start: Start::Down, bounds: Bounds { writes: 1, softs: 1, ..ONE } },
];

/// With more of everything; each ends by itself, in minutes.
pub const DEEP: &[Campaign] = &[
    Campaign {
        name: "three writes, a crash",
        start: Start::Pair,
        bounds: Bounds { writes: 3, crashes: 1, ..ONE },
    },
    Campaign {
        name: "a write, a crash, parting, late writes at the witness",
        start: Start::Pair,
        bounds: Bounds { writes: 1, crashes: 1, softs: 1, late: 1, attempts: 2, ..Bounds::NONE },
    },
    Campaign {
        name: "two writes, two crashes",
        start: Start::Pair,
        bounds: Bounds { writes: 2, crashes: 2, ..ONE },
    },
    Campaign {
        name: "an emptied witness, notes, soft shutdowns",
        start: Start::Pair,
        bounds: Bounds { crashes: 1, leaves: 2, notes: 2, losses: 1, ..ONE },
    },
    Campaign {
        name: "late answers of the witness",
        start: Start::Pair,
        bounds: Bounds { writes: 1, crashes: 1, reads: 1, attempts: 2, ..Bounds::NONE },
    },
    Campaign {
        name: "a replaced disk",
        start: Start::Pair,
        bounds: Bounds { writes: 1, crashes: 2, blanks: 1, ..ONE },
    },
    Campaign {
        name: "the first start",
        start: Start::Empty,
        bounds: Bounds { writes: 1, crashes: 1, inits: 2, losses: 1, late: 1, ..ONE },
    },
    Campaign {
        name: "another pair's record, an emptied witness",
        start: Start::Pair,
        bounds: Bounds { writes: 1, crashes: 1, foreigns: 1, losses: 1, ..ONE },
    },
    Campaign {
        name: "two messages at once",
        start: Start::Pair,
        bounds: Bounds { writes: 1, crashes: 1, messages: 2, ..ONE },
    },
    Campaign {
        name: "two messages at once, both down",
        start: Start::Down,
        bounds: Bounds { writes: 1, crashes: 1, softs: 2, messages: 2, ..ONE },
    },
    Campaign {
        name: "a disk that lost writes",
        start: Start::Solo,
        bounds: Bounds { writes: 1, crashes: 2, damages: 1, softs: 1, ..ONE },
    },
    Campaign {
        name: "a new connection",
        start: Start::Pair,
        bounds: Bounds { writes: 1, crashes: 1, reconnects: 1, ..ONE },
    },
    Campaign {
        name: "another witness, late writes at both, crashes",
        start: Start::Pair,
        bounds: Bounds { crashes: 2, late: 1, moves: 1, attempts: 2, ..Bounds::NONE },
    },
    Campaign {
        name: "another witness, a write, late answers",
        start: Start::Pair,
        bounds: Bounds { writes: 1, crashes: 1, reads: 1, moves: 1, ..ONE },
    },
    Campaign {
        name: "another witness and back to the first register",
        start: Start::Pair,
        bounds: Bounds { crashes: 1, late: 1, moves: 2, ..ONE },
    },
    Campaign {
        name: "another witness that loses its record, soft shutdowns",
        start: Start::Pair,
        bounds: Bounds { crashes: 1, leaves: 1, losses: 1, moves: 1, ..ONE },
    },
    Campaign {
        name: "old checkpoints, trimmed logs",
        start: Start::Pair,
        bounds: Bounds { writes: 1, crashes: 1, checkpoints: true, trims: true, ..ONE },
    },
];

impl Campaign {
    /// Runs it within these limits, then looks for ways out of so many of the situations met.
    pub fn run(&self, limits: &Limits, ways_out: usize) -> Outcome {
        let mut search = Search::new(self.bounds, None);
        search.situations.wanted = true;
        let report = search.run(self.start, limits);
        let ways_out = search.ways_out(ways_out);
        Outcome { report, ways_out }
    }

    /// Its result in one row of a table.
    pub fn row(&self, outcome: &Outcome) -> String {
        let Outcome { report, ways_out } = outcome;
        let per_second =
            report.states as u128 * 1_000 / report.time.max(Duration::from_millis(1)).as_millis();
        format!(
            "| {} | {}{} | {} | {} | {} | {} | {} |",
            self.name,
            report.states,
            if report.complete { ", all" } else { "" },
            report.depth,
            report.time.as_secs(),
            per_second,
            ways_out.expected,
            outcome.found().count(),
        )
    }
}
