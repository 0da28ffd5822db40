//! Breadth-first search: visits every state within the bounds, and finds the shortest way to a violation.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::explorer::{Explorer, Next};
use super::seen::Seen;
use super::situations::Situations;
use super::tamper::Tamper;
use super::trace;
use super::world::{Bounds, Start, Step, World};

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// States.
    pub states: usize,
    /// Time.
    pub time: Duration,
    /// Different violations.
    pub violations: usize,
    /// Print progress.
    pub progress: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { states: usize::MAX, time: Duration::from_secs(u64::MAX / 4), violations: 1, progress: false }
    }
}

/// A violation and the way to it.
#[derive(Clone, Debug)]
pub struct Found {
    /// The violated promise.
    pub violation: String,
    /// How many steps lead to it.
    pub steps: usize,
    /// The way in words.
    pub text: String,
}

pub(super) type Path = [(Option<Step>, World)];

impl Found {
    pub(super) fn new(explorer: &Explorer, path: &Path, violation: &str) -> Self {
        Self {
            violation: violation.to_string(),
            steps: path.len() - 1,
            text: trace::tell(explorer, path, violation),
        }
    }
}

/// What came of a search.
#[derive(Clone, Debug)]
pub struct Report {
    /// Different states.
    pub states: usize,
    /// Transitions tried.
    pub transitions: u64,
    /// Steps of the longest shortest way.
    pub depth: u32,
    /// Every state within the bounds was visited.
    pub complete: bool,
    /// Time taken.
    pub time: Duration,
    /// Violations, shortest way first, one of each kind.
    pub found: Vec<Found>,
}

/// A breadth-first search.
pub struct Search {
    /// Pools and oracle.
    pub explorer: Explorer,
    pub(super) seen: Seen,
    /// What the appliances and the witness were in, for the search for a way out.
    pub situations: Situations,
    start: Option<World>,
}

const PROGRESS_EVERY: u64 = 1 << 22;

impl Search {
    /// A search within these bounds.
    pub fn new(bounds: Bounds, tamper: Option<Tamper>) -> Self {
        Self {
            explorer: Explorer::new(bounds, tamper),
            seen: Seen::default(),
            situations: Situations::default(),
            start: None,
        }
    }

    /// Visits every state, or as many as the limits allow.
    pub fn run(&mut self, start: Start, limits: &Limits) -> Report {
        let began = Instant::now();
        let first = self.explorer.start(start);
        self.start = Some(first);
        self.seen.add(&first, None);
        self.situations.add(&first, &self.explorer, 0);
        let mut frontier = VecDeque::from([first]);
        let mut report = Report {
            states: 0,
            transitions: 0,
            depth: 0,
            complete: false,
            time: Duration::ZERO,
            found: Vec::new(),
        };
        let mut out: Vec<Next> = Vec::new();
        let (mut at, mut level_end) = (0_u32, 1_usize);
        let mut told = 0;
        while let Some(world) = frontier.pop_front() {
            if at as usize == level_end {
                report.depth += 1;
                level_end = self.seen.len();
            }
            out.clear();
            self.explorer.successors(&world, &mut out);
            report.transitions += out.len() as u64;
            for (next, step, result) in &out {
                match result {
                    Ok(()) if self.seen.add(next, Some(at)) => {
                        let number = u32::try_from(self.seen.len() - 1).unwrap_or(u32::MAX);
                        self.situations.add(next, &self.explorer, number);
                        frontier.push_back(*next);
                    }
                    Ok(()) => {}
                    Err(violation) => self.note(&mut report, at, *step, *next, *violation),
                }
            }
            at += 1;
            if limits.progress && report.transitions >= told + PROGRESS_EVERY {
                told = report.transitions;
                eprintln!(
                    "depth {}: {} states, {} to visit, {} transitions, {} appliance states, {:.0} s",
                    report.depth,
                    self.seen.len(),
                    frontier.len(),
                    report.transitions,
                    self.explorer.nodes.len(),
                    began.elapsed().as_secs_f64()
                );
            }
            let full = self.seen.len() >= limits.states || report.found.len() >= limits.violations;
            if full || (at % 256 == 0 && began.elapsed() >= limits.time) {
                break;
            }
        }
        report.complete = frontier.is_empty();
        report.states = self.seen.len();
        report.time = began.elapsed();
        report
    }

    fn note(&mut self, report: &mut Report, at: u32, step: Step, next: World, violation: u32) {
        let violation = self.explorer.violations.get(violation).clone();
        if report.found.iter().any(|found| kind(&found.violation) == kind(&violation)) {
            return;
        }
        let mut path = self.path_to(at);
        path.push((Some(step), next));
        report.found.push(Found::new(&self.explorer, &path, &violation));
    }

    /// The way to a state: only hashes are kept, so it is walked again.
    pub(super) fn path_to(&mut self, state: u32) -> Vec<(Option<Step>, World)> {
        let Some(mut world) = self.start else { return Vec::new() };
        let mut path = vec![(None, world)];
        let mut out = Vec::new();
        for number in self.seen.way_to(state).into_iter().skip(1) {
            out.clear();
            self.explorer.successors(&world, &mut out);
            let next = out.iter().find(|(next, ..)| self.seen.number(next) == Some(number));
            let Some((next, step, _)) = next else { break };
            world = *next;
            path.push((Some(*step), world));
        }
        path
    }
}

/// Violations that begin alike are one kind.
pub(super) fn kind(violation: &str) -> &str {
    match violation.split_once(':') {
        Some((number, _)) => number,
        None => violation.split(|letter: char| letter.is_ascii_digit()).next().unwrap_or(violation),
    }
}
