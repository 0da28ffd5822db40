//! The configuration of one appliance: a TOML file of a few lines, checked when it is read.
//!
//! Everything after this module works with checked values; a mistake is told with the file, the line, the field and what
//! is allowed.

use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use duet_protocol::{ApplianceId, limits};
use duet_witness::{Access, ClusterName, Credential, Token, WitnessUrl};
use serde::Deserialize;

use crate::auth::{AuthOptions, TokenKind};
use crate::client_limits::{self, ClientLimits};
use crate::space::DEFAULT_QUOTA_BYTES;

/// Longest client URL, in bytes: it is told to the peer with every greeting.
const CLIENT_URL_BYTES: usize = 1024;

const MEBIBYTE: NonZeroU64 = NonZeroU64::new(1 << 20).unwrap();

/// A checked configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Name of the pair.
    pub cluster: String,
    /// Which appliance of the pair this is.
    pub appliance: ApplianceId,
    /// Data directory.
    pub data: PathBuf,
    /// Where clients are listened for.
    pub client_listen: SocketAddr,
    /// Where clients reach this appliance: told to the peer and to clients.
    pub client_url: String,
    /// Where the peer is listened for.
    pub peer_listen: SocketAddr,
    /// The other appliance's `peer_listen` as seen from here, "host:port".
    pub peer: String,
    /// The witness.
    pub witness: WitnessUrl,
    /// What opens it.
    pub witness_access: Access,
    /// Entries of the log kept for a peer that was away for a short time; one that was away for longer gets a whole copy.
    pub retain_entries: u64,
    /// Bytes a second that a whole copy to the peer may take; `None`: as many as there are.
    pub copy_rate: Option<NonZeroU64>,
    /// How users log in.
    pub auth: AuthOptions,
    /// Bytes that the state may take, see `space`; `None`: as many as there are.
    pub quota_bytes: Option<u64>,
    /// What clients may do.
    pub limits: ClientLimits,
    /// For measurements only, and in no file: nothing becomes durable while there is a file here.
    pub stall_file: Option<PathBuf>,
}

/// Why a configuration is not used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {reason}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// It is not the TOML that is expected: bad syntax, an unknown or missing field, a value of the wrong type.
    #[error("{place}{message}")]
    Syntax {
        /// File and line, as far as known, with ": " at the end.
        place: String,
        /// What is wrong, with the line itself.
        message: String,
    },
    /// A value is not allowed.
    #[error("{place}{field} = \"{value}\": {allowed}")]
    Value {
        /// File and line, as far as known, with ": " at the end.
        place: String,
        /// Which field.
        field: &'static str,
        /// What it holds.
        value: String,
        /// What is allowed.
        allowed: String,
    },
}

/// A configuration as written; every field may be set or replaced from elsewhere (flags, environment) before
/// [`Config::check`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// See [`Config::cluster`].
    pub cluster: Option<String>,
    /// "A" or "B".
    pub appliance: Option<String>,
    /// See [`Config::data`].
    pub data: Option<PathBuf>,
    /// See [`Config::client_listen`].
    pub client_listen: Option<String>,
    /// See [`Config::client_url`]; by default "http://" and `client_listen`, unless
    /// that is every address.
    pub client_url: Option<String>,
    /// See [`Config::peer_listen`].
    pub peer_listen: Option<String>,
    /// See [`Config::peer`].
    pub peer: Option<String>,
    /// "http://host:port", "dir:/path", or the URL of an object store or an etcd.
    pub witness: Option<String>,
    /// The file with the pair's token at a witness server.
    pub witness_token_file: Option<PathBuf>,
    /// The token itself; never from a file that others may read, so it is no field of the configuration file.
    #[serde(skip)]
    pub witness_token: Option<String>,
    /// See [`Config::retain_entries`]; by default [`duet_protocol::limits::RETAIN_ENTRIES`].
    pub retain_entries: Option<u64>,
    /// See [`Config::copy_rate`], in mebibytes.
    pub copy_mib_per_second: Option<u64>,
    /// etcd's `--auth-token`: see [`TokenKind::parse`].
    pub auth_token: Option<String>,
    /// etcd's `--auth-token-ttl`, in seconds: see [`AuthOptions::token_ttl`].
    pub auth_token_ttl: Option<u64>,
    /// etcd's `--bcrypt-cost`: see [`AuthOptions::bcrypt_cost`].
    pub bcrypt_cost: Option<u32>,
    /// See [`Config::quota_bytes`]; 0 is the default of 2 GiB, a negative number none at all, as in etcd.
    pub quota_backend_bytes: Option<i64>,
    /// See [`ClientLimits::max_request_bytes`].
    pub max_request_bytes: Option<u64>,
    /// See [`ClientLimits::max_txn_ops`].
    pub max_txn_ops: Option<u64>,
    /// See [`ClientLimits::max_concurrent_streams`].
    pub max_concurrent_streams: Option<u64>,
    /// See [`ClientLimits::keepalive_interval`].
    pub grpc_keepalive_interval: Option<String>,
    /// See [`ClientLimits::keepalive_timeout`].
    pub grpc_keepalive_timeout: Option<String>,
    /// "periodic" or "revision".
    pub auto_compaction_mode: Option<String>,
    /// See [`ClientLimits::auto_compaction`]; "0" is off.
    pub auto_compaction_retention: Option<String>,
    /// Where the text came from, for messages.
    #[serde(skip)]
    pub source: Source,
}

