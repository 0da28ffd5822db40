//! Growth as text, Markdown, JSON and plots.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::super::args::SystemName;
use super::super::output::{Conditions, Document, json};
use super::super::proc_stat::Memory;
use super::super::report::{Report, count};
use super::super::svg::{Bar, Chart, Group, Series};
use super::away::Return;
use super::costs::Cost;
use crate::terminal::Paint;

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Scale {
    /// Where and with what.
    pub conditions: Conditions,
    /// What the disk takes when it is written in order.
    pub disk_mib_per_second: f64,
    /// Bytes in a value.
    pub value_size: usize,
    /// Writes a second in the foreground.
    pub rate: u64,
    /// Seconds of one load.
    pub seconds: f64,
    /// Seconds that the secondary was away.
    pub away_seconds: f64,
    /// By number of keys and system.
    pub sizes: Vec<Size>,
    /// Of clients, watches, leases.
    pub costs: Vec<Cost>,
}

/// What was measured at one number of keys.
#[derive(Clone, Debug, Serialize)]
pub struct Size {
    /// Of which system.
    pub system: SystemName,
    /// Keys.
    pub keys: usize,
    /// To write them.
    pub fill_seconds: f64,
    /// Of the process with one copy, after that.
    pub memory: Memory,
    /// Of one copy, after that.
    pub disk_bytes: u64,
    /// Writes in a closed loop.
    pub puts: Option<Report>,
    /// Linearizable reads in a closed loop.
    pub gets: Option<Report>,
    /// Until all history is compacted, on the disk, too.
    pub compaction_seconds: Option<f64>,
    /// Writes in an open loop before.
    pub before_compaction: Option<Report>,
    /// And in its midst.
    pub during_compaction: Option<Report>,
    /// From the start after `kill -9` of all copies to the first linearizable read.
    pub start_seconds: Option<f64>,
    /// A moment after that.
    pub memory_after_start: Option<Memory>,
    /// The secondary was away.
    pub rejoin: Option<Return>,
    /// The secondary lost its disk.
    pub copy: Option<Return>,
}

/// What one more key costs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Growth {
    /// Anonymous memory, bytes.
    pub memory: f64,
    /// Disk, bytes.
    pub disk: f64,
}

impl Growth {
    /// From the difference of two sizes; none if they are one.
    pub fn between(least: &Size, most: &Size) -> Option<Self> {
        let keys = count(most.keys.checked_sub(least.keys).filter(|more| *more > 0)? as u64);
        let each = |least: u64, most: u64| (count(most) - count(least)) / keys;
        Some(Self {
            memory: each(least.memory.anonymous, most.memory.anonymous),
            disk: each(least.disk_bytes, most.disk_bytes),
        })
    }
}

impl Size {
    /// What is always there.
    pub fn new(system: SystemName, keys: usize, fill: Duration, memory: Memory, disk_bytes: u64) -> Self {
        Self {
            system,
            keys,
            fill_seconds: fill.as_secs_f64(),
            memory,
            disk_bytes,
            puts: None,
            gets: None,
            compaction_seconds: None,
            before_compaction: None,
            during_compaction: None,
            start_seconds: None,
            memory_after_start: None,
            rejoin: None,
            copy: None,
        }
    }

    /// One line of the table each: what, and how much.
    fn figures(&self, disk_mib_per_second: f64) -> Vec<(&'static str, Option<String>)> {
        let p99 = |report: &Option<Report>| report.as_ref().map(|r| format!("{:.1}", r.latency_ms.p99));
        let worst = |report: &Option<Report>| report.as_ref().map(|r| format!("{:.1}", r.latency_ms.max));
        let per_second =
            |report: &Option<Report>| report.as_ref().map(|r| format!("{:.0}", r.ops_per_second));
        let after = self.memory_after_start;
        let (rejoin, copy) = (self.rejoin.as_ref(), self.copy.as_ref());
        vec![
            ("to write the keys, s", Some(format!("{:.1}", self.fill_seconds))),
            ("writes/s, 64 clients", per_second(&self.puts)),
            ("linearizable reads/s, 64 clients", per_second(&self.gets)),
            ("resident memory of a copy, MiB", Some(mib(self.memory.resident))),
            ("of that anonymous, MiB", Some(mib(self.memory.anonymous))),
            ("disk of a copy, MiB", Some(mib(self.disk_bytes))),
            ("compaction, s", self.compaction_seconds.map(|seconds| format!("{seconds:.2}"))),
            ("write p99 before it, ms", p99(&self.before_compaction)),
            ("write p99 with it, ms", p99(&self.during_compaction)),
            ("slowest write with it, ms", worst(&self.during_compaction)),
            ("start after kill -9, s", self.start_seconds.map(|seconds| format!("{seconds:.2}"))),
            ("resident memory after it, MiB", after.map(|memory| mib(memory.resident))),
            ("of that anonymous, MiB", after.map(|memory| mib(memory.anonymous))),
            ("rejoin of the secondary, s", rejoin.map(|back| format!("{:.2}", back.seconds))),
            ("writes it caught up a second", rejoin.map(|back| format!("{:.0}", back.writes_per_second()))),
            (
                "write p99 during the rejoin, ms",
                rejoin.map(|back| format!("{:.1}", back.foreground.latency_ms.p99)),
            ),
            ("full copy, s", copy.map(|back| format!("{:.2}", back.seconds))),
            ("full copy, MiB of keys and values/s", copy.map(|back| format!("{:.0}", back.mib_per_second()))),
            (
                "full copy, part of the disk's rate",
                copy.map(|back| {
                    format!("{:.0} %", 100.0 * back.mib_per_second() / disk_mib_per_second.max(1e-9))
                }),
            ),
            (
                "write p99 of the primary alone, ms",
                copy.map(|back| format!("{:.1}", back.alone.latency_ms.p99)),
            ),
            (
                "write p99 during the copy, ms",
                copy.map(|back| format!("{:.1}", back.foreground.latency_ms.p99)),
            ),
        ]
    }
}

