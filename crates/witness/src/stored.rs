//! How a back end of this crate stores a record: one line that people can read, then the content.
//!
//! ```text
//! duet-witness-record 1 cluster=berlin version=8c1f... length=512 crc32c=0a1b2c3d
//! ```
//!
//! The checksum covers name, version and content. A record that is damaged, of a newer format, or that
//! belongs to another cluster (a copied or renamed file) is an error with a sentence for people, never taken
//! for an absent one.

use bytes::Bytes;

use crate::planted::Bug;
use crate::register::MAX_RECORD_BYTES;
use crate::{ClusterName, Version};

/// First word of the line.
const MAGIC: &str = "duet-witness-record";
/// Format that this program writes, and the newest it reads.
const FORMAT: u32 = 1;
/// Longest first line, in bytes: all fields at their longest are below 200.
const MAX_LINE_BYTES: usize = 256;
/// Largest stored record, in bytes; what is longer is not even read.
pub(crate) const MAX_STORED_BYTES: usize = MAX_LINE_BYTES + MAX_RECORD_BYTES;

/// A record as stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Stored {
    pub version: Version,
    pub bytes: Bytes,
}

/// Why a stored record cannot be used. For people; a caller can only report it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum StoredError {
    #[error("is damaged: {0}")]
    Damaged(&'static str),
    #[error("has format {found}, this program knows {FORMAT}: upgrade it")]
    NewerFormat { found: u32 },
    #[error("belongs to cluster {found:?}")]
    OtherCluster { found: String },
}

impl Stored {
    /// The bytes to be stored.
    pub fn encode(&self, cluster: &ClusterName) -> Vec<u8> {
        assert!(self.bytes.len() <= MAX_RECORD_BYTES, "checked at the edge");
        assert!(Version::is_drawn(self.version.as_str()), "only drawn versions are stored");
        let (version, length) = (&self.version, self.bytes.len());
        let sum = checksum(cluster.as_str(), version.as_str(), &self.bytes);
        let line = format!(
            "{MAGIC} {FORMAT} cluster={cluster} version={version} length={length} crc32c={sum:08x}\n"
        );
        assert!(line.len() <= MAX_LINE_BYTES, "the fields are bounded");
        let mut stored = line.into_bytes();
        stored.extend_from_slice(&self.bytes);
        stored
    }

    /// The record in `stored`, if it is whole and `cluster`'s.
    pub fn decode(cluster: &ClusterName, stored: &[u8]) -> Result<Self, StoredError> {
        use StoredError::Damaged;
        let end = stored.iter().take(MAX_LINE_BYTES).position(|byte| *byte == b'\n');
        let (line, bytes) = match end {
            Some(end) => (&stored[..end], &stored[end + 1..]),
            None => return Err(Damaged("its first line is missing")),
        };
        let line = std::str::from_utf8(line).map_err(|_| Damaged("its first line is not text"))?;
        let mut words = line.split(' ');
        if words.next() != Some(MAGIC) {
            return Err(Damaged("it is no witness record"));
        }
        let format = words.next().ok_or(Damaged("it has no format number"))?;
        // In its one spelling: the checksum does not cover it.
        let number = format.parse::<u32>().ok().filter(|number| number.to_string() == format);
        let format = number.ok_or(Damaged("it has no format number"))?;
        if format > FORMAT {
            return Err(StoredError::NewerFormat { found: format });
        }
        if format != FORMAT {
            return Err(Damaged("its format number was never used"));
        }
        let mut field = |prefix| words.next().and_then(|word| word.strip_prefix(prefix));
        let name = field("cluster=").ok_or(Damaged("it has no cluster name"))?;
        let version = field("version=")
            .filter(|version| Version::is_drawn(version))
            .ok_or(Damaged("it has no version"))?;
        let length = field("length=").ok_or(Damaged("it has no length"))?;
        let sum = field("crc32c=").ok_or(Damaged("it has no checksum"))?;
        if length != bytes.len().to_string() {
            return Err(Damaged("it is cut off, or longer than it says"));
        }
        let right = sum == format!("{:08x}", checksum(name, version, bytes));
        if !(right || Bug::RecordChecksumUnchecked.planted()) || words.next().is_some() {
            return Err(Damaged("its checksum is wrong"));
        }
        if name != cluster.as_str() && !Bug::OtherClusterRead.planted() {
            return Err(StoredError::OtherCluster { found: name.to_owned() });
        }
        Ok(Self { version: Version::new(version), bytes: Bytes::copy_from_slice(bytes) })
    }
}

