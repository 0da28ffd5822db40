//! From the URL in a configuration file to a register.
//!
//! | URL | witness |
//! |---|---|
//! | `http://host:port` | a Duet witness server |
//! | `dir:/path` or `file:///path` | a directory on a shared file system |
//! | `s3://bucket/prefix`, `az://container/prefix`, `gs://bucket/prefix` | an object store |
//! | `etcd://host:port,host:port/prefix` | an etcd |
//!
//! A typo is told in a sentence that shows the right form; nothing is guessed, as two appliances that guess
//! differently would have two witnesses.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http::uri::Authority;

use crate::client::ServerRegister;
use crate::directory::DirectoryRegister;
use crate::etcd::{self, EtcdAddress};
#[cfg(feature = "object-stores")]
use crate::objects::{self, ObjectsAddress};
use crate::register::DEFAULT_DEADLINE;
use crate::{ClusterName, ClusterNameError, Credential, Register};

/// Schemes of witnesses that are planned, so that they get an answer of their own.
const PLANNED_SCHEMES: [&str; 3] = ["https", "etcds", "http+unix"];
/// Schemes of object stores.
const OBJECT_STORES: [&str; 3] = ["s3", "az", "gs"];

/// Opens the register of `cluster` at the witness with this URL; every call ends within [`DEFAULT_DEADLINE`].
/// Nothing is contacted yet.
///
/// # Errors
/// When the URL or the name has to be corrected.
pub fn open(url: &str, cluster: &str, access: &Access) -> Result<Box<dyn Register>, OpenError> {
    let url: WitnessUrl = url.parse()?;
    Ok(url.register(cluster.parse()?, access, DEFAULT_DEADLINE))
}

/// What the URL does not say, as it is secret or long: how the witness is to be convinced.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Access {
    /// The pair's token, at a witness server.
    pub credential: Credential,
}

/// Where a witness is; checked, but not contacted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WitnessUrl {
    /// A Duet witness server.
    Server {
        /// `host:port`.
        address: String,
    },
    /// A directory on a shared file system.
    Directory {
        /// An absolute path.
        path: PathBuf,
    },
    /// An object store.
    #[cfg(feature = "object-stores")]
    Objects(ObjectsAddress),
    /// An etcd.
    Etcd(EtcdAddress),
}

impl WitnessUrl {
    /// The register of `cluster` there; every call ends within `deadline`.
    pub fn register(&self, cluster: ClusterName, access: &Access, deadline: Duration) -> Box<dyn Register> {
        match self {
            Self::Server { address } => {
                Box::new(ServerRegister::new(address.clone(), cluster, access.credential.clone(), deadline))
            }
            Self::Directory { path } => Box::new(DirectoryRegister::new(path.clone(), cluster, deadline)),
            #[cfg(feature = "object-stores")]
            Self::Objects(address) => objects::register(address, cluster, deadline),
            Self::Etcd(address) => etcd::register(address, cluster, deadline),
        }
    }

    /// What kind of witness it is, in one word for the status.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Server { .. } => "server",
            Self::Directory { .. } => "directory",
            #[cfg(feature = "object-stores")]
            Self::Objects(address) => address.kind_name(),
            Self::Etcd(_) => "etcd",
        }
    }

    /// Whether the witness is a program that is reached at this `host:port`.
    pub fn is_at(&self, address: &str) -> bool {
        match self {
            Self::Server { address: mine } => mine == address,
            Self::Etcd(etcd) => etcd.endpoints().any(|mine| mine == address),
            _ => false,
        }
    }
}

impl FromStr for WitnessUrl {
    type Err = OpenError;

    fn from_str(url: &str) -> Result<Self, OpenError> {
        if url.is_empty() {
            return Err(OpenError::Empty);
        }
        if url.chars().any(|character| character.is_whitespace() || character.is_control()) {
            return Err(OpenError::Space { url: url.to_owned() });
        }
        if url.starts_with('/') {
            return Err(OpenError::NoScheme { url: url.to_owned(), hint: format!("dir:{url}") });
        }
        let Some((scheme, rest)) = url.split_once(':') else {
            return Err(OpenError::NoScheme { url: url.to_owned(), hint: format!("http://{url}:PORT") });
        };
        match scheme {
            "http" => server(url, rest),
            "dir" | "file" => directory(url, rest),
            store if OBJECT_STORES.contains(&store) => object_store(url, store, rest),
            "etcd" => EtcdAddress::parse(rest).map(WitnessUrl::Etcd).map_err(|what| OpenError::Store {
                url: without_secrets(url),
                what,
                form: etcd::FORM,
            }),
            planned if PLANNED_SCHEMES.contains(&planned) => {
                Err(OpenError::NotSupported { scheme: planned.to_owned() })
            }
            // The colon of a bare host:port.
            _ if !rest.starts_with('/') && rest.parse::<u16>().is_ok() => {
                Err(OpenError::NoScheme { url: url.to_owned(), hint: format!("http://{url}") })
            }
            other => Err(OpenError::Scheme { scheme: other.to_owned() }),
        }
    }
}

