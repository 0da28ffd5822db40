//! Breadth-first search for the shortest way to a violation, random walks for deep ones, and the search for a way out:
//! once nothing fails any more, somebody serves.

use std::time::{Duration, Instant};

use super::pool::Pool;
use super::tamper::Tamper;
use super::world::{Bounds, Explorer, Next, Start, Step, World};

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
    /// The states on the way, the first one included, each with the step that led there.
    pub path: Vec<(Option<Step>, World)>,
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
        report.found.push(Found { violation, path });
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

    /// From every `every`-th visited state, with nothing failing any more: is there a way to a serving primary? Gives the
    /// number of states tried and the first ways into states without one.
    pub fn ways_out(&mut self, every: usize, most: usize) -> (usize, Vec<Found>) {
        let calm = Bounds { writes: 0, crashes: 0, softs: 0, leaves: 0, attempts: 6, reconnects: 1, late: 0, reads: 0, notes: 0, losses: 0, checkpoints: false, messages: 3 };
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
                stuck.push(Found { violation: "availability: nobody can come to serve".into(), path });
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
        let mut random = seed;
        let mut report = Report {
            states: 0,
            transitions: 0,
            depth: steps,
            complete: false,
            time: Duration::ZERO,
            found: Vec::new(),
        };
        let mut out = Vec::new();
        for _ in 0..walks {
            let first = self.explorer.start(start);
            let mut path = vec![(None, first)];
            for _ in 0..steps {
                let Some((_, world)) = path.last().copied() else { break };
                out.clear();
                self.explorer.successors(&world, &mut out);
                report.transitions += 1;
                if let Some((next, step, Err(violation))) = out.iter().find(|(_, _, result)| result.is_err()) {
                    let violation = self.explorer.violations.get(*violation).clone();
                    path.push((Some(*step), *next));
                    let known = report.found.iter_mut().find(|found| kind(&found.violation) == kind(&violation));
                    match known {
                        Some(found) if found.path.len() > path.len() => found.path = path,
                        Some(_) => {}
                        None => report.found.push(Found { violation, path }),
                    }
                    break;
                }
                if out.is_empty() {
                    break;
                }
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let choice = usize::try_from(random >> 33).unwrap_or(0) % out.len();
                path.push((Some(out[choice].1), out[choice].0));
            }
            if began.elapsed() >= limits.time || report.found.len() >= limits.violations {
                break;
            }
        }
        report.states = self.explorer.nodes.len();
        report.time = began.elapsed();
        report
    }
}

/// Violations that begin alike are one kind.
fn kind(violation: &str) -> &str {
    violation.split(['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']).next().unwrap_or(violation).split(':').next().unwrap_or(violation)
}
