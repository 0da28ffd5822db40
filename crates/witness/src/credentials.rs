//! Credentials of a foreign store: from the file that the URL names, or from the environment.
//!
//! The file has lines `NAME=value` with the names that the environment would have, as systemd's `EnvironmentFile` has
//! them. With a file the environment is not looked at: what applies stands in one place. No value is ever shown.

use std::path::{Path, PathBuf};

use crate::Reason;

/// Largest file of credentials, in bytes: a service account's key with its certificates is below it.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Where credentials come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Credentials {
    file: Option<PathBuf>,
    /// The names that concern this kind of store begin with one of these.
    prefixes: &'static [&'static str],
}

impl Credentials {
    pub fn new(file: Option<PathBuf>, prefixes: &'static [&'static str]) -> Self {
        Self { file, prefixes }
    }

    /// Names and values as they are now: a file is read again each time, so that a new key needs no new start.
    pub fn load(&self) -> Result<Vec<(String, String)>, Reason> {
        let concerns = |name: &str| self.prefixes.iter().any(|prefix| name.starts_with(prefix));
        match &self.file {
            Some(file) => {
                let all = read(file)?;
                match all.iter().find(|(name, _)| !concerns(name)) {
                    Some((name, _)) => Err(Reason::new(format!(
                        "{}: {name} is of no use here, names begin with {}",
                        file.display(),
                        self.prefixes.join(" or ")
                    ))),
                    None => Ok(all),
                }
            }
            None => Ok(std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .filter(|(name, _)| concerns(name))
                .collect()),
        }
    }

    /// Where a person sets them.
    pub fn place(&self) -> String {
        match &self.file {
            Some(file) => format!("in {}", file.display()),
            None => "in the environment".to_owned(),
        }
    }
}

fn read(file: &Path) -> Result<Vec<(String, String)>, Reason> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(file)
        .and_then(|opened| opened.take(MAX_FILE_BYTES).read_to_string(&mut text))
        .map_err(|error| {
            Reason::new(format!("cannot read the credentials in {}: {error}", file.display()))
        })?;
    parse(&text)
        .map_err(|line| Reason::new(format!("{}, line {line}: write NAME=value, one a line", file.display())))
}

/// Names and values, or the number of the first line that has none.
fn parse(text: &str) -> Result<Vec<(String, String)>, usize> {
    let mut all = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').ok_or(index + 1)?;
        let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(index + 1);
        }
        let quoted = |quote: char| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
        all.push((name.to_owned(), value.to_owned()));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let all = parse("# a comment\n\nAWS_REGION=eu\nAWS_KEY=\"a=b\"\n").unwrap();
        assert_eq!(all, [("AWS_REGION".into(), "eu".into()), ("AWS_KEY".into(), "a=b".into())]);
        assert_eq!(parse("A=1\nexport B=2"), Err(2));
        assert_eq!(parse("secret"), Err(1));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told_without_a_value() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys");
        let load = || Credentials::new(Some(file.clone()), &["AWS_"]).load();
        assert!(load().unwrap_err().to_string().contains("cannot read the credentials"));
        std::fs::write(&file, "AWS_REGION=eu\nhush hush").unwrap();
        let told = load().unwrap_err().to_string();
        assert!(told.contains("line 2") && !told.contains("hush"), "{told}");
        std::fs::write(&file, "ETCD_PASSWORD=hush").unwrap();
        let told = load().unwrap_err().to_string();
        assert!(told.contains("ETCD_PASSWORD is of no use here") && !told.contains("hush"), "{told}");
        std::fs::write(&file, "AWS_REGION=eu").unwrap();
        assert_eq!(load().unwrap(), [("AWS_REGION".to_owned(), "eu".to_owned())]);
    }
}
