//! The first frame on every connection, in both directions: who speaks, and whether the two belong together.
//!
//! Its layout up to the version never changes, so that appliances of any two versions can tell each other why they do not
//! talk. A refusal is sent in words, so both sides' logs and status say the same.

use bytes::Bytes;
use duet_protocol::{ApplianceId, ClusterId, DiskId};

use super::fields::{Malformed, Reader, Writer};

/// Version of the frames between the appliances. Raised with every change the other side would not understand.
pub(crate) const VERSION: u16 = 4;

/// Tells a Duet appliance from whatever else may answer on a port.
const MAGIC: &[u8; 8] = b"DuetPeer";

/// Largest body of a hello or a refusal, in bytes: names and URLs are short, and nothing is known of who sends it.
pub(crate) const HELLO_BYTES: usize = 4 << 10;

const HELLO: u8 = 1;
const REFUSAL: u8 = 2;

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// The protocol's messages.
    Messages,
    /// A whole copy of the dialler's state.
    Copy,
    /// Only the answer to the hello is wanted: which pair is this?
    Identify,
}

/// Who speaks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Hello {
    pub(crate) purpose: Purpose,
    pub(crate) cluster_name: String,
    /// `None`: a blank appliance that does not know it yet.
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) appliance: ApplianceId,
    pub(crate) disk: DiskId,
    pub(crate) client_url: String,
}

/// Why a hello got no hello in return.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum HelloError {
    #[error("not a Duet appliance answers there")]
    NotDuet,
    #[error("{0} of the peer's hello")]
    Malformed(#[from] Malformed),
    #[error(
        "the peer speaks version {theirs} of the peer protocol, this appliance version {VERSION}: run versions that fit"
    )]
    Version { theirs: u16 },
    #[error("{0}")]
    Refused(String),
}

/// Why two appliances do not belong together, in words for both.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Mismatch {
    #[error("wrong peer: \"{theirs}\" calls \"{ours}\"; the cluster names differ")]
    ClusterName { ours: String, theirs: String },
    #[error(
        "wrong peer: both are called \"{name}\", but one belongs to cluster {theirs}, the other to {ours}; they were made by \
         two inits"
    )]
    Cluster { name: String, ours: ClusterId, theirs: ClusterId },
    #[error("both appliances are configured as {0}; one must be A, the other B")]
    SameAppliance(ApplianceId),
    #[error(
        "both appliances have the data directory {0}; one is a copy of the other: delete one and start it blank"
    )]
    SameDisk(DiskId),
}

impl Hello {
    /// Whether `theirs` may talk to this one.
    pub(crate) fn check(&self, theirs: &Self) -> Result<(), Mismatch> {
        if self.cluster_name != theirs.cluster_name {
            let (ours, theirs) = (self.cluster_name.clone(), theirs.cluster_name.clone());
            return Err(Mismatch::ClusterName { ours, theirs });
        }
        if self.appliance == theirs.appliance {
            return Err(Mismatch::SameAppliance(self.appliance));
        }
        if self.disk == theirs.disk {
            return Err(Mismatch::SameDisk(self.disk));
        }
        match (self.cluster, theirs.cluster) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                Err(Mismatch::Cluster { name: self.cluster_name.clone(), ours, theirs })
            }
            _ => Ok(()),
        }
    }

    /// Writes the body.
    pub(crate) fn write(&self, buffer: &mut Vec<u8>) {
        begin(buffer, HELLO);
        let mut writer = Writer(buffer);
        writer.u8(match self.purpose {
            Purpose::Messages => 1,
            Purpose::Copy => 2,
            Purpose::Identify => 3,
        });
        writer.bytes(self.cluster_name.as_bytes());
        writer.option(self.cluster, |writer, cluster| writer.u64(cluster.0));
        writer.appliance(self.appliance);
        writer.disk(self.disk);
        writer.bytes(self.client_url.as_bytes());
    }

    /// Reads back [`Self::write`] or [`write_refusal`].
    pub(crate) fn read(body: &Bytes) -> Result<Self, HelloError> {
        if !body.starts_with(MAGIC) {
            return Err(HelloError::NotDuet);
        }
        let mut reader = Reader::new(body.slice(MAGIC.len()..), "version");
        let version = reader.u16()?;
        let mut reader = Reader::new(body.slice(MAGIC.len() + 2..), "content");
        let kind = reader.u8()?;
        if kind == REFUSAL {
            return Err(HelloError::Refused(reader.text()?));
        }
        if version != VERSION {
            return Err(HelloError::Version { theirs: version });
        }
        if kind != HELLO {
            return Err(reader.malformed().into());
        }
        let purpose = match reader.u8()? {
            1 => Purpose::Messages,
            2 => Purpose::Copy,
            3 => Purpose::Identify,
            _ => return Err(reader.malformed().into()),
        };
        let hello = Self {
            purpose,
            cluster_name: reader.text()?,
            cluster: reader.option(|reader| reader.u64().map(ClusterId))?,
            appliance: reader.appliance()?,
            disk: reader.disk()?,
            client_url: reader.text()?,
        };
        reader.finish()?;
        Ok(hello)
    }
}

