//! Where an etcd is: `etcd://host:port[,host:port]/prefix`, checked.

use std::fmt;

use crate::address::Address;
use crate::credentials::Credentials;

/// How the URL is written.
pub(crate) const FORM: &str = "etcd://HOST:PORT[,HOST:PORT]/PREFIX";
/// Members that a URL may name: more than any etcd has.
const MAX_ENDPOINTS: usize = 9;

/// A checked URL of an etcd.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EtcdAddress {
    address: Address,
}

impl EtcdAddress {
    /// Takes `rest` apart, what follows "etcd:"; an error is what is wrong.
    pub(crate) fn parse(rest: &str) -> Result<Self, String> {
        let address = Address::parse(rest, &["credentials"])?;
        let endpoints: Vec<_> = address.place.split(',').collect();
        if endpoints.len() > MAX_ENDPOINTS {
            return Err(format!("more than {MAX_ENDPOINTS} members"));
        }
        for (index, endpoint) in endpoints.iter().enumerate() {
            let authority: http::uri::Authority =
                endpoint.parse().map_err(|_| "host and port are malformed".to_owned())?;
            let port = authority.port_u16().filter(|port| *port != 0);
            if authority.host().is_empty() || port.is_none_or(|port| !endpoint.ends_with(&format!(":{port}")))
            {
                return Err("each member is HOST:PORT".into());
            }
            if endpoints[..index].contains(endpoint) {
                return Err("a member is named twice".into());
            }
        }
        Ok(Self { address })
    }

    /// Each member, as `host:port`.
    pub fn endpoints(&self) -> impl Iterator<Item = &str> {
        self.address.place.split(',')
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.address.prefix
    }

    pub(crate) fn credentials(&self) -> Credentials {
        Credentials::new(self.address.credentials(), &["ETCD_"])
    }

    /// For people.
    pub(crate) fn describe(&self) -> String {
        format!("etcd at {}", self.address.place)
    }
}

impl fmt::Display for EtcdAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd://{}", self.address)
    }
}
