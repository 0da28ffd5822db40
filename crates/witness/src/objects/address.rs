//! Where an object store is: `s3://`, `az://` and `gs://` URLs, checked.

use std::fmt;

use crate::address::Address;
use crate::credentials::Credentials;

/// What kind of store it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    S3,
    Azure,
    Google,
}

impl Kind {
    fn of(scheme: &str) -> Option<Self> {
        match scheme {
            "s3" => Some(Self::S3),
            "az" => Some(Self::Azure),
            "gs" => Some(Self::Google),
            _ => None,
        }
    }

    fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Azure => "az",
            Self::Google => "gs",
        }
    }

    /// What holds the objects.
    pub fn noun(self) -> &'static str {
        match self {
            Self::S3 => "S3 bucket",
            Self::Azure => "Azure container",
            Self::Google => "Google Cloud bucket",
        }
    }

    /// How its URL is written.
    pub fn form(self) -> &'static str {
        match self {
            Self::S3 => "s3://BUCKET/PREFIX?region=NAME",
            Self::Azure => "az://CONTAINER/PREFIX?account=NAME",
            Self::Google => "gs://BUCKET/PREFIX",
        }
    }

    fn options(self) -> &'static [&'static str] {
        match self {
            Self::S3 => &["endpoint", "region", "ca", "credentials"],
            Self::Azure => &["account", "endpoint", "ca", "credentials"],
            Self::Google => &["endpoint", "ca", "credentials"],
        }
    }

    /// How the names of its settings begin.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::S3 => &["AWS_"],
            Self::Azure => &["AZURE_"],
            Self::Google => &["GOOGLE_"],
        }
    }

    /// What the store compares, of what it tells.
    pub fn tag(self, e_tag: Option<String>, version: Option<String>) -> Option<String> {
        if self == Self::Google { version } else { e_tag }
    }
}

/// A checked URL of an object store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectsAddress {
    kind: Kind,
    address: Address,
}

impl ObjectsAddress {
    /// Takes `scheme:rest` apart, `scheme` being `s3`, `az` or `gs`; an error is what is wrong, and the right form.
    pub(crate) fn parse(scheme: &str, rest: &str) -> Result<Self, (String, &'static str)> {
        let kind = Kind::of(scheme).ok_or_else(|| ("the scheme is none".to_owned(), Kind::S3.form()))?;
        let address = Address::parse(rest, kind.options()).map_err(|what| (what, kind.form()))?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if address.place.is_empty() || !address.place.bytes().all(plain) {
            let what = format!("the name of the {} is missing or has a strange character", kind.noun());
            return Err((what, kind.form()));
        }
        if let Some(endpoint) = address.option("endpoint") {
            let host = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
            if host.is_none_or(|host| host.is_empty() || host.contains('@')) {
                let what = "endpoint is https://HOST[:PORT] or http://HOST[:PORT]".to_owned();
                return Err((what, kind.form()));
            }
        }
        Ok(Self { kind, address })
    }

    /// What kind of store it is, in one word.
    pub(crate) fn kind_name(&self) -> &'static str {
        match self.kind {
            Kind::S3 => "s3",
            Kind::Azure => "azure",
            Kind::Google => "google",
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn place(&self) -> &str {
        &self.address.place
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.address.prefix
    }

    pub(crate) fn option(&self, name: &str) -> Option<&str> {
        self.address.option(name)
    }

    pub(crate) fn credentials(&self) -> Credentials {
        Credentials::new(self.address.credentials(), self.kind.names())
    }

    /// For people.
    pub(crate) fn describe(&self) -> String {
        let at = self.option("endpoint").map(|endpoint| format!(" at {endpoint}")).unwrap_or_default();
        format!("{} {}/{}{at}", self.kind.noun(), self.place(), self.prefix())
    }
}

impl fmt::Display for ObjectsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.kind.scheme(), self.address)
    }
}
