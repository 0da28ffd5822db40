//! Bar charts as SVG, without any dependency: groups of bars, one bar for each series, whiskers for the spread.

use std::fmt::Write as _;

/// The whole picture, in pixels.
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 360.0;
/// Where the bars stand.
const LEFT: f64 = 76.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 84.0;
const BOTTOM: f64 = 44.0;
/// Part of a group's width that its bars take.
const GROUP_FILL: f64 = 0.72;
/// A single group does not become a wall.
const WIDEST_BAR: f64 = 56.0;
/// Lines across, about so many.
const TICKS: f64 = 5.0;
/// Bars narrower than this have no room for their figure.
const NARROWEST_LABELLED: f64 = 22.0;

/// One of the things compared.
#[derive(Clone, Debug)]
pub struct Series {
    /// What people call it.
    pub name: &'static str,
    /// Its colour, as in CSS.
    pub colour: &'static str,
}

/// One bar.
#[derive(Clone, Copy, Debug)]
pub struct Bar {
    /// Its height.
    pub value: f64,
    /// The spread it comes from.
    pub least: f64,
    /// And its upper end.
    pub most: f64,
}

/// Bars that stand together.
#[derive(Clone, Debug)]
pub struct Group {
    /// Below them.
    pub label: String,
    /// One for each series; none where nothing was measured.
    pub bars: Vec<Option<Bar>>,
}

/// A chart.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Above it.
    pub title: String,
    /// What the bars count, and what the groups are.
    pub unit: String,
    /// What is compared.
    pub series: Vec<Series>,
    /// From left to right.
    pub groups: Vec<Group>,
}

impl Chart {
    /// The picture.
    pub fn svg(&self) -> String {
        let (step, top) = axis(self.highest());
        let y = |value: f64| TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - value / top);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
             height=\"{HEIGHT}\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"8\" fill=\"#ffffff\"/>\n"
        );
        text(&mut out, LEFT, 28.0, "font-size=\"16\" font-weight=\"600\" fill=\"#1b1f24\"", &self.title);
        text(&mut out, LEFT, 46.0, "fill=\"#59636e\"", &self.unit);
        self.legend(&mut out);
        let mut tick = 0.0;
        while tick <= top * 1.000_001 {
            let at = y(tick);
            let colour = if tick > 0.0 { "#e4e8ec" } else { "#8c959f" };
            writeln!(
                out,
                "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"{colour}\"/>",
                WIDTH - RIGHT
            )
            .ok();
            text(&mut out, LEFT - 8.0, at + 4.0, "text-anchor=\"end\" fill=\"#59636e\"", &short(tick));
            tick += step;
        }
        let width = (WIDTH - LEFT - RIGHT) / index_as_length(self.groups.len().max(1));
        for (index, group) in self.groups.iter().enumerate() {
            let middle = LEFT + width * (index_as_length(index) + 0.5);
            self.group(&mut out, group, middle, width, &y);
        }
        out.push_str("</svg>\n");
        out
    }

    fn highest(&self) -> f64 {
        let bars = self.groups.iter().flat_map(|group| group.bars.iter().flatten());
        bars.map(|bar| bar.value.max(bar.most)).fold(0.0, f64::max)
    }

    fn legend(&self, out: &mut String) {
        let mut x = LEFT;
        for series in &self.series {
            writeln!(
                out,
                "<rect x=\"{x:.1}\" y=\"58\" width=\"11\" height=\"11\" rx=\"2\" fill=\"{}\"/>",
                series.colour
            )
            .ok();
            text(out, x + 16.0, 68.0, "fill=\"#1b1f24\"", series.name);
            x += 40.0 + 6.6 * index_as_length(series.name.chars().count());
        }
    }

    fn group(&self, out: &mut String, group: &Group, middle: f64, width: f64, y: &impl Fn(f64) -> f64) {
        let number = index_as_length(self.series.len().max(1));
        let bar_width = (width * GROUP_FILL / number).min(WIDEST_BAR);
        let first = middle - bar_width * number / 2.0;
        for (index, (bar, series)) in group.bars.iter().zip(&self.series).enumerate() {
            let Some(bar) = bar else { continue };
            let x = first + bar_width * index_as_length(index);
            let (top, bottom) = (y(bar.value), y(0.0));
            writeln!(
                out,
                "<rect x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"2\" fill=\"{}\">\
                 <title>{}: {} ({} - {})</title></rect>",
                x + 1.0,
                bar_width - 2.0,
                (bottom - top).max(0.5),
                series.colour,
                escaped(series.name),
                short(bar.value),
                short(bar.least),
                short(bar.most)
            )
            .ok();
            let centre = x + bar_width / 2.0;
            if bar.most > bar.least {
                writeln!(
                    out,
                    "<line x1=\"{centre:.1}\" x2=\"{centre:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#1b1f24\" \
                     stroke-opacity=\"0.55\"/>",
                    y(bar.most),
                    y(bar.least)
                )
                .ok();
            }
            if bar_width >= NARROWEST_LABELLED {
                let above = y(bar.value.max(bar.most)) - 4.0;
                let style = "text-anchor=\"middle\" font-size=\"11\" fill=\"#1b1f24\"";
                text(out, centre, above, style, &short(bar.value));
            }
        }
        let style = "text-anchor=\"middle\" fill=\"#1b1f24\"";
        text(out, middle, HEIGHT - BOTTOM + 20.0, style, &group.label);
    }
}