fn in_columns(cells: &[String], width: usize) -> String {
    let mut line = String::new();
    for cell in cells {
        write!(line, "{cell:>width$}").ok();
    }
    line
}

fn mib(bytes: u64) -> String {
    format!("{:.1}", count(bytes) / f64::from(1 << 20))
}

/// What one more of something costs, in words.
struct CostLine {
    of: String,
    system: SystemName,
    memory: f64,
    other: Option<u64>,
    disk: Option<f64>,
}

impl Scale {
    /// All its forms.
    pub fn document(&self) -> Document {
        let mut markdown =
            format!("# Growth\n\n{}\n{}\n\n", self.conditions.markdown(), self.setup_in_words());
        let charts = self.charts();
        for (name, chart) in &charts {
            write!(markdown, "![{}]({name}.svg)\n\n", chart.title).ok();
        }
        markdown.push_str(&self.table());
        markdown.push_str(&self.cost_table());
        Document {
            text: self.text(Paint::stdout()),
            json: json(self),
            markdown,
            plots: charts.into_iter().map(|(name, chart)| (name.to_owned(), chart.svg())).collect(),
        }
    }

    fn setup_in_words(&self) -> String {
        format!(
            "Values of {} bytes; loads of {} s; in the foreground {} writes/s; the secondary was away for {} s; \
             the disk takes {:.0} MiB/s written in order.",
            self.value_size, self.seconds, self.rate, self.away_seconds, self.disk_mib_per_second
        )
    }

    /// The figures by line: what, and one for each size and system; lines that nobody measured are left out.
    fn lines(&self) -> Vec<(&'static str, Vec<String>)> {
        let columns: Vec<_> = self.sizes.iter().map(|size| size.figures(self.disk_mib_per_second)).collect();
        let Some(first) = columns.first() else { return Vec::new() };
        let line = |index: usize| {
            let cells = columns.iter().map(|column| column[index].1.clone());
            (first[index].0, cells.collect::<Vec<Option<String>>>())
        };
        (0..first.len())
            .map(line)
            .filter(|(_, cells)| cells.iter().any(Option::is_some))
            .map(|(what, cells)| (what, cells.into_iter().map(Option::unwrap_or_default).collect()))
            .collect()
    }

    fn cost_lines(&self) -> Vec<CostLine> {
        let mut systems: Vec<SystemName> = self.sizes.iter().map(|size| size.system).collect();
        systems.sort_unstable();
        systems.dedup();
        let keys = systems.into_iter().filter_map(|system| {
            let growth = self.growth(system)?;
            let (of, other) = ("key".to_owned(), None);
            Some(CostLine { of, system, memory: growth.memory, other, disk: Some(growth.disk) })
        });
        let held = self.costs.iter().map(|cost| CostLine {
            of: format!("{} ({} held)", cost.of.name(), cost.number),
            system: cost.system,
            memory: count(cost.bytes_each),
            other: cost.bytes_each_at_the_other,
            disk: None,
        });
        keys.chain(held).collect()
    }

    fn text(&self, paint: Paint) -> String {
        let mut text = self.conditions.in_words().join("\n");
        write!(text, "\n{}\n\n", self.setup_in_words()).ok();
        let heads: Vec<String> =
            self.sizes.iter().map(|size| format!("{} keys, {}", size.keys, size.system.words())).collect();
        let width = heads.iter().map(|head| head.chars().count()).max().unwrap_or(0) + 3;
        let head = in_columns(&heads, width);
        writeln!(text, "{}", paint.dim(format!("{:<36}{head}", ""))).ok();
        for (what, cells) in self.lines() {
            writeln!(text, "{what:<36}{}", in_columns(&cells, width)).ok();
        }
        let costs = self.cost_lines();
        if !costs.is_empty() {
            writeln!(text, "\n{}", paint.dim("one more costs: bytes of memory, at the other copy, of disk"))
                .ok();
        }
        for line in costs {
            let optional = |bytes: Option<String>| bytes.unwrap_or_default();
            writeln!(
                text,
                "{:<28}{:<18}{:>10.0}{:>10}{:>10}",
                line.of,
                line.system.words(),
                line.memory,
                optional(line.other.map(|bytes| bytes.to_string())),
                optional(line.disk.map(|bytes| format!("{bytes:.0}")))
            )
            .ok();
        }
        text
    }

