//! The parts that the URLs of foreign stores have in common: where, under which prefix, with which options.
//!
//! `scheme://WHERE[/PREFIX][?NAME=VALUE[&NAME=VALUE]]`. There is no escaping: what needs it is refused. Secrets are never
//! in a URL; `credentials=FILE` names the file that has them.

use std::fmt;
use std::path::PathBuf;

/// What stands before the cluster's name unless the URL says otherwise.
pub(crate) const DEFAULT_PREFIX: &str = "duet";

/// A URL behind its scheme, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Address {
    /// Bucket, container, or hosts with ports.
    pub place: String,
    /// Without a slash at either end.
    pub prefix: String,
    pub options: Vec<(String, String)>,
}

impl Address {
    /// Takes `rest` apart, what follows "scheme:"; `known` are the options that there are.
    pub fn parse(rest: &str, known: &[&'static str]) -> Result<Self, String> {
        let rest = rest.strip_prefix("//").ok_or("'//' is missing behind the scheme")?;
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        let (place, prefix) = match path.split_once('/') {
            Some((place, prefix)) => (place, prefix.strip_suffix('/').unwrap_or(prefix)),
            None => (path, ""),
        };
        if place.contains('@') {
            return Err("a user, password or key cannot be given in it: use credentials=FILE".into());
        }
        let prefix = if prefix.is_empty() { DEFAULT_PREFIX } else { prefix };
        let plain = |segment: &str| {
            !matches!(segment, "" | "." | "..")
                && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        if !prefix.split('/').all(plain) {
            return Err("in the prefix are letters, digits, '.', '_' and '-', between single '/'".into());
        }
        let options = query.map_or(Ok(Vec::new()), |query| options(query, known))?;
        Ok(Self { place: place.to_owned(), prefix: prefix.to_owned(), options })
    }

    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The file with the credentials, if one is named.
    pub fn credentials(&self) -> Option<PathBuf> {
        self.option("credentials").map(PathBuf::from)
    }
}

fn options(query: &str, known: &[&'static str]) -> Result<Vec<(String, String)>, String> {
    let mut options: Vec<(String, String)> = Vec::new();
    for option in query.split('&') {
        // The value is not shown: it may be a secret in the wrong place.
        let (name, value) = option.split_once('=').ok_or("an option has no '='")?;
        if !known.contains(&name) {
            return Err(format!("there is no option {name:?}, but {}", known.join(", ")));
        }
        if value.is_empty() || value.contains(['%', '?', '#']) {
            return Err(format!("{name} is empty or has a '%', '?' or '#' in it"));
        }
        if options.iter().any(|(other, _)| other == name) {
            return Err(format!("{name} is given twice"));
        }
        if name == "credentials" && !value.starts_with('/') {
            return Err("credentials is the absolute path of a file".into());
        }
        options.push((name.to_owned(), value.to_owned()));
    }
    Ok(options)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.place, self.prefix)?;
        for (index, (name, value)) in self.options.iter().enumerate() {
            write!(f, "{}{name}={value}", if index == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(rest: &str) -> Result<Address, String> {
        Address::parse(rest, &["endpoint", "region", "credentials"])
    }

    #[test]
    fn good_ones() {
        for (rest, shown) in [
            ("//bucket", "bucket/duet"),
            ("//bucket/", "bucket/duet"),
            ("//bucket/a/b/", "bucket/a/b"),
            (
                "//b/p?endpoint=http://m:9000&credentials=/etc/k",
                "b/p?endpoint=http://m:9000&credentials=/etc/k",
            ),
        ] {
            let parsed = parse(rest).unwrap();
            assert_eq!(parsed.to_string(), shown);
            assert_eq!(parse(&format!("//{shown}")), Ok(parsed));
        }
        let parsed = parse("//b?region=eu&credentials=/k").unwrap();
        assert_eq!((parsed.option("region"), parsed.option("endpoint")), (Some("eu"), None));
        assert_eq!(parsed.credentials(), Some(PathBuf::from("/k")));
    }

    #[test]
    fn mistakes_are_told_without_what_may_be_a_secret() {
        for (rest, expected) in [
            ("bucket", "'//' is missing"),
            ("//key:secret@bucket", "credentials=FILE"),
            ("//b/a//b", "in the prefix"),
            ("//b/../a", "in the prefix"),
            ("//b/a%20b", "in the prefix"),
            ("//b?secret", "no '='"),
            ("//b?password=secret", "no option \"password\", but endpoint, region, credentials"),
            ("//b?region=", "empty"),
            ("//b?region=a&region=b", "twice"),
            ("//b?credentials=k", "absolute"),
        ] {
            let error = parse(rest).unwrap_err();
            assert!(error.contains(expected) && !error.contains("secret"), "{rest:?}: {error}");
        }
    }
}
