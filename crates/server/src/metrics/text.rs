//! Prometheus' text form, version 0.0.4.

use std::fmt::{Display, Write as _};

use super::{BOUNDS, Histogram};

/// Its media type.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page under construction.
#[derive(Default)]
pub(crate) struct Page {
    text: String,
}

impl Page {
    /// What only grows.
    pub(crate) fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "counter", help);
        self.sample(name, &[], value);
    }

    /// What goes up and down.
    pub(crate) fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    /// What is said by its labels: its value is 1.
    pub(crate) fn info(&mut self, name: &str, help: &str, label: (&str, &str)) {
        self.family(name, "gauge", help);
        self.sample(name, &[label], 1);
    }

    /// How long things took, in seconds.
    pub(crate) fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.family(name, "histogram", help);
        let counted = histogram.cumulative();
        let bounds = BOUNDS.iter().map(|bound| bound.as_secs_f64().to_string()).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(counted) {
            self.sample(&format!("{name}_bucket"), &[("le", &bound)], count);
        }
        self.sample(&format!("{name}_sum"), &[], histogram.total().as_secs_f64());
        self.sample(&format!("{name}_count"), &[], counted[BOUNDS.len()]);
    }

    /// Begins the samples of one name.
    pub(crate) fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One sample of the family begun last.
    pub(crate) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(name);
        for (place, (label, text)) in labels.iter().enumerate() {
            self.text.push(if place == 0 { '{' } else { ',' });
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{label}=\"{text}\"");
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    /// The whole page.
    pub(crate) fn finish(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_page_has_prometheus_form() {
        let mut page = Page::default();
        page.counter("a_total", "What a is.", 3_u64);
        page.info("b", "What b is.", ("name", "x\"y\\z\n"));
        let histogram = Histogram::default();
        histogram.record(Duration::from_millis(3));
        page.histogram("c_seconds", "What c is.", &histogram);
        let text = page.finish();
        assert!(text.starts_with("# HELP a_total What a is.\n# TYPE a_total counter\na_total 3\n"), "{text}");
        assert!(text.contains("# TYPE b gauge\nb{name=\"x\\\"y\\\\z\\n\"} 1\n"), "{text}");
        for line in [
            "c_seconds_bucket{le=\"0.002\"} 0\n",
            "c_seconds_bucket{le=\"0.004\"} 1\n",
            "c_seconds_bucket{le=\"8.192\"} 1\n",
            "c_seconds_bucket{le=\"+Inf\"} 1\n",
            "c_seconds_sum 0.003\n",
            "c_seconds_count 1\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }
}
