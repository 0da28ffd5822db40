//! Random walks, for what lies deeper than a search can go.

use std::time::{Duration, Instant};

use super::explorer::{Explorer, Next};
use super::search::{Found, Limits, Path, Report, Search, kind};
use super::world::{Start, Step, World};

impl Search {
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
                let seconds = began.elapsed().as_secs_f64();
                eprintln!("{} walks, {} steps, {seconds:.0} s", walk + 1, report.transitions);
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
