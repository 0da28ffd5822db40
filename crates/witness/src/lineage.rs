//! A stored record with the versions it came from, for stores that do not say whose write an answer belongs to.
//!
//! Between an appliance and a store there may be a proxy, a load balancer or a client library that sends a write a
//! second time when the first answer does not come. The second one is then refused *because the first was done*:
//! "precondition failed" alone does not mean "not done". So every stored record names the versions before it. A
//! writer that was refused reads the record and finds out: its own version is among them, or another took its place.
//!
//! ```text
//! duet-witness-lineage 1 first=8c1f... replaced=8c1f...,77ab... crc32c=0a1b2c3d
//! duet-witness-record 1 cluster=berlin version=90d2... length=512 crc32c=0a1b2c3d
//! ```

use bytes::Bytes;

use crate::planted::Bug;
use crate::stored::{MAX_STORED_BYTES, Stored};
use crate::{ClusterName, Version};

/// First word of the line.
const MAGIC: &str = "duet-witness-lineage";
/// Format that this program writes and reads.
const FORMAT: &str = "1";
/// Replaced versions that a record names. A writer is overtaken this often within one call only if the others write
/// every few milliseconds; then its outcome is unknown, and it reads.
const KEPT: usize = 16;
/// Longest line, in bytes: the words, and [`KEPT`] + 1 versions of 32 digits.
const MAX_LINE_BYTES: usize = 128 + (KEPT + 1) * 33;
/// Largest object, in bytes; what is longer is not even read.
pub(crate) const MAX_OBJECT_BYTES: usize = MAX_LINE_BYTES + MAX_STORED_BYTES;

/// The versions a record came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Lineage {
    /// The one that was created. Every later one replaced another.
    first: Version,
    /// Those before the current one, the oldest first; at most [`KEPT`], then the oldest are forgotten.
    replaced: Vec<Version>,
}

/// A record and its lineage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Descended {
    pub lineage: Lineage,
    pub stored: Stored,
}

/// What became of a write that was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// It was done, and its version is the current one or was replaced since.
    Done,
    /// It was not done and never will be: another write took the only place it could have had.
    NotDone,
    /// The record is still the one it was to replace.
    Open,
    /// So many writes came since that nobody can tell.
    Forgotten,
}

/// Why an object cannot be used. For people; a caller can only report it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum LineageError {
    #[error("is damaged: {0}")]
    Damaged(&'static str),
    #[error("has format {0}, this program knows {FORMAT}: upgrade it")]
    OtherFormat(String),
    #[error(transparent)]
    Record(#[from] crate::stored::StoredError),
}

impl Lineage {
    /// Of a record that is created as `version`.
    pub fn created(version: &Version) -> Self {
        Self { first: version.clone(), replaced: Vec::new() }
    }

    /// Of the record that replaces `current`, whose lineage this is.
    pub fn after(&self, current: &Version) -> Self {
        let mut replaced: Vec<_> = self.replaced.iter().rev().take(KEPT - 1).rev().cloned().collect();
        replaced.push(current.clone());
        Self { first: self.first.clone(), replaced }
    }

    /// No version was forgotten.
    fn is_whole(&self, current: &Version) -> bool {
        self.replaced.first().unwrap_or(current) == &self.first
    }
}

impl Descended {
    pub fn version(&self) -> &Version {
        &self.stored.version
    }

    fn knows(&self, version: &Version) -> bool {
        self.version() == version || self.lineage.replaced.contains(version)
    }

    /// What became of creating `mine`, if this is the record now.
    pub fn fate_of_create(&self, mine: &Version) -> Fate {
        if self.lineage.first == *mine || self.knows(mine) { Fate::Done } else { Fate::NotDone }
    }

    /// What became of replacing `expected` by `mine`, if this is the record now.
    pub fn fate_of_replacement(&self, expected: &Version, mine: &Version) -> Fate {
        if self.knows(mine) {
            Fate::Done
        } else if self.version() == expected {
            Fate::Open
        } else if self.lineage.replaced.contains(expected) || self.lineage.is_whole(self.version()) {
            // A version is used once: what replaced `expected` was another, or `expected` is of an earlier life of
            // the record, which somebody removed.
            Fate::NotDone
        } else {
            Fate::Forgotten
        }
    }

    /// The bytes to be stored.
    pub fn encode(&self, cluster: &ClusterName) -> Vec<u8> {
        let record = self.stored.encode(cluster);
        let words = self.lineage.words();
        let sum = checksum(&words, &record);
        let mut object = format!("{words} crc32c={sum:08x}\n").into_bytes();
        assert!(object.len() <= MAX_LINE_BYTES, "the fields are bounded");
        object.extend_from_slice(&record);
        object
    }

    /// The record in `object`, if it is whole and `cluster`'s.
    pub fn decode(cluster: &ClusterName, object: &[u8]) -> Result<Self, LineageError> {
        use LineageError::Damaged;
        let end = object.iter().take(MAX_LINE_BYTES).position(|byte| *byte == b'\n');
        let end = end.ok_or(Damaged("its first line is missing"))?;
        let record = &object[end + 1..];
        let line = std::str::from_utf8(&object[..end]).map_err(|_| Damaged("its first line is not text"))?;
        let (words, sum) = line.rsplit_once(" crc32c=").ok_or(Damaged("it has no checksum"))?;
        if sum != format!("{:08x}", checksum(words, record)) && !Bug::LineageUnchecked.planted() {
            return Err(Damaged("its checksum is wrong"));
        }
        let mut words = words.split(' ');
        if words.next() != Some(MAGIC) {
            return Err(Damaged("it is no witness record"));
        }
        let format = words.next().ok_or(Damaged("it has no format number"))?;
        if format != FORMAT {
            return Err(LineageError::OtherFormat(format.to_owned()));
        }
        let lineage = Lineage::parse(words).ok_or(Damaged("its lineage is malformed"))?;
        Ok(Self { lineage, stored: Stored::decode(cluster, record)? })
    }
}

impl Lineage {
    fn words(&self) -> String {
        let replaced: Vec<_> = self.replaced.iter().map(Version::as_str).collect();
        let replaced = if replaced.is_empty() { "none".to_owned() } else { replaced.join(",") };
        format!("{MAGIC} {FORMAT} first={} replaced={replaced}", self.first)
    }

    fn parse<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<Self> {
        let first = version(words.next()?.strip_prefix("first=")?)?;
        let replaced = match words.next()?.strip_prefix("replaced=")? {
            "none" => Vec::new(),
            list => list.split(',').map(version).collect::<Option<Vec<_>>>()?,
        };
        (replaced.len() <= KEPT && words.next().is_none()).then_some(Self { first, replaced })
    }
}

fn version(spelling: &str) -> Option<Version> {
    Version::is_drawn(spelling).then(|| Version::new(spelling))
}

fn checksum(words: &str, record: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(words.as_bytes()), record)
}