impl fmt::Display for WitnessUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server { address } => write!(f, "http://{address}"),
            Self::Directory { path } => write!(f, "dir:{}", path.display()),
            #[cfg(feature = "object-stores")]
            Self::Objects(address) => address.fmt(f),
            Self::Etcd(address) => address.fmt(f),
        }
    }
}

#[cfg(feature = "object-stores")]
fn object_store(url: &str, scheme: &str, rest: &str) -> Result<WitnessUrl, OpenError> {
    ObjectsAddress::parse(scheme, rest).map(WitnessUrl::Objects).map_err(|(what, form)| OpenError::Store {
        url: without_secrets(url),
        what,
        form,
    })
}

#[cfg(not(feature = "object-stores"))]
fn object_store(_url: &str, scheme: &str, _rest: &str) -> Result<WitnessUrl, OpenError> {
    Err(OpenError::NotBuilt { scheme: scheme.to_owned() })
}

/// The URL without what may be a key or a password: what stands before an '@', and the values of options.
fn without_secrets(url: &str) -> String {
    let (front, behind) = url.split_once('?').map_or((url, ""), |(front, _)| (front, "?..."));
    match front.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?))) {
        Some((scheme, (_, place))) => format!("{scheme}://...@{place}{behind}"),
        None => format!("{front}{behind}"),
    }
}

fn server(url: &str, rest: &str) -> Result<WitnessUrl, OpenError> {
    let bad = |what: &'static str| OpenError::Server { url: without_secrets(url), what };
    let rest = rest.strip_prefix("//").ok_or_else(|| bad("'//' is missing after 'http:'"))?;
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#']) {
        return Err(bad("nothing may follow the port"));
    }
    if authority.contains('@') {
        return Err(bad("a user or password cannot be given"));
    }
    let authority: Authority = authority.parse().map_err(|_| bad("host and port are malformed"))?;
    let host = authority.host();
    if host.is_empty() {
        return Err(bad("the host is missing"));
    }
    // The parser lets brackets stand anywhere, and text between them and the port.
    let name = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let behind = authority.as_str().strip_prefix(host).unwrap_or_default();
    if name.contains(['[', ']']) || !(behind.is_empty() || behind.starts_with(':')) {
        return Err(bad("host and port are malformed"));
    }
    match authority.port_u16() {
        Some(0) => Err(bad("port 0 is none")),
        Some(port) => Ok(WitnessUrl::Server { address: format!("{}:{port}", authority.host()) }),
        None if authority.as_str() != authority.host() => {
            Err(bad("the port is not a number from 1 to 65535"))
        }
        None => Err(bad("the port is missing")),
    }
}

fn directory(url: &str, rest: &str) -> Result<WitnessUrl, OpenError> {
    let bad = |what: &'static str| OpenError::Directory { url: url.to_owned(), what };
    let path = match rest.strip_prefix("//") {
        Some(path) if !path.starts_with('/') => return Err(bad("a host cannot be given")),
        Some(path) => path,
        None => rest,
    };
    if !path.starts_with('/') {
        return Err(bad("the path must be absolute"));
    }
    if path.starts_with("//") {
        return Err(bad("the path must begin with one '/'"));
    }
    if path.contains(['%', '?', '#']) {
        return Err(bad("'%', '?' and '#' cannot be in the path"));
    }
    Ok(WitnessUrl::Directory { path: PathBuf::from(path) })
}