/// Where a configuration was read from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Source {
    path: Option<PathBuf>,
    text: String,
}

impl Source {
    fn place(&self, line: Option<usize>) -> String {
        match (&self.path, line) {
            (Some(path), Some(line)) => format!("{}, line {line}: ", path.display()),
            (Some(path), None) => format!("{}: ", path.display()),
            (None, Some(line)) => format!("line {line}: "),
            (None, None) => String::new(),
        }
    }

    /// The line that sets `field`, if the text does.
    fn line_of(&self, field: &str) -> Option<usize> {
        let sets = |line: &str| {
            line.trim_start().strip_prefix(field).is_some_and(|rest| rest.trim_start().starts_with('='))
        };
        self.text.lines().position(sets).map(|index| index + 1)
    }
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// What a person has to correct.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::check(Settings::read(path)?)
    }

    /// Checks a text.
    ///
    /// # Errors
    /// What a person has to correct.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        Self::check(Settings::parse(text, None)?)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// The first value that is not allowed.
    pub fn check(settings: Settings) -> Result<Self, ConfigError> {
        settings.check()
    }
}

impl Settings {
    /// Reads a file without checking the values.
    ///
    /// # Errors
    /// The file cannot be read, or is not the TOML that is expected.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|reason| ConfigError::Read { path: path.to_owned(), reason })?;
        Self::parse(&text, Some(path))
    }

    /// Parses a text without checking the values.
    ///
    /// # Errors
    /// It is not the TOML that is expected.
    pub fn parse(text: &str, path: Option<&Path>) -> Result<Self, ConfigError> {
        let source = Source { path: path.map(Path::to_owned), text: text.to_owned() };
        match toml::from_str::<Self>(text) {
            Ok(raw) => Ok(Self { source, ..raw }),
            Err(error) => {
                let line =
                    error.span().map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count());
                let message = format!("{}{}", error.message(), allowed_fields(error.message()));
                Err(ConfigError::Syntax { place: source.place(line), message })
            }
        }
    }

    /// These settings, and for those that are missing the ones of `file`.
    #[must_use]
    pub fn over(self, file: Self) -> Self {
        Self {
            cluster: self.cluster.or(file.cluster),
            appliance: self.appliance.or(file.appliance),
            data: self.data.or(file.data),
            client_listen: self.client_listen.or(file.client_listen),
            client_url: self.client_url.or(file.client_url),
            peer_listen: self.peer_listen.or(file.peer_listen),
            peer: self.peer.or(file.peer),
            witness: self.witness.or(file.witness),
            witness_token_file: self.witness_token_file.or(file.witness_token_file),
            witness_token: self.witness_token.or(file.witness_token),
            retain_entries: self.retain_entries.or(file.retain_entries),
            copy_mib_per_second: self.copy_mib_per_second.or(file.copy_mib_per_second),
            auth_token: self.auth_token.or(file.auth_token),
            auth_token_ttl: self.auth_token_ttl.or(file.auth_token_ttl),
            bcrypt_cost: self.bcrypt_cost.or(file.bcrypt_cost),
            quota_backend_bytes: self.quota_backend_bytes.or(file.quota_backend_bytes),
            max_request_bytes: self.max_request_bytes.or(file.max_request_bytes),
            max_txn_ops: self.max_txn_ops.or(file.max_txn_ops),
            max_concurrent_streams: self.max_concurrent_streams.or(file.max_concurrent_streams),
            grpc_keepalive_interval: self.grpc_keepalive_interval.or(file.grpc_keepalive_interval),
            grpc_keepalive_timeout: self.grpc_keepalive_timeout.or(file.grpc_keepalive_timeout),
            auto_compaction_mode: self.auto_compaction_mode.or(file.auto_compaction_mode),
            auto_compaction_retention: self.auto_compaction_retention.or(file.auto_compaction_retention),
            source: file.source,
        }
    }

    fn check(self) -> Result<Config, ConfigError> {
        let cluster =
            self.required("cluster", self.cluster.as_ref(), "a name for the pair, the same on both")?;
        if let Err(reason) = cluster.parse::<ClusterName>() {
            return Err(self.bad("cluster", &cluster, reason.to_string()));
        }
        let letter = self.required("appliance", self.appliance.as_ref(), "\"A\" or \"B\"")?;
        let appliance = match letter.as_str() {
            "A" => ApplianceId::A,
            "B" => ApplianceId::B,
            _ => {
                return Err(self.bad(
                    "appliance",
                    &letter,
                    "use \"A\" on one appliance and \"B\" on the other",
                ));
            }
        };
        let data = self.data.as_ref().map(|path| path.display().to_string());
        self.required("data", data.as_ref(), "the directory for this appliance's data")?;
        let data = self.data.clone().unwrap_or_default();
        let client_listen = self.listen("client_listen", self.client_listen.as_ref())?;
        let peer_listen = self.listen("peer_listen", self.peer_listen.as_ref())?;
        if client_listen == peer_listen {
            return Err(self.bad("peer_listen", &peer_listen.to_string(), "must differ from client_listen"));
        }
        let peer =
            self.required("peer", self.peer.as_ref(), "the other appliance's peer_listen, \"host:port\"")?;
        if !is_host_and_port(&peer) {
            return Err(self.bad("peer", &peer, "use \"host:port\", the other appliance's peer_listen"));
        }
        if peer == peer_listen.to_string() {
            return Err(self.bad(
                "peer",
                &peer,
                "this is the appliance's own peer_listen; give the other one's",
            ));
        }
        if peer == client_listen.to_string() {
            return Err(self.bad(
                "peer",
                &peer,
                "this is the appliance's own client_listen; give the other one's peer_listen",
            ));
        }
        let witness = self.witness_url()?;
        let witness_access = Access { credential: self.witness_credential()? };
        for (field, address) in [("client_listen", client_listen), ("peer_listen", peer_listen)] {
            if witness.is_at(&address.to_string()) {
                let allowed = format!("this is the appliance's own {field}; the witness is a third party");
                return Err(self.bad("witness", &witness.to_string(), allowed));
            }
        }
        if self.client_url.is_none() && client_listen.ip().is_unspecified() {
            let allowed =
                "listens at every address; set client_url to the one where clients and the peer reach it";
            return Err(self.bad("client_listen", &client_listen.to_string(), allowed));
        }
        let client_url = self.client_url.clone().unwrap_or_else(|| format!("http://{client_listen}"));
        if !client_url.strip_prefix("http://").is_some_and(is_host_and_port) {
            return Err(self.bad("client_url", &client_url, "use \"http://host:port\""));
        }
        if client_url.len() > CLIENT_URL_BYTES {
            return Err(self.bad(
                "client_url",
                &client_url,
                format!("must not be longer than {CLIENT_URL_BYTES} bytes"),
            ));
        }
        let retain_entries = self.retain_entries.unwrap_or(limits::RETAIN_ENTRIES);
        let copy_rate = self.copy_rate()?;
        let auth = self.auth()?;
        let quota_bytes = match self.quota_backend_bytes.unwrap_or_default() {
            0 => Some(DEFAULT_QUOTA_BYTES),
            chosen => u64::try_from(chosen).ok(),
        };
        let limits = self.limits()?;
        Ok(Config {
            cluster,
            appliance,
            data,
            client_listen,
            client_url,
            peer_listen,
            peer,
            witness,
            witness_access,
            retain_entries,
            copy_rate,
            auth,
            quota_bytes,
            limits,
            stall_file: None,
        })
    }

    fn copy_rate(&self) -> Result<Option<NonZeroU64>, ConfigError> {
        let Some(mebibytes) = self.copy_mib_per_second else { return Ok(None) };
        let rate = NonZeroU64::new(mebibytes).and_then(|rate| rate.checked_mul(MEBIBYTE));
        let allowed = "use a number of MiB from 1, or leave it out for no limit";
        rate.map(Some).ok_or_else(|| self.bad("copy_mib_per_second", &mebibytes.to_string(), allowed))
    }

    fn limits(&self) -> Result<ClientLimits, ConfigError> {
        let written = client_limits::Written {
            max_request_bytes: self.max_request_bytes,
            max_txn_ops: self.max_txn_ops,
            max_concurrent_streams: self.max_concurrent_streams,
            keepalive_interval: self.grpc_keepalive_interval.as_deref(),
            keepalive_timeout: self.grpc_keepalive_timeout.as_deref(),
            auto_compaction_mode: self.auto_compaction_mode.as_deref(),
            auto_compaction_retention: self.auto_compaction_retention.as_deref(),
        };
        written.check().map_err(|(field, allowed)| {
            let number = |number: Option<u64>| number.map(|number| number.to_string());
            let value = match field {
                "max_request_bytes" => number(self.max_request_bytes),
                "max_txn_ops" => number(self.max_txn_ops),
                "max_concurrent_streams" => number(self.max_concurrent_streams),
                "grpc_keepalive_interval" => self.grpc_keepalive_interval.clone(),
                "grpc_keepalive_timeout" => self.grpc_keepalive_timeout.clone(),
                "auto_compaction_mode" => self.auto_compaction_mode.clone(),
                _ => self.auto_compaction_retention.clone(),
            };
            self.bad(field, &value.unwrap_or_default(), allowed)
        })
    }

    fn auth(&self) -> Result<AuthOptions, ConfigError> {
        let mut options = AuthOptions::default();
        if let Some(text) = &self.auth_token {
            options.token =
                TokenKind::parse(text).map_err(|error| self.bad("auth_token", text, error.to_string()))?;
        }
        if let Some(seconds) = self.auth_token_ttl {
            let set = options.set_token_ttl(seconds);
            set.map_err(|error| self.bad("auth_token_ttl", &seconds.to_string(), error.to_string()))?;
        }
        if let Some(cost) = self.bcrypt_cost {
            let set = options.set_bcrypt_cost(cost);
            set.map_err(|error| self.bad("bcrypt_cost", &cost.to_string(), error.to_string()))?;
        }
        Ok(options)
    }

    fn witness_url(&self) -> Result<WitnessUrl, ConfigError> {
        let allowed = "\"http://host:port\" for a witness server, \"dir:/path\" for a directory on a shared file system";
        let text = self.required("witness", self.witness.as_ref(), allowed)?;
        text.parse::<WitnessUrl>().map_err(|error| self.bad("witness", &text, error.to_string()))
    }

    fn witness_credential(&self) -> Result<Credential, ConfigError> {
        match (&self.witness_token, &self.witness_token_file) {
            (Some(_), Some(file)) => {
                let allowed = "a token is given too; give either the token or the file";
                Err(self.bad("witness_token_file", &file.display().to_string(), allowed))
            }
            // Not shown, as it may be a secret all the same.
            (Some(token), None) => {
                let token = token.trim().parse::<Token>();
                token
                    .map(Credential::Token)
                    .map_err(|error| self.bad("witness_token", "...", error.to_string()))
            }
            (None, Some(file)) => Ok(Credential::File(file.clone())),
            (None, None) => Ok(Credential::None),
        }
    }

    fn listen(&self, field: &'static str, value: Option<&String>) -> Result<SocketAddr, ConfigError> {
        let allowed = "use \"address:port\", for instance \"0.0.0.0:2379\"";
        let text = self.required(field, value, allowed)?;
        let resolved = text.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
        resolved.ok_or_else(|| self.bad(field, &text, allowed))
    }

    fn required(
        &self,
        field: &'static str,
        value: Option<&String>,
        meaning: &str,
    ) -> Result<String, ConfigError> {
        match value {
            Some(value) if !value.is_empty() => Ok(value.clone()),
            Some(value) => Err(self.bad(field, value, format!("must not be empty: {meaning}"))),
            None => Err(ConfigError::Syntax {
                place: self.source.place(None),
                message: format!("missing field `{field}`: {meaning}"),
            }),
        }
    }

    fn bad(&self, field: &'static str, value: &str, allowed: impl Into<String>) -> ConfigError {
        let place = self.source.place(self.source.line_of(field));
        ConfigError::Value { place, field, value: value.to_owned(), allowed: allowed.into() }
    }
}

