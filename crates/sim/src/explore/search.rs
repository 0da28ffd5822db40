//! Breadth-first search for the shortest way to a violation, random walks for deep ones, and the search for a way out:
//! once nothing fails any more, somebody serves.

use std::time::{Duration, Instant};

use super::explorer::{Explorer, Next};
use super::pool::Pool;
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

type Path = [(Option<Step>, World)];

impl Found {
    fn new(explorer: &Explorer, path: &Path, violation: &str) -> Self {
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
    worlds: Pool<World>,
    parents: Vec<u32>,
}

const NO_PARENT: u32 = u32::MAX;
const PROGRESS_EVERY: u64 = 1 << 20;

impl Search {
    /// A search within these bounds.
    pub fn new(bounds: Bounds, tamper: Option<Tamper>) -> Self {
        Self { explorer: Explorer::new(bounds, tamper), worlds: Pool::default(), parents: Vec::new() }
    }

    fn visit(&mut self, world: World, parent: u32) {
        if self.worlds.intern(world).1 {
            self.parents.push(parent);
        }
    }

    /// Visits every state, or as many as the limits allow.
    pub fn run(&mut self, start: Start, limits: &Limits) -> Report {
        let began = Instant::now();
        let first = self.explorer.start(start);
        self.visit(first, NO_PARENT);
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
        while (at as usize) < self.worlds.len() {
            if at as usize == level_end {
                report.depth += 1;
                level_end = self.worlds.len();
            }
            let world = *self.worlds.get(at);
            out.clear();
            self.explorer.successors(&world, &mut out);
            report.transitions += out.len() as u64;
            for (next, step, result) in &out {
                match result {
                    Ok(()) => self.visit(*next, at),
                    Err(violation) => self.note(&mut report, at, *step, *next, *violation),
                }
            }
            at += 1;
            if limits.progress && report.transitions >= told + PROGRESS_EVERY {
                told = report.transitions;
                eprintln!(
                    "depth {}: {} states, {} to visit, {} transitions, {} appliance states, {:.0} s",
                    report.depth,
                    self.worlds.len(),
                    self.worlds.len() - at as usize,
                    report.transitions,
                    self.explorer.nodes.len(),
                    began.elapsed().as_secs_f64()
                );
            }
            let full = self.worlds.len() >= limits.states || report.found.len() >= limits.violations;
            if full || (at % 256 == 0 && began.elapsed() >= limits.time) {
                break;
            }
        }
        report.complete = at as usize == self.worlds.len();
        report.states = self.worlds.len();
        report.time = began.elapsed();
        report
    }

    fn note(&mut self, report: &mut Report, at: u32, step: Step, next: World, violation: u32) {
        let violation = self.explorer.violations.get(violation).clone();
        if report.found.iter().any(|found| kind(&found.violation) == kind(&violation)) {
            return;
        }
        let mut path = vec![(Some(step), next)];
        path.extend(self.path_to(at));
        path.reverse();
        let found = Found::new(&self.explorer, &path, &violation);
        report.found.push(found);
    }

    /// The way to a state, backwards.
    fn path_to(&mut self, state: u32) -> Vec<(Option<Step>, World)> {
        let mut path = Vec::new();
        let mut at = state;
        let mut out = Vec::new();
        while self.parents[at as usize] != NO_PARENT {
            let parent = self.parents[at as usize];
            let world = *self.worlds.get(at);
            let before = *self.worlds.get(parent);
            out.clear();
            self.explorer.successors(&before, &mut out);
            let step = out.iter().find(|(next, ..)| *next == world).map(|(_, step, _)| *step);
            path.push((step, world));
            at = parent;
        }
        path.push((None, *self.worlds.get(at)));
        path
    }

    /// From every `every`-th visited state, with nothing failing any more: do so many attempts lead to a serving primary? Gives
    /// the number of states tried and the first ways into states without one.
    pub fn ways_out(&mut self, every: usize, most: usize, attempts: u8) -> (usize, Vec<Found>) {
        let bounds_trim = self.explorer.bounds.trims;
        let calm = Bounds {
            writes: 0,
            crashes: 0,
            softs: 0,
            leaves: 0,
            attempts,
            reconnects: 1,
            late: 0,
            reads: 0,
            notes: 0,
            losses: 0,
            checkpoints: false,
            trims: bounds_trim,
            messages: 3,
        };
        let mut tried = 0;
        let mut stuck = Vec::new();
        let bounds = std::mem::replace(&mut self.explorer.bounds, calm);
        for at in (0..self.worlds.len()).step_by(every.max(1)).take(most) {
            let world = *self.worlds.get(u32::try_from(at).unwrap_or(u32::MAX));
            let from = self.explorer.calm(&world, calm);
            tried += 1;
            if !self.finds_service(from) {
                self.explorer.bounds = bounds;
                let mut path = self.path_to(u32::try_from(at).unwrap_or(u32::MAX));
                path.reverse();
                stuck.push(Found::new(&self.explorer, &path, "availability: nobody can come to serve"));
                self.explorer.bounds = calm;
                if stuck.len() >= 3 {
                    break;
                }
            }
        }
        self.explorer.bounds = bounds;
        (tried, stuck)
    }