/// A record for a new version: created, or in the place of `replaces`.
pub(crate) fn descendant(
    version: &Version,
    replaces: Option<(&Version, &Lineage)>,
    bytes: Bytes,
) -> Descended {
    let lineage = match replaces {
        None => Lineage::created(version),
        Some((current, lineage)) => lineage.after(current),
    };
    Descended { lineage, stored: Stored { version: version.clone(), bytes } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> ClusterName {
        "pair".parse().unwrap()
    }

    /// Records as they follow each other from the first on.
    fn generations(number: usize) -> Vec<Descended> {
        let mut all: Vec<Descended> = Vec::new();
        for _ in 0..number {
            let version = Version::draw().unwrap();
            let replaces = all.last().map(|last| (last.version(), &last.lineage));
            let next = descendant(&version, replaces, Bytes::from_static(b"content"));
            all.push(next);
        }
        all
    }

    #[test]
    fn round_trip_and_bounds() {
        for record in generations(KEPT + 5) {
            let object = record.encode(&pair());
            assert!(object.len() <= MAX_OBJECT_BYTES && record.lineage.replaced.len() <= KEPT);
            assert_eq!(Descended::decode(&pair(), &object), Ok(record));
        }
    }

    #[test]
    fn every_damaged_byte_and_every_cut_is_noticed() {
        let object = generations(3)[2].encode(&pair());
        for end in 0..object.len() {
            assert!(Descended::decode(&pair(), &object[..end]).is_err(), "cut to {end} bytes");
        }
        for at in 0..object.len() {
            let mut damaged = object.clone();
            damaged[at] ^= 4;
            assert!(Descended::decode(&pair(), &damaged).is_err(), "byte {at}");
        }
        let other = Descended::decode(&"other".parse().unwrap(), &object);
        assert!(matches!(other, Err(LineageError::Record(_))), "{other:?}");
    }

    #[test]
    fn fates() {
        let all = generations(KEPT + 4);
        let (stranger, last) = (Version::draw().unwrap(), all.len() - 1);
        // The one that was to be replaced, who tries, the record now.
        let fate = |expected: usize, mine: &Version, now: usize| {
            all[now].fate_of_replacement(all[expected].version(), mine)
        };
        assert_eq!(fate(2, all[3].version(), 3), Fate::Done);
        assert_eq!(fate(2, all[3].version(), 7), Fate::Done);
        assert_eq!(fate(2, &stranger, 2), Fate::Open);
        assert_eq!(fate(2, &stranger, 3), Fate::NotDone);
        assert_eq!(fate(2, &stranger, KEPT + 2), Fate::NotDone);
        assert_eq!(fate(2, &stranger, last), Fate::Forgotten);
        assert_eq!(fate(last - 1, &stranger, last), Fate::NotDone);
        // Of an earlier life: nothing was forgotten of this one.
        let before = Version::draw().unwrap();
        assert_eq!(all[KEPT].fate_of_replacement(&before, &stranger), Fate::NotDone);
        assert_eq!(all[KEPT + 1].fate_of_replacement(&before, &stranger), Fate::Forgotten);
        for record in &all {
            assert_eq!(record.fate_of_create(all[0].version()), Fate::Done);
            assert_eq!(record.fate_of_create(&stranger), Fate::NotDone);
        }
    }
}