fn text(out: &mut String, x: f64, y: f64, style: &str, words: &str) {
    writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{}</text>", escaped(words)).ok();
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[allow(clippy::cast_precision_loss)] // a chart has a handful of them
const fn index_as_length(index: usize) -> f64 {
    index as f64
}

/// The distance of the lines across and the upper end: 1, 2 or 5 times a power of ten.
fn axis(highest: f64) -> (f64, f64) {
    if highest <= 0.0 {
        return (1.0, TICKS);
    }
    let raw = highest / TICKS;
    let power = 10_f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power).into_iter().find(|step| *step >= raw * 0.999);
    let step = step.unwrap_or(10.0 * power);
    (step, step * (highest / step).ceil())
}

/// A figure in few characters: "45.3k", "1.87", "0.021".
pub fn short(value: f64) -> String {
    let (scaled, suffix) = match value.abs() {
        size if size >= 999_500.0 => (value / 1e6, "M"),
        size if size >= 9_995.0 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = match scaled.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        size if (0.000_5..0.1).contains(&size) => 3,
        _ => 2,
    };
    let text = format!("{scaled:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        for (value, wanted) in [
            (0.0, "0"),
            (0.0214, "0.021"),
            (1.874, "1.87"),
            (45.26, "45.3"),
            (200.0, "200"),
            (9_800.0, "9800"),
            (45_258.0, "45.3k"),
            (100_000.0, "100k"),
            (2_500_000.0, "2.5M"),
        ] {
            assert_eq!(short(value), wanted);
        }
    }

    #[test]
    fn lines_across_are_at_round_figures_and_reach_above_every_bar() {
        for highest in [0.013, 1.0, 3.7, 45_258.0, 99_999.0, 1e6] {
            let (step, top) = axis(highest);
            let leading = step / 10_f64.powf(step.log10().floor());
            assert!([1.0, 2.0, 5.0].iter().any(|round| (leading - round).abs() < 1e-6), "{highest}: {step}");
            assert!(top >= highest && top / step <= TICKS + 1.01, "{highest}: {step} {top}");
        }
        assert_eq!(axis(0.0), (1.0, 5.0));
    }

    #[test]
    fn a_chart_has_a_bar_for_each_measurement_and_none_for_what_was_not_measured() {
        let bar = |value| Some(Bar { value, least: value * 0.9, most: value * 1.1 });
        let chart = Chart {
            title: "put <s".into(),
            unit: "writes/s".into(),
            series: vec![
                Series { name: "one", colour: "#111111" },
                Series { name: "two", colour: "#222222" },
            ],
            groups: vec![
                Group { label: "1".into(), bars: vec![bar(10.0), bar(5.0)] },
                Group { label: "64".into(), bars: vec![bar(20.0), None] },
            ],
        };
        let svg = chart.svg();
        assert_eq!(svg.matches("<title>").count(), 3);
        assert!(svg.contains("put &lt;s") && !svg.contains("NaN"));
        // The higher bar begins higher up: the scale is one for all.
        let tops: Vec<f64> = svg
            .lines()
            .filter(|line| line.contains("<title>"))
            .map(|line| line.split("y=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
            .collect();
        assert!(tops[2] < tops[0] && tops[0] < tops[1], "{tops:?}");
    }

    #[test]
    fn an_empty_chart_is_a_chart() {
        let svg = Chart { title: String::new(), unit: String::new(), series: vec![], groups: vec![] }.svg();
        assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN"));
    }
}