/// Nothing, unless the message is about an unknown field without the list of known ones.
fn allowed_fields(message: &str) -> &'static str {
    if message.contains("unknown field") && !message.contains("expected") {
        "; known are cluster, appliance, data, client_listen, client_url, peer_listen, peer, witness, witness_token_file, retain_entries, copy_mib_per_second, auth_token, auth_token_ttl, bcrypt_cost, quota_backend_bytes, max_request_bytes, max_txn_ops, \
         max_concurrent_streams, grpc_keepalive_interval, grpc_keepalive_timeout, auto_compaction_mode, \
         auto_compaction_retention"
    } else {
        ""
    }
}

fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
cluster = "demo"
appliance = "A"
data = "/var/lib/duet"
client_listen = "127.0.0.1:2379"
peer_listen = "127.0.0.1:2380"
peer = "127.0.0.1:3380"
witness = "http://127.0.0.1:7900"
"#;

    #[test]
    fn a_good_one_is_read() {
        let config = Config::from_toml(GOOD).unwrap();
        assert_eq!(config.client_url, "http://127.0.0.1:2379");
        assert_eq!(config.appliance, ApplianceId::A);
        assert_eq!(config.witness.to_string(), "http://127.0.0.1:7900");
        let config = Config::from_toml(&GOOD.replace("http://127.0.0.1:7900", "dir:/mnt/share")).unwrap();
        assert_eq!(config.witness, WitnessUrl::Directory { path: "/mnt/share".into() });
    }

    #[test]
    fn users_log_in_as_etcds_flags_say() {
        let auth = |lines: &str| Config::from_toml(&format!("{GOOD}{lines}")).map(|config| config.auth);
        let defaults = auth("").unwrap();
        assert_eq!((defaults.token, defaults.bcrypt_cost), (TokenKind::Simple, 10));
        assert_eq!(defaults.token_ttl, std::time::Duration::from_mins(5));
        let chosen = auth("auth_token = \"simple\"\nauth_token_ttl = 60\nbcrypt_cost = 12").unwrap();
        assert_eq!((chosen.token_ttl.as_secs(), chosen.bcrypt_cost), (60, 12));
        for (line, part) in [
            ("auth_token = \"jwt\"", "sign-method"),
            ("auth_token_ttl = 0", "auth_token_ttl = \"0\""),
            ("bcrypt_cost = 32", "4 to 31"),
        ] {
            let told = auth(line).unwrap_err().to_string();
            assert!(told.contains("line 9") && told.contains(part), "{told}");
        }
    }

    #[test]
    fn the_quota_is_etcds() {
        let quota = |line: &str| Config::from_toml(&format!("{GOOD}{line}")).unwrap().quota_bytes;
        assert_eq!(quota(""), Some(2 << 30));
        assert_eq!(quota("quota_backend_bytes = 0"), Some(2 << 30));
        assert_eq!(quota("quota_backend_bytes = 4096"), Some(4096));
        assert_eq!(quota("quota_backend_bytes = -1"), None);
        let told = Config::from_toml(&format!("{GOOD}quota_backend_bytes = \"8G\"")).unwrap_err().to_string();
        assert!(told.contains("line 9") && told.contains("invalid type"), "{told}");
    }

    #[test]
    fn a_copy_has_a_rate_of_its_own_or_none() {
        let rate = |line: &str| Config::from_toml(&format!("{GOOD}{line}")).map(|config| config.copy_rate);
        assert_eq!(rate("").unwrap(), None);
        assert_eq!(rate("copy_mib_per_second = 3").unwrap(), NonZeroU64::new(3 << 20));
        for wrong in ["0", "20000000000000"] {
            let told = rate(&format!("copy_mib_per_second = {wrong}")).unwrap_err().to_string();
            assert!(told.contains("line 9: copy_mib_per_second = ") && told.contains("from 1"), "{told}");
        }
    }

    #[test]
    fn limits_are_checked_and_told_with_their_line() {
        let told = |line: &str| Config::from_toml(&format!("{GOOD}{line}")).unwrap_err().to_string();
        let request = told("max_request_bytes = 1");
        assert!(request.contains("line 9: max_request_bytes = \"1\": use a number from 1024"), "{request}");
        let retention = told("auto_compaction_retention = \"often\"");
        assert!(
            retention.contains("line 9: auto_compaction_retention = \"often\": use hours"),
            "{retention}"
        );
        let config = Config::from_toml(&format!("{GOOD}max_txn_ops = 500\ngrpc_keepalive_interval = \"2h\""));
        let limits = config.unwrap().limits;
        assert_eq!((limits.max_txn_ops, limits.keepalive_interval.as_secs()), (500, 7_200));
    }

    #[test]
    fn mistakes_are_told_with_line_and_field() {
        let table: [(&str, &str, &[&str]); 18] = [
            ("\"demo\"", "\"de mo\"", &["line 2", "cluster = \"de mo\"", "letters"]),
            ("\"demo\"", "\"\"", &["line 2", "cluster", "must not be empty"]),
            ("appliance = \"A\"", "appliance = \"C\"", &["line 3", "appliance = \"C\"", "\"A\" on one"]),
            ("appliance = \"A\"", "", &["missing field `appliance`", "\"A\" or \"B\""]),
            ("appliance = \"A\"", "appliance = 1", &["line 3", "invalid type"]),
            ("cluster =", "clusterr =", &["line 2", "unknown field `clusterr`", "cluster"]),
            ("127.0.0.1:2379", "127.0.0.1", &["line 5", "client_listen", "address:port"]),
            ("127.0.0.1:2379", "0.0.0.0:2379", &["line 5", "client_listen", "set client_url"]),
            ("127.0.0.1:2380", "127.0.0.1:2379", &["line 6", "must differ"]),
            ("127.0.0.1:3380", "127.0.0.1:2380", &["line 7", "own peer_listen"]),
            ("127.0.0.1:3380", "127.0.0.1:2379", &["line 7", "peer", "own client_listen"]),
            ("127.0.0.1:7900", "127.0.0.1:2379", &["line 8", "witness", "own client_listen"]),
            ("127.0.0.1:7900", "127.0.0.1:2380", &["line 8", "witness", "own peer_listen"]),
            ("127.0.0.1:3380", "127.0.0.1:0", &["line 7", "host:port"]),
            ("http://127.0.0.1:7900", "etcd://127.0.0.1:2379", &["line 8", "witness", "own client_listen"]),
            ("http://127.0.0.1:7900", "ftp://x", &["line 8", "witness", "dir:/path"]),
            ("http://127.0.0.1:7900", "dir:relative", &["line 8", "witness", "must be absolute"]),
            ("\"demo\"", "\"demo", &["line 2"]),
        ];
        for (from, to, expected) in table {
            let told = Config::from_toml(&GOOD.replacen(from, to, 1)).unwrap_err().to_string();
            for part in expected {
                assert!(told.contains(part), "{to}: {told:?} should contain {part:?}");
            }
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let told = Config::load(Path::new("/nonexistent/duet.toml")).unwrap_err().to_string();
        assert!(told.contains("/nonexistent/duet.toml"), "{told}");
    }
}