    fn finds_service(&mut self, from: World) -> bool {
        const ENOUGH: usize = 20_000;
        let mut seen: Pool<World> = Pool::default();
        seen.intern(from);
        let mut at = 0;
        let mut out = Vec::new();
        while at < seen.len() && seen.len() < ENOUGH {
            let world = *seen.get(u32::try_from(at).unwrap_or(u32::MAX));
            if self.explorer.serves(&world) {
                return true;
            }
            out.clear();
            self.explorer.successors(&world, &mut out);
            for (next, _, result) in &out {
                if result.is_ok() {
                    seen.intern(*next);
                }
            }
            at += 1;
        }
        false
    }

    /// Random walks, each until nothing is left to do or it is `steps` long.
    pub fn walk(&mut self, start: Start, seed: u64, walks: u64, steps: u32, limits: &Limits) -> Report {
        let began = Instant::now();
        let mut random = Random(seed);
        let mut report = Report {
            states: 0,
            transitions: 0,
            depth: steps,
            complete: false,
            time: Duration::ZERO,
            found: Vec::new(),
        };
        let mut out = Vec::new();
        for walk in 0..walks {
            self.make_room(&mut report);
            // Every other walk gives rare events (crashes, time, writes) the chance of frequent ones.
            let by_kind = walk % 2 == 1;
            let mut path = vec![(None, self.explorer.start(start))];
            for _ in 0..steps {
                let Some((_, world)) = path.last().copied() else { break };
                out.clear();
                self.explorer.successors(&world, &mut out);
                report.transitions += 1;
                if let Some((next, step, Err(violation))) = out.iter().find(|(_, _, result)| result.is_err())
                {
                    path.push((Some(*step), *next));
                    self.note_walked(&mut report, &path, *violation);
                    break;
                }
                let Some((next, step, _)) = random.choose(&mut out, by_kind) else { break };
                path.push((Some(step), next));
            }
            if limits.progress && walk % 5_000 == 4_999 {
                eprintln!(
                    "{} walks, {} steps, {:.0} s",
                    walk + 1,
                    report.transitions,
                    began.elapsed().as_secs_f64()
                );
            }
            if began.elapsed() >= limits.time || report.found.len() >= limits.violations {
                break;
            }
        }
        report.states += self.explorer.nodes.len();
        report.time = began.elapsed();
        report
    }

    /// Long walks see ever more: what was computed is forgotten from time to time.
    fn make_room(&mut self, report: &mut Report) {
        if self.explorer.nodes.len() < MOST_APPLIANCE_STATES {
            return;
        }
        report.states += self.explorer.nodes.len();
        let mut fresh = Explorer::new(self.explorer.bounds, self.explorer.tamper);
        fresh.keeps_all = self.explorer.keeps_all;
        fresh.coverage = self.explorer.coverage.clone();
        self.explorer = fresh;
    }

    fn note_walked(&self, report: &mut Report, path: &Path, violation: u32) {
        let violation = self.explorer.violations.get(violation);
        let fresh = Found::new(&self.explorer, path, violation);
        match report.found.iter_mut().find(|found| kind(&found.violation) == kind(violation)) {
            Some(known) if known.steps > fresh.steps => *known = fresh,
            Some(_) => {}
            None => report.found.push(fresh),
        }
    }
}

const MOST_APPLIANCE_STATES: usize = 200_000;

/// Numbers that depend on the seed alone.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % most.max(1)
    }

    fn choose(&mut self, out: &mut [Next], by_kind: bool) -> Option<(World, Step, Result<(), u32>)> {
        if out.is_empty() {
            return None;
        }
        if !by_kind {
            return Some(out[self.below(out.len())]);
        }
        let kind_of = |next: &Next| next.1.stimulus.map(|stimulus| std::mem::discriminant(&stimulus));
        let mut kinds: Vec<_> = Vec::new();
        for next in out.iter() {
            if !kinds.contains(&kind_of(next)) {
                kinds.push(kind_of(next));
            }
        }
        let kind = kinds[self.below(kinds.len())];
        let count = out.iter().filter(|next| kind_of(next) == kind).count();
        let place = self.below(count);
        out.iter().filter(|next| kind_of(next) == kind).nth(place).copied()
    }
}

/// Violations that begin alike are one kind.
fn kind(violation: &str) -> &str {
    violation
        .split(['0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
        .next()
        .unwrap_or(violation)
        .split(':')
        .next()
        .unwrap_or(violation)
}
