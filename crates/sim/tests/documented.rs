//! The tests that docs/testing.md and docs/failure-modes.md name do exist.

#![allow(clippy::unwrap_used)] // a test may panic

use std::collections::BTreeSet;
use std::path::Path;

/// Sections whose words in code style are names of tests.
const DOCUMENTS: [(&str, &str); 2] =
    [("docs/testing.md", "## Scenarios from the field"), ("docs/failure-modes.md", "# Failure modes")];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().and_then(Path::parent).unwrap()
}

/// The names in the last column of the tables of that section.
fn documented(document: &str, section: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join(document)).unwrap();
    let from = text.find(section).expect("the section is there") + section.len();
    let to = text[from..].find("\n## ").map_or(text.len(), |length| from + length);
    let rows = text[from..to].lines().filter(|line| line.starts_with("| "));
    let last_columns = rows.filter_map(|row| row.trim_end_matches([' ', '|']).rsplit(" | ").next());
    let names = last_columns.flat_map(|column| column.split('`').skip(1).step_by(2));
    names.filter(|name| !name.contains(['.', '/'])).map(str::to_owned).collect()
}

/// Everything that Rust files call a function or a module.
fn defined(directory: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            defined(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
            for line in text.lines() {
                if let Some(rest) = line.split("fn ").nth(1) {
                    names.extend(rest.split(['(', '<']).next().map(str::to_owned));
                }
            }
        }
    }
}

#[test]
fn every_named_test_exists() {
    let mut names = BTreeSet::new();
    for directory in ["crates", "tests"] {
        defined(&root().join(directory), &mut names);
    }
    for (document, section) in DOCUMENTS {
        let wanted = documented(document, section);
        assert!(wanted.len() > 10, "{document} names tests: {wanted:?}");
        for name in wanted {
            assert!(names.contains(&name), "{document} names {name}, which is no test");
        }
    }
}