fn checksum(cluster: &str, version: &str, bytes: &[u8]) -> u32 {
    let mut sum = crc32c::crc32c(cluster.as_bytes());
    // No name or version has a space in it, so the fields cannot run into each other unnoticed.
    sum = crc32c::crc32c_append(sum, b" ");
    sum = crc32c::crc32c_append(sum, version.as_bytes());
    sum = crc32c::crc32c_append(sum, b" ");
    crc32c::crc32c_append(sum, bytes)
}

/// Gives stored bytes the length and the checksum that they should have; `None` if they have no line for them.
#[cfg(feature = "fuzzing")]
pub(crate) fn mend(stored: &[u8]) -> Option<Vec<u8>> {
    let end = stored.iter().position(|byte| *byte == b'\n')?;
    let (line, bytes) = (std::str::from_utf8(&stored[..end]).ok()?, &stored[end + 1..]);
    let (front, _) = line.split_once(" length=")?;
    let (name, version) = front.split_once("cluster=")?.1.split_once(" version=")?;
    let (length, sum) = (bytes.len(), checksum(name, version, bytes));
    let mut mended = format!("{front} length={length} crc32c={sum:08x}\n").into_bytes();
    mended.extend_from_slice(bytes);
    Some(mended)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (ClusterName, Stored) {
        let version = Version::draw().unwrap();
        ("berlin".parse().unwrap(), Stored { version, bytes: Bytes::from_static(b"content\n\x00 more") })
    }

    #[test]
    fn round_trip() {
        let (cluster, stored) = sample();
        assert_eq!(Stored::decode(&cluster, &stored.encode(&cluster)), Ok(stored));
        let longest: ClusterName = "x".repeat(63).parse().unwrap();
        let full = Stored { version: Version::draw().unwrap(), bytes: vec![7; MAX_RECORD_BYTES].into() };
        assert!(full.encode(&longest).len() <= MAX_STORED_BYTES);
        assert_eq!(Stored::decode(&longest, &full.encode(&longest)), Ok(full));
    }

    #[test]
    fn every_damaged_byte_and_every_cut_is_noticed() {
        let (cluster, stored) = sample();
        let whole = stored.encode(&cluster);
        for end in 0..whole.len() {
            assert!(Stored::decode(&cluster, &whole[..end]).is_err(), "cut to {end} bytes");
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[at] ^= 1 << bit;
                assert!(Stored::decode(&cluster, &damaged).is_err(), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn another_cluster_and_a_newer_format_are_told_apart() {
        let (cluster, stored) = sample();
        let whole = stored.encode(&cluster);
        let other = Stored::decode(&"munich".parse().unwrap(), &whole);
        assert_eq!(other, Err(StoredError::OtherCluster { found: "berlin".into() }));
        let whole = String::from_utf8(whole).unwrap();
        let misspelt = Stored::decode(&cluster, whole.replace("record 1 ", "record 01 ").as_bytes());
        assert!(matches!(misspelt, Err(StoredError::Damaged(_))), "{misspelt:?}");
        let newer = Stored::decode(&cluster, whole.replace("record 1 ", "record 2 ").as_bytes());
        assert_eq!(newer, Err(StoredError::NewerFormat { found: 2 }));
    }
}