/// Writes the body of a refusal.
pub(crate) fn write_refusal(buffer: &mut Vec<u8>, reason: &str) {
    begin(buffer, REFUSAL);
    Writer(buffer).bytes(reason.as_bytes());
}

fn begin(buffer: &mut Vec<u8>, kind: u8) {
    buffer.extend_from_slice(MAGIC);
    let mut writer = Writer(buffer);
    writer.u16(VERSION);
    writer.u8(kind);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            purpose: Purpose::Messages,
            cluster_name: "demo".into(),
            cluster: Some(ClusterId(7)),
            appliance: ApplianceId::A,
            disk: DiskId(1),
            client_url: "http://127.0.0.1:2379".into(),
        }
    }

    fn body(hello: &Hello) -> Bytes {
        let mut buffer = Vec::new();
        hello.write(&mut buffer);
        Bytes::from(buffer)
    }

    #[test]
    fn a_hello_is_read_back_and_cut_ones_are_refused() {
        for hello in [hello(), Hello { purpose: Purpose::Identify, cluster: None, ..hello() }] {
            let body = body(&hello);
            assert_eq!(Hello::read(&body), Ok(hello));
            for length in 0..body.len() {
                assert!(Hello::read(&body.slice(..length)).is_err());
            }
        }
        assert_eq!(Hello::read(&Bytes::from_static(b"HTTP/1.1 400")), Err(HelloError::NotDuet));
    }

    #[test]
    fn another_version_is_told_apart_from_nonsense() {
        let mut other = body(&hello()).to_vec();
        other[MAGIC.len()] = 9;
        other.truncate(MAGIC.len() + 3);
        assert_eq!(Hello::read(&Bytes::from(other)), Err(HelloError::Version { theirs: 9 }));
    }

    #[test]
    fn another_kind_of_message_is_no_hello() {
        let mut other = body(&hello()).to_vec();
        other[MAGIC.len() + 2] = REFUSAL + 1;
        assert_eq!(Hello::read(&Bytes::from(other)), Err(HelloError::Malformed(Malformed("content"))));
    }

    #[test]
    fn a_refusal_says_why() {
        let mut buffer = Vec::new();
        write_refusal(&mut buffer, "because");
        assert_eq!(Hello::read(&Bytes::from(buffer)), Err(HelloError::Refused("because".into())));
    }

    #[test]
    fn who_belongs_together() {
        let ours = hello();
        let peer = Hello { appliance: ApplianceId::B, disk: DiskId(2), ..hello() };
        let table: [(Hello, Option<&str>); 6] = [
            (peer.clone(), None),
            (Hello { cluster: None, ..peer.clone() }, None),
            (Hello { cluster_name: "other".into(), ..peer.clone() }, Some("cluster names differ")),
            (Hello { cluster: Some(ClusterId(8)), ..peer.clone() }, Some("two inits")),
            (Hello { appliance: ApplianceId::A, ..peer.clone() }, Some("configured as A")),
            (Hello { disk: DiskId(1), ..peer }, Some("data directory")),
        ];
        for (theirs, expected) in table {
            match (ours.check(&theirs), expected) {
                (Ok(()), None) => {}
                (Err(mismatch), Some(part)) => assert!(mismatch.to_string().contains(part), "{mismatch}"),
                (got, _) => panic!("{theirs:?}: {got:?}"),
            }
        }
    }
}