    fn table(&self) -> String {
        let mut text = String::from("| |");
        for size in &self.sizes {
            write!(text, " {} keys, {} |", size.keys, size.system.words()).ok();
        }
        write!(text, "\n|---|{}\n", "---|".repeat(self.sizes.len())).ok();
        for (what, cells) in self.lines() {
            writeln!(text, "| {what} | {} |", cells.join(" | ")).ok();
        }
        text
    }

    fn cost_table(&self) -> String {
        let lines = self.cost_lines();
        if lines.is_empty() {
            return String::new();
        }
        let mut text = String::from(
            "\n| one more | in | bytes of memory | at the other copy | of disk |\n|---|---|---|---|---|\n",
        );
        for line in lines {
            let other = line.other.map_or_else(String::new, |bytes| bytes.to_string());
            let disk = line.disk.map_or_else(String::new, |bytes| format!("{bytes:.0}"));
            let (of, system) = (line.of, line.system.words());
            writeln!(text, "| {of} | {system} | {:.0} | {other} | {disk} |", line.memory).ok();
        }
        text
    }

    fn charts(&self) -> Vec<(&'static str, Chart)> {
        let mut systems: Vec<SystemName> = self.sizes.iter().map(|size| size.system).collect();
        systems.sort_unstable();
        systems.dedup();
        let mut keys: Vec<usize> = self.sizes.iter().map(|size| size.keys).collect();
        keys.sort_unstable();
        keys.dedup();
        let chart = |title: &str, unit: &str, figure: &dyn Fn(&Size) -> Option<f64>| {
            let bar = |keys: usize, system: SystemName| {
                let size = self.sizes.iter().find(|size| size.keys == keys && size.system == system)?;
                figure(size).map(|value| Bar { value, least: value, most: value })
            };
            let series =
                systems.iter().map(|system| Series { name: system.words(), colour: system.colour() });
            let groups = keys.iter().map(|number| Group {
                label: format!("{number} keys"),
                bars: systems.iter().map(|system| bar(*number, *system)).collect(),
            });
            Chart {
                title: title.into(),
                unit: unit.into(),
                series: series.collect(),
                groups: groups.collect(),
            }
        };
        let rate = |report: &Option<Report>| report.as_ref().map(|report| report.ops_per_second);
        let mut charts = vec![
            (
                "memory",
                chart("Memory of a copy", "MiB resident; lower is better", &|size| {
                    Some(count(size.memory.resident) / f64::from(1 << 20))
                }),
            ),
            ("start", chart("Start after kill -9", "s; lower is better", &|size| size.start_seconds)),
            ("growth-put", chart("Writes", "a second, 64 clients", &|size| rate(&size.puts))),
            ("growth-get", chart("Linearizable reads", "a second, 64 clients", &|size| rate(&size.gets))),
        ];
        charts.retain(|(_, chart)| chart.groups.iter().any(|group| group.bars.iter().any(Option::is_some)));
        charts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(keys: usize, anonymous: u64, disk_bytes: u64) -> Size {
        let memory = Memory { resident: anonymous * 2, anonymous, peak: anonymous * 2 };
        Size::new(SystemName::Duet, keys, Duration::from_secs(1), memory, disk_bytes)
    }

    #[test]
    fn one_more_key_costs_what_the_sizes_differ_by() {
        let growth = Growth::between(&size(1_000, 5_000, 0), &size(3_000, 405_000, 600_000));
        assert_eq!(growth, Some(Growth { memory: 200.0, disk: 300.0 }));
        let shrunk = Growth::between(&size(1_000, 5_000, 9), &size(2_000, 4_000, 9));
        assert_eq!(shrunk, Some(Growth { memory: -1.0, disk: 0.0 }));
        assert_eq!(Growth::between(&size(1, 1, 1), &size(1, 2, 2)), None);
    }

    #[test]
    fn only_what_was_measured_has_a_line() {
        let whats: Vec<&str> = size(1, 1, 1)
            .figures(100.0)
            .into_iter()
            .filter(|(_, cell)| cell.is_some())
            .map(|(what, _)| what)
            .collect();
        assert_eq!(
            whats,
            [
                "to write the keys, s",
                "resident memory of a copy, MiB",
                "of that anonymous, MiB",
                "disk of a copy, MiB"
            ]
        );
    }
}