/// The witness's URL or the cluster's name has to be corrected.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenError {
    /// Give a URL.
    #[error(
        "the witness's URL is empty: write http://host:port, dir:/path, s3://bucket/prefix or etcd://host:port/prefix"
    )]
    Empty,
    /// Remove the space.
    #[error("the witness's URL {url:?} has a space or control character in it")]
    Space {
        /// As given.
        url: String,
    },
    /// Write the scheme.
    #[error("{url:?} is no URL: did you mean {hint:?}?")]
    NoScheme {
        /// As given.
        url: String,
        /// What was probably meant.
        hint: String,
    },
    /// Correct the scheme.
    #[error(
        "there is no witness of kind {scheme:?}: write http://host:port, dir:/path, s3://, az://, gs:// or etcd://"
    )]
    Scheme {
        /// What stands before the colon.
        scheme: String,
    },
    /// Use another kind of witness.
    #[error(
        "witnesses of kind {scheme:?} are not supported yet: use http://host:port, dir:/path, s3://, az://, gs:// or etcd://"
    )]
    NotSupported {
        /// What stands before the colon.
        scheme: String,
    },
    /// Correct host and port.
    #[error("the witness's URL {url:?} is wrong, {what}: write http://host:port")]
    Server {
        /// As given.
        url: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Correct the path.
    #[error("the witness's URL {url:?} is wrong, {what}: write dir:/absolute/path")]
    Directory {
        /// As given.
        url: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Correct the URL.
    #[error("the witness's URL {url:?} is wrong, {what}: write {form}")]
    Store {
        /// As given, without what may be a secret.
        url: String,
        /// What is wrong with it.
        what: String,
        /// How such a URL is written.
        form: &'static str,
    },
    /// Use another program or another witness.
    #[error("this program was built without object stores such as {scheme:?} (its feature object-stores)")]
    NotBuilt {
        /// What stands before the colon.
        scheme: String,
    },
    /// Correct the name.
    #[error(transparent)]
    Cluster(#[from] ClusterNameError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_urls() {
        for (url, shown) in [
            ("http://witness:7400", "http://witness:7400"),
            ("http://witness.example.org:7400/", "http://witness.example.org:7400"),
            ("http://10.1.2.3:1", "http://10.1.2.3:1"),
            ("http://[::1]:65535", "http://[::1]:65535"),
            ("dir:/mnt/witness", "dir:/mnt/witness"),
            ("file:///mnt/witness", "dir:/mnt/witness"),
            ("file:/mnt/witness", "dir:/mnt/witness"),
            ("dir:///mnt/witness", "dir:/mnt/witness"),
            ("etcd://a:2379", "etcd://a:2379/duet"),
            ("etcd://a:2379,[::1]:2379/x/y/", "etcd://a:2379,[::1]:2379/x/y"),
            ("etcd://a:1/x?credentials=/etc/k", "etcd://a:1/x?credentials=/etc/k"),
            #[cfg(feature = "object-stores")]
            ("s3://b", "s3://b/duet"),
            #[cfg(feature = "object-stores")]
            ("az://c/p?account=a", "az://c/p?account=a"),
            #[cfg(feature = "object-stores")]
            ("gs://b/p?endpoint=http://h:1", "gs://b/p?endpoint=http://h:1"),
        ] {
            let parsed: WitnessUrl = url.parse().unwrap();
            assert_eq!(parsed.to_string(), shown);
            assert_eq!(shown.parse(), Ok(parsed));
        }
        let access = Access::default();
        assert_eq!(
            open("http://w:1", "pair", &access).unwrap().describe(),
            "witness server at w:1, cluster pair"
        );
        assert_eq!(open("dir:/w", "pair", &access).unwrap().describe(), "witness directory /w, cluster pair");
    }

    #[test]
    fn typos_are_explained() {
        for (url, expected) in [
            ("", "is empty"),
            ("http://a b:1", "a space"),
            ("witness:7400", "did you mean \"http://witness:7400\"?"),
            ("witness", "did you mean \"http://witness:PORT\"?"),
            ("/mnt/witness", "did you mean \"dir:/mnt/witness\"?"),
            ("htp://witness:7400", "no witness of kind \"htp\""),
            ("https://witness:7400", "\"https\" are not supported yet"),
            ("etcds://w:1/x", "\"etcds\" are not supported yet"),
            ("etcd:w:1", "'//' is missing"),
            ("etcd://w/x", "each member is HOST:PORT"),
            ("etcd://w:0/x", "each member is HOST:PORT"),
            ("etcd://w:1,/x", "malformed"),
            ("etcd://w:1,w:1/x", "named twice"),
            ("etcd://w:1/x?token=secret", "no option \"token\""),
            ("etcd://root:secret@w:1/x", "credentials=FILE"),
            #[cfg(feature = "object-stores")]
            ("s3://", "is missing"),
            #[cfg(feature = "object-stores")]
            ("s3://key:secret@bucket/p", "credentials=FILE"),
            #[cfg(feature = "object-stores")]
            ("s3://bucket/p?endpoint=minio:9000", "endpoint is https://HOST"),
            #[cfg(feature = "object-stores")]
            ("s3://bucket/p?secret=secret", "no option \"secret\""),
            ("http:witness:7400", "'//' is missing"),
            ("http://witness", "the port is missing"),
            ("http://witness:", "the port is"),
            ("http://witness:0", "port 0"),
            ("http://witness:99999", "not a number from 1 to 65535"),
            ("http://:7400", "the host is missing"),
            ("http://w[::1]:7400", "malformed"),
            ("http://[::1]w:7400", "malformed"),
            ("http://witness:7400/path", "nothing may follow the port"),
            ("http://witness:7400?x", "nothing may follow the port"),
            ("http://user:secret@witness:7400", "a user or password"),
            ("dir:mnt/witness", "must be absolute"),
            ("dir:", "must be absolute"),
            ("file://server/share", "a host cannot be given"),
            ("file:////share", "one '/'"),
            ("file:///mnt/my%20share", "cannot be in the path"),
        ] {
            let error = url.parse::<WitnessUrl>().unwrap_err().to_string();
            assert!(error.contains(expected), "{url:?}: {error}");
            assert!(!error.contains("=secret") && !error.contains(":secret"), "{url:?}: {error}");
        }
        let error = open("dir:/w", "my pair", &Access::default()).err().unwrap();
        assert_eq!(error, OpenError::Cluster(ClusterNameError::Character { character: ' ' }));
    }
}
